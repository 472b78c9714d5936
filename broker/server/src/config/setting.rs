//! Everything that can be set, by flag or in a file: one table.

use broker_core::auth::settings::Secret;

use super::draft::Draft;

/// How the value is written, and what it changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setter {
    Switch(fn(&mut Draft, bool)),
    Text(fn(&mut Draft, String)),
    Number(fn(&mut Draft, i64)),
    /// A number of bytes; a flag may have a suffix, as in the file.
    Size(fn(&mut Draft, i64)),
    /// Nanoseconds.
    Duration(fn(&mut Draft, i64)),
    /// `host:port`, `:port` or a port.
    Address(fn(&mut Draft, Option<String>, i64)),
    /// A map of further keys. The function notes that it was given.
    Block(Block, fn(&mut Draft)),
    /// Limits of single channels.
    Channels(),
    /// Known to the reference, not to this server; running without it would be another service than
    /// the one asked for. Refused unless the value is the neutral one.
    Refused(Shape, &'static str),
    /// Known to the reference, not to this server, and not essential: refused as a flag, warned about
    /// in a file.
    NotYet(Shape, &'static str),
    /// Accepted with a warning: the reason why it has no effect here.
    Unused(Shape, &'static str),
}

/// How the value of a setting without effect is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Switch,
    /// Anything else.
    Word,
}

/// Where in a file a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Top level, settings of the NATS server.
    Core,
    /// `tls` of the NATS server.
    Tls,
    /// `streaming`, or the top level of a file that has no such block.
    Streaming,
    Limits,
    /// One entry below `store_limits.channels`.
    Channel,
    Sql,
}

#[derive(Debug)]
pub(super) struct Setting {
    /// Names on the command line.
    pub(super) flags: &'static [&'static str],
    pub(super) block: Block,
    /// Names in a file, in `block`.
    pub(super) keys: &'static [&'static str],
    pub(super) setter: Setter,
    /// As it would be written; empty where there is none.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
}

/// `[flags] Block [keys] Setter default help;`
macro_rules! settings {
    ($([$($flag:ident)*] $block:ident [$($key:ident)*] $setter:ident($($set:expr),*) $default:literal $help:literal;)*) => {
        &[$(Setting {
            flags: &[$(stringify!($flag)),*],
            block: Block::$block,
            keys: &[$(stringify!($key)),*],
            setter: Setter::$setter($($set),*),
            default: $default,
            help: $help,
        }),*]
    };
}

const NO_CLUSTERING: &str =
    "clustering is not supported; run a second broker on the same SQL store as standby";
const NO_ROUTES: &str = "routes to other servers are not supported yet";
const NO_AUTHORIZATION: &str =
    "authorization is not supported yet; client certificates are (tlsverify)";
const NO_ENCRYPTION: &str = "encryption at rest is not supported yet";
const NO_EXTERNAL: &str = "only the embedded NATS server is supported yet";
const NO_HTTPS: &str = "monitoring over TLS is not supported yet";
const NO_JETSTREAM: &str = "JetStream is not supported";
const NO_LISTENER: &str = "this listener is not supported yet";
const NO_SYSLOG: &str = "syslog is not supported yet; logs go to standard error or to log_file";
const OWN_FILES: &str = "the FILE store of this server has a format of its own";
const OWN_CONNECTION: &str = "it belongs to connections to an external NATS server";
const SHORT_TRACE: &str = "traced messages are shown without payload";
const LOCKED: &str = "the store lock is always taken, with or without a group name";

