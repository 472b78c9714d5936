//! Stanchion's webhook: mutating admission, the issuer of certificates, and the same injection offline.
//!
//! `inject`, `review`, `annotations` and `policy` are pure; everything that talks to somebody is around them and is
//! joined in [`serve`].

pub mod annotations;
mod authorities;
mod ca_bundle;
mod cache;
pub mod config;
pub mod documents;
pub mod facts;
pub mod inject;
mod issuer;
pub mod metrics;
pub mod names;
pub mod offline;
pub mod policy;
pub mod review;
pub mod serve;
pub mod tls;
mod trust;
mod wiring;

use std::process::ExitCode;

use anyhow::Context;

/// Serves until a signal asks to stop.
///
/// # Errors
/// When something that is needed at start cannot be had: an address, an authority, the API server.
pub fn serve(args: &config::ServeArgs) -> anyhow::Result<ExitCode> {
    args.check()?;
    deploy_runtime::init_logging(args.log_format, &args.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let stop = deploy_runtime::shutdown_on_signals()?;
        wiring::run(args, stop).await
    })?;
    Ok(ExitCode::SUCCESS)
}
