//! What is to be reached, in one table, and whether it was.

use serde::Serialize;

use crate::figures::Quantity;
use crate::results::{Measured, Party, Verdict};

/// Where a figure of ours has to lie.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// Ours divided by the reference's, or more.
    RatioAtLeast(f64),
    /// Ours divided by the reference's, or less.
    RatioAtMost(f64),
    /// Ours divided by that of another party, or more.
    OfAtLeast(Party, f64),
    /// Ours divided by that of another party, or less.
    OfAtMost(Party, f64),
    /// Ours alone, in the quantity's unit, or more.
    AtLeast(f64),
    /// Ours alone, in the quantity's unit, or less.
    AtMost(f64),
}

#[derive(Debug)]
struct Goal {
    /// Number in the list of goals.
    id: &'static str,
    /// Keys of the shapes that it holds for.
    shapes: &'static [&'static str],
    quantity: Quantity,
    bound: Bound,
}

const fn goal(
    id: &'static str,
    shapes: &'static [&'static str],
    quantity: Quantity,
    bound: Bound,
) -> Goal {
    Goal {
        id,
        shapes,
        quantity,
        bound,
    }
}

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// The core's shapes with at most 128 B; at 1 KiB the kernel's copying rules.
const SMALL: &[&str] = &["1:0-128", "1:1-16", "1:1-128", "1:10-128", "5:5-128"];
/// Streaming, many messages in flight, nothing delivered.
const PUBLISHING: &[&str] = &["stan:publish", "stan:channels"];
/// Streaming, wherever the work is more than waking up.
const STREAMING_BULK: &[&str] = &[
    "stan:publish",
    "stan:channels",
    "stan:replay",
    "stan:1:10",
    "stan:idle",
];
const STREAMING: &[&str] = &[
    "stan:one",
    "stan:publish",
    "stan:channels",
    "stan:replay",
    "stan:1:10",
    "stan:idle",
];

