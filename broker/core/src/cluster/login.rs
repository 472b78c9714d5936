//! What a peer must show to become one.

use std::fmt;

use broker_proto::route::RouteConnect;

use super::settings::ClusterSettings;
use crate::auth::{
    AuthError, Authorization, Credentials,
    settings::{AuthSettings, ConnectionType},
    user::Verdict,
};

/// The one user and password of the cluster, plain or bcrypt.
pub struct PeerLogin(Authorization);

impl fmt::Debug for PeerLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerLogin").finish_non_exhaustive()
    }
}

impl PeerLogin {
    /// Everybody may come if the settings name nobody.
    ///
    /// # Errors
    /// The login cannot be used.
    pub fn new(settings: &ClusterSettings) -> Result<Self, AuthError> {
        let only = AuthSettings {
            single: settings.login.clone(),
            ..AuthSettings::default()
        };
        Authorization::new(&only).map(Self)
    }

    /// Whether a login is asked for: `auth_required` of our `INFO`.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.0.is_required()
    }

    /// Decides on a peer's first line. Takes the same time wherever two passwords of one length
    /// differ.
    #[must_use]
    pub fn judge(&self, connect: &RouteConnect) -> Verdict {
        self.0.judge(&Credentials {
            user: &connect.user,
            pass: &connect.pass,
            token: "",
            nkey: "",
            sig: "",
            nonce: b"",
            certificate: None,
            connection_type: ConnectionType::Standard,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::settings::Secret;

    fn accepts(login: Option<(&str, &str)>, user: &str, pass: &str) -> bool {
        let settings = ClusterSettings {
            login: login.map(|(user, pass)| (user.to_owned(), Secret::new(pass.to_owned()))),
            ..ClusterSettings::default()
        };
        let peer_login = PeerLogin::new(&settings).unwrap();
        assert_eq!(peer_login.is_required(), login.is_some());
        let connect = RouteConnect {
            user: user.to_owned(),
            pass: pass.to_owned(),
            ..RouteConnect::default()
        };
        match peer_login.judge(&connect) {
            Verdict::Accepted(_) => true,
            Verdict::Refused => false,
            Verdict::Slow(check) => check.run().is_some(),
        }
    }

    #[test]
    fn peers_need_the_cluster_s_login_if_it_has_one() {
        assert!(accepts(None, "", "") && accepts(None, "who", "ever"));
        assert!(accepts(Some(("r", "secret")), "r", "secret"));
        for (user, pass) in [("", ""), ("r", ""), ("r", "secrex"), ("x", "secret")] {
            assert!(!accepts(Some(("r", "secret")), user, pass));
        }
    }
}
