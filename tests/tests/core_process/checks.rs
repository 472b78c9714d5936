//! What `-t` says of odd configurations, beside nats-server: what one refuses the other refuses, but for what
//! is listed with a reason.

use std::{fs, process::Command};

use crate::server::{Program, text};

/// Each a file of its own.
#[rustfmt::skip]
const FILES: &[&str] = &[
    "port: abc",
    "port: -5",
    "port: 99999",
    "port: 4222.5",
    "host: 5",
    "max_payload: x",
    "max_payload: -1",
    "max_payload: 1MB",
    "max_payload: 100MB",
    "max_payload: 1Gb",
    "max_control_line: -1",
    "max_connections: no",
    "max_connections: -1",
    "max_connections: 0",
    "max_subscriptions: x",
    "ping_interval: abc",
    r#"ping_interval: "2x""#,
    "ping_interval: 5",
    r#"ping_interval: "1m""#,
    "ping_max: x",
    r#"write_deadline: "z""#,
    "write_deadline: 5",
    "authorization{user:u,password:p}",
    "authorization { user: u }",
    "authorization { user: u, password: p, token: t }",
    "authorization { token: t, users: [ {user: a, password: b} ] }",
    "authorization { users: [ {user: a} ] }",
    "authorization { users: [ {password: a} ] }",
    "authorization { users: {user: a} }",
    "authorization { users: [ {user: a, password: b, permissions: 5} ] }",
    "authorization { users: [ {user: a, password: b, permissions: {publish: 5}} ] }",
    "authorization { users: [ {user: a, password: b, permissions: {publish: {allow: 5}}} ] }",
    r#"authorization { users: [ {user: a, password: b, permissions: {publish: "a..b"}} ] }"#,
    r#"authorization { users: [ {user: a, password: b, permissions: {subscribe: "a b c"}} ] }"#,
    "authorization { users: [ {user: a, password: b}, {user: a, password: c} ] }",
    "authorization { users: [ {nkey: bad} ] }",
    "authorization { users: [ {nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4, user: a} ] }",
    "authorization { timeout: x, user: a, password: b }",
    r#"authorization { timeout: "1x", user: a, password: b }"#,
    "authorization { unknown: 5 }",
    "authorization: 5",
    "no_auth_user: x",
    "no_auth_user: a, authorization { users: [ {user: a, password: b} ] }",
    "accounts { A: 5 }",
    "accounts { A { users: 5 } }",
    "accounts { A { users: [ {user: a, password: b} ] }, B { users: [ {user: a, password: b} ] } }",
    "accounts { $SYS { users: [ {user: a, password: b} ] } }",
    "accounts { A { unknown: 5 } }",
    "accounts: 5",
    "accounts { A { users: [ {user: a, password: b} ] } }, authorization { users: [ {user: a, password: c} ] }",
    "system_account: NOPE",
    "system_account: A, accounts { A { users: [ {user: a, password: b} ] } }",
    "no_system_account: true",
    "no_system_account: 5",
    "cluster { port: x }",
    r#"cluster { listen: "nonsense" }"#,
    "cluster { listen: 5 }",
    "cluster { routes: 5 }",
    r#"cluster { routes: [ "::::" ] }"#,
    "cluster { routes: [ 5 ] }",
    r#"cluster { port: 7000, name: "a b" }"#,
    "cluster { port: 7000, unknown: 1 }",
    "cluster { port: 7000, authorization { users: [ {user: a, password: b} ] } }",
    "cluster { port: 7000, authorization { token: a } }",
    "cluster { port: 7000, permissions { import: 5 } }",
    "cluster { port: 7000, connect_retries: x }",
    "cluster { port: 7000, pool_size: x }",
    "cluster { port: 7000, compression: nonsense }",
    "cluster: 5",
    "tls: 5",
    "tls {}",
    r#"tls { cert_file: "/nonexistent", key_file: "/nonexistent" }"#,
    r#"tls { cert_file: "/nonexistent" }"#,
    "tls { verify: maybe }",
    "tls { timeout: x }",
    r#"tls { cipher_suites: [ "NOPE" ] }"#,
    "tls { cipher_suites: [] }",
    r#"tls { curve_preferences: [ "NOPE" ] }"#,
    r#"tls { min_version: "1.1" }"#,
    r#"tls { min_version: "9" }"#,
    r#"tls { pinned_certs: [ "nothex" ] }"#,
    "tls { handshake_first: 7 }",
    r#"tls { handshake_first: "later" }"#,
    "tls { unknown: 1 }",
    r#"http: "x:y:z""#,
    "http_port: x",
    "http: 5",
    r#"listen: "1:2:3:4""#,
    r#"listen: "host""#,
    r#"listen: ":4222""#,
    "debug: maybe",
    r#"debug: "true""#,
    "logtime: 5",
    "trace: 1",
    "log_file: 5",
    "logfile_size_limit: x",
    "logfile_max_num: x",
    "syslog: 5",
    "pid_file: 5",
    "ports_file_dir: 5",
    "max_traced_msg_len: x",
    "lame_duck_duration: x",
    r#"lame_duck_duration: "1s""#,
    r#"lame_duck_grace_period: "-1s""#,
    r#"lame_duck_grace_period: "20m""#,
    "disable_sublist_cache: x",
    r#"server_name: "a b""#,
    "server_name: 5",
    "server_tags: 5",
    r#"server_tags: ["a", "b"]"#,
    r#"client_advertise: "nope""#,
    "client_advertise: 5",
    "connect_error_reports: x",
    r#"reconnect_error_reports: "a""#,
    "unknown_key: 5",
    "prot: 5",
    "foo { bar: 1 }",
    "$x = 5",
    "port: $nope",
    "port: $self",
    r#"include "nonexistent.conf""#,
    "include",
    "port 4222 4223",
    "port: [4222]",
    "port = 4222",
    "port: 4222 port: 4223",
    "{ port: 4222 }",
    "}",
    "authorization {",
    r#""unfinished"#,
    "port: 4222,,",
    "port: '4222'",
    "jetstream: false",
    "jetstream { unknown: 1 }",
    "leafnodes { port: 7422 }",
    "gateway { name: a, port: 7522 }",
    "websocket { port: 8080, no_tls: true }",
    "mqtt { port: 1883 }",
    "max_pending: -5",
    "max_pending: x",
    "mappings = { foo: bar }",
    "default_permissions: 5",
    "default_permissions { publish: 5 }",
    "max_subscription_tokens: 300",
    "max_subscription_tokens: x",
    "max_sub_tokens: 7",
    "allow_non_tls: 1",
    "verify_and_map: true",
    "no_header_support: maybe",
    "write_timeout: nonsense",
    "write_timeout: close",
];

