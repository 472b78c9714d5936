//! TLS of a listener: one way for blocks and for flags.

use std::time::Duration;

use certs::settings::{PairFiles, TlsSettings};

use super::{
    super::{HandshakeFirst, TlsListener, draft::TlsDraft},
    Problems, path,
};

/// For the handshake, where none is given (`server/const.go`).
const TIMEOUT: Duration = Duration::from_secs(2);

/// Whose listener it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Clients,
    Routes,
}

/// None: no TLS.
pub(super) fn listener(tls: &TlsDraft, of: Of, problems: &mut Problems<'_>) -> Option<TlsListener> {
    let implied = tls.verify || !tls.cert_file.is_empty();
    if !tls.wanted.unwrap_or(implied) {
        return None;
    }
    // Routes are served and dialled with the same certificate, and checked in both directions.
    let verify = tls.verify || of == Of::Routes;
    let ca_file = path(&tls.ca_file);
    if verify && ca_file.is_none() {
        missing(tls, of, "tlscacert", "ca_file", problems);
    }
    if tls.verify_and_map && of == Of::Routes {
        let text = "verify_and_map cannot be used: routes are known by user and password";
        problems.add_at(tls.at.as_ref(), text);
    }
    let timeout = match tls.timeout_nanos {
        0 => TIMEOUT,
        nanos => problems.span("tls timeout", nanos),
    };
    let rate = u32::try_from(tls.connection_rate_limit.max(0));
    if rate.is_err() {
        let text = "connection_rate_limit value is too big";
        problems.add_at(tls.at.as_ref(), text);
    }
    Some(TlsListener {
        settings: TlsSettings {
            pairs: pairs(tls, of, problems),
            ca_file,
            verify,
            min_version: tls.min_version,
            cipher_suites: tls.cipher_suites.clone(),
            curve_preferences: tls.curve_preferences.clone(),
            allow_insecure_cipher_suites: tls.allow_insecure_cipher_suites,
            pinned_certs: tls.pinned_certs.clone(),
            insecure: tls.insecure && of == Of::Routes,
        },
        timeout,
        handshake_first: match of {
            Of::Clients => tls.handshake_first,
            Of::Routes => HandshakeFirst::Never,
        },
        map_certificates: tls.verify_and_map,
        connection_rate_limit: rate.ok().filter(|rate| *rate > 0 && of == Of::Clients),
    })
}

fn pairs(tls: &TlsDraft, of: Of, problems: &mut Problems<'_>) -> Vec<PairFiles> {
    if !tls.certs.is_empty() && tls.cert_file.is_empty() {
        return tls.certs.clone();
    }
    let (cert, key) = (path(&tls.cert_file), path(&tls.key_file));
    if cert.is_none() {
        missing(tls, of, "tlscert", "cert_file", problems);
    } else if key.is_none() {
        missing(tls, of, "tlskey", "key_file", problems);
    }
    let pair = cert.zip(key).map(|(cert, key)| PairFiles { cert, key });
    pair.into_iter().collect()
}

fn missing(tls: &TlsDraft, of: Of, flag: &str, key: &str, problems: &mut Problems<'_>) {
    let text = match of {
        Of::Clients => format!("TLS for clients needs -{flag} ({key} in the tls block)"),
        Of::Routes => format!("TLS for routes needs {key} in the tls block of cluster"),
    };
    problems.add_at(tls.at.as_ref(), &text);
}
