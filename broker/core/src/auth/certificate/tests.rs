//! Whether users are found is tested with the whole table; here, what names are equal.

use proptest::prelude::*;

use super::*;

/// `/O=z/CN=x+OU=y`, the way openssl shows subjects: relative names as in the certificate.
pub(in crate::auth) fn subject(text: &str) -> Vec<Vec<(String, String)>> {
    let pair = |pair: &str| {
        let (kind, value) = pair.split_once('=').unwrap();
        (kind.to_owned(), value.to_owned())
    };
    let relative = text.split('/').skip(1);
    relative
        .map(|pairs| pairs.split('+').map(pair).collect())
        .collect()
}

fn of(text: &str) -> DistinguishedName {
    DistinguishedName::of_subject(&subject(text)).unwrap()
}

fn is_called(holder: &str, user: &str) -> bool {
    DistinguishedName::parse(user).is_some_and(|user| user.is_reordering_of(&of(holder)))
}

#[test]
fn the_written_order_is_the_reverse_of_the_certificate() {
    assert_eq!(
        DistinguishedName::parse("CN=x,OU=y,O=z"),
        Some(of("/O=z/OU=y/CN=x"))
    );
    assert_ne!(
        DistinguishedName::parse("O=z,OU=y,CN=x"),
        Some(of("/O=z/OU=y/CN=x"))
    );
}

#[test]
fn relative_names_may_come_in_any_order_but_all_must_be_there() {
    for (holder, user, expected) in [
        ("/CN=x/OU=y/O=z", "O=z,CN=x,OU=y", true),
        ("/OU=y/CN=x", "cn=x,ou=y", true),
        ("/CN=x", "CN=X", false),
        ("/CN=x/O=z", "CN=x", false),
        ("/CN=x", "CN=x,O=z", false),
        ("/CN=x/OU=a/OU=b", "CN=x,OU=b,OU=a", true),
        ("/CN=x/OU=a/OU=b", "CN=x,OU=a,OU=a", false),
        ("/CN=x/OU=a/OU=a", "CN=x,OU=a,OU=b", false),
        ("/CN=xy", "CN=x", false),
        ("/CN=x", "CN=x ", true),
        ("/CN=x/O=z z", "CN=x, O=z z", true),
        ("/DC=com/DC=a/CN=x", "CN=x,DC=a,DC=com", true),
        ("/DC=com/DC=a/CN=x", "CN=x,DC=com", false),
        ("/CN=a=b", "CN=a=b", true),
        (
            "/CN=x/1.2.840.113549.1.9.1=m",
            "1.2.840.113549.1.9.1=m,CN=x",
            true,
        ),
        ("/CN=x", "2.5.4.3=x", true),
    ] {
        assert_eq!(is_called(holder, user), expected, "{holder} {user}");
    }
}

#[test]
fn a_relative_name_with_several_values_is_one() {
    for (user, expected) in [
        ("CN=x,OU=b+OU=a", true),
        ("OU=a+OU=b,CN=x", true),
        ("CN=x,OU=b,OU=a", false),
        ("CN=x+OU=a,OU=b", false),
        ("CN=x,OU=a", false),
        ("CN=x,OU=a+OU=a", false),
        ("CN=x,OU=a+OU=b+OU=b", false),
    ] {
        assert_eq!(is_called("/CN=x/OU=a+OU=b", user), expected, "{user}");
    }
    assert!(is_called("/CN=x+OU=b/OU=a", "CN=x+OU=b,OU=a"));
}

