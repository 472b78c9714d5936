//! External NATS servers instead of the embedded one.

use broker_core::auth::settings::Secret;
use certs::settings::{PairFiles, TlsSettings};

use super::{
    super::{
        ExternalLogin, ExternalNats,
        draft::{Draft, ExternalDraft},
        url,
    },
    Problems, path, text,
};

/// None: the embedded server.
pub(super) fn settings(draft: &Draft, problems: &mut Problems<'_>) -> Option<ExternalNats> {
    let external = &draft.external;
    if draft.streaming == Some(false) {
        return None;
    }
    if external.url.is_empty() {
        if *external != ExternalDraft::default() {
            let text = "what is said of connections to an external NATS server has no effect: \
                        there is no nats_server";
            problems.warnings.push(text.to_owned());
        }
        return None;
    }
    ignored(draft, problems);
    let servers = url::external(external.url.expose());
    let servers = servers.unwrap_or_else(|problem| {
        problems.about("ns", format_args!("nats_server: {problem}"));
        Vec::new()
    });
    // What the command line and the NATS part of a file say wins over the streaming block, each by itself, as
    // with the reference (`createNatsClientConn`).
    let auth = &draft.auth;
    let first = |one: &str, other: &str| if one.is_empty() { other } else { one }.to_owned();
    let first_secret =
        |one: &Secret, other: &Secret| if one.is_empty() { other } else { one }.clone();
    let tls = tls(external, problems);
    Some(ExternalNats {
        servers,
        login: ExternalLogin {
            user: first(&auth.user, &external.user),
            password: first_secret(&auth.password, &external.password),
            token: first_secret(&auth.token, &external.token),
        },
        credentials: path(&external.credentials),
        nkey_seed_file: path(&external.nkey_seed_file),
        wants_tls: external.secure
            || tls != TlsSettings::default()
            || !external.server_name.is_empty(),
        tls,
        tls_server_name: text(&external.server_name),
    })
}

fn tls(external: &ExternalDraft, problems: &mut Problems<'_>) -> TlsSettings {
    let (cert, key) = (path(&external.client_cert), path(&external.client_key));
    if cert.is_some() != key.is_some() {
        problems.add("tls_client_cert and tls_client_key belong together");
    }
    let pair = cert.zip(key).map(|(cert, key)| PairFiles { cert, key });
    TlsSettings {
        pairs: pair.into_iter().collect(),
        ca_file: path(&external.client_ca),
        insecure: external.skip_verify,
        ..TlsSettings::default()
    }
}

/// There is no NATS server in this process.
fn ignored(draft: &Draft, problems: &mut Problems<'_>) {
    let auth = &draft.auth;
    let cluster = &draft.cluster;
    let routes =
        cluster.at.is_some() || cluster.listen_flag.is_some() || cluster.routes_flag.is_some();
    for (is_given, what) in [
        (draft.client.port != 0, "the port for clients"),
        (routes, "cluster"),
        (!auth.users.is_empty(), "users"),
    ] {
        if is_given {
            problems
                .warnings
                .push(format!("{what} has no effect: the NATS server is external"));
        }
    }
}
