//! Flags to configuration to `run`; an error chain becomes one line and an exit code.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, error::ErrorKind};
use sidecar::config::{Cli, Command, Config};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&one_line(&error)),
    };
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    let Command::Run(args) = cli.command;
    let (format, filter) = args.logging();
    deploy_runtime::init_logging(format, filter)?;
    let config = Config::check(*args)?;
    // A few connections a day: one thread is enough, and keeps the sidecar small.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let token = deploy_runtime::shutdown_on_signals()?;
        let listener = TcpListener::bind(config.admin)
            .await
            .with_context(|| format!("binding the admin address {}", config.admin))?;
        sidecar::run(config, listener, token).await
    });
    // A blocking task may hang in a dead file system; nobody waits for it.
    runtime.shutdown_background();
    ended
}

/// clap explains over several lines, of which the first and those right below it say what is wrong.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim);
    said.collect::<Vec<_>>()
        .join(" ")
        .trim_start_matches("error: ")
        .to_owned()
}

fn fail(message: &str) -> ExitCode {
    eprintln!("stanchion-sidecar: {message}");
    ExitCode::FAILURE
}
