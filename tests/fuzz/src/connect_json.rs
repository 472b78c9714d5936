//! `CONNECT` is taken over whole or not at all, twice is as good as once, and no credential is shown.

use broker_proto::info::ConnectOptions;

pub(crate) fn run(input: &[u8]) {
    let mut options = ConnectOptions::default();
    if options.update(input).is_err() {
        assert!(
            options == ConnectOptions::default(),
            "refused, but taken over in part"
        );
        return;
    }
    let mut again = options.clone();
    again.update(input).expect("it was accepted before");
    assert!(again == options, "the second time it means something else");
    let shown = format!("{options:?}");
    for secret in [&options.pass, &options.auth_token, &options.sig] {
        // Shorter ones are in everything.
        assert!(
            secret.len() < 12 || hides(&options, &shown, secret),
            "{shown}"
        );
    }
}

/// Whether a secret is not shown, or only because a client has put it into its name as well.
fn hides(options: &ConnectOptions, shown: &str, secret: &str) -> bool {
    let open = format!("{:?}{:?}{:?}", options.name, options.lang, options.version);
    !shown.contains(secret)
        || open.contains(secret)
        || "ConnectOptions { verbose: ".contains(secret)
}
