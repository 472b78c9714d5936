//! Users bring keys of any kind and in any encoding.

use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
};
use x509_parser::der_parser::parse_der;

use super::*;
use crate::{key::PublicKey, pem};

/// What PKCS#8 wraps: PKCS#1 of an RSA key, SEC1 of one of a curve (RFC 5208, section 5).
fn unwrapped(pkcs8: &[u8]) -> Vec<u8> {
    let (_, outer) = parse_der(pkcs8).unwrap();
    outer.as_sequence().unwrap()[2].as_slice().unwrap().to_vec()
}

#[test]
fn keys_of_every_kind_and_encoding_serve() {
    let ca = authority();
    let rsa = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let of = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    for (pair, label) in [
        (rsa(), "PRIVATE KEY"),
        (rsa(), "RSA PRIVATE KEY"),
        (of(&PKCS_ECDSA_P256_SHA256), "EC PRIVATE KEY"),
        (of(&PKCS_ECDSA_P384_SHA384), "PRIVATE KEY"),
        (of(&PKCS_ECDSA_P384_SHA384), "EC PRIVATE KEY"),
        (of(&PKCS_ECDSA_P521_SHA512), "PRIVATE KEY"),
        (of(&PKCS_ED25519), "PRIVATE KEY"),
    ] {
        let pkcs8 = pair.serialize_der();
        let der = match label {
            "PRIVATE KEY" => pkcs8,
            _ => unwrapped(&pkcs8),
        };
        let request = LeafRequest {
            profile: Profile::Server,
            common_name: "any".to_owned(),
            dns_names: vec![NAME.to_owned()],
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            lifetime: Duration::from_secs(600),
            public_key: PublicKey::from_spki(&pair.subject_public_key_info()).unwrap(),
        };
        let issued = ca.issue(&request, OffsetDateTime::now_utc()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles::in_dir(dir.path(), Profile::Server);
        fs::write(&files.cert, issued.chain_pem).unwrap();
        fs::write(&files.key, pem::encode(label, &der).as_bytes()).unwrap();
        fs::write(&files.ca, ca.bundle_pem()).unwrap();
        let kind = format!("{:?} in {label}", pair.algorithm());
        let client = ClientTls::load(TlsSettings::trusting(files.ca.clone())).unwrap();
        let server = ServerTls::load(files.server());
        let server = server.unwrap_or_else(|error| panic!("{kind}: {error}"));
        let shown = handshake(client.current(), server.current(), NAME);
        let shown = shown.unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(shown.0, issued.serial_hex, "{kind}");
    }
}
