//! Files appear together or not at all.
//!
//! The layout is the kubelet's, so that whatever follows a mounted Secret follows us:
//!
//! ```text
//! server.pem -> ..data/server.pem        one link a file, made once
//! ..data -> ..20261122T175000.123-9f3c   swapped by rename
//! ..20261122T175000.123-9f3c/            a generation: key, chain, bundle, meta.json
//! ```
//!
//! A reader that wants a pair for certain reads the link `..data` once and opens both files below its
//! target. For its sake the generation before the current one stays until the next publication.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use certs::{inspect::CertificateInfo, key::PrivateKey, profile::Profile};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// The link that is swapped.
const DATA: &str = "..data";
/// The new link before it takes the place of the old.
const DATA_NEW: &str = "..data_tmp";
/// Name of the description of a generation.
pub const META: &str = "meta.json";

/// Why nothing was published; the generation before stays in place.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {action} failed", path = path.display())]
pub struct PublishError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What belongs together.
#[derive(Debug)]
pub struct Material {
    pub key: PrivateKey,
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM, everything that peers are verified against.
    pub bundle_pem: String,
    pub leaf: CertificateInfo,
}

/// What `meta.json` says about a generation. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub serial: String,
    pub not_before: String,
    pub not_after: String,
    /// Counts publications in the directory, from 1.
    pub generation: u64,
}

/// Writes a new generation into `dir`, which is made if need be, and swaps it in. Keys are for their
/// owner (0600), or also for `group` (0640). Returns the number of the generation.
///
/// One writer a directory: two would remove each other's generations.
///
/// # Errors
/// The operation and the path that failed.
pub fn publish(
    dir: &Path,
    profile: Profile,
    material: &Material,
    group: Option<u32>,
    now: OffsetDateTime,
) -> Result<u64, PublishError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| PublishError {
            action,
            path,
            source,
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(failed("creating", dir))?;
    let number = read_meta(dir).map_or(1, |meta| meta.generation + 1);
    let name = generation_name(number, now);
    let generation = dir.join(&name);
    DirBuilder::new()
        .mode(0o755)
        .create(&generation)
        .map_err(failed("creating", &generation))?;

    let key = material.key.to_pem();
    let meta = meta_json(&material.leaf, number);
    let files = files(profile, material, key.as_bytes(), &meta);
    for file in &files {
        let path = generation.join(&file.name);
        write_file(&path, file, group).map_err(failed("writing", &path))?;
    }
    sync(&generation).map_err(failed("flushing", &generation))?;

    let before = fs::read_link(dir.join(DATA)).ok();
    replace_link(dir, DATA, Path::new(&name), DATA_NEW).map_err(failed("swapping", dir))?;
    for file in &files {
        let target = Path::new(DATA).join(&file.name);
        if fs::read_link(dir.join(&file.name)).ok().as_ref() != Some(&target) {
            let aside = format!("..{}_tmp", file.name);
            replace_link(dir, &file.name, &target, &aside).map_err(failed("linking", dir))?;
        }
    }
    sync(dir).map_err(failed("flushing", dir))?;

    let keep = [
        Some(OsStr::new(&name)),
        before.as_deref().map(Path::as_os_str),
    ];
    remove_generations(dir, &keep).map_err(failed("removing old generations of", dir))?;
    Ok(number)
}

/// What the current generation says about itself, if there is one.
pub fn read_meta(dir: &Path) -> Option<Meta> {
    serde_json::from_slice(&fs::read(dir.join(DATA).join(META)).ok()?).ok()
}

/// A file of a generation.
struct Content<'a> {
    name: String,
    bytes: &'a [u8],
    secret: bool,
}

/// Both vocabularies: that of hand-made NATS set-ups and that of Kubernetes.
fn files<'a>(
    profile: Profile,
    material: &'a Material,
    key: &'a [u8],
    meta: &'a [u8],
) -> [Content<'a>; 7] {
    let open = |name: String, bytes| Content {
        name,
        bytes,
        secret: false,
    };
    let secret = |name: String| Content {
        name,
        bytes: key,
        secret: true,
    };
    let chain = material.chain_pem.as_bytes();
    let bundle = material.bundle_pem.as_bytes();
    [
        open("ca.pem".to_owned(), bundle),
        open("ca.crt".to_owned(), bundle),
        open(format!("{profile}.pem"), chain),
        open("tls.crt".to_owned(), chain),
        secret(format!("{profile}-key.pem")),
        secret("tls.key".to_owned()),
        open(META.to_owned(), meta),
    ]
}

fn meta_json(leaf: &CertificateInfo, generation: u64) -> Vec<u8> {
    let rfc3339 = |time: OffsetDateTime| {
        time.format(&Rfc3339)
            .expect("the dates of a certificate have four-digit years")
    };
    let meta = Meta {
        serial: leaf.serial_hex.clone(),
        not_before: rfc3339(leaf.not_before),
        not_after: rfc3339(leaf.not_after),
        generation,
    };
    serde_json::to_vec_pretty(&meta).expect("strings and a number are always JSON")
}

/// Unique by its number within the directory; the time is for people. A generation of that number
/// that a crash left unfinished is told apart by the nanoseconds.
fn generation_name(number: u64, now: OffsetDateTime) -> String {
    let format =
        format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:9]");
    let now = now
        .format(format)
        .expect("the format has only parts that a date has");
    format!("..{now}-{number}")
}

fn write_file(path: &Path, content: &Content<'_>, group: Option<u32>) -> io::Result<()> {
    let mode = match (content.secret, group) {
        (true, Some(_)) => 0o640,
        (true, None) => 0o600,
        (false, _) => 0o644,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if content.secret { 0o600 } else { mode })
        .open(path)?;
    if content.secret && group.is_some() {
        chown(path, None, group)?;
    }
    // The group first, then the right to read; and once more because of the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content.bytes)?;
    file.sync_all()
}

/// Makes `name` a link to `target`, whatever it was before, without a moment in which it is missing.
fn replace_link(dir: &Path, name: &str, target: &Path, aside: &str) -> io::Result<()> {
    let aside = dir.join(aside);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &aside)?;
    fs::rename(&aside, dir.join(name))
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes generations other than `keep`, also those that a crash left unfinished.
fn remove_generations(dir: &Path, keep: &[Option<&OsStr>]) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.as_encoded_bytes().starts_with(b"..") && entry.file_type()?.is_dir();
        if ours && !keep.contains(&Some(name.as_os_str())) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
