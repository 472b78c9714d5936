//! The first lines of a connection to a NATS server, as its client.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::json;

/// `INFO`, as far as a client needs it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UpstreamInfo {
    pub server_id: String,
    pub server_name: String,
    pub version: String,
    pub headers: bool,
    /// Bytes.
    pub max_payload: i64,
    pub auth_required: bool,
    pub tls_required: bool,
    /// TLS may follow, or not.
    pub tls_available: bool,
    /// To be signed by who has a key.
    pub nonce: String,
    /// `host:port` of all servers of the cluster.
    pub connect_urls: Vec<String>,
    /// Lame duck: the server is about to go.
    pub ldm: bool,
}

impl Default for UpstreamInfo {
    fn default() -> Self {
        Self {
            server_id: String::new(),
            server_name: String::new(),
            version: String::new(),
            headers: false,
            max_payload: 1 << 20,
            auth_required: false,
            tls_required: false,
            tls_available: false,
            nonce: String::new(),
            connect_urls: Vec::new(),
            ldm: false,
        }
    }
}

/// `INFO` was not a JSON object of the right types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's INFO is not valid JSON")]
pub struct BadInfo;

impl UpstreamInfo {
    /// Reads the argument of `INFO`.
    ///
    /// # Errors
    /// Not an object, or a value of the wrong type.
    pub fn from_json(json: &[u8]) -> Result<Self, BadInfo> {
        json::object(json).ok_or(BadInfo)
    }
}

/// `CONNECT`. Fields that are empty are left out.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct UpstreamConnect<'a> {
    pub verbose: bool,
    pub pedantic: bool,
    /// What we publish comes back to our own subscriptions.
    pub echo: bool,
    pub tls_required: bool,
    pub protocol: u8,
    pub headers: bool,
    pub no_responders: bool,
    pub name: &'a str,
    pub lang: &'a str,
    pub version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub pass: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub auth_token: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub jwt: &'a str,
    /// Public key of the one who signed.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub nkey: &'a str,
    /// Of the nonce; unpadded base64url.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub sig: &'a str,
}

impl fmt::Debug for UpstreamConnect<'_> {
    /// Leaves credentials out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConnect")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl UpstreamConnect<'_> {
    /// The whole line.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("strings, numbers and booleans are JSON");
        [b"CONNECT ", &json[..], b"\r\n"].concat()
    }
}
