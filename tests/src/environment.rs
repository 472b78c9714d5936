//! What whoever runs a long test says in the environment.

/// A number from the environment.
///
/// # Panics
/// When what stands there is no number.
#[must_use]
pub fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
        Err(_) => default,
    }
}
