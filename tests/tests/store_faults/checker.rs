//! Whether a history and the tables behind it are what a broker may do. Pure: records in, findings out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use crate::{
    record::{Delivery, History, MessageId, Micros, Opening, Outcome, Turmoil},
    tables::{StoredMessage, Tables},
};

/// How far commit times and ours may be apart, together with what the clock may drift in a round.
const CLOCK_MARGIN: Micros = 100_000;

/// What a broker promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// An acknowledged message is in the table.
    AckedIsStored,
    /// It was acknowledged after its commit.
    AckedAfterCommit,
    /// A refused message is not in the table.
    RefusedIsNotStored,
    /// No message is refused: nothing is wrong with any, and a database that is away is waited for.
    NeverRefused,
    /// What is in the table was published, once.
    StoredOnce,
    /// Sequences run from 1, each given once, without holes.
    Sequences,
    /// Messages of one publisher stand in the order of publishing.
    PublisherOrder,
    /// Timestamps never go back.
    Timestamps,
    /// What is delivered stands in the table under its sequence.
    DeliveredIsStored,
    /// It was delivered after its commit.
    DeliveredAfterCommit,
    /// New messages come in their order.
    DeliveryOrder,
    /// Every durable gets, and acknowledges, everything that is stored.
    Complete,
    /// A message whose acknowledgement was settled is never delivered again, and not pending at the end.
    AckRemembered,
    /// A durable's position is not behind what it has settled.
    PositionRemembered,
    /// Every row was written by the owner of its time.
    OwnerWrites,
    /// After the storm one serves, never two, never none.
    OneServes,
    /// Nobody ends without being asked.
    StaysAlive,
    /// A client that answers heartbeats stays known.
    ClientsStayKnown,
}

/// How often a rule was broken, and the first time in words.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) times: usize,
    pub(crate) first: String,
}

/// Broken rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(pub(crate) BTreeMap<Rule, Finding>);

impl Findings {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, rule: Rule, what: impl FnOnce() -> String) {
        let known = self.0.entry(rule).or_insert_with(|| Finding {
            times: 0,
            first: what(),
        });
        known.times += 1;
    }

    fn expect(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, what);
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (rule, finding) in &self.0 {
            writeln!(
                f,
                "  {rule:?}, {} times, first: {}",
                finding.times, finding.first
            )?;
        }
        Ok(())
    }
}

/// Everything that is wrong.
pub(crate) fn check(history: &History, tables: &Tables) -> Findings {
    let mut findings = Findings::default();
    let check = Check {
        history,
        tables,
        by_sequence: tables
            .messages
            .iter()
            .map(|row| (row.sequence, row))
            .collect(),
    };
    check.rows(&mut findings);
    check.publishes(&mut findings);
    check.writers(&mut findings);
    check.deliveries(&mut findings);
    check.durables(&mut findings);
    check.service(&mut findings);
    findings
}

struct Check<'a> {
    history: &'a History,
    tables: &'a Tables,
    by_sequence: HashMap<u64, &'a StoredMessage>,
}

