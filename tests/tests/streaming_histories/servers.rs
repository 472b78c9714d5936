//! A server under one profile, and many histories at a time played to it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use futures_util::future::join_all;
use tests::streaming_server::{Store, StreamingServer};

use crate::{history::History, play::Player, profiles::Profile, transcript::Seen};

/// Who is played to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// nats-streaming-server.
    Reference,
    /// stanchion-broker.
    Broker,
}

/// What is played in one go, and what the reference has said to it.
pub(crate) struct Play<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) history: &'a History,
    pub(crate) prefix: String,
    pub(crate) expected: Option<&'a [Seen]>,
}

/// A running server with an empty store.
#[derive(Debug)]
pub(crate) struct Server {
    server: StreamingServer,
}

impl Server {
    /// Starts one with everything it keeps in a folder of its own below `dir`, for so many histories if that
    /// makes a difference.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start(
        kind: Kind,
        dir: &Path,
        name: &str,
        profile: &Profile,
        histories: usize,
    ) -> anyhow::Result<Self> {
        let dir: PathBuf = dir.join(name);
        std::fs::create_dir(&dir).context("making the server's folder")?;
        let config = dir.join("streaming.conf");
        std::fs::write(&config, profile.config(histories)).context("writing the configuration")?;
        let store = if profile.files {
            Store::Files
        } else {
            Store::Memory
        };
        let server = match kind {
            Kind::Reference => StreamingServer::reference(&dir, &store)?,
            Kind::Broker => StreamingServer::broker(&dir, &store)?,
        };
        let config = ["-sc".to_owned(), config.display().to_string()];
        let mut server = server
            .with_flags(config)
            .with_flags(profile.flags.iter().copied());
        if profile.external {
            server = server.on_nats("nats-server")?;
        }
        server.start().await?;
        Ok(Self { server })
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    /// Plays histories side by side. They all wait for each other when they begin and before a restart.
    pub(crate) async fn play_together(
        &mut self,
        plays: &[Play<'_>],
    ) -> Vec<anyhow::Result<Vec<Seen>>> {
        let port = self.port();
        let mut players = join_all(plays.iter().map(|play| begin_one(port, play))).await;
        let segments = plays.iter().map(|play| play.history.segments().len());
        for number in 0..segments.max().unwrap_or(0) {
            if number > 0
                && let Err(error) = self.restart().await
            {
                let failed = plays.iter().map(|_| Err(anyhow::anyhow!("{error:#}")));
                return failed.collect();
            }
            let played = players.iter_mut().map(async |player| {
                let Ok(one) = player else { return };
                if let Err(error) = segment(one, number, port).await {
                    *player = Err(error);
                }
            });
            join_all(played).await;
        }
        let seen = players.into_iter().map(|player| player.map(|one| one.seen));
        seen.collect()
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        self.server.stop().await?;
        self.server.start().await
    }

    /// Fails when it runs no more, with its last lines.
    ///
    /// # Errors
    /// See above.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        self.server.check_alive()
    }
}

async fn begin_one<'a>(port: u16, play: &Play<'a>) -> anyhow::Result<Player<'a>> {
    let (prefix, channels) = (play.prefix.clone(), play.profile.channels());
    Player::begin(port, play.history, prefix, channels, play.expected).await
}

/// A history may have fewer restarts than others; its connection is not used any more then.
async fn segment(player: &mut Player<'_>, number: usize, port: u16) -> anyhow::Result<()> {
    let Some(segment) = player.history.segments().into_iter().nth(number) else {
        return Ok(());
    };
    if number > 0 {
        player.resume(port).await?;
    }
    player.play(segment).await
}

/// Plays one history without restarts.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn play(port: u16, play: Play<'_>) -> anyhow::Result<Vec<Seen>> {
    let steps = play.history.steps.len();
    let mut player = begin_one(port, &play).await?;
    player.play(0..steps).await?;
    player.finish().await
}
