//! Signals to this process, as values; what each means is decided by whoever receives them.

use std::{
    fmt,
    future::poll_fn,
    task::{Context as TaskContext, Poll},
};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A signal that a program can receive. Shown by the names that Go gives them, which nats-server
/// has in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSignal {
    /// SIGINT
    Interrupt,
    /// SIGTERM
    Terminate,
    /// SIGHUP
    Hangup,
    /// SIGUSR1
    User1,
    /// SIGUSR2
    User2,
}

impl fmt::Display for ProcessSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminated",
            Self::Hangup => "hangup",
            Self::User1 => "user defined signal 1",
            Self::User2 => "user defined signal 2",
        })
    }
}

impl ProcessSignal {
    fn kind(self) -> SignalKind {
        match self {
            Self::Interrupt => SignalKind::interrupt(),
            Self::Terminate => SignalKind::terminate(),
            Self::Hangup => SignalKind::hangup(),
            Self::User1 => SignalKind::user_defined1(),
            Self::User2 => SignalKind::user_defined2(),
        }
    }
}

/// The signals that this process has caught and nobody has looked at yet. Several of one kind may
/// count as one, as always with signals.
#[derive(Debug)]
pub struct Signals(Vec<(ProcessSignal, Signal)>);

/// Catches all of [`ProcessSignal`] from now on. Must be called inside a tokio runtime.
///
/// # Errors
/// When a handler cannot be installed.
pub fn signals() -> anyhow::Result<Signals> {
    use ProcessSignal::{Hangup, Interrupt, Terminate, User1, User2};
    Signals::catch(&[Interrupt, Terminate, Hangup, User1, User2])
}

impl Signals {
    fn catch(which: &[ProcessSignal]) -> anyhow::Result<Self> {
        let install = |which: &ProcessSignal| {
            let caught = signal(which.kind());
            caught
                .with_context(|| {
                    format!("installing the handler of signal {:?}", which.to_string())
                })
                .map(|caught| (*which, caught))
        };
        which
            .iter()
            .map(install)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Waits for the next one. Cancel-safe.
    pub async fn recv(&mut self) -> ProcessSignal {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut TaskContext<'_>) -> Poll<ProcessSignal> {
        for (which, caught) in &mut self.0 {
            if caught.poll_recv(context).is_ready() {
                return Poll::Ready(*which);
            }
        }
        Poll::Pending
    }
}

/// A token that is cancelled by the first SIGTERM or SIGINT. Other signals keep their usual effect.
///
/// A second signal ends the process at once with code 130: an operator who asks twice does not want
/// to wait for the drain. Must be called inside a tokio runtime; the listening task lives as long as
/// the process.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown_on_signals() -> anyhow::Result<CancellationToken> {
    let mut signals = Signals::catch(&[ProcessSignal::Terminate, ProcessSignal::Interrupt])?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let signal = signals.recv().await;
        tracing::info!(%signal, "asked to stop");
        stop.cancel();
        signals.recv().await;
        tracing::warn!("asked to stop a second time, ending at once");
        std::process::exit(130);
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn each_signal_is_told_from_the_others() {
        let mut signals = signals().unwrap();
        for (number, expected, name) in [
            (Number::USR1, ProcessSignal::User1, "user defined signal 1"),
            (Number::HUP, ProcessSignal::Hangup, "hangup"),
            (Number::TERM, ProcessSignal::Terminate, "terminated"),
            (Number::USR2, ProcessSignal::User2, "user defined signal 2"),
            (Number::INT, ProcessSignal::Interrupt, "interrupt"),
        ] {
            kill_process(getpid(), number).unwrap();
            let received = signals.recv().await;
            assert_eq!(received, expected);
            assert_eq!(received.to_string(), name);
        }
    }
}
