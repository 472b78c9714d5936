//! Subjects: which byte strings are legal, and which filter matches which literal.
//!
//! A subject is one or more tokens separated by dots. In a filter a whole token may be `*`, which
//! stands for exactly one token, or, at the end only, `>`, which stands for one or more. Everything
//! else, `foo*` included, is literal. Whitespace cannot occur, because it ends an argument before
//! a subject is ever looked at.

/// Most tokens of a filter: more than a line of the default length (4096 bytes) has room for, and few
/// enough to go down a tree of filters by recursion.
pub const MAX_FILTER_TOKENS: usize = 2048;

/// The tokens of a subject, empty ones included.
pub fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    subject.split(|&byte| byte == b'.')
}

/// May be subscribed to: no empty token, `>` only as the last one, and no more tokens than
/// [`MAX_FILTER_TOKENS`].
#[must_use]
pub fn is_filter(subject: &[u8]) -> bool {
    let mut full_seen = false;
    tokens(subject).zip(1..).all(|(token, number)| {
        let legal = !token.is_empty() && !full_seen && number <= MAX_FILTER_TOKENS;
        full_seen = token == b">";
        legal
    })
}

/// Names exactly one subject: no empty token and no wildcard.
#[must_use]
pub fn is_literal(subject: &[u8]) -> bool {
    tokens(subject).all(|token| !token.is_empty() && token != b"*" && token != b">")
}

/// Some token is a wildcard.
#[must_use]
pub fn has_wildcard(subject: &[u8]) -> bool {
    tokens(subject).any(|token| token == b"*" || token == b">")
}

/// Some token is empty (`a..b`, `.a`, `a.`, or nothing at all). Such a publication reaches nobody.
#[must_use]
pub fn has_empty_token(subject: &[u8]) -> bool {
    tokens(subject).any(<[u8]>::is_empty)
}

/// Whether a published subject is matched by a legal filter. Wildcard characters in the published
/// subject are plain bytes.
#[must_use]
pub fn matches(filter: &[u8], subject: &[u8]) -> bool {
    if has_empty_token(subject) {
        return false;
    }
    let mut wanted = tokens(filter);
    let mut given = tokens(subject);
    loop {
        match (wanted.next(), given.next()) {
            (Some(b">"), Some(_)) | (None, None) => return true,
            (Some(b"*"), Some(_)) => {}
            (Some(want), Some(have)) if want == have => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_allow_whole_token_wildcards_only_where_they_belong() {
        for legal in [
            "a",
            "a.b",
            "*",
            ">",
            "a.*.c",
            "a.>",
            "foo*",
            "f>o",
            "a.>x.b",
            "\u{fc}.\u{1}",
        ] {
            assert!(is_filter(legal.as_bytes()), "{legal}");
        }
        for illegal in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b"] {
            assert!(!is_filter(illegal.as_bytes()), "{illegal}");
        }
        let deepest = "a.".repeat(MAX_FILTER_TOKENS - 1);
        assert!(is_filter((deepest.clone() + "a").as_bytes()));
        assert!(!is_filter((deepest + "a.a").as_bytes()));
    }

    #[test]
    fn literals_have_neither_wildcards_nor_empty_tokens() {
        assert!(is_literal(b"a.b*.c>"));
        for other in ["", "a.", "*", "a.*", "a.>"] {
            assert!(!is_literal(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn wildcards_match_as_documented() {
        for (filter, subject, expected) in [
            ("foo.*", "foo.bar", true),
            ("foo.*", "foo", false),
            ("foo.*", "foo.bar.baz", false),
            ("foo.>", "foo", false),
            ("foo.>", "foo.bar.baz", true),
            (">", "foo", true),
            ("*", "*", true),
            ("foo", "*", false),
            ("foo.*", "foo.>", true),
            ("*.b", "a.b", true),
            ("*", "", false),
            (">", "a..b", false),
        ] {
            assert_eq!(
                matches(filter.as_bytes(), subject.as_bytes()),
                expected,
                "{filter} {subject}"
            );
        }
    }
}