/// Streaming settings and those of the command line as a whole.
const STREAMING: &[Setting] = settings! {
    [cluster_id cid] Streaming [cluster_id cid id]
        Text(|d, v| d.cluster_id = v)
        "test-cluster" "cluster ID, first part of every streaming subject";
    [] Streaming [discover_prefix]
        Text(|d, v| d.discover_prefix = v) "_STAN.discover" "subject prefix of connect requests";
    [store st] Streaming [store st store_type storetype]
        Text(|d, v| d.store = v) "MEMORY" "store type: MEMORY, FILE or SQL";
    [dir] Streaming [dir datastore]
        Text(|d, v| d.dir = v) "" "directory of the FILE store";
    [hb_interval hbi] Streaming [hbi hb_interval server_to_client_hb_interval]
        Duration(|d, v| d.hb_interval_nanos = v) "30s" "time between heartbeats to a client";
    [hb_timeout hbt] Streaming [hbt hb_timeout server_to_client_hb_timeout]
        Duration(|d, v| d.hb_timeout_nanos = v)
        "10s" "how long a client may take to answer a heartbeat";
    [hb_fail_count hbf] Streaming [hbf hb_fail_count server_to_client_hb_fail_count]
        Number(|d, v| d.hb_fail_count = v)
        "10" "failed heartbeats in a row before a client is closed";
    [replace_durable] Streaming [replace_durable replace_durables replace_duplicate_durable
        replace_duplicate_durables]
        Switch(|d, v| d.replace_durable = v)
        "false" "a second request for a durable replaces the first";
    [stan_debug SD] Streaming [sd stan_debug]
        Switch(|d, v| d.stan_debug = v) "false" "debug log of streaming";
    [stan_trace SV] Streaming [sv stan_trace]
        Switch(|d, v| d.stan_trace = v) "false" "trace log of streaming";
    [SDV] Streaming []
        Switch(|d, v| (d.stan_debug, d.stan_trace) = (v, v))
        "false" "debug and trace log of streaming";
    [stan_config sc] Streaming []
        Text(|d, v| d.stan_config = v) "" "configuration file for streaming";

    [] Streaming [limits store_limits storelimits]
        Block(Block::Limits, |_| ()) "" "";
    [max_channels mc] Limits [max_channels mc maxchannels]
        Number(|d, v| d.max_channels = v) "100" "channels, 0 for unlimited";
    [max_subs msu] Limits [max_subs msu max_subscriptions maxsubscriptions]
        Number(|d, v| d.limits.max_subs = v) "1000" "subscriptions of a channel, 0 for unlimited";
    [max_msgs mm] Limits [max_msgs mm maxmsgs max_count maxcount]
        Number(|d, v| d.limits.max_msgs = v) "1000000" "messages of a channel, 0 for unlimited";
    [max_bytes mb] Limits [max_bytes mb maxbytes]
        Size(|d, v| d.limits.max_bytes = v)
        "1024000000" "bytes of the messages of a channel, 0 for unlimited";
    [max_age ma] Limits [max_age ma maxage]
        Duration(|d, v| d.limits.max_age_nanos = v)
        "0s" "how long messages are kept, 0s for unlimited";
    [max_inactivity mi] Limits [max_inactivity mi maxinactivity]
        Duration(|d, v| d.limits.max_inactivity_nanos = v) "0s" "not supported yet: only 0s";
    [] Limits [channels channels_limits channelslimits per_channel per_channel_limits]
        Channels() "" "";
    [] Channel [max_subs msu max_subscriptions maxsubscriptions]
        Number(|d, v| channel(d, |own| own.max_subs = unlimited(v))) "" "";
    [] Channel [max_msgs mm maxmsgs max_count maxcount]
        Number(|d, v| channel(d, |own| own.max_msgs = unlimited(v))) "" "";
    [] Channel [max_bytes mb maxbytes]
        Size(|d, v| channel(d, |own| own.max_bytes = unlimited(v))) "" "";
    [] Channel [max_age ma maxage]
        Duration(|d, v| channel(d, |own| own.max_age_nanos = unlimited(v))) "" "";
    [] Channel [max_inactivity mi maxinactivity]
        Duration(|d, v| channel(d, |own| own.max_inactivity_nanos = unlimited(v))) "" "";

    [] Streaming [sql sql_options]
        Block(Block::Sql, |_| ()) "" "";
    [sql_driver] Sql [driver]
        Text(|d, v| d.sql_driver = v) "" "database driver: postgres";
    [sql_source] Sql [source]
        Text(|d, v| d.sql_source = Secret::new(v))
        "" "database source; better in the -sc file or in STANCHION_SQL_SOURCE than on a command line";
    [sql_max_open_conns] Sql [max_open_conns max_conns]
        Unused(Shape::Word, "the store keeps a handful of connections, whatever the load")
        "0" "accepted, without effect";
    [sql_no_caching] Sql [no_caching]
        Unused(Shape::Switch, "nothing is acknowledged before it is stored")
        "false" "accepted, without effect";
    [sql_bulk_insert_limit] Sql [bulk_insert_limit]
        Unused(Shape::Word, "messages are always inserted in bulk") "0" "accepted, without effect";

    [nats_server ns] Streaming [ns nats_server nats_server_url]
        Refused(Shape::Word, NO_EXTERNAL) "" "";
    [secure] Streaming [secure]
        Unused(Shape::Switch, OWN_CONNECTION) "" "";
    [tls_client_cert tls_client_key tls_client_cacert] Streaming [tls credentials nkey_seed_file
        username user password pass token]
        Unused(Shape::Word, OWN_CONNECTION) "" "";
    [ft_group] Streaming [ft_group ft_group_name]
        Unused(Shape::Word, LOCKED) "" "";
    [] Streaming [partitioning]
        Refused(Shape::Switch, "partitioning is not supported") "" "";
    [syslog_name] Streaming [syslog_name]
        Unused(Shape::Word, "it names an event source of Windows") "" "";
    [encrypt] Streaming [encrypt]
        Refused(Shape::Switch, NO_ENCRYPTION) "" "";
    [encryption_cipher] Streaming [encryption_cipher]
        Refused(Shape::Word, NO_ENCRYPTION) "" "";
    [encryption_key] Streaming [encryption_key]
        Refused(Shape::Word, NO_ENCRYPTION) "" "";
    [clustered cluster_bootstrap] Streaming []
        Refused(Shape::Switch, NO_CLUSTERING) "" "";
    [cluster_node_id cluster_peers cluster_log_path] Streaming [cluster]
        Refused(Shape::Word, NO_CLUSTERING) "" "";
    [cluster_log_cache_size cluster_log_snapshots cluster_trailing_logs] Streaming []
        Unused(Shape::Word, NO_CLUSTERING) "" "";
    [cluster_sync cluster_raft_logging cluster_proceed_on_restore_failure
        cluster_allow_add_remove_node] Streaming []
        Unused(Shape::Switch, NO_CLUSTERING) "" "";
    [file_compact_enabled file_crc file_sync file_truncate_bad_eof] Streaming []
        Unused(Shape::Switch, OWN_FILES) "" "";
    [file_compact_frag file_compact_interval file_compact_min_size file_buffer_size
        file_read_buffer_size file_crc_poly] Streaming [file file_options]
        Unused(Shape::Word, OWN_FILES) "" "";
    [file_slice_max_msgs file_slice_max_bytes file_slice_max_age file_slice_archive_script
        file_fds_limit file_parallel_recovery file_auto_sync] Streaming []
        Unused(Shape::Word, OWN_FILES) "" "";
    [io_batch_size io_sleep_time] Streaming []
        Unused(Shape::Word, "batches form by themselves") "" "";
};

