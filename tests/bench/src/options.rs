//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::shapes::{SHAPES, Shape};

/// How long the measured pass of a round is meant to last: processor time is counted in ticks of 10 ms.
const PASS: Duration = Duration::from_secs(2);
/// The same with `--quick`, which only shows that everything works.
const QUICK_PASS: Duration = Duration::from_millis(300);

/// What a shape is about, and so which server it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    /// A NATS server alone
    Core,
    /// NATS Streaming on the memory store
    Streaming,
    /// NATS Streaming on durable stores, with a PostgreSQL of the run's own
    Store,
}

/// Measures stanchion-broker and the servers it replaces by turns on this machine. Loopback only.
#[derive(Debug, Parser)]
#[command(name = "stanchion-bench", version)]
pub(crate) struct Options {
    /// Our broker, as users get it
    #[arg(long, default_value = "target/dist/stanchion-broker")]
    pub(crate) broker: PathBuf,
    /// What to compare core NATS with
    #[arg(long, default_value = "target/tools/bin/nats-server")]
    pub(crate) reference: PathBuf,
    /// What to compare streaming with
    #[arg(long, default_value = "target/tools/bin/nats-streaming-server")]
    pub(crate) streaming_reference: PathBuf,
    /// Only shapes of this family
    #[arg(long)]
    pub(crate) family: Option<Family>,
    /// Where the results go: bench.json, bench.svg and the logs of the servers
    #[arg(long, default_value = "target/bench")]
    pub(crate) out: PathBuf,
    /// Alternating rounds of every shape; fewer than five prove little
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Only shapes whose name begins so; may be given more than once. sql:start-30m must be named in full: it takes
    /// minutes and 15 GB of disk
    #[arg(long, value_name = "SHAPE")]
    pub(crate) only: Vec<String>,
    /// Short passes and few connections: shows that it works, not how fast it is
    #[arg(long)]
    pub(crate) quick: bool,
    /// Keep rounds in which others used more than 5 % of the machine
    #[arg(long)]
    pub(crate) allow_noise: bool,
    /// Name the shapes and end
    #[arg(long)]
    pub(crate) list: bool,
}

impl Options {
    /// The shapes that are asked for, in their own order.
    ///
    /// # Errors
    /// When `--only` fits none.
    pub(crate) fn shapes(&self) -> anyhow::Result<Vec<&'static Shape>> {
        let wanted = |shape: &&Shape| {
            let mut only = self.only.iter();
            let family = self.family.is_none_or(|family| shape.family() == family);
            let named = only.any(|start| match shape.is_large() {
                true => shape.key == start,
                false => shape.key.starts_with(start.as_str()),
            });
            family && (named || self.only.is_empty() && !shape.is_large())
        };
        let shapes: Vec<_> = SHAPES.iter().filter(wanted).collect();
        ensure!(
            !shapes.is_empty(),
            "no shape that is asked for begins with {}; --list names them",
            self.only.join(" or ")
        );
        Ok(shapes)
    }

    /// Aim for the length of a measured pass.
    pub(crate) fn pass(&self) -> Duration {
        if self.quick { QUICK_PASS } else { PASS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_takes_the_shapes_that_begin_so() {
        let options = Options::parse_from(["stanchion-bench", "--only", "1:1-"]);
        let shapes = options.shapes().unwrap();
        assert!(shapes.len() >= 3);
        assert!(shapes.iter().all(|shape| shape.key.starts_with("1:1-")));

        let options = Options::parse_from(["stanchion-bench", "--family", "streaming"]);
        let shapes = options.shapes().unwrap();
        assert!(shapes.len() >= 6);
        assert!(
            shapes
                .iter()
                .all(|shape| shape.family() == Family::Streaming)
        );

        let options = Options::parse_from(["stanchion-bench", "--only", "sql:start"]);
        assert_eq!(options.shapes().unwrap().len(), 1, "not the large one");
        let options = Options::parse_from(["stanchion-bench", "--only", "sql:start-30m"]);
        assert_eq!(options.shapes().unwrap().len(), 1);

        let options = Options::parse_from(["stanchion-bench", "--only", "nothing"]);
        assert!(options.shapes().is_err());
    }
}
