//! One client's protocol state: what it said in `CONNECT`, who it is, what it subscribed to.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Instant,
};

use ahash::RandomState;
use broker_proto::{
    info::{BadConnect, ConnectOptions},
    op::ServerError,
    subject,
};

use crate::{
    account::Account,
    auth::{
        responses::ResponsePermits,
        user::{User, UserKind},
        verdicts::PublishVerdicts,
    },
    subscription::{Subscription, Target},
};

/// What a client told about itself, for monitoring. Its texts are in one piece of memory, because there
/// are many clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientDescription {
    /// Name, language and version, one behind the other.
    text: Box<str>,
    lang_at: u32,
    version_at: u32,
    /// Who it says it is, whether that was found to be true or not.
    pub claim: Option<Claim>,
}

impl ClientDescription {
    /// The texts are bounded by the length of a line.
    fn of(options: &ConnectOptions) -> Self {
        let ConnectOptions {
            name,
            lang,
            version,
            ..
        } = options;
        Self {
            text: [name.as_str(), lang, version].concat().into(),
            lang_at: name.len() as u32,
            version_at: (name.len() + lang.len()) as u32,
            claim: Claim::of(options),
        }
    }

    /// As it calls itself; empty as a rule.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.text[..self.lang_at as usize]
    }

    /// Language of its library.
    #[must_use]
    pub fn lang(&self) -> &str {
        &self.text[self.lang_at as usize..self.version_at as usize]
    }

    /// Of its library.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.text[self.version_at as usize..]
    }
}

/// Credentials in the form in which they may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// User name or public nkey.
    Name(Box<str>),
    /// A token is itself the secret.
    Token,
}

impl Claim {
    /// In the order in which the reference looks for it (`server/client.go`, `getRawAuthUser`).
    fn of(options: &ConnectOptions) -> Option<Self> {
        let ConnectOptions {
            nkey,
            user,
            auth_token,
            ..
        } = options;
        let name = [nkey, user].into_iter().find(|one| !one.is_empty());
        match name {
            Some(name) => Some(Self::Name(name.as_str().into())),
            None => (!auth_token.is_empty()).then_some(Self::Token),
        }
    }
}

/// `CONNECT` cannot be accepted; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Only 0 and 1 exist.
    #[error("client protocol {0} does not exist")]
    Protocol(i64),
    #[error("no_responders was asked for without headers")]
    NoRespondersWithoutHeaders,
}

impl ConnectError {
    /// What the client is told.
    #[must_use]
    pub fn reply(self) -> ServerError<'static> {
        match self {
            Self::Protocol(_) => ServerError::InvalidClientProtocol,
            Self::NoRespondersWithoutHeaders => ServerError::NoRespondersRequiresHeaders,
        }
    }
}

/// What became of a `SUB`.
#[derive(Debug)]
pub enum Subscribed {
    /// To be added to the account's list.
    New(Arc<Subscription>),
    /// The sid is taken; the first subscription stays, nothing is said.
    Duplicate,
}

/// Limits on the subscriptions of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionLimits {
    /// `None`: no limit.
    pub count: Option<usize>,
    /// Tokens of a filter; `None`: no limit.
    pub tokens: Option<usize>,
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
    account: Arc<Account>,
    /// `None`: has to authenticate before anything else.
    user: Option<Arc<User>>,
    client: Option<Box<ClientDescription>>,
    connected: bool,
    subscriptions: HashSet<BySid, RandomState>,
    /// Of a user with permissions.
    rights: Option<Box<Rights>>,
    ponged: bool,
}

/// Found by its sid, without keeping that a second time: there are many connections.
#[derive(Debug)]
struct BySid(Arc<Subscription>);

impl Borrow<[u8]> for BySid {
    fn borrow(&self) -> &[u8] {
        &self.0.sid
    }
}

impl Hash for BySid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.sid.hash(state);
    }
}

impl PartialEq for BySid {
    fn eq(&self, other: &Self) -> bool {
        self.0.sid == other.0.sid
    }
}

impl Eq for BySid {}

/// What is remembered to judge publications.
#[derive(Debug)]
struct Rights {
    verdicts: PublishVerdicts,
    responses: Option<ResponsePermits>,
}

