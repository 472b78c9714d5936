use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use certs::{
    authority::{Authority, AuthorityParams},
    leaf::LeafRequest,
};

use super::*;

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-22 18:00 UTC);

fn authority() -> Authority {
    Authority::generate(&AuthorityParams::default(), NOW).unwrap()
}

fn material(authority: &Authority) -> Material {
    let key = PrivateKey::generate().unwrap();
    let request = LeafRequest {
        profile: Profile::Server,
        common_name: "nats".to_owned(),
        dns_names: vec!["nats".to_owned()],
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        lifetime: Duration::from_secs(60),
        public_key: key.public_key(),
    };
    let chain_pem = authority.issue(&request, NOW).unwrap().chain_pem;
    let leaf = CertificateInfo::from_pem(&chain_pem).unwrap();
    Material {
        key,
        chain_pem,
        bundle_pem: authority.bundle_pem().to_owned(),
        leaf,
    }
}

fn generations(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir())
        .count()
}

#[test]
fn both_vocabularies_point_into_the_generation() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("tls");
    let material = material(&authority());
    assert_eq!(
        publish(&dir, Profile::Server, &material, None, NOW).unwrap(),
        1
    );
    for (name, content) in [
        ("ca.pem", material.bundle_pem.as_str()),
        ("ca.crt", &material.bundle_pem),
        ("server.pem", &material.chain_pem),
        ("tls.crt", &material.chain_pem),
        ("server-key.pem", &material.key.to_pem()),
        ("tls.key", &material.key.to_pem()),
    ] {
        let path = dir.join(name);
        assert_eq!(
            fs::read_link(&path).unwrap(),
            Path::new("..data").join(name)
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "{name}");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            mode,
            if name.contains("key") { 0o600 } else { 0o644 },
            "{name}"
        );
    }
    let meta = read_meta(&dir).unwrap();
    assert_eq!(meta.serial, material.leaf.serial_hex);
    assert_eq!(meta.generation, 1);
}

#[test]
fn one_former_generation_is_kept_and_leftovers_go() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority();
    // What a crash leaves: an unfinished generation, a link aside, and a file in the place of a link.
    fs::create_dir(dir.path().join("..crashed")).unwrap();
    symlink("..crashed", dir.path().join(DATA_NEW)).unwrap();
    fs::write(dir.path().join("server.pem"), "stale").unwrap();
    for round in 1..=4 {
        let material = material(&authority);
        let number = publish(dir.path(), Profile::Server, &material, None, NOW).unwrap();
        assert_eq!(number, round);
        assert_eq!(
            generations(dir.path()),
            2.min(usize::try_from(round).unwrap())
        );
        let text = fs::read_to_string(dir.path().join("server.pem")).unwrap();
        assert_eq!(text, material.chain_pem);
    }
}

#[test]
fn group_may_read_the_keys_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let group = fs::metadata(dir.path())
        .map(|meta| std::os::unix::fs::MetadataExt::gid(&meta))
        .unwrap();
    publish(
        dir.path(),
        Profile::Server,
        &material(&authority()),
        Some(group),
        NOW,
    )
    .unwrap();
    let mode = fs::metadata(dir.path().join("tls.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
}

/// A reader follows `..data` once and opens the files of a generation below it; whatever the writer
/// does meanwhile, certificate and key belong together and nothing is missing.
#[test]
fn reader_never_sees_a_mixed_pair_in_500_swaps() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority();
    let made: Vec<_> = (0..8).map(|_| material(&authority)).collect();
    publish(dir.path(), Profile::Server, &made[0], None, NOW).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0_u32;
                    let mut seen = std::collections::BTreeSet::new();
                    while !done.load(Ordering::Relaxed) {
                        let generation = fs::read_link(dir.path().join(DATA)).unwrap();
                        let generation = dir.path().join(generation);
                        let read = |name| fs::read_to_string(generation.join(name));
                        let (Ok(chain), Ok(key), Ok(meta)) =
                            (read("server.pem"), read("server-key.pem"), read(META))
                        else {
                            // Two swaps during one read: this reader was asleep, and looks again.
                            continue;
                        };
                        let leaf = CertificateInfo::from_pem(&chain).unwrap();
                        assert!(leaf.matches_key(&PrivateKey::from_pem(&key).unwrap()));
                        assert!(meta.contains(&leaf.serial_hex));
                        seen.insert(leaf.serial_hex);
                        reads += 1;
                    }
                    (reads, seen.len())
                })
            })
            .collect();
        for swap in 0..500 {
            publish(
                dir.path(),
                Profile::Server,
                &made[swap % made.len()],
                None,
                NOW,
            )
            .unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let (reads, serials) = reader.join().unwrap();
            assert!(
                reads > 0 && serials > 1,
                "{reads} reads of {serials} serials"
            );
        }
    });
    assert_eq!(read_meta(dir.path()).unwrap().generation, 501);
}
