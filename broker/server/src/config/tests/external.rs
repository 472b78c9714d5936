//! External NATS servers.

use super::*;

const FILE: &str = r#"streaming {
    nats_server: "nats://file:4222"
    username: of_file, password: pass_of_file, token: token_of_file
    credentials: c.creds, nkey_seed_file: seed
    tls { client_cert: cert, client_key: key, client_ca: ca, server_name: other, skip_verify: true }
}"#;

#[test]
fn every_key_arrives() {
    let external = WithFile::new(FILE).run("").unwrap().external.unwrap();
    assert_eq!(external.servers[0].address(), "file:4222");
    let login = &external.login;
    assert_eq!(login.user, "of_file");
    assert_eq!(login.password.expose(), "pass_of_file");
    assert_eq!(login.token.expose(), "token_of_file");
    assert_eq!(external.credentials, Some("c.creds".into()));
    assert_eq!(external.nkey_seed_file, Some("seed".into()));
    assert!(external.wants_tls && external.tls.insecure);
    assert_eq!(external.tls.pairs[0].cert, PathBuf::from("cert"));
    assert_eq!(external.tls.pairs[0].key, PathBuf::from("key"));
    assert_eq!(external.tls.ca_file, Some("ca".into()));
    assert_eq!(external.tls_server_name.as_deref(), Some("other"));
}

#[test]
fn the_command_line_wins_over_the_streaming_block_word_by_word() {
    let line = "-ns nats://flag:1 -user of_flag -auth token_of_flag -tls_client_cacert ca2";
    let external = WithFile::new(FILE).run(line).unwrap().external.unwrap();
    assert_eq!(external.servers[0].address(), "flag:1");
    assert_eq!(external.login.user, "of_flag");
    assert_eq!(external.login.password.expose(), "pass_of_file");
    assert_eq!(external.login.token.expose(), "token_of_flag");
    assert_eq!(external.tls.ca_file, Some("ca2".into()));
}

#[test]
fn tls_is_wanted_by_any_word_about_it() {
    for line in [
        "-secure",
        "-tls_client_cacert ca",
        "-tls_client_cert c -tls_client_key k",
    ] {
        let config = run(&format!("-ns nats://h:1 {line}"));
        assert!(config.external.unwrap().wants_tls, "{line}");
    }
    assert!(!run("-ns nats://h:1").external.unwrap().wants_tls);
    assert_eq!(
        refusal("-ns nats://h:1 -tls_client_cert c"),
        "tls_client_cert and tls_client_key belong together"
    );
}

#[test]
fn what_belongs_to_the_embedded_server_is_left_out_with_a_warning() {
    let config = run("-ns nats://h:1 -p 4333 -cluster nats://127.0.0.1:6222 -user somebody");
    assert!(config.cluster.is_none() && config.auth.single.is_none());
    assert_eq!(
        config.warnings,
        [
            "the port for clients has no effect: the NATS server is external",
            "cluster has no effect: the NATS server is external",
        ]
    );
}

#[test]
fn what_belongs_to_external_servers_is_warned_about_without_one() {
    let config = run("-secure");
    assert!(config.external.is_none());
    assert_eq!(
        config.warnings,
        [
            "what is said of connections to an external NATS server has no effect: there is no nats_server"
        ]
    );
}

#[test]
fn no_password_in_a_url_shows_anywhere() {
    let config = run("-ns nats://u:hunter2@h:1");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(
        config.warnings,
        [
            "the value of flag -nats_server can be seen by every process of this machine; \
             a password is private in the -sc file"
        ]
    );
    assert!(!refusal("-ns nats://u:hunter2@h:x").contains("hunter2"));
}
