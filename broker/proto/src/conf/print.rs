//! Values back to text: everything quoted that can be, one key a line.

use std::fmt::{self, Display, Formatter, Write as _};

use super::{Kind, Map, Value};

/// The map as a whole file.
impl Display for Map {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        entries(f, self, 0)
    }
}

fn entries(f: &mut Formatter<'_>, map: &Map, indent: usize) -> fmt::Result {
    for entry in map.entries() {
        write!(f, "{:indent$}", "")?;
        quoted(f, &entry.key)?;
        f.write_str(": ")?;
        value(f, &entry.value, indent)?;
        f.write_char('\n')?;
    }
    Ok(())
}

fn value(f: &mut Formatter<'_>, value: &Value, indent: usize) -> fmt::Result {
    match &value.kind {
        Kind::Map(map) => {
            f.write_str("{\n")?;
            entries(f, map, indent + 2)?;
            write!(f, "{:indent$}}}", "")
        }
        Kind::Array(items) => {
            f.write_str("[")?;
            for (index, item) in items.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { ", " })?;
                self::value(f, item, indent + 2)?;
            }
            f.write_str("]")
        }
        Kind::String(text) => quoted(f, text),
        Kind::Boolean(value) => write!(f, "{value}"),
        Kind::Integer(value) => write!(f, "{value}"),
        // `Display` writes no exponent, but drops a fraction of zero.
        Kind::Float(value) if value.fract() == 0.0 => write!(f, "{value:.1}"),
        Kind::Float(value) => write!(f, "{value}"),
        Kind::Date(text) => f.write_str(text),
    }
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for next in text.chars() {
        match next {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            control if control.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(control))?,
            other => f.write_char(other)?,
        }
    }
    f.write_char('"')
}
