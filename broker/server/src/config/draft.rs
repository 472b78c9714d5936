//! Settings as they were written, before they are checked: defaults first, then files, then flags.

use std::collections::BTreeMap;

use broker_core::{
    auth::settings::{Secret, SubjectRules, UserSettings},
    cluster::settings::RouteUrl,
};
use broker_proto::conf::Position;
use certs::settings::{MinVersion, PairFiles};

use super::{
    HandshakeFirst, WriteTimeout,
    limits::{DEFAULT_LIMITS, DEFAULT_MAX_CHANNELS, Own},
};

/// Where to listen; the host is that of the client port unless it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: Option<String>,
    /// 0 is not set, -1 is any free port.
    pub(super) port: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsDraft {
    /// Where the block stands, if there is one.
    pub(super) at: Option<Position>,
    /// Whether `-tls` or a `tls` block was given.
    pub(super) wanted: Option<bool>,
    pub(super) verify: bool,
    pub(super) verify_and_map: bool,
    pub(super) cert_file: String,
    pub(super) key_file: String,
    pub(super) ca_file: String,
    /// Instead of `cert_file` and `key_file`.
    pub(super) certs: Vec<PairFiles>,
    /// 0 is the default.
    pub(super) timeout_nanos: i64,
    pub(super) handshake_first: HandshakeFirst,
    /// 0 is unlimited.
    pub(super) connection_rate_limit: i64,
    pub(super) min_version: MinVersion,
    pub(super) cipher_suites: Vec<String>,
    pub(super) curve_preferences: Vec<String>,
    pub(super) allow_insecure_cipher_suites: bool,
    pub(super) pinned_certs: Vec<[u8; 32]>,
    pub(super) insecure: bool,
}

/// Who may come: `authorization`, `accounts` and what belongs to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AuthDraft {
    /// Where `authorization` stands, or else `accounts`, if there is one of them.
    pub(super) at: Option<Position>,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) token: Secret,
    /// Of all accounts.
    pub(super) users: Vec<UserSettings>,
    pub(super) accounts: Vec<String>,
    /// 0 is the default.
    pub(super) timeout_nanos: i64,
    pub(super) system_account: String,
    pub(super) no_system_account: bool,
    pub(super) no_auth_user: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClusterDraft {
    /// Where the block stands, if there is one.
    pub(super) at: Option<Position>,
    pub(super) name: String,
    pub(super) bind: Address,
    /// `-cluster`: a URL, which wins over the address and the credentials of a file.
    pub(super) listen_flag: Option<String>,
    pub(super) user: String,
    pub(super) password: Secret,
    /// 0 is the default.
    pub(super) auth_timeout_nanos: i64,
    pub(super) import: SubjectRules,
    pub(super) export: SubjectRules,
    pub(super) routes: Vec<RouteUrl>,
    /// `-routes`: wins over those of a file.
    pub(super) routes_flag: Option<String>,
    pub(super) tls: TlsDraft,
    pub(super) advertise: String,
    pub(super) no_advertise: bool,
    pub(super) connect_retries: i64,
    pub(super) connect_backoff: bool,
    pub(super) ping_interval_nanos: i64,
    pub(super) ping_max: i64,
    /// 0 is that of clients.
    pub(super) write_deadline_nanos: i64,
    /// Checked already.
    pub(super) write_timeout: WriteTimeout,
}

/// Limits of one channel as a file gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChannelDraft {
    pub(super) pattern: String,
    pub(super) at: Position,
    pub(super) own: Own,
}

/// Connections to external NATS servers: as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ExternalDraft {
    /// One URL or several; may hold passwords.
    pub(super) url: Secret,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) token: Secret,
    pub(super) credentials: String,
    pub(super) nkey_seed_file: String,
    pub(super) secure: bool,
    pub(super) client_cert: String,
    pub(super) client_key: String,
    pub(super) client_ca: String,
    pub(super) server_name: String,
    pub(super) skip_verify: bool,
}

