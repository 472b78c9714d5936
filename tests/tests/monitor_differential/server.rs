//! Documents of the NATS server: those of the broker have the members of nats-server's, in the same
//! order and of the same kinds, and the same answers to requests that are wrong.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use tests::{ports, process::Process, programs, wire::Wire};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// For a start, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// Configuration of both servers.
const CONFIG: &str = r#"
server_name: one
server_tags: ["a:b", "c"]
server_metadata: { k: v }
max_subscriptions: 900
max_payload: 64KB
write_deadline: "3s"
"#;

/// Documents that need no more than counters.
const DOCUMENTS: [&str; 6] = [
    "/varz",
    "/healthz",
    "/healthz?js-enabled-only=1",
    "/gatewayz",
    "/leafz",
    "/jsz",
];

/// Requests that are answered alike to the last letter.
const REFUSED: [&str; 6] = [
    "/nothing",
    "/varz/",
    "/healthz/x",
    "/healthz?js-enabled-only=x",
    "/gatewayz?accs=x",
    "/leafz?subs=x",
];

/// Members of the reference that the broker has not, for what they tell of is JetStream.
const WITHOUT: [&str; 1] = [".feature_flags"];

/// A server with its HTTP port.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) monitor: u16,
    _process: Process,
}

impl Server {
    /// `name` tells its files and its output from those of others.
    pub(crate) async fn start(
        command: &mut Command,
        ready: &str,
        dir: &Path,
        name: &str,
        config: &str,
    ) -> Self {
        let file = dir.join(format!("{name}.conf"));
        std::fs::write(&file, config).unwrap();
        let (port, monitor) = (ports::free(), ports::free());
        command
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .args(["-m", &monitor.to_string(), "-c"])
            .arg(&file);
        let log = dir.join(format!("{name}.log"));
        let mut process = Process::start(name, command, &log).unwrap();
        process.writes(ready, START).await.unwrap();
        Self {
            port,
            monitor,
            _process: process,
        }
    }

    /// nats-server and the broker with the same configuration.
    pub(crate) async fn both(dir: &Path, config: &str) -> [Self; 2] {
        let mut reference = Command::new(programs::tool("nats-server").unwrap());
        let mut broker = Command::new(programs::ours("stanchion-broker").unwrap());
        let ready = ["Server is ready", "Streaming Server is ready"];
        [
            Self::start(&mut reference, ready[0], dir, "nats-server", config).await,
            Self::start(&mut broker, ready[1], dir, "stanchion-broker", config).await,
        ]
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor))
            .await
            .unwrap();
        // With 1.0 the end of the connection is the end of the body.
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer::new(head, body)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    content_type: Option<String>,
    /// `Access-Control-Allow-Origin`.
    origin: Option<String>,
    pub(crate) body: String,
}

impl Answer {
    fn new(head: &str, body: &str) -> Self {
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let found = lines.find(|(given, _)| given.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned())
        };
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            content_type: header("content-type"),
            origin: header("access-control-allow-origin"),
            body: body.to_owned(),
        }
    }

    /// Everything but the body.
    fn head(&self) -> String {
        format!("{} {:?} {:?}", self.status, self.content_type, self.origin)
    }
}

/// What a document looks like, values apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// Every member by its place, with the kind of its value; entries of a list count as one.
    members: BTreeSet<String>,
    /// Of members of one object, which comes before which.
    orders: BTreeSet<(String, String)>,
}

impl Outline {
    /// Of JSON with an indent of two.
    pub(crate) fn new(body: &str) -> Self {
        let mut outline = Self::default();
        // The way to the line that is looked at: each name, and what came below it so far.
        let mut way: Vec<(String, Vec<String>)> = Vec::new();
        for line in body.lines() {
            let text = line.trim_start();
            let (name, value) = match text.split_once("\": ") {
                Some((name, value)) if name.starts_with('"') => (format!(".{}", &name[1..]), value),
                _ => ("[]".to_owned(), text),
            };
            let kind = match value.bytes().next() {
                Some(b'"') => "string",
                Some(b'0'..=b'9' | b'-') => "number",
                Some(b't' | b'f') => "boolean",
                Some(b'n') => "null",
                Some(b'{') => "object",
                Some(b'[') => "list",
                _ => continue,
            };
            way.truncate((line.len() - text.len()) / 2);
            let above: String = way.iter().skip(1).map(|(name, _)| name.as_str()).collect();
            // The outermost braces have no name.
            let place = if way.is_empty() {
                String::new()
            } else {
                above + &name
            };
            if let Some((_, before)) = way.last_mut() {
                let orders = before
                    .iter()
                    .map(|earlier| (earlier.clone(), place.clone()));
                outline.orders.extend(orders.filter(|(a, b)| a != b));
                before.push(place.clone());
            }
            outline.members.insert(format!("{place} {kind}"));
            way.push((name, Vec::new()));
        }
        outline
    }
}

/// What differs between two answers, apart from values.
pub(crate) fn differences(path: &str, reference: &Answer, broker: &Answer) -> Vec<String> {
    let (head, other) = (reference.head(), broker.head());
    let mut differences = Vec::new();
    if head != other {
        differences.push(format!("{path}: {head}, broker {other}"));
    }
    let mut expected = Outline::new(&reference.body);
    expected
        .members
        .retain(|member| !WITHOUT.iter().any(|without| member.starts_with(without)));
    let got = Outline::new(&broker.body);
    let missing = expected.members.difference(&got.members);
    differences.extend(missing.map(|member| format!("{path}: no {member}")));
    let unknown = got.members.difference(&expected.members);
    differences.extend(unknown.map(|member| format!("{path}: unknown {member}")));
    for (first, second) in &got.orders {
        let turned = (second.clone(), first.clone());
        if expected.orders.contains(&turned) {
            differences.push(format!("{path}: {first} comes before {second}"));
        }
    }
    differences
}

#[tokio::test]
async fn documents_have_the_members_of_nats_server_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let [reference, broker] = Server::both(dir.path(), CONFIG).await;
    for server in [&reference, &broker] {
        let mut client = Wire::connect(server.port).await.unwrap();
        let traffic = b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPUB a 5\r\nhello\r\n";
        client.send(traffic).await.unwrap();
        client.answers().await.unwrap();
    }
    let mut found = Vec::new();
    for path in DOCUMENTS {
        let (expected, got) = (reference.get(path).await, broker.get(path).await);
        assert_eq!(expected.status, 200, "{path}");
        found.extend(differences(path, &expected, &got));
    }
    for path in REFUSED {
        let (expected, got) = (reference.get(path).await, broker.get(path).await);
        if expected != got {
            found.push(format!("{path}: {expected:?}, broker {got:?}"));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn an_outline_knows_places_kinds_and_orders() {
    let body = "{\n  \"b\": 1,\n  \"a\": [\n    {\n      \"z\": {}\n    },\n    {\n      \"x\": \"y\",\n      \"z\": {}\n    }\n  ]\n}";
    let outline = Outline::new(body);
    let members = [
        " object",
        ".a list",
        ".a[] object",
        ".a[].x string",
        ".a[].z object",
        ".b number",
    ];
    assert_eq!(outline.members, members.map(str::to_owned).into());
    let orders = [(".a[].x", ".a[].z"), (".b", ".a")];
    let orders = orders.map(|(first, second)| (first.to_owned(), second.to_owned()));
    assert_eq!(outline.orders, orders.into());
}
