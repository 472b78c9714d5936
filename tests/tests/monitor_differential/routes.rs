//! What is shown of routes: two servers each, every pair made of the reference and the broker, after
//! the same traffic in both directions.

use std::{path::Path, process::Command, time::Duration};

use serde_json::Value;
use tests::{patience::until, ports, programs, wire::Wire};

use super::server::{Server, differences};

/// For servers to meet and to learn of interest, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The last one counts the requests for the others.
const DOCUMENTS: [&str; 5] = [
    "/routez",
    "/routez?subs=1",
    "/routez?subs=detail",
    "/accstatz",
    "/varz",
];

/// Values below `/routez` that traffic alone decides.
const ROUTE_VALUES: [&str; 9] = [
    "/num_routes",
    "/routes/0/did_solicit",
    "/routes/0/is_configured",
    "/routes/0/ip",
    "/routes/0/in_msgs",
    "/routes/0/in_bytes",
    "/routes/0/out_msgs",
    "/routes/0/out_bytes",
    "/routes/0/subscriptions",
];

/// What came and went over routes, of the only account with clients.
const ACCOUNT_VALUES: [&str; 6] = [
    "/account_statz/0/acc",
    "/account_statz/0/conns",
    "/account_statz/0/received/msgs",
    "/account_statz/0/received/routes",
    "/account_statz/0/sent/msgs",
    "/account_statz/0/sent/routes",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reference,
    Broker,
}

impl Kind {
    async fn start(self, dir: &Path, name: &str, cluster: &str) -> Server {
        let (program, mine): (_, &[&str]) = match self {
            Self::Reference => (programs::tool("nats-server"), &[]),
            Self::Broker => (programs::ours("stanchion-broker"), &["--streaming=false"]),
        };
        let mut command = Command::new(program.unwrap());
        command.args(mine);
        Server::start(&mut command, "Server is ready", dir, name, cluster).await
    }
}

/// One that accepts the route and one that dials, with a client each.
#[derive(Debug)]
struct Pair {
    servers: [Server; 2],
    _clients: [Wire; 2],
}

impl Pair {
    async fn new(dir: &Path, kinds: [Kind; 2]) -> Self {
        let port = ports::free();
        // Unless it is told otherwise, the reference opens several connections a pair, and sends news of
        // its own over them.
        let block = |port: u16, routes: &str| {
            format!(
                "no_system_account: true\ncluster {{ name: c, listen: \"127.0.0.1:{port}\", pool_size: -1, compression: off, \
                 no_advertise: true, routes: [{routes}] }}\n"
            )
        };
        let accepting = block(port, "");
        let dialling = block(ports::free(), &format!("\"nats://127.0.0.1:{port}\""));
        let label = |which: &str| format!("{which}-{:?}-{:?}", kinds[0], kinds[1]);
        let servers = [
            kinds[0].start(dir, &label("accepting"), &accepting).await,
            kinds[1].start(dir, &label("dialling"), &dialling).await,
        ];
        for server in &servers {
            server.reaches("/routez", "/num_routes", &1.into()).await;
        }
        let mut clients = [
            server_client(&servers[0]).await,
            server_client(&servers[1]).await,
        ];
        for (client, subject) in clients.iter_mut().zip(["to.first", "to.second"]) {
            let subscribe = format!("SUB {subject} 1\r\nSUB {subject} q 2\r\n");
            client.send(subscribe.as_bytes()).await.unwrap();
            client.answers().await.unwrap();
        }
        for server in &servers {
            // Interest of the other one has arrived, and nothing else is known of it.
            server
                .reaches("/routez", "/routes/0/subscriptions", &2.into())
                .await;
        }
        let publish =
            b"PUB to.second 5\r\nhello\r\nPUB to.second 4\r\nmore\r\nPUB to.first 2\r\nhi\r\n";
        clients[0].send(publish).await.unwrap();
        clients[0].answers().await.unwrap();
        clients[1].send(b"PUB to.first 3\r\nabc\r\n").await.unwrap();
        clients[1].answers().await.unwrap();
        servers[0]
            .reaches("/routez", "/routes/0/in_msgs", &1.into())
            .await;
        servers[1]
            .reaches("/routez", "/routes/0/in_msgs", &2.into())
            .await;
        Self {
            servers,
            _clients: clients,
        }
    }
}

async fn server_client(server: &Server) -> Wire {
    let mut client = Wire::connect(server.port).await.unwrap();
    let connect = b"CONNECT {\"verbose\":false}\r\n";
    client.send(connect).await.unwrap();
    client.answers().await.unwrap();
    client
}

impl Server {
    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await.body).unwrap()
    }

    async fn reaches(&self, path: &str, place: &str, value: &Value) {
        let reached = async || {
            let document = self.json(path).await;
            anyhow::ensure!(document.pointer(place) == Some(value), "{document}");
            Ok(())
        };
        until(&format!("{value} at {place}"), PATIENCE, reached)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn routes_are_shown_as_nats_server_shows_them() {
    use Kind::{Broker, Reference};

    let dir = tempfile::tempdir().unwrap();
    let expected = Pair::new(dir.path(), [Reference, Reference]).await;
    let mut found = Vec::new();
    for kinds in [[Reference, Broker], [Broker, Reference], [Broker, Broker]] {
        let got = Pair::new(dir.path(), kinds).await;
        for side in [0, 1] {
            if kinds[side] == Reference {
                continue;
            }
            let (reference, broker) = (&expected.servers[side], &got.servers[side]);
            for path in DOCUMENTS {
                let (expected, got) = (reference.get(path).await, broker.get(path).await);
                let these = differences(path, &expected, &got);
                // The broker has one whatever it is told, which it says in its log.
                let these = these
                    .into_iter()
                    .filter(|one| one != "/varz: unknown .system_account string");
                found.extend(these.map(|one| format!("{kinds:?} {side}: {one}")));
            }
            let values = ROUTE_VALUES.map(|place| ("/routez", place)).into_iter();
            let values = values.chain(ACCOUNT_VALUES.map(|place| ("/accstatz", place)));
            for (path, place) in values.chain([("/varz", "/cluster/name"), ("/varz", "/routes")]) {
                let documents = [reference.json(path).await, broker.json(path).await];
                let [expected, got] = documents.each_ref().map(|one| one.pointer(place));
                if expected != got {
                    found.push(format!(
                        "{kinds:?} {side}: {path}{place}: {expected:?}, broker {got:?}"
                    ));
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
