//! Who may come, and that nobody comes by accident.

use broker_core::auth::settings::{ConnectionType, Login, PermissionSettings};

use super::*;

#[test]
fn one_user_or_one_token_is_enough() {
    let config = WithFile::new("authorization { username: u, pass: p, timeout: 3 }")
        .run("")
        .unwrap();
    let (user, password) = config.auth.single.unwrap();
    assert_eq!((user.as_str(), password.expose()), ("u", "p"));
    assert_eq!(config.auth_timeout, Duration::from_secs(3));
    assert!(config.warnings[0].contains("Plaintext passwords detected, use nkeys or bcrypt"));
    let config = WithFile::new("authorization { token: \"t\", timeout: \"500ms\" }")
        .run("")
        .unwrap();
    assert_eq!(config.auth.token.unwrap().expose(), "t");
    assert_eq!(config.auth_timeout, Duration::from_millis(500));
}

#[test]
fn time_for_credentials_follows_the_handshake() {
    assert_eq!(run("").auth_timeout, Duration::from_secs(2));
    let file = WithFile::new("tls { cert_file: c, key_file: k, timeout: 4 }");
    assert_eq!(file.run("").unwrap().auth_timeout, Duration::from_secs(5));
}

#[test]
fn users_belong_to_accounts_and_have_the_permissions_that_apply() {
    let file = WithFile::new(
        r#"
        authorization {
            default_permissions { publish: "d.>" }
            users: [
                { user: a, password: "$2a$11$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", permissions {
                    pub: { allow: [x, "y.*"], deny: "y.z" }, sub: ["q.> workers", p], allow_responses: { max: 5, expires: "1m" } } }
                { nkey: UADQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQPL3S, allowed_connection_types: [standard, MQTT] }
            ]
        }
        accounts {
            A { users: [ { user: b, password: b } ], default_permissions { subscribe { deny: s } }, exports: [], nkey: AX }
            SYS { users: [ { username: c, pass: c, permission { allow_responses: true } } ] }
        }
        system_account: SYS
        no_auth_user: b
        "#,
    );
    let auth = file.run("").unwrap().auth;
    assert_eq!(auth.accounts, ["A", "SYS"]);
    assert_eq!(auth.system_account.as_deref(), Some("SYS"));
    assert_eq!(auth.no_auth_user.as_deref(), Some("b"));
    let accounts: Vec<_> = auth
        .users
        .iter()
        .map(|user| user.account.as_str())
        .collect();
    assert_eq!(accounts, ["$G", "$G", "A", "SYS"]);
    let permissions = |index: usize| auth.users[index].permissions.clone().unwrap();
    let PermissionSettings {
        publish,
        subscribe,
        responses,
    } = permissions(0);
    assert_eq!(
        (publish.allow.join(" "), publish.deny.join(" ")),
        ("x y.*".into(), "y.z".into())
    );
    assert_eq!(subscribe.allow, ["q.> workers", "p"]);
    let responses = responses.unwrap();
    assert_eq!(
        (responses.max, responses.expires),
        (Some(5), Some(Duration::from_secs(60)))
    );
    assert_eq!(permissions(1).publish.allow, ["d.>"]);
    assert_eq!(
        auth.users[1].connection_types,
        [ConnectionType::Standard, ConnectionType::Mqtt]
    );
    assert!(matches!(&auth.users[1].login, Login::Nkey(key) if key.starts_with("UADQ")));
    assert_eq!(permissions(2).subscribe.deny, ["s"]);
    assert_eq!(permissions(3).responses.unwrap().max, Some(1));
}

#[test]
fn responses_without_limit_are_negative_numbers() {
    let file = WithFile::new(
        "authorization { users: [ { user: a, password: a, permissions { allow_responses { max: -1, ttl: \"-1s\" } } } ] }",
    );
    let auth = file.run("").unwrap().auth;
    let responses = auth.users[0]
        .permissions
        .as_ref()
        .unwrap()
        .responses
        .unwrap();
    assert_eq!((responses.max, responses.expires), (None, None));
}