#[test]
fn escapes_are_taken_back() {
    let value = |text: &str| {
        let name = DistinguishedName::parse(text)?;
        Some(name.relative[0][0].value.clone())
    };
    for (text, expected) in [
        (r"CN=a\,b\+c", "a,b+c"),
        (r"CN=a\2Cb", "a,b"),
        (r"CN=\c3\a9", "\u{e9}"),
        (r"CN=  a  ", "a"),
        (r"CN=\ a\ ", " a "),
        (r"CN=\#a#", "#a#"),
        (r"CN=a\ \  ", "a  "),
    ] {
        assert_eq!(value(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn what_is_no_distinguished_name_is_none() {
    for text in [
        "",
        "foo",
        "CN=",
        "=x",
        "CN=x,",
        "CN=x,OU",
        "CN=x+",
        ",CN=x",
        "CN=#0401",
        r"CN=x\",
        r"CN=x\2",
        r"CN=x\zz",
        r"CN=\ff",
        "C N=x",
        "a@b",
        "CN=x,,OU=y",
    ] {
        assert_eq!(DistinguishedName::parse(text), None, "{text}");
    }
    assert_eq!(DistinguishedName::of_subject(&[]), None);
}

#[test]
fn subjects_are_written_as_the_reference_does() {
    for (holder, text) in [
        ("/CN=x/OU=y/O=z", "CN=x,OU=y,O=z"),
        ("/CN=x/OU=a/OU=b", "CN=x,OU=a+OU=b"),
        ("/CN=y/CN=x", "CN=x"),
        ("/DC=com/CN=x/1.2.840.113549.1.9.1=m", "CN=x"),
        (
            "/C=c/ST=s/L=l/STREET=r/POSTALCODE=p/SERIALNUMBER=n",
            "SERIALNUMBER=n,POSTALCODE=p,STREET=r,ST=s,L=l,C=c",
        ),
        ("/CN= a,b# ", r"CN=\ a\,b#\ "),
        ("/CN=#a", r"CN=\#a"),
        ("/DC=com", ""),
    ] {
        assert_eq!(subject_text(&subject(holder)), text, "{holder}");
    }
    assert_eq!(
        subject_text_with_domain(&subject("/DC=com/DC=a/CN=x")).as_deref(),
        Some("CN=x,DC=com,DC=a")
    );
    assert_eq!(subject_text_with_domain(&subject("/CN=x")), None);
}

fn relative_names() -> impl Strategy<Value = Vec<Vec<(String, String)>>> {
    let kind = prop::sample::select(vec!["CN", "OU", "O", "DC", "1.2.3"]);
    let pair = (kind.prop_map(str::to_owned), "[ab ,+=#\\\\\u{e9}]{1,3}");
    prop::collection::vec(prop::collection::vec(pair, 1..3), 1..4)
}

/// What RFC 4514 makes of a subject.
fn written(relative: &[Vec<(String, String)>]) -> String {
    let one = |pairs: &Vec<(String, String)>| {
        let mut text = String::new();
        for (kind, value) in pairs {
            if !text.is_empty() {
                text.push('+');
            }
            write_pair(&mut text, kind, value);
        }
        text
    };
    let parts: Vec<String> = relative.iter().rev().map(one).collect();
    parts.join(",")
}

proptest! {
    #[test]
    fn parsing_undoes_writing(subject in relative_names()) {
        let parsed = DistinguishedName::parse(&written(&subject));
        prop_assert_eq!(parsed, DistinguishedName::of_subject(&subject));
    }

    #[test]
    fn shuffled_names_are_equal_and_others_are_not(
        (subject, shuffled) in relative_names()
            .prop_flat_map(|names| (Just(names.clone()), Just(names).prop_shuffle())),
        other in relative_names(),
    ) {
        let name = |subject| DistinguishedName::of_subject(subject).unwrap();
        prop_assert!(name(&subject).is_reordering_of(&name(&shuffled)));
        let bag = |subject: &[Vec<(String, String)>]| {
            let mut bag = subject.to_vec();
            bag.iter_mut().for_each(|pairs| pairs.sort());
            bag.sort();
            bag
        };
        let same = bag(&subject) == bag(&other);
        prop_assert_eq!(name(&subject).is_reordering_of(&name(&other)), same);
        let longer = [subject.as_slice(), &other].concat();
        prop_assert!(!name(&subject).is_reordering_of(&name(&longer)));
        prop_assert!(!name(&longer).is_reordering_of(&name(&subject)));
    }

    #[test]
    fn any_text_is_a_name_or_none(text in "[A-C=,+\\\\# 0-9a-f\u{e9}]{0,24}") {
        let _ = DistinguishedName::parse(&text);
    }
}
