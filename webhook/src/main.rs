//! `stanchion-webhook`: flags in, an exit code out.

use std::process::ExitCode;

use clap::Parser;
use webhook::config::{Cli, Command};
use webhook::offline;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Inject(args) => offline::inject(&args),
        Command::Serve(args) => webhook::serve(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stanchion-webhook: {error:#}");
            ExitCode::FAILURE
        }
    }
}
