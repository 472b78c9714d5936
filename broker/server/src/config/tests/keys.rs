//! Every key of the NATS server: what it changes, and what is refused.

use super::{
    super::{
        file,
        setting::{Block, Setter},
    },
    *,
};

type Shown = fn(&Config) -> String;

/// Line of a file, what to look at, and what is to be seen there.
const KEYS: &[(&str, Shown, &str)] = &[
    ("host: h", |c| c.client.bind.host.clone(), "h"),
    ("net: h", |c| c.client.bind.host.clone(), "h"),
    ("port: 1", |c| c.client.bind.port.to_string(), "1"),
    ("port: -1", |c| c.client.bind.port.to_string(), "0"),
    (
        "listen: \"[::1]:7\"",
        |c| format!("{:?}", c.client.bind),
        r#"Bind { host: "::1", port: 7 }"#,
    ),
    (
        "client_advertise: h",
        |c| format!("{:?}", c.client.advertise),
        r#"Some(Advertise { host: "h", port: None })"#,
    ),
    (
        "server_name: n",
        |c| format!("{:?}", c.client.server_name),
        r#"Some("n")"#,
    ),
    ("debug: on", |c| c.log.debug.to_string(), "true"),
    ("trace: on", |c| c.log.trace.to_string(), "true"),
    (
        "trace_verbose: on",
        |c| format!("{} {}", c.log.trace, c.log.trace_verbose),
        "true true",
    ),
    (
        "trace_headers: on",
        |c| format!("{} {}", c.log.trace, c.log.trace_headers),
        "true true",
    ),
    ("logtime: off", |c| c.log.time.to_string(), "false"),
    ("logtime_utc: on", |c| c.log.time_utc.to_string(), "true"),
    (
        "log_file: /l",
        |c| format!("{:?}", c.log.file),
        r#"Some("/l")"#,
    ),
    (
        "logfile: /l",
        |c| format!("{:?}", c.log.file),
        r#"Some("/l")"#,
    ),
    (
        "logfile_size_limit: 1kb",
        |c| format!("{:?}", c.log.file_size_limit),
        "Some(1024)",
    ),
    (
        "log_size_limit: 0",
        |c| format!("{:?}", c.log.file_size_limit),
        "None",
    ),
    (
        "logfile_max_num: 3",
        |c| format!("{:?}", c.log.file_max_num),
        "Some(3)",
    ),
    (
        "log_max_num: 3",
        |c| format!("{:?}", c.log.file_max_num),
        "Some(3)",
    ),
    (
        "max_traced_msg_len: 9",
        |c| format!("{:?}", c.log.max_traced_msg_len),
        "Some(9)",
    ),
    (
        "pidfile: /p",
        |c| format!("{:?}", c.process_files.pid_file),
        r#"Some("/p")"#,
    ),
    (
        "pid_file: /p",
        |c| format!("{:?}", c.process_files.pid_file),
        r#"Some("/p")"#,
    ),
    (
        "ports_file_dir: /d",
        |c| format!("{:?}", c.process_files.ports_file_dir),
        r#"Some("/d")"#,
    ),
    (
        "http: h:8",
        |c| format!("{:?} {}", c.monitor, c.monitor_tls),
        r#"Some(Bind { host: "h", port: 8 }) false"#,
    ),
    (
        "http_port: 8",
        |c| c.monitor.as_ref().unwrap().port.to_string(),
        "8",
    ),
    (
        "monitor_port: 8",
        |c| c.monitor.as_ref().unwrap().port.to_string(),
        "8",
    ),
    (
        "http_base_path: a//b/../c/",
        |c| c.monitor_base_path.clone(),
        "/a/c",
    ),
    (
        "metrics_prefix: nats_2",
        |c| c.metrics_prefix.clone(),
        "nats_2",
    ),
    ("http_base_path: \"/\"", |c| c.monitor_base_path.clone(), ""),
    (
        "max_connections: 0",
        |c| format!("{:?}", c.client.max_connections),
        "Some(0)",
    ),
    (
        "max_conn: -1",
        |c| format!("{:?}", c.client.max_connections),
        "None",
    ),
    (
        "max_subscriptions: 5",
        |c| format!("{:?}", c.client.max_subscriptions),
        "Some(5)",
    ),
    (
        "max_subs: 0",
        |c| format!("{:?}", c.client.max_subscriptions),
        "None",
    ),
    (
        "max_sub_tokens: 8",
        |c| format!("{:?}", c.client.max_sub_tokens),
        "Some(8)",
    ),
    (
        "max_closed_clients: 8",
        |c| c.client.max_closed_clients.to_string(),
        "8",
    ),
    (
        "max_control_line: 8k",
        |c| c.client.max_control_line.to_string(),
        "8000",
    ),
    (
        "max_payload: 8k",
        |c| c.client.max_payload.to_string(),
        "8000",
    ),
    (
        "max_pending: 8GB",
        |c| c.client.max_pending.to_string(),
        "8589934592",
    ),
    (
        "ping_interval: \"8s\"",
        |c| format!("{:?}", c.client.ping_interval),
        "8s",
    ),
    ("ping_max: 8", |c| c.client.ping_max.to_string(), "8"),
    (
        "write_deadline: \"8s\"",
        |c| format!("{:?}", c.client.write_deadline),
        "8s",
    ),
    (
        "write_timeout: retry",
        |c| format!("{:?}", c.client.write_timeout),
        "Retry",
    ),
    (
        "lame_duck_duration: \"31s\"",
        |c| format!("{:?}", c.client.lame_duck_duration),
        "31s",
    ),
    (
        "lame_duck_grace_period: \"1s\"",
        |c| format!("{:?}", c.client.lame_duck_grace_period),
        "1s",
    ),
    (
        "no_header_support: on",
        |c| c.client.no_header_support.to_string(),
        "true",
    ),
    (
        "no_fast_producer_stall: on",
        |c| c.client.no_fast_producer_stall.to_string(),
        "true",
    ),
    (
        "connect_error_reports: 8",
        |c| c.client.connect_error_reports.to_string(),
        "8",
    ),
    (
        "reconnect_error_reports: 8",
        |c| c.client.reconnect_error_reports.to_string(),
        "8",
    ),
    (
        "server_tags: [\" A\", a, b]",
        |c| c.client.server_tags.join(","),
        "a,b",
    ),
    ("server_tags: x", |c| c.client.server_tags.join(","), "x"),
    (
        "server_metadata { k: v }",
        |c| format!("{:?}", c.client.server_metadata),
        r#"{"k": "v"}"#,
    ),
    (
        "streaming: off",
        |c| c.streaming_enabled.to_string(),
        "false",
    ),
    (
        "streaming: on\ncluster_id: x",
        |c| c.streaming.cluster_id.clone(),
        "x",
    ),
    (
        "system_account: \"$SYS\"",
        |c| format!("{:?}", c.auth.system_account),
        r#"Some("$SYS")"#,
    ),
    ("prof_port: 0", |c| c.warnings.len().to_string(), "0"),
];

