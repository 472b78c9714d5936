//! Users' nkeys: seeds as client libraries read them, made without the code under test.

use anyhow::Context;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use data_encoding::BASE32_NOPAD;

/// What makes the text of a public key begin with `U`, and of a seed with `SU`.
const USER: u8 = 20 << 3;
/// The same for `O` and `A`.
const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const SEED: u8 = 18 << 3;

const SEED_BYTES: usize = 32;

/// A user's key pair. `Debug` shows nothing of it.
pub struct UserKey {
    seed: [u8; SEED_BYTES],
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for UserKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserKey")
    }
}

impl UserKey {
    /// A fresh one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let mut seed = [0; SEED_BYTES];
        aws_lc_rs::rand::fill(&mut seed).ok().context("a seed")?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
        let pair = pair.ok().context("a key from a seed")?;
        Ok(Self { seed, pair })
    }

    /// The text of the seed, `SU...`.
    pub fn seed(&self) -> String {
        encode(&seed_prefix(), &self.seed)
    }

    /// The text of the public key, `U...`.
    pub fn public(&self) -> String {
        self.public_as(USER)
    }

    /// The same of a key that is an operator's, `O...`.
    pub fn public_of_operator(&self) -> String {
        self.public_as(OPERATOR)
    }

    /// The same of a key that is an account's, `A...`.
    pub fn public_of_account(&self) -> String {
        self.public_as(ACCOUNT)
    }

    fn public_as(&self, prefix: u8) -> String {
        encode(&[prefix], self.pair.public_key().as_ref())
    }

    /// The signature under a text.
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }
}

/// Two prefixes of five bits in two bytes.
fn seed_prefix() -> [u8; 2] {
    [SEED | (USER >> 5), USER << 3]
}

fn encode(prefix: &[u8], key: &[u8]) -> String {
    let mut raw = [prefix, key].concat();
    let crc = crc16(&raw);
    raw.extend(crc.to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_catalogued_one() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn texts_begin_as_the_libraries_expect() {
        let key = UserKey::generate().unwrap();
        assert!(key.seed().starts_with("SU"), "{}", key.seed());
        assert_eq!(key.seed().len(), 58);
        assert!(key.public().starts_with('U'), "{}", key.public());
        assert_eq!(key.public().len(), 56);
    }
}
