//! Logs go to standard error, one line an event, in one of three formats; the third can also go to a
//! file. No format lets logged text begin a line of its own.

mod escape;
mod file;
mod nats;

use std::{str::FromStr, sync::Arc};

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use self::{
    escape::EscapedFields,
    nats::{NatsFormat, Style},
};
pub use self::{
    file::LogFileSettings,
    nats::{FATAL, NatsLog, NatsLogSettings},
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
    let filter = parse(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder
            .fmt_fields(EscapedFields::default())
            .finish()
            .with(filter)
            .try_init(),
        // JSON has escapes of its own.
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .finish()
            .with(filter)
            .try_init(),
        LogFormat::Nats => {
            let style = Style::utc(std::process::id());
            builder
                .fmt_fields(EscapedFields::default())
                .event_format(NatsFormat(Arc::new(style)))
                .finish()
                .with(filter)
                .try_init()
        }
    }
    .map_err(|error| anyhow::anyhow!("installing the logger: {error}"))
}

/// Directives by target and level. (Those by span and field, which nobody here uses, would bring an
/// engine of regular expressions along.)
fn parse(filter: &str) -> anyhow::Result<Targets> {
    let parsed = filter.parse();
    parsed.with_context(|| format!("invalid log filter {filter:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_format_is_refused_by_name() {
        let error = "xml".parse::<LogFormat>().unwrap_err().to_string();
        assert!(error.contains("\"xml\""), "{error}");
    }
}
