//! PEM armour (RFC 7468): sections in and out, with buffers of private keys zeroed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{
    CertificateDer,
    pem::{self, PemObject, SectionKind},
};
use zeroize::Zeroizing;

/// Bytes of base64 in a line (RFC 7468, section 2).
const LINE: usize = 64;

/// Why a text is not the PEM that was expected.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The armour itself is broken.
    #[error("malformed PEM: {0}")]
    Malformed(String),
    /// No section of the wanted kind.
    #[error("no {0} section found")]
    Missing(&'static str),
}

/// One section. Zeroed on drop, as it may hold a key.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let lines = body.len().div_ceil(LINE);
    // Room for everything, so that no partial copy of a key is left behind by a reallocation.
    let mut text = Zeroizing::new(String::with_capacity(
        body.len() + lines + 2 * label.len() + 40,
    ));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// A certificate as text.
pub(crate) fn certificate(der: &[u8]) -> String {
    encode("CERTIFICATE", der).to_string()
}

/// All certificates of a text, at least one; sections of other kinds are passed over.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(malformed)?;
    if all.is_empty() {
        return Err(PemError::Missing("CERTIFICATE"));
    }
    Ok(all)
}

/// The first section of one kind, for the kinds that hold no key.
pub(crate) fn section(
    text: &[u8],
    kind: SectionKind,
    label: &'static str,
) -> Result<Vec<u8>, PemError> {
    let mut rest = text;
    loop {
        match pem::from_buf(&mut rest).map_err(malformed)? {
            Some((found, der)) if found == kind => return Ok(der),
            Some((_, der)) => drop(Zeroizing::new(der)),
            None => return Err(PemError::Missing(label)),
        }
    }
}

/// The library's errors tell which part of the armour is broken and quote only labels.
fn malformed(error: pem::Error) -> PemError {
    match error {
        // These quote what was read, which may be a line of a key.
        pem::Error::Base64Decode(_) => PemError::Malformed("the base64 is invalid".to_owned()),
        pem::Error::IllegalSectionStart { .. } | pem::Error::MissingSectionEnd { .. } => {
            PemError::Malformed("a section does not begin or end properly".to_owned())
        }
        other => PemError::Malformed(other.to_string()),
    }
}
