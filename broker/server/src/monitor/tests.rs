//! A source of plain values, and requests over a real socket.

mod connz;
mod https;
mod sample;
mod server;
mod streaming;

use std::net::SocketAddr;

use futures_util::future::{BoxFuture, FutureExt, ready};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use self::sample::Sample;
use super::{details::Traffic, *};
use crate::config;

#[derive(Debug)]
struct Values {
    lock: LockState,
    health: Health,
    core: CoreFigures,
    /// What there is to know in detail.
    details: Option<Sample>,
}

impl Default for Values {
    /// An active server with a little of everything.
    fn default() -> Self {
        Self {
            lock: LockState::Active,
            health: Health::Serving,
            core: CoreFigures {
                connections: 2,
                total_connections: 3,
                received: Traffic {
                    msgs: 10,
                    bytes: 100,
                },
                subscriptions: 6,
                ..CoreFigures::default()
            },
            details: Some(Sample),
        }
    }
}

impl Values {
    fn monitor(self) -> Arc<Monitor> {
        Monitor::new(facts(), Box::new(self))
    }

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
        answer(self.core.clone())
    }

    fn details(&self) -> Option<&dyn ServerDetails> {
        let sample = self.details.as_ref()?;
        Some(sample)
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        answer(self.health)
    }

    fn streaming(&self) -> BoxFuture<'_, StreamingFigures> {
        answer(StreamingFigures {
            clients: 2,
            channels: 3,
            total_msgs: 30,
            corrupt_rows: 2,
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

fn facts() -> Facts {
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
        routes: Some("127.0.0.1:6222".parse().unwrap()),
        monitor: Some("127.0.0.1:8222".parse().unwrap()),
        workers: 2,
    };
    Facts::new(&config, identity)
}

/// An active server with a little of everything.
pub(crate) fn sample_monitor() -> Arc<Monitor> {
    Values::default().monitor()
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One request on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path).await
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.0\r\nhost: t\r\n\r\n");
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
