//! Configuration files: from disk into a draft, every mistake reported with its place.

pub(super) mod auth;
pub(super) mod cluster;
pub(super) mod permissions;
pub(super) mod tls;
mod value;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Component, Path, PathBuf},
};

use broker_proto::conf::{self, Entry, Kind, Map, Resolver, Source, Value};
use sha2::{Digest, Sha256};

use self::value::Bare;
#[cfg(test)]
pub(super) use self::value::Keys;
pub(super) use self::value::host_port;
use super::{
    ConfigError,
    draft::{ChannelDraft, Draft},
    limits::{Own, is_valid_pattern},
    nearest::nearest,
    setting::{self, Block, Setter, Setting, Structure},
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

/// Reads one file into the draft. `streaming` is what a flag says about it.
///
/// # Errors
/// That it cannot be read or has no syntax; single mistakes go to the report.
pub(super) fn load(
    path: &str,
    role: Role,
    streaming: Option<bool>,
    variables: Variables<'_>,
    draft: &mut Draft,
    report: &mut Report,
) -> Result<FileRead, ConfigError> {
    let unreadable = |source| ConfigError::FileUnreadable {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let map = conf::parse(path, &text, &Disk { variables })?;
    Reader { draft, report }.file(&map, role, streaming);
    let mut sha256 = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        write!(sha256, "{byte:02x}").expect("writing to a string does not fail");
    }
    Ok(FileRead {
        path: path.to_owned(),
        sha256,
    })
}

/// What reading has found, a line each.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) warnings: Vec<String>,
    /// With any of them there is no configuration.
    pub(super) problems: Vec<String>,
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

/// Walks a file and fills the draft.
struct Reader<'a> {
    draft: &'a mut Draft,
    report: &'a mut Report,
}

/// Words that look like credentials of clients at the top level, where they are none.
const MISPLACED: &[&str] = &["user", "username", "pass", "password", "token"];

