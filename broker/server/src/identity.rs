//! Names this process gives itself: the server's id, an nkey public key of type server, as `INFO`
//! shows it, and the streaming server's id, a NUID. Random bytes for them come from the system: a process
//! that speaks no TLS never touches the crypto library, which is half a megabyte of resident code.

use broker_core::auth::nkey;

/// A new id. It only tells servers apart, so that random bytes do for a public key.
///
/// # Errors
/// The system has no random numbers to give.
pub(crate) fn server_id() -> Result<String, getrandom::Error> {
    let mut key = [0; nkey::KEY_BYTES];
    getrandom::fill(&mut key)?;
    Ok(nkey::encode(nkey::Kind::Server, &key))
}

/// A new id of a streaming server: 22 characters, as NUIDs have.
///
/// # Errors
/// The system has no random numbers to give.
pub(crate) fn streaming_id() -> Result<String, getrandom::Error> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0; 22];
    getrandom::fill(&mut bytes)?;
    let places = bytes.iter().map(|byte| usize::from(*byte) % ALPHABET.len());
    Ok(places.map(|place| char::from(ALPHABET[place])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_server_nkeys_and_differ() {
        let id = server_id().unwrap();
        assert_eq!((id.len(), &id[..1]), (56, "N"));
        assert_ne!(id, server_id().unwrap());
    }
}
