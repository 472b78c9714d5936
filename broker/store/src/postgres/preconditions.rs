//! Everything that a broker needs of its database, looked at one by one, without changing anything.

use std::{fmt, time::Duration};

use tokio::{net, time::timeout};
use tokio_postgres::{config::Host, error::SqlState};

use super::{
    current::Sources,
    pooled, schema,
    session::{Failure, Session},
    source::{Source, SslMode},
    unlocked::Watch,
};
use crate::{StoreError, owner::is_of_our_kind, records::SCHEMA_VERSION};

/// For each host to be found and reached.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections that an owner has at most: two lanes, reads, the lock, a sweep, a count.
const CONNECTIONS: i64 = 6;

/// Oldest release that is supported, as `server_version_num`.
const OLDEST: i32 = 120_000;

const SERVER: &str = "
    SELECT current_setting('server_version_num')::int4, current_setting('server_version'), pg_is_in_recovery(),
           current_setting('fsync'), current_setting('full_page_writes'),
           current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
               - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";

const MISSING: &str = "
    SELECT coalesce(string_agg(name, ', ' ORDER BY name), ''),
           coalesce(has_schema_privilege(current_schema(), 'CREATE'), FALSE), coalesce(current_schema(), '')
    FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL";

const LACKING: &str = "
    SELECT coalesce(string_agg(privilege || ' on ' || name, ', ' ORDER BY name, privilege), '')
    FROM unnest($1::text[]) AS name, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
    WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(to_regclass(name), privilege)";

const SERVER_INFO: &str = "SELECT id, version FROM ServerInfo WHERE uniquerow = 1";

const LOCK: &str = "SELECT id, tick FROM StoreLock";

/// How one look ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be; what was found.
    Good(String),
    /// It works, but somebody should know.
    Doubtful(String),
    /// A broker cannot serve; what to do.
    Bad(String),
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `dns`, `tcp`, `tls`, `login`, `pooler`, `version`, `schema`, `rights`, `contents`, `lock`, `writers`.
    pub subject: &'static str,
    pub outcome: Outcome,
}

impl Finding {
    /// Whether a broker can do with it.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        matches!(self.outcome, Outcome::Bad(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, text) = match &self.outcome {
            Outcome::Good(text) => ("ok  ", text),
            Outcome::Doubtful(text) => ("warn", text),
            Outcome::Bad(text) => ("FAIL", text),
        };
        write!(f, "{mark} {:9} {text}", self.subject)
    }
}

/// Looks at everything, in an order in which each look needs those before it; ends with the first that makes the rest
/// impossible. Hands each finding over at once. Runs inside a tokio `LocalSet`.
pub async fn check(source: &Source, cluster_id: &str, report: &mut impl FnMut(Finding)) {
    let mut tell = |subject, outcome| report(Finding { subject, outcome });
    if !reach(source, &mut tell).await {
        return;
    }
    let Some(session) = log_in(source, &mut tell).await else {
        return;
    };
    if !is_direct(source, &session, &mut tell).await {
        return;
    }
    if let Err(failure) = look(&session, cluster_id, &mut tell).await {
        tell("database", Outcome::Bad(failure.to_string()));
    }
}

