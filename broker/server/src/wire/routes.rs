//! The port of other servers. What they see of it is told by core_routes of the tests; here is what
//! needs the settings of the core.

use std::net::TcpListener;

use broker_core::cluster::settings::RouteUrl;

use super::*;

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
