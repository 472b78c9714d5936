//! A user as the broker knows it, and the proof it takes to be that user.

use std::{fmt, sync::Arc};

use aws_lc_rs::constant_time;

use super::{
    nkey::KEY_BYTES,
    permissions::Permissions,
    settings::{ConnectionType, Secret},
};

/// How somebody is told apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserKind {
    /// Not at all.
    Anonymous,
    /// By the one token.
    Token,
    /// By a user name.
    Named,
    /// By a public key.
    Nkey,
}

/// Who a connection belongs to. Shared by all its connections; replaced, not changed, by a reload.
#[derive(Debug)]
pub struct User {
    pub(super) kind: UserKind,
    pub(super) name: Box<str>,
    pub(super) account: Arc<str>,
    pub(super) permissions: Option<Arc<Permissions>>,
    /// Empty: all.
    pub(super) connection_types: Vec<ConnectionType>,
    pub(super) proof: Proof,
}

impl User {
    /// How it is told apart from others.
    #[must_use]
    pub fn kind(&self) -> UserKind {
        self.kind
    }

    /// User name or public key; empty for those who have neither.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its subjects live.
    #[must_use]
    pub fn account(&self) -> &Arc<str> {
        &self.account
    }

    /// `None`: everything is allowed.
    #[must_use]
    pub fn permissions(&self) -> Option<&Arc<Permissions>> {
        self.permissions.as_ref()
    }

    /// May do the same in the same account, so that a reload changes nothing for its connections.
    #[must_use]
    pub fn same_rights(&self, other: &Self) -> bool {
        self.account == other.account && self.permissions == other.permissions
    }

    pub(super) fn allows(&self, connection_type: ConnectionType) -> bool {
        self.connection_types.is_empty() || self.connection_types.contains(&connection_type)
    }
}

/// What it takes to be a user.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Nothing,
    Password(Password),
    /// A certificate with the user's name, and the password if there is one.
    Certificate(Password),
    /// A signature by this key.
    Key([u8; KEY_BYTES]),
}

/// A password or token as configured.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Password {
    Plain(Secret),
    Bcrypt(Secret),
}

impl Password {
    pub(super) fn new(secret: Secret) -> Self {
        if is_bcrypt(secret.expose()) {
            Self::Bcrypt(secret)
        } else {
            Self::Plain(secret)
        }
    }

    /// Could be read off the configuration and used.
    pub(super) fn is_plaintext(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Plain(secret) if secret.is_empty())
    }

    /// Whether `given` is it. Takes the same time wherever two texts of one length differ; with
    /// bcrypt, 50 to 100 ms at the usual cost.
    fn is(&self, given: &str) -> bool {
        match self {
            Self::Plain(secret) => {
                let (secret, given) = (secret.expose().as_bytes(), given.as_bytes());
                constant_time::verify_slices_are_equal(secret, given).is_ok()
            }
            // What only looks like a hash is nobody's password.
            Self::Bcrypt(hash) => bcrypt::verify(given, hash.expose()).unwrap_or(false),
        }
    }
}

/// `$2a$`, `$2b$`, `$2x$` or `$2y$`, the cost as two digits, and another `$`.
fn is_bcrypt(secret: &str) -> bool {
    match secret.as_bytes() {
        [b'$', b'2', variant, b'$', tens, ones, b'$', ..] => {
            b"abxy".contains(variant) && tens.is_ascii_digit() && ones.is_ascii_digit()
        }
        _ => false,
    }
}

/// What becomes of a `CONNECT`.
#[derive(Debug)]
pub enum Verdict {
    /// This is who it is.
    Accepted(Arc<User>),
    /// Authorization violation.
    Refused,
    /// To be found out where blocking is no harm.
    Slow(SlowCheck),
}

impl Verdict {
    /// Who it is, or would be.
    pub(super) fn user(&self) -> Option<&User> {
        match self {
            Self::Accepted(user) | Self::Slow(SlowCheck { user, .. }) => Some(user),
            Self::Refused => None,
        }
    }

    /// Compares a password with that of `user`.
    pub(super) fn by_password(user: &Arc<User>, password: &Password, given: &str) -> Self {
        let user = Arc::clone(user);
        match password {
            Password::Bcrypt(_) => Self::Slow(SlowCheck {
                user,
                given: Secret::new(given.to_owned()),
            }),
            Password::Plain(_) if password.is(given) => Self::Accepted(user),
            Password::Plain(_) => Self::Refused,
        }
    }
}

/// A password that waits to be compared with a hash.
pub struct SlowCheck {
    user: Arc<User>,
    given: Secret,
}

impl SlowCheck {
    /// Blocks for 50 to 100 ms at the usual cost, longer at a higher one. `None`: refused.
    #[must_use]
    pub fn run(self) -> Option<Arc<User>> {
        let right = match &self.user.proof {
            Proof::Password(password) | Proof::Certificate(password) => {
                password.is(self.given.expose())
            }
            Proof::Nothing | Proof::Key(_) => false,
        };
        right.then_some(self.user)
    }
}

impl fmt::Debug for SlowCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowCheck")
            .field("user", &self.user.name)
            .finish_non_exhaustive()
    }
}
