//! The two notations of a source, to keys and values.

use std::collections::BTreeMap;

use super::SourceError;

type Keys = BTreeMap<String, String>;

/// What follows the scheme of a URL; None for the other notation.
pub(super) fn strip_scheme(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("postgres://");
    rest.or_else(|| text.strip_prefix("postgresql://"))
}

/// `user:password@host:port,host2/dbname?key=value&...`, percent-encoded.
pub(super) fn parse_url(rest: &str) -> Result<Keys, SourceError> {
    let mut keys = Keys::new();
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = address.split_once('/').unwrap_or((address, ""));
    // The last one: some write a password with a bare @.
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    if !user.is_empty() {
        keys.insert("user".to_owned(), decode(user)?);
    }
    if let Some(password) = password {
        keys.insert("password".to_owned(), decode(password)?);
    }
    if !dbname.is_empty() {
        keys.insert("dbname".to_owned(), decode(dbname)?);
    }
    if !hosts.is_empty() {
        let (hosts, ports): (Vec<_>, Vec<_>) = hosts.split(',').map(split_port).unzip();
        let hosts = hosts
            .iter()
            .map(|host| decode(host))
            .collect::<Result<Vec<_>, _>>()?;
        if hosts.iter().any(|host| !host.is_empty()) {
            keys.insert("host".to_owned(), hosts.join(","));
        }
        if ports.iter().any(|port| !port.is_empty()) {
            keys.insert("port".to_owned(), ports.join(","));
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or(SourceError::Malformed("a key of the query has no value"))?;
        keys.insert(decode(key)?, decode(value)?);
    }
    Ok(keys)
}

/// Host and port, either may be empty. An IPv6 address stands in brackets.
fn split_port(text: &str) -> (&str, &str) {
    if let Some((address, after)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (address, after.strip_prefix(':').unwrap_or(after));
    }
    text.rsplit_once(':').unwrap_or((text, ""))
}

fn decode(text: &str) -> Result<String, SourceError> {
    let malformed = SourceError::Malformed("a percent sign is not followed by two hex digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return Err(malformed);
        };
        bytes.push(byte);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| SourceError::Malformed("a value is not UTF-8"))
}

/// `key=value key='quoted value'`; a backslash makes the next character literal.
pub(super) fn parse_words(text: &str) -> Result<Keys, SourceError> {
    let mut keys = Keys::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or(SourceError::Malformed("a key has no value"))?;
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(SourceError::Malformed("a key has no value"));
        }
        let (value, after) = parse_word_value(after.trim_start())?;
        keys.insert(key.to_owned(), value);
        rest = after.trim_start();
    }
    Ok(keys)
}

fn parse_word_value(text: &str) -> Result<(String, &str), SourceError> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, literal)) => value.push(literal),
                None => return Err(SourceError::Malformed("it ends with a backslash")),
            },
            '\'' if quoted => return Ok((value, &text[index + 1..])),
            _ if !quoted && character.is_whitespace() => return Ok((value, &text[index..])),
            _ => value.push(character),
        }
    }
    if quoted {
        return Err(SourceError::Malformed("a quoted value does not end"));
    }
    Ok((value, ""))
}
