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
    for secret in [&mut options.pass, &mut options.auth_token, &mut options.sig] {
        secret.clear();
    }
    assert_eq!(shown, format!("{options:?}"), "a secret is shown");
}
