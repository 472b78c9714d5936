//! The names in a client's certificate, and how users are called after them (`verify_and_map`).
//!
//! Distinguished names are compared as what they are, relative name by relative name. Comparing
//! them attribute by attribute let certificates pass that ought not to (CVE-2026-33248).

use std::fmt::Write as _;

/// What a verified certificate says of its holder. Only the client's own, not those of its issuers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// Subject alternative names, each kind in the order of the certificate.
    pub emails: Vec<String>,
    pub dns: Vec<String>,
    pub uris: Vec<String>,
    /// The subject: relative names in the order of the certificate, each one or more pairs of type
    /// and value. A type is its short name (`CN`, `OU`, `O`, `L`, `ST`, `C`, `DC`, `STREET`,
    /// `SERIALNUMBER`, `POSTALCODE`), any other its dotted number.
    pub subject: Vec<Vec<(String, String)>>,
}

/// Types with a name of their own, which a configuration may also give as numbers.
const TYPE_NAMES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.17", "POSTALCODE"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// Characters that stand for themselves behind a backslash, RFC 4514 section 3.
const ESCAPABLE: &[u8] = b" \"#+,;<=>\\";

/// One type and value. Types differ in case only by accident, values not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    kind: String,
    value: String,
}

impl Attribute {
    fn new(kind: &str, value: &str) -> Self {
        let named = TYPE_NAMES.iter().find(|(number, _)| *number == kind);
        Self {
            kind: named.map_or_else(|| kind.to_ascii_uppercase(), |(_, name)| (*name).to_owned()),
            value: value.to_owned(),
        }
    }
}

/// A distinguished name, the most specific relative name first as in RFC 4514.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DistinguishedName {
    /// Attributes within one are sorted, as their order means nothing.
    relative: Vec<Vec<Attribute>>,
}

impl DistinguishedName {
    /// Reads what a configuration calls a user; `None` if that is no distinguished name. Values in
    /// BER, which begin with `#`, are not understood, as in the reference.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut relative = vec![Vec::new()];
        let mut rest = text.as_bytes();
        loop {
            let end = rest.iter().position(|byte| *byte == b'=')?;
            let kind = std::str::from_utf8(&rest[..end]).ok()?.trim_matches(' ');
            if !is_type(kind) {
                return None;
            }
            let (value, after) = parse_value(&rest[end + 1..])?;
            relative.last_mut()?.push(Attribute::new(kind, &value));
            match after.split_first() {
                None => break,
                Some((b',', after)) => {
                    relative.push(Vec::new());
                    rest = after;
                }
                Some((_, after)) => rest = after,
            }
        }
        Some(Self::sorted(relative))
    }

    /// The subject of a certificate; `None` if it is empty.
    pub(super) fn of_subject(subject: &[Vec<(String, String)>]) -> Option<Self> {
        let relative = subject.iter().rev().map(|pairs| {
            let attributes = pairs
                .iter()
                .map(|(kind, value)| Attribute::new(kind, value));
            attributes.collect()
        });
        (!subject.is_empty()).then(|| Self::sorted(relative.collect()))
    }

    fn sorted(mut relative: Vec<Vec<Attribute>>) -> Self {
        for attributes in &mut relative {
            attributes.sort();
        }
        Self { relative }
    }

    /// The same relative names, each as often, in whatever order.
    pub(super) fn is_reordering_of(&self, other: &Self) -> bool {
        let sorted = |name: &Self| {
            let mut relative = name.relative.clone();
            relative.sort();
            relative
        };
        self.relative.len() == other.relative.len() && sorted(self) == sorted(other)
    }
}

fn is_type(kind: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    !kind.is_empty() && kind.chars().all(legal)
}

/// A value and what follows it, which is nothing or begins with `,` or `+`. Blanks around the value
/// do not belong to it unless they are escaped.
fn parse_value(text: &[u8]) -> Option<(String, &[u8])> {
    let blanks = text.iter().take_while(|byte| **byte == b' ').count();
    let mut rest = &text[blanks..];
    if rest.first() == Some(&b'#') {
        return None;
    }
    let mut value = Vec::new();
    // Length of the value without the blanks that may turn out to be at its end.
    let mut end = 0;
    while let Some((byte, after)) = rest.split_first() {
        match byte {
            b',' | b'+' => break,
            b'\\' => {
                let (escaped, after) = parse_escape(after)?;
                value.push(escaped);
                end = value.len();
                rest = after;
                continue;
            }
            _ => value.push(*byte),
        }
        if *byte != b' ' {
            end = value.len();
        }
        rest = after;
    }
    value.truncate(end);
    let value = String::from_utf8(value).ok()?;
    (!value.is_empty()).then_some((value, rest))
}

/// What follows a backslash: a special character or two hexadecimal digits.
fn parse_escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (first, after) = text.split_first()?;
    if ESCAPABLE.contains(first) {
        return Some((*first, after));
    }
    let (second, after) = after.split_first()?;
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let octet = digit(first)? * 16 + digit(second)?;
    Some((u8::try_from(octet).ok()?, after))
}

/// The subject as the reference's standard library writes it, which older configurations name users
/// after: all values of a type together, types in a fixed order, everything else left out.
pub(super) fn subject_text(subject: &[Vec<(String, String)>]) -> String {
    let mut text = String::new();
    for (kind, repeats) in [
        ("SERIALNUMBER", false),
        ("CN", false),
        ("POSTALCODE", true),
        ("STREET", true),
        ("ST", true),
        ("L", true),
        ("OU", true),
        ("O", true),
        ("C", true),
    ] {
        let values: Vec<&str> = values_of(subject, kind).collect();
        // Of those that ought to be there only once, the last counts.
        let first = if repeats {
            0
        } else {
            values.len().saturating_sub(1)
        };
        for (place, value) in values[first..].iter().enumerate() {
            if place > 0 {
                text.push('+');
            } else if !text.is_empty() {
                text.push(',');
            }
            write_pair(&mut text, kind, value);
        }
    }
    text
}

/// The same followed by the domain components; `None` if there are none.
pub(super) fn subject_text_with_domain(subject: &[Vec<(String, String)>]) -> Option<String> {
    let components: Vec<String> = values_of(subject, "DC")
        .map(|value| format!("DC={value}"))
        .collect();
    let text = subject_text(subject);
    (!components.is_empty()).then(|| format!("{text},{}", components.join(",")))
}

fn values_of<'a>(
    subject: &'a [Vec<(String, String)>],
    kind: &str,
) -> impl Iterator<Item = &'a str> {
    let pairs = subject.iter().flatten();
    pairs.filter_map(move |(known, value)| (known == kind).then_some(value.as_str()))
}

/// `type=value` with the escapes of RFC 2253.
fn write_pair(text: &mut String, kind: &str, value: &str) {
    write!(text, "{kind}=").expect("a string takes any text");
    let last = value.chars().count().saturating_sub(1);
    for (place, c) in value.chars().enumerate() {
        let special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => place == 0,
            ' ' => place == 0 || place == last,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        text.push(c);
    }
}

#[cfg(test)]
pub(super) mod tests;
