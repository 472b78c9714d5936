//! The table as a whole. What is expected was tried on nats-server 2.15.2.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use data_encoding::BASE64URL_NOPAD;

use super::{
    settings::{
        AuthSettings, GLOBAL_ACCOUNT, Login, PermissionSettings, SYSTEM_ACCOUNT, Secret,
        SubjectRules, UserSettings,
    },
    *,
};

mod certificates;
mod contradictions;
mod mutated;
mod reload;

const NONCE: &[u8] = b"PXoWU7zWAMt75FY";

/// Of "secret", at the lowest cost, made by the C library.
const HASH: &str = "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

const NOBODY: Credentials<'static> = Credentials {
    user: "",
    pass: "",
    token: "",
    nkey: "",
    sig: "",
    nonce: NONCE,
    certificate: None,
    connection_type: ConnectionType::Standard,
};

fn login<'a>(user: &'a str, pass: &'a str) -> Credentials<'a> {
    Credentials {
        user,
        pass,
        ..NOBODY
    }
}

fn token(token: &str) -> Credentials<'_> {
    Credentials { token, ..NOBODY }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn user(name: &str, password: &str) -> UserSettings {
    UserSettings {
        account: GLOBAL_ACCOUNT.to_owned(),
        login: Login::Password {
            user: name.to_owned(),
            password: secret(password),
        },
        permissions: None,
        connection_types: Vec::new(),
    }
}

fn member(account: &str, user: UserSettings) -> UserSettings {
    UserSettings {
        account: account.to_owned(),
        ..user
    }
}

/// A user's key, from a seed.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn nkey(&self) -> String {
        let key = self.0.public_key().as_ref().try_into().unwrap();
        nkey::encode(nkey::Kind::User, key)
    }

    fn sign(&self, nonce: &[u8]) -> String {
        BASE64URL_NOPAD.encode(self.0.sign(nonce).as_ref())
    }

    fn user(&self) -> UserSettings {
        UserSettings {
            login: Login::Nkey(self.nkey()),
            ..user("", "")
        }
    }
}

fn with_users(users: Vec<UserSettings>) -> AuthSettings {
    AuthSettings {
        users,
        authorization_block: true,
        ..AuthSettings::default()
    }
}

fn with_single(name: &str, password: &str) -> AuthSettings {
    AuthSettings {
        single: Some((name.to_owned(), secret(password))),
        ..AuthSettings::default()
    }
}

fn with_token(text: &str) -> AuthSettings {
    AuthSettings {
        token: Some(secret(text)),
        ..AuthSettings::default()
    }
}

fn table(settings: &AuthSettings) -> Authorization {
    Authorization::new(settings).unwrap()
}

/// Judges to the end, slow checks included.
fn judged(table: &Authorization, shown: &Credentials<'_>) -> Option<Arc<User>> {
    match table.judge(shown) {
        Verdict::Accepted(user) => Some(user),
        Verdict::Refused => None,
        Verdict::Slow(check) => check.run(),
    }
}

fn is_accepted(table: &Authorization, shown: &Credentials<'_>) -> bool {
    judged(table, shown).is_some()
}

#[test]
fn nothing_configured_takes_everyone_and_ignores_what_they_show() {
    let open = table(&AuthSettings::default());
    for shown in [NOBODY, login("a", "b"), token("t")] {
        let user = judged(&open, &shown).unwrap();
        assert_eq!((user.kind(), user.name()), (UserKind::Anonymous, ""));
        assert_eq!(
            (&**user.account(), user.permissions()),
            (GLOBAL_ACCOUNT, None)
        );
    }
    assert!(!open.is_required() && !open.wants_nonce() && !open.has_plaintext_secrets());
    assert!(open.without_connect().is_some());
    assert!(open.accounts().eq([GLOBAL_ACCOUNT, SYSTEM_ACCOUNT]));
}

#[test]
fn the_token_lets_in_and_nothing_else_does() {
    let table = table(&with_token("tok"));
    assert_eq!(
        judged(&table, &token("tok")).unwrap().kind(),
        UserKind::Token
    );
    let others = [
        NOBODY,
        token("to"),
        token("toke"),
        login("tok", ""),
        login("", "tok"),
    ];
    assert!(others.iter().all(|shown| !is_accepted(&table, shown)));
    assert!(table.is_required() && table.without_connect().is_none());
}

