//! Nkeys: Ed25519 public keys as text whose first letter tells what they are for.
//!
//! The text is RFC 4648 base32 without padding of one byte for the kind, 32 bytes of key, and their
//! CRC-16/XMODEM with the low byte first.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD};

/// Bytes of an Ed25519 public key.
pub const KEY_BYTES: usize = 32;

/// Kind, key and checksum; whole groups of base32.
const RAW_BYTES: usize = 1 + KEY_BYTES + 2;

/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// What a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `N...`
    Server,
    /// `U...`
    User,
}

impl Kind {
    /// The byte that makes the text begin with the kind's letter.
    pub(super) fn prefix(self) -> u8 {
        let letter = match self {
            Self::Server => 13,
            Self::User => 20,
        };
        letter << 3
    }
}

/// The text of a public key.
#[must_use]
pub fn encode(kind: Kind, key: &[u8; KEY_BYTES]) -> String {
    let mut raw = [0; RAW_BYTES];
    raw[0] = kind.prefix();
    raw[1..=KEY_BYTES].copy_from_slice(key);
    let crc = crc16(&raw[..=KEY_BYTES]);
    raw[1 + KEY_BYTES..].copy_from_slice(&crc.to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}

/// The key in a text; `None` if it is of another kind, mistyped, or no nkey at all.
#[must_use]
pub fn decode(kind: Kind, text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut raw = [0; RAW_BYTES];
    if BASE32_NOPAD.decode_len(text.len()) != Ok(RAW_BYTES) {
        return None;
    }
    BASE32_NOPAD.decode_mut(text.as_bytes(), &mut raw).ok()?;
    let (signed, crc) = raw.split_at(1 + KEY_BYTES);
    if signed[0] != kind.prefix() || crc16(signed).to_le_bytes() != crc {
        return None;
    }
    signed[1..].try_into().ok()
}

/// Whether `signature`, as text, is the owner of `key`'s under `message`.
pub(super) fn verify(key: &[u8; KEY_BYTES], message: &[u8], signature: &str) -> bool {
    let Some(signature) = decode_signature(signature) else {
        return false;
    };
    UnparsedPublicKey::new(&ED25519, key)
        .verify(message, &signature)
        .is_ok()
}

/// Most clients send the URL alphabet without padding; the reference takes the standard one as well.
fn decode_signature(text: &str) -> Option<[u8; SIGNATURE_BYTES]> {
    // Longest text of that many bytes, padding included. Anything longer is not worth decoding.
    if text.len() > SIGNATURE_BYTES.div_ceil(3) * 4 {
        return None;
    }
    let text = text.as_bytes();
    let bytes = BASE64URL_NOPAD
        .decode(text)
        .or_else(|_| BASE64.decode(text))
        .ok()?;
    bytes.try_into().ok()
}

/// CRC-16/XMODEM.
pub(super) fn crc16(bytes: &[u8]) -> u16 {
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

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use proptest::prelude::*;

    use super::*;

    const NONCE: &[u8] = b"PXoWU7zWAMt75FY";

    fn pair() -> (Ed25519KeyPair, [u8; KEY_BYTES]) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = pair.public_key().as_ref().try_into().unwrap();
        (pair, key)
    }

    #[test]
    fn checksum_follows_its_standard() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn kinds_show_in_the_first_letter_and_are_not_mixed_up() {
        let server = encode(Kind::Server, &[0xff; KEY_BYTES]);
        assert_eq!((server.len(), &server[..1]), (56, "N"));
        assert_eq!(decode(Kind::Server, &server), Some([0xff; KEY_BYTES]));
        assert_eq!(decode(Kind::User, &server), None);
    }

    /// The public key in the reference's documentation on nkeys.
    #[test]
    fn a_key_made_elsewhere_is_read() {
        let text = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
        let key = decode(Kind::User, text).unwrap();
        assert_eq!(encode(Kind::User, &key), text);
    }

    #[test]
    fn both_alphabets_of_signatures_are_taken() {
        let (pair, key) = pair();
        let signature = pair.sign(NONCE);
        assert!(verify(
            &key,
            NONCE,
            &BASE64URL_NOPAD.encode(signature.as_ref())
        ));
        assert!(verify(&key, NONCE, &BASE64.encode(signature.as_ref())));
        assert!(!verify(
            &key,
            b"another",
            &BASE64.encode(signature.as_ref())
        ));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(key: [u8; KEY_BYTES]) {
            prop_assert_eq!(decode(Kind::User, &encode(Kind::User, &key)), Some(key));
        }

        #[test]
        fn a_changed_key_is_no_key(
            key: [u8; KEY_BYTES],
            place in 0usize..=56,
            removed in 0usize..4,
            added in "[A-Z2-7=a-z\u{e9}]{0,3}",
        ) {
            let text = encode(Kind::User, &key);
            let end = (place + removed).min(text.len());
            let changed = format!("{}{added}{}", &text[..place], &text[end..]);
            prop_assume!(changed != text);
            // A CRC of 16 bits lets one change in 65536 pass; it never yields the same key.
            prop_assert_ne!(decode(Kind::User, &changed), Some(key));
            if changed.len() != text.len() {
                prop_assert_eq!(decode(Kind::User, &changed), None);
            }
        }

        #[test]
        fn signatures_of_any_wrong_length_or_content_are_refused(
            cut in 0usize..=64,
            added in prop::collection::vec(any::<u8>(), 0..70),
            text in ".{0,100}",
        ) {
            let (pair, key) = pair();
            let signature = pair.sign(NONCE);
            let mut bytes = signature.as_ref()[..cut].to_vec();
            bytes.extend(added);
            let genuine = bytes == signature.as_ref();
            prop_assert_eq!(verify(&key, NONCE, &BASE64URL_NOPAD.encode(&bytes)), genuine);
            prop_assert_eq!(verify(&key, NONCE, &BASE64.encode(&bytes)), genuine);
            prop_assert!(!verify(&key, NONCE, &text));
        }
    }
}
