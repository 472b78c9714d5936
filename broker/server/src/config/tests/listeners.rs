//! TLS of clients and of routes, and the port of routes.

use certs::settings::MinVersion;

use super::*;

#[test]
fn every_key_of_a_tls_block_arrives() {
    let pin = "ab".repeat(32);
    let text = format!(
        r#"tls {{
            certs: [ {{ cert_file: a, key_file: b }}, {{ cert_file: c, key_file: d }} ]
            ca_file: ca, verify_and_map: true, timeout: "3s", handshake_first: auto, connection_rate_limit: 9
            min_version: "1.3", cipher_suites: [ "TLS_AES_128_GCM_SHA256" ], curve_preferences: [ X25519 ]
            allow_insecure_cipher_suites: true, pinned_certs: [ "{pin}" ]
        }}
        allow_non_tls: true
        authorization {{ users: [ {{ user: "CN=x" }} ] }}
        https: 8443"#
    );
    let config = WithFile::new(&text).run("").unwrap();
    assert!(config.monitor_tls && config.client.allow_non_tls && config.auth.map_certificates);
    let tls = config.client.tls.unwrap();
    assert_eq!(tls.timeout, Duration::from_secs(3));
    assert_eq!(
        tls.handshake_first,
        HandshakeFirst::After(Duration::from_millis(50))
    );
    assert!(tls.map_certificates && tls.settings.verify);
    assert_eq!(tls.connection_rate_limit, Some(9));
    let settings = tls.settings;
    assert_eq!(settings.pairs.len(), 2);
    assert_eq!(settings.pairs[1].key, PathBuf::from("d"));
    assert_eq!(settings.min_version, MinVersion::Tls13);
    assert_eq!(settings.cipher_suites, ["TLS_AES_128_GCM_SHA256"]);
    assert_eq!(settings.curve_preferences, ["X25519"]);
    assert!(settings.allow_insecure_cipher_suites);
    assert_eq!(settings.pinned_certs, [[0xab; 32]]);
}

#[test]
fn a_block_and_flags_give_the_same_settings() {
    let file = WithFile::new("tls { cert_file: c, key_file: k, ca_file: a, verify: true }");
    let by_flags = run("--tls --tlscert c --tlskey k --tlscacert a --tlsverify");
    assert_eq!(file.run("").unwrap().client.tls, by_flags.client.tls);
    let file = WithFile::new("tls { cert_file: c, key_file: k, min_version: \"1.3\" }");
    let tls = file.run("--tlscert d").unwrap().client.tls.unwrap();
    assert_eq!(tls.settings.pairs[0].cert, PathBuf::from("d"));
    assert_eq!(
        tls.settings.min_version,
        MinVersion::Tls13,
        "flags do not lose what the file restricts"
    );
    assert!(file.run("--tls=false").unwrap().client.tls.is_none());
}

#[test]
fn the_handshake_may_come_first_in_several_ways() {
    for (written, meant) in [
        ("true", HandshakeFirst::Always),
        ("\"on\"", HandshakeFirst::Always),
        ("false", HandshakeFirst::Never),
        (
            "\"auto_fallback\"",
            HandshakeFirst::After(Duration::from_millis(50)),
        ),
        (
            "\"300ms\"",
            HandshakeFirst::After(Duration::from_millis(300)),
        ),
        ("1m", HandshakeFirst::After(Duration::from_secs(60))),
    ] {
        for key in ["handshake_first", "first", "immediate"] {
            let file = WithFile::new(&format!(
                "tls {{ cert_file: c, key_file: k, {key}: {written} }}"
            ));
            assert_eq!(
                file.run("").unwrap().client.tls.unwrap().handshake_first,
                meant,
                "{written}"
            );
        }
    }
}