/// Refused by the broker alone, and why.
#[rustfmt::skip]
const STRICTER: &[(&str, &str)] = &[
    ("port: -5", "no such port; the reference finds out when it listens"),
    ("port: 99999", "no such port; the reference finds out when it listens"),
    ("max_payload: -1", "nothing could be published"),
    ("max_payload: 100MB", "beyond max_pending, which the reference says at the start only"),
    ("max_payload: 1Gb", "beyond max_pending, which the reference says at the start only"),
    ("max_control_line: -1", "no line could be sent"),
    ("max_pending: -5", "nobody could be sent anything"),
    ("authorization { user: u }", "lets in who shows the name alone"),
    ("no_auth_user: x", "the reference says so at the start only"),
    ("accounts: 5", "the reference ignores it"),
    ("system_account: NOPE", "the reference says so at the start only"),
    ("cluster { port: 7000, compression: nonsense }", "the reference says so at the start only"),
    ("tls {}", "the reference says so at the first handshake"),
    (r#"lame_duck_grace_period: "20m""#, "the reference says so at the start only"),
    ("leafnodes { port: 7422 }", "not supported"),
    ("gateway { name: a, port: 7522 }", "not supported"),
    ("websocket { port: 8080, no_tls: true }", "not supported"),
    ("mqtt { port: 1883 }", "not supported"),
    ("mappings = { foo: bar }", "not supported"),
];

/// Accepted by the broker alone, and why.
#[rustfmt::skip]
const LAXER: &[(&str, &str)] = &[
    ("ping_interval: 5", "seconds; the reference starts with them too, but with a warning that -t takes for an error"),
    ("write_deadline: 5", "seconds; the reference starts with them too, but with a warning that -t takes for an error"),
    ("authorization{user:u,password:p}", "a map may follow its key at once; the reference takes the brace for a part of the key"),
    ("disable_sublist_cache: x", "a key without effect is not looked into"),
];

/// Whether it is accepted, and what was said.
fn verdict(program: Program, config: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.conf"), config).unwrap();
    let mut command = Command::new(program.path());
    let output = command.args(["-t", "-c", "a.conf"]).current_dir(&dir);
    let output = output.output().unwrap();
    (output.status.success(), text(&output.stderr))
}

#[test]
fn odd_configurations_are_refused_by_both() {
    let mut wrong = Vec::new();
    for config in FILES {
        let (reference, _) = verdict(Program::Reference, config);
        let (broker, said) = verdict(Program::Broker, config);
        let listed = |list: &[(&str, &str)]| list.iter().any(|(known, _)| known == config);
        let expected = (reference || listed(LAXER)) && !listed(STRICTER);
        // An entry that says nothing is wrong, too.
        let differs = listed(LAXER) || listed(STRICTER);
        if broker != expected || (broker != reference) != differs {
            wrong.push(format!(
                "{config}: nats-server {reference}, broker {broker}: {said}"
            ));
        }
        if !broker {
            let says_where = said.contains("a.conf:") || said.contains("/nonexistent");
            assert!(says_where, "{config}: {said}");
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
