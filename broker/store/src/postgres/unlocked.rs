//! Writers that take no lock: nats-streaming-server outside of its fault-tolerance mode never touches the lock row.
//!
//! Such a server shows in the list of sessions by its statements, which are always the same. While it is connected, the
//! store is not taken. Sessions that have just ended a transaction do not tell; then the tables are watched for a
//! moment. A server in fault-tolerance mode that waits for the lock asks for nothing but that.

use std::time::{Duration, Instant};

use super::session::{Failure, Session};
use crate::owner::is_of_our_kind;

const SESSIONS: &str = "
    SELECT pid, coalesce(application_name, ''), coalesce(query, ''), usename = current_user
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";

/// Sums of all that was ever written. Counted by the database with a delay of up to a second.
const WRITTEN: &str = "
    SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::int8 FROM pg_stat_user_tables
    WHERE relid IN ('messages'::regclass, 'subscriptions'::regclass, 'subspending'::regclass, 'clients'::regclass)";

/// How long the tables are watched.
const WATCHED: Duration = Duration::from_millis(2500);

/// Beginnings of statements that only a serving server executes (`stores/sqlstore.go`, 0.11 to 0.25).
const OF_A_SERVER: &[&str] = &[
    "DELETE FROM Clients WHERE id=",
    "DELETE FROM Messages WHERE id=",
    "DELETE FROM Subscriptions WHERE id=",
    "DELETE FROM SubsPending WHERE subid=",
    "INSERT INTO Channels (id, name, maxmsgs, maxbytes, maxage) VALUES ",
    "INSERT INTO Clients (id, hbinbox, proto) VALUES ",
    "INSERT INTO Messages VALUES ",
    "INSERT INTO ServerInfo (id, proto, version) VALUES ",
    "INSERT INTO Subscriptions (id, subid, proto) VALUES ",
    "INSERT INTO SubsPending (subid, ",
    "SELECT timestamp FROM Messages WHERE id=",
    "SELECT timestamp, data FROM Messages WHERE id=",
    "UPDATE Channels SET maxseq=",
    "UPDATE ServerInfo SET id=",
    "UPDATE Subscriptions SET ",
];

/// Whether a writer without lock is connected, as far as is known after several looks.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Since when the tables are watched, and what had been written then.
    began: Option<(Instant, i64)>,
}

/// What a session tells about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// A server that serves; how its last statement begins.
    Writer(&'static str),
    /// It may be one.
    Perhaps,
    Nothing,
}

impl Watch {
    /// Says who keeps the store from being taken; `None`: nobody does.
    pub(super) async fn look(&mut self, session: &Session) -> Result<Option<String>, Failure> {
        let mut doubtful = None;
        for row in session.query(SESSIONS, &[]).await? {
            let (pid, application, query): (i32, &str, &str) = (row.get(0), row.get(1), row.get(2));
            let is_same_role = row.get::<_, Option<bool>>(3).unwrap_or(false);
            match evidence(application, query, is_same_role) {
                Evidence::Writer(start) => {
                    self.began = None;
                    return Ok(Some(format!(
                        "a server that takes no lock (session {pid} of the database, last statement {start:?}); stop it"
                    )));
                }
                Evidence::Perhaps => doubtful = Some(pid),
                Evidence::Nothing => {}
            }
        }
        let Some(pid) = doubtful else {
            self.began = None;
            return Ok(None);
        };
        let written: i64 = session.query(WRITTEN, &[]).await?[0].get(0);
        match self.began {
            Some((_, before)) if before != written => {
                self.began = Some((Instant::now(), written));
                Ok(Some(format!(
                    "a server that takes no lock (the tables change; perhaps session {pid} of the database); stop it"
                )))
            }
            Some((since, _)) if since.elapsed() >= WATCHED => Ok(None),
            Some(_) => Ok(Some(watching(pid))),
            None => {
                self.began = Some((Instant::now(), written));
                Ok(Some(watching(pid)))
            }
        }
    }
}

fn watching(pid: i32) -> String {
    format!("nobody, unless session {pid} of the database writes; watching the tables for a moment")
}

/// `nats-streaming-server` gives its sessions no name unless the source does.
fn evidence(application: &str, query: &str, is_same_role: bool) -> Evidence {
    let last_word = application.rsplit(' ').next().unwrap_or_default();
    if is_of_our_kind(last_word) {
        return Evidence::Nothing;
    }
    let query = query.trim_start();
    if let Some(start) = OF_A_SERVER.iter().find(|start| query.starts_with(**start)) {
        return Evidence::Writer(start);
    }
    let tells_nothing = query.is_empty()
        || ["BEGIN", "COMMIT", "ROLLBACK"]
            .iter()
            .any(|word| query.starts_with(word));
    if application.is_empty() && is_same_role && tells_nothing {
        Evidence::Perhaps
    } else {
        Evidence::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_shows_by_its_statements() {
        for query in [
            "INSERT INTO Messages VALUES ($1, $2, $3, $4, $5)",
            "SELECT timestamp, data FROM Messages WHERE id=$1 AND seq=$2",
            "UPDATE Subscriptions SET lastsent=$1 WHERE id=$2 AND subid=$3",
        ] {
            for (application, is_same_role) in [("", true), ("orders", false)] {
                let found = evidence(application, query, is_same_role);
                assert!(matches!(found, Evidence::Writer(start) if query.starts_with(start)));
            }
        }
        assert_eq!(evidence("", "COMMIT", true), Evidence::Perhaps);
    }

    #[test]
    fn who_waits_for_the_lock_or_only_looks_is_let_be() {
        for query in [
            "SELECT id, tick from StoreLock FOR UPDATE",
            "SELECT COALESCE(MAX(seq), 0) FROM Messages WHERE id=$1",
            "SELECT count(*) FROM Messages",
        ] {
            assert_eq!(evidence("", query, true), Evidence::Nothing);
        }
        assert_eq!(evidence("psql", "COMMIT", true), Evidence::Nothing);
        assert_eq!(evidence("", "COMMIT", false), Evidence::Nothing);
    }

    #[test]
    fn our_own_sessions_are_known_by_their_owner() {
        let name = "stanchion-broker stn-0123456789abcdefghijkl";
        let query = "INSERT INTO Messages VALUES ($1)";
        assert_eq!(evidence(name, query, true), Evidence::Nothing);
    }
}
