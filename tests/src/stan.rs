//! A small, careful streaming client: what it reports as acknowledged was acknowledged, and it counts
//! what a test wants to know about the connection.
//!
//! ```no_run
//! # async fn show() -> Result<(), Box<dyn std::error::Error>> {
//! use tests::stan::{Client, Options, SubscribeOptions};
//!
//! let client = Client::connect(Options::new("nats://127.0.0.1:4222", "test-cluster", "me")).await?;
//! client.publish("orders", "one").await?;                    // returns when it is stored
//! let pending = client.publish_async("orders", "two").await?; // returns when the window has room
//! pending.await?;                                            // returns when it is stored
//!
//! let mut orders = client.subscribe("orders", SubscribeOptions::from_first().durable("d")).await?;
//! while let Some(delivery) = orders.next().await {
//!     orders.ack(&delivery).await?;
//!     if delivery.sequence == 2 { break; }
//! }
//! orders.close().await?;                                     // keeps the durable
//! client.close().await?;
//! # Ok(()) }
//! ```
//!
//! The NATS connection underneath reconnects by itself for ever; subscriptions live on. A publish whose
//! acknowledgement does not come within [`Options::ack_wait`] ends with [`PublishError::Unknown`]: it
//! may or may not have been stored, and is never sent again by itself.

mod publish;
mod subscription;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use broker_proto::streaming::{
    CloseRequest, CloseResponse, ConnectRequest, ConnectResponse, Ping, PingResponse,
};
use bytes::Bytes;
use certs::reload::TlsFiles;
use futures_util::StreamExt as _;
use prost::Message;
use tokio::task::JoinSet;

pub use publish::{Pending, PublishError};
pub use subscription::{Delivery, SubscribeOptions, Subscription};

/// How often a request that found nobody listening is made again.
const RETRY: Duration = Duration::from_millis(50);

/// Prefix of the discovery subject, `DefaultDiscoverPrefix` of the reference.
const DISCOVER: &str = "_STAN.discover";

/// Unanswered pings after which the real clients give up; this one only tells the server.
const PING_MAX_OUT: i32 = 88;

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// `nats://host:port` or `tls://host:port`.
    pub url: String,
    /// Name of the streaming cluster.
    pub cluster_id: String,
    /// Letters, digits, `-` and `_`.
    pub client_id: String,
    /// Authority, certificate and key; read again for every connection.
    pub tls: Option<TlsFiles>,
    /// User and password.
    pub login: Option<(String, String)>,
    /// How long a publish waits for its acknowledgement.
    pub ack_wait: Duration,
    /// How long a request is repeated while nobody listens, and waits for its answer.
    pub request_wait: Duration,
    /// Most publishes without acknowledgement at a time.
    pub window: usize,
    /// Whole seconds between pings to the streaming server.
    pub ping_interval_secs: u16,
}

impl Options {
    /// The defaults of the real clients, without TLS.
    pub fn new(url: &str, cluster_id: &str, client_id: &str) -> Self {
        Self {
            url: url.to_owned(),
            cluster_id: cluster_id.to_owned(),
            client_id: client_id.to_owned(),
            tls: None,
            login: None,
            ack_wait: Duration::from_secs(30),
            request_wait: Duration::from_secs(60),
            window: 16_384,
            ping_interval_secs: 5,
        }
    }

    /// Presents a certificate and verifies the server.
    #[must_use]
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// Shows a password.
    #[must_use]
    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Gives up on an acknowledgement after this time.
    #[must_use]
    pub fn ack_wait(mut self, ack_wait: Duration) -> Self {
        self.ack_wait = ack_wait;
        self
    }

    /// Lets at most this many publishes be under way.
    #[must_use]
    pub fn window(mut self, window: usize) -> Self {
        self.window = window;
        self
    }
}