#[test]
fn the_single_user_needs_name_and_password() {
    let table = table(&with_single("a", "pw"));
    assert_eq!(judged(&table, &login("a", "pw")).unwrap().name(), "a");
    let others = [
        NOBODY,
        login("a", ""),
        login("", "pw"),
        login("b", "pw"),
        token("pw"),
    ];
    assert!(others.iter().all(|shown| !is_accepted(&table, shown)));
}

#[test]
fn users_have_their_own_passwords_accounts_and_permissions() {
    let limited = UserSettings {
        permissions: Some(PermissionSettings {
            publish: SubjectRules {
                allow: vec!["a".to_owned()],
                deny: Vec::new(),
            },
            ..PermissionSettings::default()
        }),
        ..user("limited", "x")
    };
    let mut settings = with_users(vec![limited, member("A", user("other", "y"))]);
    settings.accounts = vec!["A".to_owned()];
    let table = table(&settings);
    let limited = judged(&table, &login("limited", "x")).unwrap();
    assert!(
        limited
            .permissions()
            .is_some_and(|all| !all.may_publish(b"b"))
    );
    let other = judged(&table, &login("other", "y")).unwrap();
    assert_eq!((&**other.account(), other.permissions()), ("A", None));
    assert!(!is_accepted(&table, &login("other", "x")) && !is_accepted(&table, &NOBODY));
    assert!(table.accounts().eq([GLOBAL_ACCOUNT, SYSTEM_ACCOUNT, "A"]));
}

/// nats-server takes this as well; only where certificates decide is it no way in.
#[test]
fn an_empty_password_is_a_password_unless_certificates_decide() {
    let mut settings = with_users(vec![user("x", "")]);
    assert!(is_accepted(&table(&settings), &login("x", "")));
    assert!(!is_accepted(&table(&settings), &login("x", "y")));
    settings.map_certificates = true;
    assert!(!is_accepted(&table(&settings), &login("x", "")));
}

#[test]
fn hashed_secrets_are_checked_off_the_loop() {
    for hash in [HASH.to_owned(), HASH.replace("$2a$", "$2y$")] {
        for (settings, right, wrong) in [
            (with_token(&hash), token("secret"), token("Secret")),
            (
                with_single("a", &hash),
                login("a", "secret"),
                login("a", &hash),
            ),
            (
                with_users(vec![user("a", &hash)]),
                login("a", "secret"),
                login("a", ""),
            ),
        ] {
            let table = table(&settings);
            assert!(matches!(table.judge(&right), Verdict::Slow(_)));
            assert!(is_accepted(&table, &right) && !is_accepted(&table, &wrong));
            assert!(!table.has_plaintext_secrets());
        }
    }
}

#[test]
fn what_only_looks_like_a_hash_lets_nobody_in() {
    for hash in ["$2a$04$", "$2b$99$abc", &HASH[..59], "$2x$00$\u{e9}"] {
        let table = table(&with_token(hash));
        assert!(
            !is_accepted(&table, &token(hash)) && !is_accepted(&table, &token("")),
            "{hash}"
        );
    }
    for plain in ["$2c$04$x", "$2a$4$x", "2a$04$x", "$2a$04"] {
        assert!(
            is_accepted(&table(&with_token(plain)), &token(plain)),
            "{plain}"
        );
    }
}

#[test]
fn keys_sign_the_nonce_of_their_own_connection() {
    let (ours, theirs) = (Signer::new(1), Signer::new(2));
    let table = table(&with_users(vec![ours.user(), user("a", "pw")]));
    assert!(table.wants_nonce());
    let (key, sig, other) = (ours.nkey(), ours.sign(NONCE), theirs.sign(NONCE));
    let shown = Credentials {
        nkey: &key,
        sig: &sig,
        ..NOBODY
    };
    let user = judged(&table, &shown).unwrap();
    assert_eq!((user.kind(), user.name()), (UserKind::Nkey, key.as_str()));
    let unsigned_nonce = ours.sign(b"");
    let unknown = theirs.nkey();
    for refused in [
        Credentials { sig: "", ..shown },
        Credentials {
            sig: &other,
            ..shown
        },
        Credentials {
            nonce: b"another",
            ..shown
        },
        Credentials {
            nonce: b"",
            sig: &unsigned_nonce,
            ..shown
        },
        Credentials {
            nkey: &unknown,
            sig: &other,
            ..shown
        },
        // A key goes first: a password does not mend it.
        Credentials {
            nkey: &unknown,
            user: "a",
            pass: "pw",
            ..NOBODY
        },
    ] {
        assert!(!is_accepted(&table, &refused), "{refused:?}");
    }
    assert!(is_accepted(&table, &login("a", "pw")));
    assert!(!is_accepted(&table, &login(&key, "")));
}