impl Session {
    /// A connection that has just been accepted. `user` is who it is as long as it has not said
    /// `CONNECT`; `None` where it must. `account` is that user's.
    #[must_use]
    pub fn new(user: Option<Arc<User>>, account: Arc<Account>) -> Self {
        let defaults = ConnectOptions::default();
        let mut session = Self {
            verbose: defaults.verbose,
            pedantic: defaults.pedantic,
            echo: defaults.echo,
            headers: false,
            no_responders: false,
            async_info: false,
            account,
            user: None,
            client: None,
            connected: false,
            subscriptions: HashSet::default(),
            rights: None,
            ponged: false,
        };
        session.become_user(user);
        session
    }

    /// Reads `CONNECT` on top of what a client said before.
    ///
    /// # Errors
    /// Not told to the client: the connection is closed.
    pub fn read_connect(&self, json: &[u8]) -> Result<ConnectOptions, BadConnect> {
        let mut options = ConnectOptions {
            verbose: self.verbose,
            pedantic: self.pedantic,
            echo: self.echo,
            headers: self.headers,
            no_responders: self.no_responders,
            protocol: i64::from(self.async_info),
            ..ConnectOptions::default()
        };
        if let Some(client) = self.client() {
            client.name().clone_into(&mut options.name);
            client.lang().clone_into(&mut options.lang);
            client.version().clone_into(&mut options.version);
        }
        options.update(json)?;
        Ok(options)
    }

    /// The credentials were found to be those of `user`, who belongs to `account`. `headers` says
    /// whether this server supports them. Returns the subscriptions that a repeated `CONNECT` ends, as
    /// nats-server does from 2.14 on; they are in the list of the account that [`Self::account`] gave
    /// before.
    ///
    /// # Errors
    /// The connection must be closed after [`ConnectError::reply`].
    pub fn connect(
        &mut self,
        options: &ConnectOptions,
        headers: bool,
        user: Arc<User>,
        account: Arc<Account>,
    ) -> Result<Vec<Arc<Subscription>>, ConnectError> {
        if !(0..=1).contains(&options.protocol) {
            return Err(ConnectError::Protocol(options.protocol));
        }
        let headers = headers && options.headers;
        if options.no_responders && !headers {
            return Err(ConnectError::NoRespondersWithoutHeaders);
        }
        let moves = !Arc::ptr_eq(&account, &self.account);
        let ended = if self.has_begun() || moves {
            self.close()
        } else {
            Vec::new()
        };
        self.verbose = options.verbose;
        self.pedantic = options.pedantic;
        self.echo = options.echo;
        self.headers = headers;
        self.no_responders = options.no_responders;
        self.async_info = options.protocol >= 1;
        self.introduced(options);
        self.connected = true;
        self.account = account;
        self.become_user(Some(user));
        Ok(ended)
    }

    /// What a client says about itself counts whether or not it is let in.
    pub fn introduced(&mut self, options: &ConnectOptions) {
        let before = self.client.take().and_then(|client| client.claim);
        let mut described = ClientDescription::of(options);
        described.claim = described.claim.or(before);
        self.client = Some(Box::new(described));
    }

    /// The user as a reload leaves it, in the same account. Returns the subscriptions it has no right
    /// to any more: the caller removes them from the list and tells the client.
    pub fn change_user(&mut self, user: Arc<User>) -> Vec<Arc<Subscription>> {
        self.become_user(Some(user));
        let Some(permissions) = self.user.as_ref().and_then(|user| user.permissions()) else {
            return Vec::new();
        };
        self.subscriptions
            .extract_if(|BySid(one)| !permissions.may_subscribe(&one.subject, &one.queue_group))
            .map(|BySid(subscription)| subscription)
            .collect()
    }

    fn become_user(&mut self, user: Option<Arc<User>>) {
        let permissions = user.as_ref().and_then(|user| user.permissions());
        self.rights = permissions.map(|permissions| {
            Box::new(Rights {
                verdicts: PublishVerdicts::new(Arc::clone(permissions)),
                responses: permissions.responses().map(ResponsePermits::new),
            })
        });
        self.user = user;
    }