impl Check<'_> {
    fn rows(&self, findings: &mut Findings) {
        let sent: BTreeSet<MessageId> = self.history.publishes.iter().map(|one| one.id).collect();
        let mut seen = BTreeSet::new();
        let mut last_of: HashMap<usize, u64> = HashMap::new();
        let mut timestamp = i64::MIN;
        for (row, expected) in self.tables.messages.iter().zip(1..) {
            findings.expect(row.sequence == expected, Rule::Sequences, || {
                format!("{} where {expected} belongs", row.sequence)
            });
            findings.expect(row.timestamp >= timestamp, Rule::Timestamps, || {
                format!("sequence {} is older than the one before", row.sequence)
            });
            timestamp = row.timestamp;
            let Some(id) = row.id.filter(|id| sent.contains(id)) else {
                findings.add(Rule::StoredOnce, || {
                    format!(
                        "sequence {} was never published: {:?}",
                        row.sequence, row.id
                    )
                });
                continue;
            };
            findings.expect(seen.insert(id), Rule::StoredOnce, || {
                format!("message {id} again as sequence {}", row.sequence)
            });
            let last = last_of.entry(id.publisher).or_default();
            findings.expect(id.number >= *last, Rule::PublisherOrder, || {
                format!("sequence {}: message {id} after {last}", row.sequence)
            });
            *last = id.number.max(*last);
        }
    }

    fn publishes(&self, findings: &mut Findings) {
        let mut by_id: HashMap<MessageId, &StoredMessage> = HashMap::new();
        for row in &self.tables.messages {
            if let Some(id) = row.id {
                by_id.entry(id).or_insert(row);
            }
        }
        for publish in &self.history.publishes {
            let row = by_id.get(&publish.id);
            match (&publish.outcome, row) {
                (Some((_, Outcome::Acked)), None) => findings.add(Rule::AckedIsStored, || {
                    format!("message {} is missing", publish.id)
                }),
                (Some((at, Outcome::Acked)), Some(row)) => {
                    findings.expect(!self.is_before(*at, row), Rule::AckedAfterCommit, || {
                        let early = row.committed - at;
                        format!(
                            "message {} was acknowledged {early} us before its commit",
                            publish.id
                        )
                    });
                }
                (Some((_, Outcome::Refused(reason))), Some(row)) => {
                    findings.add(Rule::RefusedIsNotStored, || {
                        format!(
                            "message {} is sequence {}: {reason}",
                            publish.id, row.sequence
                        )
                    });
                }
                (Some((_, Outcome::Refused(reason))), None) => {
                    findings.add(Rule::NeverRefused, || {
                        format!("message {}: {reason}", publish.id)
                    });
                }
                (Some((_, Outcome::Unknown)) | None, _) => {}
            }
        }
    }

    /// A time of ours lies before a commit, for certain.
    fn is_before(&self, at: Micros, row: &StoredMessage) -> bool {
        self.history.clock_was_steady && at + CLOCK_MARGIN < row.committed
    }

    fn writers(&self, findings: &mut Findings) {
        if self.tables.terms.is_empty() {
            // A server that takes no lock.
            return;
        }
        for row in &self.tables.messages {
            let mut before = self.tables.terms.iter().rev();
            let term = before.find(|term| term.committed <= row.committed);
            let holder = term.and_then(|term| term.holder.as_deref());
            findings.expect(holder == Some(&row.written_by), Rule::OwnerWrites, || {
                let holder = holder.unwrap_or("nobody");
                format!(
                    "sequence {} was written by {} while {holder} owned the store",
                    row.sequence, row.written_by
                )
            });
        }
    }

    fn deliveries(&self, findings: &mut Findings) {
        let publishes = self.history.publishes.iter();
        let sent: HashMap<_, _> = publishes.map(|one| (one.id, one.sent)).collect();
        let mut newest: HashMap<usize, &Delivery> = HashMap::new();
        for delivery in &self.history.deliveries {
            let stored = self.by_sequence.get(&delivery.sequence);
            let is_stored = stored.is_some_and(|row| row.id.is_some() && row.id == delivery.id);
            findings.expect(is_stored, Rule::DeliveredIsStored, || {
                let held = stored.map(|row| row.id);
                format!("{delivery:?}, where the table holds {held:?}")
            });
            if let Some(row) = stored {
                let is_early = self.is_before(delivery.at, row);
                findings.expect(!is_early, Rule::DeliveredAfterCommit, || {
                    format!("{delivery:?}, committed at {}", row.committed)
                });
            }
            let sent = delivery.id.and_then(|id| sent.get(&id));
            findings.expect(
                sent.is_none_or(|sent| *sent <= delivery.at),
                Rule::DeliveredIsStored,
                || format!("{delivery:?}, published at {sent:?}"),
            );
            if delivery.redelivered {
                continue;
            }
            if let Some(before) = newest.insert(delivery.opening, delivery)
                && self.is_calm(before.at, delivery.at)
            {
                let ascends = before.sequence < delivery.sequence;
                findings.expect(ascends, Rule::DeliveryOrder, || {
                    format!("{delivery:?} after sequence {}", before.sequence)
                });
            }
        }
    }

    /// The same broker served all the time, and no connection to it broke.
    fn is_calm(&self, from: Micros, to: Micros) -> bool {
        let overlaps = |turmoil: &Turmoil| {
            turmoil.began <= to && turmoil.ended.is_none_or(|ended| ended >= from)
        };
        let changes = self.tables.terms.iter().map(|term| term.committed);
        let from_about = from - CLOCK_MARGIN;
        let to_about = to + CLOCK_MARGIN;
        !self.history.turmoils.iter().any(overlaps)
            && !changes
                .into_iter()
                .any(|at| (from_about..=to_about).contains(&at))
    }

    /// When a message was settled: acknowledged in an opening whose close the same broker answered, over the same
    /// connection. What was acknowledged was written down before the answer.
    fn settled(&self, delivery: &Delivery) -> Option<Micros> {
        let closed = self.opening(delivery).closed?;
        self.is_calm(delivery.acked?, closed).then_some(closed)
    }

    fn opening(&self, delivery: &Delivery) -> &Opening {
        &self.history.openings[delivery.opening]
    }

    fn durables(&self, findings: &mut Findings) {
        for (durable, name) in self.history.durables.iter().enumerate() {
            let own = || {
                let all = self.history.deliveries.iter();
                all.filter(move |delivery| self.opening(delivery).durable == durable)
            };
            let mut settled: BTreeMap<u64, Micros> = BTreeMap::new();
            for delivery in own() {
                if let Some(at) = self.settled(delivery) {
                    let first = settled.entry(delivery.sequence).or_insert(at);
                    *first = at.min(*first);
                }
            }
            for delivery in own() {
                let forgotten = settled
                    .get(&delivery.sequence)
                    .is_some_and(|at| self.opening(delivery).opened > *at);
                findings.expect(!forgotten, Rule::AckRemembered, || {
                    format!("{name} got again what it had acknowledged: {delivery:?}")
                });
            }
            let acked = self.history.acked_by(durable);
            for row in &self.tables.messages {
                findings.expect(acked.contains(&row.sequence), Rule::Complete, || {
                    format!("{name} never acknowledged sequence {}", row.sequence)
                });
            }
            self.position(name, &settled, findings);
        }
    }

    fn position(&self, name: &str, settled: &BTreeMap<u64, Micros>, findings: &mut Findings) {
        let Some((newest, _)) = settled.last_key_value() else {
            return;
        };
        let position = self.tables.positions.get(name).cloned().unwrap_or_default();
        findings.expect(
            position.last_sent >= *newest,
            Rule::PositionRemembered,
            || {
                let last_sent = position.last_sent;
                format!("{name} stands at {last_sent} and had settled {newest}")
            },
        );
        for pending in position
            .pending
            .iter()
            .filter(|one| settled.contains_key(one))
        {
            findings.add(Rule::AckRemembered, || {
                format!("{name} has sequence {pending} pending, which it had settled")
            });
        }
    }

    fn service(&self, findings: &mut Findings) {
        for census in &self.history.censuses {
            findings.expect(census.answers == 1, Rule::OneServes, || {
                format!("{} answered at {}", census.answers, census.at)
            });
        }
        for words in &self.history.deaths {
            findings.add(Rule::StaysAlive, || words.clone());
        }
        for words in &self.history.forgotten_clients {
            findings.add(Rule::ClientsStayKnown, || words.clone());
        }
    }
}

#[cfg(test)]
mod tests;
