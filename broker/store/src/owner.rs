//! Names under which an activation owns a store.

use rustls::crypto::aws_lc_rs;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Characters of an owner id, as many as in the NUIDs of the reference server. 22 digits of base 62
/// carry 128 bits.
pub(crate) const OWNER_ID_LENGTH: usize = 22;

/// A fresh owner id. `None`: the system gives no random numbers.
pub(crate) fn fresh_owner_id() -> Option<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .ok()?;
    let mut rest = u128::from_ne_bytes(bytes);
    let mut id = String::with_capacity(OWNER_ID_LENGTH);
    for _ in 0..OWNER_ID_LENGTH {
        let digit = usize::try_from(rest % 62).expect("below 62");
        id.push(char::from(DIGITS[digit]));
        rest /= 62;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_fit_the_lock_column() {
        let first = fresh_owner_id().unwrap();
        let second = fresh_owner_id().unwrap();
        assert_ne!(first, second);
        assert!(first.len() <= 30 && first.bytes().all(|byte| DIGITS.contains(&byte)));
    }
}
