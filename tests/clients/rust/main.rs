//! A small application on async-nats: one scenario of core NATS a run. See tests/clients/README.md for the command
//! line, the scenarios and the output.

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, PublishErrorKind, RequestErrorKind, ServerError,
    Subscriber,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

/// For an answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Messages that are under way when a connection is drained.
const DRAINED: usize = 200;

/// Reconnects and complaints that may wait to be looked at: more than any scenario brings about. Others are not told.
const NEWS_KEPT: usize = 16;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(result) => {
            report("done", result);
            ExitCode::SUCCESS
        }
        Err(error) => {
            report("error", json!({"error": format!("{error:#}")}));
            ExitCode::FAILURE
        }
    }
}

fn report(event: &str, fields: Value) {
    let mut line = fields;
    line["event"] = event.into();
    println!("{line}");
}

async fn run() -> anyhow::Result<Value> {
    let application = Application::connect(Flags::read()?).await?;
    match application.flags.text("scenario")? {
        "login" => application.login().await,
        "messages" => application.messages().await,
        "survive" => application.survive().await,
        "drain" => application.drain().await,
        "queue" => application.queue().await,
        "permissions" => application.permissions().await,
        other => bail!("unknown scenario {other}"),
    }
}

/// `--name=value` only.
struct Flags(HashMap<String, String>);

impl Flags {
    fn read() -> anyhow::Result<Self> {
        let pairs = std::env::args().skip(1).map(|argument| {
            let pair = argument.strip_prefix("--")?.split_once('=')?;
            Some((pair.0.to_owned(), pair.1.to_owned()))
        });
        let flags = pairs.collect::<Option<_>>();
        Ok(Self(flags.context("flags are --name=value")?))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn text(&self, name: &str) -> anyhow::Result<&str> {
        self.get(name)
            .with_context(|| format!("--{name} is needed"))
    }
}

/// What the library says beside messages.
#[derive(Default)]
struct News {
    connects: AtomicUsize,
    disconnects: AtomicUsize,
}

struct Application {
    flags: Flags,
    client: Client,
    news: Arc<News>,
    reconnected: Mutex<mpsc::Receiver<()>>,
    complaints: Mutex<mpsc::Receiver<String>>,
}

impl Application {
    async fn connect(flags: Flags) -> anyhow::Result<Self> {
        let news = Arc::new(News::default());
        let (reconnects, reconnected) = mpsc::channel(NEWS_KEPT);
        let (errors, complaints) = mpsc::channel(NEWS_KEPT);
        let heard = Arc::clone(&news);
        let options = options(&flags)?.event_callback(move |event| {
            match event {
                // The first is no reconnect.
                Event::Connected if heard.connects.fetch_add(1, Ordering::Relaxed) > 0 => {
                    report("reconnected", json!({}));
                    // Nobody listens any more when the program ends.
                    let _ = reconnects.try_send(());
                }
                Event::Disconnected => {
                    heard.disconnects.fetch_add(1, Ordering::Relaxed);
                }
                Event::LameDuckMode => report("lame_duck", json!({})),
                Event::ServerError(ServerError::Other(text)) => {
                    let _ = errors.try_send(text);
                }
                _ => {}
            }
            async {}
        });
        let client = options.connect(flags.text("url")?).await?;
        Ok(Self {
            flags,
            client,
            news,
            reconnected: Mutex::new(reconnected),
            complaints: Mutex::new(complaints),
        })
    }

    fn named(&self, subject: &str) -> String {
        format!("{}.{subject}", self.flags.get("prefix").unwrap_or_default())
    }

    /// Publishes to its own subscription. Also shows that the server has seen what was sent before: the library's own
    /// flush ends at the socket.
    async fn round_trip(&self, subject: &str) -> anyhow::Result<()> {
        let mut subscription = self.client.subscribe(self.named(subject)).await?;
        let payload = Bytes::from_static(b"there and back");
        self.client.publish(self.named(subject), payload).await?;
        next(&mut subscription).await?;
        Ok(subscription.unsubscribe().await?)
    }

    async fn login(&self) -> anyhow::Result<Value> {
        self.round_trip("login").await?;
        Ok(json!({}))
    }

    async fn messages(&self) -> anyhow::Result<Value> {
        let client = &self.client;
        let mut echo = client.subscribe(self.named("echo")).await?;
        let mut headers = HeaderMap::new();
        headers.append("Trace", "a");
        headers.append("Trace", "b: c");
        headers.append("Empty", "");
        let named = self.named("echo");
        client
            .publish_with_headers(named, headers, Bytes::new())
            .await?;
        let headed = next(&mut echo).await?;
        let headers = headed.headers.context("a message with headers")?;
        let trace: Vec<_> = headers
            .get_all("Trace")
            .map(|value| value.as_str())
            .collect();

        let large = Bytes::from(b"0123456789abcdef".repeat(1 << 16));
        client.publish(self.named("echo"), large.clone()).await?;
        let echoed = next(&mut echo).await?;
        let larger = Bytes::from([&large[..], b"!"].concat());
        let refused = client.publish(self.named("echo"), larger).await;
        let too_large =
            refused.is_err_and(|error| error.kind() == PublishErrorKind::MaxPayloadExceeded);

        let began = Instant::now();
        let nobody = client.request(self.named("nobody"), Bytes::new()).await;
        let waited = began.elapsed();
        let nobody = nobody.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders);