#[rustfmt::skip]
static GOALS: &[Goal] = {
    use Bound::{AtLeast, AtMost, OfAtLeast, OfAtMost, RatioAtLeast, RatioAtMost};
    use Party::{Floor, OursUnhindered, ReferenceByDefault};
    use Quantity::{
        BinarySize, ColdStart, FirstAck, IdleMemory, Memory, OfPingPongs, P50, P99, P999, PerConnection, PerCpuSecond, Rate,
    };
    &[
        goal("P1", &["sql:publish"], Rate, OfAtLeast(Floor, 0.85)),
        goal("P1", &["sql:publish"], Rate, RatioAtLeast(2.8)),
        goal("P1", &["sql:publish"], Rate, OfAtLeast(ReferenceByDefault, 20.0)),
        goal("P2", &["sql:1k"], Rate, OfAtLeast(Floor, 0.70)),
        goal("P2", &["sql:1k"], Rate, RatioAtLeast(2.3)),
        goal("P3", &["sql:channels"], Rate, OfAtLeast(Floor, 0.75)),
        goal("P3", &["sql:channels"], Rate, RatioAtLeast(8.0)),
        goal("P4", &["sql:one"], P50, OfAtMost(Floor, 1.1)),
        goal("P4", &["sql:one"], Rate, RatioAtLeast(1.7)),
        goal("P5", &["sql:open-50k"], P99, AtMost(0.003)),
        goal("P5", &["sql:open-50k"], P999, AtMost(0.010)),
        goal("P5", &["sql:open-5k"], P99, OfAtMost(Floor, 3.0)),
        goal("P6", &["sql:replay"], Rate, OfAtLeast(Floor, 0.70)),
        goal("P6", &["sql:replay"], Rate, RatioAtLeast(60.0)),
        goal("P6", &["sql:replay-1k"], Rate, AtLeast(400_000.0)),
        goal("P7", &["sql:limit"], Rate, OfAtLeast(OursUnhindered, 0.80)),
        goal("P7", &["sql:limit"], Rate, RatioAtLeast(40.0)),
        goal("P8", &["sql:start"], FirstAck, AtMost(0.3)),
        goal("P8", &["sql:start-30m"], FirstAck, OfAtMost(OursUnhindered, 1.5)),
        goal("P9", &["sql:far-2"], Rate, OfAtLeast(OursUnhindered, 0.90)),
        goal("P9", &["sql:far-10"], Rate, OfAtLeast(OursUnhindered, 0.65)),
        goal("P10", SMALL, Rate, RatioAtLeast(3.5)),
        goal("P10", SMALL, PerCpuSecond, RatioAtLeast(4.0)),
        goal("P10", &["1:1-1024"], Rate, RatioAtLeast(1.4)),
        goal("P10", &["1:1-1024"], PerCpuSecond, RatioAtLeast(1.8)),
        goal("P11", &["request"], P50, RatioAtMost(0.5)),
        goal("P11", &["request-pinned"], P50, RatioAtMost(0.85)),
        goal("P12", &["idle"], IdleMemory, AtMost(5.0 * MIB)),
        goal("P12", &["idle"], PerConnection, AtMost(2.0 * KIB)),
        goal("P12", &["idle"], Memory, AtMost(30.0 * MIB)),
        goal("P12", &["idle-tls"], PerConnection, AtMost(20.0 * KIB)),
        goal("P13", &["connect", "connect-tls"], Rate, RatioAtLeast(2.5)),
        goal("P13", &["connect-tls"], PerCpuSecond, RatioAtLeast(3.0)),
        goal("P14", &["tls:1:0-128"], Rate, RatioAtLeast(1.0)),
        goal("P14", &["tls:1:0-128"], PerCpuSecond, RatioAtLeast(1.3)),
        goal("P12", &["sql:1k"], Memory, AtMost(64.0 * MIB)),
        goal("P15", &["sql:publish"], PerCpuSecond, AtLeast(1_500_000.0)),
        goal("P15", &["sql:publish"], PerCpuSecond, RatioAtLeast(9.0)),
        goal("P16", &["size"], BinarySize, AtMost(8.0 * MIB)),
        goal("P16", &["start"], ColdStart, AtMost(0.020)),
        goal("P18", &["stan:one"], OfPingPongs, AtMost(1.25)),
        goal("P18", PUBLISHING, Rate, RatioAtLeast(3.5)),
        goal("P18", &["stan:replay"], Rate, RatioAtLeast(4.0)),
        goal("P18", STREAMING_BULK, PerCpuSecond, RatioAtLeast(4.0)),
        goal("P18", STREAMING, Memory, RatioAtMost(0.5)),
        goal("P19", &["file:publish"], Rate, OfAtLeast(Floor, 0.80)),
        goal("P19", &["file:publish"], Rate, RatioAtLeast(2.0)),
    ]
};

/// How a goal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Met,
    Missed,
}

/// The verdicts on one shape; the median decides.
pub(crate) fn judge(shape: &Measured) -> Vec<Verdict> {
    let of_shape = GOALS.iter().filter(|goal| goal.shapes.contains(&shape.key));
    of_shape.filter_map(|goal| verdict(goal, shape)).collect()
}

fn verdict(goal: &Goal, shape: &Measured) -> Option<Verdict> {
    let figure = shape.figure(goal.quantity)?;
    let show = |value| goal.quantity.show(value);
    let ratio_to = |party| figure.ratio_to(party).map(|ratio| ratio.median);
    let (met, wanted, seen) = match goal.bound {
        Bound::RatioAtLeast(least) => at_least(ratio_to(Party::Reference)?, least, ""),
        Bound::RatioAtMost(most) => at_most(ratio_to(Party::Reference)?, most, ""),
        Bound::OfAtLeast(party, least) => at_least(ratio_to(party)?, least, party.name()),
        Bound::OfAtMost(party, most) => at_most(ratio_to(party)?, most, party.name()),
        Bound::AtLeast(least) => {
            let value = figure.ours.median;
            (value >= least, format!(">= {}", show(least)), show(value))
        }
        Bound::AtMost(most) => {
            let value = figure.ours.median;
            (value <= most, format!("<= {}", show(most)), show(value))
        }
    };
    Some(Verdict {
        goal: goal.id,
        shape: shape.key,
        quantity: goal.quantity,
        wanted,
        seen,
        outcome: if met { Outcome::Met } else { Outcome::Missed },
    })
}

