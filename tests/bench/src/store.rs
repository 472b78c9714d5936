//! The durable stores: what is measured of them, and the place where that happens - a PostgreSQL of the run's own, and
//! everybody that takes turns on it.

mod bare;
mod bare_sqlite;
mod cluster;
mod delay;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::figures::{Quantity, Sample, Spread};
use crate::load::store::publish::{self, Publish, channel};
use crate::load::store::{bare_sample, first_ack, one_in_flight, open_loop, replay, set_latency};
use crate::options::Options;
use crate::results::Party;
use crate::server::{Contender, Server};
use crate::streaming::StreamingClient;
use crate::usage::{self, Meter};
use bare::{Bare, Rows};
use bare_sqlite::BareSqlite;
pub(crate) use cluster::version;
use cluster::{Cluster, Database};
use delay::Delay;

/// Rows that the reference inserts in one statement, where it is as fast as it can be.
const BULK: u32 = 1000;
/// Of a message with 128 B of payload in a file of SQLite.
const ROW_BYTES: usize = 151;
/// Publications before the sessions are asked how durable they are.
const ASKING: usize = 20;
/// Starts of a round; the median counts.
const STARTS: usize = 5;
/// With `--quick` only a part of what is stored beforehand.
const QUICK_PART: u64 = 20;
/// Messages of each channel but the first, in a store with many channels.
const OF_A_CHANNEL: u64 = 1000;
/// What a broker that had stored all of it itself would have put on record. It counts what others have left too, but
/// slowly, so as not to disturb anybody.
const RECORD: &str = "
    TRUNCATE stanchion_totals;
    INSERT INTO stanchion_totals (id, first, last, messages, bytes)
    SELECT id, min(seq), max(seq), count(*), sum(size) FROM Messages GROUP BY id";

/// A kind of work on a store.
#[derive(Debug)]
pub(crate) enum Load {
    /// As many messages in flight as allowed.
    Publish(Publish),
    /// The same into channels that keep so many messages and no more.
    PublishAtLimit(Publish, u64),
    /// The same with the database so far away, there and back.
    PublishFar(Publish, Duration),
    /// The same on the embedded store.
    PublishToFile(Publish),
    OneInFlight,
    /// So many messages a second, whatever happens.
    OpenLoop {
        rate: u64,
    },
    /// `stored` messages are read again and again.
    Replay {
        stored: u64,
        payload_bytes: usize,
    },
    /// A start where so many messages are stored in the first of 1,001 channels.
    Start {
        stored: u64,
    },
    /// The same beside a start where so many fewer are stored.
    LargerStart {
        stored: u64,
        beside: u64,
    },
}

impl Load {
    /// Who takes turns.
    pub(crate) fn parties(&self) -> &'static [Party] {
        use Party::{Floor, Ours, OursUnhindered, Reference, ReferenceByDefault};
        match self {
            Self::Publish(publish) if publish.channels == 1 && publish.payload_bytes == 128 => {
                &[Ours, Reference, ReferenceByDefault, Floor]
            }
            Self::PublishAtLimit(..) | Self::PublishFar(..) | Self::LargerStart { .. } => {
                &[Ours, Reference, OursUnhindered]
            }
            Self::Start { .. } => &[Ours, Reference],
            _ => &[Ours, Reference, Floor],
        }
    }
}

/// What a database holds before anybody is measured on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stored {
    first_channel: u64,
    other_channels: usize,
    payload_bytes: usize,
}

/// Everything that a run of this family needs.
#[derive(Debug)]
pub(crate) struct Site {
    cluster: Rc<Cluster>,
    postmaster: u32,
    out: PathBuf,
    pass: Duration,
    part: u64,
    ours: Contender,
    ours_in_memory: Contender,
    reference: Contender,
    by_default: Contender,
    /// Parties whose sessions have been asked how durable they are.
    asked: RefCell<BTreeSet<Party>>,
    /// Filled when they are needed first: that takes longer than everything that is done with them.
    filled: RefCell<BTreeMap<Stored, Rc<Database>>>,
}

