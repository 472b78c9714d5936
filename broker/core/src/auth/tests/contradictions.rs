//! Settings that no table can be made of.

use super::*;

#[test]
fn contradictions_are_told_in_the_words_of_the_reference() {
    let signer = Signer::new(1);
    let both = AuthSettings {
        token: Some(secret("t")),
        ..with_single("a", "b")
    };
    let beside = |users: AuthSettings, other: AuthSettings| AuthSettings {
        accounts: vec!["A".to_owned()],
        users: users.users,
        ..other
    };
    let here = || with_users(vec![user("x", "y")]);
    let there = || with_users(vec![member("A", user("x", "y"))]);
    let no_auth = |name: &str, settings: AuthSettings| AuthSettings {
        no_auth_user: Some(name.to_owned()),
        ..settings
    };
    let bad_key = UserSettings {
        login: Login::Nkey("UXXX".to_owned()),
        ..user("", "")
    };
    let undeclared = AuthSettings {
        system_account: Some("NOPE".to_owned()),
        ..AuthSettings::default()
    };
    for (settings, text) in [
        (both, "Cannot have a user/pass and token"),
        (
            beside(here(), with_single("a", "b")),
            "Can not have a single user/pass and a users array",
        ),
        (
            beside(here(), with_token("t")),
            "Can not have a token and a users array",
        ),
        (
            beside(there(), with_single("a", "b")),
            "Can not have a single user/pass and accounts",
        ),
        (
            beside(there(), with_token("t")),
            "Can not have a token and accounts",
        ),
        (
            with_users(vec![user("x", "y"), user("x", "z")]),
            "Duplicate user \"x\" detected",
        ),
        (
            with_users(vec![signer.user(), signer.user()]),
            &format!("Duplicate nkey \"{}\" detected", signer.nkey()),
        ),
        (
            with_users(vec![bad_key]),
            "Not a valid public nkey for a user: \"UXXX\"",
        ),
        (
            no_auth("z", with_single("z", "q")),
            "no_auth_user: \"z\" present, but users/nkeys are not defined",
        ),
        (
            no_auth("z", here()),
            "no_auth_user: \"z\" not present as user or nkey in authorization block or account configuration",
        ),
        (
            undeclared,
            "error resolving system account: account missing: \"NOPE\"",
        ),
        (
            there(),
            "user \"x\" belongs to account \"A\", which is not declared",
        ),
    ] {
        assert_eq!(Authorization::new(&settings).unwrap_err().to_string(), text);
    }
    assert!(Authorization::new(&beside(AuthSettings::default(), with_token("t"))).is_ok());
}