/// Whether a host is found and reached.
async fn reach(source: &Source, tell: &mut impl FnMut(&'static str, Outcome)) -> bool {
    let hosts = source.config.get_hosts();
    let ports = source.config.get_ports();
    let mut is_reached = false;
    for (at, host) in hosts.iter().enumerate() {
        let Host::Tcp(name) = host else {
            is_reached = true;
            continue;
        };
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let addresses: Vec<_> =
            match timeout(PATIENCE, net::lookup_host((name.as_str(), port))).await {
                Ok(Ok(addresses)) => addresses.collect(),
                Ok(Err(error)) => {
                    tell(
                        "dns",
                        Outcome::Bad(format!("{name}: {error}; name a host that exists")),
                    );
                    continue;
                }
                Err(_) => {
                    tell(
                        "dns",
                        Outcome::Bad(format!("{name}: no answer within {PATIENCE:?}")),
                    );
                    continue;
                }
            };
        let listed: Vec<_> = addresses.iter().map(|one| one.ip().to_string()).collect();
        tell(
            "dns",
            Outcome::Good(format!("{name} is {}", listed.join(", "))),
        );
        let connected = timeout(PATIENCE, net::TcpStream::connect(&addresses[..])).await;
        let outcome = match connected {
            Ok(Ok(_)) => {
                is_reached = true;
                Outcome::Good(format!("{name} takes connections on port {port}"))
            }
            Ok(Err(error)) => Outcome::Bad(format!("{name}, port {port}: {error}")),
            Err(_) => Outcome::Bad(format!(
                "{name}, port {port}: no answer within {PATIENCE:?}; look at firewalls and network policies"
            )),
        };
        tell("tcp", outcome);
    }
    is_reached
}

async fn log_in(source: &Source, tell: &mut impl FnMut(&'static str, Outcome)) -> Option<Session> {
    let tls = match source.tls.mode {
        SslMode::Disable => Outcome::Doubtful(
            "none: passwords and messages pass in the clear; sslmode=verify-full protects them"
                .to_owned(),
        ),
        SslMode::Require => Outcome::Doubtful(
            "any certificate is taken; sslmode=verify-full with sslrootcert knows the server"
                .to_owned(),
        ),
        SslMode::VerifyCa => Outcome::Good("the certificate's authority is verified".to_owned()),
        SslMode::VerifyFull => Outcome::Good("certificate and name are verified".to_owned()),
    };
    match Session::open(&Sources::from(source.clone()), "check").await {
        Ok(session) => {
            tell("tls", tls);
            let user = source.config.get_user().unwrap_or("the default user");
            tell("login", Outcome::Good(format!("as {user}")));
            Some(session)
        }
        Err(error) => {
            let subject = if has_spoken(&error) { "login" } else { "tls" };
            tell(subject, Outcome::Bad(error.cause()));
            None
        }
    }
}

/// Whether each session has a backend of its own, as far as can be seen.
async fn is_direct(
    source: &Source,
    session: &Session,
    tell: &mut impl FnMut(&'static str, Outcome),
) -> bool {
    let second = match Session::open(&Sources::from(source.clone()), "check").await {
        Ok(second) => second,
        Err(error) => {
            let text = format!("no second session to compare with: {}", error.cause());
            tell("pooler", Outcome::Doubtful(text));
            return true;
        }
    };
    let outcome = match pooled::is_pooled(session, &second).await {
        Ok(false) => Outcome::Good("none, or one that keeps sessions whole".to_owned()),
        Ok(true) => Outcome::Bad(pooled::REFUSAL.to_owned()),
        Err(failure) => Outcome::Bad(failure.to_string()),
    };
    let is_direct = !matches!(outcome, Outcome::Bad(_));
    tell("pooler", outcome);
    is_direct
}

/// Whether the database itself has refused, so that the way to it works.
fn has_spoken(error: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = error else {
        return false;
    };
    let failure = source.downcast_ref::<Failure>();
    matches!(failure, Some(Failure::Database(error)) if error.code().is_some())
}

async fn look(
    session: &Session,
    cluster_id: &str,
    tell: &mut impl FnMut(&'static str, Outcome),
) -> Result<(), Failure> {
    let row = &session.query(SERVER, &[]).await?[0];
    tell("version", version(row.get(0), row.get(1), row.get(2)));
    let unsafe_settings: Vec<_> = [
        ("fsync", row.get::<_, &str>(3)),
        ("full_page_writes", row.get(4)),
    ]
    .into_iter()
    .filter(|(_, value)| *value != "on")
    .map(|(name, _)| name)
    .collect();
    if !unsafe_settings.is_empty() {
        let names = unsafe_settings.join(" and ");
        let text = format!("{names} is off: what was acknowledged can be lost with the machine");
        tell("durable", Outcome::Doubtful(text));
    }
    let free: i64 = row.get(5);
    if free < CONNECTIONS {
        let text = format!(
            "{free} connections are free, a broker needs up to {CONNECTIONS}; raise max_connections"
        );
        tell("sessions", Outcome::Doubtful(text));
    }

    let row = &session.query(MISSING, &[&schema::TABLES]).await?[0];
    let (missing, may_create, current): (&str, bool, &str) = (row.get(0), row.get(1), row.get(2));
    tell("schema", tables(missing, may_create, current));
    let row = &session.query(LACKING, &[&schema::TABLES]).await?[0];
    let lacking: &str = row.get(0);
    tell(
        "rights",
        match lacking.is_empty() {
            true => Outcome::Good("to read and write all tables that are there".to_owned()),
            false => Outcome::Bad(format!(
                "missing: {lacking}; grant them to the role that logs in"
            )),
        },
    );
    if !missing.is_empty() || !lacking.is_empty() {
        return Ok(());
    }
    let rows = session.query(SERVER_INFO, &[]).await?;
    let stored = rows.first().map(|row| {
        let id: Option<String> = row.get(0);
        (
            id.unwrap_or_default(),
            row.get::<_, Option<i32>>(1).unwrap_or(0),
        )
    });
    tell("contents", contents(stored, cluster_id));
    let rows = session.query(LOCK, &[]).await?;
    let owners: Vec<String> = rows
        .iter()
        .map(|row| row.get::<_, Option<String>>(0).unwrap_or_default())
        .collect();
    tell("lock", lock(&owners));
    if owners.iter().all(String::is_empty) {
        let writer = Watch::default().look(session).await?;
        tell(
            "writers",
            writer.map_or_else(
                || Outcome::Good("nobody who takes no lock is connected".to_owned()),
                Outcome::Doubtful,
            ),
        );
    }
    Ok(())
}

fn version(number: i32, name: &str, is_standby: bool) -> Outcome {
    if is_standby {
        return Outcome::Bad(format!(
            "{name}, a standby, which cannot be written to; name the primary"
        ));
    }
    if number < OLDEST {
        return Outcome::Bad(format!("{name} is too old; 12 is the oldest that works"));
    }
    Outcome::Good(format!("PostgreSQL {name}"))
}

fn tables(missing: &str, may_create: bool, schema: &str) -> Outcome {
    match (missing.is_empty(), may_create) {
        (true, _) => Outcome::Good("all tables are there".to_owned()),
        (false, true) => {
            Outcome::Doubtful(format!("missing: {missing}; the first start makes them"))
        }
        (false, false) => Outcome::Bad(format!(
            "missing: {missing}; the role may not make them in schema {schema:?}: run `store init` as one who may"
        )),
    }
}

fn contents(stored: Option<(String, i32)>, cluster_id: &str) -> Outcome {
    match stored {
        None => Outcome::Good("nothing was stored yet".to_owned()),
        Some((_, version)) if i64::from(version) != SCHEMA_VERSION => Outcome::Bad(format!(
            "stored in form {version}, of which nothing is known"
        )),
        Some((id, _)) if id != cluster_id => Outcome::Bad(format!(
            "of cluster {id:?}, configured is {cluster_id:?}; each cluster needs a database of its own"
        )),
        Some((id, _)) => Outcome::Good(format!("of cluster {id:?}")),
    }
}

fn lock(owners: &[String]) -> Outcome {
    match owners {
        [] => Outcome::Good("free".to_owned()),
        [owner, ..] if owner.is_empty() => Outcome::Good("free".to_owned()),
        [owner, ..] if is_of_our_kind(owner) => {
            Outcome::Doubtful(format!("held by broker {owner}: another one will stand by"))
        }
        [owner, ..] => Outcome::Doubtful(format!(
            "held by {owner}, a nats-streaming-server: a broker will stand by until its tick stops"
        )),
    }
}

/// Makes what is missing, and gives a role what a broker needs, if one is named. May be repeated. For one who may do it;
/// the broker itself then logs in as that role.
///
/// # Errors
/// The database cannot be reached, or refuses.
pub async fn init(source: &Source, role: Option<&str>) -> Result<(), StoreError> {
    let session = Session::open(&Sources::from(source.clone()), "init").await?;
    schema::ensure(&session).await?;
    if !schema::ensure_totals(&session).await? {
        return Err(StoreError::Config(
            "unable to make the table stanchion_totals; log in as the owner of the schema"
                .to_owned(),
        ));
    }
    let Some(role) = role else { return Ok(()) };
    let granting = |failure: Failure| match failure.is(&SqlState::UNDEFINED_OBJECT) {
        true => StoreError::Config(format!("role {role:?} does not exist; make it first")),
        false => failure.into_store_error("granting rights"),
    };
    // Since PostgreSQL 15 nobody may use a schema without being told so.
    const GRANTS: &str = "
        SELECT format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), $1::text) || ';' ||
               string_agg(format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', to_regclass(name), $1::text), ';')
        FROM unnest($2::text[]) AS name";
    let tables: Vec<&str> = schema::TABLES
        .iter()
        .copied()
        .chain(["stanchion_totals"])
        .collect();
    let rows = session
        .query(GRANTS, &[&role, &tables])
        .await
        .map_err(granting)?;
    let grants: String = rows[0].get(0);
    session.batch(&grants).await.map_err(granting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_says_what_to_do() {
        assert_eq!(
            version(150_004, "15.4", false),
            Outcome::Good("PostgreSQL 15.4".to_owned())
        );
        assert!(
            matches!(version(110_000, "11.0", false), Outcome::Bad(text) if text.contains("12"))
        );
        assert!(
            matches!(version(150_000, "15.0", true), Outcome::Bad(text) if text.contains("primary"))
        );
        assert!(matches!(
            tables("clients", true, "public"),
            Outcome::Doubtful(_)
        ));
        assert!(
            matches!(tables("clients", false, "public"), Outcome::Bad(text) if text.contains("store init"))
        );
        let of = |id: &str| Some((id.to_owned(), 1));
        assert!(matches!(contents(of("a"), "a"), Outcome::Good(_)));
        assert!(matches!(contents(of("a"), "b"), Outcome::Bad(text) if text.contains("\"a\"")));
        assert!(matches!(
            contents(Some(("a".to_owned(), 2)), "a"),
            Outcome::Bad(_)
        ));
        assert!(matches!(lock(&[String::new()]), Outcome::Good(_)));
        assert!(
            matches!(lock(&["bRLmCwYis4IYWHZAovOBr0".to_owned()]), Outcome::Doubtful(text) if text.contains("nats"))
        );
    }
}
