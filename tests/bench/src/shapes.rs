//! The table of everything that is measured.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::figures::{Quantity, Sample};
use crate::load::fan::{self, Fan};
use crate::load::store::publish::Publish;
use crate::load::{connections, request_reply, start, streaming};
use crate::options::{Family, Options};
use crate::results::Party;
use crate::server::Contender;
use crate::store;
use crate::tls::Tls;
use crate::usage::Pinned;

/// With `--quick` only a part of the idle connections is opened.
const QUICK_PART: usize = 20;

/// One line of the report.
#[derive(Debug)]
pub(crate) struct Shape {
    /// For `--only`, and in the results.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// What it is about; the others come along.
    pub(crate) headline: Quantity,
    load: Load,
}

#[derive(Debug)]
enum Load {
    Fan { fan: Fan, tls: bool },
    RequestReply { pinned: bool },
    ConnectionRate { tls: bool },
    Idle { connections: usize, tls: bool },
    ColdStart,
    BinarySize,
    Streaming(Streaming),
    Store(store::Load),
}

/// Who and what a shape is measured with.
#[derive(Debug)]
pub(crate) struct Arena<'a> {
    pub(crate) ours: Contender,
    pub(crate) reference: Contender,
    /// For shapes of durable stores, which bring their own parties.
    pub(crate) site: Option<store::Site>,
    pub(crate) tls: &'a Tls,
    pub(crate) options: &'a Options,
}

/// On a server that keeps `kept` messages of a channel.
#[derive(Debug)]
enum Streaming {
    OneInFlight { kept: u64 },
    Fan(streaming::fan::Fan),
    Replay { kept: u64 },
}

const fn fan(
    key: &'static str,
    title: &'static str,
    (publishers, subscribers): (usize, usize),
    payload_bytes: usize,
    tls: bool,
) -> Shape {
    let fan = Fan {
        publishers,
        subscribers,
        payload_bytes,
    };
    Shape {
        key,
        title,
        headline: Quantity::Rate,
        load: Load::Fan { fan, tls },
    }
}

const fn shape(key: &'static str, title: &'static str, headline: Quantity, load: Load) -> Shape {
    Shape {
        key,
        title,
        headline,
        load,
    }
}

/// Channels and how many of them are published to; subscribing clients and their subscriptions in all; messages that a
/// channel keeps.
const fn streaming_fan(
    key: &'static str,
    title: &'static str,
    (channels, busy): (usize, usize),
    (clients, subscriptions): (usize, usize),
    kept: u64,
) -> Shape {
    let fan = streaming::fan::Fan {
        channels,
        busy,
        clients,
        subscriptions,
        kept,
    };
    let load = Load::Streaming(Streaming::Fan(fan));
    shape(key, title, Quantity::Rate, load)
}

/// Many publications of 128 B in flight over one channel.
const PUBLISH: Publish = Publish {
    publishers: 1,
    channels: 1,
    in_flight: 16_384,
    payload_bytes: 128,
};

const fn on_store(
    key: &'static str,
    title: &'static str,
    headline: Quantity,
    load: store::Load,
) -> Shape {
    shape(key, title, headline, Load::Store(load))
}

