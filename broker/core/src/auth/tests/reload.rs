//! What a reload means for those who are connected.

use super::*;

/// What becomes of whoever got in by showing `shown`, if the settings change.
fn standing(before: &AuthSettings, after: &AuthSettings, shown: &Credentials<'_>) -> Standing {
    let old = judged(&table(before), shown).expect("got in before");
    table(after).find_again(&old)
}

fn stays(before: &AuthSettings, after: &AuthSettings, shown: &Credentials<'_>) -> bool {
    matches!(standing(before, after, shown), Standing::Stays(_))
}

fn is_violation(before: &AuthSettings, after: &AuthSettings, shown: &Credentials<'_>) -> bool {
    matches!(standing(before, after, shown), Standing::Violation)
}

fn is_gone(before: &AuthSettings, after: &AuthSettings, shown: &Credentials<'_>) -> bool {
    matches!(standing(before, after, shown), Standing::Gone)
}

#[test]
fn nothing_changed_changes_nothing() {
    let signer = Signer::new(1);
    let (key, sig) = (signer.nkey(), signer.sign(NONCE));
    let signed = Credentials {
        nkey: &key,
        sig: &sig,
        ..NOBODY
    };
    let users = with_users(vec![user("a", "x"), user("h", HASH), signer.user()]);
    for (settings, shown) in [
        (AuthSettings::default(), NOBODY),
        (with_token("t"), token("t")),
        (with_single("a", "x"), login("a", "x")),
        (users.clone(), login("a", "x")),
        (users.clone(), login("h", "secret")),
        (users, signed),
    ] {
        assert!(stays(&settings, &settings, &shown), "{shown:?}");
    }
}

#[test]
fn a_removed_user_is_gone() {
    let before = with_users(vec![user("a", "x"), user("b", "x")]);
    assert!(is_gone(
        &before,
        &with_users(vec![user("b", "x")]),
        &login("a", "x")
    ));
    assert!(is_gone(&before, &AuthSettings::default(), &login("a", "x")));
    assert!(is_gone(
        &with_single("a", "x"),
        &with_single("b", "x"),
        &login("a", "x")
    ));
}

#[test]
fn a_changed_secret_is_a_violation() {
    let users = |password: &str| with_users(vec![user("a", password)]);
    assert!(is_violation(&users("x"), &users("y"), &login("a", "x")));
    assert!(is_violation(
        &users("secret"),
        &users(HASH),
        &login("a", "secret")
    ));
    assert!(is_violation(
        &with_token("x"),
        &with_token("y"),
        &token("x")
    ));
    assert!(is_violation(&with_token("x"), &users("x"), &token("x")));
    assert!(stays(
        &with_token("x"),
        &AuthSettings::default(),
        &token("x")
    ));
}

#[test]
fn the_single_user_is_dropped_without_a_word_but_may_join_a_list() {
    let single = with_single("a", "x");
    let listed = with_users(vec![user("a", "x")]);
    assert!(is_gone(&single, &with_single("a", "y"), &login("a", "x")));
    assert!(is_gone(&single, &AuthSettings::default(), &login("a", "x")));
    assert!(stays(&single, &listed, &login("a", "x")));
    assert!(stays(&listed, &single, &login("a", "x")));
}

/// Or a certificate would have been no longer needed, or needed and never shown.
#[test]
fn another_kind_of_proof_is_a_violation() {
    let before = with_users(vec![user("a", "")]);
    let mapping = AuthSettings {
        map_certificates: true,
        ..before.clone()
    };
    assert!(is_violation(&before, &mapping, &login("a", "")));
}

#[test]
fn the_anonymous_are_closed_when_authentication_is_switched_on() {
    let open = AuthSettings::default();
    let mut users = with_users(vec![user("a", "x")]);
    assert!(is_violation(&open, &users, &NOBODY));
    assert!(is_violation(&open, &with_token("t"), &NOBODY));
    users.no_auth_user = Some("a".to_owned());
    let Standing::Stays(user) = standing(&open, &users, &NOBODY) else {
        panic!("they may go on as the no_auth_user");
    };
    assert_eq!(user.name(), "a");
}

#[test]
fn a_user_that_moved_to_another_account_is_gone() {
    let before = with_users(vec![user("a", "x")]);
    let mut after = with_users(vec![member("A", user("a", "x"))]);
    after.accounts = vec!["A".to_owned()];
    assert!(is_gone(&before, &after, &login("a", "x")));
}

#[test]
fn other_permissions_are_other_rights() {
    let limited = |deny: &[&str]| {
        let subscribe = SubjectRules {
            allow: Vec::new(),
            deny: deny.iter().map(|entry| (*entry).to_owned()).collect(),
        };
        let permissions = PermissionSettings {
            subscribe,
            ..PermissionSettings::default()
        };
        with_users(vec![UserSettings {
            permissions: Some(permissions),
            ..user("a", "x")
        }])
    };
    let old = judged(&table(&limited(&["b"])), &login("a", "x")).unwrap();
    for (deny, same) in [(["b"].as_slice(), true), (&["c"], false), (&[], false)] {
        let Standing::Stays(new) = table(&limited(deny)).find_again(&old) else {
            panic!("permissions close no connection");
        };
        assert_eq!(new.same_rights(&old), same);
    }
}
