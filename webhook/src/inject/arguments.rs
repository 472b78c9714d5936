//! The flags that a broker's container already has, in any of Go's spellings.

/// Flags in the order given, without dashes, with their value where one follows.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<(String, Option<String>)>);

impl Arguments {
    /// Reads `-x`, `--x`, `-x=v` and `-x v`. Words that belong to no flag are skipped.
    pub(super) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut flags: Vec<(String, Option<String>)> = Vec::new();
        for word in words {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                if let Some((_, value @ None)) = flags.last_mut() {
                    *value = Some(word.to_owned());
                }
                continue;
            };
            flags.push(match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag.to_owned(), None),
            });
        }
        Self(flags)
    }

    /// Whether any of the spellings of a flag is there.
    pub(super) fn has(&self, spellings: &[&str]) -> bool {
        self.0
            .iter()
            .any(|(name, _)| spellings.contains(&name.as_str()))
    }

    /// The value of a flag; of several the last, as Go's parser has it.
    pub(super) fn value(&self, spellings: &[&str]) -> Option<&str> {
        let given = self
            .0
            .iter()
            .rev()
            .find(|(name, _)| spellings.contains(&name.as_str()))?;
        given.1.as_deref()
    }

    /// The value of a flag that is a port.
    pub(super) fn port(&self, spellings: &[&str]) -> Option<u16> {
        self.value(spellings)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_flag_are_seen() {
        for words in [
            &["-p", "4000"][..],
            &["--p", "4000"],
            &["-p=4000"],
            &["--port=4000"],
        ] {
            let arguments = Arguments::parse(words.iter().copied());
            assert!(arguments.has(&["p", "port"]), "{words:?}");
            assert_eq!(arguments.port(&["p", "port"]), Some(4000), "{words:?}");
        }
    }

    #[test]
    fn a_program_before_the_flags_is_no_flag() {
        let arguments = Arguments::parse(["stanchion-broker", "-DV", "--tls=false"]);
        assert!(arguments.has(&["tls"]));
        assert!(!arguments.has(&["stanchion-broker"]));
        assert_eq!(arguments.port(&["p"]), None);
    }

    #[test]
    fn of_several_values_the_last_counts() {
        let arguments = Arguments::parse(["-m", "1", "-m", "2"]);
        assert_eq!(arguments.port(&["m"]), Some(2));
    }
}
