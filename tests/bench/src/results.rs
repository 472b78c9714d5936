//! Everything a run found out, as it is written to bench.json.

use std::collections::BTreeMap;

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

/// Who is measured in a round. The order is that in which they take their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Party {
    Ours,
    /// What we replace, as fast as its settings let it be.
    Reference,
    /// The same as it is without settings.
    ReferenceByDefault,
    /// The same work in bare statements, without any server between the load and the database.
    Floor,
    /// Ours without what makes the shape hard: a limit, or a database far away.
    OursUnhindered,
}

impl Party {
    /// As a person calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Reference => "reference",
            Self::ReferenceByDefault => "reference by default",
            Self::Floor => "floor",
            Self::OursUnhindered => "ours unhindered",
        }
    }
}

/// All parties, seconds apart; ours and the reference are always among them.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Round(pub(crate) BTreeMap<Party, Sample>);

impl Round {
    /// The largest part of the machine that others used.
    pub(crate) fn foreign(&self) -> f64 {
        let foreign = self.0.values().map(|sample| sample.foreign);
        foreign.fold(f64::MIN, f64::max)
    }

    fn value(&self, party: Party, quantity: Quantity) -> Option<f64> {
        self.0.get(&party)?.values.get(&quantity).copied()
    }
}

/// One quantity over all rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) quantity: Quantity,
    pub(crate) ours: Spread,
    pub(crate) reference: Spread,
    /// Ours divided by the reference's, round by round; none where the reference has nothing to divide by.
    pub(crate) ratio: Option<Spread>,
    /// The same with others that took part.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) beside: BTreeMap<Party, Beside>,
}

/// Another party's value, and ours divided by it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Beside {
    pub(crate) value: Spread,
    pub(crate) ratio: Option<Spread>,
}

impl Figure {
    /// Ours divided by that of `party`.
    pub(crate) fn ratio_to(&self, party: Party) -> Option<Spread> {
        match party {
            Party::Ours => None,
            Party::Reference => self.ratio,
            other => self.beside.get(&other)?.ratio,
        }
    }
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
        let first = rounds.first().and_then(|round| round.0.get(&Party::Ours));
        let quantities = first.map(|ours| ours.values.keys());
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
    let reference = beside(Party::Reference, quantity, rounds)?;
    let ours = rounds
        .iter()
        .map(|round| round.value(Party::Ours, quantity))
        .collect::<Option<Vec<_>>>()?;
    let others = [
        Party::ReferenceByDefault,
        Party::Floor,
        Party::OursUnhindered,
    ];
    let others = others.map(|party| Some((party, beside(party, quantity, rounds)?)));
    Some(Figure {
        quantity,
        ours: Spread::of(ours)?,
        reference: reference.value,
        ratio: reference.ratio,
        beside: others.into_iter().flatten().collect(),
    })
}

/// `None` where the party did not take part, or does not know the quantity.
fn beside(party: Party, quantity: Quantity, rounds: &[Round]) -> Option<Beside> {
    let pairs: Vec<(f64, f64)> = rounds
        .iter()
        .map(|round| {
            let ours = round.value(Party::Ours, quantity)?;
            Some((ours, round.value(party, quantity)?))
        })
        .collect::<Option<_>>()?;
    let divisible = pairs.iter().all(|(_, other)| *other > 0.0);
    let ratios = pairs.iter().map(|(ours, other)| ours / other);
    Some(Beside {
        value: Spread::of(pairs.iter().map(|pair| pair.1))?,
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
        Round(BTreeMap::from([
            (Party::Ours, sample(ours)),
            (Party::Reference, sample(reference)),
        ]))
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
    fn others_are_compared_with_ours_where_they_took_part() {
        let mut rounds = vec![round(4.0, 1.0, 0.0)];
        let floor = rounds[0].0[&Party::Reference].clone();
        rounds[0].0.insert(Party::Floor, floor);
        let measured = Measured::new(&SHAPES[0], rounds);
        let figure = measured.figure(Quantity::Rate).unwrap();
        assert_eq!(figure.ratio_to(Party::Floor).unwrap().median, 4.0);
        assert_eq!(figure.ratio_to(Party::OursUnhindered), None);
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
