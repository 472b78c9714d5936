//! The log of a program that takes the place of nats-server: its line format, its file, and everything
//! about it that can be changed while the program runs.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::Context;
use time::{
    OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description,
};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    Registry,
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use super::{
    escape::{EscapedFields, Escaping},
    file::{LogFile, LogFileSettings, Rotated},
    parse,
};

/// An error with this target is the one that ends the program: `[FTL]`.
pub const FATAL: &str = "fatal";

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]/[month]/[day] [hour]:[minute]:[second].[subsecond digits:6]");

/// What is logged, where to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsLogSettings {
    /// A `tracing` directive list such as `info` or `info,broker_server=debug`.
    pub filter: String,
    /// None: standard error.
    pub file: Option<LogFileSettings>,
    /// Lines have a time stamp.
    pub time: bool,
    /// Time stamps are UTC and not local time.
    pub utc: bool,
}

/// Handle on the process-wide log; cheap to clone.
#[derive(Clone, Debug)]
pub struct NatsLog {
    filter: reload::Handle<Targets, Registry>,
    style: Arc<Style>,
    sink: Arc<Sink>,
}

impl NatsLog {
    /// Installs the process-wide subscriber. Panics go to standard error in any case.
    ///
    /// # Errors
    /// The filter does not parse, the file cannot be opened, or a subscriber has been installed before.
    pub fn install(settings: &NatsLogSettings) -> anyhow::Result<Self> {
        let (log, subscriber) = Self::build(settings)?;
        subscriber
            .try_init()
            .context("installing the logger")
            .map(|()| log)
    }

    fn build(
        settings: &NatsLogSettings,
    ) -> anyhow::Result<(Self, impl Subscriber + Send + Sync + 'static)> {
        let style = Arc::new(Style {
            pid: std::process::id(),
            time: AtomicBool::new(settings.time),
            utc: AtomicBool::new(settings.utc),
        });
        let sink = Arc::new(Sink {
            file: Mutex::new(open(settings.file.as_ref())?),
            style: Arc::clone(&style),
        });
        let (filter, handle) = reload::Layer::new(parse(&settings.filter)?);
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .fmt_fields(EscapedFields::default())
            .event_format(NatsFormat(Arc::clone(&style)))
            .with_writer(Arc::clone(&sink));
        let log = Self {
            filter: handle,
            style,
            sink,
        };
        Ok((log, tracing_subscriber::registry().with(filter).with(lines)))
    }

    /// Opens the log file anew, and says so in it: SIGUSR1. Without a file nothing but a line happens.
    ///
    /// # Errors
    /// The file cannot be opened; the old one is kept.
    pub fn reopen(&self) -> anyhow::Result<()> {
        let mut file = self.sink.file();
        let said = match &mut *file {
            Some(file) => {
                file.reopen().context("opening the log file again")?;
                "File log re-opened"
            }
            None => "File log re-open ignored, not a file logger",
        };
        let written = self.sink.say(&mut file, "INF", said);
        written.context("writing to the log")
    }

    /// Takes other settings, all or none of them.
    ///
    /// # Errors
    /// The filter does not parse or a file cannot be opened; everything stays as it was.
    pub fn change(&self, settings: &NatsLogSettings) -> anyhow::Result<()> {
        let filter = parse(&settings.filter)?;
        let file = open(settings.file.as_ref())?;
        self.filter
            .reload(filter)
            .context("changing what is logged")?;
        self.style.time.store(settings.time, Relaxed);
        self.style.utc.store(settings.utc, Relaxed);
        *self.sink.file() = file;
        Ok(())
    }
}

fn open(settings: Option<&LogFileSettings>) -> anyhow::Result<Option<LogFile>> {
    let open = |settings: &LogFileSettings| {
        LogFile::open(settings.clone())
            .with_context(|| format!("opening log file {}", settings.path.display()))
    };
    settings.map(open).transpose()
}

/// Where lines end up. Never logs through `tracing`, whose lines come through here.
#[derive(Debug)]
struct Sink {
    /// None: standard error. Held while a line is written.
    file: Mutex<Option<LogFile>>,
    style: Arc<Style>,
}

impl Sink {
    fn file(&self) -> MutexGuard<'_, Option<LogFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line about the log itself, for whoever holds the file.
    fn say(&self, file: &mut Option<LogFile>, tag: &str, text: &str) -> io::Result<()> {
        let mut line = String::new();
        let written = self
            .style
            .prefix(&mut line, tag)
            .and_then(|()| fmt::Write::write_str(&mut Escaping(&mut line), text));
        written.map_err(io::Error::other)?;
        line.push('\n');
        append(file, line.as_bytes())
    }

    fn rotate(&self, file: &mut Option<LogFile>) -> io::Result<()> {
        let Some(full) = file.as_mut().filter(|file| file.is_full()) else {
            return Ok(());
        };
        let Rotated { backup, purged } = match full.rotate(self.style.now()) {
            Ok(rotated) => rotated,
            Err(error) => {
                let text = format!(
                    "Unable to rotate the log file ({error}), will try again at twice the size"
                );
                return self.say(file, "ERR", &text);
            }
        };
        let text = format!("Rotated log, backup saved as {backup:?}");
        self.say(file, "INF", &text)?;
        for old in purged {
            let name = old.file_name().unwrap_or_default();
            self.say(file, "INF", &format!("Purged log file {name:?}"))?;
        }
        Ok(())
    }
}

fn append(file: &mut Option<LogFile>, lines: &[u8]) -> io::Result<()> {
    match file {
        Some(file) => file.append(lines),
        None => io::stderr().write_all(lines),
    }
}

impl Write for &Sink {
    /// Called once a line, with all of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut file = self.file();
        append(&mut file, line)?;
        self.rotate(&mut file)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a line begins.
#[derive(Debug)]
pub(super) struct Style {
    pid: u32,
    time: AtomicBool,
    utc: AtomicBool,
}

impl Style {
    /// With time stamps, which are UTC.
    pub(super) fn utc(pid: u32) -> Self {
        Self {
            pid,
            time: AtomicBool::new(true),
            utc: AtomicBool::new(true),
        }
    }

    fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        if self.utc.load(Relaxed) {
            return now;
        }
        // Asked for each line, since a process outlives changes of daylight saving; the system has
        // the zone in memory.
        now.to_offset(UtcOffset::local_offset_at(now).unwrap_or(UtcOffset::UTC))
    }

    fn prefix(&self, writer: &mut impl fmt::Write, tag: &str) -> fmt::Result {
        write!(writer, "[{}] ", self.pid)?;
        if self.time.load(Relaxed) {
            let now = self.now().format(TIME).map_err(|_| fmt::Error)?;
            write!(writer, "{now} ")?;
        }
        write!(writer, "[{tag}] ")
    }
}

/// The tags of nats-server; a warning is `WRN`, and there is nothing between debug and trace.
fn tag(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        Level::ERROR if metadata.target() == FATAL => "FTL",
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        Level::INFO => "INF",
        Level::DEBUG => "DBG",
        Level::TRACE => "TRC",
    }
}

/// `[pid] 2006/01/02 15:04:05.000000 [INF] text`.
#[derive(Debug)]
pub(super) struct NatsFormat(pub(super) Arc<Style>);

impl<S, N> FormatEvent<S, N> for NatsFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        self.0.prefix(&mut writer, tag(event.metadata()))?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests;