    /// `CONNECT` was accepted.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whose rights count; `None`: it has to authenticate first.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<User>> {
        self.user.as_ref()
    }

    /// Where its subjects live.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
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

    /// All subscriptions, in no order.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.subscriptions
            .iter()
            .map(|BySid(subscription)| subscription)
    }

    /// Everything may be published, to any reply.
    #[must_use]
    pub fn publishes_freely(&self) -> bool {
        self.rights.is_none()
    }

    /// Whether one message may be published to a subject.
    pub fn may_publish(&mut self, subject: &[u8], now: Instant) -> bool {
        let Some(rights) = self.rights.as_deref_mut() else {
            return true;
        };
        rights.verdicts.may_publish(subject)
            || rights
                .responses
                .as_mut()
                .is_some_and(|responses| responses.claim(subject, now))
    }

    /// A message with a reply was delivered to a client that may answer it.
    pub fn note_reply(&mut self, reply: &[u8], now: Instant) {
        if let Some(rights) = self.rights.as_deref_mut()
            && let Some(responses) = &mut rights.responses
            && !reply.is_empty()
        {
            responses.note(reply, now);
        }
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
        limits: &SubscriptionLimits,
        target: Target,
    ) -> Result<Subscribed, ServerError<'a>> {
        let permissions = self.user.as_ref().and_then(|user| user.permissions());
        let allowed = permissions.is_none_or(|one| one.may_subscribe(subject, queue_group));
        // The group is reserved by the reference for services of its own.
        if !allowed || queue_group == b"_sys_" {
            return Err(ServerError::SubscriptionDenied {
                subject,
                queue_group,
            });
        }
        let tokens = || subject::tokens(subject).count();
        if limits.tokens.is_some_and(|limit| tokens() > limit) {
            return Err(ServerError::TooManyTokens(subject));
        }
        if limits
            .count
            .is_some_and(|limit| self.subscriptions.len() >= limit)
        {
            return Err(ServerError::MaxSubscriptions);
        }
        if self.subscriptions.contains(sid) {
            return Ok(Subscribed::Duplicate);
        }
        if !subject::is_filter(subject) {
            return Err(ServerError::InvalidSubject);
        }
        let new = Arc::new(Subscription::new(subject, queue_group, sid, target));
        self.subscriptions.insert(BySid(Arc::clone(&new)));
        Ok(Subscribed::New(new))
    }

    /// `UNSUB`: returns the subscription if it must be removed from the list now.
    pub fn unsubscribe(&mut self, sid: &[u8], max: u32) -> Option<Arc<Subscription>> {
        let BySid(known) = self.subscriptions.get(sid)?;
        let ended = known.allowance.limit_to(max);
        let BySid(known) = ended.then(|| self.subscriptions.take(sid))??;
        Some(known)
    }

    /// A subscription got its last message; it is forgotten, its sid may be used again.
    pub fn exhausted(&mut self, subscription: &Arc<Subscription>) {
        let sid = &*subscription.sid;
        let known = self.subscriptions.get(sid);
        if known.is_some_and(|BySid(known)| Arc::ptr_eq(known, subscription)) {
            self.subscriptions.remove(sid);
        }
    }

    /// Gives all subscriptions back, to be removed from the list.
    pub fn close(&mut self) -> Vec<Arc<Subscription>> {
        self.subscriptions
            .drain()
            .map(|BySid(subscription)| subscription)
            .collect()
    }

    /// `CONNECT` was accepted, or its sender was taken for a user without one: to the reference that is
    /// the same.
    fn has_begun(&self) -> bool {
        let named = |user: &Arc<User>| user.kind() != UserKind::Anonymous;
        self.is_connected() || self.user.as_ref().is_some_and(named)
    }

    /// `PING` came. Returns whether it is the first since `CONNECT`, after which clients that take an
    /// `INFO` at any time get one.
    pub fn pinged(&mut self) -> bool {
        self.has_begun() && !std::mem::replace(&mut self.ponged, true)
    }

    /// A `PING` was answered since `CONNECT`, so that an `INFO` may come at any time to those who take
    /// one.
    #[must_use]
    pub fn takes_info(&self) -> bool {
        self.async_info && self.ponged
    }
}

#[cfg(test)]
mod tests;
