//! Logs go to standard error, one line an event, in one of three formats.

use std::{fmt, str::FromStr};

use anyhow::Context;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, target, message, fields.
    Text,
    /// One JSON object a line.
    Json,
    /// `[pid] 2006/01/02 15:04:05.000000 [INF] text`, as nats-server writes it (`logger/log.go`), so
    /// that log parsers made for it keep working. Times are UTC.
    Nats,
}

impl FromStr for LogFormat {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "nats" => Ok(Self::Nats),
            _ => anyhow::bail!("unknown log format {name:?}: expected text, json or nats"),
        }
    }
}

/// Installs the process-wide subscriber. `filter` is a `tracing` directive list such as `info` or
/// `info,broker_server=debug`.
///
/// # Errors
/// When `filter` does not parse, or when a subscriber has been installed before.
pub fn init_logging(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("invalid log filter {filter:?}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Nats => {
            let pid = std::process::id();
            builder.event_format(NatsFormat { pid }).try_init()
        }
    }
    .map_err(|error| anyhow::anyhow!("installing the logger: {error}"))
}

/// The line format of nats-server.
struct NatsFormat {
    pid: u32,
}

const NATS_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]/[month]/[day] [hour]:[minute]:[second].[subsecond digits:6]");

/// The tags of nats-server; a warning is `WRN`, and there is nothing between debug and trace.
fn nats_tag(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        Level::INFO => "INF",
        Level::DEBUG => "DBG",
        Level::TRACE => "TRC",
    }
}

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
        let now = OffsetDateTime::now_utc()
            .format(NATS_TIME)
            .map_err(|_| fmt::Error)?;
        write!(
            writer,
            "[{}] {now} [{}] ",
            self.pid,
            nats_tag(*event.metadata().level())
        )?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nats_format_has_pid_time_and_three_letter_level() {
        let buffer = Buffer::default();
        let sink = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(NatsFormat { pid: 7 })
            .with_writer(move || sink.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("Server is ready");
        });
        let line = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let (head, text) = line.split_once(" [WRN] ").unwrap();
        assert_eq!(text, "Server is ready\n");
        let time = head.strip_prefix("[7] ").unwrap();
        assert_eq!(time.len(), "2006/01/02 15:04:05.000000".len(), "{time}");
    }

    #[test]
    fn unknown_format_is_refused_by_name() {
        let error = "xml".parse::<LogFormat>().unwrap_err().to_string();
        assert!(error.contains("\"xml\""), "{error}");
    }
}
