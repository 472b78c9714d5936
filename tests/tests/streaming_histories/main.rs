//! Random histories of streaming clients, played to the broker and to nats-streaming-server over the wire: what each
//! client sees is equal.
//!
//! In the environment `HISTORIES` says how many in all, `FIRST` which is the first of each profile, `PROFILE` the
//! only profile, and `DIFFERENCES` after how many to give up.

mod answers;
mod barrier;
mod compare;
mod connection;
mod differences;
mod generate;
mod history;
mod known;
mod play;
mod profiles;
mod requests;
mod servers;
mod shrink;
mod transcript;
mod waits;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use futures_util::future::join_all;
use tests::environment;
use tokio::sync::Mutex;

use crate::{
    differences::Met,
    history::History,
    profiles::{PROFILES, Profile},
    servers::{Kind, Play, Server},
    transcript::Seen,
};

/// Differences after which a run of a profile ends.
const ENOUGH: u64 = 4;

/// From so many on, everything that can be met is met.
const TELLING_HISTORIES: u64 = 500;

/// Of so many histories one may differ once and then never again: a busy machine is late with something.
const UNSTEADY_ONE_IN: u64 = 100;

/// Histories between two lines about how far a run is.
const PROGRESS: u64 = 500;

/// A token that no other history of this process has; all have one length, because sizes are limited.
fn next_prefix() -> String {
    static PLAYED: AtomicU64 = AtomicU64::new(0);
    format!("h{:07x}", PLAYED.fetch_add(1, Relaxed))
}

/// Two servers under one profile, and what was found between them.
struct Comparison<'a> {
    profile: &'static Profile,
    dir: &'a Path,
    other: Kind,
    next: AtomicU64,
    end: u64,
    met: Met,
    /// Histories that were played once more after a difference, and did not differ then.
    unsteady: AtomicU64,
    found: Mutex<Vec<String>>,
}

impl<'a> Comparison<'a> {
    fn new(profile: &'static Profile, dir: &'a Path, other: Kind, histories: u64) -> Self {
        let first = environment::number("FIRST", 0);
        Self {
            profile,
            dir,
            other,
            next: AtomicU64::new(first),
            end: first + histories,
            met: Met::default(),
            unsteady: AtomicU64::new(0),
            found: Mutex::default(),
        }
    }

    async fn start(&self, kind: Kind, histories: usize) -> Server {
        let prefix = next_prefix();
        let name = format!("{}-{kind:?}-{prefix}", self.profile.name);
        let server = Server::start(kind, self.dir, &name, self.profile, histories).await;
        server.unwrap()
    }

    async fn run(&self) {
        if self.profile.groups() {
            while self.goes_on().await {
                let numbers = self.take(self.profile.at_a_time);
                let histories: Vec<_> =
                    numbers.clone().map(|number| self.history(number)).collect();
                let differences = self.compare_together(&histories).await;
                for ((number, history), difference) in numbers.zip(histories).zip(differences) {
                    if let Some(difference) = difference {
                        self.report(number, history, difference, None).await;
                    }
                }
            }
            return;
        }
        let (mut reference, mut other) =
            tokio::join!(self.start(Kind::Reference, 0), self.start(self.other, 0));
        let ports = (reference.port(), other.port());
        join_all((0..self.profile.at_a_time).map(|_| self.work(ports))).await;
        reference.check_alive().unwrap();
        other.check_alive().unwrap();
    }

    async fn work(&self, ports: (u16, u16)) {
        while self.goes_on().await {
            for number in self.take(1) {
                let history = self.history(number);
                if let Some(difference) = self.compare(&history, ports).await {
                    self.report(number, history, difference, Some(ports)).await;
                }
            }
        }
    }

    fn history(&self, number: u64) -> History {
        generate::history(self.profile, number)
    }

    async fn goes_on(&self) -> bool {
        self.next.load(Relaxed) < self.end
            && (self.found.lock().await.len() as u64) < environment::number("DIFFERENCES", ENOUGH)
    }

    /// The numbers of the next histories.
    fn take(&self, count: u64) -> std::ops::Range<u64> {
        let first = self.next.fetch_add(count, Relaxed);
        let end = (first + count).min(self.end);
        if first / PROGRESS != end / PROGRESS {
            println!("{}: {end} of {}", self.profile.name, self.end);
        }
        first.min(end)..end
    }

    /// How the servers differ over a history, if they do.
    async fn compare(&self, history: &History, ports: (u16, u16)) -> Option<String> {
        let prefix = next_prefix();
        let play = |expected| Play {
            profile: self.profile,
            history,
            prefix: prefix.clone(),
            expected,
        };
        let reference = servers::play(ports.0, play(None)).await;
        let reference = reference.expect("the reference takes connections");
        let other = servers::play(ports.1, play(Some(&reference))).await;
        self.judge(history, &reference, other)
    }

