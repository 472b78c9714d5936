//! The right to answer requests: a connection whose user has `allow_responses` may publish to the
//! reply subjects of the messages it was given, so many times and for so long.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::RandomState;

use super::settings::ResponseSettings;

/// Most that the permits of one connection may take, counted as the bytes of their subjects and
/// [`PERMIT_BYTES`] each. About 100,000 outstanding requests with common inboxes. Beyond that the
/// oldest permit is forgotten; the reference has no such bound.
const MAX_BYTES: usize = 16 << 20;

/// About what a permit takes beside its subject.
const PERMIT_BYTES: usize = 128;

/// Permits of one connection.
#[derive(Debug)]
pub struct ResponsePermits {
    settings: ResponseSettings,
    permits: HashMap<Arc<[u8]>, Permit, RandomState>,
    /// The subjects of `permits` by [`Permit::number`], and so by age.
    order: BTreeMap<u64, Arc<[u8]>>,
    next_number: u64,
    /// Of all permits; at most [`MAX_BYTES`].
    bytes: usize,
}

#[derive(Debug)]
struct Permit {
    number: u64,
    noted: Instant,
    /// Responses so far, fewer than allowed.
    used: u32,
}

impl ResponsePermits {
    /// No permit yet.
    #[must_use]
    pub fn new(settings: ResponseSettings) -> Self {
        Self {
            settings,
            permits: HashMap::default(),
            order: BTreeMap::new(),
            next_number: 0,
            bytes: 0,
        }
    }

    /// What the permits are worth from now on. Those already given keep their age and use.
    pub fn update(&mut self, settings: ResponseSettings) {
        self.settings = settings;
    }

    /// A message with this reply subject was delivered. A second one to the same subject starts
    /// anew.
    pub fn note(&mut self, reply: &[u8], now: Instant) {
        self.remove(reply);
        self.sweep(now);
        let reply: Arc<[u8]> = reply.into();
        let cost = cost(&reply);
        while self.bytes + cost > MAX_BYTES && self.forget_oldest() {}
        let number = self.next_number;
        self.next_number += 1;
        self.bytes += cost;
        self.order.insert(number, Arc::clone(&reply));
        let permit = Permit {
            number,
            noted: now,
            used: 0,
        };
        self.permits.insert(reply, permit);
    }

    /// Uses a permit to publish to `subject`; false if there is none left.
    pub fn claim(&mut self, subject: &[u8], now: Instant) -> bool {
        let Some(permit) = self.permits.get_mut(subject) else {
            return false;
        };
        let late = has_expired(permit, self.settings.expires, now);
        let spent = self.settings.max.is_some_and(|max| permit.used >= max);
        if late || spent {
            self.remove(subject);
            return false;
        }
        permit.used = permit.used.saturating_add(1);
        if self.settings.max == Some(permit.used) {
            self.remove(subject);
        }
        true
    }

    /// Forgets what expired.
    fn sweep(&mut self, now: Instant) {
        while let Some((_, oldest)) = self.order.first_key_value() {
            let permit = &self.permits[oldest];
            if !has_expired(permit, self.settings.expires, now) || !self.forget_oldest() {
                break;
            }
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, subject)) = self.order.pop_first() else {
            return false;
        };
        self.permits.remove(&subject);
        self.bytes -= cost(&subject);
        true
    }

    fn remove(&mut self, subject: &[u8]) {
        if let Some(permit) = self.permits.remove(subject) {
            self.order.remove(&permit.number);
            self.bytes -= cost(subject);
        }
    }
}

fn cost(subject: &[u8]) -> usize {
    subject.len() + PERMIT_BYTES
}

fn has_expired(permit: &Permit, expires: Option<Duration>, now: Instant) -> bool {
    expires.is_some_and(|expires| now.saturating_duration_since(permit.noted) > expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn permits(max: Option<u32>, expires: Option<Duration>) -> (ResponsePermits, Instant) {
        let settings = ResponseSettings { max, expires };
        (ResponsePermits::new(settings), Instant::now())
    }

    #[test]
    fn a_request_allows_so_many_responses_and_the_next_request_as_many_again() {
        let (mut permits, now) = permits(Some(2), None);
        for _ in 0..2 {
            permits.note(b"inbox", now);
            assert!(permits.claim(b"inbox", now));
            assert!(permits.claim(b"inbox", now));
            assert!(!permits.claim(b"inbox", now));
        }
        assert!(!permits.claim(b"other", now));
    }

    #[test]
    fn a_repeated_reply_subject_does_not_add_up() {
        let (mut permits, now) = permits(Some(1), None);
        permits.note(b"inbox", now);
        permits.note(b"inbox", now);
        assert!(permits.claim(b"inbox", now));
        assert!(!permits.claim(b"inbox", now));
    }

    #[test]
    fn a_permit_holds_until_it_expires() {
        let (mut permits, now) = permits(None, Some(MINUTE));
        permits.note(b"inbox", now);
        assert!(permits.claim(b"inbox", now + MINUTE));
        assert!(!permits.claim(b"inbox", now + MINUTE + Duration::from_nanos(1)));
        assert!(!permits.claim(b"inbox", now));
    }

    #[test]
    fn nothing_configured_allows_any_number_for_ever() {
        let (mut permits, now) = permits(None, None);
        permits.note(b"inbox", now);
        assert!((0..1000).all(|_| permits.claim(b"inbox", now + 100_000 * MINUTE)));
    }

    #[test]
    fn expired_and_used_permits_take_no_memory() {
        let (mut permits, now) = permits(Some(1), Some(MINUTE));
        for n in 0..1000 {
            permits.note(format!("inbox.{n}").as_bytes(), now);
        }
        permits.claim(b"inbox.7", now);
        assert_eq!(permits.permits.len(), 999);
        permits.note(b"late", now + 2 * MINUTE);
        assert_eq!((permits.permits.len(), permits.order.len()), (1, 1));
        assert!(permits.claim(b"late", now + 2 * MINUTE));
        assert_eq!((permits.bytes, permits.order.len()), (0, 0));
    }

    #[test]
    fn a_flood_of_requests_drives_out_the_oldest_only() {
        let (mut permits, now) = permits(None, None);
        let long = [b'x'; 4000];
        let reply = |n: usize| [long.as_slice(), n.to_string().as_bytes()].concat();
        for n in 0..5000 {
            permits.note(&reply(n), now);
            assert!(permits.bytes <= MAX_BYTES);
        }
        assert!(!permits.claim(&reply(0), now));
        assert!(permits.claim(&reply(4999), now));
        let kept = (0..5000).filter(|n| permits.claim(&reply(*n), now)).count();
        assert_eq!(kept, permits.permits.len());
        assert!(kept >= MAX_BYTES / (4004 + PERMIT_BYTES) - 1);
    }

    #[test]
    fn narrowed_settings_apply_to_permits_already_given() {
        let (mut permits, now) = permits(None, None);
        permits.note(b"inbox", now);
        assert!(permits.claim(b"inbox", now));
        permits.update(ResponseSettings {
            max: Some(1),
            expires: None,
        });
        assert!(!permits.claim(b"inbox", now));
    }
}
