//! Users and permissions as a configuration gives them: plain data, not yet checked.

use std::{fmt, time::Duration};

use zeroize::Zeroizing;

/// Text that must not be seen: passwords, tokens, database sources. Wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for its one user.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// No text at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Account of everyone who is given no other.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// Account of the server itself, where no other is named.
pub const SYSTEM_ACCOUNT: &str = "$SYS";

/// Everything that decides about a `CONNECT`. Nothing set: everybody may come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthSettings {
    /// The one token, plain or bcrypt.
    pub token: Option<Secret>,
    /// The one user and password, plain or bcrypt.
    pub single: Option<(String, Secret)>,
    /// Users and nkeys of all accounts.
    pub users: Vec<UserSettings>,
    /// Accounts declared; [`GLOBAL_ACCOUNT`] and [`SYSTEM_ACCOUNT`] exist without.
    pub accounts: Vec<String>,
    pub system_account: Option<String>,
    /// There is an `authorization` block, whatever it says. Without one, users of the system account
    /// alone leave the broker open to everybody else.
    pub authorization_block: bool,
    /// Whose rights those get who show no credentials.
    pub no_auth_user: Option<String>,
    /// Users are found by the names in the client's certificate (`verify_and_map`).
    pub map_certificates: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSettings {
    pub account: String,
    pub login: Login,
    /// Defaults are worked in already; `None`: everything is allowed.
    pub permissions: Option<PermissionSettings>,
    /// Empty: all.
    pub connection_types: Vec<ConnectionType>,
}

/// How a user proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// The password may be empty where certificates are mapped.
    Password { user: String, password: Secret },
    /// Public key, `U...`.
    Nkey(String),
}

/// `allowed_connection_types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionType {
    Standard,
    Websocket,
    Leafnode,
    LeafnodeWs,
    Mqtt,
    MqttWs,
    InProcess,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionSettings {
    pub publish: SubjectRules,
    /// Entries may be `subject queue`.
    pub subscribe: SubjectRules,
    pub responses: Option<ResponseSettings>,
}

/// Filters; `deny` wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectRules {
    /// Empty: everything.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

/// `allow_responses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseSettings {
    /// Messages to one reply subject; `None`: no limit.
    pub max: Option<u32>,
    /// Since the request was delivered; `None`: no limit.
    pub expires: Option<Duration>,
}

impl Default for ResponseSettings {
    fn default() -> Self {
        Self {
            max: Some(1),
            expires: Some(Duration::from_secs(120)),
        }
    }
}
