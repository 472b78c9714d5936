//! Users who are found by what their certificate says.

use broker_core::auth::settings::AuthSettings;
use certs::profile::Profile;
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType, string::Ia5String};

use super::{
    Server, VIOLATION,
    auth::{user, users},
    pki::{CONNECT, Pki, expect, is_served, upgrade},
};

fn called(subject: &[(DnType, &str)], alternative: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params.subject_alt_names = alternative;
    params
}

fn domain_component() -> DnType {
    DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25])
}

fn text(text: &str) -> Ia5String {
    text.try_into().unwrap()
}

fn server(pki: &Pki, names: &[&str]) -> Server {
    let auth = AuthSettings {
        map_certificates: true,
        ..users(names.iter().map(|name| user(name, "")).collect::<Vec<_>>())
    };
    let settings = pki.issue(Profile::Server).verifying_server();
    pki.server_with(settings, |config, _| config.auth = auth).0
}

/// Who the server takes the holder of a certificate for.
fn mapped(pki: &Pki, names: &[&str], params: &CertificateParams) -> Option<String> {
    let server = server(pki, names);
    let mut stream = upgrade(&server, pki.client_called(params).0);
    is_served(&mut stream).then(|| {
        let open = super::wait(crate::monitor::details::ServerDetails::connections(
            &server.core.details(),
            crate::monitor::details::ConnectionQuery::default(),
        ));
        format!("{:?}", open.items[0].authorized_user)
    })
}

#[test]
fn alternative_names_lead_to_users_addresses_before_hosts_before_uris() {
    let pki = Pki::new();
    let subject = [(DnType::CommonName, "me")];
    let email = SanType::Rfc822Name(text("me@example.org"));
    let host = SanType::DnsName(text("host.example.org"));
    let uri = SanType::URI(text("spiffe://example.org/ns/shop/sa/orders"));
    let all = vec![uri.clone(), host.clone(), email.clone()];
    for (names, alternative, found) in [
        (&["me@example.org"][..], vec![email], "me@example.org"),
        (&["host.example.org"], vec![host], "host.example.org"),
        (
            &["spiffe://example.org/ns/shop/sa/orders"],
            vec![uri.clone()],
            "spiffe://example.org/ns/shop/sa/orders",
        ),
        (
            &["spiffe://example.org/ns/shop/sa/orders", "me@example.org"],
            all.clone(),
            "me@example.org",
        ),
        (
            &["spiffe://example.org/ns/shop/sa/orders", "host.example.org"],
            all,
            "host.example.org",
        ),
    ] {
        let user = mapped(&pki, names, &called(&subject, alternative));
        assert!(
            user.as_ref().is_some_and(|user| user.contains(found)),
            "{names:?}: {user:?}"
        );
    }
    // As a whole or not at all, and in its own case.
    for name in [
        "spiffe://example.org/ns/shop",
        "SPIFFE://example.org/ns/shop/sa/orders",
        "me",
    ] {
        assert_eq!(
            mapped(&pki, &[name], &called(&subject, vec![uri.clone()])),
            None,
            "{name}"
        );
    }
}

#[test]
fn subjects_lead_to_users_whatever_the_order_of_their_parts() {
    let pki = Pki::new();
    let subject = [
        (DnType::CountryName, "DE"),
        (DnType::OrganizationName, "shop"),
        (DnType::OrganizationalUnitName, "orders"),
        (DnType::CommonName, "me"),
    ];
    for name in [
        "CN=me,OU=orders,O=shop,C=DE",
        "C=DE,CN=me,O=shop,OU=orders",
        "CN=me, OU=orders, O=shop, C=DE",
    ] {
        assert!(
            mapped(&pki, &[name], &called(&subject, vec![])).is_some(),
            "{name}"
        );
    }
    for name in [
        "CN=me",
        "CN=me,OU=orders,O=shop",
        "CN=me,OU=orders,O=shop,C=DE,DC=org",
        "CN=me+OU=orders,O=shop,C=DE",
        "CN=Me,OU=orders,O=shop,C=DE",
        "CN=me\\,OU=orders,O=shop,C=DE",
    ] {
        assert_eq!(
            mapped(&pki, &[name], &called(&subject, vec![])),
            None,
            "{name}"
        );
    }
}

#[test]
fn a_common_name_alone_and_domain_components_are_subjects_too() {
    let pki = Pki::new();
    let alone = [(DnType::CommonName, "me")];
    assert!(mapped(&pki, &["CN=me"], &called(&alone, vec![])).is_some());
    let deep = [(domain_component(), "org"), (DnType::CommonName, "me")];
    assert!(mapped(&pki, &["CN=me,DC=org"], &called(&deep, vec![])).is_some());
    assert_eq!(
        mapped(&pki, &["CN=me,DC=com"], &called(&deep, vec![])),
        None
    );
}

#[test]
fn neither_a_name_in_connect_nor_another_certificate_helps() {
    let pki = Pki::new();
    let server = server(&pki, &["CN=me"]);
    let known = || {
        pki.client_called(&called(&[(DnType::CommonName, "me")], vec![]))
            .0
    };
    let unknown = || {
        pki.client_called(&called(&[(DnType::CommonName, "you")], vec![]))
            .0
    };
    assert!(is_served(&mut upgrade(&server, known())));
    for connect in [
        CONNECT.to_owned(),
        CONNECT.replace("{", "{\"user\":\"CN=me\","),
        CONNECT.replace("{", "{\"user\":\"CN=me\",\"pass\":\"\","),
    ] {
        let mut stream = upgrade(&server, unknown());
        std::io::Write::write_all(&mut stream, connect.as_bytes()).unwrap();
        expect(&mut stream, VIOLATION);
    }
    // And nobody comes without a CONNECT.
    let mut stream = upgrade(&server, known());
    std::io::Write::write_all(&mut stream, b"PING\r\n").unwrap();
    expect(&mut stream, VIOLATION);
}
