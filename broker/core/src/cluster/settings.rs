//! The `cluster` block as a configuration gives it, without what belongs to sockets.

use std::time::Duration;

use crate::auth::settings::{Secret, SubjectRules};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// `None`: a random name that gives way to a configured one.
    pub name: Option<String>,
    /// Servers to connect to, and to go on trying for ever.
    pub routes: Vec<RouteUrl>,
    /// What peers have to show, and what is shown to peers whose URL says nothing else.
    pub login: Option<(String, Secret)>,
    /// What is taken from peers.
    pub import: SubjectRules,
    /// What is given to peers.
    pub export: SubjectRules,
    /// `host:port` that peers are told instead of where we listen.
    pub advertise: Option<String>,
    /// Clients are not told about other servers.
    pub no_advertise: bool,
    /// Attempts for a server that was only heard of, after the first.
    pub connect_retries: u32,
    /// Pauses between attempts grow up to half a minute.
    pub connect_backoff: bool,
    pub ping_interval: Duration,
    pub ping_max: u32,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            name: None,
            routes: Vec::new(),
            login: None,
            import: SubjectRules::default(),
            export: SubjectRules::default(),
            advertise: None,
            no_advertise: false,
            connect_retries: 0,
            connect_backoff: false,
            ping_interval: Duration::from_secs(30),
            ping_max: 2,
        }
    }
}

/// `nats-route://[user:password@]host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteUrl {
    pub host: String,
    pub port: u16,
    pub login: Option<(String, Secret)>,
}