/// Settings of the NATS server.
const CORE: &[Setting] = settings! {
    [a addr net] Core [host net]
        Text(|d, v| d.client.host = Some(v)) "0.0.0.0" "host to listen on";
    [p port] Core [port]
        Number(|d, v| d.client.port = v) "4222" "port for clients, -1 for any free one";
    [] Core [listen]
        Address(|d, host, port| { d.client.host = host.or(d.client.host.take()); d.client.port = port; })
        "" "";
    [n name server_name] Core [server_name]
        Text(|d, v| d.server_name = v) "" "name of the server, its ID if not given";
    [client_advertise] Core [client_advertise]
        Text(|d, v| d.client_advertise = v) "" "address for clients in INFO, host or host:port";
    [m http_port] Core [http_port monitor_port]
        Number(|d, v| d.monitor.port = v)
        "0" "port for monitoring, 0 for none, -1 for any free one";
    [] Core [http]
        Address(|d, host, port| { d.monitor.host = host; d.monitor.port = port; }) "" "";
    [metrics_port] Core [metrics_port]
        Number(|d, v| d.metrics.port = v)
        "0" "port for Prometheus metrics, 0 for none, -1 for any free one";
    [metrics_addr] Core [metrics_addr]
        Text(|d, v| d.metrics.host = Some(v)) "0.0.0.0" "host for Prometheus metrics";
    [c config] Core []
        Text(|d, v| d.config = v) "" "configuration file";
    [t] Core []
        Switch(|d, v| d.check_only = v) "false" "check the configuration and exit";
    [P pid] Core [pid_file pidfile]
        Text(|d, v| d.pid_file = v) "" "file to write the process ID to";
    [ports_file_dir] Core [ports_file_dir]
        Text(|d, v| d.ports_file_dir = v)
        "" "directory for <program>_<pid>.ports with all listen addresses";
    [l log] Core [log_file logfile]
        Text(|d, v| d.log_file = v) "" "log to this file instead of standard error";
    [T logtime] Core [logtime]
        Switch(|d, v| d.log_time = v) "true" "log lines have a time stamp";
    [logtime_utc] Core [logtime_utc]
        Unused(Shape::Switch, "times in logs are always UTC") "" "accepted, times are always UTC";
    [D debug] Core [debug]
        Switch(|d, v| d.debug = v) "false" "debug log of the NATS server";
    [V trace] Core [trace]
        Switch(|d, v| d.trace = v) "false" "trace log of the NATS server";
    [VV] Core [trace_verbose]
        Switch(|d, v| d.trace = v) "false" "same as -V";
    [DV DVV] Core []
        Switch(|d, v| (d.debug, d.trace) = (v, v)) "false" "debug and trace log of the NATS server";
    [tls] Core []
        Switch(|d, v| d.tls.wanted = Some(v)) "false" "TLS for clients";
    [] Core [tls]
        Block(Block::Tls, |d| d.tls.wanted = Some(true)) "" "";
    [tlsverify] Tls [verify]
        Switch(|d, v| d.tls.verify = v)
        "false" "TLS, and clients must show a certificate of the CA";
    [tlscert] Tls [cert_file]
        Text(|d, v| d.tls.cert_file = v) "" "certificate chain of the server";
    [tlskey] Tls [key_file]
        Text(|d, v| d.tls.key_file = v) "" "private key of the server";
    [tlscacert] Tls [ca_file]
        Text(|d, v| d.tls.ca_file = v) "" "CA that client certificates are checked against";
    [] Tls [timeout]
        Duration(|d, v| d.tls.timeout_nanos = v) "2s" "";
    [] Core [max_connections max_conn]
        Number(|d, v| d.max_connections = v) "65536" "";
    [] Core [max_control_line]
        Number(|d, v| d.max_control_line = v) "4096" "";
    [] Core [max_payload]
        Number(|d, v| d.max_payload = v) "1048576" "";
    [] Core [max_pending]
        Number(|d, v| d.max_pending = v) "67108864" "";
    [] Core [ping_interval]
        Duration(|d, v| d.ping_interval_nanos = v) "2m" "";
    [] Core [ping_max]
        Number(|d, v| d.ping_max = v) "2" "";
    [] Core [write_deadline]
        Duration(|d, v| d.write_deadline_nanos = v) "10s" "";

    [user pass auth] Core [authorization accounts operator operators resolver resolver_preload
        trusted trusted_keys no_auth_user]
        Refused(Shape::Word, NO_AUTHORIZATION) "" "";
    [] Core [system_account system default_sentinel]
        NotYet(Shape::Word, NO_AUTHORIZATION) "" "";
    [] Core [no_system_account]
        NotYet(Shape::Switch, NO_AUTHORIZATION) "" "";
    [] Tls [verify_and_map]
        Refused(Shape::Switch, NO_AUTHORIZATION) "" "";
    [] Tls [pinned_certs certs ocsp_peer cert_store handshake_first first immediate]
        Refused(Shape::Word, "this TLS option is not supported yet") "" "";
    [] Tls [min_version cipher_suites curve_preferences]
        Refused(Shape::Word, "TLS 1.2 and 1.3 are offered with safe cipher suites; choosing is not supported yet")
        "" "";
    [] Tls [insecure allow_insecure_cipher_suites verify_cert_and_check_known_urls]
        Unused(Shape::Switch, "it does not apply to clients of this server") "" "";
    [] Tls [connection_rate_limit]
        NotYet(Shape::Word, "the rate of handshakes is not limited yet") "" "";
    [] Tls [client_cert client_key client_ca client_cacert server_name server_hostname skip_verify]
        Unused(Shape::Word, OWN_CONNECTION) "" "";
    [] Core [allow_non_tls]
        Refused(Shape::Switch, "plain text beside TLS is not supported yet") "" "";
    [ms https_port] Core [https https_port]
        Refused(Shape::Word, NO_HTTPS) "" "";
    [] Core [http_base_path]
        Refused(Shape::Word, "a base path for monitoring is not supported yet") "" "";
    [routes cluster cluster_listen cluster_name cluster_advertise connect_retries] Core [cluster]
        Refused(Shape::Word, NO_ROUTES) "" "";
    [no_advertise] Core []
        Refused(Shape::Switch, NO_ROUTES) "" "";
    [] Core [gateway leafnodes leaf websocket ws mqtt]
        Refused(Shape::Word, NO_LISTENER) "" "";
    [js jetstream] Core []
        Refused(Shape::Switch, NO_JETSTREAM) "" "";
    [] Core [jetstream]
        Refused(Shape::Word, NO_JETSTREAM) "" "";
    [sd store_dir] Core [store_dir default_js_domain]
        Unused(Shape::Word, NO_JETSTREAM) "" "";
    [] Core [mappings maps]
        Refused(Shape::Word, "subject mappings are not supported yet") "" "";
    [] Core [proxies]
        Refused(Shape::Word, "proxies are not supported yet") "" "";
    [] Core [proxy_protocol]
        Refused(Shape::Switch, "the proxy protocol is not supported yet") "" "";
    [sl signal] Core []
        Refused(Shape::Word, "send the signal with kill") "" "";
    [s syslog] Core [syslog]
        NotYet(Shape::Switch, NO_SYSLOG) "" "";
    [r remote_syslog] Core [remote_syslog]
        NotYet(Shape::Word, NO_SYSLOG) "" "";
    [log_size_limit] Core [log_size_limit logfile_size_limit log_max_num logfile_max_num]
        NotYet(Shape::Word, "log files are not rotated yet") "" "";
    [max_traced_msg_len] Core [max_traced_msg_len]
        Unused(Shape::Word, SHORT_TRACE) "" "";
    [] Core [trace_headers]
        Unused(Shape::Switch, SHORT_TRACE) "" "";
    [profile] Core [prof_port prof_block_rate]
        NotYet(Shape::Word, "there is no profiling port") "" "";
    [help_tls] Core []
        Refused(Shape::Switch, "see -help") "" "";
    [] Core [max_subscriptions max_subs]
        NotYet(Shape::Word, "the number of subscriptions is not limited yet") "" "";
    [] Core [max_sub_tokens]
        NotYet(Shape::Word, "the number of tokens is not limited yet") "" "";
    [] Core [lame_duck_duration lame_duck_grace_period]
        NotYet(Shape::Word, "there is no lame duck mode yet") "" "";
    [] Core [write_timeout]
        NotYet(Shape::Word, "a connection is closed when its write deadline passes") "" "";
    [] Core [ocsp ocsp_cache]
        NotYet(Shape::Word, "OCSP is not supported") "" "";
    [] Core [server_tags server_metadata feature_flags]
        NotYet(Shape::Word, "it is not shown yet") "" "";
    [] Core [max_closed_clients connect_error_reports reconnect_error_reports]
        Unused(Shape::Word, "there is nothing that it applies to") "" "";
    [] Core [no_fast_producer_stall disable_sublist_cache no_sublist_cache]
        NotYet(Shape::Switch, "it cannot be changed") "" "";
    [] Core [no_header_support]
        Refused(Shape::Switch, "headers cannot be switched off") "" "";
};

/// All of them, in the order of the help text.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    STREAMING.iter().chain(CORE)
}

/// Of the channel whose block is being read, which is the last one.
fn channel(draft: &mut Draft, set: impl FnOnce(&mut super::limits::Own)) {
    if let Some(channel) = draft.channels.last_mut() {
        set(&mut channel.own);
    }
}

/// In a file a channel's 0 means unlimited, which is a negative number in [`super::limits::Own`].
fn unlimited(value: i64) -> i64 {
    if value == 0 { -1 } else { value }
}
