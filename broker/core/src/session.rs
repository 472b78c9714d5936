//! One connection's protocol state: what it said in `CONNECT`, what it subscribed to, whether it is
//! still there.
//!
//! Nobody has to authenticate yet. Credentials will be judged in [`Session::connect`], and whatever
//! comes before a first successful one will be refused by the caller asking
//! [`Session::is_connected`].

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::RandomState;
use broker_proto::{
    info::{BadConnect, ConnectOptions},
    op::ServerError,
    subject,
};

use crate::subscription::{Subscription, Target};

/// How long a measured round-trip time is good; after that even a busy client is pinged.
const ROUND_TRIP_VALID: Duration = Duration::from_secs(3600);

/// When to ask whether a client is still there.
#[derive(Clone, Copy, Debug)]
pub struct PingPolicy {
    pub interval: Duration,
    /// The first after `CONNECT`, to learn the round-trip time, if the interval is not shorter.
    pub first: Duration,
    /// Unanswered `PING`s after which a client is given up.
    pub max_outstanding: u32,
}

/// What a tick of the ping timer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// The client was heard of lately.
    Quiet,
    Ping,
    /// Too many unanswered: close.
    Stale,
}

/// What a client told about itself, for monitoring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientDescription {
    pub name: String,
    pub lang: String,
    pub version: String,
}

/// `CONNECT` cannot be accepted; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Not told to the client.
    #[error(transparent)]
    Malformed(#[from] BadConnect),
    /// Only 0 and 1 exist.
    #[error("client protocol {0} does not exist")]
    Protocol(i64),
    #[error("no_responders was asked for without headers")]
    NoRespondersWithoutHeaders,
}

impl ConnectError {
    /// What the client is told, if anything.
    #[must_use]
    pub fn reply(self) -> Option<ServerError<'static>> {
        match self {
            Self::Malformed(_) => None,
            Self::Protocol(_) => Some(ServerError::InvalidClientProtocol),
            Self::NoRespondersWithoutHeaders => Some(ServerError::NoRespondersRequiresHeaders),
        }
    }
}

/// What became of a `SUB`.
#[derive(Debug)]
pub enum Subscribed {
    /// To be added to the sublist.
    New(Arc<Subscription>),
    /// The sid is taken; the first subscription stays, nothing is said.
    Duplicate,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Session {
    /// Everything is answered with `+OK`.
    pub verbose: bool,
    /// Subjects of publications are checked.
    pub pedantic: bool,
    /// Own publications are delivered to own subscriptions.
    pub echo: bool,
    /// Understands headers.
    pub headers: bool,
    /// Wants to be told when a request reaches nobody.
    pub no_responders: bool,
    /// Takes an `INFO` at any time.
    pub async_info: bool,
    client: Option<Box<ClientDescription>>,
    subscriptions: HashMap<Box<[u8]>, Arc<Subscription>, RandomState>,
    ponged: bool,
    active: bool,
    pings_outstanding: u32,
    next_tick: Instant,
    ping_sent: Instant,
    round_trip: Option<(Duration, Instant)>,
}

impl Session {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(pings: &PingPolicy, now: Instant) -> Self {
        let defaults = ConnectOptions::default();
        Self {
            verbose: defaults.verbose,
            pedantic: defaults.pedantic,
            echo: defaults.echo,
            headers: false,
            no_responders: false,
            async_info: false,
            client: None,
            subscriptions: HashMap::default(),
            ponged: false,
            active: false,
            pings_outstanding: 0,
            next_tick: now + pings.interval,
            ping_sent: now,
            round_trip: None,
        }
    }

    /// Takes `CONNECT` in. `jitter` (0 to 1) spreads the first `PING`s of clients that come together.
    /// Returns the subscriptions that a repeated `CONNECT` ends, as nats-server does from 2.14 on.
    ///
    /// # Errors
    /// The connection must be closed after [`ConnectError::reply`].
    pub fn connect(
        &mut self,
        json: &[u8],
        pings: &PingPolicy,
        jitter: f64,
        now: Instant,
    ) -> Result<Vec<Arc<Subscription>>, ConnectError> {
        let mut options = ConnectOptions::default();
        if self.is_connected() {
            options.verbose = self.verbose;
            options.pedantic = self.pedantic;
            options.echo = self.echo;
        }
        options.update(json)?;
        if !(0..=1).contains(&options.protocol) {
            return Err(ConnectError::Protocol(options.protocol));
        }
        if options.no_responders && !options.headers {
            return Err(ConnectError::NoRespondersWithoutHeaders);
        }
        let ended = if self.is_connected() {
            self.close()
        } else {
            Vec::new()
        };
        self.verbose = options.verbose;
        self.pedantic = options.pedantic;
        self.echo = options.echo;
        self.headers = options.headers;
        self.no_responders = options.no_responders;
        self.async_info = options.protocol >= 1;
        let ConnectOptions {
            name,
            lang,
            version,
            ..
        } = options;
        self.client = Some(Box::new(ClientDescription {
            name,
            lang,
            version,
        }));
        let first = pings.interval.min(pings.first);
        self.next_tick = now + first + first.mul_f64(jitter.clamp(0.0, 1.0) / 5.0);
        Ok(ended)
    }

