//! The handshake before `INFO`, TLS beside clear text on one port, and how many handshakes there may be.

use std::{
    io::Write,
    net::Shutdown,
    time::{Duration, Instant},
};

use certs::profile::Profile;

use super::{
    Server, eventually,
    pki::{CONNECT, Pki, encrypt, expect, is_served, line, upgrade},
};
use crate::{config::HandshakeFirst, settings::TlsPort};

const REQUIRED: &str = "\"tls_required\":true";

fn server(pki: &Pki, change: impl FnOnce(&mut TlsPort)) -> Server {
    let settings = pki.issue(Profile::Server).server();
    pki.server_with(settings, |_, port| change(port)).0
}

/// Shakes hands at once; then `INFO` comes, which says this.
fn expect_first(server: &Server, pki: &Pki, says: &str) {
    assert!(is_first(server, pki, says));
}

/// The same, if it is quick enough for a server that waits for a moment only: on a busy machine it may be late.
fn is_first(server: &Server, pki: &Pki, says: &str) -> bool {
    let mut stream = encrypt(server.dial().socket, pki.anonymous_client());
    if stream.conn.complete_io(&mut stream.sock).is_err() {
        return false;
    }
    let info = line(&mut stream);
    assert!(info.starts_with("INFO {"), "{info}");
    assert!(info.contains(says), "{info}");
    assert!(is_served(&mut stream));
    true
}

#[test]
fn always_first_means_no_info_in_clear() {
    let pki = Pki::new();
    let patient = server(&pki, |port| port.first = HandshakeFirst::Always);
    expect_first(&patient, &pki, REQUIRED);
    patient.expect_reasons(&["Client Closed"]);
    let hurried = server(&pki, |port| {
        port.first = HandshakeFirst::Always;
        port.timeout = Duration::from_millis(300);
    });
    // Nothing at all for whoever waits for INFO.
    hurried.dial().expect_closed();
    let mut clear = hurried.dial();
    clear.send("CONNECT {}\r\nPING\r\n");
    let mut said = Vec::new();
    let _ = std::io::Read::read_to_end(&mut clear.socket, &mut said);
    assert!(!said.starts_with(b"INFO") && !super::shown(&said).contains("PONG"));
    let failed = "TLS Handshake Failure";
    hurried.expect_reasons(&[failed, failed]);
}

#[test]
fn both_orders_work_where_the_handshake_may_come_first() {
    let pki = Pki::new();
    let wait = Duration::from_millis(200);
    let server = server(&pki, |port| port.first = HandshakeFirst::After(wait));
    eventually("the handshake first", || is_first(&server, &pki, REQUIRED));
    let began = Instant::now();
    let mut late = upgrade(&server, pki.anonymous_client());
    assert!(began.elapsed() >= wait, "{:?}", began.elapsed());
    write!(late, "{CONNECT}PING\r\n").unwrap();
    expect(&mut late, "PONG\r\n");
}

#[test]
fn who_begins_with_the_handshake_need_not_wait() {
    let pki = Pki::new();
    let wait = super::PATIENCE * 10;
    let server = server(&pki, |port| port.first = HandshakeFirst::After(wait));
    let began = Instant::now();
    expect_first(&server, &pki, REQUIRED);
    assert!(began.elapsed() < wait / 2);
}

#[test]
fn a_handshake_that_is_only_begun_first_ends_in_time() {
    let pki = Pki::new();
    for first in [
        HandshakeFirst::Always,
        HandshakeFirst::After(Duration::from_secs(60)),
    ] {
        let server = server(&pki, |port| {
            port.first = first;
            port.timeout = Duration::from_millis(200);
        });
        let mut client = server.dial();
        client.socket.write_all(&[0x16, 3, 1]).unwrap();
        client.expect_closed();
        server.expect_reasons(&["TLS Handshake Failure"]);
    }
}

#[test]
fn a_client_that_goes_before_the_handshake_leaves_nothing_behind() {
    let pki = Pki::new();
    for first in [
        HandshakeFirst::Never,
        HandshakeFirst::Always,
        HandshakeFirst::After(Duration::from_millis(50)),
    ] {
        let server = server(&pki, |port| port.first = first);
        for _ in 0..20 {
            let client = server.dial();
            client.socket.shutdown(Shutdown::Write).unwrap();
        }
        eventually("all gone", || {
            let counters = server.stats().snapshot().counters;
            counters.total_connections == 20 && counters.connections == 0
        });
    }
}

#[test]
fn clear_text_and_tls_share_a_port_where_tls_is_optional() {
    let pki = Pki::new();
    for first in [
        HandshakeFirst::Never,
        HandshakeFirst::After(Duration::from_millis(50)),
    ] {
        let server = server(&pki, |port| {
            port.optional = true;
            port.first = first;
        });
        if first == HandshakeFirst::Never {
            let mut clear = server.client();
            assert!(
                clear.info.contains("\"tls_available\":true"),
                "{}",
                clear.info
            );
            assert!(!clear.info.contains("tls_required"), "{}", clear.info);
            clear.send("SUB a 1\r\n");
            clear.sync();
            let mut covered = encrypt(server.accept().socket, pki.anonymous_client());
            write!(covered, "{CONNECT}PUB a 2\r\nhi\r\nPING\r\n").unwrap();
            expect(&mut covered, "PONG\r\n");
            clear.expect("MSG a 1 2\r\nhi\r\n");
        } else {
            eventually("the handshake first", || is_first(&server, &pki, "INFO"));
            server.client().sync();
        }
    }
}

#[test]
fn handshakes_beyond_the_rate_are_put_off_with_a_word() {
    let pki = Pki::new();
    let server = server(&pki, |port| port.rate_limit = Some(3));
    let began = Instant::now();
    let (mut served, mut refused) = (0, 0);
    while refused == 0 {
        let client = server.accept();
        let mut stream = encrypt(client.socket, pki.anonymous_client());
        if is_served(&mut stream) {
            served += 1;
        } else {
            refused += 1;
        }
        assert!(served <= 3 * (1 + began.elapsed().as_secs()), "{served}");
    }
    assert!(served >= 3, "{served}");
    // In clear, because nobody can shake hands about it. The second is still the same, or a new one
    // has begun, which ends as well.
    eventually("a word", || {
        let mut silent = server.accept();
        silent
            .socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let mut said = [0; 100];
        matches!(std::io::Read::read(&mut silent.socket, &mut said), Ok(read)
            if said[..read] == *b"-ERR 'Connection throttling is active. Please try again later.'\r\n")
    });
    for closed in server.closed() {
        let reason = closed.closed.unwrap().reason;
        assert!(
            reason == "Maximum Connections Exceeded" || reason == "Client Closed",
            "{reason}"
        );
    }
}
