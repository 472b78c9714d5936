//! `stanchion-budget`: how many instructions a message costs on its way from a publisher's bytes to its
//! subscribers' bytes, counted by callgrind and compared with what is on record.
//!
//! Rates on a shared machine tell a change of a tenth from noise only after minutes. Instructions are the
//! same in every run, so that a change of three in a hundred fails here in seconds. The way counted is
//! that of the broker without its sockets: parser, runs, cached interest, router, encoder.

use std::{
    env,
    hint::black_box,
    process::{Command, ExitCode},
    sync::Arc,
};

use anyhow::{Context, bail};
use broker_core::{
    account::{Account, Accounts},
    interest::{Delivery, InterestCache, RouteDelivery},
    peer::Peer,
    router::{Dice, MAX_RUN, Outlet, route},
    subscription::{Subscription, Target},
};
use broker_proto::{
    encode,
    op::{ClientOp, Publication},
    parser::{Limits, Step, parse},
};

/// What may be added to a figure before it counts as worse.
const TOLERANCE: f64 = 0.03;
/// Messages made at the start of a run, and published again and again.
const BLOCK: usize = 4000;
/// Blocks in the shorter and the longer run; the difference leaves the start of the process out.
const BLOCKS: (usize, usize) = (5, 30);
/// Input handed to the parser at a time, as the broker reads it.
const READ_BYTES: usize = 64 << 10;

/// One kind of traffic, and the instructions a published message may cost.
struct Path {
    name: &'static str,
    subscribers: usize,
    bytes: usize,
    /// Messages in a row with one subject.
    same_subject: usize,
    budget: f64,
}