    fn judge(
        &self,
        history: &History,
        reference: &[Seen],
        other: anyhow::Result<Vec<Seen>>,
    ) -> Option<String> {
        compare::note_telling(reference, &self.met);
        let faults = compare::faults(reference);
        if !faults.is_empty() {
            return Some(format!("  the reference: {}\n", faults.join("; ")));
        }
        match other {
            Ok(other) => compare::difference(history, reference, &other, &self.met),
            Err(error) => Some(format!("  {error:#}\n")),
        }
    }

    /// The same for histories that have servers of their own together.
    async fn compare_together(&self, histories: &[History]) -> Vec<Option<String>> {
        let prefixes: Vec<_> = histories.iter().map(|_| next_prefix()).collect();
        let play = |(history, prefix): (_, &String)| Play {
            profile: self.profile,
            history,
            prefix: prefix.clone(),
            expected: None,
        };
        let mut server = self.start(Kind::Reference, histories.len()).await;
        let plays: Vec<_> = histories.iter().zip(&prefixes).map(play).collect();
        let reference = server.play_together(&plays).await;
        let reference: Vec<_> = reference
            .into_iter()
            .map(|seen| seen.expect("the reference takes connections"))
            .collect();
        drop(server);
        let mut server = self.start(self.other, histories.len()).await;
        let expected = reference.iter().map(|seen| Some(seen.as_slice()));
        let plays: Vec<_> = plays
            .into_iter()
            .zip(expected)
            .map(|(play, expected)| Play { expected, ..play })
            .collect();
        let other = server.play_together(&plays).await;
        let pairs = histories.iter().zip(&reference).zip(other);
        pairs
            .map(|((history, reference), other)| self.judge(history, reference, other))
            .collect()
    }

    async fn compare_all(
        &self,
        histories: &[History],
        ports: Option<(u16, u16)>,
    ) -> Vec<Option<String>> {
        match ports {
            Some(ports) => {
                let compared = histories.iter().map(|history| self.compare(history, ports));
                join_all(compared).await
            }
            None => self.compare_together(histories).await,
        }
    }

    /// A difference counts when it is there again; then it is shown with the smallest history that has one.
    async fn report(
        &self,
        number: u64,
        history: History,
        first: String,
        ports: Option<(u16, u16)>,
    ) {
        let name = self.profile.name;
        let again = [history.clone(), history.clone(), history.clone()];
        let again = self.compare_all(&again, ports).await;
        let Some(again) = again.into_iter().flatten().next() else {
            self.unsteady.fetch_add(1, Relaxed);
            println!("{name}, history {number} differed once and never again:\n{first}");
            return;
        };
        if !self.goes_on_with_found().await {
            return;
        }
        let (smallest, difference) = shrink::shrink(history, again, async |histories| {
            self.compare_all(histories, ports).await
        })
        .await;
        let report = format!("{name}, history {number}:\n{smallest}{difference}");
        println!("{report}");
        self.found.lock().await.push(report);
    }

    async fn goes_on_with_found(&self) -> bool {
        (self.found.lock().await.len() as u64) < environment::number("DIFFERENCES", ENOUGH)
    }
}

/// Plays histories of every profile to the reference and to `other`; everything that differs.
async fn compare(other: Kind, histories: u64) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let only = std::env::var("PROFILE").ok();
    let comparisons: Vec<_> = PROFILES
        .iter()
        .filter(|profile| match &only {
            Some(only) => only == profile.name,
            None => profile.least <= histories,
        })
        .map(|profile| {
            let share = (histories * profile.share).div_ceil(100);
            Comparison::new(profile, dir.path(), other, share)
        })
        .collect();
    let began = Instant::now();
    join_all(comparisons.iter().map(async |one| {
        one.run().await;
        println!("{}: done after {:?}", one.profile.name, began.elapsed());
    }))
    .await;
    let mut found = Vec::new();
    let mut unsteady = 0;
    let met = Met::default();
    for mut comparison in comparisons {
        found.append(comparison.found.get_mut());
        unsteady += comparison.unsteady.into_inner();
        comparison.met.add_to(&met);
    }
    println!(
        "{histories} histories in {:?}, {} differ, {unsteady} did once",
        began.elapsed(),
        found.len()
    );
    println!("{}", met.report());
    if other == Kind::Broker && only.is_none() && found.is_empty() {
        found.extend(met.idle(histories));
        if histories >= TELLING_HISTORIES {
            found.extend(compare::missed(&met));
        }
    }
    if unsteady * UNSTEADY_ONE_IN > histories {
        found.push(format!(
            "{unsteady} of {histories} histories differed only once"
        ));
    }
    found
}

/// Without this no difference would mean anything: the histories leave nothing to chance.
#[tokio::test]
async fn nats_streaming_server_agrees_with_itself() {
    let found = compare(Kind::Reference, 100).await;
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[tokio::test]
async fn broker_shows_clients_what_nats_streaming_server_does() {
    let found = compare(Kind::Broker, environment::number("HISTORIES", 500)).await;
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
