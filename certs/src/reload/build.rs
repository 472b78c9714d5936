//! The rustls configurations. There is no other way to one, so that settings hold wherever they came
//! from.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    server::{
        NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
};
use time::OffsetDateTime;

use super::{ReloadError, choice::Pairs, files::Contents, slot::Built};
use crate::{
    algorithms::{Algorithms, SettingsError, algorithms},
    inspect::CertificateInfo,
    pins::{AnyServer, PinnedClients, PinnedServers},
    settings::TlsSettings,
};

/// For a listener.
pub(super) fn server(
    settings: &TlsSettings,
    contents: &Contents,
    now: OffsetDateTime,
) -> Result<Built<ServerConfig>, ReloadError> {
    let Algorithms {
        provider, versions, ..
    } = algorithms(settings)?;
    if !settings.verify && !settings.pinned_certs.is_empty() {
        return Err(SettingsError::PinsWithoutVerify.into());
    }
    let (pairs, leaf) = pairs(settings, contents, &provider, now)?;
    if leaf.is_none() {
        return Err(SettingsError::NoPair.into());
    }
    let verifier = client_verifier(settings, contents, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(ReloadError::Config)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(pairs));
    // Keys of this configuration alone. Who resumes is not verified again, so a ticket must not
    // outlive the authorities and pins that it was given under, nor be good at another listener
    // (CVE-2025-68121). All state is in the ticket: connections that come and go leave nothing here.
    config.ticketer = Ticketer::new().map_err(ReloadError::Config)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A client resumes a connection that it lost; two tickets would be for two at once, and each
    // costs an encryption and the client's chain on the wire.
    config.send_tls13_tickets = 1;
    // Clients of most libraries offer AES-256 first without meaning it.
    config.ignore_client_order = true;
    // Records of up to 16 KiB, as large as they may be: what has to be written is encrypted at once
    // and not kept, so smaller ones would save no memory and cost a tag and a call each.
    config.max_fragment_size = None;
    Ok(Built { config, leaf })
}

/// For outgoing connections.
pub(super) fn client(
    settings: &TlsSettings,
    contents: &Contents,
    now: OffsetDateTime,
) -> Result<Built<ClientConfig>, ReloadError> {
    let Algorithms {
        provider, versions, ..
    } = algorithms(settings)?;
    let (pairs, leaf) = pairs(settings, contents, &provider, now)?;
    let verifier = server_verifier(settings, contents, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(ReloadError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = if leaf.is_some() {
        builder.with_client_cert_resolver(Arc::new(pairs))
    } else {
        builder.with_no_client_auth()
    };
    // Outgoing connections are few and long. A whole handshake verifies the other end every time.
    config.resumption = Resumption::disabled();
    Ok(Built { config, leaf })
}

fn pairs(
    settings: &TlsSettings,
    contents: &Contents,
    provider: &CryptoProvider,
    now: OffsetDateTime,
) -> Result<(Pairs, Option<CertificateInfo>), ReloadError> {
    let (pairs, leaves): (Vec<_>, Vec<_>) =
        contents.pairs(settings, provider, now)?.into_iter().unzip();
    Ok((Pairs(pairs), leaves.into_iter().next()))
}

fn client_verifier(
    settings: &TlsSettings,
    contents: &Contents,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ReloadError> {
    if !settings.verify {
        return Ok(Arc::new(NoClientAuth));
    }
    let roots = Arc::new(contents.roots(settings)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if settings.ca_file.is_none() {
        // The names of all authorities of the system would be kilobytes in every handshake.
        builder = builder.clear_root_hint_subjects();
    }
    let inner = builder.build().map_err(ReloadError::Verifier)?;
    if settings.pinned_certs.is_empty() {
        return Ok(inner);
    }
    let pins = settings.pinned_certs.clone();
    Ok(Arc::new(PinnedClients { inner, pins }))
}

fn server_verifier(
    settings: &TlsSettings,
    contents: &Contents,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ReloadError> {
    let inner: Arc<dyn ServerCertVerifier> = if settings.insecure {
        let provider = Arc::clone(provider);
        Arc::new(AnyServer { provider })
    } else {
        let roots = Arc::new(contents.roots(settings)?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(ReloadError::Verifier)?
    };
    if settings.pinned_certs.is_empty() {
        return Ok(inner);
    }
    let pins = settings.pinned_certs.clone();
    Ok(Arc::new(PinnedServers { inner, pins }))
}
