//! Which client ids and channel names are allowed.

/// `^[a-zA-Z0-9_-]+$`, ASCII.
pub(super) fn is_client_id(id: &str) -> bool {
    !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// A literal channel: tokens separated by single dots, none empty, no slash, and no wildcard
/// character even inside a token. The text if it is UTF-8, as a channel must be to be stored.
pub(super) fn channel_name(name: &[u8]) -> Option<&str> {
    let mut token_bytes = 0;
    for byte in name {
        match byte {
            b'/' | b'*' | b'>' => return None,
            b'.' if token_bytes == 0 => return None,
            b'.' => token_bytes = 0,
            _ => token_bytes += 1,
        }
    }
    if token_bytes == 0 {
        None
    } else {
        std::str::from_utf8(name).ok()
    }
}

/// Whether a message can be published to this subject at all.
pub(super) fn is_publishable(subject: &str) -> bool {
    !subject.is_empty() && !subject.bytes().any(|byte| byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_names_are_literal_subjects_without_slashes() {
        let invalid = [
            "foo.bar*",
            "foo.bar>",
            "foo.bar.*",
            "foo.bar.>",
            "foo*.bar",
            "foo>.bar",
            "foo..bar",
            ".foo.bar",
            "foo.bar.",
            "..",
            ".",
            "foo/bar",
            "",
        ];
        for name in invalid {
            assert_eq!(channel_name(name.as_bytes()), None, "{name}");
        }
        let long = ["a"; 101].join(".");
        for name in ["foo", "foo.bar", "Foo bar", "f\u{f6}\u{f6}", &long] {
            assert_eq!(channel_name(name.as_bytes()), Some(name));
        }
        assert_eq!(channel_name(b"f\xff"), None);
    }

    #[test]
    fn client_ids_are_ascii_words() {
        for id in ["", "a b", "a:b", "a,b", "a.b", "a\n", "\u{e4}", "me!"] {
            assert!(!is_client_id(id), "{id}");
        }
        for id in ["me", "Me-2_x", "_", "-", "0"] {
            assert!(is_client_id(id), "{id}");
        }
    }
}