/// In the order in which they are measured and reported.
pub(crate) static SHAPES: &[Shape] = &[
    fan(
        "1:0-128",
        "1 publisher, no subscriber, 128 B",
        (1, 0),
        128,
        false,
    ),
    fan(
        "1:1-16",
        "1 publisher, 1 subscriber, 16 B",
        (1, 1),
        16,
        false,
    ),
    fan(
        "1:1-128",
        "1 publisher, 1 subscriber, 128 B",
        (1, 1),
        128,
        false,
    ),
    fan(
        "1:10-128",
        "1 publisher, 10 subscribers, 128 B",
        (1, 10),
        128,
        false,
    ),
    fan(
        "5:5-128",
        "5 publishers, 5 subscribers, 128 B",
        (5, 5),
        128,
        false,
    ),
    fan(
        "1:1-1024",
        "1 publisher, 1 subscriber, 1 KiB",
        (1, 1),
        1024,
        false,
    ),
    shape(
        "request",
        "request and reply, one in flight",
        Quantity::P50,
        Load::RequestReply { pinned: false },
    ),
    shape(
        "request-pinned",
        "the same, everything on one core",
        Quantity::P50,
        Load::RequestReply { pinned: true },
    ),
    shape(
        "connect",
        "connections one after another",
        Quantity::Rate,
        Load::ConnectionRate { tls: false },
    ),
    shape(
        "connect-tls",
        "the same with TLS 1.3",
        Quantity::Rate,
        Load::ConnectionRate { tls: true },
    ),
    fan(
        "tls:1:0-128",
        "1 publisher over TLS 1.3, 128 B",
        (1, 0),
        128,
        true,
    ),
    shape(
        "idle",
        "10,000 idle connections",
        Quantity::PerConnection,
        Load::Idle {
            connections: 10_000,
            tls: false,
        },
    ),
    shape(
        "idle-tls",
        "2,000 idle connections with TLS 1.3",
        Quantity::PerConnection,
        Load::Idle {
            connections: 2_000,
            tls: true,
        },
    ),
    shape(
        "start",
        "from exec to listening",
        Quantity::ColdStart,
        Load::ColdStart,
    ),
    shape(
        "size",
        "size of the program",
        Quantity::BinarySize,
        Load::BinarySize,
    ),
    shape(
        "stan:one",
        "streaming: 1 publisher, one in flight, 128 B",
        Quantity::P50,
        Load::Streaming(Streaming::OneInFlight { kept: 5_000 }),
    ),
    streaming_fan(
        "stan:publish",
        "streaming: 1 publisher, 16,384 in flight, 128 B",
        (1, 1),
        (0, 0),
        1_000_000,
    ),
    streaming_fan(
        "stan:channels",
        "streaming: 1 publisher over 1,000 channels",
        (1_000, 1_000),
        (0, 0),
        1_000,
    ),
    shape(
        "stan:replay",
        "streaming: 1 subscriber reads 1,000,000 stored",
        Quantity::Rate,
        Load::Streaming(Streaming::Replay { kept: 1_000_000 }),
    ),
    streaming_fan(
        "stan:1:10",
        "streaming: 1 publisher, 10 subscribers",
        (1, 1),
        (10, 10),
        50_000,
    ),
    streaming_fan(
        "stan:idle",
        "streaming: 10,000 subscriptions, 100 of them busy",
        (1_000, 10),
        (100, 10_000),
        5_000,
    ),
    on_store(
        "sql:publish",
        "PostgreSQL: 16,384 in flight, 128 B",
        Quantity::Rate,
        store::Load::Publish(PUBLISH),
    ),
    on_store(
        "sql:1k",
        "PostgreSQL: the same, 1 KiB",
        Quantity::Rate,
        store::Load::Publish(Publish {
            payload_bytes: 1024,
            ..PUBLISH
        }),
    ),
    on_store(
        "sql:channels",
        "PostgreSQL: 10 publishers, 100 channels",
        Quantity::Rate,
        store::Load::Publish(Publish {
            publishers: 10,
            channels: 100,
            in_flight: 1_024,
            payload_bytes: 128,
        }),
    ),
    on_store(
        "sql:one",
        "PostgreSQL: one in flight, 128 B",
        Quantity::P50,
        store::Load::OneInFlight,
    ),
    on_store(
        "sql:open-5k",
        "PostgreSQL: 5,000 messages a second, 128 B",
        Quantity::P99,
        store::Load::OpenLoop { rate: 5_000 },
    ),
    on_store(
        "sql:open-50k",
        "PostgreSQL: 50,000 messages a second, 128 B",
        Quantity::P99,
        store::Load::OpenLoop { rate: 50_000 },
    ),
    on_store(
        "sql:replay",
        "PostgreSQL: 1 subscriber reads 1,000,000 stored",
        Quantity::Rate,
        store::Load::Replay {
            stored: 1_000_000,
            payload_bytes: 128,
        },
    ),
    on_store(
        "sql:replay-1k",
        "PostgreSQL: the same, 300,000 of 1 KiB",
        Quantity::Rate,
        store::Load::Replay {
            stored: 300_000,
            payload_bytes: 1024,
        },
    ),
    on_store(
        "sql:limit",
        "PostgreSQL: the channel keeps 5,000",
        Quantity::Rate,
        store::Load::PublishAtLimit(PUBLISH, 5_000),
    ),
    on_store(
        "sql:start",
        "PostgreSQL: start with 3,000,000 messages",
        Quantity::FirstAck,
        store::Load::Start { stored: 3_000_000 },
    ),
    on_store(
        "sql:start-30m",
        "PostgreSQL: start with 30,000,000 messages",
        Quantity::FirstAck,
        store::Load::LargerStart {
            stored: 30_000_000,
            beside: 3_000_000,
        },
    ),
    on_store(
        "sql:far-2",
        "PostgreSQL 2 ms away: 16,384 in flight",
        Quantity::Rate,
        store::Load::PublishFar(PUBLISH, Duration::from_millis(2)),
    ),
    on_store(
        "sql:far-10",
        "PostgreSQL 10 ms away: 16,384 in flight",
        Quantity::Rate,
        store::Load::PublishFar(PUBLISH, Duration::from_millis(10)),
    ),
    on_store(
        "file:publish",
        "embedded store: 16,384 in flight, 128 B",
        Quantity::Rate,
        store::Load::PublishToFile(PUBLISH),
    ),
];

