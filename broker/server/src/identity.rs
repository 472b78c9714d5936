//! Names this process gives itself: the server's id, an nkey public key of type server, as `INFO`
//! shows it, and the streaming server's id, a NUID.

use broker_core::auth::nkey;
use rustls::crypto::SecureRandom;

/// A new id. It only tells servers apart, so that random bytes do for a public key.
///
/// # Errors
/// The system has no random numbers to give.
pub(crate) fn server_id(
    random: &dyn SecureRandom,
) -> Result<String, rustls::crypto::GetRandomFailed> {
    let mut key = [0; nkey::KEY_BYTES];
    random.fill(&mut key)?;
    Ok(nkey::encode(nkey::Kind::Server, &key))
}

/// A new id of a streaming server: 22 characters, as NUIDs have.
///
/// # Errors
/// The system has no random numbers to give.
pub(crate) fn streaming_id(
    random: &dyn SecureRandom,
) -> Result<String, rustls::crypto::GetRandomFailed> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0; 22];
    random.fill(&mut bytes)?;
    let places = bytes.iter().map(|byte| usize::from(*byte) % ALPHABET.len());
    Ok(places.map(|place| char::from(ALPHABET[place])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_server_nkeys_and_differ() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let id = server_id(provider.secure_random).unwrap();
        assert_eq!((id.len(), &id[..1]), (56, "N"));
        assert_ne!(id, server_id(provider.secure_random).unwrap());
    }
}
