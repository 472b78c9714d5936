//! What signals to the broker ask of it, by what it is doing already.

use std::process;

use deploy_runtime::{NatsLog, ProcessSignal, Signals, signals};

use crate::banner;

/// Exit code of a process that was asked twice to stop: whoever does so does not want to wait.
const IMPATIENT: i32 = 130;

/// What the rest of the program is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// End, with success.
    Stop,
    /// Send the clients away one by one, then end. Given once.
    LameDuck,
    /// Read the configuration again.
    Reload,
}

/// Receives signals, and reopens the log by itself.
#[derive(Debug)]
pub(crate) struct Orders {
    signals: Signals,
    log: NatsLog,
    phase: Phase,
}

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    LameDuck,
    Stopping,
}

/// What one signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Pass(Order),
    ReopenLog,
    Ignore,
    EndAtOnce,
}

impl Orders {
    /// Catches signals from now on. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// A handler cannot be installed.
    pub(crate) fn listen(log: NatsLog) -> anyhow::Result<Self> {
        Ok(Self {
            signals: signals()?,
            log,
            phase: Phase::Serving,
        })
    }

    /// Waits for the next order. Has to be waited for as long as the process lives, also while an
    /// order is carried out: a second request to stop ends the process in here, with code 130.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Order {
        loop {
            let signal = self.signals.recv().await;
            banner::trapped(signal);
            let (meaning, phase) = meaning(signal, self.phase);
            self.phase = phase;
            match meaning {
                Meaning::Pass(order) => return order,
                Meaning::ReopenLog => {
                    if let Err(error) = self.log.reopen() {
                        banner::error(&error);
                    }
                }
                Meaning::Ignore => {}
                Meaning::EndAtOnce => process::exit(IMPATIENT),
            }
        }
    }
}

/// As `server/signal.go` of nats-server, but a second request to stop is heard.
fn meaning(signal: ProcessSignal, phase: Phase) -> (Meaning, Phase) {
    match (signal, phase) {
        (ProcessSignal::User1, phase) => (Meaning::ReopenLog, phase),
        (ProcessSignal::Interrupt | ProcessSignal::Terminate, Phase::Serving)
        // Kubernetes sends SIGTERM when the hook that asked for lame duck mode has ended.
        | (ProcessSignal::Interrupt, Phase::LameDuck) => (Meaning::Pass(Order::Stop), Phase::Stopping),
        (ProcessSignal::Interrupt | ProcessSignal::Terminate, Phase::Stopping) => {
            (Meaning::EndAtOnce, Phase::Stopping)
        }
        (ProcessSignal::User2, Phase::Serving) => (Meaning::Pass(Order::LameDuck), Phase::LameDuck),
        (ProcessSignal::Hangup, Phase::Serving) => (Meaning::Pass(Order::Reload), phase),
        // Nothing is worth changing in a server that is about to go.
        (ProcessSignal::Terminate | ProcessSignal::User2 | ProcessSignal::Hangup, phase) => {
            (Meaning::Ignore, phase)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use ProcessSignal::{Hangup, Interrupt, Terminate, User1, User2};

    fn meanings(signals: &[ProcessSignal]) -> Vec<Meaning> {
        let mut phase = Phase::Serving;
        let mut next = |signal: &ProcessSignal| {
            let (meaning, then) = meaning(*signal, phase);
            phase = then;
            meaning
        };
        signals.iter().map(&mut next).collect()
    }

    #[test]
    fn either_request_to_stop_is_heard_and_a_second_one_ends_at_once() {
        let stop = Meaning::Pass(Order::Stop);
        for first in [Interrupt, Terminate] {
            for second in [Interrupt, Terminate] {
                assert_eq!(meanings(&[first, second]), [stop, Meaning::EndAtOnce]);
            }
        }
    }

    #[test]
    fn a_lame_duck_hears_an_interrupt_and_no_termination() {
        assert_eq!(
            meanings(&[User2, Terminate, User2, Hangup, Interrupt, Terminate]),
            [
                Meaning::Pass(Order::LameDuck),
                Meaning::Ignore,
                Meaning::Ignore,
                Meaning::Ignore,
                Meaning::Pass(Order::Stop),
                Meaning::EndAtOnce,
            ]
        );
    }

    #[test]
    fn the_log_is_reopened_at_any_time_and_reloads_come_in_any_number() {
        let reload = Meaning::Pass(Order::Reload);
        assert_eq!(
            meanings(&[Hangup, User1, Hangup, Terminate, User1]),
            [
                reload,
                Meaning::ReopenLog,
                reload,
                Meaning::Pass(Order::Stop),
                Meaning::ReopenLog,
            ]
        );
    }
}
