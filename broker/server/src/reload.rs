//! The configuration is read again while the broker runs: all of it is taken over, or nothing.

use std::sync::Arc;

use anyhow::Context;
use broker_core::streaming::EngineConfig;
use broker_store::postgres::Source;
use deploy_runtime::NatsLog;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    assemble::{self, LoadedTls},
    banner,
    config::{self, Command, Config},
    launch::Core,
    monitor::{Facts, Identity, Monitor},
    process_files::{self, Listeners, ProcessFiles},
};

/// Everything that follows the configuration.
#[derive(Debug)]
pub(crate) struct Reloader {
    /// In force.
    pub(crate) config: Config,
    pub(crate) tls: LoadedTls,
    pub(crate) log: NatsLog,
    pub(crate) files: ProcessFiles,
    pub(crate) listeners: Listeners,
    pub(crate) identity: Identity,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) tasks: TaskTracker,
    pub(crate) core_stop: CancellationToken,
    pub(crate) engine: watch::Sender<EngineConfig>,
    /// Where the database is, if there is one.
    pub(crate) source: Option<watch::Sender<Arc<Source>>>,
}

impl Reloader {
    /// Reads what the command line named at the start, and takes it over. The outcome is logged.
    pub(crate) fn reload(&mut self, core: &Core) {
        match self.try_reload(core) {
            Ok(()) => {
                let digest = self.config.files.first().map(|file| file.sha256.as_str());
                banner::reloaded(digest);
            }
            Err(error) => banner::reload_failed(&format_args!("{error:#}")),
        }
    }

    fn try_reload(&mut self, core: &Core) -> anyhow::Result<()> {
        let args: Vec<_> = std::env::args().skip(1).collect();
        let command = config::read(&args, &|name| std::env::var(name).ok())?;
        let Command::Run(new) = command else {
            anyhow::bail!("the command line no longer starts a server");
        };
        let changes = config::reload::compare(&self.config, &new).map_err(anyhow::Error::msg)?;
        let tls = self.tls.reload(&new)?;
        let began = tls.begun_since(&self.tls);
        let source = match new.store == self.config.store {
            true => None,
            false => assemble::source(&new.store)?,
        };
        // What can still fail comes before what others see.
        core.reload(assemble::core_config(&new, &tls))?;
        self.log
            .change(&process_files::log_settings(&new.log))
            .context("log")?;
        self.files.update(&new.process_files, &self.listeners)?;
        self.engine
            .send_replace(assemble::engine_config(&new, &self.identity.streaming_id));
        if let (Some(sender), Some(source)) = (&self.source, source) {
            sender.send_replace(source);
        }
        began.watch(&self.tasks, &self.core_stop);
        self.monitor
            .reloaded(Facts::new(&new, self.identity.clone()));
        self.tls = tls;
        self.config = *new;
        for change in changes {
            match self.config.external.is_some() && change.part.is_of_nats() {
                true => banner::reloaded_in_vain(&change.to_string()),
                false => banner::reloaded_setting(&change.to_string()),
            }
        }
        Ok(())
    }
}
