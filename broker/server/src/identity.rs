//! Names this process gives itself: the server's id, an nkey public key of type server, as `INFO`
//! shows it, and the streaming server's id, a NUID.

use rustls::crypto::SecureRandom;

/// Type of an nkey: its first byte makes the text begin with `N`.
const SERVER: u8 = 13 << 3;

/// A new id: base32 of the type, 32 random bytes, and their CRC-16 with the low byte first.
///
/// # Errors
/// The system has no random numbers to give.
pub(crate) fn server_id(
    random: &dyn SecureRandom,
) -> Result<String, rustls::crypto::GetRandomFailed> {
    let mut key = [0; 35];
    random.fill(&mut key[1..33])?;
    key[0] = SERVER;
    let crc = crc16(&key[..33]);
    key[33..].copy_from_slice(&crc.to_le_bytes());
    Ok(base32(&key))
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

/// CRC-16/XMODEM, which nkeys use.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

/// RFC 4648 without padding, of whole groups of five bytes.
fn base32(bytes: &[u8; 35]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let groups = bytes.chunks_exact(5);
    let text = groups.flat_map(|group| {
        let bits = group
            .iter()
            .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..8)
            .rev()
            .map(move |place| char::from(ALPHABET[(bits >> (5 * place) & 31) as usize]))
    });
    text.collect()
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

    #[test]
    fn checksum_and_text_follow_their_standards() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let mut bytes = [0; 35];
        bytes[..5].copy_from_slice(b"fooba");
        assert!(base32(&bytes).starts_with("MZXW6YTBAAAA"));
    }
}