impl Reader<'_> {
    /// If there is a `streaming` block it alone is about streaming, else the whole file is, unless
    /// streaming is switched off, by this file or by a flag.
    fn file(&mut self, map: &Map, role: Role, flag: Option<bool>) {
        let entry = map.entries().rfind(|entry| is_streaming(entry));
        let switch = entry.and_then(|entry| entry.value.as_bool());
        let before = self.draft.streaming != Some(false);
        let enabled = flag.unwrap_or(before && switch != Some(false));
        self.draft.streaming = Some(enabled);
        let block = entry.filter(|_| switch.is_none());
        let (blocks, ignored): (&[Block], &[Block]) = match (role, enabled, block.is_some()) {
            (Role::Both | Role::Core, false, _) | (Role::Both, true, true) => (&[Block::Core], &[]),
            (Role::Both, true, false) => (&[Block::Core, Block::Streaming], &[]),
            (Role::Streaming, false, _) => (&[], &[Block::Core, Block::Streaming]),
            (Role::Streaming, true, true) => (&[], &[Block::Core]),
            (Role::Streaming, true, false) => (&[Block::Streaming], &[Block::Core]),
            (Role::Core, true, _) => (&[Block::Core], &[Block::Streaming]),
        };
        for entry in map.entries().filter(|entry| !is_streaming(entry)) {
            let misplaced = MISPLACED
                .iter()
                .any(|word| entry.key.eq_ignore_ascii_case(word));
            if misplaced && blocks.contains(&Block::Core) {
                let place = "it belongs into the authorization block";
                self.problem_at(
                    &entry.at,
                    &format!("unknown field {:?}; {place}", entry.key),
                );
            } else {
                self.entry(entry, blocks, ignored);
            }
        }
        match block {
            Some(entry) if !enabled => {
                self.warning(entry, "streaming is ignored: it is switched off");
            }
            Some(entry) if role == Role::Core => {
                self.warning(entry, "streaming is ignored: it is read from the -sc file");
            }
            Some(entry) => self.block(entry, Block::Streaming),
            None => {}
        }
    }

    fn block(&mut self, entry: &Entry, block: Block) {
        if let Some(map) = self.map(entry) {
            for entry in map.entries() {
                self.entry(entry, &[block], &[]);
            }
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
            let text = format!("{} is ignored: it is read from the {other} file", entry.key);
            self.warning(entry, &text);
        } else if !entry.referenced {
            self.unknown_setting(entry, blocks, ignored);
        }
    }

    fn unknown_setting(&mut self, entry: &Entry, blocks: &[Block], ignored: &[Block]) {
        let key = entry.key.to_ascii_lowercase();
        let known = setting::all()
            .filter(|setting| blocks.contains(&setting.block) || ignored.contains(&setting.block))
            .flat_map(|setting| setting.keys.iter().copied());
        let is_known = |block| find(&key, &[block]).is_some();
        let hint = if is_known(Block::Streaming) && self.draft.streaming == Some(false) {
            "; streaming is off".to_owned()
        } else if is_known(Block::Streaming) {
            "; it belongs into the streaming block".to_owned()
        } else if is_known(Block::Core) {
            "; it belongs to the top level".to_owned()
        } else {
            nearest(&key, known)
        };
        self.problem_at(&entry.at, &format!("unknown field {:?}{hint}", entry.key));
    }

    fn set(&mut self, setting: &'static Setting, entry: &Entry) {
        let before = self.report.problems.len();
        match setting.setter {
            Setter::Switch(set) => {
                if let Some(value) = self.switch(entry) {
                    set(self.draft, value);
                }
            }
            Setter::Text(set) => {
                if let Some(text) = self.text(entry) {
                    set(self.draft, text);
                }
            }
            Setter::Number(set) | Setter::Size(set) => {
                if let Some(value) = self.number(entry) {
                    set(self.draft, value);
                }
            }
            Setter::Duration(set) => {
                let bare = match setting.block {
                    Block::Core => Bare::SecondsOfOld,
                    _ => Bare::Refused,
                };
                if let Some(nanos) = self.nanos(entry, bare) {
                    set(self.draft, nanos);
                }
            }
            Setter::Address(set) => {
                if let Some((host, port)) = self.address(entry) {
                    set(self.draft, host, port);
                }
            }
            Setter::Block(block) => self.block(entry, block),
            Setter::Channels() => self.channels(entry),
            Setter::Own(structure) => self.structure(structure, entry),
            Setter::Refused(_, _) | Setter::Unused(_, _) if is_neutral(&entry.value) => {}
            Setter::Refused(_, reason) => {
                let text = format!("{} cannot be used: {reason}", entry.key);
                self.problem(&entry.value, &text);
            }
            Setter::Unused(_, reason) => {
                self.warning(entry, &format!("{} has no effect: {reason}", entry.key));
            }
        }
        if self.report.problems.len() == before {
            let at = entry.value.at.clone();
            self.draft.places.insert(setting.name(), at);
        }
    }

    fn structure(&mut self, structure: Structure, entry: &Entry) {
        match structure {
            Structure::Authorization => self.client_authorization(entry),
            Structure::Accounts => self.accounts(entry),
            Structure::Tls => self.draft.tls = self.tls(entry, tls::Place::Clients),
            Structure::Cluster => self.cluster(entry),
            Structure::Tags => self.tags(entry),
            Structure::Metadata => self.metadata(entry),
        }
    }

    /// As nkeys' tag lists: lower case, without repetition.
    fn tags(&mut self, entry: &Entry) {
        let mut tags: Vec<String> = Vec::new();
        for (tag, _) in self.words(entry) {
            let tag = tag.trim().to_lowercase();
            if !tag.is_empty() && !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        self.draft.server_tags = tags;
    }

    fn metadata(&mut self, entry: &Entry) {
        let Some(map) = self.map(entry) else { return };
        let mut metadata = BTreeMap::new();
        for entry in map.entries() {
            if let Some(text) = self.text(entry) {
                metadata.insert(entry.key.clone(), text);
            }
        }
        self.draft.server_metadata = metadata;
    }

    fn channels(&mut self, entry: &Entry) {
        let Some(map) = entry.value.as_map() else {
            return self.block(entry, Block::Limits);
        };
        for channel in map.entries() {
            if !is_valid_pattern(&channel.key) {
                let text = format!("invalid channel name {:?}", channel.key);
                self.problem_at(&channel.at, &text);
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
