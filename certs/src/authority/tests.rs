use std::{os::unix::fs::PermissionsExt, sync::Barrier, thread};

use super::*;
use crate::profile::Profile;

fn request(key: &PrivateKey, profile: Profile) -> LeafRequest {
    LeafRequest {
        profile,
        common_name: "nats-0".to_owned(),
        dns_names: vec!["nats.nats-io.svc".to_owned()],
        ip_addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        uris: vec!["spiffe://cluster.local/ns/nats-io/sa/nats".to_owned()],
        lifetime: Duration::from_secs(3600),
        public_key: key.public_key(),
    }
}

#[test]
fn leaf_says_what_was_requested_and_usages_follow_the_profile() {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::generate(&AuthorityParams::default(), now).unwrap();
    let key = PrivateKey::generate().unwrap();
    for profile in Profile::ALL {
        let issued = authority.issue(&request(&key, profile), now).unwrap();
        let info = CertificateInfo::from_pem(&issued.chain_pem).unwrap();
        assert_eq!(info.serial_hex, issued.serial_hex);
        assert_eq!(info.not_before, issued.not_before);
        assert_eq!(info.not_after, issued.not_after);
        assert_eq!(info.common_name, "nats-0");
        assert_eq!(info.dns_names, ["nats.nats-io.svc"]);
        assert_eq!(info.ip_addresses.len(), 2);
        assert_eq!(info.uris.len(), 1);
        assert!(!info.is_authority);
        assert_eq!(info.server_auth, profile.is_server());
        assert_eq!(info.client_auth, profile.is_client());
        assert!(info.matches_key(&key));
        assert!(!info.matches_key(&PrivateKey::generate().unwrap()));
    }
}

#[test]
fn authority_is_called_stanchion_lives_five_years_and_signs_leaves_only() {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::generate(&AuthorityParams::default(), now).unwrap();
    let info = authority.info();
    assert_eq!(info.common_name, "stanchion");
    assert!(info.is_authority);
    assert_eq!((info.not_after - now).whole_days(), 5 * 365 - 1);
    let (_, certificate) = X509Certificate::from_der(&authority.certificate).unwrap();
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
}

#[test]
fn serials_differ_and_validity_is_backdated() {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::generate(&AuthorityParams::default(), now).unwrap();
    let key = PrivateKey::generate().unwrap();
    let one = authority
        .issue(&request(&key, Profile::Client), now)
        .unwrap();
    let two = authority
        .issue(&request(&key, Profile::Client), now)
        .unwrap();
    assert_ne!(one.serial_hex, two.serial_hex);
    assert_eq!(one.serial_hex.len(), 32);
    let second = now.replace_nanosecond(0).unwrap();
    assert_eq!(one.not_before, second - Duration::from_secs(300));
    assert_eq!(one.not_after, second + Duration::from_secs(3600));
}

#[test]
fn leaf_never_outlives_the_authority_and_a_dead_one_grants_nothing() {
    let now = OffsetDateTime::now_utc();
    let params = AuthorityParams {
        lifetime: Duration::from_secs(600),
        ..Default::default()
    };
    let authority = Authority::generate(&params, now).unwrap();
    let key = PrivateKey::generate().unwrap();
    let issued = authority
        .issue(&request(&key, Profile::Server), now)
        .unwrap();
    assert_eq!(issued.not_after, authority.info().not_after);
    let later = now + Duration::from_secs(600);
    let refused = authority.issue(&request(&key, Profile::Server), later);
    assert!(matches!(refused, Err(AuthorityError::Expired(_))));
}

#[test]
fn senseless_requests_are_refused_with_the_value() {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::generate(&AuthorityParams::default(), now).unwrap();
    let key = PrivateKey::generate().unwrap();
    let mut nameless = request(&key, Profile::Route);
    nameless.dns_names.clear();
    nameless.ip_addresses.clear();
    let mut odd = request(&key, Profile::Server);
    odd.dns_names.push("nats..svc".to_owned());
    for (request, expected) in [
        (nameless, LeafError::Nameless(Profile::Route)),
        (odd, LeafError::DnsName("nats..svc".to_owned())),
    ] {
        match authority.issue(&request, now) {
            Err(AuthorityError::Leaf(error)) => assert_eq!(error, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn starters_at_the_same_time_make_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("authority");
    let start = Barrier::new(8);
    let now = OffsetDateTime::now_utc();
    let serials: Vec<String> = thread::scope(|scope| {
        let starters: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let made = Authority::load_or_create(&ca, &AuthorityParams::default(), now);
                    made.unwrap().info().serial_hex.clone()
                })
            })
            .collect();
        starters
            .into_iter()
            .map(|starter| starter.join().unwrap())
            .collect()
    });
    assert!(
        serials.iter().all(|serial| *serial == serials[0]),
        "{serials:?}"
    );
    let mode = fs::metadata(ca.join(KEY_FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn half_a_pair_is_completed_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let params = AuthorityParams::default();
    let first = Authority::load_or_create(dir.path(), &params, now).unwrap();

    // What a crash after the key leaves.
    fs::remove_file(dir.path().join(CERTIFICATE_FILE)).unwrap();
    let second = Authority::load_or_create(dir.path(), &params, now).unwrap();
    assert_eq!(first.key_pem(), second.key_pem());

    fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
    let refused = Authority::load_or_create(dir.path(), &params, now);
    assert!(matches!(refused, Err(AuthorityError::KeyMissing(_))));
    assert!(!dir.path().join(KEY_FILE).exists());
}

#[test]
fn bundle_keeps_every_certificate_and_the_matching_one_signs() {
    let now = OffsetDateTime::now_utc();
    let old = Authority::generate(&AuthorityParams::default(), now).unwrap();
    let new = Authority::generate(&AuthorityParams::default(), now).unwrap();
    let bundle = format!("{}{}", old.bundle_pem(), new.bundle_pem());
    let both = Authority::from_pem(&bundle, &new.key_pem()).unwrap();
    assert_eq!(both.info(), new.info());
    assert_eq!(both.bundle_pem(), bundle);
    let stranger = PrivateKey::generate().unwrap().to_pem();
    assert!(matches!(
        Authority::from_pem(&bundle, &stranger),
        Err(AuthorityError::Mismatch)
    ));
}

#[test]
fn debug_of_an_authority_shows_no_byte_of_its_key() {
    let authority =
        Authority::generate(&AuthorityParams::default(), OffsetDateTime::now_utc()).unwrap();
    let shown = format!("{authority:?}");
    let pem = authority.key_pem();
    for line in pem.lines().filter(|line| !line.starts_with("-----")) {
        assert!(!shown.contains(line));
    }
    assert!(shown.contains("signing_key: \"[elided]\""), "{shown}");
}