impl Site {
    /// # Errors
    /// When a program is missing or PostgreSQL does not start.
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let program = &options.streaming_reference;
        let reference = |name, bulk| Contender::durable_reference(name, program, bulk);
        let cluster = Cluster::start(&options.out)?;
        Ok(Self {
            postmaster: cluster.pid()?,
            cluster: Rc::new(cluster),
            out: options.out.clone(),
            pass: options.pass(),
            part: if options.quick { QUICK_PART } else { 1 },
            ours: Contender::our_durable(&options.broker)?,
            ours_in_memory: Contender::our_streaming(&options.broker)?,
            reference: reference("nats-streaming-server", BULK)?,
            by_default: reference("nats-streaming-server-by-default", 0)?,
            asked: RefCell::default(),
            filled: RefCell::default(),
        })
    }

    /// One round of one party.
    ///
    /// # Errors
    /// When it fails, loses a message, or does not wait until what it acknowledges is on disk.
    pub(crate) fn measure(&self, load: &Load, party: Party) -> anyhow::Result<Sample> {
        self.ask(party).context("asking its sessions")?;
        match *load {
            Load::Publish(publish) => self.publish(party, publish, None, Duration::ZERO),
            Load::PublishAtLimit(publish, limit) => {
                let limit = (party != Party::OursUnhindered).then_some(limit);
                self.publish(party, publish, limit, Duration::ZERO)
            }
            Load::PublishFar(publish, round_trip) => match party {
                Party::OursUnhindered => self.publish(party, publish, None, Duration::ZERO),
                _ => self.publish(party, publish, None, round_trip),
            },
            Load::PublishToFile(publish) => match party {
                Party::Ours => self.publish_to_file(publish),
                Party::Floor => self.bare_file(),
                _ => self.publish(party, publish, None, Duration::ZERO),
            },
            Load::OneInFlight if party == Party::Floor => self.bare_commits(true),
            Load::OpenLoop { .. } if party == Party::Floor => self.bare_commits(false),
            Load::OneInFlight => {
                let (_database, server) = self.on_empty(party)?;
                one_in_flight::measure(&server, self.postmaster, self.pass)
            }
            Load::OpenLoop { rate } => {
                let (_database, server) = self.on_empty(party)?;
                let a_tick = open_loop::a_tick(rate);
                open_loop::measure(&server, self.postmaster, a_tick, self.pass)
            }
            Load::Replay {
                stored,
                payload_bytes,
            } => self.replay(party, stored / self.part, payload_bytes),
            Load::LargerStart { beside, .. } if party == Party::OursUnhindered => {
                self.start(party, beside / self.part)
            }
            Load::Start { stored } | Load::LargerStart { stored, .. } => {
                self.start(party, stored / self.part)
            }
        }
    }

    fn contender(&self, party: Party) -> &Contender {
        match party {
            Party::Reference => &self.reference,
            Party::ReferenceByDefault => &self.by_default,
            Party::Ours | Party::OursUnhindered | Party::Floor => &self.ours,
        }
    }

    /// A party that keeps its messages in this database, which it finds at this port.
    fn on(&self, party: Party, database: &Database, port: u16) -> anyhow::Result<Contender> {
        let file = self.out.join("streaming.conf");
        let source = database.source_at(port);
        let text = format!("streaming: {{ sql: {{ driver: postgres, source: \"{source}\" }} }}\n");
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let file = file.display().to_string();
        Ok(self.contender(party).with(["-store", "SQL", "-sc", &file]))
    }

    fn on_empty(&self, party: Party) -> anyhow::Result<(Database, Server)> {
        let database = Database::create(&self.cluster)?;
        let contender = self.on(party, &database, database.port())?;
        let server = contender.start(None, &self.out)?;
        Ok((database, server))
    }

    /// A floor's connection, and the database that it writes to.
    fn bare(&self) -> anyhow::Result<(Database, Bare)> {
        let database = Database::create(&self.cluster)?;
        let bare = Bare::connect(&database.source())?;
        Ok((database, bare))
    }

    fn publish(
        &self,
        party: Party,
        publish: Publish,
        limit: Option<u64>,
        round_trip: Duration,
    ) -> anyhow::Result<Sample> {
        if party == Party::Floor {
            return self.bare_rows(publish);
        }
        let database = Database::create(&self.cluster)?;
        let mut port = database.port();
        if !round_trip.is_zero() {
            let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            port = Delay::start(target, round_trip)?.port;
        }
        let mut contender = self.on(party, &database, port)?;
        if let Some(limit) = limit {
            contender = contender.keeping(limit);
        }
        let server = contender.start(None, &self.out)?;
        publish::measure(&server, self.postmaster, publish, self.pass)
    }

    fn bare_rows(&self, publish: Publish) -> anyhow::Result<Sample> {
        let (_database, bare) = self.bare()?;
        let rows = Rows {
            channels: publish.channels,
            payload_bytes: publish.payload_bytes,
        };
        let warm_up = bare.write_for(rows, 0, self.pass / 4)?;
        let meter = self.meter()?;
        let written = bare.write_for(rows, warm_up, self.pass)?;
        bare_sample(self.postmaster, written, &meter.stop()?)
    }

    /// Single commits; with the way through a broker, what one message in flight needs at least.
    fn bare_commits(&self, through_a_broker: bool) -> anyhow::Result<Sample> {
        let (_database, bare) = self.bare()?;
        let rows = Rows {
            channels: 1,
            payload_bytes: 128,
        };
        let warm_up = bare.commit_for(rows, 0, self.pass / 4)?.len() as u64;
        let meter = self.meter()?;
        let took = bare.commit_for(rows, warm_up, self.pass)?;
        let usage = meter.stop()?;
        let mut sample = bare_sample(self.postmaster, took.len() as u64, &usage)?;
        set_latency(&mut sample, took);
        if through_a_broker {
            let server = self.ours_in_memory.start(None, &self.out)?;
            let memory = one_in_flight::measure(&server, self.postmaster, self.pass / 2)?;
            let (commit, trip) = (sample.values[&Quantity::P50], memory.values[&Quantity::P50]);
            sample.set(Quantity::SingleCommit, commit);
            sample.set(Quantity::MemoryTrip, trip);
            sample.set(Quantity::P50, commit + trip);
        }
        Ok(sample)
    }

    fn publish_to_file(&self, publish: Publish) -> anyhow::Result<Sample> {
        let directory =
            tempfile::tempdir_in(&self.out).context("making a directory for a store")?;
        let path = directory.path().display().to_string();
        let contender = self.ours.with(["-store", "FILE", "-dir", &path]);
        let server = contender.start(None, &self.out)?;
        publish::measure(&server, self.postmaster, publish, self.pass)
    }

    fn bare_file(&self) -> anyhow::Result<Sample> {
        let directory =
            tempfile::tempdir_in(&self.out).context("making a directory for a store")?;
        let mut bare = BareSqlite::create(&directory.path().join("bare.db"))?;
        bare.write_for(ROW_BYTES, self.pass / 4)?;
        let meter = self.meter()?;
        let written = bare.write_for(ROW_BYTES, self.pass)?;
        bare_sample(self.postmaster, written, &meter.stop()?)
    }

    fn replay(&self, party: Party, stored: u64, payload_bytes: usize) -> anyhow::Result<Sample> {
        let database = self.filled(Stored {
            first_channel: stored,
            other_channels: 0,
            payload_bytes,
        })?;
        if party == Party::Floor {
            let bare = Bare::connect(&database.source())?;
            bare.read_for(stored, self.pass / 4)?;
            let meter = self.meter()?;
            let seen = bare.read_for(stored, self.pass)?;
            return bare_sample(self.postmaster, seen, &meter.stop()?);
        }
        let contender = self.on(party, &database, database.port())?;
        let server = contender.start(None, &self.out)?;
        replay::measure(&server, self.postmaster, stored, self.pass)
    }

    fn start(&self, party: Party, stored: u64) -> anyhow::Result<Sample> {
        let others = 1000;
        let database = self.filled(Stored {
            first_channel: stored - others * OF_A_CHANNEL / self.part,
            other_channels: others as usize,
            payload_bytes: 128,
        })?;
        let contender = self.on(party, &database, database.port())?;
        let mut sample = Sample::default();
        if party == Party::Reference {
            let meter = self.meter()?;
            let (server, took) = first_ack::start(&contender, &self.out)?;
            sample.set(Quantity::FirstAck, took.as_secs_f64());
            sample.set(Quantity::FirstAckUnknown, took.as_secs_f64());
            set_memory(&mut sample, &server)?;
            server.stop()?;
            return timed(sample, &meter);
        }
        // What the broker has kept about the channels is void as soon as another server writes to them.
        database.run("DROP TABLE IF EXISTS stanchion_totals")?;
        let (server, unknown) = first_ack::start(&contender, &self.out)?;
        sample.set(Quantity::FirstAckUnknown, unknown.as_secs_f64());
        server.stop()?;
        database.run(RECORD)?;
        database.run("CHECKPOINT")?;
        let (meter, mut took) = (self.meter()?, Vec::new());
        for _ in 0..STARTS {
            let (server, first_ack) = first_ack::start(&contender, &self.out)?;
            took.push(first_ack.as_secs_f64());
            set_memory(&mut sample, &server)?;
            server.stop()?;
        }
        let median = Spread::of(took).context("no start")?.median;
        sample.set(Quantity::FirstAck, median);
        timed(sample, &meter)
    }

    fn meter(&self) -> anyhow::Result<Meter> {
        Meter::with_database(None, Some(self.postmaster))
    }

    /// A database that holds this and no trace of the clients of an earlier round.
    fn filled(&self, stored: Stored) -> anyhow::Result<Rc<Database>> {
        let known = self.filled.borrow().get(&stored).cloned();
        let database = match known {
            Some(database) => database,
            None => {
                let database = Rc::new(self.fill(stored)?);
                self.filled.borrow_mut().insert(stored, database.clone());
                database
            }
        };
        database.run("TRUNCATE Clients, Subscriptions, SubsPending")?;
        database.run("CHECKPOINT")?;
        Ok(database)
    }

    fn fill(&self, stored: Stored) -> anyhow::Result<Database> {
        let (database, server) = self.on_empty(Party::Ours)?;
        // Once it answers, it has put its name into the database, without which servers find nothing.
        drop(StreamingClient::connect(server.address)?);
        server.stop()?;
        let channels: Vec<_> = (0..=stored.other_channels).map(channel).collect();
        database.add_channels(&channels)?;
        let bare = Bare::connect(&database.source())?;
        bare.fill(0, stored.first_channel, stored.payload_bytes)?;
        for number in 1..=stored.other_channels {
            bare.fill(number, OF_A_CHANNEL / self.part, stored.payload_bytes)?;
        }
        // Whoever reads a row first would have to note that it is committed.
        database.run("VACUUM ANALYZE Messages")?;
        Ok(database)
    }

    /// Lets the party's own session say, while it stores messages, whether it waits for the disk.
    fn ask(&self, party: Party) -> anyhow::Result<()> {
        if party == Party::OursUnhindered || !self.asked.borrow_mut().insert(party) {
            return Ok(());
        }
        let database = Database::create(&self.cluster)?;
        database.run(
            "CREATE TABLE asked (settings TEXT);
             CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO asked VALUES (concat_ws(' ', current_setting('synchronous_commit'),
                     current_setting('fsync'), current_setting('full_page_writes')));
                 RETURN NULL;
             END $$;
             CREATE TRIGGER ask AFTER INSERT ON Messages FOR EACH STATEMENT EXECUTE FUNCTION ask()",
        )?;
        if party == Party::Floor {
            let rows = Rows {
                channels: 1,
                payload_bytes: 128,
            };
            Bare::connect(&database.source())?.commit_for(rows, 0, Duration::ZERO)?;
        } else {
            let contender = self.on(party, &database, database.port())?;
            let server = contender.start(None, &self.out)?;
            let mut client = StreamingClient::connect(server.address)?;
            client.publish_to(&[channel(0)], 128);
            client.wait(true)?;
            for _ in 0..ASKING {
                client.publish_and_wait()?;
            }
        }
        let answers = database.run("SELECT DISTINCT settings FROM asked")?;
        ensure!(
            answers == "on on on",
            "synchronous_commit, fsync and full_page_writes of {} are {answers:?}",
            party.name()
        );
        Ok(())
    }
}

fn timed(mut sample: Sample, meter: &Meter) -> anyhow::Result<Sample> {
    let usage = meter.stop()?;
    sample.seconds = usage.took.as_secs_f64();
    // The servers were children of this process, and have ended.
    sample.foreign = usage.foreign;
    Ok(sample)
}

fn set_memory(sample: &mut Sample, server: &Server) -> anyhow::Result<()> {
    let memory = usage::memory(server.pid())?;
    sample.set(Quantity::Memory, memory.resident as f64);
    Ok(())
}
