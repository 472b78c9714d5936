//! The port of other servers. What they see of it is told by core_routes of the tests; here is what
//! needs the settings of the core.

use std::{io::Read, net::TcpListener, sync::Arc};

use broker_core::{auth::settings::Secret, cluster::settings::RouteUrl};
use certs::{profile::Profile, reload::ServerTls};

use super::{
    pki::{Pki, encrypt, tls_port},
    *,
};
use crate::settings::RouteTls;

#[test]
fn a_single_worker_serves_clients_while_it_tries_to_reach_another_server() {
    // Nobody listens there now.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let server = Server::with(|config| {
        config.workers = Some(1);
        config.cluster = Some(route_port(|settings| {
            settings.routes = vec![RouteUrl {
                host: "127.0.0.1".into(),
                port: address.port(),
                login: None,
            }];
        }));
    });
    let mut client = server.client();
    for _ in 0..100 {
        client.send("SUB a 1\r\nPUB a 2\r\nhi\r\nUNSUB 1\r\n");
        client.expect("MSG a 1 2\r\nhi\r\n");
    }
    // It has not given up.
    let mut other = TcpListener::bind(address);
    eventually("the port is free", || {
        other = TcpListener::bind(address);
        other.is_ok()
    });
    let (socket, _) = other.unwrap().accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut dialled = Client {
        socket,
        info: String::new(),
    };
    let connect = dialled.line();
    assert!(connect.starts_with("CONNECT {"), "{connect}");
    client.sync();
}

#[test]
fn after_tls_too_another_server_has_the_time_of_this_port_to_show_its_password() {
    let pki = Pki::new();
    let tls = Arc::new(ServerTls::load(pki.issue(Profile::Server).server()).unwrap());
    let (accepting, dialling) = (tls_port(tls), pki.known_client());
    let server = Server::with(|config| {
        config.auth_timeout = Duration::from_secs(3600);
        let mut port = route_port(|settings| {
            settings.login = Some(("r".to_owned(), Secret::new("s3cret".to_owned())));
        });
        port.auth_timeout = Duration::from_millis(300);
        port.tls = Some(RouteTls {
            accepting: accepting.handle,
            dialling: Arc::new(move || Arc::clone(&dialling)),
            admits: accepting.admits,
            timeout: PATIENCE,
        });
        config.cluster = Some(port);
    });
    let mut stream = encrypt(server.dial_route().socket, pki.anonymous_client());
    let mut said = String::new();
    // It may end without the word that TLS has for it.
    let _ = stream.read_to_string(&mut said);
    assert!(
        said.ends_with("-ERR 'Authentication Timeout'\r\n"),
        "{said}"
    );
}
