//! Credentials that are nearly right, or nothing like it.

use proptest::prelude::*;

use super::*;

/// `right` itself, texts near it (cut, grown, changed), and anything else.
fn near(right: &'static str) -> impl Strategy<Value = String> {
    let end = right.len();
    let changed = (0..=end, 0..=end, ".{0,3}").prop_map(move |(head, tail, middle)| {
        format!("{}{middle}{}", &right[..head], &right[tail..])
    });
    prop_oneof![Just(right.to_owned()), changed, ".{0,200}"]
}

proptest! {
    /// 2026-23, CVE-2020-26521: credentials of the wrong length are refused like any other.
    #[test]
    fn only_the_very_credentials_let_in(
        name in near("someone"),
        pass in near("password-1"),
        shown in near("token"),
    ) {
        let users = table(&with_users(vec![user("someone", "password-1")]));
        let right = name == "someone" && pass == "password-1";
        prop_assert_eq!(is_accepted(&users, &login(&name, &pass)), right);
        let single = table(&with_single("someone", "password-1"));
        prop_assert_eq!(is_accepted(&single, &login(&name, &pass)), right);
        let by_token = table(&with_token("token"));
        prop_assert_eq!(is_accepted(&by_token, &token(&shown)), shown == "token");
    }

    #[test]
    fn hashes_of_any_length_and_content_do_no_harm(
        hash in near(HASH),
        given in near("secret"),
    ) {
        // What stays a hash of this cost is checked quickly; a changed cost could take for ever.
        prop_assume!(!hash.starts_with("$2") || hash.starts_with("$2a$04$"));
        let table = table(&with_token(&hash));
        let accepted = is_accepted(&table, &token(&given));
        let as_text = given == hash && !hash.starts_with("$2a$04$");
        let as_hash = given == "secret" && hash == HASH;
        prop_assert_eq!(accepted, as_text || as_hash);
    }

    #[test]
    fn keys_and_signatures_of_any_length_and_content_do_no_harm(
        cut_key in 0usize..60,
        cut_sig in 0usize..90,
        added in ".{0,60}",
        nonce: Vec<u8>,
    ) {
        let signer = Signer::new(1);
        let table = table(&with_users(vec![signer.user()]));
        let (key, sig) = (signer.nkey(), signer.sign(NONCE));
        let changed_key = format!("{}{added}", &key[..cut_key.min(key.len())]);
        let changed_sig = format!("{}{added}", &sig[..cut_sig.min(sig.len())]);
        let shown = Credentials { nkey: &key, sig: &sig, ..NOBODY };
        prop_assert!(is_accepted(&table, &shown));
        let with_key = Credentials { nkey: &changed_key, ..shown };
        prop_assert_eq!(is_accepted(&table, &with_key), changed_key == key);
        let with_sig = Credentials { sig: &changed_sig, ..shown };
        prop_assert_eq!(is_accepted(&table, &with_sig), changed_sig == sig);
        let with_nonce = Credentials { nonce: &nonce, ..shown };
        prop_assert_eq!(is_accepted(&table, &with_nonce), nonce == NONCE);
        let bad = UserSettings { login: Login::Nkey(changed_key.clone()), ..user("", "") };
        prop_assert_eq!(Authorization::new(&with_users(vec![bad])).is_ok(), changed_key == key);
    }
}