#[test]
fn every_key_changes_what_it_names() {
    for (line, shown, expected) in KEYS {
        let config = WithFile::new(line)
            .run("")
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(shown(&config), *expected, "{line}");
    }
}

#[test]
fn no_key_with_a_plain_value_is_left_out_above() {
    let plain = setting::all().filter(|setting| {
        setting.block == Block::Core
            && !matches!(
                setting.setter,
                Setter::Refused(..) | Setter::Unused(..) | Setter::Own(_)
            )
            && !setting.keys.is_empty()
    });
    // These have tests of their own.
    let elsewhere = [
        "https",
        "https_port",
        "metrics_port",
        "metrics_addr",
        "allow_non_tls",
        "no_auth_user",
        "no_system_account",
    ];
    for setting in plain.filter(|setting| !elsewhere.contains(&setting.keys[0])) {
        let is_tested = |key: &&str| {
            KEYS.iter()
                .any(|(line, ..)| line.split([':', ' ']).next() == Some(key))
        };
        assert!(setting.keys.iter().any(is_tested), "{:?}", setting.keys);
    }
}

#[test]
fn known_keys_that_cannot_be_honoured_are_refused_with_a_reason() {
    for (line, refusal) in [
        (
            "operator: x.jwt",
            "stan.conf:1:11: operator cannot be used: operator mode (JWT) is not supported; declare users in authorization or accounts",
        ),
        (
            "resolver: MEMORY",
            "stan.conf:1:11: resolver cannot be used: operator mode (JWT) is not supported; declare users in authorization or accounts",
        ),
        (
            "jetstream: true",
            "stan.conf:1:12: jetstream cannot be used: JetStream is not supported",
        ),
        (
            "jetstream { store_dir: x }",
            "stan.conf:1:11: jetstream cannot be used: JetStream is not supported",
        ),
        (
            "gateway { name: x }",
            "stan.conf:1:9: gateway cannot be used: this listener is not supported",
        ),
        (
            "leafnodes { port: 1 }",
            "stan.conf:1:11: leafnodes cannot be used: this listener is not supported",
        ),
        (
            "websocket { port: 1 }",
            "stan.conf:1:11: websocket cannot be used: this listener is not supported",
        ),
        (
            "mqtt { port: 1 }",
            "stan.conf:1:6: mqtt cannot be used: this listener is not supported",
        ),
        (
            "mappings { a: b }",
            "stan.conf:1:10: mappings cannot be used: subject mappings are not supported",
        ),
        (
            "prof_port: 1",
            "stan.conf:1:12: prof_port cannot be used: there is no profiling port",
        ),
        (
            "remote_syslog: x",
            "stan.conf:1:16: remote_syslog cannot be used: syslog is not supported; logs go to standard error or to log_file",
        ),
        (
            "ocsp: true",
            "stan.conf:1:7: ocsp cannot be used: OCSP is not supported",
        ),
        (
            "proxy_protocol: true",
            "stan.conf:1:17: proxy_protocol cannot be used: the proxy protocol is not supported",
        ),
        (
            "max_sub_tokens: 0",
            "stan.conf:1:17: max_sub_tokens value can not be negative",
        ),
        (
            "max_sub_tokens: 256",
            "stan.conf:1:17: max_sub_tokens value is too big",
        ),
        (
            "max_payload: 9GB",
            "stan.conf:1:14: max_payload value is too big",
        ),
        (
            "max_payload: 8MB, max_pending: 1MB",
            "stan.conf:1:14: max_payload (8388608) cannot be higher than max_pending (1048576)",
        ),
        (
            "server_name: \"a b\"",
            "stan.conf:1:14: server name cannot contain spaces",
        ),
        (
            "write_timeout: foo",
            "stan.conf:1:16: write_timeout must be 'default', 'close' or 'retry'",
        ),
        (
            "lame_duck_duration: \"5s\"",
            "stan.conf:1:21: invalid lame_duck_duration of 5s, minimum is 30 seconds",
        ),
        (
            "lame_duck_duration: \"45s\"\nlame_duck_grace_period: \"50s\"",
            "stan.conf:2:25: lame duck grace period (50s) should be strictly lower than lame duck duration (45s)",
        ),
        (
            "http: 1\nhttps: 2\ntls { cert_file: c, key_file: k }",
            "Can't start monitoring: can't specify both HTTP (1) and HTTPs (2) ports",
        ),
        (
            "https: 2",
            "Can't start monitoring: TLS cert and key required for HTTPS",
        ),
        (
            "foo: 1\nbar: 2",
            "stan.conf:1:1: unknown field \"foo\", did you mean \"port\"?\nstan.conf:2:1: unknown field \"bar\"",
        ),
        (
            "user: a",
            "stan.conf:1:1: unknown field \"user\"; it belongs into the authorization block",
        ),
        (
            "streaming: off\ncluster_id: x",
            "stan.conf:2:1: unknown field \"cluster_id\"; streaming is off",
        ),
    ] {
        let refusal = refusal.replace(", did you mean \"port\"?", "");
        assert_eq!(WithFile::new(line).refusal(), refusal, "{line}");
    }
}