#[test]
fn tls_that_cannot_work_is_refused() {
    for (text, error) in [
        (
            "tls { cert_file: c }",
            "1:1: TLS for clients needs -tlskey (key_file in the tls block)",
        ),
        (
            "tls {}",
            "1:1: TLS for clients needs -tlscert (cert_file in the tls block)",
        ),
        (
            "tls { cert_file: c, key_file: k, verify: true }",
            "1:1: TLS for clients needs -tlscacert (ca_file in the tls block)",
        ),
        (
            "tls { cert_file: c, key_file: k, certs: [ {cert_file: c, key_file: k} ] }",
            "1:1: error parsing tls config, cannot combine 'cert_file' option with 'certs' option",
        ),
        (
            "tls { certs: [ {cert_file: c} ] }",
            "1:16: a certificate needs both cert_file and key_file\nstan.conf:1:1: TLS for clients needs -tlscert (cert_file in the tls block)",
        ),
        (
            "tls { cert_file: c, key_file: k, min_version: \"1.1\" }",
            "1:47: min_version must be \"1.2\" or \"1.3\"",
        ),
        (
            "tls { cert_file: c, key_file: k, cipher_suites: [] }",
            "1:49: error parsing tls config, 'cipher_suites' cannot be empty",
        ),
        (
            "tls { cert_file: c, key_file: k, pinned_certs: [ ab ] }",
            "1:50: error parsing tls config, 'pinned_certs' key ab does not look like hex-encoded sha256 of DER encoded SubjectPublicKeyInfo",
        ),
        (
            "tls { cert_file: c, key_file: k, handshake_first: later }",
            "1:51: field \"handshake_first\"'s value \"later\" is invalid",
        ),
        (
            "tls { cert_file: c, key_file: k, verify_cert_and_check_known_urls: true }",
            "1:68: verify_cert_and_check_known_urls not supported in this context",
        ),
        (
            "tls { cert_file: c, key_file: k, ocsp_peer: true }",
            "1:45: ocsp_peer cannot be used: it is not supported",
        ),
        (
            "tls { cert_file: c, key_file: k, timeout: \"-1s\" }",
            "tls timeout must be longer than 0s",
        ),
        (
            "cluster { port: 1, tls { cert_file: c, key_file: k } }",
            "1:20: TLS for routes needs ca_file in the tls block of cluster",
        ),
    ] {
        let refusal = WithFile::new(text).refusal();
        assert_eq!(
            refusal.strip_prefix("stan.conf:").unwrap_or(&refusal),
            error,
            "{text}"
        );
    }
    let file = WithFile::new("allow_non_tls: true");
    assert!(file.run("").unwrap().warnings[0].ends_with("allow_non_tls has no effect without TLS"));
}

#[test]
fn every_key_of_the_cluster_block_arrives() {
    let file = WithFile::new(
        r#"cluster {
            name: c, listen: "h:6222"
            authorization { user: u, password: p, timeout: 4 }
            routes = [ "nats-route://a:b@one:6222", nats://two:6223 ]
            tls { cert_file: c, key_file: k, ca_file: a, insecure: true }
            cluster_advertise: "x:1", no_advertise: true, connect_retries: 5, connect_backoff: true
            permissions { import { deny: i }, export: [ "e.>" ] }
            pool_size: -1, compression: off, ping_interval: "9s", ping_max: 7, write_deadline: "3s"
            write_timeout: close
        }"#,
    );
    let config = file.run("").unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    let cluster = config.cluster.unwrap();
    assert_eq!((cluster.bind.host.as_str(), cluster.bind.port), ("h", 6222));
    assert_eq!(cluster.auth_timeout, Duration::from_secs(4));
    assert_eq!(cluster.write_deadline, Duration::from_secs(3));
    assert_eq!(cluster.write_timeout, WriteTimeout::Close);
    let tls = cluster.tls.unwrap().settings;
    assert!(tls.verify && tls.insecure, "routes always verify");
    let settings = cluster.settings;
    assert_eq!(settings.name.as_deref(), Some("c"));
    let (user, password) = settings.login.unwrap();
    assert_eq!((user.as_str(), password.expose()), ("u", "p"));
    assert_eq!(
        (settings.routes[0].host.as_str(), settings.routes[1].port),
        ("one", 6223)
    );
    assert_eq!(settings.routes[0].login.as_ref().unwrap().1.expose(), "b");
    assert_eq!(settings.advertise.as_deref(), Some("x:1"));
    assert!(settings.no_advertise && settings.connect_backoff);
    assert_eq!((settings.connect_retries, settings.ping_max), (5, 7));
    assert_eq!(
        (settings.import.deny, settings.export.allow),
        (vec!["i".to_owned()], vec!["e.>".to_owned()])
    );
    assert_eq!(settings.ping_interval, Duration::from_secs(9));
}

