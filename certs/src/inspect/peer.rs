//! What a peer's certificate says about who it is: names that users are mapped from, fingerprints, and
//! the subject as monitoring shows it.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use x509_parser::{
    asn1_rs::{Any, Tag},
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::FromDer,
    x509::X509Name,
};

use super::InspectError;

/// Types with a name, as nats-server has them (`internal/ldap/dn.go`). Others go by their dotted
/// identifier, so that nothing is equal that is not.
const SHORT_NAMES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.17", "POSTALCODE"),
    (DOMAIN_COMPONENT, "DC"),
];
const DOMAIN_COMPONENT: &str = "0.9.2342.19200300.100.1.25";

/// The types that Go's `pkix.Name` has a field for, in the order that it writes them before it reverses
/// everything (seen with nats-server 2.15.2). Of the last two it keeps one value only.
const GO_FIELDS: [&str; 9] = [
    "C",
    "ST",
    "L",
    "STREET",
    "POSTALCODE",
    "O",
    "OU",
    "CN",
    "SERIALNUMBER",
];

/// One relative distinguished name: pairs of type and value, more than one when it is multi-valued.
pub type Rdn = Vec<(String, String)>;

/// The names in a certificate, each list in the order of the certificate. Nothing is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    /// From the subject alternative names, as are `dns` and `uris`.
    pub emails: Vec<String>,
    pub dns: Vec<String>,
    pub uris: Vec<String>,
    /// As encoded: the most general usually comes first, the reverse of RFC 4514's writing.
    pub subject: Vec<Rdn>,
}

impl PeerNames {
    /// Of one certificate, as a TLS peer shows it.
    ///
    /// # Errors
    /// [`InspectError::Der`].
    pub fn from_der(der: &[u8]) -> Result<Self, InspectError> {
        let certificate = parse(der)?;
        let mut names = Self {
            subject: subject(certificate.subject()),
            ..Self::default()
        };
        let alternative = certificate
            .subject_alternative_name()
            .map_err(|error| InspectError::Der(error.to_string()))?;
        for name in alternative
            .iter()
            .flat_map(|found| &found.value.general_names)
        {
            match name {
                GeneralName::RFC822Name(email) => names.emails.push((*email).to_owned()),
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        Ok(names)
    }
}

/// SHA-256 of the SubjectPublicKeyInfo, what `pinned_certs` lists.
///
/// # Errors
/// [`InspectError::Der`].
pub fn spki_sha256(der: &[u8]) -> Result<[u8; 32], InspectError> {
    Ok(Sha256::digest(parse(der)?.public_key().raw).into())
}

/// SHA-256 of the whole certificate.
pub fn cert_sha256(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// The subject as Go's `pkix.Name.String` writes it, which nats-server shows in `/connz`.
///
/// # Errors
/// [`InspectError::Der`].
pub fn subject_text(der: &[u8]) -> Result<String, InspectError> {
    Ok(go_text(&subject(parse(der)?.subject())))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, InspectError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| InspectError::Der(error.to_string()))
}

fn subject(name: &X509Name<'_>) -> Vec<Rdn> {
    let rdn = |rdn: &x509_parser::x509::RelativeDistinguishedName<'_>| {
        rdn.iter()
            .map(|attribute| {
                let oid = attribute.attr_type().to_id_string();
                let short = SHORT_NAMES.iter().find(|(dotted, _)| *dotted == oid);
                let kind = short.map_or(oid.clone(), |(_, short)| (*short).to_owned());
                (kind, text(attribute.attr_value()))
            })
            .collect()
    };
    name.iter().map(rdn).collect()
}

/// A value as text, whatever its string type. What is no string is written as RFC 4514 writes it: `#`
/// and the contents in hexadecimal.
fn text(value: &Any<'_>) -> String {
    let data = value.data;
    match value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString => String::from_utf8(data.to_vec()).ok(),
        // T.61 is long dead; what is found under its name is Latin-1.
        Tag::T61String => Some(data.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => utf16(data),
        Tag::UniversalString => utf32(data),
        _ => None,
    }
    .unwrap_or_else(|| hexadecimal(data))
}

fn utf16(data: &[u8]) -> Option<String> {
    let (units, []) = data.as_chunks::<2>() else {
        return None;
    };
    char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit)))
        .collect::<Result<_, _>>()
        .ok()
}

