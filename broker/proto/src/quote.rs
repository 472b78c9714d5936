//! Peers' bytes inside of texts: quoted as Go's `%q` does, which clients see in error texts, and
//! without anything that could break a line.

use std::fmt::{self, Write};

/// Shows bytes in double quotes.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for next in chunk.valid().chars() {
                escape(next, f)?;
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_char('"')
    }
}

fn escape(next: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match next {
        '"' => f.write_str("\\\""),
        '\\' => f.write_str("\\\\"),
        '\x07' => f.write_str("\\a"),
        '\x08' => f.write_str("\\b"),
        '\x0c' => f.write_str("\\f"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\x0b' => f.write_str("\\v"),
        _ if next.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(next)),
        // Rust and Go agree on what is printable but for characters that nobody names a subject with.
        _ if next.is_ascii() || next.escape_debug().count() == 1 => f.write_char(next),
        _ if u32::from(next) < 0x1_0000 => write!(f, "\\u{:04x}", u32::from(next)),
        _ => write!(f, "\\U{:08x}", u32::from(next)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_go() {
        for (bytes, shown) in [
            (&b"foo.bar"[..], r#""foo.bar""#),
            (b"a\"b\\c'", r#""a\"b\\c'""#),
            (b"\x00\x07\x1b\x7f\n", r#""\x00\a\x1b\x7f\n""#),
            ("grün.日本".as_bytes(), "\"grün.日本\""),
            (b"\xff\xc3", r#""\xff\xc3""#),
            ("\u{85}\u{2028}".as_bytes(), r#""\u0085\u2028""#),
        ] {
            assert_eq!(Quoted(bytes).to_string(), shown);
        }
    }
}
