//! Settings as they were written, before they are checked: defaults first, then files, then flags.

use broker_core::auth::settings::Secret;
use broker_proto::conf::Position;

use super::limits::{DEFAULT_LIMITS, DEFAULT_MAX_CHANNELS, Own};

/// Where to listen; the host is that of the client port unless it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: Option<String>,
    /// 0 is not set, -1 is any free port.
    pub(super) port: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsDraft {
    /// Whether `-tls` or a `tls` block was given.
    pub(super) wanted: Option<bool>,
    pub(super) verify: bool,
    pub(super) cert_file: String,
    pub(super) key_file: String,
    pub(super) ca_file: String,
    pub(super) timeout_nanos: i64,
}

/// Limits of one channel as a file gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChannelDraft {
    pub(super) pattern: String,
    pub(super) at: Position,
    pub(super) own: Own,
}

/// Durations are nanoseconds; signed, because a negative number is refused by name later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) cluster_id: String,
    pub(super) discover_prefix: String,
    pub(super) store: String,
    pub(super) dir: String,
    pub(super) sql_driver: String,
    pub(super) sql_source: Secret,
    pub(super) max_channels: i64,
    pub(super) limits: Own,
    pub(super) channels: Vec<ChannelDraft>,
    pub(super) hb_interval_nanos: i64,
    pub(super) hb_timeout_nanos: i64,
    pub(super) hb_fail_count: i64,
    pub(super) replace_durable: bool,
    pub(super) stan_debug: bool,
    pub(super) stan_trace: bool,

    pub(super) stan_config: String,
    pub(super) config: String,
    pub(super) check_only: bool,

    pub(super) client: Address,
    pub(super) client_advertise: String,
    pub(super) server_name: String,
    pub(super) monitor: Address,
    pub(super) metrics: Address,
    pub(super) tls: TlsDraft,
    pub(super) max_connections: i64,
    pub(super) max_control_line: i64,
    pub(super) max_payload: i64,
    pub(super) max_pending: i64,
    pub(super) ping_interval_nanos: i64,
    pub(super) ping_max: i64,
    pub(super) write_deadline_nanos: i64,

    pub(super) debug: bool,
    pub(super) trace: bool,
    pub(super) log_file: String,
    pub(super) log_time: bool,
    pub(super) pid_file: String,
    pub(super) ports_file_dir: String,
}

const SECOND: i64 = 1_000_000_000;

impl Default for Draft {
    /// The defaults of the reference; flags show them in their help.
    fn default() -> Self {
        let limit = |value: u64| i64::try_from(value).expect("default limits are small");
        Self {
            cluster_id: "test-cluster".to_owned(),
            discover_prefix: "_STAN.discover".to_owned(),
            store: "MEMORY".to_owned(),
            dir: String::new(),
            sql_driver: String::new(),
            sql_source: Secret::default(),
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
            stan_debug: false,
            stan_trace: false,
            stan_config: String::new(),
            config: String::new(),
            check_only: false,
            client: Address::default(),
            client_advertise: String::new(),
            server_name: String::new(),
            monitor: Address::default(),
            metrics: Address::default(),
            tls: TlsDraft {
                timeout_nanos: 2 * SECOND,
                ..TlsDraft::default()
            },
            max_connections: 65_536,
            max_control_line: 4096,
            max_payload: 1 << 20,
            max_pending: 64 << 20,
            ping_interval_nanos: 120 * SECOND,
            ping_max: 2,
            write_deadline_nanos: 10 * SECOND,
            debug: false,
            trace: false,
            log_file: String::new(),
            log_time: true,
            pid_file: String::new(),
            ports_file_dir: String::new(),
        }
    }
}
