//! TLS towards PostgreSQL: what each mode accepts and refuses.

use std::{collections::BTreeMap, fs, path::Path};

use broker_store::{
    Activation, PostgresConfig, PostgresStore, Store, StoreError,
    conformance::postgres_server::PostgresServer, postgres::Source,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A root and a leaf of it for the given name, PEM: root, leaf, key of the leaf.
fn certificates(name: &str) -> (String, String, String) {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::<String>::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let issuer = Issuer::new(root, root_key);
    let leaf_pem = leaf.signed_by(&key, &issuer).unwrap().pem();
    (root_pem, leaf_pem, key.serialize_pem())
}

fn activate(source: &str) -> Result<Activation, StoreError> {
    let source = Source::parse(source, &BTreeMap::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let store = PostgresStore::new(PostgresConfig {
            sources: source.into(),
        });
        let activation = store.activate().await;
        store.close().await;
        activation
    })
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn each_mode_checks_what_it_says() {
    let directory = TempDir::new().unwrap();
    let (root, leaf, key) = certificates("database.example");
    let (stranger, ..) = certificates("database.example");
    let root = write(directory.path(), "root.pem", &root);
    let stranger = write(directory.path(), "stranger.pem", &stranger);
    let server = PostgresServer::start().unwrap();
    let plain = server.create_database().unwrap();
    let with = |settings: &str| plain.replace("sslmode=disable", settings);
    assert!(
        activate(&with("sslmode=require")).is_err(),
        "the server has no tls yet"
    );
    server.enable_tls(&leaf, &key).unwrap();
    // An address beside the name: where to connect, and whom to expect there.
    let named = |settings: &str| {
        with(settings).replace("host=127.0.0.1", "host=database.example hostaddr=127.0.0.1")
    };
    for source in [
        plain.clone(),
        with(""),
        with("sslmode=require"),
        with(&format!("sslmode=verify-ca sslrootcert={root}")),
        named(&format!("sslmode=verify-full sslrootcert={root}")),
    ] {
        let activation = activate(&source);
        assert!(
            matches!(activation, Ok(Activation::Active(_))),
            "{source}: {activation:?}"
        );
    }
    for source in [
        with(&format!("sslmode=verify-full sslrootcert={root}")),
        with(&format!("sslmode=verify-ca sslrootcert={stranger}")),
        with(&format!("sslmode=require sslrootcert={stranger}")),
        named(&format!("sslmode=verify-full sslrootcert={stranger}")),
    ] {
        let activation = activate(&source);
        assert!(
            matches!(activation, Err(StoreError::Unavailable { .. })),
            "{source}: {activation:?}"
        );
    }
}
