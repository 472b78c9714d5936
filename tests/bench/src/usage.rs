//! What processes use, as the kernel counts it, and how much of the machine others took meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Fields of /proc/PID/stat after the program's name, see proc(5): utime, stime, cutime, cstime.
const UTIME: usize = 11;
const STIME: usize = 12;
const CUTIME: usize = 13;
const CSTIME: usize = 14;

/// User and system time of a process in ticks, and of its children that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    own: u64,
    children: u64,
}

fn parse_ticks(stat: &str) -> Option<Ticks> {
    // The name stands in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Ticks {
        own: field(UTIME)? + field(STIME)?,
        children: field(CUTIME)? + field(CSTIME)?,
    })
}

fn ticks(process: &str) -> anyhow::Result<Ticks> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    parse_ticks(&stat).with_context(|| format!("{path} is not as proc(5) says"))
}

/// Of all processors, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Machine {
    busy: u64,
    all: u64,
}

/// First line of /proc/stat. Stolen time counts as busy: it is others' work as well. Guests are part of user already.
fn parse_machine(stat: &str) -> Option<Machine> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map(|field| field.parse().ok())
        .collect::<Option<_>>()?;
    let all = fields.iter().sum();
    let waiting = fields.get(3)? + fields.get(4)?;
    Some(Machine {
        busy: all - waiting,
        all,
    })
}

fn machine() -> anyhow::Result<Machine> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    parse_machine(&stat).context("/proc/stat is not as proc(5) says")
}

/// What was used between `Meter::start` and `Meter::stop`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Wall clock.
    pub(crate) took: Duration,
    /// Processor time of the server, seconds.
    pub(crate) cpu_seconds: f64,
    /// The same of this process: a load that needs more than the server may be what is measured.
    pub(crate) load_cpu_seconds: f64,
    /// The same of all processes of the database, where there is one.
    pub(crate) database_cpu_seconds: f64,
    /// Part of the machine that none of these used. Ticks can make it a little negative.
    pub(crate) foreign: f64,
}

/// Reads the kernel's counters at both ends of a pass.
#[derive(Debug)]
pub(crate) struct Meter {
    server: Option<u32>,
    server_before: u64,
    database: Option<u32>,
    database_before: u64,
    ours_before: Ticks,
    machine_before: Machine,
    began: Instant,
}

impl Meter {
    /// With no server the children that end meanwhile count as ours.
    ///
    /// # Errors
    /// When /proc cannot be read: the server has ended.
    pub(crate) fn start(server: Option<u32>) -> anyhow::Result<Self> {
        Self::with_database(server, None)
    }

    /// The same, and the database by the process whose children all others of it are.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn with_database(
        server: Option<u32>,
        database: Option<u32>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            server,
            server_before: server_ticks(server)?,
            database,
            database_before: family_ticks(database)?,
            ours_before: ticks("self")?,
            machine_before: machine()?,
            began: Instant::now(),
        })
    }

    /// # Errors
    /// When the server has ended.
    pub(crate) fn stop(&self) -> anyhow::Result<Usage> {
        let took = self.began.elapsed();
        let (machine, ours) = (machine()?, ticks("self")?);
        let server = server_ticks(self.server)? - self.server_before;
        let load = ours.own - self.ours_before.own;
        // A process that ends between two looks at it and at its parent is missing in one of them.
        let database = family_ticks(self.database)?.saturating_sub(self.database_before);
        let mut known = server + load + database;
        if self.server.is_none() {
            known += ours.children - self.ours_before.children;
        }
        let busy = machine.busy - self.machine_before.busy;
        let all = (machine.all - self.machine_before.all).max(1);
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        Ok(Usage {
            took,
            cpu_seconds: seconds(server),
            load_cpu_seconds: seconds(load),
            database_cpu_seconds: seconds(database),
            foreign: (busy as f64 - known as f64) / all as f64,
        })
    }
}

fn server_ticks(server: Option<u32>) -> anyhow::Result<u64> {
    Ok(match server {
        Some(pid) => ticks(&pid.to_string())?.own,
        None => 0,
    })
}

