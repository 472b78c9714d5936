//! A source of plain values, and requests over a real socket.

use std::net::SocketAddr;

use futures_util::future::{BoxFuture, FutureExt, ready};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{details::Traffic, *};
use crate::config;

#[derive(Debug)]
struct Values {
    lock: LockState,
    health: Health,
}

impl Values {
    fn subscription() -> SubscriptionView {
        SubscriptionView {
            client_id: "me".to_owned(),
            inbox: "_INBOX.1".to_owned(),
            ack_inbox: "_INBOX.2".to_owned(),
            queue_name: "dur:grp".to_owned(),
            is_durable: true,
            max_inflight: 1024,
            ack_wait: 30,
            last_sent: 8,
            pending_count: 3,
            ..SubscriptionView::default()
        }
    }

    fn all_channels(subscriptions: bool) -> Vec<ChannelView> {
        let channel = |name: &str| ChannelView {
            name: name.to_owned(),
            msgs: 5,
            bytes: 50,
            first_seq: 5,
            last_seq: 9,
            subs_count: 1,
            subscriptions: if subscriptions && name == "foo" {
                vec![Self::subscription()]
            } else {
                Vec::new()
            },
        };
        vec![channel("foo"), channel("a\"b"), channel("bar.>")]
    }

    fn all_clients(subscriptions: bool) -> Vec<ClientView> {
        let client = |id: &str| ClientView {
            id: id.to_owned(),
            hb_inbox: format!("_INBOX.{id}"),
            subs_count: 1,
            subscriptions: if subscriptions {
                BTreeMap::from([("foo".to_owned(), vec![Self::subscription()])])
            } else {
                BTreeMap::new()
            },
        };
        vec![client("you"), client("me")]
    }
}

fn answer<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    ready(value).boxed()
}

impl MonitorSource for Values {
    fn core(&self) -> BoxFuture<'_, CoreFigures> {
        answer(CoreFigures {
            connections: 2,
            total_connections: 3,
            received: Traffic {
                msgs: 10,
                bytes: 100,
            },
            subscriptions: 6,
            ..CoreFigures::default()
        })
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        answer(self.health.clone())
    }

    fn streaming(&self) -> BoxFuture<'_, StreamingFigures> {
        answer(StreamingFigures {
            clients: 2,
            channels: 3,
            total_msgs: 30,
            ..StreamingFigures::default()
        })
    }

    fn lock(&self) -> BoxFuture<'_, LockFigures> {
        answer(LockFigures {
            state: self.lock,
            owner_id: "owner1".to_owned(),
        })
    }

    fn flushes(&self) -> BoxFuture<'_, FlushFigures> {
        answer(FlushFigures {
            flushes: 4,
            rows: 7,
            seconds: 0.5,
        })
    }

    fn clients(&self, page: Page, subscriptions: bool) -> BoxFuture<'_, Listing<ClientView>> {
        answer(
            page.select(Self::all_clients(subscriptions).into_iter(), |client| {
                client.id.as_bytes()
            }),
        )
    }

    fn client(&self, id: String, subscriptions: bool) -> BoxFuture<'_, Option<ClientView>> {
        answer(
            Self::all_clients(subscriptions)
                .into_iter()
                .find(|client| client.id == id),
        )
    }

    fn channel_names(&self, page: Page) -> BoxFuture<'_, Listing<String>> {
        let names = Self::all_channels(false)
            .into_iter()
            .map(|channel| channel.name);
        answer(page.select(names, |name| name.as_bytes()))
    }

    fn channels(&self, page: Page, subscriptions: bool) -> BoxFuture<'_, Listing<ChannelView>> {
        answer(
            page.select(Self::all_channels(subscriptions).into_iter(), |channel| {
                channel.name.as_bytes()
            }),
        )
    }

    fn channel(&self, name: String, subscriptions: bool) -> BoxFuture<'_, Option<ChannelView>> {
        answer(
            Self::all_channels(subscriptions)
                .into_iter()
                .find(|channel| channel.name == name),
        )
    }
}

