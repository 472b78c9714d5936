//! External NATS servers: where they are, and who we are to them.

use std::path::PathBuf;

use broker_core::auth::settings::Secret;
use certs::settings::TlsSettings;

/// Servers that streaming stands on, of which one is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExternalNats {
    /// At least one.
    pub(crate) servers: Vec<NatsServer>,
    /// For servers whose URL names nobody.
    pub(crate) login: ExternalLogin,
    /// A JWT and the seed of its key.
    pub(crate) credentials: Option<PathBuf>,
    /// The seed of an nkey.
    pub(crate) nkey_seed_file: Option<PathBuf>,
    /// A server without TLS will not do. One that asks for TLS gets it in any case.
    pub(crate) wants_tls: bool,
    pub(crate) tls: TlsSettings,
    /// In the servers' certificates; none: the host in the URL.
    pub(crate) tls_server_name: Option<String>,
}

/// What a server asks of a client. All empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExternalLogin {
    pub(crate) user: String,
    pub(crate) password: Secret,
    pub(crate) token: Secret,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NatsServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The URL says `tls://`.
    pub(crate) tls: bool,
    /// Named in the URL.
    pub(crate) login: Option<ExternalLogin>,
    /// Host that the certificate is for, if another.
    pub(crate) certificate_name: Option<String>,
}

impl NatsServer {
    /// `host:port`, for logs.
    pub(crate) fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whether both are the same server.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }

    /// What its certificate has to be for.
    pub(crate) fn name_to_verify(&self) -> &str {
        self.certificate_name.as_deref().unwrap_or(&self.host)
    }
}
