//! From the names of cipher suites and curves that operators write, which are Go's, to what the
//! crypto provider has.
//!
//! The provider has authenticated encryption with ephemeral keys only. Names of anything else are
//! known, so that a configuration from another server is understood: they are dropped with a warning
//! while something is left to offer.

use std::sync::Arc;

use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{cipher_suite as suite, kx_group as kx},
    },
    version::{TLS12, TLS13},
};

use crate::{
    provider::provider,
    settings::{MinVersion, TlsSettings},
};

/// Settings that cannot become a configuration, whatever the files hold. The operator must change them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("unknown cipher suite {name:?}, the nearest is {nearest:?}")]
    UnknownSuite { name: String, nearest: &'static str },
    /// Go has these on its list of insecure suites.
    #[error("insecure cipher suites without allow_insecure_cipher_suites: {}", names.join(", "))]
    InsecureSuites { names: Vec<String> },
    /// Known and unsupported, and nothing else is named.
    #[error("none of the cipher suites is supported: {}", names.join(", "))]
    NoSuite { names: Vec<String> },
    #[error("unknown curve {name:?}, the nearest is {nearest:?}")]
    UnknownCurve { name: String, nearest: &'static str },
    #[error("none of the curves is supported: {}", names.join(", "))]
    NoCurve { names: Vec<String> },
    /// Nobody would be asked for the certificate that is compared.
    #[error("pinned certificates of a listener need verify")]
    PinsWithoutVerify,
    #[error("a listener needs a certificate and its key")]
    NoPair,
}

/// What a name stands for.
enum Meaning<T> {
    Offered(T),
    /// Not in the provider.
    Unsupported,
    /// Not in the provider, and only to be written with `allow_insecure_cipher_suites`.
    Insecure,
}

type Names<T> = &'static [(&'static str, Meaning<T>)];

