//! The authority of the admission listener, in two slots, so that it can be replaced while nobody notices.
//!
//! ```text
//! life of `current`   0 ------- 1/2 ------- 2/3 ------- 5/6 ------- 1
//!                               next made   next signs  next becomes current
//! registered bundle   current   current+next            next
//! ```
//! A new authority is thus trusted long before anything is signed by it, and an old one long after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use certs::authority::{Authority, AuthorityError, AuthorityParams};
use k8s_openapi::ByteString;
use time::OffsetDateTime;

/// Life of an authority.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// The data of a Secret.
pub(crate) type SecretData = BTreeMap<String, ByteString>;

/// One or two authorities.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    current: Arc<Authority>,
    next: Option<Arc<Authority>>,
}

/// What the stored slots lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Keep,
    /// The second slot has to be filled.
    Prepare,
    /// The second slot takes the place of the first.
    Promote,
}

/// The Secret does not hold what it should; somebody else wrote it, and nothing is made over it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error("{0} is missing or not text")]
    Missing(&'static str),
    #[error("the authority cannot be used")]
    Authority(#[from] AuthorityError),
}

impl Slots {
    /// A first authority.
    pub(crate) fn generate(now: OffsetDateTime) -> Result<Self, AuthorityError> {
        Ok(Self {
            current: fresh(now)?,
            next: None,
        })
    }

    /// Reads what [`Self::to_data`] wrote.
    pub(crate) fn from_data(data: &SecretData) -> Result<Self, SlotError> {
        let next = if data.contains_key("next.pem") {
            Some(read(data, "next.pem", "next-key.pem")?)
        } else {
            None
        };
        Ok(Self {
            current: read(data, "current.pem", "current-key.pem")?,
            next,
        })
    }

    /// The data of the Secret.
    pub(crate) fn to_data(&self) -> SecretData {
        let mut data = SecretData::new();
        let mut write = |certificate: &str, key: &str, authority: &Authority| {
            let pem = authority.bundle_pem().as_bytes().to_vec();
            data.insert(certificate.to_owned(), ByteString(pem));
            data.insert(
                key.to_owned(),
                ByteString(authority.key_pem().as_bytes().to_vec()),
            );
        };
        write("current.pem", "current-key.pem", &self.current);
        if let Some(next) = &self.next {
            write("next.pem", "next-key.pem", next);
        }
        data
    }

    /// What is due.
    pub(crate) fn step(&self, now: OffsetDateTime) -> Step {
        match &self.next {
            None if self.age(now) >= 1.0 / 2.0 => Step::Prepare,
            Some(_) if self.age(now) >= 5.0 / 6.0 => Step::Promote,
            None | Some(_) => Step::Keep,
        }
    }

    /// The slots after what is due.
    pub(crate) fn advanced(&self, now: OffsetDateTime) -> Result<Self, AuthorityError> {
        let mut slots = self.clone();
        match (self.step(now), &self.next) {
            (Step::Prepare, _) => slots.next = Some(fresh(now)?),
            (Step::Promote, Some(next)) => {
                slots = Self {
                    current: next.clone(),
                    next: None,
                };
            }
            (Step::Promote | Step::Keep, _) => {}
        }
        Ok(slots)
    }

    /// The authority that signs now.
    pub(crate) fn signer(&self, now: OffsetDateTime) -> &Arc<Authority> {
        match &self.next {
            Some(next) if self.age(now) >= 2.0 / 3.0 => next,
            _ => &self.current,
        }
    }

    /// What peers have to trust: both.
    pub(crate) fn bundle_pem(&self) -> String {
        let next = self.next.as_ref().map_or("", |next| next.bundle_pem());
        format!("{}{next}", self.current.bundle_pem())
    }

    /// Share of the life of the first slot that is over.
    fn age(&self, now: OffsetDateTime) -> f64 {
        let info = self.current.info();
        (now - info.not_before) / (info.not_after - info.not_before)
    }
}

fn fresh(now: OffsetDateTime) -> Result<Arc<Authority>, AuthorityError> {
    let params = AuthorityParams {
        common_name: "stanchion-webhook".to_owned(),
        lifetime: LIFETIME,
    };
    Authority::generate(&params, now).map(Arc::new)
}

fn read(
    data: &SecretData,
    certificate: &'static str,
    key: &'static str,
) -> Result<Arc<Authority>, SlotError> {
    let text = |name: &'static str| {
        let bytes = data.get(name).ok_or(SlotError::Missing(name))?;
        std::str::from_utf8(&bytes.0).map_err(|_| SlotError::Missing(name))
    };
    Ok(Arc::new(Authority::from_pem(
        text(certificate)?,
        text(key)?,
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(share: f64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(START).unwrap() + LIFETIME.mul_f64(share)
    }

    #[test]
    fn an_authority_is_trusted_before_it_signs_and_after() {
        let mut slots = Slots::generate(at(0.0)).unwrap();
        let mut signers = Vec::new();
        for percent in 0_u32..400 {
            let now = at(f64::from(percent) / 100.0);
            let trusted_before = slots.bundle_pem();
            slots = slots.advanced(now).unwrap();
            let signer = slots.signer(now);
            assert!(
                trusted_before.contains(signer.bundle_pem()),
                "signs untrusted at {percent} %"
            );
            if signers.last() != Some(&signer.info().serial_hex) {
                signers.push(signer.info().serial_hex.clone());
            }
            assert!(
                signer.info().not_after > now,
                "signs when expired at {percent} %"
            );
        }
        assert!(signers.len() > 3, "never replaced: {signers:?}");
    }

    #[test]
    fn what_was_written_is_read_back() {
        let slots = Slots::generate(at(0.0))
            .unwrap()
            .advanced(at(0.55))
            .unwrap();
        let again = Slots::from_data(&slots.to_data()).unwrap();
        assert_eq!(again.bundle_pem(), slots.bundle_pem());
        assert_eq!(again.step(at(0.6)), Step::Keep);
    }

    #[test]
    fn a_secret_of_somebody_else_is_an_error() {
        assert!(matches!(
            Slots::from_data(&SecretData::new()),
            Err(SlotError::Missing(_))
        ));
    }

    #[test]
    fn after_a_long_sleep_a_new_authority_signs() {
        let slots = Slots::generate(at(0.0)).unwrap().advanced(at(1.5)).unwrap();
        assert!(slots.signer(at(1.5)).info().not_after > at(1.5));
    }
}
