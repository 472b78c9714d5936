//! Sums over rounds.

use std::{collections::BTreeMap, fmt, time::Instant};

use crate::{
    plan::{Kind, Plan},
    record::Micros,
    round::Played,
};

/// What was played, by kinds of faults.
#[derive(Debug)]
pub(crate) struct Report {
    began: Instant,
    rows: BTreeMap<Kind, Row>,
    /// Brokers that lost the store while they could not notice, and those of them that acknowledged something afterwards.
    deposed: usize,
    talkative: usize,
    /// Seeds of rounds in which a rule was broken, or that could not be played to their end.
    pub(crate) broken: Vec<u64>,
}

#[derive(Debug, Default)]
struct Row {
    rounds: usize,
    acked: usize,
    deliveries: usize,
    takeovers: usize,
    cuts: usize,
    recoveries: Vec<Micros>,
    silences: Vec<Micros>,
}

impl Report {
    pub(crate) fn start() -> Self {
        Self {
            began: Instant::now(),
            rows: BTreeMap::new(),
            deposed: 0,
            talkative: 0,
            broken: Vec::new(),
        }
    }

    /// Rounds that were played to their end.
    pub(crate) fn rounds(&self) -> usize {
        self.rows.values().map(|row| row.rounds).sum()
    }

    pub(crate) fn add(&mut self, plan: &Plan, played: anyhow::Result<Played>) {
        let played = match played {
            Ok(played) => played,
            Err(error) => {
                println!("{plan}\n  {error:?}");
                self.broken.push(plan.seed);
                return;
            }
        };
        if !played.findings.is_empty() {
            println!("{plan}\n{}", played.findings);
            self.broken.push(plan.seed);
        }
        self.deposed += played.deposed;
        self.talkative += played.talkative;
        let row = self.rows.entry(plan.kind).or_default();
        row.rounds += 1;
        row.acked += played.acked;
        row.deliveries += played.deliveries;
        row.takeovers += played.takeovers;
        row.cuts += played.cuts;
        let healed = &played.healed;
        row.recoveries.extend(healed.iter().map(|one| one.recovery));
        row.silences
            .extend(healed.iter().filter_map(|one| one.takeover));
    }
}

impl Report {
    /// Whether deposed brokers acknowledge.
    ///
    /// One that was stopped in the very moment before it wrote an acknowledgement writes it when it goes on; nothing can
    /// prevent that, and the message is stored. A broker that does not ask whether the store is still its own does so
    /// in a third of all cases, since it is mostly a flush that a stop interrupts.
    pub(crate) fn deposed_are_talkative(&self) -> bool {
        are_talkative(self.talkative, self.deposed)
    }
}

fn are_talkative(talkative: usize, deposed: usize) -> bool {
    talkative >= 4 && talkative * 5 > deposed
}

impl Row {
    fn write(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, _, most] = millis(&self.recoveries);
        writeln!(
            f,
            "{name:<20} {:>6} {:>7} {:>9} {:>11} {:>10} {:>5} {half:>7} {most:>7}",
            self.rounds,
            self.recoveries.len(),
            self.acked,
            self.deliveries,
            self.takeovers,
            self.cuts,
        )
    }
}

/// What half of them, nine in ten, and all do not exceed, in milliseconds.
fn millis(times: &[Micros]) -> [Micros; 3] {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let at = |place: usize| times.get(place).map_or(0, |micros| micros / 1000);
    [at(last / 2), at(last * 9 / 10), at(last)]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>6} {:>7} {:>9} {:>11} {:>10} {:>5} {:>7} {:>7}",
            "", "rounds", "faults", "acked", "deliveries", "take-overs", "cuts", "p50 ms", "max ms"
        )?;
        let mut all = Row::default();
        for (kind, row) in &self.rows {
            row.write(&format!("{kind:?}"), f)?;
            all.rounds += row.rounds;
            all.acked += row.acked;
            all.deliveries += row.deliveries;
            all.takeovers += row.takeovers;
            all.cuts += row.cuts;
            all.recoveries.extend(&row.recoveries);
        }
        all.write("all", f)?;
        writeln!(
            f,
            "{} brokers went on after they had lost the store, {} of them acknowledged something",
            self.deposed, self.talkative
        )?;
        for (kind, row) in &self.rows {
            if !row.silences.is_empty() {
                let [half, most, all] = millis(&row.silences);
                writeln!(
                    f,
                    "{kind:?}: {} take-overs with no acknowledgement for {half} ms at p50, {most} at p90, {all} at most",
                    row.silences.len(),
                )?;
            }
        }
        let seconds = self.began.elapsed().as_secs();
        write!(
            f,
            "in {seconds} s; ms: from the end of a fault to the next acknowledgement"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_does_not_ask_is_told_from_one_that_was_unlucky() {
        assert!(!are_talkative(0, 0) && !are_talkative(1, 1) && !are_talkative(2, 20));
        assert!(are_talkative(7, 20));
    }
}