fn utf32(data: &[u8]) -> Option<String> {
    let (units, []) = data.as_chunks::<4>() else {
        return None;
    };
    let character = |unit: &[u8; 4]| char::from_u32(u32::from_be_bytes(*unit));
    units.iter().map(character).collect()
}

fn hexadecimal(data: &[u8]) -> String {
    let mut text = String::from("#");
    for byte in data {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Go groups the types that it has a field for, several values of one in one RDN, puts all others
/// before them, and writes everything in reverse.
fn go_text(subject: &[Rdn]) -> String {
    let mut rdns: Vec<Vec<(&str, &str)>> = Vec::new();
    let all = || {
        subject
            .iter()
            .flatten()
            .map(|(kind, value)| (&kind[..], &value[..]))
    };
    rdns.extend(
        all()
            .filter(|(kind, _)| !GO_FIELDS.contains(kind))
            .map(|other| vec![other]),
    );
    for field in GO_FIELDS {
        let mut values: Vec<_> = all().filter(|(kind, _)| *kind == field).collect();
        if matches!(field, "CN" | "SERIALNUMBER") {
            values.drain(..values.len().saturating_sub(1));
            values.retain(|(_, value)| !value.is_empty());
        }
        if !values.is_empty() {
            rdns.push(values);
        }
    }
    let rdn = |rdn: &Vec<(&str, &str)>| rdn.iter().map(go_attribute).collect::<Vec<_>>().join("+");
    rdns.iter().rev().map(rdn).collect::<Vec<_>>().join(",")
}

fn go_attribute((kind, value): &(&str, &str)) -> String {
    if GO_FIELDS.contains(kind) {
        return format!("{kind}={}", escaped(value));
    }
    // Go has no name for a domain component.
    let kind = if *kind == "DC" {
        DOMAIN_COMPONENT
    } else {
        kind
    };
    format!("{kind}={}", hexadecimal(&go_der(value)))
}

/// The encoding of a string by Go's `asn1.Marshal`, of whatever type it was in the certificate.
fn go_der(value: &str) -> Vec<u8> {
    let printable = |byte: u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte);
    let tag = if value.bytes().all(printable) {
        Tag::PrintableString
    } else {
        Tag::Utf8String
    };
    let bytes = value.len().to_be_bytes();
    let length = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![u8::try_from(tag.0).expect("universal tags are small")];
    match value.len() {
        short @ 0..128 => der.push(u8::try_from(short).expect("the arm says so")),
        _ => {
            der.push(0x80 | u8::try_from(length.len()).expect("eight at most"));
            der.extend(length);
        }
    }
    der.extend(value.as_bytes());
    der
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, character) in value.char_indices() {
        let escape = match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => at == 0 || at + 1 == value.len(),
            '#' => at == 0,
            _ => false,
        };
        if escape {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem;

    /// Of a certificate made with openssl: IA5, printable, T.61 and BMP strings, types without a name, alternative names of every kind.
    fn der() -> Vec<u8> {
        let text = include_bytes!("../../testdata/subject.pem");
        pem::certificates(text).unwrap()[0].to_vec()
    }

    fn rdns(all: &[&[(&str, &str)]]) -> Vec<Rdn> {
        let rdn = |rdn: &&[(&str, &str)]| {
            let owned = |(kind, value): &(&str, &str)| ((*kind).to_owned(), (*value).to_owned());
            rdn.iter().map(owned).collect()
        };
        all.iter().map(rdn).collect()
    }

    #[test]
    fn names_are_read_whatever_their_string_type() {
        let names = PeerNames::from_der(&der()).unwrap();
        assert_eq!(names.emails, ["a@example.com", "b@example.com"]);
        assert_eq!(names.dns, ["x.example", "y.example"]);
        assert_eq!(names.uris, ["spiffe://td/ns/a"]);
        let expected = rdns(&[
            &[("DC", "com")],
            &[("DC", "example")],
            &[("C", "DE")],
            &[("O", "Acme, Inc")],
            &[("OU", "#one")],
            &[("OU", "two+three")],
            &[("L", "K\u{f6}ln \u{5317}\u{4eac}")],
            &[("CN", "nats.io")],
            &[("0.9.2342.19200300.100.1.1", "u1")],
            &[("1.2.840.113549.1.9.1", "a@b.c")],
            &[("SERIALNUMBER", "77")],
            &[("OU", "last")],
        ]);
        assert_eq!(names.subject, expected);
    }

    /// All three as nats-server 2.15.2 showed them for this certificate in `/connz?auth=1`.
    #[test]
    fn subject_and_fingerprints_are_those_that_nats_server_shows() {
        let hex = |digest: [u8; 32]| hexadecimal(&digest)[1..].to_owned();
        assert_eq!(
            subject_text(&der()).unwrap(),
            "SERIALNUMBER=77,CN=nats.io,OU=\\#one+OU=two\\+three+OU=last,O=Acme\\, Inc,\
             L=K\u{f6}ln \u{5317}\u{4eac},C=DE,1.2.840.113549.1.9.1=#0c056140622e63,\
             0.9.2342.19200300.100.1.1=#13027531,0.9.2342.19200300.100.1.25=#13076578616d706c65,\
             0.9.2342.19200300.100.1.25=#1303636f6d"
        );
        assert_eq!(
            hex(spki_sha256(&der()).unwrap()),
            "68fd31e57a78c11ceb6f6f3d60d51c1f6c0b879eb0cc11b3c8decf9c34258f61"
        );
        assert_eq!(
            hex(cert_sha256(&der())),
            "52edd2d2c150cac3f4660c9ad90404499a58e89c9af3f8f6c365d68b4367e7ef"
        );
    }

    /// Texts as nats-server 2.15.2 showed them.
    #[test]
    fn multi_valued_names_stay_together() {
        let text = include_bytes!("../../testdata/multi-valued.pem");
        let der = pem::certificates(text).unwrap()[0].to_vec();
        let expected = rdns(&[
            &[("DC", "com")],
            &[("OU", "ou"), ("O", "org")],
            &[("SERIALNUMBER", "4"), ("CN", "cn")],
        ]);
        assert_eq!(PeerNames::from_der(&der).unwrap().subject, expected);
        assert_eq!(
            subject_text(&der).unwrap(),
            "SERIALNUMBER=4,CN=cn,OU=ou,O=org,0.9.2342.19200300.100.1.25=#1303636f6d"
        );
    }

    #[test]
    fn go_orders_the_types_and_keeps_the_last_common_name() {
        let subject = rdns(&[
            &[("OU", "ou")],
            &[("SERIALNUMBER", "9")],
            &[("POSTALCODE", "1")],
            &[("STREET", "str")],
            &[("O", "org")],
            &[("L", "loc")],
            &[("ST", "st")],
            &[("CN", "cn")],
            &[("C", "DE")],
            &[("2.5.4.12", "x")],
        ]);
        assert_eq!(
            go_text(&subject),
            "SERIALNUMBER=9,CN=cn,OU=ou,O=org,POSTALCODE=1,STREET=str,L=loc,ST=st,C=DE,\
             2.5.4.12=#130178"
        );
        let subject = rdns(&[
            &[("CN", "a")],
            &[("OU", "b")],
            &[("CN", "c")],
            &[("OU", "d")],
            &[("CN", " x ")],
        ]);
        assert_eq!(go_text(&subject), "CN=\\ x\\ ,OU=b+OU=d");
    }

    #[test]
    fn long_values_have_a_long_length() {
        assert_eq!(go_der(&"a".repeat(127))[..3], [0x13, 127, b'a']);
        assert_eq!(go_der(&"a".repeat(128))[..4], [0x13, 0x81, 128, b'a']);
        assert_eq!(go_der(&"*".repeat(256))[..5], [0x0c, 0x82, 1, 0, b'*']);
    }

    #[test]
    fn damaged_certificates_and_strings_are_no_panic() {
        assert!(PeerNames::from_der(b"").is_err());
        assert!(spki_sha256(&[0x30, 0x82, 0xff]).is_err());
        assert_eq!(utf16(&[0xd8, 0]), None);
        assert_eq!(utf16(&[0]), None);
        assert_eq!(utf32(&[0, 0x11, 0, 0]), None);
    }
}
