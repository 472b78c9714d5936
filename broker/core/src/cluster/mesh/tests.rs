use super::*;

#[test]
fn a_server_alone_dials_what_is_configured() {
    let now = Instant::now();
    let url = RouteUrl {
        host: "b".into(),
        port: 6222,
        login: None,
    };
    let settings = ClusterSettings {
        routes: vec![url.clone()],
        ..ClusterSettings::default()
    };
    let mut mesh = Mesh::new(RouteInfo::default(), settings, 1, now);
    assert_eq!(mesh.next_deadline(), Some(now));
    let [MeshEffect::Dial { url: dialled, .. }] = &mesh.tick(now)[..] else {
        panic!("one dial");
    };
    assert_eq!(*dialled, url);
    assert!(mesh.tick(now).is_empty());
}