#[test]
fn every_name_of_a_key_in_a_block_is_known_there() {
    let blocks: [(file::Keys, &str, &str); 8] = [
        (file::auth::AUTHORIZATION, "authorization { ", " }"),
        (file::auth::USER, "authorization { users: [ { ", " } ] }"),
        (file::auth::ACCOUNT, "accounts { a { ", " } }"),
        (
            file::permissions::KEYS,
            "authorization { permissions { ",
            " } }",
        ),
        (
            file::permissions::RULES,
            "authorization { permissions { publish { ",
            " } } }",
        ),
        (
            file::permissions::RESPONSES,
            "authorization { permissions { allow_responses { ",
            " } } }",
        ),
        (file::tls::KEYS, "tls { ", " }"),
        (file::cluster::KEYS, "cluster { ", " }"),
    ];
    for (keys, before, after) in blocks {
        for name in keys.iter().flat_map(|names| names.iter()) {
            // A date is no value of any key.
            let text = format!(
                "{before}{}: 2016-05-04T18:53:41Z{after}",
                name.to_uppercase()
            );
            let refusal = WithFile::new(&text).refusal();
            let at = format!("stan.conf:1:{}", before.len() + 1 + name.len() + 2);
            assert!(!refusal.contains("unknown field"), "{text}: {refusal}");
            assert!(refusal.contains(&at), "{text}: {refusal}");
        }
        let text = format!("{before}zzzzzzzz: 1{after}");
        let expected = format!(
            "stan.conf:1:{}: unknown field \"zzzzzzzz\"",
            before.len() + 1
        );
        let refusal = WithFile::new(&text).refusal();
        assert!(refusal.contains(&expected), "{text}: {refusal}");
    }
}

#[test]
fn streaming_can_be_switched_off_by_file_and_by_flag() {
    let strict = WithFile::new("streaming: off\nport: 7");
    assert!(!strict.run("").unwrap().streaming_enabled);
    assert!(
        strict.run("-streaming").unwrap().streaming_enabled,
        "the flag wins"
    );
    let config = run("--streaming=false -cid x");
    assert!(!config.streaming_enabled);
    assert_eq!(
        config.warnings,
        ["flag -cluster_id has no effect: streaming is off"]
    );
    let file = WithFile::new("streaming { cluster_id: x }");
    let config = file.run("-streaming=false").unwrap();
    assert!(
        config.warnings[0].ends_with("stan.conf:1:1: streaming is ignored: it is switched off")
    );
    // Nothing of streaming is checked then.
    assert!(matches!(
        run("-streaming=false -store tape").store,
        StoreKind::Memory
    ));
}
