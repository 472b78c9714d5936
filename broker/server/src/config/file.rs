//! Configuration files: from disk into a draft, every mistake reported with its place.

use std::{
    fmt::Write as _,
    fs,
    path::{Component, Path, PathBuf},
};

use broker_proto::conf::{self, Entry, Kind, Map, Resolver, Source, Value};
use sha2::{Digest, Sha256};

use super::{
    ConfigError,
    draft::{ChannelDraft, Draft},
    duration,
    limits::{Own, is_valid_pattern},
    nearest,
    setting::{self, Block, Setter, Setting},
};

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRead {
    pub(crate) path: String,
    /// Hexadecimal, of the file itself without what it includes.
    pub(crate) sha256: String,
}

/// What a file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The only file: `-c` or `-sc` alone.
    Both,
    /// `-sc` beside `-c`.
    Streaming,
    /// `-c` beside `-sc`.
    Core,
}

/// Environment variables, so that tests need not touch those of the process.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads one file into the draft.
///
/// # Errors
/// All mistakes of the file together, or that it cannot be read.
pub(super) fn load(
    path: &str,
    role: Role,
    variables: Variables<'_>,
    draft: &mut Draft,
    warnings: &mut Vec<String>,
) -> Result<FileRead, ConfigError> {
    let unreadable = |source| ConfigError::FileUnreadable {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let map = conf::parse(path, &text, &Disk { variables })?;
    let mut reader = Reader {
        draft,
        warnings,
        problems: Vec::new(),
    };
    reader.file(&map, role);
    if !reader.problems.is_empty() {
        return Err(ConfigError::File(reader.problems.join("\n")));
    }
    let mut sha256 = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        write!(sha256, "{byte:02x}").expect("writing to a string does not fail");
    }
    Ok(FileRead {
        path: path.to_owned(),
        sha256,
    })
}

struct Disk<'a> {
    variables: Variables<'a>,
}

impl Resolver for Disk<'_> {
    fn include(&self, from: &str, path: &str) -> Result<Source, String> {
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let joined = folder.join(path);
        let plain: PathBuf = joined
            .components()
            .filter(|part| !matches!(part, Component::CurDir))
            .collect();
        let text = fs::read_to_string(&plain).map_err(|error| error.to_string())?;
        Ok(Source {
            name: plain.to_string_lossy().into_owned(),
            text,
        })
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name)
    }
}