#[test]
fn contradictions_are_refused_in_the_words_of_the_reference() {
    for (text, error) in [
        (
            "authorization { user: a, password: b, token: c }",
            "1:1: Cannot have a user/pass and token",
        ),
        (
            "authorization { user: a, password: b, users: [ {user: x, password: y} ] }",
            "1:1: Can not have a single user/pass and a users array",
        ),
        (
            "authorization { token: b, users: [ {user: x, password: y} ] }",
            "1:1: Can not have a token and a users array",
        ),
        (
            "authorization { users: [ {user: x, password: y}, {user: x, password: y} ] }",
            "1:1: Duplicate user \"x\" detected",
        ),
        (
            "authorization { user: a, password: b }\naccounts { A { users: [ {user: x, password: y} ] } }",
            "1:1: Can not have a single user/pass and accounts",
        ),
        (
            "authorization { token: b }\naccounts { A { users: [ {user: x, password: y} ] } }",
            "1:1: Can not have a token and accounts",
        ),
        (
            "authorization { users: [ {password: y} ] }",
            "1:26: User entry requires a user",
        ),
        (
            "authorization { users: [ {nkey: UX, user: y} ] }",
            "1:26: Nkey users do not take usernames or passwords",
        ),
        (
            "authorization { users: [ {nkey: UX} ] }",
            "1:1: Not a valid public nkey for a user: \"UX\"",
        ),
        (
            "authorization { users: [ {user: x, password: y, permissions: {publish: \"a..b\"}} ] }",
            "1:72: subject \"a..b\" is not a valid subject",
        ),
        (
            "authorization { users: [ {user: x, password: y, permissions: {publish: \"a b\"}} ] }",
            "1:72: subject \"a b\" is not a valid subject",
        ),
        (
            "authorization { users: [ {user: x, password: y, permissions: {subscribe: \"a b..\"}} ] }",
            "1:74: queue \"b..\" is not a valid queue",
        ),
        (
            "authorization { users: [ {user: x, password: y, connection_types: [FOO]} ] }",
            "1:68: invalid connection types [\"FOO\"]",
        ),
        (
            "authorization { users: [ {user: x, password: y} ] }\nno_auth_user: bob",
            "1:1: no_auth_user: \"bob\" not present as user or nkey in authorization block or account configuration",
        ),
        (
            "accounts { \"$G\" {} }",
            "1:12: \"$G\" is a Reserved Account",
        ),
        ("accounts [a, a]", "1:14: Duplicate Account Entry: a"),
        (
            "accounts { A { imports: [ { stream: {} } ] } }",
            "1:25: imports cannot be used: accounts are for isolation only",
        ),
        (
            "accounts { A { jetstream: enabled } }",
            "1:27: jetstream cannot be used: accounts are for isolation only",
        ),
        (
            "authorization { auth_callout { issuer: x } }",
            "1:30: auth_callout cannot be used: it is not supported",
        ),
    ] {
        assert_eq!(
            WithFile::new(text).refusal(),
            format!("stan.conf:{error}"),
            "{text}"
        );
    }
}

/// What there is of the settings that anybody has to show something.
fn asks(config: &Config) -> bool {
    let auth = &config.auth;
    auth.token.is_some() || auth.single.is_some() || !auth.users.is_empty()
}

