//! Small worlds in which everything can be enumerated, and the meaning of filters in its plainest form.

/// Every subject of one to three of these tokens. `*` is a token like others: a publisher may use it.
pub(crate) fn subjects() -> impl Iterator<Item = String> {
    const TOKENS: [&str; 3] = ["a", "b", "*"];
    let one = TOKENS.map(str::to_owned).into_iter();
    let two = TOKENS
        .into_iter()
        .flat_map(|one| TOKENS.map(|two| format!("{one}.{two}")));
    let three = two
        .clone()
        .flat_map(|two| TOKENS.map(|three| format!("{two}.{three}")));
    one.chain(two).chain(three)
}

/// Whether a filter matches a literal subject, one token after the other.
pub(crate) fn matches(filter: &str, subject: &str) -> bool {
    let filter: Vec<_> = filter.split('.').collect();
    let subject: Vec<_> = subject.split('.').collect();
    fits(&filter, &subject)
}

fn fits(filter: &[&str], subject: &[&str]) -> bool {
    match (filter, subject) {
        ([">"], [_, ..]) | ([], []) => true,
        ([first, filter @ ..], [token, subject @ ..]) => {
            (*first == "*" || first == token) && fits(filter, subject)
        }
        _ => false,
    }
}

/// Reads words from any bytes; they are made of few letters, so that they meet each other.
pub(crate) struct Words<'a>(pub(crate) &'a [u8]);

impl Words<'_> {
    /// The next byte, 0 at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        let [first, rest @ ..] = self.0 else { return 0 };
        self.0 = rest;
        *first
    }

    /// A legal filter of at most four tokens.
    pub(crate) fn filter(&mut self) -> String {
        let choice = self.byte();
        let count = usize::from(choice & 3) + 1;
        let mut tokens: Vec<&str> = (0..count)
            .map(|_| ["a", "b", "*", "c"][usize::from(self.byte() & 3)])
            .collect();
        if choice & 4 != 0 {
            tokens[count - 1] = ">";
        }
        tokens.join(".")
    }

    /// Nothing, or one of a few names.
    pub(crate) fn queue_group(&mut self) -> &'static str {
        ["", "", "q", "r.s"][usize::from(self.byte() & 3)]
    }
}