fn monitor(values: Values) -> Arc<Monitor> {
    let args = [
        "-n",
        "n1",
        "-m",
        "-1",
        "-a",
        "127.0.0.1",
        "-max_channels",
        "7",
    ]
    .map(str::to_owned);
    let Ok(config::Command::Run(config)) = config::read(&args, &|_| None) else {
        panic!("configuration")
    };
    let identity = Identity {
        server_id: "NID".to_owned(),
        server_name: "n1".to_owned(),
        nats_version: "2.9.24",
        streaming_id: "SID".to_owned(),
        store: "SQL",
        client: "127.0.0.1:4222".parse().unwrap(),
        monitor: Some("127.0.0.1:8222".parse().unwrap()),
        workers: 2,
    };
    Monitor::new(Facts::new(&config, identity), Box::new(values))
}

/// An active server with a little of everything.
pub(crate) fn sample_monitor() -> Arc<Monitor> {
    monitor(Values {
        lock: LockState::Active,
        health: Health::Serving,
    })
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One request on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nhost: t\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// Serves on a free port until the test ends.
struct Served {
    address: SocketAddr,
    token: CancellationToken,
}

impl Served {
    async fn new(monitor: Arc<Monitor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let token = CancellationToken::new();
        tokio::spawn(monitor.serve(listener, token.clone()));
        Self { address, token }
    }

    async fn get(&self, path: &str) -> Answer {
        get(self.address, path).await
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(
            answer.head.contains("content-type: application/json"),
            "{}",
            answer.head
        );
        serde_json::from_str(&answer.body).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// Keys at the first level, in the order written.
fn keys(body: &str) -> Vec<String> {
    let lines = body.lines().filter_map(|line| line.strip_prefix("  \""));
    lines
        .map(|line| line.split('"').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn varz_has_the_keys_of_the_reference_in_order() {
    let served = Served::new(sample_monitor()).await;
    let body = served.get("/varz").await.body;
    let expected = "server_id server_name version proto go host port max_connections ping_interval ping_max http_host http_port http_base_path https_port auth_timeout max_control_line max_payload max_pending cluster gateway leaf mqtt websocket jetstream tls_timeout write_deadline start now uptime mem cores gomaxprocs cpu connections total_connections routes remotes leafnodes in_msgs in_bytes in_client_msgs in_client_bytes out_msgs out_bytes out_client_msgs out_client_bytes slow_consumers stale_connections stalled_clients subscriptions http_req_stats config_load_time config_digest system_account slow_consumer_stats stale_connection_stats disk_io_wait_stats";
    assert_eq!(keys(&body).join(" "), expected);
    assert!(body.contains("\n  \"cluster\": {},\n"), "{body}");
    assert!(
        body.contains("\n  \"ping_interval\": 120000000000,\n"),
        "{body}"
    );
    assert!(body.contains("\n  \"tls_timeout\": 2,\n"), "{body}");
    let value = served.json("/varz").await;
    assert_eq!(
        value["http_req_stats"]["/varz"], 2,
        "this request is counted as well"
    );
    assert!(value["mem"].as_u64().unwrap() > 1 << 20);
    assert_eq!(value["uptime"], "0s");
}

#[tokio::test]
async fn serverz_and_storez_have_the_keys_of_the_reference_in_order() {
    let served = Served::new(sample_monitor()).await;
    let serverz = served.get("/streaming/serverz").await.body;
    let expected = "cluster_id server_id version go state now start_time uptime clients subscriptions channels total_msgs total_bytes in_msgs in_bytes out_msgs out_bytes open_fds max_fds";
    assert_eq!(keys(&serverz).join(" "), expected);
    assert!(serverz.contains("\"state\": \"FT_ACTIVE\""), "{serverz}");
    let storez = served.get("/streaming/storez").await.body;
    assert_eq!(
        keys(&storez).join(" "),
        "cluster_id server_id now type limits total_msgs total_bytes"
    );
    let limits = &served.json("/streaming/storez").await["limits"];
    assert_eq!(
        limits.to_string(),
        json!({"max_channels": 7, "max_msgs": 1_000_000, "max_bytes": 1_024_000_000, "max_age": 0, "max_subscriptions": 1000, "max_inactivity": 0}).to_string()
    );
}

#[tokio::test]
async fn lists_are_sorted_and_paged_with_the_numbers_echoed() {
    let served = Served::new(sample_monitor()).await;
    let all = served.json("/streaming/channelsz?limit=x&offset=-3").await;
    assert_eq!(all["names"], json!(["a\"b", "bar.>", "foo"]));
    assert_eq!(
        (&all["limit"], &all["offset"], &all["count"], &all["total"]),
        (&json!(1024), &json!(0), &json!(3), &json!(3))
    );
    let one = served.json("/streaming/channelsz?limit=1&offset=1").await;
    assert_eq!(one["names"], json!(["bar.>"]));
    assert_eq!((&one["count"], &one["total"]), (&json!(1), &json!(3)));
    let beyond = served.json("/streaming/clientsz?offset=9&limit=0").await;
    assert_eq!(
        (&beyond["clients"], &beyond["limit"], &beyond["count"]),
        (&json!([]), &json!(1024), &json!(0))
    );
    let clients = served.get("/streaming/clientsz").await.body;
    assert_eq!(
        keys(&clients).join(" "),
        "cluster_id server_id now offset limit count total clients"
    );
}

#[tokio::test]
async fn subscriptions_are_shown_when_asked_for() {
    let served = Served::new(sample_monitor()).await;
    let channels = served.json("/streaming/channelsz?subs=1").await;
    assert!(channels.get("names").is_none());
    assert!(channels["channels"][0].get("subscriptions").is_none());
    assert_eq!(
        channels["channels"][2]["subscriptions"][0].to_string(),
        json!({"client_id": "me", "inbox": "_INBOX.1", "ack_inbox": "_INBOX.2", "queue_name": "dur:grp", "is_durable": true, "is_offline": false, "max_inflight": 1024, "ack_wait": 30, "last_sent": 8, "pending_count": 3, "is_stalled": false}).to_string()
    );
    let clients = served.json("/streaming/clientsz?subs=1").await;
    assert_eq!(
        clients["clients"][0]["subscriptions"]["foo"][0]["last_sent"],
        8
    );
}

#[tokio::test]
async fn one_client_or_channel_is_an_object_of_its_own_or_not_found() {
    let served = Served::new(sample_monitor()).await;
    let client = served.json("/streaming/clientsz?client=me").await;
    assert_eq!(
        client.to_string(),
        json!({"id": "me", "hb_inbox": "_INBOX.me", "subs_count": 1}).to_string()
    );
    let channel = served.json("/streaming/channelsz?channel=foo&subs=1").await;
    assert_eq!(channel["subscriptions"][0]["client_id"], "me");
    let missing = served.get("/streaming/channelsz?channel=nope").await;
    assert_eq!(
        (missing.status, missing.body.trim()),
        (404, "Channel nope not found")
    );
    let missing = served.get("/streaming/clientsz?client=nope").await;
    assert_eq!(
        (missing.status, missing.body.trim()),
        (404, "Client nope not found")
    );
    assert_eq!(served.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn a_callback_makes_a_script_and_angle_brackets_are_escaped() {
    let served = Served::new(sample_monitor()).await;
    let answer = served.get("/streaming/channelsz?callback=show").await;
    assert!(
        answer.head.contains("content-type: application/javascript"),
        "{}",
        answer.head
    );
    assert!(
        answer.body.starts_with("show({\n  \"cluster_id\"") && answer.body.ends_with("})"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains(r"bar.\u003e"), "{}", answer.body);
    let refused = served.get("/streaming/serverz?callback=alert(1)").await;
    assert_eq!(refused.status, 400);
    let varz = served.get("/varz?callback=show").await;
    assert!(varz.body.starts_with("{\n"), "only streaming documents");
}

#[tokio::test]
async fn probes_tell_active_from_standby_and_healthy_from_not() {
    let served = Served::new(sample_monitor()).await;
    assert_eq!(served.get("/streaming/isFTActive").await.status, 200);
    assert_eq!(served.get("/healthz").await.body, "{\"status\":\"ok\"}");
    assert_eq!(
        served.json("/lockz").await,
        json!({"state": "active", "owner_id": "owner1"})
    );
    assert!(served.get("/").await.body.contains("/varz"));

    let standby = Values {
        lock: LockState::Standby,
        health: Health::Unavailable("no <port>".to_owned()),
    };
    let served = Served::new(monitor(standby)).await;
    assert_eq!(served.get("/streaming/isFTActive").await.status, 204);
    let unhealthy = served.get("/healthz").await;
    assert_eq!(
        (unhealthy.status, unhealthy.body.as_str()),
        (
            503,
            r#"{"status":"unavailable","error":"no \u003cport\u003e"}"#
        )
    );
    assert_eq!(
        served.json("/streaming/serverz").await["state"],
        "FT_STANDBY"
    );
}