struct Reader<'a> {
    draft: &'a mut Draft,
    warnings: &'a mut Vec<String>,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// If there is a `streaming` block it alone is about streaming, else the whole file is.
    fn file(&mut self, map: &Map, role: Role) {
        let streaming = map.entries().rfind(|entry| is_streaming(entry));
        let (blocks, ignored): (&[Block], &[Block]) = match (role, streaming.is_some()) {
            (Role::Both, true) => (&[Block::Core], &[]),
            (Role::Both, false) => (&[Block::Core, Block::Streaming], &[]),
            (Role::Streaming, true) => (&[], &[Block::Core]),
            (Role::Streaming, false) => (&[Block::Streaming], &[Block::Core]),
            (Role::Core, _) => (&[Block::Core], &[Block::Streaming]),
        };
        for entry in map.entries().filter(|entry| !is_streaming(entry)) {
            self.entry(entry, blocks, ignored);
        }
        match streaming {
            Some(entry) if role == Role::Core => {
                self.warnings.push(format!(
                    "{}: streaming is ignored: it is read from the -sc file",
                    entry.at
                ));
            }
            Some(entry) => self.block(entry, Block::Streaming),
            None => {}
        }
    }

    fn block(&mut self, entry: &Entry, block: Block) {
        let Some(map) = entry.value.as_map() else {
            return self.problem(
                &entry.value,
                &format!(
                    "expected {} to be a map/struct, got {}",
                    entry.key,
                    entry.value.type_name()
                ),
            );
        };
        for entry in map.entries() {
            self.entry(entry, &[block], &[]);
        }
    }

    fn entry(&mut self, entry: &Entry, blocks: &[Block], ignored: &[Block]) {
        if let Some(setting) = find(&entry.key, blocks) {
            self.set(setting, entry);
        } else if find(&entry.key, ignored).is_some() {
            let other = if ignored.contains(&Block::Core) {
                "-c"
            } else {
                "-sc"
            };
            self.warnings.push(format!(
                "{}: {} is ignored: it is read from the {other} file",
                entry.at, entry.key
            ));
        } else if !entry.referenced {
            self.unknown(entry, blocks, ignored);
        }
    }

    fn unknown(&mut self, entry: &Entry, blocks: &[Block], ignored: &[Block]) {
        let key = entry.key.to_ascii_lowercase();
        let known = setting::all()
            .filter(|setting| blocks.contains(&setting.block) || ignored.contains(&setting.block))
            .flat_map(|setting| setting.keys.iter().copied());
        let hint = match nearest(&key, known) {
            hint if !hint.is_empty() => hint,
            _ if find(&key, &[Block::Streaming]).is_some() => {
                "; it belongs into the streaming block".to_owned()
            }
            _ if find(&key, &[Block::Core]).is_some() => "; it belongs to the top level".to_owned(),
            hint => hint,
        };
        self.problems
            .push(format!("{}: unknown field {:?}{hint}", entry.at, entry.key));
    }

    fn set(&mut self, setting: &'static Setting, entry: &Entry) {
        let value = &entry.value;
        match setting.setter {
            Setter::Switch(set) => match value.as_bool() {
                Some(value) => set(self.draft, value),
                None => self.mismatch(entry, "bool"),
            },
            Setter::Text(set) => match value.as_str() {
                Some(text) => set(self.draft, text.to_owned()),
                None => self.mismatch(entry, "string"),
            },
            Setter::Number(set) | Setter::Size(set) => match value.as_integer() {
                Some(value) => set(self.draft, value),
                None => self.mismatch(entry, "int64"),
            },
            Setter::Duration(set) => self.duration(setting.block, entry, set),
            Setter::Address(set) => match address(value) {
                Some((host, port)) => set(self.draft, host, port),
                None => self.problem(value, &format!("{} must be host:port or a port", entry.key)),
            },
            Setter::Block(block, note) => {
                note(self.draft);
                self.block(entry, block);
            }
            Setter::Channels() => self.channels(entry),
            Setter::Refused(_, _) | Setter::NotYet(_, _) | Setter::Unused(_, _)
                if is_neutral(value) => {}
            Setter::Refused(_, reason) => {
                self.problem(value, &format!("{} cannot be used: {reason}", entry.key));
            }
            Setter::NotYet(_, reason) | Setter::Unused(_, reason) => {
                self.warnings.push(format!(
                    "{}: {} has no effect: {reason}",
                    entry.at, entry.key
                ));
            }
        }
    }

    /// Go duration text. An unquoted `5m` is a number to the syntax, and five minutes here. Bare
    /// numbers are seconds for the NATS server, as in older versions of it, and refused for streaming.
    fn duration(&mut self, block: Block, entry: &Entry, set: fn(&mut Draft, i64)) {
        let value = &entry.value;
        let seconds_allowed = matches!(block, Block::Core | Block::Tls);
        let nanos = match &value.kind {
            Kind::String(text) => match duration::parse(text) {
                Ok(nanos) => Some(nanos),
                Err(error) => {
                    return self.problem(value, &format!("parameter {:?}: {error}", entry.key));
                }
            },
            Kind::Integer(seconds) => {
                let written = value.token().and_then(|token| duration::parse(token).ok());
                let seconds = if seconds_allowed {
                    seconds.checked_mul(1_000_000_000)
                } else {
                    None
                };
                written.or(seconds)
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "saturates, and the range is checked later"
            )]
            Kind::Float(seconds) if seconds_allowed => Some((seconds * 1e9) as i64),
            Kind::Map(_) | Kind::Array(_) | Kind::Boolean(_) | Kind::Float(_) | Kind::Date(_) => {
                None
            }
        };
        match nanos {
            Some(nanos) => set(self.draft, nanos),
            None => self.mismatch(entry, "string (a duration such as \"5m\")"),
        }
    }

    fn channels(&mut self, entry: &Entry) {
        let Some(map) = entry.value.as_map() else {
            return self.block(entry, Block::Limits);
        };
        for channel in map.entries() {
            if !is_valid_pattern(&channel.key) {
                self.problems.push(format!(
                    "{}: invalid channel name {:?}",
                    channel.at, channel.key
                ));
                continue;
            }
            self.draft
                .channels
                .retain(|earlier| earlier.pattern != channel.key);
            self.draft.channels.push(ChannelDraft {
                pattern: channel.key.clone(),
                at: channel.at.clone(),
                own: Own::default(),
            });
            self.block(channel, Block::Channel);
        }
    }

    /// Wording of `server/conf.go` of nats-streaming-server.
    fn mismatch(&mut self, entry: &Entry, expected: &str) {
        let got = entry.value.type_name();
        let text = format!(
            "parameter {:?} value is expected to be {expected}, got {got}",
            entry.key
        );
        self.problem(&entry.value, &text);
    }

    fn problem(&mut self, value: &Value, text: &str) {
        self.problems.push(format!("{}: {text}", value.at));
    }
}

fn is_streaming(entry: &Entry) -> bool {
    entry.key.eq_ignore_ascii_case("streaming")
}

fn find(key: &str, blocks: &[Block]) -> Option<&'static Setting> {
    let in_block = |block: &Block| {
        setting::all().find(|setting| {
            setting.block == *block
                && setting
                    .keys
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(key))
        })
    };
    blocks.iter().find_map(in_block)
}

fn is_neutral(value: &Value) -> bool {
    match &value.kind {
        Kind::Boolean(value) => !value,
        Kind::Integer(value) => *value == 0,
        Kind::String(text) => text.is_empty(),
        Kind::Array(items) => items.is_empty(),
        Kind::Map(_) | Kind::Float(_) | Kind::Date(_) => false,
    }
}

fn address(value: &Value) -> Option<(Option<String>, i64)> {
    match &value.kind {
        Kind::Integer(port) => Some((None, *port)),
        Kind::String(text) => {
            let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
            let host = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .unwrap_or(host);
            let host = if host.is_empty() {
                None
            } else {
                Some(host.to_owned())
            };
            Some((host, port.parse().ok()?))
        }
        Kind::Map(_) | Kind::Array(_) | Kind::Boolean(_) | Kind::Float(_) | Kind::Date(_) => None,
    }
}
