//! An authority and leaves in directories, made by the product's own crate.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use certs::{
    authority::{Authority, AuthorityParams},
    key::PrivateKey,
    leaf::LeafRequest,
    profile::Profile,
    reload::TlsFiles,
};
use time::OffsetDateTime;

/// Long enough for every test.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority in a directory, also usable by `stanchion-sidecar --authority-dir`.
#[derive(Debug)]
pub struct Certificates {
    dir: PathBuf,
    authority: Authority,
}

impl Certificates {
    /// Reads the authority of `dir/authority`, or makes it.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let authority = Authority::load_or_create(
            &dir.join("authority"),
            &AuthorityParams::default(),
            OffsetDateTime::now_utc(),
        )
        .context("making an authority")?;
        let dir = dir.to_owned();
        Ok(Self { dir, authority })
    }

    /// Where the authority lies.
    pub fn authority_dir(&self) -> PathBuf {
        self.dir.join("authority")
    }

    /// Certificates that peers are to trust, PEM.
    pub fn bundle_pem(&self) -> &str {
        self.authority.bundle_pem()
    }

    /// Makes a leaf for `localhost` and 127.0.0.1 in a folder called after the common name.
    ///
    /// # Errors
    /// When the name is no common name or the folder cannot be written.
    pub fn grant(&self, common_name: &str, profile: Profile) -> anyhow::Result<TlsFiles> {
        let key = PrivateKey::generate()?;
        let request = LeafRequest {
            profile,
            common_name: common_name.to_owned(),
            dns_names: vec!["localhost".to_owned()],
            ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            uris: Vec::new(),
            lifetime: LIFETIME,
            public_key: key.public_key(),
        };
        let issued = self.authority.issue(&request, OffsetDateTime::now_utc())?;
        let folder = self.dir.join(common_name);
        fs::create_dir_all(&folder)?;
        let files = TlsFiles::in_dir(&folder, profile);
        fs::write(&files.ca, self.bundle_pem())?;
        fs::write(&files.cert, issued.chain_pem)?;
        fs::write(&files.key, key.to_pem().as_bytes())?;
        Ok(files)
    }
}