#[test]
fn connection_types_limit_every_way_in() {
    let signer = Signer::new(1);
    let websocket = |user: UserSettings| UserSettings {
        connection_types: vec![ConnectionType::Websocket],
        ..user
    };
    let (key, sig) = (signer.nkey(), signer.sign(NONCE));
    let users = vec![user("plain", "x"), user("slow", HASH), signer.user()];
    let mut settings = with_users(users.into_iter().map(websocket).collect());
    settings.no_auth_user = Some("plain".to_owned());
    let table = table(&settings);
    let signed = Credentials {
        nkey: &key,
        sig: &sig,
        ..NOBODY
    };
    for shown in [login("plain", "x"), login("slow", "secret"), signed, NOBODY] {
        assert!(!is_accepted(&table, &shown), "{shown:?}");
        let over_websocket = Credentials {
            connection_type: ConnectionType::Websocket,
            ..shown
        };
        assert!(is_accepted(&table, &over_websocket), "{shown:?}");
    }
    assert!(table.without_connect().is_none());
}

#[test]
fn who_shows_nothing_is_the_no_auth_user() {
    let signer = Signer::new(1);
    for name in ["x".to_owned(), "hashed".to_owned(), signer.nkey()] {
        let users = vec![user("x", "y"), user("hashed", HASH), signer.user()];
        let mut settings = with_users(users);
        settings.no_auth_user = Some(name.clone());
        let table = table(&settings);
        assert!(!table.is_required() && table.wants_nonce());
        assert_eq!(table.without_connect().unwrap().name(), name);
        assert_eq!(judged(&table, &NOBODY).unwrap().name(), name);
        for shown in [login("x", ""), login("", "q"), token("q"), login("z", "")] {
            assert!(!is_accepted(&table, &shown), "{shown:?}");
        }
        assert!(is_accepted(&table, &login("x", "y")));
    }
}

#[test]
fn system_users_alone_leave_the_rest_open() {
    let mut settings = with_users(vec![member("SYS", user("s", "p"))]);
    settings.authorization_block = false;
    settings.accounts = vec!["SYS".to_owned()];
    settings.system_account = Some("SYS".to_owned());
    let open = table(&settings);
    assert!(open.is_required());
    assert_eq!(judged(&open, &NOBODY).unwrap().kind(), UserKind::Anonymous);
    assert_eq!(&**judged(&open, &login("s", "p")).unwrap().account(), "SYS");
    assert!(!is_accepted(&open, &login("zz", "")) && !is_accepted(&open, &token("q")));
    assert!(open.without_connect().is_some());

    settings.accounts.push("A".to_owned());
    assert!(!is_accepted(&table(&settings), &NOBODY));
    settings.accounts.pop();
    settings.authorization_block = true;
    assert!(!is_accepted(&table(&settings), &NOBODY));
}

#[test]
fn plain_passwords_are_noticed_where_the_reference_does() {
    let warns = |settings: &AuthSettings| table(settings).has_plaintext_secrets();
    assert!(warns(&with_single("a", "b")) && warns(&with_users(vec![user("a", "")])));
    assert!(!warns(&with_token("t")));
    let mut mapped = with_users(vec![user("a", "")]);
    mapped.map_certificates = true;
    assert!(!warns(&mapped));
    mapped.users.push(user("b", "x"));
    assert!(warns(&mapped));
}

#[test]
fn nothing_secret_is_printed() {
    let table = table(&with_users(vec![user("a", "hidden"), user("b", HASH)]));
    let check = table.judge(&login("b", "hidden"));
    let shown = Credentials {
        token: "hidden",
        sig: "hidden",
        ..login("a", "hidden")
    };
    for text in [
        format!("{table:?}"),
        format!("{check:?}"),
        format!("{shown:?}"),
    ] {
        assert!(!text.contains("hidden") && !text.contains("$2a$"), "{text}");
    }
}
