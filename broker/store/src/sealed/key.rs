//! Keys of channels, and payloads sealed with them.
//!
//! The stored form is NATS Streaming's: a byte that names the cipher, a nonce of 12 bytes, the
//! ciphertext and a tag of 16 bytes; nothing is authenticated beside it. A channel's key is SHA-256
//! over zero bytes (33 and as many as its name has), SHA-256 of the configured key, a dot and its name.
//! The zero bytes are an accident of the reference; without them its messages could not be read.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    digest::{SHA256, digest},
};
use bytes::{BufMut, BytesMut};
use zeroize::Zeroizing;

const NONCE: usize = 12;
const TAG: usize = 16;

/// By so many bytes a sealed payload is longer.
pub(super) const OVERHEAD: usize = 1 + NONCE + TAG;

/// What payloads are sealed with; either is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    Aes256Gcm,
    ChaCha20Poly1305,
}

/// A name that is no cipher's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("encryption cipher not supported")]
pub struct UnknownCipher;

impl Default for Cipher {
    /// What this kind of processor does in hardware.
    fn default() -> Self {
        match cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
            true => Self::Aes256Gcm,
            false => Self::ChaCha20Poly1305,
        }
    }
}

impl FromStr for Cipher {
    type Err = UnknownCipher;

    /// Reads `AES` or `CHACHA`, in any case; nothing means the default.
    fn from_str(name: &str) -> Result<Self, UnknownCipher> {
        match name.to_ascii_uppercase().as_str() {
            "" => Ok(Self::default()),
            "AES" => Ok(Self::Aes256Gcm),
            "CHACHA" => Ok(Self::ChaCha20Poly1305),
            _ => Err(UnknownCipher),
        }
    }
}

impl Cipher {
    fn code(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305]
            .into_iter()
            .find(|cipher| cipher.code() == code)
    }

    fn key(self, bytes: &[u8; 32]) -> LessSafeKey {
        let algorithm: &'static Algorithm = match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, bytes).expect("both ciphers take 32 bytes");
        LessSafeKey::new(key)
    }
}

/// Why a payload is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    /// Never sealed: stored before encryption was turned on.
    #[error("not encrypted")]
    Plain,
    #[error("begins like an encrypted payload but is too short for one")]
    Truncated,
    #[error("cannot be decrypted: another key, damaged, or stored without encryption")]
    Refused,
}

/// The digest of the configured key.
pub(super) struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    pub(super) fn new(configured: &[u8]) -> Self {
        Self(Zeroizing::new(sha256(configured)))
    }

    /// The seal of a channel; `last` is its last sequence, which keeps nonces of one process apart
    /// from those of another even where their random parts meet.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn for_channel(
        &self,
        channel: &str,
        cipher: Cipher,
        last: u64,
    ) -> Result<ChannelSeal, getrandom::Error> {
        let zeroes = 32 + 1 + channel.len();
        // Never grown, so that no copy of the key stays behind.
        let mut text = Zeroizing::new(Vec::with_capacity(zeroes + 32 + 1 + channel.len()));
        text.resize(zeroes, 0);
        text.extend_from_slice(&*self.0);
        text.push(b'.');
        text.extend_from_slice(channel.as_bytes());
        let bytes = Zeroizing::new(sha256(&text));
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce[..4])?;
        nonce[4..].copy_from_slice(&(last + 1).to_be_bytes());
        Ok(ChannelSeal {
            cipher,
            key: cipher.key(&bytes),
            bytes,
            nonce,
        })
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// Seals and opens the payloads of one channel.
pub(super) struct ChannelSeal {
    cipher: Cipher,
    key: LessSafeKey,
    /// For what another cipher sealed.
    bytes: Zeroizing<[u8; 32]>,
    /// Of the next message: random at first, then counted up. No two messages share one.
    nonce: [u8; NONCE],
}

impl fmt::Debug for ChannelSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSeal")
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

