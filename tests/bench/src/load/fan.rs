//! Publishers and subscribers of one subject, every subscriber taking every message.

use std::thread;
use std::time::Duration;

use anyhow::anyhow;

use crate::client::Client;
use crate::figures::Sample;
use crate::server::Server;
use crate::tls::Tls;

const SUBJECT: &str = "bench";
/// Publishers write so much at once.
const BLOCK_BYTES: usize = 64 * 1024;
/// Blocks between two looks at what the server asks.
const BLOCKS_A_LOOK: u64 = 16;
/// Subscribers read so much at once.
const READ_BYTES: usize = 256 * 1024;
/// Messages of the first pass.
const FIRST: u64 = 20_000;

/// Who takes part, and how large a message is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fan {
    pub(crate) publishers: usize,
    pub(crate) subscribers: usize,
    pub(crate) payload_bytes: usize,
}

/// # Errors
/// When a message is lost or repeated, or the server fails otherwise.
pub(crate) fn measure(
    server: &Server,
    fan: Fan,
    tls: Option<&Tls>,
    length: Duration,
) -> anyhow::Result<Sample> {
    let mut load = Load::open(server, fan, tls)?;
    let (published, usage) =
        super::measured(server, FIRST, length, |messages| load.pass(messages))?;
    let published = load.of_all_publishers(published);
    let delivered = published * fan.subscribers as u64;
    super::sample(server, published, published + delivered, &usage)
}

#[derive(Debug)]
struct Load {
    publishers: Vec<Client>,
    subscribers: Vec<Client>,
    /// One message as it is published, line ends and all.
    message: Vec<u8>,
    /// Bytes of one message as it is delivered.
    frame_bytes: usize,
}

impl Load {
    fn open(server: &Server, fan: Fan, tls: Option<&Tls>) -> anyhow::Result<Self> {
        let mut subscribers = Vec::new();
        for _ in 0..fan.subscribers {
            let mut client = Client::connect(server.address, tls)?;
            client.subscribe(SUBJECT)?;
            client.read_much(READ_BYTES);
            subscribers.push(client);
        }
        let publishers = (0..fan.publishers)
            .map(|_| Client::connect(server.address, tls))
            .collect::<Result<_, _>>()?;
        let payload = vec![b'x'; fan.payload_bytes];
        let size = format!("{}\r\n", payload.len());
        let tail = [size.as_bytes(), &payload, b"\r\n"].concat();
        Ok(Self {
            publishers,
            subscribers,
            message: [b"PUB ", SUBJECT.as_bytes(), b" ", &tail].concat(),
            frame_bytes: [b"MSG ", SUBJECT.as_bytes(), b" 1 ", &tail].concat().len(),
        })
    }

    /// What all publish together when each takes its part of `messages`.
    fn of_all_publishers(&self, messages: u64) -> u64 {
        let publishers = self.publishers.len() as u64;
        messages.div_ceil(publishers) * publishers
    }

    /// Publishes and takes `messages` in all, or up to one a publisher more.
    fn pass(&mut self, messages: u64) -> anyhow::Result<()> {
        let total = self.of_all_publishers(messages);
        let each = total / self.publishers.len() as u64;
        let (message, frame_bytes) = (&self.message, self.frame_bytes);
        let (publishers, subscribers) = (&mut self.publishers, &mut self.subscribers);
        thread::scope(|scope| {
            let mut parts = Vec::new();
            for client in subscribers {
                parts.push(scope.spawn(move || client.take(total, frame_bytes)));
            }
            for client in publishers {
                parts.push(scope.spawn(move || publish(client, message, each)));
            }
            for part in parts {
                part.join().map_err(|_| anyhow!("a client panicked"))??;
            }
            Ok(())
        })
    }
}

/// Sends `count` messages and waits until the server has worked on all of them.
fn publish(client: &mut Client, message: &[u8], count: u64) -> anyhow::Result<()> {
    let block = message.repeat((BLOCK_BYTES / message.len()).max(1));
    let a_block = (block.len() / message.len()) as u64;
    let (mut left, mut blocks) = (count, 0);
    while left > 0 {
        let now = left.min(a_block);
        client.send(&block[..now as usize * message.len()])?;
        left -= now;
        blocks += 1;
        if blocks % BLOCKS_A_LOOK == 0 {
            client.answer_pings()?;
        }
    }
    client.ping()
}
