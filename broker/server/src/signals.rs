//! Both ends of a signal. Here is `--signal SIG[=TARGET]`, which tells a running server of this program
//! what to do, and ends; `orders` is what the running server makes of it.
//!
//! Targets are those of nats-server (`server/signal.go`): a process id, the path of a pid file, the
//! beginning of process ids followed by `*`, or nothing for the only server that runs.

mod orders;

use std::{fs, io, path::Path};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getpid, kill_process},
};

pub(crate) use self::orders::{Order, Orders};
use crate::config::{SignalAction, SignalRequest};

/// No process was told. Wording of nats-server, on one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignalError {
    /// Neither a number nor a file with one.
    #[error("invalid pid: {0}")]
    InvalidPid(String),
    #[error("no {0} processes running")]
    NoneRunning(String),
    /// The operator has to say which.
    #[error("multiple {program} processes running: {}", list(pids))]
    Several { program: String, pids: Vec<Pid> },
    /// The list of processes cannot be read.
    #[error("unable to resolve pid, try providing one")]
    Unlisted(#[source] io::Error),
    /// One for each process that was not told; the others were.
    #[error("{}", .0.join("; "))]
    NotTaken(Vec<String>),
}

/// Sends the signal.
///
/// # Errors
/// See [`SignalError`].
pub(crate) fn send(request: &SignalRequest) -> Result<(), SignalError> {
    let target = request.target.as_deref().unwrap_or_default();
    let (word, signal) = number(request.action);
    let program = program_of(getpid()).unwrap_or_default();
    let refused: Vec<_> = resolve(target, &program, running)?
        .into_iter()
        .filter_map(|pid| {
            let error = kill_process(pid, signal).err()?;
            let reason = reason(error);
            Some(format!("signal {word:?} {pid}: {reason}"))
        })
        .collect();
    if refused.is_empty() {
        Ok(())
    } else {
        Err(SignalError::NotTaken(refused))
    }
}

fn number(action: SignalAction) -> (&'static str, Signal) {
    match action {
        SignalAction::Stop => ("stop", Signal::KILL),
        SignalAction::Quit => ("quit", Signal::INT),
        SignalAction::Term => ("term", Signal::TERM),
        SignalAction::Reopen => ("reopen", Signal::USR1),
        SignalAction::Reload => ("reload", Signal::HUP),
        SignalAction::LameDuck => ("ldm", Signal::USR2),
    }
}

fn reason(error: Errno) -> String {
    match error {
        Errno::SRCH => "no such process".to_owned(),
        Errno::PERM => "operation not permitted".to_owned(),
        _ => error.to_string(),
    }
}

/// What the file says, if the target is the path of one; else the target.
fn read_pid_file(target: &str) -> String {
    match fs::read_to_string(target) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => target.to_owned(),
    }
}

/// The processes that are meant. `running` lists those of the program, this one excluded.
fn resolve(
    target: &str,
    program: &str,
    running: impl FnOnce(&str) -> io::Result<Vec<Pid>>,
) -> Result<Vec<Pid>, SignalError> {
    let text = read_pid_file(target);
    let (beginning, all) = match text.strip_suffix('*') {
        Some(beginning) => (beginning, true),
        None => (text.as_str(), false),
    };
    if !beginning.is_empty() {
        // The target, as what a file says may be anything, and long.
        let pid = parse(beginning).ok_or_else(|| SignalError::InvalidPid(target.to_owned()))?;
        if !all {
            return Ok(vec![pid]);
        }
    }
    let mut pids = running(program).map_err(SignalError::Unlisted)?;
    pids.retain(|pid| pid.to_string().starts_with(beginning));
    let program = program.to_owned();
    match pids.len() {
        0 => Err(SignalError::NoneRunning(program)),
        2.. if !all => Err(SignalError::Several { program, pids }),
        _ => Ok(pids),
    }
}

/// Only what names one process: zero and negative numbers mean groups of them to the system.
fn parse(text: &str) -> Option<Pid> {
    let number = text.parse().ok().filter(|number| *number > 0)?;
    Pid::from_raw(number)
}

/// Other processes of the program, as far as we may look at them; those of other users could not be
/// signalled either.
fn running(program: &str) -> io::Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = parse(&name.to_string_lossy()) else {
            continue;
        };
        if pid != getpid() && program_of(pid).is_some_and(|name| name == program) {
            pids.push(pid);
        }
    }
    pids.sort_by_key(|pid| pid.as_raw_nonzero());
    Ok(pids)
}

/// File name of the program that a process runs.
fn program_of(pid: Pid) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = Path::new(&path).file_name()?.to_string_lossy().into_owned();
    // The system's mark on a program that was replaced since the process began.
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
    Some(name.to_owned())
}

fn list(pids: &[Pid]) -> String {
    let pids: Vec<_> = pids.iter().map(Pid::to_string).collect();
    pids.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pids(numbers: &[i32]) -> Vec<Pid> {
        let pid = |number: &i32| Pid::from_raw(*number).unwrap();
        numbers.iter().map(pid).collect()
    }

    fn resolved(target: &str, running: &[i32]) -> Result<Vec<Pid>, String> {
        resolve(target, "broker", |_| Ok(pids(running))).map_err(|error| error.to_string())
    }

    #[test]
    fn a_number_is_taken_as_it_is() {
        assert_eq!(resolved("17", &[]), Ok(pids(&[17])));
    }

    #[test]
    fn without_a_target_the_only_server_is_meant() {
        assert_eq!(resolved("", &[17]), Ok(pids(&[17])));
        assert_eq!(
            resolved("", &[]),
            Err("no broker processes running".to_owned())
        );
        assert_eq!(
            resolved("", &[17, 18]),
            Err("multiple broker processes running: 17 18".to_owned())
        );
    }

    #[test]
    fn a_star_means_all_that_begin_like_this() {
        assert_eq!(resolved("*", &[17, 18]), Ok(pids(&[17, 18])));
        assert_eq!(resolved("17*", &[17, 18, 170]), Ok(pids(&[17, 170])));
        assert_eq!(
            resolved("3*", &[17]),
            Err("no broker processes running".to_owned())
        );
    }

    #[test]
    fn what_names_no_process_is_refused() {
        for target in ["x", "0", "-1", "1 2", "/no/such.pid", "99999999999", "x*"] {
            let error = resolved(target, &[17]).unwrap_err();
            assert_eq!(error, format!("invalid pid: {target}"));
        }
    }

    #[test]
    fn a_pid_file_stands_for_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.pid");
        fs::write(&path, "4711\n").unwrap();
        let target = path.to_string_lossy();
        assert_eq!(resolved(&target, &[]), Ok(pids(&[4711])));
        fs::write(&path, "no\nnumber").unwrap();
        assert_eq!(
            resolved(&target, &[]),
            Err(format!("invalid pid: {target}"))
        );
    }

    #[test]
    fn this_process_is_known_by_its_program_and_never_listed() {
        let program = program_of(getpid()).unwrap();
        let found = running(&program).unwrap();
        assert!(!found.contains(&getpid()), "{found:?}");
    }

    #[test]
    fn a_process_that_is_gone_is_reported_with_the_word() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = child.id();
        child.wait().unwrap();
        let request = SignalRequest {
            action: SignalAction::Reload,
            target: Some(gone.to_string()),
        };
        let error = send(&request).unwrap_err().to_string();
        assert_eq!(error, format!("signal \"reload\" {gone}: no such process"));
    }
}
