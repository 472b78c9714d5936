//! Everything a run found out, as it is written to bench.json.

use serde::Serialize;

use crate::figures::{Quantity, Sample, Spread};
use crate::goals::{self, Outcome};
use crate::options::Family;
use crate::shapes::Shape;

/// Format of bench.json; grows when a reader would have to know.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    version: u32,
    /// Seconds since 1970.
    pub(crate) unix_time: i64,
    /// What `--version` of the servers says.
    pub(crate) ours: String,
    pub(crate) reference: String,
    /// Processors that this process may use.
    pub(crate) cores: usize,
    /// Short passes: the figures prove nothing.
    pub(crate) quick: bool,
    /// Rounds were kept though others used the machine.
    pub(crate) noisy: bool,
    pub(crate) shapes: Vec<Measured>,
    pub(crate) verdicts: Vec<Verdict>,
}

impl Results {
    pub(crate) fn new(versions: (String, String), quick: bool, shapes: Vec<Measured>) -> Self {
        let verdicts = shapes.iter().flat_map(goals::judge).collect();
        let cores = std::thread::available_parallelism();
        Self {
            version: VERSION,
            unix_time: time::OffsetDateTime::now_utc().unix_timestamp(),
            ours: versions.0,
            reference: versions.1,
            cores: cores.map_or(1, usize::from),
            quick,
            noisy: shapes.iter().any(Measured::is_noisy),
            shapes,
            verdicts,
        }
    }

    /// The verdicts on one shape.
    pub(crate) fn of(&self, shape: &Measured) -> impl Iterator<Item = &Verdict> {
        let key = shape.key;
        self.verdicts
            .iter()
            .filter(move |verdict| verdict.shape == key)
    }
}

/// Whether a goal was reached.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) goal: &'static str,
    pub(crate) shape: &'static str,
    pub(crate) quantity: Quantity,
    pub(crate) wanted: String,
    pub(crate) seen: String,
    pub(crate) outcome: Outcome,
}

/// Both servers, seconds apart.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) ours: Sample,
    pub(crate) reference: Sample,
}

impl Round {
    /// The larger part of the machine that others used.
    pub(crate) fn foreign(&self) -> f64 {
        self.ours.foreign.max(self.reference.foreign)
    }
}

/// One quantity over all rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) quantity: Quantity,
    pub(crate) ours: Spread,
    pub(crate) reference: Spread,
    /// Ours divided by the reference's, round by round; none where the reference has nothing to divide by.
    pub(crate) ratio: Option<Spread>,
}

/// One shape over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    family: Family,
    pub(crate) headline: Quantity,
    figures: Vec<Figure>,
    rounds: Vec<Round>,
}

/// Part of the machine that others may use in a round; more voids it.
pub(crate) const MOST_FOREIGN: f64 = 0.05;

impl Measured {
    pub(crate) fn new(shape: &Shape, rounds: Vec<Round>) -> Self {
        let quantities = rounds.first().map(|round| round.ours.values.keys());
        let quantities = quantities.into_iter().flatten().copied();
        let figures = quantities
            .filter_map(|quantity| figure(quantity, &rounds))
            .collect();
        Self {
            key: shape.key,
            title: shape.title,
            family: shape.family(),
            headline: shape.headline,
            figures,
            rounds,
        }
    }

    pub(crate) fn figure(&self, quantity: Quantity) -> Option<&Figure> {
        self.figures
            .iter()
            .find(|figure| figure.quantity == quantity)
    }

    fn is_noisy(&self) -> bool {
        self.rounds
            .iter()
            .any(|round| round.foreign() > MOST_FOREIGN)
    }
}

fn figure(quantity: Quantity, rounds: &[Round]) -> Option<Figure> {
    let pairs: Vec<(f64, f64)> = rounds
        .iter()
        .map(|round| {
            let ours = round.ours.values.get(&quantity)?;
            Some((*ours, *round.reference.values.get(&quantity)?))
        })
        .collect::<Option<_>>()?;
    let divisible = pairs.iter().all(|(_, reference)| *reference > 0.0);
    let ratios = pairs.iter().map(|(ours, reference)| ours / reference);
    Some(Figure {
        quantity,
        ours: Spread::of(pairs.iter().map(|pair| pair.0))?,
        reference: Spread::of(pairs.iter().map(|pair| pair.1))?,
        ratio: divisible.then(|| Spread::of(ratios)).flatten(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::SHAPES;

    fn round(ours: f64, reference: f64, foreign: f64) -> Round {
        let sample = |rate| {
            let mut sample = Sample {
                foreign,
                ..Sample::default()
            };
            sample.set(Quantity::Rate, rate);
            sample
        };
        Round {
            ours: sample(ours),
            reference: sample(reference),
        }
    }

    #[test]
    fn the_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians() {
        let rounds = vec![
            round(4.0, 1.0, 0.0),
            round(9.0, 3.0, 0.0),
            round(10.0, 2.0, 0.0),
        ];
        let measured = Measured::new(&SHAPES[0], rounds);
        let ratio = measured.figure(Quantity::Rate).unwrap().ratio.unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (4.0, 3.0, 5.0));
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let measured = Measured::new(&SHAPES[0], vec![round(4.0, 0.0, 0.0)]);
        assert!(measured.figure(Quantity::Rate).unwrap().ratio.is_none());
    }

    #[test]
    fn one_loud_round_makes_a_result_noisy() {
        let rounds = vec![round(1.0, 1.0, 0.0), round(1.0, 1.0, 0.06)];
        assert!(Measured::new(&SHAPES[0], rounds).is_noisy());
    }
}
