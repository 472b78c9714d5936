//! Text of strangers on one line: whatever a peer gets into a message or a field, it neither begins a
//! line of its own nor moves the cursor of who reads the log.

use std::fmt::{self, Write};

use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
};

/// The usual form of fields, with control characters and line separators shown as escapes.
#[derive(Debug, Default)]
pub(super) struct EscapedFields(DefaultFields);

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut escaping = Escaping(&mut writer);
        self.0.format_fields(Writer::new(&mut escaping), fields)
    }
}

/// Passes text on with dangerous characters escaped as in a Rust string: `\n`, `\u{7}`.
#[derive(Debug)]
pub(super) struct Escaping<'a, W>(pub(super) &'a mut W);

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, character)) = rest.char_indices().find(|(_, c)| is_dangerous(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", character.escape_default())?;
            rest = &rest[at + character.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Control characters of ASCII and Latin-1, and the two characters that Unicode has for a new line.
pub(super) fn is_dangerous(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        Escaping(&mut out).write_str(text).unwrap();
        out
    }

    #[test]
    fn harmless_text_stays_as_it_is_and_the_rest_can_be_read() {
        assert_eq!(escaped("caf\u{e9} \"x\" \\n"), "caf\u{e9} \"x\" \\n");
        assert_eq!(
            escaped("a\r\nb\tc\0\u{1b}[31m\u{85}\u{2028}"),
            "a\\r\\nb\\tc\\u{0}\\u{1b}[31m\\u{85}\\u{2028}"
        );
    }

    proptest! {
        #[test]
        fn nothing_dangerous_comes_through(text in any::<String>()) {
            let out = escaped(&text);
            prop_assert!(!out.chars().any(is_dangerous), "{out:?}");
            if !text.chars().any(is_dangerous) {
                prop_assert_eq!(out, text);
            }
        }

        #[test]
        fn pieces_come_out_as_the_whole_would(pieces in prop::collection::vec(any::<String>(), 0..4)) {
            let mut out = String::new();
            for piece in &pieces {
                Escaping(&mut out).write_str(piece).unwrap();
            }
            prop_assert_eq!(out, escaped(&pieces.concat()));
        }
    }
}
