//! Tests that speak bytes to a core on a real port.
//!
//! Where the behaviours are tested that core-nats 10.2 to 10.5 number; `core_routes` is a program of the
//! tests, which holds the same conversations with nats-server:
//!
//! | numbers | module |
//! | --- | --- |
//! | 1 to 4, 6 to 8, 14, 18 (no headers), 22 | `protocol`, `arguments` |
//! | 5, 9 to 11, 15 to 18 | `delivery` |
//! | 12, 13, 19, 23, 27 | `limits`, `bounds` |
//! | 20 | `protocol`; bracketed addresses of IPv6 are a matter of `interfaces` |
//! | 21, 39 | `reload` |
//! | 24, 25 | `pings` |
//! | 26 | `closing` (text and no leftovers), `tls` (handshake) |
//! | 28 | `delivery`, `slow` |
//! | 29 | `lame_duck`; signals and exit status: core_process of the tests |
//! | 30 | `closing` |
//! | 31, 34, 35, 38 | `auth`, `nkeys` |
//! | 32, 33 | `permissions` |
//! | 36 | `tls`, `mapping` |
//! | 37 | `pins`, `tls_first`; curves are a matter of certs, which offers them |
//! | 40, 45, 47 | core_routes: `joining`, `mesh` |
//! | 51, 52 | core_routes: `joining`, `security`; permissions: `wiring`, `security` |
//! | 41 to 44, 49, 53 | core_routes: `wiring` |
//! | 46 | `routes`; core_routes: `wiring`, `mesh` |
//! | 48 | core_routes: `queues` |
//! | 55 | core_routes: `mesh` |
//! | 50 | core_routes: `news` |
//! | 54 | core_routes: `scale` |

mod accounts;
mod arguments;
mod auth;
mod bounds;
mod chaos;
mod closing;
mod delivery;
mod everywhere;
mod internal;
mod lame_duck;
mod limits;
mod mapping;
mod nkeys;
mod permissions;
mod pings;
mod pins;
mod pki;
mod protocol;
mod reload;
mod routes;
mod slow;
mod tls;
mod tls_first;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::mpsc,
    time::Duration,
};

use broker_core::cluster::settings::ClusterSettings;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    launch::{Core, MakeInternal, StatsHandle},
    monitor::details::{ConnectionFigures, ConnectionQuery, ConnectionState, ServerDetails as _},
    settings::{CoreConfig, FailureReports, RoutePort},
};

/// Longest that anything may take that has to happen. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A core of its own for one test; stops when dropped.
struct Server {
    core: Core,
    config: CoreConfig,
    _stop: DropGuard,
}

