//! What the database holds at the end of a round, and who has written it.
//!
//! Before a round the tables get what tells writers apart: a column `written_by` with the session's name as default, and
//! a table of the owners that `StoreLock` has named, filled by a trigger. Commit times come from the database.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use broker_proto::streaming::{MsgProto, SubState};
use broker_store::conformance::postgres_server::PostgresServer;
use data_encoding::HEXLOWER_PERMISSIVE;
use prost::Message as _;

use crate::record::{MessageId, Micros};

/// Of a server whose tables are made: who writes is noted from here on.
pub(crate) const WITNESSES: &str = "
    ALTER TABLE Messages ADD COLUMN written_by TEXT DEFAULT current_setting('application_name');
    CREATE TABLE fault_terms (nr SERIAL, holder TEXT, name TEXT);
    CREATE FUNCTION fault_note_term() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO fault_terms (holder, name) VALUES (NEW.id, current_setting('application_name'));
        RETURN NULL;
    END $$;
    CREATE TRIGGER fault_terms AFTER UPDATE ON StoreLock FOR EACH ROW
        WHEN (OLD.id IS DISTINCT FROM NEW.id) EXECUTE FUNCTION fault_note_term();
    CREATE TRIGGER fault_first_term AFTER INSERT ON StoreLock FOR EACH ROW
        WHEN (NEW.id <> '') EXECUTE FUNCTION fault_note_term()";

/// Commit time in microseconds since the Unix epoch.
const COMMITTED: &str = "(extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::int8";

/// One row of `Messages`.
#[derive(Clone, Debug)]
pub(crate) struct StoredMessage {
    pub(crate) sequence: u64,
    /// None: a payload that nobody sends.
    pub(crate) id: Option<MessageId>,
    /// Nanoseconds since the Unix epoch, by the server's clock.
    pub(crate) timestamp: i64,
    /// Name of the session that wrote it.
    pub(crate) written_by: String,
    pub(crate) committed: Micros,
}

/// From here on the store belonged to somebody else.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    /// Name of the new owner's session; none: it was given back.
    pub(crate) holder: Option<String>,
    pub(crate) committed: Micros,
}

/// Where a durable stands; members of a group together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    pub(crate) last_sent: u64,
    pub(crate) pending: BTreeSet<u64>,
}

/// Everything that the checker looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    /// Ascending.
    pub(crate) messages: Vec<StoredMessage>,
    /// In their order.
    pub(crate) terms: Vec<Term>,
    /// By the name of the durable or the durable group.
    pub(crate) positions: BTreeMap<String, Position>,
}

/// Reads everything about one channel.
///
/// # Errors
/// The database does not answer, or holds what makes no sense.
pub(crate) fn read(
    postgres: &PostgresServer,
    source: &str,
    channel: &str,
) -> anyhow::Result<Tables> {
    let messages = postgres.run(
        source,
        &format!(
            "SELECT seq, encode(data, 'hex'), timestamp, written_by, {COMMITTED} FROM Messages
             WHERE id = (SELECT id FROM Channels WHERE name = '{channel}') ORDER BY seq"
        ),
    )?;
    let terms = postgres.run(
        source,
        &format!("SELECT holder, name, {COMMITTED} FROM fault_terms ORDER BY nr"),
    )?;
    let subscriptions = postgres.run(
        source,
        "SELECT subid, lastsent, encode(proto, 'hex') FROM Subscriptions WHERE NOT deleted",
    )?;
    let pending = postgres.run(
        source,
        "SELECT subid, seq, lastsent, convert_from(coalesce(pending, ''), 'UTF8'),
                convert_from(coalesce(acks, ''), 'UTF8')
         FROM SubsPending ORDER BY subid, row",
    )?;
    Ok(Tables {
        messages: messages.lines().map(message).collect::<Result<_, _>>()?,
        terms: terms.lines().map(term).collect::<Result<_, _>>()?,
        positions: positions(&subscriptions, &pending)?,
    })
}

/// The name of the session that holds the store now, if one does.
///
/// # Errors
/// The database does not answer.
pub(crate) fn holder(postgres: &PostgresServer, source: &str) -> anyhow::Result<Option<String>> {
    let last = "SELECT name FROM (SELECT * FROM fault_terms ORDER BY nr DESC LIMIT 1) t WHERE holder <> ''";
    let name = postgres.run(source, last)?;
    Ok((!name.is_empty()).then_some(name))
}

fn columns<const N: usize>(line: &str) -> anyhow::Result<[&str; N]> {
    let columns: Vec<&str> = line.split('|').collect();
    columns
        .try_into()
        .map_err(|_| anyhow::anyhow!("not {N} columns: {line:?}"))
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    bytes.context("bytes as hexadecimal digits")
}

fn message(line: &str) -> anyhow::Result<StoredMessage> {
    let [sequence, data, timestamp, written_by, committed] = columns(line)?;
    let sequence = sequence.parse()?;
    let message = MsgProto::decode(&*unhex(data)?).context("a row that is no message")?;
    anyhow::ensure!(
        message.sequence == sequence && message.timestamp == timestamp.parse::<i64>()?,
        "row {sequence} holds another message: {message:?}"
    );
    Ok(StoredMessage {
        sequence,
        id: MessageId::parse(&message.data),
        timestamp: message.timestamp,
        written_by: written_by.to_owned(),
        committed: committed.parse()?,
    })
}

fn term(line: &str) -> anyhow::Result<Term> {
    let [holder, name, committed] = columns(line)?;
    Ok(Term {
        holder: (!holder.is_empty()).then(|| name.to_owned()),
        committed: committed.parse()?,
    })
}

fn positions(subscriptions: &str, pending: &str) -> anyhow::Result<BTreeMap<String, Position>> {
    let mut names = BTreeMap::new();
    let mut positions: BTreeMap<String, Position> = BTreeMap::new();
    for line in subscriptions.lines() {
        let [id, last_sent, proto] = columns(line)?;
        let state = SubState::decode(&*unhex(proto)?).context("a row that is no subscription")?;
        // A group's compound name begins with the durable one.
        let name = match state.q_group.is_empty() {
            true => state.durable_name.clone(),
            false => state
                .q_group
                .split(':')
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        let position = positions.entry(name.clone()).or_default();
        position.last_sent = position
            .last_sent
            .max(last_sent.parse()?)
            .max(state.last_sent);
        names.insert(id.to_owned(), name);
    }
    // Per subscription first: a message moves from one member of a group to another.
    let mut of_subscription: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for line in pending.lines() {
        let [id, sequence, last_sent, pending, acks] = columns(line)?;
        let Some(name) = names.get(id) else { continue };
        let position = positions.entry(name.clone()).or_default();
        position.last_sent = position.last_sent.max(last_sent.parse()?);
        let own = of_subscription.entry(id).or_default();
        let sequence: u64 = sequence.parse()?;
        if sequence > 0 {
            own.insert(sequence);
            continue;
        }
        for acked in sequences(acks)? {
            own.remove(&acked);
        }
        own.extend(sequences(pending)?);
    }
    for (id, own) in of_subscription {
        let position = positions.entry(names[id].clone()).or_default();
        position.pending.extend(own);
    }
    Ok(positions)
}

fn sequences(text: &str) -> anyhow::Result<Vec<u64>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let listed: Option<Vec<u64>> = serde_json::from_str(text).context("a list of sequences")?;
    Ok(listed.unwrap_or_default())
}