        let mut service = client.subscribe(self.named("service")).await?;
        let serve = async {
            let question = next(&mut service).await?;
            let reply = question.reply.context("a question")?;
            let answer = [b"hello ", &question.payload[..]].concat();
            client.publish(reply, answer.into()).await?;
            Ok(())
        };
        let ask = async {
            let question = Bytes::from_static(b"rust");
            Ok(client.request(self.named("service"), question).await?)
        };
        let ((), answer): ((), async_nats::Message) = tokio::try_join!(serve, ask)
            .map_err(|error: anyhow::Error| error.context("a service"))?;
        Ok(json!({
            "trace": trace, "empty": headers.get("Empty").is_some(), "body": headed.payload.len(),
            "large": echoed.payload == large, "too_large": too_large,
            "no_responders": nobody, "waited_ms": u64::try_from(waited.as_millis())?,
            "answer": String::from_utf8_lossy(&answer.payload),
        }))
    }

    async fn survive(&self) -> anyhow::Result<Value> {
        let mut ticks = self.client.subscribe(self.named("ticks")).await?;
        self.client
            .publish(self.named("ticks"), "before".into())
            .await?;
        let before = next(&mut ticks).await?;
        report("connected", json!({}));
        let mut reconnected = self.reconnected.lock().await;
        reconnected.recv().await.context("the library is gone")?;
        self.client
            .publish(self.named("ticks"), "after".into())
            .await?;
        let after = next(&mut ticks).await?;
        let info = self.client.server_info();
        let ticks = [before, after].map(|tick| String::from_utf8_lossy(&tick.payload).into_owned());
        Ok(json!({"ticks": ticks, "server": format!("{}:{}", info.host, info.port)}))
    }

    async fn drain(&self) -> anyhow::Result<Value> {
        let worker = &self.client;
        let mut work = worker.subscribe(self.named("work")).await?;
        self.round_trip("worker").await?;

        let asker = options(&self.flags)?
            .connect(self.flags.text("url")?)
            .await?;
        let mut answers = asker.subscribe(self.named("answers")).await?;
        let mut asked = asker.subscribe(self.named("asked")).await?;
        for _ in 0..DRAINED {
            let (work, answers) = (self.named("work"), self.named("answers"));
            asker
                .publish_with_reply(work, answers, Bytes::new())
                .await?;
        }
        asker.publish(self.named("asked"), Bytes::new()).await?;
        next(&mut asked).await?;
        // The whole client would refuse to publish answers from here on.
        work.drain().await?;
        let mut handled = 0;
        while let Some(message) = timeout(PATIENCE, work.next()).await? {
            tokio::time::sleep(Duration::from_millis(1)).await;
            handled += 1;
            let reply = message.reply.context("a question")?;
            worker.publish(reply, Bytes::new()).await?;
        }
        worker.drain().await?;
        let mut answered = 0;
        for _ in 0..DRAINED {
            next(&mut answers).await?;
            answered += 1;
        }
        Ok(json!({"handled": handled, "answered": answered}))
    }

    async fn queue(&self) -> anyhow::Result<Value> {
        let group = "workers".to_owned();
        let mut jobs = self
            .client
            .queue_subscribe(self.named("jobs"), group)
            .await?;
        let mut stop = self.client.subscribe(self.named("stop")).await?;
        self.round_trip("member").await?;
        report("subscribed", json!({}));
        let mut received = 0;
        let stopped = timeout(PATIENCE, stop.next());
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                stop = &mut stopped => {
                    stop?.context("the end of the connection")?;
                    break;
                }
                job = jobs.next() => {
                    job.context("the end of the connection")?;
                    received += 1;
                }
            }
        }
        self.client.drain().await?;
        while timeout(PATIENCE, jobs.next()).await?.is_some() {
            received += 1;
        }
        Ok(json!({"received": received}))
    }

    async fn permissions(&self) -> anyhow::Result<Value> {
        let mut complaints = self.complaints.lock().await;
        let _hidden = self.client.subscribe(self.named("hidden")).await?;
        let first = timeout(PATIENCE, complaints.recv()).await?;
        self.client
            .publish(self.named("secret"), Bytes::new())
            .await?;
        let second = timeout(PATIENCE, complaints.recv()).await?;
        self.round_trip("open").await?;
        let disconnects = self.news.disconnects.load(Ordering::Relaxed);
        Ok(json!({"complaints": [first, second], "disconnects": disconnects}))
    }
}

fn options(flags: &Flags) -> anyhow::Result<ConnectOptions> {
    let mut options = ConnectOptions::new().connection_timeout(PATIENCE);
    if let Some(ca) = flags.get("ca") {
        options = options.add_root_certificates(ca.into()).require_tls(true);
    }
    if let Some(cert) = flags.get("cert") {
        options = options.add_client_certificate(cert.into(), flags.text("key")?.into());
    }
    if let Some(user) = flags.get("user") {
        let password = flags.text("password")?.to_owned();
        options = options.user_and_password(user.to_owned(), password);
    }
    if let Some(token) = flags.get("token") {
        options = options.token(token.to_owned());
    }
    Ok(options.reconnect_delay_callback(|_| Duration::from_millis(100)))
}

async fn next(subscription: &mut Subscriber) -> anyhow::Result<async_nats::Message> {
    let message = timeout(PATIENCE, subscription.next()).await;
    message
        .context("no message came")?
        .context("the end of the connection")
}