/// On record: the figures of this build on x86-64. Lower them when something has become cheaper.
const PATHS: [Path; 4] = [
    Path {
        name: "1:0, 128 B",
        subscribers: 0,
        bytes: 128,
        same_subject: 1000,
        budget: 263.6,
    },
    Path {
        name: "1:1, 128 B",
        subscribers: 1,
        bytes: 128,
        same_subject: 1000,
        budget: 359.7,
    },
    Path {
        name: "1:10, 128 B",
        subscribers: 10,
        bytes: 128,
        same_subject: 1000,
        budget: 1216.5,
    },
    Path {
        name: "1:1, 128 B, subjects in turn",
        subscribers: 1,
        bytes: 128,
        same_subject: 1,
        budget: 635.9,
    },
];

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let outcome = match args.as_slice() {
        [] => compare(),
        [path, blocks] => replay(path, blocks),
        _ => Err(anyhow::anyhow!("no arguments are expected")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stanchion-budget: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Counts every path under callgrind and prints a table.
fn compare() -> anyhow::Result<()> {
    println!("instructions a message       counted    budget");
    let mut over = Vec::new();
    for (index, path) in PATHS.iter().enumerate() {
        let shorter = instructions(index, BLOCKS.0)?;
        let longer = instructions(index, BLOCKS.1)?;
        let messages = (BLOCKS.1 - BLOCKS.0) * BLOCK;
        let counted = (longer - shorter) as f64 / messages as f64;
        println!("{:<28} {counted:>7.1}   {:>7.1}", path.name, path.budget);
        if counted > path.budget * (1.0 + TOLERANCE) {
            over.push(path.name);
        }
    }
    if !over.is_empty() {
        bail!("over budget by more than 3 %: {}", over.join("; "));
    }
    Ok(())
}

/// Instructions of a whole run of this program under callgrind.
fn instructions(path: usize, blocks: usize) -> anyhow::Result<u64> {
    let program = env::current_exe().context("finding this program")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([path.to_string(), blocks.to_string()])
        .output()
        .context("running valgrind, which counts the instructions (package valgrind)")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("the counted run failed: {text}");
    }
    let collected = text
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    let count = collected.context("callgrind did not say how much it collected")?;
    count.trim().parse().context("reading callgrind's count")
}

/// The counted run itself.
fn replay(path: &str, blocks: &str) -> anyhow::Result<()> {
    let path = path
        .parse::<usize>()
        .ok()
        .and_then(|index| PATHS.get(index));
    let path = path.context("no such path")?;
    let blocks: usize = blocks.parse().context("a number of blocks")?;
    let accounts = Accounts::new(None);
    let subjects = ["orders.new", "orders.old"];
    for subject in subjects {
        subscribe(accounts.global(), subject, path.subscribers);
    }
    let payload = "x".repeat(path.bytes);
    let input: String = (0..BLOCK)
        .map(|index| {
            let subject = subjects[index / path.same_subject % subjects.len()];
            format!("PUB {subject} {}\r\n{payload}\r\n", path.bytes)
        })
        .collect();
    let mut outputs = Outputs {
        bytes: vec![Vec::with_capacity(2 * READ_BYTES); path.subscribers.max(1)],
        delivered: 0,
    };
    let (mut cache, mut dice) = (InterestCache::default(), Dice::new(1));
    for _ in 0..blocks {
        let input = black_box(input.as_bytes());
        publish(
            input,
            accounts.global(),
            &mut cache,
            &mut dice,
            &mut outputs,
        );
    }
    let expected = blocks * BLOCK * path.subscribers;
    if outputs.delivered != expected {
        bail!(
            "{} of {expected} messages were delivered",
            outputs.delivered
        );
    }
    Ok(())
}

fn subscribe(account: &Account, subject: &str, subscribers: usize) {
    for slot in 0..subscribers {
        let peer = Arc::new(Peer::new(slot as u64 + 1, 0, slot));
        let target = Target::Connection(peer);
        let one = Subscription::new(subject.as_bytes(), b"", b"1", target);
        account.sublist.change(|list| list.insert(Arc::new(one)));
    }
}

/// As the broker does with what it has read: operations, runs, deliveries.
fn publish(
    input: &[u8],
    account: &Account,
    cache: &mut InterestCache,
    dice: &mut Dice,
    outputs: &mut Outputs,
) {
    let limits = Limits {
        max_control_line: 4096,
        max_payload: 1 << 20,
        headers: true,
    };
    let mut from = 0;
    while from < input.len() {
        let read = &input[from..input.len().min(from + READ_BYTES)];
        let mut at = 0;
        let mut run: Vec<Publication<'_>> = Vec::with_capacity(MAX_RUN);
        while let Ok(Step::Taken { op, consumed }) = parse(&read[at..], &limits) {
            at += consumed;
            let ClientOp::Publish(publication) = op else {
                continue;
            };
            let continues = run
                .last()
                .is_none_or(|last| last.subject == publication.subject);
            if !continues || run.len() == MAX_RUN {
                deliver(&mut run, account, cache, dice, outputs);
            }
            run.push(publication);
        }
        deliver(&mut run, account, cache, dice, outputs);
        outputs.flush();
        assert!(at > 0, "a read holds a whole message");
        from += at;
    }
}

fn deliver(
    run: &mut Vec<Publication<'_>>,
    account: &Account,
    cache: &mut InterestCache,
    dice: &mut Dice,
    outputs: &mut Outputs,
) {
    let Some(first) = run.first() else { return };
    let interest = cache.look_up(first.subject, account);
    if !interest.is_empty() {
        route(&interest, run, None, dice, outputs);
    }
    run.clear();
}

/// What would be written to each subscriber.
struct Outputs {
    bytes: Vec<Vec<u8>>,
    delivered: usize,
}

impl Outputs {
    fn flush(&mut self) {
        for output in &mut self.bytes {
            black_box(output.as_slice());
            output.clear();
        }
    }
}

impl Outlet<Publication<'_>> for Outputs {
    fn deliver(&mut self, delivery: &Delivery, messages: &[Publication<'_>]) {
        let Target::Connection(peer) = &delivery.subscription.target else {
            return;
        };
        for message in messages {
            encode::publication(&delivery.prefix, message, true, &mut self.bytes[peer.slot]);
        }
        self.delivered += messages.len();
    }

    fn forward(&mut self, _: &RouteDelivery, _: &[Publication<'_>], _: &[&[u8]]) {
        unreachable!("there is no other server");
    }

    fn exhausted(&mut self, _: &Arc<Subscription>) {
        unreachable!("no subscription has a maximum");
    }
}
