//! Users who are found by the names in their certificates.

use super::*;
use crate::auth::certificate::tests::subject;

/// The name of the user that a certificate leads to.
fn mapped(users: &[&str], holder: &str, alternative: &[&str]) -> Option<String> {
    let mut names = CertificateNames {
        subject: subject(holder),
        ..CertificateNames::default()
    };
    for name in alternative {
        match name {
            name if name.contains("://") => names.uris.push((*name).to_owned()),
            name if name.contains('@') => names.emails.push((*name).to_owned()),
            name => names.dns.push((*name).to_owned()),
        }
    }
    let mut settings = with_users(users.iter().map(|name| user(name, "")).collect());
    settings.map_certificates = true;
    let shown = Credentials {
        certificate: Some(&names),
        ..login("", "")
    };
    judged(&table(&settings), &shown).map(|user| user.name().to_owned())
}

#[test]
fn certificates_lead_to_the_first_user_they_name() {
    for (users, holder, alternative, expected) in [
        (
            ["foo", "a@b"],
            "/CN=x",
            ["foo", "a@b"].as_slice(),
            Some("a@b"),
        ),
        (
            ["spiffe://a/b", "foo"],
            "/CN=x",
            &["spiffe://a/b", "foo"],
            Some("foo"),
        ),
        (
            ["spiffe://a/b", "q"],
            "/CN=x",
            &["fo", "spiffe://a/b"],
            Some("spiffe://a/b"),
        ),
        (["spiffe://A/b", "q"], "/CN=x", &["spiffe://a/b"], None),
        (["foo", "q"], "/CN=x", &["foo.bar"], None),
        (["foo*", "foo"], "/CN=x", &["foo*"], Some("foo*")),
        (["x", "q"], "/CN=x", &[], None),
        (["CN=x", "CN=y"], "/CN=x", &[], Some("CN=x")),
        (["CN=x", "q"], "/CN=x/O=z", &[], None),
        (["CN=x,O=z", "q"], "/CN=x", &[], None),
        (["O=z,CN=x", "CN=x,O=z"], "/O=z/CN=x", &[], Some("CN=x,O=z")),
        (
            ["CN=x", "CN=x,DC=com"],
            "/DC=com/CN=x",
            &[],
            Some("CN=x,DC=com"),
        ),
        (["CN=x", "q"], "/DC=com/CN=x", &[], Some("CN=x")),
        (
            ["CN=x,OU=a+OU=b", "q"],
            "/CN=x/OU=a/OU=b",
            &[],
            Some("CN=x,OU=a+OU=b"),
        ),
        (["CN=x,OU=b,OU=a", "q"], "/CN=x/OU=a+OU=b", &[], None),
        (["CN=x", "q"], "", &[], None),
    ] {
        let found = mapped(&users, holder, alternative);
        assert_eq!(
            found.as_deref(),
            expected,
            "{users:?} {holder} {alternative:?}"
        );
    }
}

#[test]
fn a_mapped_user_with_a_password_needs_that_too_and_no_name_helps() {
    let names = CertificateNames {
        dns: vec!["foo".to_owned()],
        ..CertificateNames::default()
    };
    let mut settings = with_users(vec![user("foo", "pw"), user("hash", HASH), user("bar", "")]);
    settings.map_certificates = true;
    settings.no_auth_user = Some("bar".to_owned());
    let table = table(&settings);
    let with = |shown| Credentials {
        certificate: Some(&names),
        ..shown
    };
    assert_eq!(
        judged(&table, &with(login("bar", "pw"))).unwrap().name(),
        "foo"
    );
    assert!(!is_accepted(&table, &with(login("", ""))));
    assert!(!is_accepted(&table, &login("bar", "")) && !is_accepted(&table, &NOBODY));
    assert!(table.without_connect().is_none());
}