/// Of a process, its children and those of them that have ended.
fn family_ticks(parent: Option<u32>) -> anyhow::Result<u64> {
    let Some(parent) = parent else {
        return Ok(0);
    };
    let own = ticks(&parent.to_string())?;
    let children = children(parent)?;
    let living = children
        .iter()
        .filter_map(|pid| ticks(&pid.to_string()).ok());
    Ok(own.own + own.children + living.map(|ticks| ticks.own).sum::<u64>())
}

fn children(parent: u32) -> anyhow::Result<Vec<u32>> {
    let processes = fs::read_dir("/proc").context("reading /proc")?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| parse_parent(&stat) == Some(parent))
    };
    Ok(pids.filter(is_child).collect())
}

fn parse_parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// Memory of a process and its children: shared pages once, bytes.
///
/// # Errors
/// When the process has ended.
pub(crate) fn family_memory(parent: u32) -> anyhow::Result<u64> {
    let children = children(parent)?;
    let living = children.iter().filter_map(|pid| memory(*pid).ok());
    Ok(memory(parent)?.proportional + living.map(|memory| memory.proportional).sum::<u64>())
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All resident pages, shared ones too.
    pub(crate) resident: u64,
    /// Resident pages, each divided by the number of processes that share it.
    pub(crate) proportional: u64,
}

/// Value of a line such as `Rss:    1234 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim().strip_suffix(" kB")?;
    Some(number.trim().parse::<u64>().ok()? * 1024)
}

/// # Errors
/// When the process has ended.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = |name: &str| kibibytes(&text, name).with_context(|| format!("no {name} in {path}"));
    Ok(Memory {
        resident: field("Rss:")?,
        proportional: field("Pss:")?,
    })
}

/// Raises the limit of descriptors to what is allowed, for this process and the servers that it starts.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn allow_many_connections() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raising the limit of descriptors")
}

/// This thread, and all threads and processes it starts, on one processor; as before when dropped.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn to_one_core() -> anyhow::Result<Self> {
        Self::to_core(0)
    }

    /// On another processor for every `number`, as long as there are so many.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn to_core(number: usize) -> anyhow::Result<Self> {
        let before = sched_getaffinity(None).context("asking for the processors")?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu));
        let count = allowed.clone().count().max(1);
        let mut one = CpuSet::new();
        one.set(
            allowed
                .nth(number % count)
                .context("no processor to run on")?,
        );
        sched_setaffinity(None, &one).context("staying on one processor")?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The set was in force a moment ago.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 1 0 9 1 2 3";
        let ticks = parse_ticks(stat).unwrap();
        assert_eq!((ticks.own, ticks.children), (110, 15));
        assert_eq!(parse_ticks("7 (short) S 1"), None);
    }

    #[test]
    fn a_child_belongs_to_the_family_of_its_parent() {
        let stat = "7 (a ) b) S 42 7 7 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 1 0 9 1 2 3";
        assert_eq!(parse_parent(stat), Some(42));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let children = children(std::process::id()).unwrap();
        child.kill().unwrap();
        assert!(children.contains(&child.id()));
        child.wait().unwrap();
    }

    #[test]
    fn waiting_for_the_disk_is_idle_and_stolen_time_is_not() {
        let machine = parse_machine("cpu  10 20 30 400 50 6 7 8 9 10\ncpu0 1 2\n").unwrap();
        assert_eq!((machine.busy, machine.all), (81, 531));
    }

    #[test]
    fn a_meter_counts_its_own_process_as_no_stranger() {
        let meter = Meter::start(Some(std::process::id())).unwrap();
        let usage = meter.stop().unwrap();
        assert!(usage.cpu_seconds >= 0.0 && usage.foreign <= 1.0);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(
            kibibytes("Rss:            1234 kB\nPss: 7 kB\n", "Pss:"),
            Some(7 * 1024)
        );
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident >= memory.proportional && memory.proportional > 0);
    }
}
