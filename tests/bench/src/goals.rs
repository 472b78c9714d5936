//! What is to be reached, in one table, and whether it was.

use serde::Serialize;

use crate::figures::Quantity;
use crate::results::{Measured, Verdict};

/// Where a figure of ours has to lie.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// Ours divided by the reference's, or more.
    RatioAtLeast(f64),
    /// Ours divided by the reference's, or less.
    RatioAtMost(f64),
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
    use Bound::{AtMost, RatioAtLeast, RatioAtMost};
    use Quantity::{BinarySize, ColdStart, IdleMemory, Memory, OfPingPongs, P50, PerConnection, PerCpuSecond, Rate};
    &[
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
        goal("P16", &["size"], BinarySize, AtMost(8.0 * MIB)),
        goal("P16", &["start"], ColdStart, AtMost(0.020)),
        goal("P18", &["stan:one"], OfPingPongs, AtMost(1.25)),
        goal("P18", PUBLISHING, Rate, RatioAtLeast(3.5)),
        goal("P18", &["stan:replay"], Rate, RatioAtLeast(4.0)),
        goal("P18", STREAMING_BULK, PerCpuSecond, RatioAtLeast(4.0)),
        goal("P18", STREAMING, Memory, RatioAtMost(0.5)),
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
    let ratio = figure.ratio.map(|ratio| ratio.median);
    let show = |value| goal.quantity.show(value);
    let (met, wanted, seen) = match goal.bound {
        Bound::RatioAtLeast(least) => {
            let ratio = ratio?;
            (
                ratio >= least,
                format!(">= {least:.2}x"),
                format!("{ratio:.2}x"),
            )
        }
        Bound::RatioAtMost(most) => {
            let ratio = ratio?;
            (
                ratio <= most,
                format!("<= {most:.2}x"),
                format!("{ratio:.2}x"),
            )
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

#[cfg(test)]
mod tests {
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
        let round = Round {
            ours: sample(quantity, ours),
            reference: sample(quantity, reference),
        };
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