/// Durations are nanoseconds; signed, because a negative number is refused by name later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    /// None: on.
    pub(super) streaming: Option<bool>,
    pub(super) cluster_id: String,
    pub(super) discover_prefix: String,
    pub(super) store: String,
    pub(super) dir: String,
    pub(super) sql_driver: String,
    pub(super) sql_source: Secret,
    pub(super) encrypt: bool,
    pub(super) encryption_cipher: String,
    /// Implies `encrypt`.
    pub(super) encryption_key: Secret,
    pub(super) max_channels: i64,
    pub(super) limits: Own,
    pub(super) channels: Vec<ChannelDraft>,
    pub(super) hb_interval_nanos: i64,
    pub(super) hb_timeout_nanos: i64,
    pub(super) hb_fail_count: i64,
    pub(super) replace_durable: bool,
    pub(super) partitioning: bool,
    pub(super) stan_debug: bool,
    pub(super) stan_trace: bool,
    pub(super) external: ExternalDraft,

    pub(super) stan_config: String,
    pub(super) config: String,
    pub(super) check_only: bool,
    pub(super) signal: String,

    pub(super) client: Address,
    pub(super) client_advertise: String,
    pub(super) server_name: String,
    pub(super) server_tags: Vec<String>,
    pub(super) server_metadata: BTreeMap<String, String>,
    pub(super) monitor: Address,
    /// Instead of the port in `monitor`.
    pub(super) monitor_tls_port: i64,
    pub(super) monitor_base_path: String,
    pub(super) metrics: Address,
    pub(super) metrics_prefix: String,
    pub(super) auth: AuthDraft,
    pub(super) tls: TlsDraft,
    pub(super) allow_non_tls: bool,
    pub(super) cluster: ClusterDraft,
    pub(super) max_connections: i64,
    pub(super) max_subscriptions: i64,
    pub(super) max_sub_tokens: Option<i64>,
    pub(super) max_closed_clients: i64,
    pub(super) max_control_line: i64,
    pub(super) max_payload: i64,
    pub(super) max_pending: i64,
    pub(super) ping_interval_nanos: i64,
    pub(super) ping_max: i64,
    pub(super) write_deadline_nanos: i64,
    pub(super) write_timeout: String,
    pub(super) lame_duck_duration_nanos: i64,
    pub(super) lame_duck_grace_period_nanos: i64,
    pub(super) no_header_support: bool,
    pub(super) no_fast_producer_stall: bool,
    pub(super) connect_error_reports: i64,
    pub(super) reconnect_error_reports: i64,

    pub(super) debug: bool,
    pub(super) trace: bool,
    pub(super) trace_verbose: bool,
    pub(super) trace_headers: bool,
    pub(super) max_traced_msg_len: i64,
    pub(super) log_file: String,
    pub(super) log_size_limit: i64,
    pub(super) log_max_num: i64,
    pub(super) log_time: bool,
    pub(super) log_time_utc: bool,
    pub(super) pid_file: String,
    pub(super) ports_file_dir: String,

    /// Where the values stand that come from a file, by the first name of their key.
    pub(super) places: BTreeMap<&'static str, Position>,
}

const SECOND: i64 = 1_000_000_000;

impl Draft {
    /// A key alone says it too.
    pub(super) fn encrypts(&self) -> bool {
        self.encrypt || !self.encryption_key.is_empty()
    }
}

impl Default for Draft {
    /// The defaults of the reference; flags show them in their help.
    fn default() -> Self {
        let limit = |value: u64| i64::try_from(value).expect("default limits are small");
        Self {
            streaming: None,
            cluster_id: "test-cluster".to_owned(),
            discover_prefix: "_STAN.discover".to_owned(),
            store: "MEMORY".to_owned(),
            dir: String::new(),
            sql_driver: String::new(),
            sql_source: Secret::default(),
            encrypt: false,
            encryption_cipher: String::new(),
            encryption_key: Secret::default(),
            max_channels: limit(DEFAULT_MAX_CHANNELS),
            limits: Own {
                max_msgs: limit(DEFAULT_LIMITS.max_msgs),
                max_bytes: limit(DEFAULT_LIMITS.max_bytes),
                max_age_nanos: limit(DEFAULT_LIMITS.max_age_nanos),
                max_subs: limit(DEFAULT_LIMITS.max_subs),
                max_inactivity_nanos: limit(DEFAULT_LIMITS.max_inactivity_nanos),
            },
            channels: Vec::new(),
            hb_interval_nanos: 30 * SECOND,
            hb_timeout_nanos: 10 * SECOND,
            hb_fail_count: 10,
            replace_durable: false,
            partitioning: false,
            stan_debug: false,
            stan_trace: false,
            external: ExternalDraft::default(),
            stan_config: String::new(),
            config: String::new(),
            check_only: false,
            signal: String::new(),
            client: Address::default(),
            client_advertise: String::new(),
            server_name: String::new(),
            server_tags: Vec::new(),
            server_metadata: BTreeMap::new(),
            monitor: Address::default(),
            monitor_tls_port: 0,
            monitor_base_path: String::new(),
            metrics: Address::default(),
            metrics_prefix: "gnatsd".to_owned(),
            auth: AuthDraft::default(),
            tls: TlsDraft::default(),
            allow_non_tls: false,
            cluster: ClusterDraft {
                ping_interval_nanos: 30 * SECOND,
                ping_max: 2,
                ..ClusterDraft::default()
            },
            max_connections: 65_536,
            max_subscriptions: 0,
            max_sub_tokens: None,
            max_closed_clients: 10_000,
            max_control_line: 4096,
            max_payload: 1 << 20,
            max_pending: 64 << 20,
            ping_interval_nanos: 120 * SECOND,
            ping_max: 2,
            write_deadline_nanos: 10 * SECOND,
            write_timeout: "default".to_owned(),
            lame_duck_duration_nanos: 120 * SECOND,
            lame_duck_grace_period_nanos: 10 * SECOND,
            no_header_support: false,
            no_fast_producer_stall: false,
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            max_traced_msg_len: 0,
            log_file: String::new(),
            log_size_limit: 0,
            log_max_num: 0,
            log_time: true,
            log_time_utc: false,
            pid_file: String::new(),
            ports_file_dir: String::new(),
            places: BTreeMap::new(),
        }
    }
}
