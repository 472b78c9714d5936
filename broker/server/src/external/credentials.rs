//! Who we are to a NATS server. Files are read for every connection, so that they may be replaced.

use std::{fs, io, path::Path};

use broker_core::auth::{
    settings::Secret,
    signer::{BadSeed, Signer},
};
use broker_proto::upstream::{UpstreamConnect, UpstreamInfo};

use crate::config::{ExternalLogin, ExternalNats, NatsServer};

/// Credentials cannot be used. No message shows what they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("unable to read {path}")]
    Unreadable {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("no seed of a user's nkey in {path}")]
    NoSeed { path: String },
    #[error("no user JWT in {path}")]
    NoJwt { path: String },
    #[error("the seed in {path} cannot be used")]
    Seed {
        path: String,
        #[source]
        source: BadSeed,
    },
}

/// What `CONNECT` shows.
#[derive(Default)]
pub(super) struct Credentials {
    user: String,
    password: Secret,
    token: Secret,
    jwt: Secret,
    signer: Option<Signer>,
}

impl Credentials {
    /// For one server. What its URL names wins over user, password and token, as with the reference's
    /// client (`connectProto`).
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub(super) fn load(
        settings: &ExternalNats,
        server: &NatsServer,
    ) -> Result<Self, CredentialsError> {
        let login = server.login.as_ref().unwrap_or(&settings.login);
        let ExternalLogin {
            user,
            password,
            token,
        } = login.clone();
        let mut credentials = Self {
            user,
            password,
            token,
            ..Self::default()
        };
        if let Some(path) = &settings.credentials {
            let (text, name) = read(path)?;
            let jwt = block(text.expose(), "JWT");
            let jwt = jwt.ok_or_else(|| CredentialsError::NoJwt { path: name.clone() })?;
            credentials.jwt = Secret::new(jwt.to_owned());
            credentials.signer = Some(signer(&text, name)?);
        }
        if let Some(path) = &settings.nkey_seed_file {
            let (text, name) = read(path)?;
            credentials.signer = Some(signer(&text, name)?);
        }
        Ok(credentials)
    }

    /// The `CONNECT` line, answering what the server's `INFO` asks for.
    pub(super) fn connect_line(&self, name: &str, info: &UpstreamInfo, tls: bool) -> Vec<u8> {
        let nonce = info.nonce.as_bytes();
        let signer = self.signer.as_ref().filter(|_| !nonce.is_empty());
        let signature = signer.map(|signer| signer.sign(nonce)).unwrap_or_default();
        let is_plain_key = self.jwt.is_empty();
        UpstreamConnect {
            tls_required: tls,
            protocol: 1,
            headers: true,
            no_responders: true,
            // As on the embedded core, what is published reaches whoever listens.
            echo: true,
            name,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            user: &self.user,
            pass: self.password.expose(),
            auth_token: self.token.expose(),
            jwt: self.jwt.expose(),
            nkey: signer.filter(|_| is_plain_key).map_or("", Signer::public),
            sig: &signature,
            ..UpstreamConnect::default()
        }
        .to_line()
    }
}

fn read(path: &Path) -> Result<(Secret, String), CredentialsError> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok((Secret::new(text), name)),
        Err(source) => Err(CredentialsError::Unreadable { path: name, source }),
    }
}

/// The seed stands by itself or between the marks of a credentials file.
fn signer(text: &Secret, path: String) -> Result<Signer, CredentialsError> {
    let lines = text.expose().lines().map(str::trim);
    let Some(seed) = lines.into_iter().find(|line| line.starts_with("SU")) else {
        return Err(CredentialsError::NoSeed { path });
    };
    Signer::from_seed(seed).map_err(|source| CredentialsError::Seed { path, source })
}

/// The line behind the mark that names `what`: `-----BEGIN NATS USER JWT-----`.
fn block<'a>(text: &'a str, what: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(what))?;
    lines.find(|line| !line.is_empty() && !line.starts_with("---"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

    fn settings() -> ExternalNats {
        ExternalNats {
            login: ExternalLogin {
                user: "u".into(),
                password: Secret::new("p".into()),
                token: Secret::default(),
            },
            ..ExternalNats::default()
        }
    }

    fn shown(settings: &ExternalNats, server: &NatsServer) -> serde_json::Value {
        let info = UpstreamInfo {
            nonce: "n".into(),
            ..UpstreamInfo::default()
        };
        let credentials = Credentials::load(settings, server).unwrap();
        let line = credentials.connect_line("name", &info, false);
        serde_json::from_slice(line.strip_prefix(b"CONNECT ").unwrap()).unwrap()
    }

    #[test]
    fn a_url_wins_over_the_settings() {
        let mut server = NatsServer::default();
        assert_eq!(shown(&settings(), &server)["user"], "u");
        server.login = Some(ExternalLogin {
            token: Secret::new("t".into()),
            ..ExternalLogin::default()
        });
        let shown = shown(&settings(), &server);
        assert_eq!(
            (&shown["auth_token"], &shown["user"]),
            (&"t".into(), &().into())
        );
    }

    #[test]
    fn files_show_a_key_or_a_jwt_and_sign_the_nonce() {
        let dir = tempfile::tempdir().unwrap();
        let (seed, creds) = (dir.path().join("seed"), dir.path().join("creds"));
        fs::write(&seed, format!("# a comment\n{SEED}\n")).unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\nabc.def\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
        );
        fs::write(&creds, text).unwrap();
        let by_key = ExternalNats {
            nkey_seed_file: Some(seed.clone()),
            ..ExternalNats::default()
        };
        let by_key = shown(&by_key, &NatsServer::default());
        let by_jwt = ExternalNats {
            credentials: Some(creds),
            ..ExternalNats::default()
        };
        let by_jwt = shown(&by_jwt, &NatsServer::default());
        assert!(by_key["nkey"].as_str().unwrap().starts_with("UDXU"));
        assert_eq!(
            (&by_jwt["jwt"], &by_jwt["nkey"]),
            (&"abc.def".into(), &().into())
        );
        assert_eq!(by_key["sig"], by_jwt["sig"]);

        fs::write(&seed, "nothing").unwrap();
        let broken = ExternalNats {
            nkey_seed_file: Some(seed),
            ..ExternalNats::default()
        };
        let error = Credentials::load(&broken, &NatsServer::default());
        assert!(matches!(error, Err(CredentialsError::NoSeed { .. })));
    }
}
