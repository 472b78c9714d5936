//! The broker and nats-server get the same bytes and send the same bytes back.
//!
//! `scripts` are written by hand and say what they are about. The rest is made from a number: sessions of some
//! connections, right and wrong, cut anywhere, under several configurations. In the environment `SESSIONS` says
//! how many in all, `FIRST` which is the first, and `DIFFERENCES` after how many to give up.

mod accepted;
mod compare;
mod generate;
mod play;
mod profiles;
mod scripts;
mod servers;
mod session;
mod shrink;
mod words;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use futures_util::future::join_all;
use tests::environment;
use tokio::sync::{Mutex, RwLock};

use crate::{
    accepted::{EXCUSED, Fired},
    profiles::{PROFILES, Profile},
    servers::{Kind, Server},
    session::Session,
};

/// Sessions that run at a time.
const AT_A_TIME: usize = 12;

/// From so many a profile on, everything that can be met is met.
const TELLING_SESSIONS: u64 = 2000;

/// Differences after which a run ends.
const ENOUGH: u64 = 6;

/// Two servers with one configuration, and what was found between them.
struct Comparison {
    profile: &'static Profile,
    reference: Server,
    other: Server,
    fired: Fired,
    /// What of `compare`'s list the reference has said.
    met: Fired,
    next: AtomicU64,
    end: u64,
    /// Held for writing by a session that must be alone.
    alone: RwLock<()>,
    found: Mutex<Vec<String>>,
}

impl Comparison {
    async fn begin(dir: &Path, profile: &'static Profile, other: Kind, sessions: u64) -> Self {
        let name = format!("{}-{other:?}", profile.name);
        let beside = format!("{name}-beside");
        let reference = Server::start(Kind::Reference, dir, &beside, profile.config).await;
        let other_server = Server::start(other, dir, &name, profile.config).await;
        let first = environment::number("FIRST", 0);
        Self {
            profile,
            reference: reference.unwrap(),
            other: other_server.unwrap(),
            fired: Fired::default(),
            met: Fired::default(),
            next: AtomicU64::new(first),
            end: first + sessions,
            alone: RwLock::new(()),
            found: Mutex::default(),
        }
    }

    /// How the servers differ over a session, if they do.
    async fn difference(&self, session: &Session) -> Option<String> {
        let prefix = play::next_prefix();
        let (one, two) = tokio::join!(
            play::play(self.reference.port, session, &prefix),
            play::play(self.other.port, session, &prefix),
        );
        let one = compare::transcripts(one.expect("the reference takes connections"), &prefix);
        let two = match two {
            Ok(heard) => compare::transcripts(heard, &prefix),
            Err(error) => return Some(format!("  {error:#}\n")),
        };
        assert!(
            !compare::is_silent(&one),
            "the reference gives no answer, so the session is wrong:\n{session}"
        );
        compare::note_telling(&one, &self.met);
        let difference = compare::difference(&one, &two, &self.fired)?;
        match EXCUSED
            .iter()
            .find(|excused| (excused.has)(session, &difference))
        {
            Some(excused) => self.fired.note(excused.name),
            None => return Some(difference),
        }
        None
    }

    async fn run(&self) {
        loop {
            let number = self.next.fetch_add(1, Relaxed);
            if number >= self.end
                || self.found.lock().await.len() as u64
                    >= environment::number("DIFFERENCES", ENOUGH)
            {
                return;
            }
            let session = generate::session(self.profile, number);
            let difference = if session.alone {
                let _alone = self.alone.write().await;
                self.difference(&session).await
            } else {
                let _beside = self.alone.read().await;
                self.difference(&session).await
            };
            if let Some(difference) = difference {
                self.report(number, session, difference).await;
            }
        }
    }

    async fn report(&self, number: u64, session: Session, first: String) {
        let _alone = self.alone.write().await;
        if self.found.lock().await.len() as u64 >= environment::number("DIFFERENCES", ENOUGH) {
            return;
        }
        let (smallest, difference) = shrink::shrink(session, first, async |smaller| {
            self.difference(smaller).await
        })
        .await;
        let profile = self.profile.name;
        let report = format!("{profile}, session {number}: {smallest}{difference}");
        self.found.lock().await.push(report);
    }
}

/// Plays sessions of every profile against nats-server and `other`; everything that differs.
async fn compare(profiles: &[&'static Profile], other: Kind, sessions: u64) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    let (fired, met) = (Fired::default(), Fired::default());
    for profile in profiles {
        let mut comparison = Comparison::begin(dir.path(), profile, other, sessions).await;
        let began = std::time::Instant::now();
        join_all((0..AT_A_TIME).map(|_| comparison.run())).await;
        comparison.reference.process.check_alive().unwrap();
        comparison.other.process.check_alive().unwrap();
        println!(
            "{}: {sessions} sessions in {:?}",
            profile.name,
            began.elapsed()
        );
        found.append(comparison.found.get_mut());
        comparison.fired.add_to(&fired);
        comparison.met.add_to(&met);
    }
    if found.is_empty() && sessions >= TELLING_SESSIONS {
        if other == Kind::Broker {
            let idle = fired.idle(sessions).into_iter();
            found.extend(idle.map(|rule| format!("accepted, but not met: {rule}")));
        }
        if profiles.len() == PROFILES.len() {
            let missed = compare::missed(&met).into_iter();
            found.extend(missed.map(|text| format!("no session made the reference say {text:?}")));
        }
    }
    found
}

/// Without this no difference would mean anything: the sessions leave nothing to chance.
#[tokio::test]
async fn nats_server_agrees_with_itself() {
    let found = compare(&PROFILES, Kind::Reference, TELLING_SESSIONS).await;
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[tokio::test]
async fn broker_answers_generated_sessions_as_nats_server_does() {
    let sessions = environment::number("SESSIONS", 28_000).div_ceil(PROFILES.len() as u64);
    let found = compare(&PROFILES, Kind::Broker, sessions).await;
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
