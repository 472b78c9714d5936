//! The command line, in the style of Go's `flag` package.

use std::{fmt::Write as _, str::FromStr};

use super::{
    ConfigError,
    draft::Draft,
    duration,
    nearest::nearest,
    setting::{self, Block, Setter, Setting, Shape},
};

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Request {
    Help,
    Version,
    Run(Flags),
}

/// Flags with their values, in the order given.
#[derive(Debug, Default)]
pub(super) struct Flags {
    given: Vec<Given>,
    /// Of flags that are accepted without effect.
    pub(super) warnings: Vec<String>,
}

struct Given {
    setting: &'static Setting,
    value: Value,
}

impl std::fmt::Debug for Given {
    /// Names only: a value may be a database source.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.setting.flags)
    }
}

enum Value {
    Switch(bool),
    Text(String),
    Number(i64),
}

impl Flags {
    /// Sets what was given. Done after the files have been read, which flags win over.
    pub(super) fn apply(&self, draft: &mut Draft) {
        for Given { setting, value } in &self.given {
            draft.places.remove(setting.name());
            match (setting.setter, value) {
                (Setter::Switch(set), Value::Switch(value)) => set(draft, *value),
                (Setter::Text(set), Value::Text(value)) => set(draft, value.clone()),
                (
                    Setter::Number(set) | Setter::Size(set) | Setter::Duration(set),
                    Value::Number(value),
                ) => set(draft, *value),
                _ => unreachable!("a flag's value has the kind that its setter takes"),
            }
        }
    }
}

impl Flags {
    /// Warnings about flags of streaming, for a server without it.
    pub(super) fn about_streaming(&self) -> impl Iterator<Item = String> {
        let blocks = [
            Block::Streaming,
            Block::Limits,
            Block::Sql,
            Block::StreamingTls,
        ];
        let given = self.given.iter().map(|given| given.setting);
        given
            .filter(move |setting| blocks.contains(&setting.block))
            .map(|setting| format!("flag -{} has no effect: streaming is off", setting.flags[0]))
    }
}

/// Reads the words after the program's name. Parsing stops at the first word that is no flag.
///
/// # Errors
/// The first flag that is unknown, not supported or has no proper value. Values of flags that may be
/// secret are not shown.
pub(super) fn read(args: &[String]) -> Result<Request, ConfigError> {
    let mut flags = Flags::default();
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
            return positional(word);
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() {
            return rest
                .next()
                .map_or(Ok(Request::Run(flags)), |word| positional(word));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        match name {
            "" => return Err(ConfigError::FlagSyntax),
            "h" | "help" | "help_tls" => return Ok(Request::Help),
            "v" | "version" => return Ok(Request::Version),
            _ => {}
        }
        let Some(setting) = setting::all().find(|setting| setting.flags.contains(&name)) else {
            let known = setting::all().flat_map(|setting| setting.flags.iter().copied());
            return Err(ConfigError::UnknownFlag {
                name: name.to_owned(),
                hint: nearest(name, known),
            });
        };
        let next = if value.is_none() && !is_switch(setting.setter) {
            rest.next()
        } else {
            None
        };
        let value = value.or(next.map(String::as_str));
        flags.take(setting, name, value)?;
    }
    Ok(Request::Run(flags))
}

/// The words that act like flags, and nothing else.
fn positional(word: &str) -> Result<Request, ConfigError> {
    match word {
        "help" => Ok(Request::Help),
        "version" => Ok(Request::Version),
        _ => Err(ConfigError::UnknownCommand(shown(word))),
    }
}

/// A word that stands where it should not may be the rest of an unquoted database source.
fn shown(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if word.bytes().all(plain) {
        word.to_owned()
    } else {
        "...".to_owned()
    }
}

fn is_switch(setter: Setter) -> bool {
    match setter {
        Setter::Switch(_) => true,
        Setter::Refused(shape, _) | Setter::Unused(shape, _) => shape == Shape::Switch,
        Setter::Text(_)
        | Setter::Number(_)
        | Setter::Size(_)
        | Setter::Duration(_)
        | Setter::Address(_)
        | Setter::Block(_)
        | Setter::Channels()
        | Setter::Own(_) => false,
    }
}

impl Flags {
    fn take(
        &mut self,
        setting: &'static Setting,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), ConfigError> {
        let invalid = |reason: String| ConfigError::FlagValue {
            name: name.to_owned(),
            reason,
        };
        let value = match value {
            Some(value) => value,
            None if is_switch(setting.setter) => "true",
            None => return Err(ConfigError::FlagArgument(name.to_owned())),
        };
        let value = match setting.setter {
            Setter::Switch(_) => Value::Switch(
                switch(value).ok_or_else(|| invalid(format!("{value:?} is not a boolean")))?,
            ),
            Setter::Text(_) => Value::Text(value.to_owned()),
            Setter::Number(_) => Value::Number(
                i64::from_str(value)
                    .map_err(|_| invalid(format!("{value:?} is not an integer")))?,
            ),
            Setter::Size(_) => {
                let size = broker_proto::conf::size(value);
                Value::Number(size.ok_or_else(|| invalid(format!("{value:?} is not a size")))?)
            }
            Setter::Duration(_) => {
                Value::Number(duration::parse(value).map_err(|error| invalid(error.to_string()))?)
            }
            Setter::Refused(_, reason) => {
                if is_neutral(value) {
                    return Ok(());
                }
                return Err(ConfigError::UnsupportedFlag {
                    name: name.to_owned(),
                    reason,
                });
            }
            Setter::Unused(_, reason) => {
                if !is_neutral(value) {
                    self.warnings
                        .push(format!("flag -{name} has no effect: {reason}"));
                }
                return Ok(());
            }
            Setter::Address(_) | Setter::Block(_) | Setter::Channels() | Setter::Own(_) => {
                unreachable!("settings of these kinds have no flag")
            }
        };
        self.given.push(Given { setting, value });
        Ok(())
    }
}

/// As Go's `strconv.ParseBool`.
fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Asks for nothing.
fn is_neutral(text: &str) -> bool {
    matches!(text, "" | "0" | "0s") || switch(text) == Some(false)
}

/// The help text: every flag that does something, in the order of the table.
pub(super) fn usage() -> String {
    let mut text = String::from(
        "Usage: stanchion-broker [flags]\n\
        \x20      stanchion-broker store init [role] | check | verify [flags]\n\n\
         store init makes the tables of a SQL store and lets a role use them, check looks at everything that a broker\n\
         needs of the database, verify reads all that is stored; the flags say which store, as for a start.\n\n\
         One or two dashes; -flag value or -flag=value; switches -flag or -flag=false.\n\n",
    );
    for setting in
        setting::all().filter(|setting| !setting.flags.is_empty() && !setting.help.is_empty())
    {
        let names: Vec<_> = setting
            .flags
            .iter()
            .map(|name| format!("-{name}"))
            .collect();
        let kind = match setting.setter {
            Setter::Text(_) => " <text>",
            Setter::Number(_) => " <number>",
            Setter::Size(_) => " <size>",
            Setter::Duration(_) => " <duration>",
            _ => "",
        };
        let default = match setting.default {
            "" | "false" => String::new(),
            default => format!(" (default: {default})"),
        };
        writeln!(
            text,
            "  {:<40}{}{default}",
            format!("{}{kind}", names.join(", ")),
            setting.help
        )
        .expect("writing to a string does not fail");
    }
    text.push_str("  -h, -help, -help_tls                    this text\n  -v, -version                            version\n");
    text
}
