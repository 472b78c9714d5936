//! An error and everything under it in one line, for logs and for the last words of a program.

use std::error::Error;

/// `error`, then each cause after a colon.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("starting failed")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_told_once_and_in_order() {
        let error = Outer(std::io::Error::other("the disk is gone"));
        assert_eq!(one_line(&error), "starting failed: the disk is gone");
        assert_eq!(one_line(&error.0), "the disk is gone");
    }
}
