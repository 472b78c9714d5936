//! What the tables hold, read in one statement, and in the order that the reference's rows have to be read in.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use broker_proto::streaming::{MsgProto, SubState};
use broker_store::conformance::postgres_server::PostgresServer;
use data_encoding::HEXLOWER_PERMISSIVE;
use prost::Message as _;

use crate::record::Key;

/// Rows of every table as text; the first column says which.
const ROWS: &str = "
    SELECT 'channel|' || id || '|' || name || '|' || maxseq || '||' FROM Channels WHERE NOT deleted
    UNION ALL SELECT 'client|' || id || '||||' FROM Clients
    UNION ALL SELECT 'message|' || id || '|' || seq || '|' || size || '|' || timestamp || '|' || encode(data, 'hex')
        FROM Messages WHERE id IN (SELECT id FROM Channels WHERE NOT deleted)
    UNION ALL SELECT 'subscription|' || id || '|' || subid || '|' || lastsent || '|' || encode(proto, 'hex') || '|'
        FROM Subscriptions WHERE NOT deleted AND id IN (SELECT id FROM Channels WHERE NOT deleted)
    UNION ALL (SELECT 'pending|' || subid || '|' || seq || '|' || lastsent || '|'
            || coalesce(convert_from(pending, 'UTF8'), '') || '|' || coalesce(convert_from(acks, 'UTF8'), '')
        FROM SubsPending ORDER BY subid, row)";

/// A row of `Messages`.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) size: u64,
    /// What the client has sent; or what is wrong with the row.
    pub(crate) payload: Result<String, String>,
}

/// A row of `Channels` that is not deleted, and its messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) max_seq: u64,
    pub(crate) messages: BTreeMap<u64, Stored>,
}

impl Kept {
    /// The lowest sequence, if there is one.
    pub(crate) fn first(&self) -> Option<u64> {
        self.messages.keys().next().copied()
    }

    /// The highest sequence, 0 without messages.
    pub(crate) fn last(&self) -> u64 {
        self.messages.keys().next_back().copied().unwrap_or(0)
    }
}

/// Where a subscription stands; members of a group together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    pub(crate) last_sent: u64,
    pub(crate) pending: BTreeSet<u64>,
    /// Those of them that nats-streaming-server takes for acknowledged, because within a row it reads acknowledgements
    /// last. It writes such rows when a message goes from a member to another and back before a flush.
    pub(crate) misread: BTreeSet<u64>,
    /// Those of them whose row has acknowledgements too. When all that is pending in such a row is acknowledged before
    /// the next flush, nats-streaming-server forgets these acknowledgements and leaves the row.
    pub(crate) clinging: BTreeSet<u64>,
}

/// All tables at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) clients: BTreeSet<String>,
    /// By name.
    pub(crate) channels: BTreeMap<String, Kept>,
    pub(crate) positions: BTreeMap<Key, Position>,
    /// What cannot be, such as two channels of one name.
    pub(crate) oddities: Vec<String>,
}

