//! A server that listens on all addresses.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use super::*;

#[test]
fn all_addresses_are_those_of_ipv6_too_and_each_client_has_its_own_form() {
    let server = Server::with(|config| {
        config.host = "0.0.0.0".into();
        config.cluster = Some(RoutePort {
            host: "0.0.0.0".into(),
            ..route_port(|_| {})
        });
    });
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let hosts: [(IpAddr, bool); 2] = [
        (Ipv4Addr::LOCALHOST.into(), true),
        (Ipv6Addr::LOCALHOST.into(), has_ipv6),
    ];
    let ports = [server.core.address(), server.core.route_address().unwrap()];
    for (host, _) in hosts.iter().filter(|(_, exists)| *exists) {
        for (port, is_client) in ports.iter().map(SocketAddr::port).zip([true, false]) {
            let mut socket = BufReader::new(TcpStream::connect((*host, port)).unwrap());
            socket.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
            let mut info = String::new();
            socket.read_line(&mut info).unwrap();
            assert!(info.starts_with("INFO "), "{host}: {info}");
            let own = format!("\"client_ip\":\"{host}\"");
            assert_eq!(info.contains(&own), is_client, "{info}");
        }
    }
}