/// `tls.CipherSuites()` and `tls.InsecureCipherSuites()` of Go, which nats-server looks names up in.
static SUITES: Names<SupportedCipherSuite> = {
    use Meaning::{Insecure, Offered, Unsupported};
    &[
        (
            "TLS_AES_128_GCM_SHA256",
            Offered(suite::TLS13_AES_128_GCM_SHA256),
        ),
        (
            "TLS_AES_256_GCM_SHA384",
            Offered(suite::TLS13_AES_256_GCM_SHA384),
        ),
        (
            "TLS_CHACHA20_POLY1305_SHA256",
            Offered(suite::TLS13_CHACHA20_POLY1305_SHA256),
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Offered(suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            Offered(suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            Offered(suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        ),
        (
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            Offered(suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ),
        (
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            Offered(suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ),
        (
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            Offered(suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
        ),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Unsupported),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Unsupported),
        ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Unsupported),
        ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Unsupported),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", Insecure),
        ("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", Insecure),
        ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", Insecure),
        ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", Insecure),
        ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", Insecure),
        ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", Insecure),
        ("TLS_RSA_WITH_AES_128_CBC_SHA", Insecure),
        ("TLS_RSA_WITH_AES_128_CBC_SHA256", Insecure),
        ("TLS_RSA_WITH_AES_128_GCM_SHA256", Insecure),
        ("TLS_RSA_WITH_AES_256_CBC_SHA", Insecure),
        ("TLS_RSA_WITH_AES_256_GCM_SHA384", Insecure),
        ("TLS_RSA_WITH_RC4_128_SHA", Insecure),
    ]
};

/// The curves that nats-server 2.15 knows.
static CURVES: Names<&'static dyn SupportedKxGroup> = {
    use Meaning::{Offered, Unsupported};
    &[
        ("X25519MLKEM768", Offered(kx::X25519MLKEM768)),
        ("X25519", Offered(kx::X25519)),
        ("CurveP256", Offered(kx::SECP256R1)),
        ("CurveP384", Offered(kx::SECP384R1)),
        ("SecP256r1MLKEM768", Offered(kx::SECP256R1MLKEM768)),
        ("CurveP521", Unsupported),
        ("SecP384r1MLKEM1024", Unsupported),
    ]
};

/// Ours, without `curve_preferences`: what was recorded today must not be readable once there are
/// quantum computers. A server goes by the order of the client, so this is what we ask for as one.
static DEFAULT_CURVES: [&'static dyn SupportedKxGroup; 4] =
    [kx::X25519MLKEM768, kx::X25519, kx::SECP256R1, kx::SECP384R1];

static FROM_TLS12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static FROM_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// What settings come to, apart from files.
pub(crate) struct Algorithms {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    /// Names that have no effect.
    pub(crate) dropped: Vec<String>,
}

impl TlsSettings {
    /// Whether the names can be taken, without a look at any file; for the check of a configuration.
    /// Gives back those that have no effect, to warn of.
    ///
    /// # Errors
    /// [`SettingsError`], but for what depends on which end the settings are for.
    pub fn check_algorithms(&self) -> Result<Vec<String>, SettingsError> {
        algorithms(self).map(|found| found.dropped)
    }
}

/// Reads the names.
pub(crate) fn algorithms(settings: &TlsSettings) -> Result<Algorithms, SettingsError> {
    let mut provider = CryptoProvider::clone(&provider());
    let mut dropped = Vec::new();
    if !settings.cipher_suites.is_empty() {
        provider.cipher_suites = suites(settings, &mut dropped)?;
    }
    provider.kx_groups = curves(settings, &mut dropped)?;
    Ok(Algorithms {
        provider: Arc::new(provider),
        versions: match settings.min_version {
            MinVersion::Tls12 => FROM_TLS12,
            MinVersion::Tls13 => FROM_TLS13,
        },
        dropped,
    })
}

fn suites(
    settings: &TlsSettings,
    dropped: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, SettingsError> {
    let mut suites = Vec::new();
    let mut insecure = Vec::new();
    for name in &settings.cipher_suites {
        match meaning(SUITES, name) {
            Ok(Meaning::Offered(suite)) => suites.push(*suite),
            Ok(Meaning::Unsupported) => dropped.push(name.clone()),
            Ok(Meaning::Insecure) if settings.allow_insecure_cipher_suites => {
                dropped.push(name.clone());
            }
            Ok(Meaning::Insecure) => insecure.push(name.clone()),
            Err(nearest) => {
                return Err(SettingsError::UnknownSuite {
                    name: name.clone(),
                    nearest,
                });
            }
        }
    }
    if !insecure.is_empty() {
        return Err(SettingsError::InsecureSuites { names: insecure });
    }
    if suites.is_empty() {
        return Err(SettingsError::NoSuite {
            names: settings.cipher_suites.clone(),
        });
    }
    // Go's setting is about TLS 1.2, and 1.3 stays as it is. Whoever does name suites of 1.3 means it.
    if !suites.iter().any(|suite| suite.tls13().is_some()) {
        let all = provider();
        suites.extend(all.cipher_suites.iter().filter(|s| s.tls13().is_some()));
    }
    Ok(suites)
}

fn curves(
    settings: &TlsSettings,
    dropped: &mut Vec<String>,
) -> Result<Vec<&'static dyn SupportedKxGroup>, SettingsError> {
    if settings.curve_preferences.is_empty() {
        return Ok(DEFAULT_CURVES.to_vec());
    }
    let mut curves = Vec::new();
    for name in &settings.curve_preferences {
        match meaning(CURVES, name) {
            Ok(Meaning::Offered(curve)) => curves.push(*curve),
            Ok(Meaning::Unsupported | Meaning::Insecure) => dropped.push(name.clone()),
            Err(nearest) => {
                return Err(SettingsError::UnknownCurve {
                    name: name.clone(),
                    nearest,
                });
            }
        }
    }
    if curves.is_empty() {
        return Err(SettingsError::NoCurve {
            names: settings.curve_preferences.clone(),
        });
    }
    Ok(curves)
}

/// Names are compared exactly, as nats-server does; for an unknown one, the nearest.
fn meaning<T>(names: Names<T>, name: &str) -> Result<&'static Meaning<T>, &'static str> {
    names
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, meaning)| meaning)
        .ok_or_else(|| {
            let upper = name.to_uppercase();
            names
                .iter()
                .map(|(known, _)| *known)
                .min_by_key(|known| {
                    let known = known.to_uppercase();
                    let distance = strsim::damerau_levenshtein(&known, &upper);
                    (!known.contains(&upper), distance)
                })
                .expect("there are names")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(suites: &[&str], curves: &[&str], insecure: bool) -> Result<Vec<String>, String> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let settings = TlsSettings {
            cipher_suites: owned(suites),
            curve_preferences: owned(curves),
            allow_insecure_cipher_suites: insecure,
            ..TlsSettings::default()
        };
        settings
            .check_algorithms()
            .map_err(|error| error.to_string())
    }

    const GOOD: &str = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    const CBC: &str = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA";
    const STATIC_RSA: &str = "TLS_RSA_WITH_AES_128_GCM_SHA256";

    #[test]
    fn names_without_effect_are_told_while_one_has_some() {
        assert_eq!(check(&[], &[], false), Ok(vec![]));
        assert_eq!(check(&[GOOD, CBC], &["CurveP521", "X25519"], false), {
            Ok(vec![CBC.to_owned(), "CurveP521".to_owned()])
        });
        let error = check(&[CBC], &[], false).unwrap_err();
        assert!(error.contains(CBC), "{error}");
        let error = check(&[], &["CurveP521"], false).unwrap_err();
        assert!(error.contains("CurveP521"), "{error}");
    }

    #[test]
    fn insecure_names_need_their_permission_and_stay_without_effect() {
        let error = check(&[GOOD, STATIC_RSA], &[], false).unwrap_err();
        assert!(
            error.contains(STATIC_RSA) && !error.contains(GOOD),
            "{error}"
        );
        assert_eq!(
            check(&[GOOD, STATIC_RSA], &[], true),
            Ok(vec![STATIC_RSA.to_owned()])
        );
        let error = check(&[STATIC_RSA], &[], true).unwrap_err();
        assert!(error.contains(STATIC_RSA), "{error}");
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        for (suite, nearest) in [
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265", GOOD),
            ("tls_aes_128_gcm_sha256", "TLS_AES_128_GCM_SHA256"),
        ] {
            let error = check(&[suite], &[], true).unwrap_err();
            assert!(error.contains(suite) && error.contains(nearest), "{error}");
        }
        let error = check(&[], &["P256"], false).unwrap_err();
        assert!(error.contains("CurveP256"), "{error}");
    }

    #[test]
    fn every_suite_of_the_provider_has_its_name() {
        let named: Vec<_> = SUITES
            .iter()
            .filter_map(|(_, meaning)| match meaning {
                Meaning::Offered(suite) => Some(*suite),
                Meaning::Unsupported | Meaning::Insecure => None,
            })
            .collect();
        for suite in &provider().cipher_suites {
            assert!(named.contains(suite), "{suite:?}");
        }
        assert_eq!(named.len(), provider().cipher_suites.len());
    }
}
