//! `stanchion-bench`: our broker and the NATS servers it replaces by turns on one machine, and the ratios between them.
//!
//! Absolute figures of a shared machine mean little, so everything is judged as a ratio of two runs that are seconds
//! apart. A run during which others used the processors is taken again.

mod client;
mod figures;
mod goals;
mod load;
mod options;
mod picture;
mod results;
mod rounds;
mod server;
mod shapes;
mod store;
mod streaming;
mod summary;
mod tls;
mod usage;

use std::fs;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use options::Options;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stanchion-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let shapes = options.shapes()?;
    if options.list {
        for shape in shapes {
            println!("{:<18} {}", shape.key, shape.title);
        }
        return Ok(());
    }
    fs::create_dir_all(&options.out)
        .with_context(|| format!("making the directory {}", options.out.display()))?;
    usage::allow_many_connections()?;
    let results = rounds::measure(options, &shapes)?;

    let document = options.out.join("bench.json");
    let text = serde_json::to_string_pretty(&results).context("writing the results as JSON")?;
    fs::write(&document, text + "\n").with_context(|| format!("writing {}", document.display()))?;
    let drawing = options.out.join("bench.svg");
    fs::write(&drawing, picture::draw(&results))
        .with_context(|| format!("writing {}", drawing.display()))?;
    print!("{}", summary::text(&results));
    println!("\n{}\n{}", document.display(), drawing.display());
    Ok(())
}
