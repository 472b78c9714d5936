//! The order of things: every shape, round by round, all parties by turns, and again when it was loud.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::figures::{Quantity, Sample};
use crate::options::{Family, Options};
use crate::results::{MOST_FOREIGN, Measured, Party, Results, Round};
use crate::server::Contender;
use crate::shapes::{Arena, Shape};
use crate::store::{self, Site};
use crate::tls::Tls;
use crate::usage::Meter;

/// Tries of a round before it is given up.
const TRIES: u32 = 5;
/// A round begins when others used no more than `MOST_FOREIGN` for so long ...
const QUIET: Duration = Duration::from_millis(500);
/// ... or after so much waiting.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures `shapes` as the options say, with a line of progress for every sample.
///
/// # Errors
/// When a server fails or loses a message, or the machine does not become quiet.
pub(crate) fn measure(options: &Options, shapes: &[&'static Shape]) -> anyhow::Result<Results> {
    let certificates = tempfile::tempdir().context("making a directory for certificates")?;
    let tls = Tls::new(certificates.path())?;
    let mut families: Vec<Family> = shapes.iter().map(|shape| shape.family()).collect();
    families.dedup();
    let versions = versions(&families, options)?;
    println!("{} beside {}", versions.0, versions.1);

    // What a family needs runs no longer than it does, so that it disturbs no other.
    let mut turns: Option<Turns<'_>> = None;
    let mut measured = Vec::new();
    for shape in shapes {
        if turns.as_ref().map(|turns| turns.family) != Some(shape.family()) {
            drop(turns.take());
        }
        let turns = match &mut turns {
            Some(turns) => turns,
            none => none.insert(Turns::new(shape.family(), &tls, options)?),
        };
        println!("\n{}: {}", shape.key, shape.title);
        let rounds = if shape.is_constant() {
            1
        } else {
            options.rounds
        };
        let rounds = (1..=rounds)
            .map(|round| {
                turns
                    .quiet_round(shape, round)
                    .with_context(|| format!("{}, round {round}", shape.key))
            })
            .collect::<Result<_, _>>()?;
        measured.push(Measured::new(shape, rounds));
    }
    Ok(Results::new(versions, options.quick, measured))
}

/// Ours, and all that it is compared with; everything that a family needs is there.
fn versions(families: &[Family], options: &Options) -> anyhow::Result<(String, String)> {
    let (mut ours, mut references) = (String::new(), Vec::new());
    for family in families {
        let pair = pair(*family, options)?;
        ours = version(&pair.0)?;
        references.push(version(&pair.1)?);
        if *family == Family::Store {
            references.push(store::version()?);
        }
    }
    references.dedup();
    Ok((ours, references.join(" and ")))
}

/// Ours and the reference.
fn pair(family: Family, options: &Options) -> anyhow::Result<(Contender, Contender)> {
    let streaming = &options.streaming_reference;
    Ok(match family {
        Family::Core => (
            Contender::ours(&options.broker)?,
            Contender::reference(&options.reference)?,
        ),
        Family::Streaming | Family::Store => (
            Contender::our_streaming(&options.broker)?,
            Contender::streaming_reference(streaming)?,
        ),
    })
}

fn version(contender: &Contender) -> anyhow::Result<String> {
    let output = Command::new(&contender.program).arg("--version").output();
    let output = output.with_context(|| format!("asking {} for its version", contender.name))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // nats-streaming-server goes on with the version of the server inside of it.
    let own = text.split(',').next().unwrap_or_default();
    let version = own.split_whitespace().last();
    let version = version.with_context(|| format!("{} has no version", contender.name))?;
    Ok(format!("{} {version}", contender.name))
}

/// A family, and who takes turns in its shapes.
#[derive(Debug)]
struct Turns<'a> {
    family: Family,
    arena: Arena<'a>,
}

impl<'a> Turns<'a> {
    fn new(family: Family, tls: &'a Tls, options: &'a Options) -> anyhow::Result<Self> {
        let (ours, reference) = pair(family, options)?;
        let site = match family {
            Family::Store => Some(Site::new(options)?),
            Family::Core | Family::Streaming => None,
        };
        let arena = Arena {
            ours,
            reference,
            site,
            tls,
            options,
        };
        Ok(Self { family, arena })
    }

    /// One that counts.
    fn quiet_round(&self, shape: &Shape, number: u32) -> anyhow::Result<Round> {
        for _ in 0..TRIES {
            if !self.arena.options.allow_noise {
                wait_for_quiet()?;
            }
            let round = self.round(shape, number)?;
            if self.arena.options.allow_noise || round.foreign() <= MOST_FOREIGN {
                return Ok(round);
            }
            println!("  others used the machine: once more");
        }
        bail!("the machine is not quiet (--allow-noise keeps such rounds)");
    }

    /// Who begins changes, so that a machine that grows slower favours nobody.
    fn round(&self, shape: &Shape, number: u32) -> anyhow::Result<Round> {
        let mut parties = shape.parties().to_vec();
        if number.is_multiple_of(2) {
            parties.reverse();
        }
        let samples = parties
            .into_iter()
            .map(|party| Ok((party, self.sample(shape, number, party)?)));
        Ok(Round(samples.collect::<anyhow::Result<_>>()?))
    }

    fn sample(&self, shape: &Shape, number: u32, party: Party) -> anyhow::Result<Sample> {
        let name = match party {
            Party::Ours => self.arena.ours.name,
            Party::Reference => self.arena.reference.name,
            other => other.name(),
        };
        let sample = shape.measure(party, &self.arena);
        let sample = sample.with_context(|| name.to_owned())?;
        let rounds = self.arena.options.rounds;
        println!("  {number}/{rounds} {name:<21} {}", line(&sample));
        Ok(sample)
    }
}

/// Everything in a sample, for a person who waits.
fn line(sample: &Sample) -> String {
    let mut parts: Vec<String> = sample
        .values
        .iter()
        .filter(|(quantity, _)| **quantity != Quantity::ProportionalMemory)
        .map(|(quantity, value)| format!("{} {}", quantity.name(), quantity.show(*value)))
        .collect();
    if sample.seconds > 0.0 {
        let others = sample.foreign * 100.0;
        parts.push(format!("{:.1} s, others {others:.0} %", sample.seconds));
    }
    parts.join(", ")
}

fn wait_for_quiet() -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        let meter = Meter::start(None)?;
        std::thread::sleep(QUIET);
        if meter.stop()?.foreign <= MOST_FOREIGN {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(
                "others have used the machine for {PATIENCE:?} (--allow-noise measures nevertheless)"
            );
        }
        if !told {
            println!("  waiting until the machine is quiet");
            told = true;
        }
    }
}
