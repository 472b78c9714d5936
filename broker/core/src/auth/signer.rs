//! The secret half of an nkey of a user, with which a client proves who it is.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use zeroize::Zeroizing;

use super::nkey::{self, KEY_BYTES, Kind};

/// Two bytes for "seed" and for whose it is, the seed, its checksum.
const RAW_BYTES: usize = 2 + KEY_BYTES + 2;

/// What a seed begins with, before the kind of its key is mixed in: `S`.
const SEED: u8 = 18 << 3;

/// Signs what a server asks for.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: String,
}

impl fmt::Debug for Signer {
    /// The public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.public).finish()
    }
}

/// The text is no seed of a user's nkey: mistyped, or that of something else. Says nothing about the
/// text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the seed of a user's nkey, which begins with SU")]
pub struct BadSeed;

impl Signer {
    /// Reads a seed as text, `SU...`.
    ///
    /// # Errors
    /// See [`BadSeed`].
    pub fn from_seed(text: &str) -> Result<Self, BadSeed> {
        let mut raw = Zeroizing::new([0; RAW_BYTES]);
        if BASE32_NOPAD.decode_len(text.len()) != Ok(RAW_BYTES) {
            return Err(BadSeed);
        }
        let decoded = BASE32_NOPAD.decode_mut(text.as_bytes(), raw.as_mut_slice());
        decoded.map_err(|_| BadSeed)?;
        let (signed, checksum) = raw.split_at(2 + KEY_BYTES);
        let kind = Kind::User.prefix();
        let begins = [SEED | kind >> 5, (kind & 31) << 3];
        if signed[..2] != begins || nkey::crc16(signed).to_le_bytes() != checksum {
            return Err(BadSeed);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&signed[2..]).map_err(|_| BadSeed)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| BadSeed)?;
        Ok(Self {
            public: nkey::encode(Kind::User, key),
            pair,
        })
    }

    /// The public half as text, `U...`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The signature under a nonce, as `CONNECT` carries it.
    #[must_use]
    pub fn sign(&self, nonce: &[u8]) -> String {
        BASE64URL_NOPAD.encode(self.pair.sign(nonce).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pair in the reference's documentation on nkeys.
    const SEED_TEXT: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC_TEXT: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    /// The same 32 bytes under another beginning, with the right checksum.
    fn resealed(begins: [u8; 2]) -> String {
        let mut raw = BASE32_NOPAD.decode(SEED_TEXT.as_bytes()).unwrap();
        raw[..2].copy_from_slice(&begins);
        let checksum = nkey::crc16(&raw[..2 + KEY_BYTES]).to_le_bytes();
        raw[2 + KEY_BYTES..].copy_from_slice(&checksum);
        BASE32_NOPAD.encode(&raw)
    }

    #[test]
    fn a_seed_signs_what_its_public_half_verifies() {
        let signer = Signer::from_seed(SEED_TEXT).unwrap();
        assert_eq!(signer.public(), PUBLIC_TEXT);
        let key = nkey::decode(Kind::User, PUBLIC_TEXT).unwrap();
        assert!(nkey::verify(&key, b"nonce", &signer.sign(b"nonce")));
        assert!(!nkey::verify(&key, b"other", &signer.sign(b"nonce")));
    }

    #[test]
    fn what_is_no_seed_of_a_user_is_refused_and_not_shown() {
        assert!(Signer::from_seed(&resealed([SEED | 20 >> 2, (20 & 3) << 6])).is_ok());
        let account = resealed([SEED, 0]);
        for text in ["", "SU", &SEED_TEXT[1..], PUBLIC_TEXT, &account] {
            assert_eq!(Signer::from_seed(text).unwrap_err(), BadSeed, "{text}");
        }
        let shown = format!("{:?}", Signer::from_seed(SEED_TEXT).unwrap());
        assert!(!shown.contains("SUAC"));
    }
}