#[test]
fn no_words_about_authorization_leave_the_door_open() {
    let samples = [
        "authorization {}",
        "authorization: {}",
        "authorization { timeout: 5 }",
        "authorization { users: [] }",
        "authorization { token: \"\" }",
        "authorization { user: \"\", password: \"\" }",
        "authorization { user: a }",
        "authorization { password: a }",
        "authorization { default_permissions { publish: x } }",
        "authorization { usr: a, password: b }",
        "authorization: true",
        "authorization: secret",
        "authorisation { user: a, password: b }",
        "Authorization { User: a, Password: b }",
        "authorization { users: [ { user: a } ] }",
        "authorization { users: [ { user: a, password: b } ] }",
        "authorization { user: a, password: b }",
        "authorization { token: b }",
        "accounts {}",
        "accounts: [A, B]",
        "accounts { A {} }",
        "accounts { A { users: [] } }",
        "accounts { \"$SYS\" { users: [ { user: a, password: b } ] } }",
        "accounts { SYS { users: [ { user: a, password: b } ] } }\nsystem_account: SYS",
        "accounts { A { users: [ { user: a, password: b } ] } }",
        "system_account: SYS",
        "no_auth_user: a",
        "user: a\npassword: b",
        "token: x",
        "username: x",
        "operator: x.jwt",
        "resolver: MEMORY",
        "trusted_keys: [ x ]",
        "tls { cert_file: c, key_file: k, ca_file: a, verify_and_map: true }",
        "authorization { auth_callout { issuer: x } }",
    ];
    for text in samples {
        match WithFile::new(text).run("") {
            Ok(config) => assert!(asks(&config), "{text}"),
            Err(error) => assert!(error.to_string().contains("stan.conf"), "{error}"),
        }
    }
    for line in ["-user a -pass b", "-auth t", "-user a", "-pass b"] {
        match run_with(&words(line), &no_variables) {
            Ok(config) => assert!(asks(&config), "{line}"),
            Err(error) => assert!(error.to_string().contains("password"), "{error}"),
        }
    }
}

#[test]
fn users_of_the_system_account_alone_do_not_let_others_in() {
    let file = WithFile::new("accounts { \"$SYS\" { users: [ { user: a, password: b } ] } }");
    let config = file.run("").unwrap();
    let authorization = broker_core::auth::Authorization::new(&config.auth).unwrap();
    assert!(authorization.is_required() && authorization.without_connect().is_none());
    assert!(config.warnings[0].contains("all users belong to the system account"));
}

#[test]
fn empty_lists_and_permissions_without_users_are_not_taken_for_everything() {
    for (text, error) in [
        (
            "authorization { users: [ {user: x, password: y, permissions: {publish: []}} ] }",
            "1:72: publish is an empty list; to forbid all subjects, deny \">\"",
        ),
        (
            "authorization { users: [ {user: x, password: y, permissions: {publish: {allow: []}}} ] }",
            "1:80: allow is an empty list; to forbid all subjects, deny \">\"",
        ),
        (
            "authorization { user: x, password: y, permissions: {publish: a} }",
            "1:1: permissions need a users list: a single user or token has all rights",
        ),
        (
            "authorization { password: \"\", user: x }",
            "1:27: password is empty",
        ),
        (
            "authorization { password: 5, user: x }",
            "1:27: parameter \"password\" value is expected to be string, got int64",
        ),
    ] {
        assert_eq!(
            WithFile::new(text).refusal(),
            format!("stan.conf:{error}"),
            "{text}"
        );
    }
}

#[test]
fn no_message_shows_a_secret() {
    for text in [
        "authorization { user: a, password: s3cret, token: s3cret }",
        "authorization { users: [ { user: a, password: s3cret }, { user: a, password: s3cret } ] }",
        "authorization { user: s3cret",
        "cluster { port: 1, routes: [ \"nats://a:s3cret@h\" ] }",
        "cluster { port: 1, authorization { user: a, password: [s3cret] } }",
    ] {
        let refusal = WithFile::new(text).refusal();
        assert!(!refusal.contains("s3cret"), "{refusal}");
    }
    let file = WithFile::new(
        "authorization { user: a, password: s3cret }\ncluster { port: 1, authorization { user: r, password: s3cret }, routes: [ \"nats://a:s3cret@h:1\" ] }",
    );
    let config = file.run("").unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}