impl ChannelSeal {
    /// Appends a payload, sealed: [`OVERHEAD`] bytes more than it has.
    pub(super) fn put_sealed(&mut self, out: &mut BytesMut, payload: &[u8]) {
        out.reserve(payload.len() + OVERHEAD);
        out.put_u8(self.cipher.code());
        out.put_slice(&self.nonce);
        let start = out.len();
        out.put_slice(payload);
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..])
            .expect("no payload of a message is too long for either cipher");
        out.put_slice(tag.as_ref());
        count_up(&mut self.nonce);
    }

    /// The payload of a stored one.
    pub(super) fn open(&self, stored: &[u8]) -> Result<Vec<u8>, OpenError> {
        let cipher = stored.first().and_then(|code| Cipher::from_code(*code));
        let cipher = cipher.ok_or(OpenError::Plain)?;
        let (nonce, sealed) = stored[1..]
            .split_first_chunk::<NONCE>()
            .filter(|(_, sealed)| sealed.len() >= TAG)
            .ok_or(OpenError::Truncated)?;
        let other;
        let key = if cipher == self.cipher {
            &self.key
        } else {
            other = cipher.key(&self.bytes);
            &other
        };
        let mut payload = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, Aad::empty(), &mut payload);
        let length = opened.map_err(|_| OpenError::Refused)?.len();
        payload.truncate(length);
        Ok(payload)
    }
}

/// The next number, of twelve bytes with the highest first.
fn count_up(nonce: &mut [u8; NONCE]) {
    for byte in nonce.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(cipher: Cipher) -> ChannelSeal {
        let key = MasterKey::new(b"testkey");
        key.for_channel("foo", cipher, 0).unwrap()
    }

    fn sealed(by: &mut ChannelSeal, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        by.put_sealed(&mut out, payload);
        out
    }

    #[test]
    fn either_cipher_opens_what_the_other_one_s_owner_sealed() {
        for (ours, theirs) in [
            (Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305),
            (Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm),
            (Cipher::Aes256Gcm, Cipher::Aes256Gcm),
        ] {
            // Long enough not to come about by chance.
            for payload in [&b"no chance"[..], &[7; 5000]] {
                let stored = sealed(&mut seal(theirs), payload);
                assert_eq!(stored.len(), payload.len() + OVERHEAD);
                assert!(stored.windows(payload.len()).all(|part| part != payload));
                assert_eq!(seal(ours).open(&stored).unwrap(), payload);
            }
        }
    }

    #[test]
    fn no_nonce_comes_twice() {
        let mut ours = seal(Cipher::Aes256Gcm);
        ours.nonce = [0xff; NONCE];
        let nonces = [(); 3].map(|()| sealed(&mut ours, b"same")[1..=NONCE].to_vec());
        assert_eq!(nonces[1], [0; NONCE]);
        assert!(nonces[0] != nonces[2] && nonces[1] != nonces[2]);
        let again = seal(Cipher::Aes256Gcm);
        assert_ne!(again.nonce[..4], seal(Cipher::Aes256Gcm).nonce[..4]);
    }

    #[test]
    fn keys_differ_by_channel_and_by_what_was_configured() {
        let stored = sealed(&mut seal(Cipher::Aes256Gcm), b"payload");
        let other = |configured: &[u8], channel| {
            let key = MasterKey::new(configured);
            let seal = key.for_channel(channel, Cipher::Aes256Gcm, 0).unwrap();
            seal.open(&stored)
        };
        assert_eq!(other(b"testkey", "foo").unwrap(), b"payload");
        assert_eq!(other(b"testkey", "bar"), Err(OpenError::Refused));
        assert_eq!(other(b"another", "foo"), Err(OpenError::Refused));
        assert_eq!(other(&[0; 32], "foo"), Err(OpenError::Refused));
        assert_eq!(other(b"", "foo"), Err(OpenError::Refused));
    }

    #[test]
    fn damage_is_seen_and_what_was_never_sealed_is_told_apart() {
        let ours = seal(Cipher::Aes256Gcm);
        let stored = sealed(&mut seal(Cipher::Aes256Gcm), b"payload");
        for at in 1..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 1;
            assert_eq!(ours.open(&damaged), Err(OpenError::Refused), "{at}");
        }
        assert_eq!(ours.open(b"plain"), Err(OpenError::Plain));
        assert_eq!(ours.open(b""), Err(OpenError::Plain));
        assert_eq!(
            ours.open(&stored[..OVERHEAD - 1]),
            Err(OpenError::Truncated)
        );
        assert_eq!(ours.open(&stored[..OVERHEAD]), Err(OpenError::Refused));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", seal(Cipher::Aes256Gcm));
        assert_eq!(shown, "ChannelSeal { cipher: Aes256Gcm, .. }");
    }
}