/// Why a request to the streaming server failed.
#[derive(Debug, thiserror::Error)]
pub enum StanError {
    /// The NATS connection: address, TLS, or a closed client.
    #[error("no connection: {0}")]
    Nats(String),
    /// Nobody answered in time.
    #[error("no answer to the {request} request within {waited:?}")]
    Timeout {
        request: &'static str,
        waited: Duration,
    },
    /// The server said no, in its own words.
    #[error("the server refused the {request} request: {reason}")]
    Refused {
        request: &'static str,
        reason: String,
    },
    /// The answer is not the message that belongs to the request.
    #[error("the answer to the {request} request makes no sense")]
    Malformed { request: &'static str },
}

/// A connected client. Dropping it ends the connection without telling the server.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    /// Acknowledgements, heartbeats, pings.
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    nats: async_nats::Client,
    options: Options,
    conn_id: Bytes,
    /// The server's subjects.
    subjects: ConnectResponse,
    window: publish::Window,
    connections: Arc<AtomicU64>,
    /// That came from the server.
    heartbeats: Arc<AtomicU64>,
    /// What the server answered to a ping, when it no longer knows this client.
    lost: Mutex<Option<String>>,
}

impl Client {
    /// Connects and registers the client id.
    ///
    /// # Errors
    /// [`StanError::Refused`] when the id is taken, and the others.
    pub async fn connect(options: Options) -> Result<Self, StanError> {
        let connections = Arc::new(AtomicU64::new(0));
        let nats = dial(&options, &connections).await?;
        let heartbeats_inbox = nats.new_inbox();
        let acks_inbox = nats.new_inbox();
        let heartbeats = subscribe(&nats, &heartbeats_inbox).await?;
        let acks = subscribe(&nats, &acks_inbox).await?;
        let conn_id = Bytes::from(nats.new_inbox());
        let request = ConnectRequest {
            client_id: options.client_id.clone(),
            heartbeat_inbox: heartbeats_inbox,
            protocol: 1,
            conn_id: conn_id.clone(),
            ping_interval: options.ping_interval_secs.into(),
            ping_max_out: PING_MAX_OUT,
        };
        // Heartbeats are answered from the start: the server asks an older holder of the id with them.
        let mut tasks = JoinSet::new();
        let counted = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&counted);
        tasks.spawn(answer_heartbeats(nats.clone(), heartbeats, counting));
        let subject = format!("{DISCOVER}.{}", options.cluster_id);
        let wait = options.request_wait;
        let subjects: ConnectResponse =
            request_answer(&nats, "connect", &subject, &request, wait).await?;
        refused_if("connect", &subjects.error)?;

        let window = publish::Window::new(acks_inbox, options.window, options.ack_wait);
        let shared = Arc::new(Shared {
            nats,
            options,
            conn_id,
            subjects,
            window,
            connections,
            heartbeats: counted,
            lost: Mutex::default(),
        });
        tasks.spawn(publish::take_acks(Arc::clone(&shared), acks));
        tasks.spawn(ping(Arc::clone(&shared)));
        Ok(Self { shared, tasks })
    }

    /// The id that this client is registered with.
    pub fn id(&self) -> &str {
        &self.shared.options.client_id
    }

    /// How often the NATS connection was made again.
    pub fn reconnects(&self) -> u64 {
        self.shared
            .connections
            .load(Ordering::Relaxed)
            .saturating_sub(1)
    }

    /// How many heartbeats came from the server.
    pub fn heartbeats(&self) -> u64 {
        self.shared.heartbeats.load(Ordering::Relaxed)
    }

    /// Why the server no longer knows this client, if so: it has to connect anew.
    pub fn lost(&self) -> Option<String> {
        let lost = self.shared.lost.lock();
        lost.expect("nobody panics while holding it").clone()
    }

    /// The NATS connection, for plain NATS.
    pub fn nats(&self) -> &async_nats::Client {
        &self.shared.nats
    }

    /// Publishes and waits for the acknowledgement.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        channel: &str,
        payload: impl Into<Bytes>,
    ) -> Result<(), PublishError> {
        self.publish_async(channel, payload).await?.await
    }

    /// Publishes as soon as the window has room; the result tells when it is acknowledged.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn publish_async(
        &self,
        channel: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Pending, PublishError> {
        publish::send(&self.shared, channel, payload.into()).await
    }

    /// Subscribes to a channel, with acknowledgement by hand.
    ///
    /// # Errors
    /// [`StanError::Refused`] with the server's reason, and the others.
    pub async fn subscribe(
        &self,
        channel: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, StanError> {
        subscription::open(Arc::clone(&self.shared), channel, options).await
    }

    /// Sends what is written and gives the client id back.
    ///
    /// # Errors
    /// When the server does not answer or does not know the client; the connection is closed anyhow.
    pub async fn close(mut self) -> Result<(), StanError> {
        let request = CloseRequest {
            client_id: self.shared.options.client_id.clone(),
        };
        let shared = &self.shared;
        let subject = &shared.subjects.close_requests;
        let wait = shared.options.request_wait;
        let answer: Result<CloseResponse, _> =
            request_answer(&shared.nats, "close", subject, &request, wait).await;
        self.tasks.shutdown().await;
        // A connection that is already gone needs no draining.
        let _ = self.shared.nats.drain().await;
        refused_if("close", &answer?.error)
    }
}

