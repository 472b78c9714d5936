//! Who may connect, and what they may do.
//!
//! [`Authorization`] is the whole table of users. It is built from a configuration, never changes,
//! and is replaced as a whole by a reload, after which each connection's user is looked up again
//! with [`Authorization::find_again`].

mod build;
pub mod certificate;
mod filters;
pub mod nkey;
pub mod permissions;
pub mod responses;
pub mod settings;
pub mod signer;
pub mod user;
pub mod verdicts;

use std::{collections::HashMap, fmt, sync::Arc};

use ahash::RandomState;

pub use self::{
    build::AuthError,
    certificate::CertificateNames,
    user::{SlowCheck, User, UserKind, Verdict},
};
use self::{
    certificate::{DistinguishedName, subject_text, subject_text_with_domain},
    settings::ConnectionType,
    user::Proof,
};

/// What a client shows in `CONNECT` and in TLS. What it left out is empty.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    pub user: &'a str,
    pub pass: &'a str,
    pub token: &'a str,
    pub nkey: &'a str,
    pub sig: &'a str,
    /// As sent to this connection in `INFO`; empty if none was.
    pub nonce: &'a [u8],
    /// Of a certificate that has been verified.
    pub certificate: Option<&'a CertificateNames>,
    pub connection_type: ConnectionType,
}

impl Credentials<'_> {
    /// Nothing to go by in `CONNECT`.
    fn is_bare(&self) -> bool {
        self.user.is_empty() && self.pass.is_empty() && self.token.is_empty()
    }
}

impl fmt::Debug for Credentials<'_> {
    /// Leaves secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("nkey", &self.nkey)
            .field("certificate", &self.certificate)
            .field("connection_type", &self.connection_type)
            .finish_non_exhaustive()
    }
}

/// What a reload means for a connected client.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It goes on, as this user.
    Stays(Arc<User>),
    /// It would not get in any more as it did: it is told so and closed.
    Violation,
    /// Its user is gone or moved to another account: it is closed without a word.
    Gone,
}

/// Everyone who may connect.
#[derive(Debug)]
pub struct Authorization {
    /// By name.
    users: HashMap<Box<str>, Arc<User>, RandomState>,
    /// By public key.
    nkeys: HashMap<Box<str>, Arc<User>, RandomState>,
    /// The only one, by token or by name and password.
    single: Option<Arc<User>>,
    /// Those of `users` whose name is a distinguished one, as configured, where certificates decide.
    mapped: Option<Vec<(DistinguishedName, Arc<User>)>>,
    /// Whose rights those get who show nothing, if somebody else must show something.
    no_auth_user: Option<Arc<User>>,
    /// The configuration names `no_auth_user`, so that clients are not asked for credentials.
    invites: bool,
    anonymous: Arc<User>,
    accounts: Vec<Arc<str>>,
}

