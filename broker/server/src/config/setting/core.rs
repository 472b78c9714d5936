//! Flags and top-level keys of the NATS server, and flags of the program as a whole.

use broker_core::auth::settings::Secret;

use super::{Block, Setter, Setting, Shape, Structure, settings};

const NO_OPERATOR: &str =
    "operator mode (JWT) is not supported; declare users in authorization or accounts";
const NO_JETSTREAM: &str = "JetStream is not supported";
const NO_LISTENER: &str = "this listener is not supported";
const NO_OCSP: &str = "OCSP is not supported";
const NO_PROFILE: &str = "there is no profiling port";
const NO_SYSLOG: &str = "syslog is not supported; logs go to standard error or to log_file";

/// What is settable where: addresses, files and logs, then credentials, TLS and routes, then limits.
pub(super) const CORE: &[Setting] = settings! {
    [streaming] Core []
        Switch(|d, v| d.streaming = Some(v)) "true" "NATS Streaming beside the NATS server";
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
    [ms https_port] Core [https_port]
        Number(|d, v| d.monitor_tls_port = v) "0" "port for monitoring over TLS, instead of -m";
    [] Core [https]
        Address(|d, host, port| { d.monitor.host = host; d.monitor_tls_port = port; }) "" "";
    [] Core [http_base_path]
        Text(|d, v| d.monitor_base_path = v) "" "";
    [metrics_port] Core [metrics_port]
        Number(|d, v| d.metrics.port = v)
        "0" "port for Prometheus metrics, 0 for none, -1 for any free one";
    [metrics_addr] Core [metrics_addr]
        Text(|d, v| d.metrics.host = Some(v)) "0.0.0.0" "host for Prometheus metrics";
    [metrics_prefix] Core [metrics_prefix]
        Text(|d, v| d.metrics_prefix = v)
        "gnatsd" "first part of the names of metrics of the NATS server";
    [c config] Core []
        Text(|d, v| d.config = v) "" "configuration file";
    [t] Core []
        Switch(|d, v| d.check_only = v) "false" "check the configuration file and exit";
    [sl signal] Core []
        Text(|d, v| d.signal = v)
        "" "signal a running broker and exit: stop, quit, term, reopen, reload or ldm, each also with =PID or =PIDFILE";
    [P pid] Core [pid_file pidfile]
        Text(|d, v| d.pid_file = v) "" "file to write the process ID to";
    [ports_file_dir] Core [ports_file_dir]
        Text(|d, v| d.ports_file_dir = v)
        "" "directory for <program>_<pid>.ports with all listen addresses";

    [l log] Core [log_file logfile]
        Text(|d, v| d.log_file = v) "" "log to this file instead of standard error";
    [log_size_limit] Core [log_size_limit logfile_size_limit]
        Size(|d, v| d.log_size_limit = v) "0" "bytes after which a new log file is begun, 0 for never";
    [] Core [log_max_num logfile_max_num]
        Number(|d, v| d.log_max_num = v) "0" "";
    [T logtime] Core [logtime]
        Switch(|d, v| d.log_time = v) "true" "log lines have a time stamp";
    [logtime_utc] Core [logtime_utc]
        Switch(|d, v| d.log_time_utc = v) "false" "time stamps are UTC instead of local time";
    [s syslog] Core [syslog]
        Refused(Shape::Switch, NO_SYSLOG) "" "";
    [r remote_syslog] Core [remote_syslog]
        Refused(Shape::Word, NO_SYSLOG) "" "";
    [D debug] Core [debug]
        Switch(|d, v| d.debug = v) "false" "debug log of the NATS server";
    [V trace] Core [trace]
        Switch(|d, v| d.trace = v) "false" "trace log of the NATS server";
    [VV] Core []
        Switch(|d, v| (d.trace, d.trace_verbose) = (v, v))
        "false" "trace log, of the system account too";
    [] Core [trace_verbose]
        Switch(|d, v| (d.trace, d.trace_verbose) = (d.trace || v, v)) "" "";
    [] Core [trace_headers]
        Switch(|d, v| (d.trace, d.trace_headers) = (d.trace || v, v)) "" "";
    [DV] Core []
        Switch(|d, v| (d.debug, d.trace) = (v, v)) "false" "debug and trace log of the NATS server";
    [DVV] Core []
        Switch(|d, v| (d.debug, d.trace, d.trace_verbose) = (v, v, v))
        "false" "debug and trace log, of the system account too";
    [max_traced_msg_len] Core [max_traced_msg_len]
        Number(|d, v| d.max_traced_msg_len = v) "0" "bytes of a message in the trace log, 0 for all";

    [user] Core []
        Text(|d, v| d.auth.user = v) "" "name that clients must show";
    [pass] Core []
        Text(|d, v| d.auth.password = Secret::new(v))
        "" "password that clients must show; better in a file than on a command line";
    [auth] Core []
        Text(|d, v| d.auth.token = Secret::new(v))
        "" "token that clients must show; better in a file than on a command line";
    [] Core [authorization]
        Own(Structure::Authorization) "" "";
    [] Core [accounts]
        Own(Structure::Accounts) "" "";
    [] Core [system_account system]
        Text(|d, v| d.auth.system_account = v) "" "";
    [] Core [no_system_account no_system no_sys_acc]
        Switch(|d, v| d.auth.no_system_account = v) "" "";
    [] Core [no_auth_user]
        Text(|d, v| d.auth.no_auth_user = v) "" "";
    [] Core [operator operators roots root root_operators root_operator resolver account_resolver
        accounts_resolver resolver_tls resolver_preload resolver_pinned_accounts trusted trusted_keys
        default_sentinel]
        Refused(Shape::Word, NO_OPERATOR) "" "";

    [tls] Core []
        Switch(|d, v| d.tls.wanted = Some(v)) "false" "TLS for clients";
    [tlsverify] Core []
        Switch(|d, v| d.tls.verify = v)
        "false" "TLS, and clients must show a certificate of the CA";
    [tlscert] Core []
        Text(|d, v| d.tls.cert_file = v) "" "certificate chain of the server";
    [tlskey] Core []
        Text(|d, v| d.tls.key_file = v) "" "private key of the server";
    [tlscacert] Core []
        Text(|d, v| d.tls.ca_file = v) "" "CA that client certificates are checked against";
    [] Core [tls]
        Own(Structure::Tls) "" "";
    [] Core [allow_non_tls]
        Switch(|d, v| d.allow_non_tls = v) "" "";
    [] Core [ocsp ocsp_cache]
        Refused(Shape::Word, NO_OCSP) "" "";

    [routes] Core []
        Text(|d, v| d.cluster.routes_flag = Some(v))
        "" "servers to connect to, nats-route://host:port with commas between";
    [cluster cluster_listen] Core []
        Text(|d, v| d.cluster.listen_flag = Some(v)) "" "address for routes, nats://host:port";
    [cluster_name] Core []
        Text(|d, v| d.cluster.name = v) "" "name of the cluster, random if not given";
    [cluster_advertise] Core []
        Text(|d, v| d.cluster.advertise = v) "" "address for routes that other servers are told";
    [no_advertise] Core []
        Switch(|d, v| d.cluster.no_advertise = v)
        "false" "clients are not told about other servers";
    [connect_retries] Core []
        Number(|d, v| d.cluster.connect_retries = v)
        "0" "further attempts to connect to servers that were only heard of";
    [] Core [cluster]
        Own(Structure::Cluster) "" "";

    [] Core [max_connections max_conn]
        Number(|d, v| d.max_connections = v) "65536" "";
    [] Core [max_subscriptions max_subs]
        Number(|d, v| d.max_subscriptions = v) "0" "";
    [] Core [max_sub_tokens max_subscription_tokens]
        Number(|d, v| d.max_sub_tokens = Some(v)) "" "";
    [] Core [max_closed_clients]
        Number(|d, v| d.max_closed_clients = v) "10000" "";
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
    [] Core [write_timeout]
        Text(|d, v| d.write_timeout = v) "default" "";
    [] Core [lame_duck_duration]
        Duration(|d, v| d.lame_duck_duration_nanos = v) "2m" "";
    [] Core [lame_duck_grace_period]
        Duration(|d, v| d.lame_duck_grace_period_nanos = v) "10s" "";
    [] Core [no_header_support]
        Switch(|d, v| d.no_header_support = v) "" "";
    [] Core [no_fast_producer_stall]
        Switch(|d, v| d.no_fast_producer_stall = v) "" "";
    [] Core [disable_sublist_cache no_sublist_cache]
        Unused(Shape::Switch, "subjects are matched without a cache that could be switched off") "" "";
    [] Core [connect_error_reports]
        Number(|d, v| d.connect_error_reports = v) "3600" "";
    [] Core [reconnect_error_reports]
        Number(|d, v| d.reconnect_error_reports = v) "1" "";
    [] Core [server_tags]
        Own(Structure::Tags) "" "";
    [] Core [server_metadata]
        Own(Structure::Metadata) "" "";

    [] Core [gateway leafnodes leaf websocket ws mqtt]
        Refused(Shape::Word, NO_LISTENER) "" "";
    [js jetstream] Core []
        Unused(Shape::Switch, NO_JETSTREAM) "false" "accepted, without effect";
    [] Core [jetstream]
        Refused(Shape::Word, NO_JETSTREAM) "" "";
    [sd store_dir] Core [store_dir storedir default_js_domain]
        Unused(Shape::Word, NO_JETSTREAM) "" "accepted, without effect";
    [] Core [mappings maps]
        Refused(Shape::Word, "subject mappings are not supported") "" "";
    [] Core [proxies]
        Refused(Shape::Word, "proxies are not supported") "" "";
    [] Core [proxy_protocol]
        Refused(Shape::Switch, "the proxy protocol is not supported") "" "";
    [] Core [feature_flags]
        Refused(Shape::Word, "there are no features that could be switched") "" "";
    [profile] Core [prof_port prof_block_rate]
        Refused(Shape::Word, NO_PROFILE) "" "";
};
