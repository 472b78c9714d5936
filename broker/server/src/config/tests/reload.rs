//! What a change of the file means for a running server.

use super::{
    super::reload::{Part, compare},
    *,
};

fn of(text: &str) -> Config {
    WithFile::new(text)
        .run("")
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn lines(old: &str, new: &str) -> Vec<String> {
    let changes = compare(&of(old), &of(new)).unwrap_or_else(|error| panic!("{new}: {error}"));
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn changes_that_can_be_taken_over_are_listed() {
    for (old, new, line) in [
        ("", "debug: true", "debug = true"),
        ("", "trace: true", "trace = true"),
        (
            "",
            "trace_headers: true\ntrace: true",
            "trace = true\ntrace_headers = true",
        ),
        ("", "logtime: false", "logtime = false"),
        ("", "logtime_utc: true", "logtime_utc = true"),
        ("", "log_file: /l", "log_file = /l"),
        ("", "max_traced_msg_len: 5", "max_traced_msg_len = 5"),
        ("", "streaming { sd: true }", "stan_debug = true"),
        ("", "pid_file: /p", "pid_file = /p"),
        ("", "ports_file_dir: /d", "ports_file_dir = /d"),
        ("", "max_connections: 5", "max_connections = 5"),
        ("", "max_connections: -1", "max_connections = -1"),
        ("", "max_payload: 5", "max_payload = 5"),
        ("", "max_control_line: 5", "max_control_line = 5"),
        ("", "ping_interval: \"90s\"", "ping_interval = 1m30s"),
        ("", "ping_max: 5", "ping_max = 5"),
        ("", "write_deadline: \"5s\"", "write_deadline = 5s"),
        ("", "client_advertise: \"h:1\"", "client_advertise = h:1"),
        (
            "",
            "no_fast_producer_stall: true",
            "fast producers will not be stalled",
        ),
        ("", "connect_error_reports: 5", "connect_error_reports = 5"),
        (
            "",
            "reconnect_error_reports: 5",
            "reconnect_error_reports = 5",
        ),
        ("", "server_tags: a", "tags"),
        ("", "server_metadata { a: b }", "metadata"),
        ("", "authorization { token: s3cret }", "authorization token"),
        (
            "",
            "authorization { user: a, password: s3cret }",
            "authorization username\nauthorization password",
        ),
        (
            "authorization { user: a, password: b }",
            "authorization { user: a, password: s3cret }",
            "authorization password",
        ),
        (
            "authorization { token: a }",
            "authorization { token: a, timeout: 4 }",
            "authorization timeout = 4",
        ),
        (
            "",
            "authorization { users: [ { user: a, password: s3cret } ] }",
            "authorization users",
        ),
        (
            "",
            "authorization { users: [ { nkey: UADQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQPL3S } ] }",
            "authorization nkey users",
        ),
        (
            "",
            "accounts { A { users: [ { user: a, password: b } ] } }",
            "authorization users\naccounts",
        ),
        (
            "cluster { port: 1 }",
            "cluster { port: 1, no_advertise: true }",
            "cluster",
        ),
        (
            "cluster { port: 1 }",
            "cluster { port: 1, routes: [ \"nats://a:s3cret@h:1\" ] }",
            "cluster routes",
        ),
        (
            "tls { cert_file: c, key_file: k }",
            "tls { cert_file: c, key_file: k }",
            "tls = enabled",
        ),
        (
            "tls { cert_file: c, key_file: k }",
            "",
            "authorization timeout = 2\ntls = disabled",
        ),
        (
            "tls { cert_file: c, key_file: k }",
            "tls { cert_file: c, key_file: k, handshake_first: \"1s\" }",
            "tls = enabled\nClient TLS handshake first: true\nClient TLS handshake first fallback delay: 1s",
        ),
        ("", "metrics_prefix: nats", "metrics_prefix = nats"),
        ("port: 7", "port: 7", ""),
        ("port: 7", "port: -1", ""),
    ] {
        let got = lines(old, new).join("\n");
        assert_eq!(got, line, "{old} -> {new}");
        assert!(!got.contains("s3cret"));
    }
}

#[test]
fn what_cannot_change_keeps_the_whole_of_the_old() {
    let users = "authorization { users: [ { user: a, password: b }, { user: c, password: d } ] }\n";
    for (old, new, error) in [
        (
            "port: 4222",
            "port: 4333\ndebug: true",
            "Port: old=4222, new=4333",
        ),
        ("", "host: h", "Host: old=0.0.0.0, new=h"),
        ("", "server_name: x", "ServerName: old=, new=x"),
        ("", "http: 1", "HTTPHost: old=, new=0.0.0.0"),
        ("http: 1", "http: 2", "HTTPPort: old=1, new=2"),
        (
            "http: 1",
            "http: 1\nhttp_base_path: x",
            "HTTPBasePath: old=, new=/x",
        ),
        ("", "max_subscriptions: 5", "MaxSubs: old=0, new=5"),
        ("", "max_sub_tokens: 5", "MaxSubTokens: old=0, new=5"),
        (
            "",
            "max_pending: 8MB",
            "MaxPending: old=67108864, new=8388608",
        ),
        (
            "",
            "max_closed_clients: 5",
            "MaxClosedClients: old=10000, new=5",
        ),
        (
            "",
            "lame_duck_duration: \"30s\"",
            "LameDuckDuration: old=2m0s, new=30s",
        ),
        (
            "",
            "lame_duck_grace_period: \"5s\"",
            "LameDuckGracePeriod: old=10s, new=5s",
        ),
        (
            "",
            "no_header_support: true",
            "NoHeaderSupport: old=false, new=true",
        ),
        (
            "",
            "allow_non_tls: true",
            "AllowNonTLS: old=false, new=true",
        ),
        (
            "",
            "write_timeout: close",
            "WriteTimeout: old=default, new=close",
        ),
        ("", "log_size_limit: 5", "LogSizeLimit: old=0, new=5"),
        ("", "log_max_num: 5", "LogMaxFiles: old=0, new=5"),
        ("", "metrics_port: 5", "Metrics: old=, new=0.0.0.0:5"),
        ("", "cluster { port: 1 }", "cluster host: old=, new=0.0.0.0"),
        (
            "cluster { port: 1 }",
            "cluster { port: 2 }",
            "cluster port: old=1, new=2",
        ),
        (
            "cluster { port: 1 }",
            "cluster { port: 1, name: x }",
            "cluster name: old=, new=x",
        ),
        (
            users,
            "authorization { users: [ { user: a, password: b } ] }\nno_auth_user: a",
            "NoAuthUser: old=, new=a",
        ),
        (
            "",
            "system_account: \"$SYS\"",
            "SystemAccount: old=, new=$SYS",
        ),
        ("", "streaming: off", "Streaming: old=true, new=false"),
        (
            "",
            "streaming { cluster_id: x }",
            "cluster_id: old=test-cluster, new=x",
        ),
        (
            "",
            "streaming { store: file, dir: /d }",
            "store: old=MEMORY, new=FILE /d",
        ),
    ] {
        let refused = compare(&of(old), &of(new)).unwrap_err();
        assert_eq!(
            refused,
            format!("config reload not supported for {error}"),
            "{new}"
        );
    }
}

#[test]
fn the_source_of_the_database_can_change_and_is_not_shown() {
    let of_source = |source| format!("streaming {{ store: sql, sql {{ source: \"{source}\" }} }}");
    let (old, new) = (
        of_source("password=s3cret-1"),
        of_source("password=s3cret-2"),
    );
    let changes = compare(&of(&old), &of(&new)).unwrap();
    let shown: Vec<_> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["sql_source"]);
}

#[test]
fn heartbeats_and_limits_of_streaming_can_change() {
    let new = "streaming { hb_interval: 1s, hb_fail_count: 2, replace_durable: true, limits { max_msgs: 5 } }";
    let changes = compare(&of(""), &of(new)).unwrap();
    let texts: Vec<_> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "hb_interval = 1s",
            "hb_fail_count = 2",
            "replace_durable = true",
            "store_limits",
        ]
    );
}

#[test]
fn a_user_for_those_without_credentials_goes_with_its_name() {
    let both = "authorization { users: [ { user: a, password: b }, { user: c, password: d } ] }";
    let old = of(&format!("{both}\nno_auth_user: a"));
    assert!(
        compare(&old, &of(both))
            .unwrap_err()
            .contains("NoAuthUser: old=a, new=")
    );
    let gone = of("authorization { users: [ { user: c, password: d } ] }");
    let parts: Vec<_> = compare(&old, &gone)
        .unwrap()
        .iter()
        .map(|change| change.part)
        .collect();
    assert_eq!(parts, [Part::Auth, Part::Auth]);
}