#[test]
fn defaults_of_routes_are_those_of_the_reference() {
    let cluster = WithFile::new("cluster { port: -1 }")
        .run("")
        .unwrap()
        .cluster
        .unwrap();
    assert_eq!(cluster.settings, ClusterSettings::default());
    assert_eq!(
        (cluster.bind.host.as_str(), cluster.bind.port),
        ("0.0.0.0", 0)
    );
    assert_eq!(cluster.auth_timeout, Duration::from_secs(2));
    assert_eq!(cluster.write_deadline, Duration::from_secs(10));
    assert_eq!(cluster.write_timeout, WriteTimeout::Default);
    let tls = WithFile::new("cluster { port: -1, tls { cert_file: c, key_file: k, ca_file: a } }");
    assert_eq!(
        tls.run("").unwrap().cluster.unwrap().auth_timeout,
        Duration::from_secs(3)
    );
    assert!(run("").cluster.is_none());
}

#[test]
fn routes_that_cannot_work_are_refused() {
    for (text, error) in [
        ("cluster { foo: 1 }", "1:11: unknown field \"foo\""),
        (
            "cluster { port: 1, name: \"a b\" }",
            "1:1: cluster name cannot contain spaces",
        ),
        (
            "cluster { port: 1, routes: [ x ] }",
            "1:30: not a URL such as nats-route://user:password@host:6222",
        ),
        (
            "cluster { routes: [ \"nats://x:1\" ] }",
            "1:1: solicited routes require cluster capabilities, e.g. --cluster",
        ),
        (
            "cluster { port: 1, authorization { users: [ {user: a, password: b} ] } }",
            "1:20: Cluster authorization does not allow multiple users",
        ),
        (
            "cluster { port: 1, authorization { token: a } }",
            "1:20: Cluster authorization does not support tokens",
        ),
        (
            "cluster { port: 1, authorization { user: a } }",
            "1:20: cluster authorization needs both user and password",
        ),
        (
            "cluster { port: 1, authorization {} }",
            "1:20: cluster authorization without user and password lets every server in",
        ),
        (
            "cluster { port: 1, permissions { import: a, allow_responses: true } }",
            "1:20: Cluster permissions do not support dynamic responses",
        ),
        (
            "cluster { port: 1, permissions { export: \"a q\" } }",
            "1:42: subject \"a q\" is not a valid subject",
        ),
        (
            "cluster { port: 1, compression: zip }",
            "1:33: unsupported compression mode",
        ),
        (
            "cluster { port: 1, write_timeout: x }",
            "1:35: write_timeout must be 'default', 'close' or 'retry'",
        ),
        ("cluster { port: 70000 }", "cluster port 70000 is no port"),
    ] {
        let refusal = WithFile::new(text).refusal();
        let refusal = refusal.strip_prefix("stan.conf:").unwrap_or(&refusal);
        assert!(refusal.starts_with(error), "{text}: {refusal}");
    }
    assert_eq!(
        refusal("--routes nats://a:1"),
        "solicited routes require cluster capabilities, e.g. --cluster"
    );
}

#[test]
fn what_peers_are_served_without_is_said() {
    for (key, quiet) in [
        ("pool_size: 3", false),
        ("pool_size: -1", true),
        ("compression: s2_fast", false),
        (
            "compression: { mode: s2_auto, rtt_thresholds: [10ms] }",
            false,
        ),
        ("compression: true", false),
        ("compression: accept", true),
        ("compression: off", true),
        ("compression: { mode: off }", true),
        ("accounts: [ A ]", false),
        ("accounts: []", true),
        ("write_timeout: retry", true),
        ("ping_interval: \"5m\"", false),
        (
            "authorization { user: a, password: b, permissions { import: x } }",
            false,
        ),
        ("routes: [ \"nats://a:1\", \"nats://a:1\" ]", false),
        (
            "tls { cert_file: c, key_file: k, ca_file: a, handshake_first: true }",
            false,
        ),
    ] {
        let config = WithFile::new(&format!("cluster {{ port: 1, {key} }}"))
            .run("")
            .unwrap();
        assert_eq!(
            config.warnings.is_empty(),
            quiet,
            "{key}: {:?}",
            config.warnings
        );
    }
    let config = WithFile::new("cluster { name: x }").run("").unwrap();
    assert!(config.cluster.is_none() && config.warnings[0].contains("it has no port"));
}
