//! `stanchion-broker store ...`: looks after what is stored, without serving it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use broker_core::durable::{RecoveredChannel, Sequence, StoredRange};
use broker_store::{
    Activation, SqliteStore, Store as _, StoreError,
    postgres::{
        Snapshot, Source,
        preconditions::{self, Finding},
    },
    verify::{self, BYTES_AT_ONCE, ChannelReport, ROWS_AT_ONCE},
};
use tokio::task::LocalSet;

use crate::{
    assemble,
    config::{Config, StoreKind, StoreTask},
};

/// Runs the task; success if nothing is wrong. What is found goes to standard output, line by line.
pub(crate) fn run(task: &StoreTask, config: &Config) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let is_well = LocalSet::new().block_on(&runtime, perform(task, config))?;
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn perform(task: &StoreTask, config: &Config) -> anyhow::Result<bool> {
    let source = assemble::source(&config.store)?;
    match (task, &config.store, source) {
        (StoreTask::Verify, StoreKind::Sql { .. }, Some(source)) => verify_database(&source).await,
        (StoreTask::Verify, StoreKind::File { dir }, _) => {
            verify_files(SqliteStore::new(dir)?).await
        }
        (StoreTask::Init { role }, _, Some(source)) => {
            preconditions::init(&source, role.as_deref()).await?;
            println!("all tables are there{}", role_text(role.as_deref()));
            Ok(true)
        }
        (StoreTask::Check, _, Some(source)) => {
            let cluster_id = &config.streaming.cluster_id;
            Ok(check(&source, cluster_id).await)
        }
        (StoreTask::Init { .. } | StoreTask::Check, StoreKind::File { .. }, _) => {
            bail!(
                "only a SQL store is made and checked beforehand; a FILE store is opened by a start"
            )
        }
        _ => bail!("no store is configured: give -store SQL or -store FILE as for a start"),
    }
}

fn role_text(role: Option<&str>) -> String {
    role.map_or_else(String::new, |role| {
        format!(", and role {role} may use them")
    })
}

async fn check(source: &Source, cluster_id: &str) -> bool {
    let mut is_well = true;
    preconditions::check(source, cluster_id, &mut |finding: Finding| {
        is_well &= !finding.is_bad();
        println!("{finding}");
    })
    .await;
    is_well
}

async fn verify_database(source: &Source) -> anyhow::Result<bool> {
    let snapshot = Snapshot::open(source).await?;
    let read = async |channel: &RecoveredChannel, from| {
        snapshot
            .read(channel.id, from, ROWS_AT_ONCE, BYTES_AT_ONCE)
            .await
    };
    verify_all(&snapshot.recovered.channels, read).await
}

async fn verify_files(store: SqliteStore) -> anyhow::Result<bool> {
    let recovered = match store.activate().await? {
        Activation::Active(recovered) => recovered,
        Activation::Standby { holder } => bail!("the store is in use by {holder}; stop it first"),
    };
    let read = async |channel: &RecoveredChannel, from| {
        store
            .read(channel.id, from, ROWS_AT_ONCE, BYTES_AT_ONCE)
            .await
    };
    let is_well = verify_all(&recovered.channels, read).await;
    store.close().await;
    is_well
}

async fn verify_all(
    channels: &[RecoveredChannel],
    read: impl AsyncFn(&RecoveredChannel, Sequence) -> Result<StoredRange, StoreError>,
) -> anyhow::Result<bool> {
    let mut is_well = true;
    for (place, channel) in channels.iter().enumerate() {
        let progress = |messages| tell_progress(place, channels.len(), &channel.name, messages);
        let of_channel = async |from| read(channel, from).await;
        let report = verify::channel(channel, of_channel, progress).await?;
        tell(&report);
        is_well &= !report.has_faults();
    }
    let (channels, verdict) = (
        channels.len(),
        if is_well { "nothing" } else { "something" },
    );
    println!("{channels} channels, {verdict} is wrong");
    Ok(is_well)
}

fn tell(report: &ChannelReport) {
    clear_progress();
    println!("{report}");
    for fault in &report.faults {
        println!("  {fault}");
    }
}

/// On a terminal only, in a line that the next one replaces.
fn tell_progress(place: usize, channels: usize, name: &str, messages: u64) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{}/{channels} {name}: {messages}", place + 1);
        let _ = io::stderr().flush();
    }
}

fn clear_progress() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}