impl Server {
    /// With two workers, so that connections of a test are dealt out to both.
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut CoreConfig)) -> Self {
        Self::with_services(change, Box::new(|_| Box::pin(async { None })))
    }

    fn with_services(change: impl FnOnce(&mut CoreConfig), make_internal: MakeInternal) -> Self {
        let mut config = CoreConfig {
            host: "127.0.0.1".into(),
            port: -1,
            workers: Some(2),
            // Not in the middle of what a test expects, however slow the machine is.
            first_ping: Duration::from_secs(3600),
            ..CoreConfig::default()
        };
        change(&mut config);
        let token = CancellationToken::new();
        let mut core = Core::start(config.clone(), make_internal, &token).unwrap();
        wait(async { core.accepting().await.unwrap() });
        Self {
            core,
            config,
            _stop: token.drop_guard(),
        }
    }

    fn stats(&self) -> StatsHandle {
        self.core.stats()
    }

    /// Puts changed settings in force. Workers take them over before anything that comes to them later.
    fn reload(&mut self, change: impl FnOnce(&mut CoreConfig)) {
        change(&mut self.config);
        self.core.reload(self.config.clone()).unwrap();
        // Once all have answered, all have taken them over.
        wait(self.core.details().accounts());
    }

    /// The connections that have ended, as monitoring shows them.
    fn closed(&self) -> Vec<ConnectionFigures> {
        let query = ConnectionQuery {
            state: ConnectionState::Closed,
            ..ConnectionQuery::default()
        };
        wait(self.core.details().connections(query)).items
    }

    /// Waits until as many connections have ended, and these were the reasons; sorted.
    fn expect_reasons(&self, expected: &[&str]) {
        eventually("closed", || self.closed().len() >= expected.len());
        let closed = self.closed().into_iter();
        let mut reasons: Vec<_> = closed.map(|one| one.closed.unwrap().reason).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, expected);
    }

    /// A connection that has read nothing and said nothing.
    fn dial(&self) -> Client {
        let socket = TcpStream::connect(self.core.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Client {
            socket,
            info: String::new(),
        }
    }

    /// A connection that has read `INFO` and said nothing.
    fn accept(&self) -> Client {
        let mut client = self.dial();
        client.info = client.line();
        client
    }

    /// A connection to the port of other servers that has read and said nothing.
    fn dial_route(&self) -> Client {
        let socket = TcpStream::connect(self.core.route_address().unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Client {
            socket,
            info: String::new(),
        }
    }

    /// Another server, which has introduced itself.
    fn peer(&self) -> Client {
        let mut peer = self.dial_route();
        peer.info = peer.line();
        peer.send(concat!(
            "CONNECT {\"verbose\":false,\"headers\":true,\"name\":\"PEER\",\"cluster\":\"c\"}\r\n",
            "INFO {\"server_id\":\"PEER\",\"server_name\":\"PEER\",\"version\":\"2.9.24\",\"proto\":1,",
            "\"host\":\"127.0.0.1\",\"port\":1,\"headers\":true,\"max_payload\":1048576,\"cluster\":\"c\"}\r\n",
        ));
        peer
    }

    /// A connection that is neither verbose nor pedantic.
    fn client(&self) -> Client {
        self.client_with(r#"{"verbose":false,"pedantic":false}"#)
    }

    /// A connection that understands headers and wants to know when nobody answers.
    fn modern_client(&self) -> Client {
        self.client_with(
            r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#,
        )
    }

    /// A connection that shows credentials, given as members of a JSON object.
    fn login(&self, credentials: &str) -> Client {
        self.client_with(&format!(
            "{{\"verbose\":false,\"pedantic\":false,{credentials}}}"
        ))
    }

    fn client_with(&self, options: &str) -> Client {
        let mut client = self.accept();
        client.send(&format!("CONNECT {options}\r\n"));
        client
    }
}

/// A port for other servers of cluster `c`, any free one.
fn route_port(change: impl FnOnce(&mut ClusterSettings)) -> RoutePort {
    let mut settings = ClusterSettings {
        name: Some("c".into()),
        ..ClusterSettings::default()
    };
    change(&mut settings);
    RoutePort {
        host: "127.0.0.1".into(),
        port: -1,
        auth_timeout: Duration::from_secs(2),
        tls: None,
        write_deadline: Duration::from_secs(10),
        retry_writes: true,
        settings,
        reports: FailureReports::default(),
    }
}

/// Runs a future to its end, with patience.
fn wait<R>(future: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.unwrap() })
}

/// What whoever is not let in is told.
const VIOLATION: &str = "-ERR 'Authorization Violation'\r\n";

/// A client that knows bytes only.
struct Client {
    socket: TcpStream,
    info: String,
}

impl Client {
    fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).unwrap();
    }

    /// Exactly this comes next.
    fn expect(&mut self, text: &str) {
        let mut got = vec![0; text.len()];
        let mut filled = 0;
        while filled < got.len() {
            match self.socket.read(&mut got[filled..]) {
                Ok(0) => panic!(
                    "closed after {:?}, expected {text:?}",
                    shown(&got[..filled])
                ),
                Ok(read) => filled += read,
                // Whoever was stopped and goes on is told so.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!(
                    "{error} after {:?}, expected {text:?}",
                    shown(&got[..filled])
                ),
            }
            let so_far = &got[..filled];
            assert!(
                text.as_bytes().starts_with(so_far),
                "got {:?}, expected {text:?}",
                shown(so_far)
            );
        }
    }

    /// Up to and with the next LF.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            self.socket.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// Everything sent before has been worked on, and nothing but this came back.
    fn sync(&mut self) {
        self.send("PING\r\n");
        self.expect("PONG\r\n");
    }

    /// Is told that it may not be here, and closed.
    fn expect_violation(&mut self) {
        self.expect(VIOLATION);
        self.expect_closed();
    }

    /// The server closes without another byte.
    fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("not closed: {error}"),
        }
        assert_eq!(shown(&rest), "");
    }

    /// Reads messages until a number of bytes has come.
    fn drain(&mut self, mut bytes: usize) {
        let mut buffer = vec![0; 1 << 16];
        while bytes > 0 {
            let wanted = bytes.min(buffer.len());
            let read = self.socket.read(&mut buffer[..wanted]).unwrap();
            assert!(read > 0, "closed with {bytes} bytes to come");
            bytes -= read;
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Looks again and again until something is so.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    let (_never, pause) = mpsc::channel::<()>();
    while !holds() {
        assert!(
            std::time::Instant::now() < deadline,
            "{what}: not within {PATIENCE:?}"
        );
        let _ = pause.recv_timeout(Duration::from_millis(5));
    }
}