/// Rows of the tables that belong to rows of others, as text.
#[derive(Debug, Default)]
struct Rows<'a> {
    /// Names of channels by id.
    names: BTreeMap<&'a str, &'a str>,
    /// Channel, sequence, size, timestamp, data.
    messages: Vec<[&'a str; 5]>,
    /// Channel, number, last sent, record.
    subscriptions: Vec<[&'a str; 4]>,
    /// Subscription, sequence, last sent, pending, acknowledged; by subscription and row.
    pending: Vec<[&'a str; 5]>,
}

/// Reads them.
///
/// # Errors
/// The database does not answer, or holds what makes no sense.
pub(crate) fn read(postgres: &PostgresServer, source: &str) -> anyhow::Result<Tables> {
    let text = postgres.run(source, ROWS)?;
    let mut tables = Tables::default();
    let mut rows = Rows::default();
    // The parts of a union come in any order.
    for line in text.lines() {
        let columns: Vec<&str> = line.split('|').collect();
        match columns[..] {
            ["channel", id, name, max_seq, ..] => {
                rows.names.insert(id, name);
                tables.add_channel(id, name, max_seq.parse()?);
            }
            ["client", id, ..] => {
                tables.clients.insert(id.to_owned());
            }
            ["message", id, sequence, size, stamp, data] => {
                rows.messages.push([id, sequence, size, stamp, data]);
            }
            ["subscription", id, subid, last_sent, proto, _] => {
                rows.subscriptions.push([id, subid, last_sent, proto]);
            }
            ["pending", subid, sequence, last_sent, open, acks] => {
                rows.pending.push([subid, sequence, last_sent, open, acks]);
            }
            _ => anyhow::bail!("a strange row: {line:?}"),
        }
    }
    tables.add_messages(&rows)?;
    let keys = tables.add_subscriptions(&rows)?;
    add_pending(&mut tables, &keys, &rows.pending)?;
    Ok(tables)
}

impl Tables {
    fn add_channel(&mut self, id: &str, name: &str, max_seq: u64) {
        let kept = Kept {
            id: id.to_owned(),
            max_seq,
            messages: BTreeMap::new(),
        };
        if self.channels.insert(name.to_owned(), kept).is_some() {
            self.oddities
                .push(format!("two rows of the channel {name}"));
        }
    }

    fn add_messages(&mut self, rows: &Rows<'_>) -> anyhow::Result<()> {
        for [id, sequence, size, stamp, data] in &rows.messages {
            let name = rows.names.get(id).context("a message without a channel")?;
            let sequence = sequence.parse()?;
            let stored = stored(name, sequence, size.parse()?, stamp.parse()?, &unhex(data)?);
            let kept = self.channels.get_mut(*name).context("a channel")?;
            kept.messages.insert(sequence, stored);
        }
        Ok(())
    }

    /// Returns the subscriptions by number.
    fn add_subscriptions<'a>(&mut self, rows: &Rows<'a>) -> anyhow::Result<BTreeMap<&'a str, Key>> {
        let mut keys = BTreeMap::new();
        for [id, subid, last_sent, proto] in &rows.subscriptions {
            let state =
                SubState::decode(&*unhex(proto)?).context("a row that is no subscription")?;
            let name = rows
                .names
                .get(id)
                .context("a subscription without a channel")?;
            let key = key((*name).to_owned(), &state);
            let position = self.positions.entry(key.clone()).or_default();
            let highest = last_sent.parse::<u64>()?.max(state.last_sent);
            position.last_sent = position.last_sent.max(highest);
            keys.insert(*subid, key);
        }
        Ok(keys)
    }
}

/// In the tables' words: `<durable>:<group>` is a durable group, and a client id has no colon.
fn key(channel: String, state: &SubState) -> Key {
    let name = [&state.q_group, &state.durable_name, &state.client_id]
        .into_iter()
        .find(|name| !name.is_empty());
    Key {
        channel,
        name: name.cloned().unwrap_or_default(),
    }
}

fn stored(channel: &str, sequence: u64, size: u64, timestamp: i64, data: &[u8]) -> Stored {
    let length = data.len();
    let payload = match MsgProto::decode(data) {
        Err(error) => Err(format!("not decodable: {error}")),
        Ok(message)
            if message.sequence != sequence
                || message.timestamp != timestamp
                || message.subject != channel =>
        {
            Err(format!("holds another message: {message:?}"))
        }
        Ok(_) if size != length as u64 => Err(format!("size {size} instead of {length}")),
        Ok(message) => Ok(String::from_utf8_lossy(&message.data).into_owned()),
    };
    Stored { size, payload }
}

/// Strictly by ascending row; within one, acknowledgements first. Each member of a group by itself: a message that
/// moves from one to another is acknowledged here and pending there.
fn add_pending(
    tables: &mut Tables,
    keys: &BTreeMap<&str, Key>,
    rows: &[[&str; 5]],
) -> anyhow::Result<()> {
    let mut of_member: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut as_misread: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for &[subid, sequence, last_sent, open, acks] in rows {
        // What deleted subscriptions leave behind is nobody's.
        let Some(key) = keys.get(subid) else { continue };
        let position = tables.positions.entry(key.clone()).or_default();
        let sequence: u64 = sequence.parse()?;
        let highest = last_sent.parse::<u64>()?.max(sequence);
        position.last_sent = position.last_sent.max(highest);
        let own = of_member.entry(subid).or_default();
        let misread = as_misread.entry(subid).or_default();
        if sequence > 0 {
            own.insert(sequence);
            misread.insert(sequence);
            continue;
        }
        let (open, acks) = (sequences(open)?, sequences(acks)?);
        own.retain(|sequence| !acks.contains(sequence));
        own.extend(&open);
        misread.extend(&open);
        misread.retain(|sequence| !acks.contains(sequence));
        if !acks.is_empty() {
            position.clinging.extend(open);
        }
    }
    for (subid, own) in of_member {
        let position = tables.positions.entry(keys[subid].clone()).or_default();
        let misread = own.difference(&as_misread[subid]);
        position.misread.extend(misread);
        position.pending.extend(own);
    }
    Ok(())
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    bytes.context("bytes as hexadecimal digits")
}

fn sequences(text: &str) -> anyhow::Result<Vec<u64>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let listed: Option<Vec<u64>> = serde_json::from_str(text).context("a list of sequences")?;
    Ok(listed.unwrap_or_default())
}