async fn dial(
    options: &Options,
    connections: &Arc<AtomicU64>,
) -> Result<async_nats::Client, StanError> {
    // Whoever links several providers has no default; a second installation changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let counter = Arc::clone(connections);
    let mut dial = async_nats::ConnectOptions::new()
        .name(&options.client_id)
        .connection_timeout(Duration::from_secs(20))
        .reconnect_delay_callback(|attempt| if attempt <= 1 { Duration::ZERO } else { RETRY })
        .event_callback(move |event| {
            let connected = matches!(event, async_nats::Event::Connected);
            counter.fetch_add(u64::from(connected), Ordering::Relaxed);
            std::future::ready(())
        });
    if let Some((user, password)) = &options.login {
        dial = dial.user_and_password(user.clone(), password.clone());
    }
    if let Some(files) = &options.tls {
        dial = dial
            .require_tls(true)
            .add_root_certificates(files.ca.clone())
            .add_client_certificate(files.cert.clone(), files.key.clone());
    }
    dial.connect(&options.url)
        .await
        .map_err(|error| StanError::Nats(error.to_string()))
}

async fn subscribe(
    nats: &async_nats::Client,
    subject: &str,
) -> Result<async_nats::Subscriber, StanError> {
    nats.subscribe(subject.to_owned())
        .await
        .map_err(|error| StanError::Nats(error.to_string()))
}

/// One request, repeated while nobody listens (then nobody has seen it, so that repeating is safe).
async fn request_answer<A: Message + Default>(
    nats: &async_nats::Client,
    request: &'static str,
    subject: &str,
    message: &impl Message,
    wait: Duration,
) -> Result<A, StanError> {
    let deadline = Instant::now() + wait;
    let payload = Bytes::from(message.encode_to_vec());
    let timeout = || StanError::Timeout {
        request,
        waited: wait,
    };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timeout());
        }
        let asked = async_nats::Request::new()
            .payload(payload.clone())
            .timeout(Some(left));
        match nats.send_request(subject.to_owned(), asked).await {
            Ok(answer) => {
                return A::decode(answer.payload).map_err(|_| StanError::Malformed { request });
            }
            Err(error) => match error.kind() {
                async_nats::RequestErrorKind::NoResponders => tokio::time::sleep(RETRY).await,
                async_nats::RequestErrorKind::TimedOut => return Err(timeout()),
                _ => return Err(StanError::Nats(error.to_string())),
            },
        }
    }
}

fn refused_if(request: &'static str, error: &str) -> Result<(), StanError> {
    if error.is_empty() {
        return Ok(());
    }
    Err(StanError::Refused {
        request,
        reason: error.to_owned(),
    })
}

async fn answer_heartbeats(
    nats: async_nats::Client,
    mut heartbeats: async_nats::Subscriber,
    counted: Arc<AtomicU64>,
) {
    while let Some(heartbeat) = heartbeats.next().await {
        counted.fetch_add(1, Ordering::Relaxed);
        if let Some(reply) = heartbeat.reply
            && nats.publish(reply, Bytes::new()).await.is_err()
        {
            return;
        }
    }
}

/// Asks the server now and then whether it still knows this client. An answer that does not come is
/// no news: the server may be on its way back.
async fn ping(shared: Arc<Shared>) {
    let every = Duration::from_secs(shared.options.ping_interval_secs.max(1).into());
    let request = Ping {
        conn_id: shared.conn_id.clone(),
    };
    loop {
        tokio::time::sleep(every).await;
        let subject = &shared.subjects.ping_requests;
        let answer: Result<PingResponse, _> =
            request_answer(&shared.nats, "ping", subject, &request, every).await;
        if let Ok(answer) = answer
            && !answer.error.is_empty()
        {
            let mut lost = shared.lost.lock().expect("nobody panics while holding it");
            *lost = Some(answer.error);
            return;
        }
    }
}
