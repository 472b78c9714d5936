//! The `tls` block, of clients and of routes.

use broker_proto::conf::{Entry, Value};
use certs::settings::{MinVersion, PairFiles};

use super::{
    super::{HandshakeFirst, draft::TlsDraft, duration},
    Reader,
    value::{Bare, Keys},
};

/// Wait for a handshake where `handshake_first` is `auto` (`server/const.go`).
const AUTO_WAIT: std::time::Duration = std::time::Duration::from_millis(50);

/// Which listener a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Clients,
    Routes,
}

pub(in super::super) const KEYS: Keys = &[
    &["cert_file"],
    &["key_file"],
    &["ca_file"],
    &["certs", "certificates"],
    &["verify"],
    &["verify_and_map"],
    &["verify_cert_and_check_known_urls"],
    &["timeout"],
    &["handshake_first", "first", "immediate"],
    &["connection_rate_limit"],
    &["min_version"],
    &["cipher_suites"],
    &["curve_preferences"],
    &["allow_insecure_cipher_suites"],
    &["pinned_certs"],
    &["insecure"],
    &["ocsp_peer"],
    &["cert_store"],
    &["cert_match_by"],
    &["cert_match"],
    &["ca_certs_match"],
    &["cert_match_skip_invalid"],
];

impl Reader<'_> {
    pub(super) fn tls(&mut self, entry: &Entry, place: Place) -> TlsDraft {
        let mut tls = TlsDraft {
            at: Some(entry.at.clone()),
            wanted: Some(true),
            ..TlsDraft::default()
        };
        if let Some(map) = self.map(entry) {
            for entry in map.entries() {
                if let Some(key) = self.field(entry, KEYS) {
                    self.tls_key(&mut tls, key, entry, place);
                }
            }
        }
        if !tls.certs.is_empty() && !tls.cert_file.is_empty() {
            // Wording of `server/opts.go`.
            let text =
                "error parsing tls config, cannot combine 'cert_file' option with 'certs' option";
            self.problem_at(&entry.at, text);
        }
        tls
    }

    fn tls_key(&mut self, tls: &mut TlsDraft, key: &str, entry: &Entry, place: Place) {
        match key {
            "cert_file" => tls.cert_file = self.text(entry).unwrap_or_default(),
            "key_file" => tls.key_file = self.text(entry).unwrap_or_default(),
            "ca_file" => tls.ca_file = self.text(entry).unwrap_or_default(),
            "certs" => tls.certs = self.pairs(entry),
            "verify" => tls.verify |= self.switch(entry).unwrap_or_default(),
            "verify_and_map" => {
                tls.verify_and_map = self.switch(entry).unwrap_or_default();
                tls.verify |= tls.verify_and_map;
            }
            "timeout" => {
                tls.timeout_nanos = self.nanos(entry, Bare::Seconds).unwrap_or_default();
            }
            "handshake_first" => {
                tls.handshake_first = self.handshake_first(entry);
                self.clients_only(tls.handshake_first != HandshakeFirst::Never, entry, place);
            }
            "connection_rate_limit" => {
                tls.connection_rate_limit = self.number(entry).unwrap_or_default();
                self.clients_only(tls.connection_rate_limit != 0, entry, place);
            }
            "min_version" => tls.min_version = self.min_version(entry),
            "cipher_suites" => tls.cipher_suites = self.names(entry),
            "curve_preferences" => tls.curve_preferences = self.names(entry),
            "allow_insecure_cipher_suites" => {
                tls.allow_insecure_cipher_suites = self.switch(entry).unwrap_or_default();
            }
            "pinned_certs" => tls.pinned_certs = self.pinned_certs(entry),
            "insecure" => {
                tls.insecure = self.switch(entry).unwrap_or_default();
                if tls.insecure && place == Place::Clients {
                    self.warning(
                        entry,
                        "insecure has no effect: it is about outgoing connections",
                    );
                }
            }
            "verify_cert_and_check_known_urls" => {
                if self.switch(entry) == Some(true) {
                    let text = format!("{key} not supported in this context");
                    self.problem(&entry.value, &text);
                }
            }
            _ => self.no_tls_option(entry),
        }
    }

    /// OCSP, and certificate stores of Windows.
    fn no_tls_option(&mut self, entry: &Entry) {
        if entry.value.as_bool() != Some(false) {
            let text = format!("{} cannot be used: it is not supported", entry.key);
            self.problem(&entry.value, &text);
        }
    }

    fn clients_only(&mut self, wanted: bool, entry: &Entry, place: Place) {
        if wanted && place == Place::Routes {
            let text = format!("{} has no effect: it is about clients", entry.key);
            self.warning(entry, &text);
        }
    }

    fn pairs(&mut self, entry: &Entry) -> Vec<PairFiles> {
        let Some(items) = entry.value.as_array() else {
            self.mismatch(entry, "list of maps");
            return Vec::new();
        };
        items.iter().filter_map(|item| self.pair(item)).collect()
    }

    fn pair(&mut self, item: &Value) -> Option<PairFiles> {
        const KEYS: Keys = &[&["cert_file"], &["key_file"]];
        let mut pair = PairFiles::default();
        let Some(map) = item.as_map() else {
            self.problem(
                item,
                "a certificate is expected to be a map with cert_file and key_file",
            );
            return None;
        };
        for entry in map.entries() {
            match self.field(entry, KEYS) {
                Some("cert_file") => pair.cert = self.text(entry)?.into(),
                Some(_) => pair.key = self.text(entry)?.into(),
                None => {}
            }
        }
        if pair.cert.as_os_str().is_empty() || pair.key.as_os_str().is_empty() {
            self.problem(item, "a certificate needs both cert_file and key_file");
            return None;
        }
        Some(pair)
    }

    fn handshake_first(&mut self, entry: &Entry) -> HandshakeFirst {
        if let Some(always) = entry.value.as_bool() {
            return if always {
                HandshakeFirst::Always
            } else {
                HandshakeFirst::Never
            };
        }
        // Not a string only for who leaves the quotes away: 100m is a number to the syntax.
        let Some(text) = entry.value.as_str().or(entry.value.token()) else {
            self.mismatch(entry, "bool or string");
            return HandshakeFirst::Never;
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "on" => HandshakeFirst::Always,
            "false" | "off" => HandshakeFirst::Never,
            "auto" | "auto_fallback" => HandshakeFirst::After(AUTO_WAIT),
            other => match duration::parse(other).map(u64::try_from) {
                Ok(Ok(nanos)) if nanos > 0 => {
                    HandshakeFirst::After(std::time::Duration::from_nanos(nanos))
                }
                _ => {
                    let text = format!("field {:?}'s value {text:?} is invalid", entry.key);
                    self.problem(&entry.value, &text);
                    HandshakeFirst::Never
                }
            },
        }
    }

    fn min_version(&mut self, entry: &Entry) -> MinVersion {
        match entry.value.as_str().or(entry.value.token()) {
            Some("1.2") => MinVersion::Tls12,
            Some("1.3") => MinVersion::Tls13,
            _ => {
                self.problem(&entry.value, "min_version must be \"1.2\" or \"1.3\"");
                MinVersion::Tls12
            }
        }
    }

    /// Names that `certs` knows or not.
    fn names(&mut self, entry: &Entry) -> Vec<String> {
        let names: Vec<_> = self
            .words(entry)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        if entry.value.as_array().is_some_and(<[_]>::is_empty) {
            let text = format!("error parsing tls config, '{}' cannot be empty", entry.key);
            self.problem(&entry.value, &text);
        }
        names
    }

    fn pinned_certs(&mut self, entry: &Entry) -> Vec<[u8; 32]> {
        let mut pins = Vec::new();
        for (text, at) in self.words(entry) {
            match sha256(&text) {
                Some(pin) => pins.push(pin),
                None => {
                    // Wording of `server/opts.go`.
                    let text = format!(
                        "error parsing tls config, 'pinned_certs' key {text} does not look like \
                         hex-encoded sha256 of DER encoded SubjectPublicKeyInfo"
                    );
                    self.problem_at(&at, &text);
                }
            }
        }
        pins
    }
}

/// 64 hexadecimal digits.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits: Vec<u32> = text
        .chars()
        .map(|digit| digit.to_digit(16))
        .collect::<Option<_>>()?;
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(pair[0] << 4 | pair[1]).ok()?;
    }
    Some(bytes)
}
