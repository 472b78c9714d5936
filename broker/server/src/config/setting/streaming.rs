//! Flags and keys of NATS Streaming.

use broker_core::auth::settings::Secret;

use super::{
    super::{draft::Draft, limits::Own},
    Block, Setter, Setting, Shape, settings,
};

const NO_CLUSTERING: &str =
    "clustering is not supported; run a second broker on the same SQL store as standby";
const OWN_FILES: &str = "the FILE store of this server has a format of its own";
const LOCKED: &str = "the store lock is always taken, with or without a group name";

/// Flags and keys of streaming.
pub(super) const STREAMING: &[Setting] = settings! {
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
        Block(Block::Limits) "" "";
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
        Duration(|d, v| d.limits.max_inactivity_nanos = v) "0s"
        "how long a channel lives without subscriptions and new messages, 0s for ever";
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
        Block(Block::Sql) "" "";
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
        Text(|d, v| d.external.url = Secret::new(v))
        "" "URL of an external NATS server, or several with commas between them; by default one is embedded";
    [] Streaming [credentials]
        Text(|d, v| d.external.credentials = v) "" "";
    [] Streaming [nkey_seed_file]
        Text(|d, v| d.external.nkey_seed_file = v) "" "";
    [] Streaming [username user]
        Text(|d, v| d.external.user = v) "" "";
    [] Streaming [password pass]
        Text(|d, v| d.external.password = Secret::new(v)) "" "";
    [] Streaming [token]
        Text(|d, v| d.external.token = Secret::new(v)) "" "";
    [secure] Streaming [secure]
        Switch(|d, v| d.external.secure = v) "false" "use TLS with external NATS servers";
    [] Streaming [tls]
        Block(Block::StreamingTls) "" "";
    [tls_client_cert] StreamingTls [client_cert]
        Text(|d, v| d.external.client_cert = v) "" "certificate shown to external NATS servers";
    [tls_client_key] StreamingTls [client_key]
        Text(|d, v| d.external.client_key = v) "" "key of that certificate";
    [tls_client_cacert] StreamingTls [client_ca client_cacert]
        Text(|d, v| d.external.client_ca = v)
        "" "authorities that external NATS servers are checked against; by default the system's";
    [] StreamingTls [server_name server_hostname]
        Text(|d, v| d.external.server_name = v) "" "";
    [] StreamingTls [skip_verify insecure]
        Switch(|d, v| d.external.skip_verify = v) "" "";
    [ft_group] Streaming [ft_group ft_group_name]
        Unused(Shape::Word, LOCKED) "" "";
    [] Streaming [partitioning]
        Switch(|d, v| d.partitioning = v) "" "";
    [syslog_name] Streaming [syslog_name]
        Unused(Shape::Word, "it names an event source of Windows") "" "";
    [encrypt] Streaming [encrypt]
        Switch(|d, v| d.encrypt = v) "false" "payloads are encrypted before they are stored";
    [encryption_cipher] Streaming [encryption_cipher]
        Text(|d, v| d.encryption_cipher = v)
        "" "AES or CHACHA; by default AES on x86, CHACHA elsewhere";
    [encryption_key] Streaming [encryption_key]
        Text(|d, v| d.encryption_key = Secret::new(v))
        "" "key of the encryption; better in NATS_STREAMING_ENCRYPTION_KEY than on a command line";
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

/// Of the channel whose block is being read, which is the last one.
fn channel(draft: &mut Draft, set: impl FnOnce(&mut Own)) {
    if let Some(channel) = draft.channels.last_mut() {
        set(&mut channel.own);
    }
}

/// In a file a channel's 0 means unlimited, which is a negative number in [`Own`].
fn unlimited(value: i64) -> i64 {
    if value == 0 { -1 } else { value }
}