impl Authorization {
    /// Somebody must authenticate; without that, credentials are not even looked at.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.users.is_empty() || !self.nkeys.is_empty() || self.single.is_some()
    }

    /// `INFO` says `auth_required`: some have to authenticate, and clients are not invited to come
    /// without.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.is_configured() && !self.invites
    }

    /// `INFO` carries a nonce, for keys to sign.
    #[must_use]
    pub fn wants_nonce(&self) -> bool {
        !self.nkeys.is_empty()
    }

    /// Certificates decide who somebody is, unless a key does.
    fn maps_certificates(&self) -> bool {
        self.mapped.is_some() && !self.users.is_empty()
    }

    /// The user of a client that has not sent `CONNECT`; `None` if it must.
    #[must_use]
    pub fn without_connect(&self) -> Option<Arc<User>> {
        let user = if !self.is_configured() {
            &self.anonymous
        } else if self.maps_certificates() {
            return None;
        } else {
            self.no_auth_user.as_ref()?
        };
        user.allows(ConnectionType::Standard)
            .then(|| Arc::clone(user))
    }

    /// Decides on a `CONNECT`. The order is the reference's: nkey, certificate or user, and then the
    /// only token or user.
    #[must_use]
    pub fn judge(&self, shown: &Credentials<'_>) -> Verdict {
        if !self.is_configured() {
            return Verdict::Accepted(Arc::clone(&self.anonymous));
        }
        let verdict = self.judge_shown(shown);
        match verdict.user() {
            Some(user) if !user.allows(shown.connection_type) => Verdict::Refused,
            _ => verdict,
        }
    }

    fn judge_shown(&self, shown: &Credentials<'_>) -> Verdict {
        if !self.nkeys.is_empty() && !shown.nkey.is_empty() {
            return self.judge_nkey(shown);
        }
        let maps = self.maps_certificates();
        if shown.is_bare()
            && !maps
            && let Some(user) = &self.no_auth_user
        {
            return Verdict::Accepted(Arc::clone(user));
        }
        let user = if maps {
            shown
                .certificate
                .and_then(|names| self.by_certificate(names, shown.connection_type))
        } else {
            self.users.get(shown.user).or(self.single.as_ref())
        };
        user.map_or(Verdict::Refused, |user| judge_password(user, shown))
    }

    fn judge_nkey(&self, shown: &Credentials<'_>) -> Verdict {
        match self.nkeys.get(shown.nkey) {
            Some(user) if is_signed(user, shown) => Verdict::Accepted(Arc::clone(user)),
            _ => Verdict::Refused,
        }
    }

    /// The first user that the certificate names and that may connect in this way.
    fn by_certificate(
        &self,
        names: &CertificateNames,
        connection_type: ConnectionType,
    ) -> Option<&Arc<User>> {
        let named = |name: &str| {
            let user = self.users.get(name)?;
            user.allows(connection_type).then_some(user)
        };
        let alternative = names.emails.iter().chain(&names.dns).chain(&names.uris);
        alternative
            .into_iter()
            .find_map(|name| named(name))
            .or_else(|| self.by_distinguished_name(names, connection_type))
            .or_else(|| named(&subject_text_with_domain(&names.subject)?))
            .or_else(|| named(&subject_text(&names.subject)))
    }

    fn by_distinguished_name(
        &self,
        names: &CertificateNames,
        connection_type: ConnectionType,
    ) -> Option<&Arc<User>> {
        let subject = DistinguishedName::of_subject(&names.subject)?;
        let users = || {
            let mapped = self.mapped.iter().flatten();
            mapped.filter(|(_, user)| user.allows(connection_type))
        };
        users()
            .find(|(name, _)| *name == subject)
            .or_else(|| users().find(|(name, _)| name.is_reordering_of(&subject)))
            .map(|(_, user)| user)
    }

    /// What has become of a connected client's user, if this table replaces the one it came from.
    #[must_use]
    pub fn find_again(&self, old: &User) -> Standing {
        let new = match old.kind {
            UserKind::Anonymous => return self.find_anonymous(old),
            UserKind::Token => match &self.single {
                Some(new) if new.kind == UserKind::Token => new,
                None if !self.is_configured() => {
                    return Standing::Stays(Arc::clone(&self.anonymous));
                }
                _ => return Standing::Violation,
            },
            UserKind::Named => {
                let single = self.single.as_ref();
                let single = single.filter(|user| user.name == old.name);
                match self.users.get(&old.name).or(single) {
                    Some(new) => new,
                    None => return Standing::Gone,
                }
            }
            UserKind::Nkey => match self.nkeys.get(&old.name) {
                Some(new) => new,
                None => return Standing::Gone,
            },
        };
        if new.account != old.account {
            Standing::Gone
        } else if new.proof == old.proof && new.allows(ConnectionType::Standard) {
            Standing::Stays(Arc::clone(new))
        } else if new.kind == UserKind::Named && self.single.is_some() {
            // The reference compares only the users of a list; the single one is just dropped.
            Standing::Gone
        } else {
            Standing::Violation
        }
    }

    fn find_anonymous(&self, old: &User) -> Standing {
        match self.without_connect() {
            None => Standing::Violation,
            Some(new) if new.account == old.account => Standing::Stays(new),
            Some(_) => Standing::Gone,
        }
    }

    /// Names of all accounts, sorted.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        self.accounts.iter().map(|name| &**name)
    }

    /// Some password stands in the configuration as it is, which deserves a warning. As in the
    /// reference, tokens do not count, nor do users without a password where certificates decide.
    #[must_use]
    pub fn has_plaintext_secrets(&self) -> bool {
        let users = self.users.values().chain(&self.single);
        users.into_iter().any(|user| match &user.proof {
            Proof::Password(password) => user.kind != UserKind::Token && password.is_plaintext(),
            Proof::Certificate(password) => password.is_plaintext() && !password.is_empty(),
            Proof::Nothing | Proof::Key(_) => false,
        })
    }
}

fn judge_password(user: &Arc<User>, shown: &Credentials<'_>) -> Verdict {
    let (Proof::Password(password) | Proof::Certificate(password)) = &user.proof else {
        return Verdict::Refused;
    };
    let given = match user.kind {
        UserKind::Token => shown.token,
        _ if matches!(user.proof, Proof::Certificate(_)) || *user.name == *shown.user => shown.pass,
        _ => return Verdict::Refused,
    };
    Verdict::by_password(user, password, given)
}

fn is_signed(user: &User, shown: &Credentials<'_>) -> bool {
    match &user.proof {
        // Without a nonce, a signature seen once would be good for ever.
        Proof::Key(key) if !shown.nonce.is_empty() => nkey::verify(key, shown.nonce, shown.sig),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