/// Whether a ratio is met, what was wanted and what was seen; `of` says what was divided by.
fn at_least(ratio: f64, least: f64, of: &str) -> (bool, String, String) {
    let wanted = format!(">= {least:.2}x {of}");
    let wanted = wanted.trim_end().to_owned();
    (ratio >= least, wanted, format!("{ratio:.2}x"))
}

fn at_most(ratio: f64, most: f64, of: &str) -> (bool, String, String) {
    let wanted = format!("<= {most:.2}x {of}");
    let wanted = wanted.trim_end().to_owned();
    (ratio <= most, wanted, format!("{ratio:.2}x"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::figures::Sample;
    use crate::results::Round;
    use crate::shapes::SHAPES;

    fn sample(quantity: Quantity, value: f64) -> Sample {
        let mut sample = Sample::default();
        sample.set(quantity, value);
        sample
    }

    fn outcome(key: &str, quantity: Quantity, ours: f64, reference: f64) -> Outcome {
        let shape = SHAPES.iter().find(|shape| shape.key == key).unwrap();
        let round = Round(BTreeMap::from([
            (Party::Ours, sample(quantity, ours)),
            (Party::Reference, sample(quantity, reference)),
        ]));
        judge(&Measured::new(shape, vec![round]))[0].outcome
    }

    #[test]
    fn every_goal_is_about_a_shape_that_is_measured() {
        for key in GOALS.iter().flat_map(|goal| goal.shapes) {
            assert!(SHAPES.iter().any(|shape| shape.key == *key), "{key}");
        }
    }

    #[test]
    fn a_ratio_on_the_bound_is_enough() {
        assert_eq!(outcome("1:1-128", Quantity::Rate, 3.5, 1.0), Outcome::Met);
        assert_eq!(
            outcome("1:1-128", Quantity::Rate, 3.4, 1.0),
            Outcome::Missed
        );
        assert_eq!(outcome("request", Quantity::P50, 0.5, 1.0), Outcome::Met);
        assert_eq!(outcome("request", Quantity::P50, 0.6, 1.0), Outcome::Missed);
    }

    #[test]
    fn a_goal_beside_the_floor_is_judged_where_the_floor_was_measured() {
        let shape = SHAPES
            .iter()
            .find(|shape| shape.key == "sql:limit")
            .unwrap();
        let mut round = Round(BTreeMap::from([
            (Party::Ours, sample(Quantity::Rate, 79.0)),
            (Party::Reference, sample(Quantity::Rate, 1.0)),
        ]));
        let verdicts = judge(&Measured::new(shape, vec![round.clone()]));
        assert_eq!(verdicts.len(), 1, "only the ratio to the reference");
        let unhindered = sample(Quantity::Rate, 100.0);
        round.0.insert(Party::OursUnhindered, unhindered);
        let verdicts = judge(&Measured::new(shape, vec![round]));
        assert_eq!(verdicts[0].outcome, Outcome::Missed);
        assert_eq!(verdicts[0].wanted, ">= 0.80x ours unhindered");
    }

    #[test]
    fn an_absolute_bound_ignores_the_reference() {
        assert_eq!(
            outcome("size", Quantity::BinarySize, 8.0 * MIB, 1.0),
            Outcome::Met
        );
        assert_eq!(
            outcome("size", Quantity::BinarySize, 9.0 * MIB, 90.0 * MIB),
            Outcome::Missed
        );
    }
}