    /// `CONNECT` was accepted.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.is_some()
    }

    /// What the client said of itself; `None` before `CONNECT`.
    #[must_use]
    pub fn client(&self) -> Option<&ClientDescription> {
        self.client.as_deref()
    }

    /// Number of subscriptions.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// A new subscription for `target`.
    ///
    /// # Errors
    /// What to answer; the connection stays open.
    pub fn subscribe<'a>(
        &mut self,
        subject: &'a [u8],
        queue_group: &'a [u8],
        sid: &[u8],
        target: Target,
    ) -> Result<Subscribed, ServerError<'a>> {
        if !subject::is_filter(subject) {
            return Err(ServerError::InvalidSubject);
        }
        // Reserved by the reference for services of its own.
        if queue_group == b"_sys_" {
            return Err(ServerError::SubscriptionDenied {
                subject,
                queue_group,
            });
        }
        match self.subscriptions.entry(sid.into()) {
            Entry::Occupied(_) => Ok(Subscribed::Duplicate),
            Entry::Vacant(vacant) => {
                let new = Arc::new(Subscription::new(subject, queue_group, sid, target));
                vacant.insert(Arc::clone(&new));
                Ok(Subscribed::New(new))
            }
        }
    }

    /// `UNSUB`: returns the subscription if it must be removed from the sublist now.
    pub fn unsubscribe(&mut self, sid: &[u8], max: u32) -> Option<Arc<Subscription>> {
        let known = self.subscriptions.get(sid)?;
        if known.allowance.limit_to(max) {
            self.subscriptions.remove(sid)
        } else {
            None
        }
    }

    /// A subscription got its last message; it is forgotten, its sid may be used again.
    pub fn exhausted(&mut self, subscription: &Arc<Subscription>) {
        let known = self.subscriptions.get(&subscription.sid);
        if known.is_some_and(|known| Arc::ptr_eq(known, subscription)) {
            self.subscriptions.remove(&subscription.sid);
        }
    }

    /// Gives all subscriptions back, to be removed from the sublist.
    pub fn close(&mut self) -> Vec<Arc<Subscription>> {
        self.subscriptions
            .drain()
            .map(|(_, subscription)| subscription)
            .collect()
    }

    /// The client sent something that shows it is at work. A `PONG` does not.
    pub fn heard(&mut self) {
        self.active = true;
    }

    /// `PING` came. Returns whether it is the first since `CONNECT`, after which clients that take an
    /// `INFO` at any time get one.
    pub fn pinged(&mut self) -> bool {
        self.heard();
        self.is_connected() && !std::mem::replace(&mut self.ponged, true)
    }

    /// `PONG` came.
    pub fn ponged(&mut self, now: Instant) {
        if self.pings_outstanding > 0 {
            self.round_trip = Some((now.saturating_duration_since(self.ping_sent), now));
        }
        self.pings_outstanding = 0;
    }

    /// Last measured round-trip time.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(|(measured, _)| measured)
    }

    /// When [`Self::tick`] wants to be called.
    #[must_use]
    pub fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// The ping timer is due.
    pub fn tick(&mut self, pings: &PingPolicy, now: Instant) -> Tick {
        self.next_tick = now + pings.interval;
        let measured = self
            .round_trip
            .is_some_and(|(_, at)| now < at + ROUND_TRIP_VALID);
        if std::mem::take(&mut self.active) && measured {
            return Tick::Quiet;
        }
        if self.pings_outstanding + 1 > pings.max_outstanding {
            return Tick::Stale;
        }
        self.pings_outstanding += 1;
        self.ping_sent = now;
        Tick::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::HandlerId;

    const PINGS: PingPolicy = PingPolicy {
        interval: Duration::from_secs(120),
        first: Duration::from_secs(2),
        max_outstanding: 2,
    };

    fn session() -> (Session, Instant) {
        let now = Instant::now();
        (Session::new(&PINGS, now), now)
    }

    fn subscribe(session: &mut Session, subject: &str, sid: &str) -> Option<Arc<Subscription>> {
        let target = Target::Internal(HandlerId(0));
        match session
            .subscribe(subject.as_bytes(), b"", sid.as_bytes(), target)
            .unwrap()
        {
            Subscribed::New(new) => Some(new),
            Subscribed::Duplicate => None,
        }
    }

    #[test]
    fn connect_refuses_unknown_protocols_and_lone_no_responders() {
        let (mut session, now) = session();
        let mut refused = |json: &str| {
            session
                .connect(json.as_bytes(), &PINGS, 0.0, now)
                .unwrap_err()
                .reply()
        };
        assert_eq!(refused("{"), None);
        assert_eq!(
            refused(r#"{"protocol":2}"#),
            Some(ServerError::InvalidClientProtocol)
        );
        assert_eq!(
            refused(r#"{"protocol":-1}"#),
            Some(ServerError::InvalidClientProtocol)
        );
        let error = Some(ServerError::NoRespondersRequiresHeaders);
        assert_eq!(refused(r#"{"no_responders":true}"#), error);
        assert!(!session.is_connected());
    }

    #[test]
    fn a_second_connect_keeps_what_it_does_not_mention_and_ends_subscriptions() {
        let (mut session, now) = session();
        let connect = |session: &mut Session, json: &str| {
            session.connect(json.as_bytes(), &PINGS, 0.0, now).unwrap()
        };
        subscribe(&mut session, "early", "1");
        assert!(connect(&mut session, r#"{"verbose":false,"echo":false}"#).is_empty());
        assert!(session.pedantic && !session.verbose && !session.echo);
        let ended = connect(&mut session, r#"{"pedantic":false}"#);
        assert_eq!(ended.len(), 1);
        assert!(!session.pedantic && !session.verbose && !session.echo);
    }

    #[test]
    fn the_first_of_two_equal_sids_stays() {
        let (mut session, _) = session();
        let first = subscribe(&mut session, "a", "1").unwrap();
        assert!(subscribe(&mut session, "b", "1").is_none());
        assert!(Arc::ptr_eq(&session.unsubscribe(b"1", 0).unwrap(), &first));
        assert!(session.unsubscribe(b"1", 0).is_none());
    }

    #[test]
    fn an_exhausted_subscription_does_not_take_its_successor_along() {
        let (mut session, _) = session();
        let first = subscribe(&mut session, "a", "1").unwrap();
        session.unsubscribe(b"1", 0);
        subscribe(&mut session, "a", "1");
        session.exhausted(&first);
        assert_eq!(session.subscription_count(), 1);
    }

    #[test]
    fn bad_subjects_and_the_reserved_group_are_answered() {
        let (mut session, _) = session();
        let mut refused = |subject: &'static [u8], group: &'static [u8]| {
            session
                .subscribe(subject, group, b"1", Target::Internal(HandlerId(0)))
                .unwrap_err()
        };
        assert_eq!(refused(b"a..b", b""), ServerError::InvalidSubject);
        let denied = ServerError::SubscriptionDenied {
            subject: b"a",
            queue_group: b"_sys_",
        };
        assert_eq!(refused(b"a", b"_sys_"), denied);
    }

    #[test]
    fn first_ping_comes_soon_after_connect_with_jitter() {
        let (mut session, now) = session();
        assert_eq!(session.next_tick(), now + PINGS.interval);
        session.connect(b"{}", &PINGS, 1.0, now).unwrap();
        assert_eq!(session.next_tick(), now + Duration::from_millis(2400));
    }

    #[test]
    fn silence_ends_in_stale_even_with_unprompted_pongs() {
        let (mut session, mut now) = session();
        for expected in [Tick::Ping, Tick::Ping, Tick::Stale] {
            now += PINGS.interval;
            assert_eq!(session.tick(&PINGS, now), expected);
        }
        session.ponged(now);
        assert_eq!(session.tick(&PINGS, now), Tick::Ping);
    }

    #[test]
    fn a_busy_client_is_not_pinged_once_its_round_trip_is_known() {
        let (mut session, mut now) = session();
        session.heard();
        assert_eq!(session.tick(&PINGS, now), Tick::Ping);
        session.ponged(now + Duration::from_millis(3));
        assert_eq!(session.round_trip(), Some(Duration::from_millis(3)));
        session.heard();
        now += PINGS.interval;
        assert_eq!(session.tick(&PINGS, now), Tick::Quiet);
        assert_eq!(session.tick(&PINGS, now), Tick::Ping);
        session.ponged(now);
        session.heard();
        now += ROUND_TRIP_VALID;
        assert_eq!(session.tick(&PINGS, now), Tick::Ping);
    }

    #[test]
    fn only_the_first_ping_after_connect_is_special() {
        let (mut session, now) = session();
        assert!(!session.pinged());
        session.connect(b"{}", &PINGS, 0.0, now).unwrap();
        assert!(session.pinged());
        assert!(!session.pinged());
    }
}
