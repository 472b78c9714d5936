//! Reading certificates: what a program needs to know about one that it holds or was shown.

mod peer;

use std::{fmt::Write as _, net::IpAddr};

use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{
    key::PrivateKey,
    pem::{self, PemError},
};

pub use peer::{PeerNames, Rdn, cert_sha256, spki_sha256, subject_text};

/// Why a certificate cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Not PEM, or no certificate in it.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Damaged DER.
    #[error("malformed certificate: {0}")]
    Der(String),
}

/// The parts of a certificate that decisions are made on. Nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Serial number in lower-case hexadecimal, two digits a byte, without a leading zero byte.
    pub serial_hex: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// First common name of the subject, empty when there is none.
    pub common_name: String,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub uris: Vec<String>,
    /// The basic constraints allow it to sign certificates.
    pub is_authority: bool,
    /// Extended key usage: may be shown by a server. Also true when the extension is absent.
    pub server_auth: bool,
    /// Extended key usage: may be shown by a client. Also true when the extension is absent.
    pub client_auth: bool,
    spki: Vec<u8>,
}

impl CertificateInfo {
    /// The first certificate of a PEM text: of a chain, the leaf.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn from_pem(text: &str) -> Result<Self, InspectError> {
        let all = pem::certificates(text.as_bytes())?;
        Self::from_der(&all[0])
    }

    /// One certificate, as a TLS peer shows it.
    ///
    /// # Errors
    /// [`InspectError::Der`].
    pub fn from_der(der: &[u8]) -> Result<Self, InspectError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| InspectError::Der(error.to_string()))?;
        let malformed = |error: x509_parser::error::X509Error| InspectError::Der(error.to_string());
        let mut info = Self {
            serial_hex: hex(certificate.raw_serial()),
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            common_name: String::new(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            is_authority: certificate.is_ca(),
            server_auth: true,
            client_auth: true,
            spki: certificate.public_key().raw.to_vec(),
        };
        if let Some(name) = certificate.subject().iter_common_name().next() {
            info.common_name = name.as_str().unwrap_or_default().to_owned();
        }
        if let Some(usage) = certificate.extended_key_usage().map_err(malformed)? {
            info.server_auth = usage.value.any || usage.value.server_auth;
            info.client_auth = usage.value.any || usage.value.client_auth;
        }
        if let Some(names) = certificate.subject_alternative_name().map_err(malformed)? {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => info.dns_names.push((*name).to_owned()),
                    GeneralName::URI(uri) => info.uris.push((*uri).to_owned()),
                    GeneralName::IPAddress(bytes) => info.ip_addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        Ok(info)
    }

    /// Whether the certificate is for this key.
    pub fn matches_key(&self, key: &PrivateKey) -> bool {
        self.spki == key.public_key().to_spki()
    }
}

/// Serial numbers as this product prints them; DER's leading zero byte (a sign) is not a digit.
pub(crate) fn hex(serial: &[u8]) -> String {
    let serial = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let mut text = String::with_capacity(serial.len() * 2);
    for byte in serial {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Four bytes or sixteen (RFC 5280, section 4.2.1.6); anything else is no address.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_drops_the_sign_byte_only() {
        assert_eq!(hex(&[0, 0x80, 1]), "8001");
        assert_eq!(hex(&[0]), "00");
        assert_eq!(hex(&[0x7f, 0]), "7f00");
    }

    #[test]
    fn damaged_input_is_an_error() {
        assert!(CertificateInfo::from_pem("").is_err());
        assert!(CertificateInfo::from_der(&[0x30, 0x82, 0xff]).is_err());
    }
}
