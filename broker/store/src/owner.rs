//! Names under which an activation owns a store.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What the ids of our brokers begin with, and no NUID of the reference server does: whoever finds
/// one in the lock row knows that its owner holds an advisory lock as long as it lives.
const PREFIX: &str = "stn-";

/// Characters after the prefix: 22 digits of base 62 carry 128 bits. `StoreLock.id` holds 30.
const DIGITS_OF_ID: usize = 22;

/// A fresh owner id. `None`: the system gives no random numbers.
pub(crate) fn fresh_owner_id() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    let mut rest = u128::from_ne_bytes(bytes);
    let mut id = String::from(PREFIX);
    for _ in 0..DIGITS_OF_ID {
        let digit = usize::try_from(rest % 62).expect("below 62");
        id.push(char::from(DIGITS[digit]));
        rest /= 62;
    }
    Some(id)
}

/// Whether an id was made by [`fresh_owner_id`], here or in another process.
pub(crate) fn is_of_our_kind(id: &str) -> bool {
    id.strip_prefix(PREFIX)
        .is_some_and(|rest| rest.len() == DIGITS_OF_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_fit_the_lock_column() {
        let first = fresh_owner_id().unwrap();
        let second = fresh_owner_id().unwrap();
        assert_ne!(first, second);
        assert!(first.len() <= 30 && is_of_our_kind(&first));
        assert!(!is_of_our_kind("bRLmCwYis4IYWHZAovOBr0"));
    }
}
