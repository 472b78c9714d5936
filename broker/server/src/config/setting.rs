//! Everything that can be set by a flag or by a key that has one plain value: two tables.
//!
//! Keys inside the blocks of the NATS server (`authorization`, `accounts`, `tls`, `cluster`) are with
//! the code that reads them, in [`super::file`].

mod core;
mod streaming;

use super::draft::Draft;

/// How the value is written, and what it changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setter {
    Switch(fn(&mut Draft, bool)),
    Text(fn(&mut Draft, String)),
    Number(fn(&mut Draft, i64)),
    /// A number of bytes; a flag may have a suffix, as in the file.
    Size(fn(&mut Draft, i64)),
    /// Nanoseconds.
    Duration(fn(&mut Draft, i64)),
    /// `host:port`, `:port` or a port.
    Address(fn(&mut Draft, Option<String>, i64)),
    /// A map of further keys.
    Block(Block),
    /// Limits of single channels.
    Channels(),
    /// A value with a reader of its own.
    Own(Structure),
    /// Known to the reference, not to this server; running without it would be another service than
    /// the one asked for. Refused unless the value is the neutral one.
    Refused(Shape, &'static str),
    /// Accepted with a warning: the reason why it has no effect here.
    Unused(Shape, &'static str),
}

/// How the value of a setting without effect is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Switch,
    /// Anything else.
    Word,
}

/// Where in a file a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Top level, settings of the NATS server.
    Core,
    /// `streaming`, or the top level of a file that has no such block.
    Streaming,
    Limits,
    /// One entry below `store_limits.channels`.
    Channel,
    Sql,
    /// `tls` of the streaming block: of connections to external NATS servers.
    StreamingTls,
}

/// Values that are more than a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Structure {
    Authorization,
    Accounts,
    Tls,
    Cluster,
    Tags,
    Metadata,
}

#[derive(Debug)]
pub(super) struct Setting {
    /// Names on the command line.
    pub(super) flags: &'static [&'static str],
    pub(super) block: Block,
    /// Names in a file, in `block`.
    pub(super) keys: &'static [&'static str],
    pub(super) setter: Setter,
    /// As it would be written; empty where there is none.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
}

impl Setting {
    /// What messages call it: the key, or the flag where there is no key.
    pub(super) fn name(&self) -> &'static str {
        self.keys.first().or(self.flags.first()).unwrap_or(&"")
    }
}

/// `[flags] Block [keys] Setter default help;`
macro_rules! settings {
    ($([$($flag:ident)*] $block:ident [$($key:ident)*] $setter:ident($($set:expr),*) $default:literal $help:literal;)*) => {
        &[$(Setting {
            flags: &[$(stringify!($flag)),*],
            block: Block::$block,
            keys: &[$(stringify!($key)),*],
            setter: Setter::$setter($($set),*),
            default: $default,
            help: $help,
        }),*]
    };
}
use settings;

/// All of them, in the order of the help text.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    streaming::STREAMING.iter().chain(core::CORE)
}