impl Shape {
    /// One round of one server, which is started for it and ended afterwards.
    ///
    /// # Errors
    /// When the server fails, or does not deliver what it should.
    pub(crate) fn measure(&self, party: Party, arena: &Arena<'_>) -> anyhow::Result<Sample> {
        let (tls, options) = (arena.tls, arena.options);
        let contender = match party {
            Party::Reference => &arena.reference,
            _ => &arena.ours,
        };
        let (logs, pass): (&Path, _) = (&options.out, options.pass());
        let tls_if = |wanted: bool| wanted.then_some(tls);
        match self.load {
            Load::Fan { fan, tls } => {
                let server = contender.start(tls_if(tls), logs)?;
                fan::measure(&server, fan, tls_if(tls), pass)
            }
            Load::RequestReply { pinned } => {
                // The server and its clients inherit it.
                let _pinned = pinned.then(Pinned::to_one_core).transpose()?;
                let server = contender.start(None, logs)?;
                request_reply::measure(&server, pass)
            }
            Load::ConnectionRate { tls } => {
                let server = contender.start(tls_if(tls), logs)?;
                connections::measure_rate(&server, tls_if(tls), pass)
            }
            Load::Idle { connections, tls } => {
                let part = if options.quick { QUICK_PART } else { 1 };
                let server = contender.start(tls_if(tls), logs)?;
                connections::measure_idle(&server, connections / part, tls_if(tls))
            }
            Load::ColdStart => start::measure_cold(contender, logs),
            Load::BinarySize => start::measure_size(contender),
            Load::Streaming(ref load) => load.measure(contender, logs, pass),
            Load::Store(ref load) => {
                let site = arena.site.as_ref().context("no place for stores")?;
                site.measure(load, party)
            }
        }
    }

    pub(crate) fn family(&self) -> Family {
        match self.load {
            Load::Streaming(_) => Family::Streaming,
            Load::Store(_) => Family::Store,
            _ => Family::Core,
        }
    }

    /// Who takes turns.
    pub(crate) fn parties(&self) -> &'static [Party] {
        match &self.load {
            Load::Store(load) => load.parties(),
            _ => &[Party::Ours, Party::Reference],
        }
    }

    /// Whether it is measured only when it is named: it takes minutes and gigabytes.
    pub(crate) fn is_large(&self) -> bool {
        matches!(self.load, Load::Store(store::Load::LargerStart { .. }))
    }

    /// Whether one look is enough, and no load of others can disturb it.
    pub(crate) fn is_constant(&self) -> bool {
        matches!(self.load, Load::BinarySize)
    }
}

impl Streaming {
    fn measure(
        &self,
        contender: &Contender,
        logs: &Path,
        pass: Duration,
    ) -> anyhow::Result<Sample> {
        let start = |kept| contender.keeping(kept).start(None, logs);
        match *self {
            Self::OneInFlight { kept } => streaming::one_in_flight::measure(&start(kept)?, pass),
            Self::Fan(fan) => streaming::fan::measure(&start(fan.kept)?, fan, pass),
            Self::Replay { kept } => streaming::replay::measure(&start(kept)?, kept, pass),
        }
    }
}
