//! Opening a connection to a NATS server, as its client.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use broker_proto::{
    op::ParseError,
    upstream::{UpstreamInfo, UpstreamOp},
};
use certs::reload::{ClientTls, ReloadError};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, task::spawn_local, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    credentials::{Credentials, CredentialsError},
    input::Input,
};
use crate::{
    config::{ExternalNats, NatsServer},
    transport::Transport,
};

/// For one server to let us in, name lookup and TLS included. As the reference's client has it.
const PATIENCE: Duration = Duration::from_secs(2);

/// No server lets us in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The last one that was tried, and why. Begins as the reference's client puts it.
    #[error("nats: no servers available for connection: {server}")]
    NoServer {
        /// Host and port.
        server: String,
        #[source]
        source: DialError,
    },
    /// Certificates or keys are configured that cannot be used.
    #[error("TLS for connections to NATS")]
    Tls(#[from] ReloadError),
}

/// Why one server does not let us in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no answer within {PATIENCE:?}")]
    Timeout,
    #[error("the server closed the connection")]
    Closed,
    /// What `-ERR` says.
    #[error("{0}")]
    Refused(String),
    #[error("not a NATS server: {0}")]
    Protocol(#[from] ParseError),
    #[error("not a NATS server: its first line is no INFO")]
    NoInfo,
    /// Wording of the reference's client.
    #[error("nats: secure connection not available")]
    NoTls,
    #[error("{0:?} is no name that a certificate can be checked against")]
    Name(String),
    #[error("TLS")]
    Tls(#[source] rustls::Error),
    #[error("TLS")]
    TlsFiles(#[from] ReloadError),
    #[error("credentials")]
    Credentials(#[from] CredentialsError),
}

/// A connection that a server has accepted.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) server: NatsServer,
    pub(super) transport: Transport,
    /// What came behind the handshake.
    pub(super) input: Input,
    pub(super) info: UpstreamInfo,
}

/// Knows how to connect, and where to.
#[derive(Debug)]
pub(super) struct Dialler {
    settings: ExternalNats,
    name: String,
    /// Loaded when it is configured or a server asks for it.
    tls: Option<Arc<ClientTls>>,
    /// Servers that one of the configured ones told us of.
    discovered: Vec<NatsServer>,
    stop: CancellationToken,
}

impl Dialler {
    /// # Errors
    /// Certificates or keys cannot be used.
    pub(super) fn new(
        settings: ExternalNats,
        name: String,
        stop: &CancellationToken,
    ) -> Result<Self, ConnectError> {
        let mut dialler = Self {
            settings,
            name,
            tls: None,
            discovered: Vec::new(),
            stop: stop.clone(),
        };
        if dialler.settings.wants_tls {
            dialler.load_tls()?;
        }
        if dialler.settings.tls.insecure {
            // Wording of the reference.
            warn!(
                target: "streaming",
                "STREAM: TLS certificate chain and hostname will not be verified. DO NOT USE IN PRODUCTION!"
            );
        }
        Ok(dialler)
    }

    /// What servers show of us.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// One round over all servers, in order, those that were told of last.
    ///
    /// # Errors
    /// None lets us in.
    pub(super) async fn connect(&mut self) -> Result<Connected, ConnectError> {
        let configured = &self.settings.servers;
        let servers: Vec<_> = configured.iter().chain(&self.discovered).cloned().collect();
        let mut failed = None;
        for server in servers {
            let opened = timeout(PATIENCE, self.open(&server)).await;
            match opened.unwrap_or(Err(DialError::Timeout)) {
                Ok(connected) => return Ok(connected),
                Err(source) => {
                    let server = server.address();
                    failed = Some(ConnectError::NoServer { server, source });
                }
            }
        }
        Err(failed.expect("a configuration names one server at least"))
    }

    /// The other servers of the cluster, as the one that we are with tells. They take our login as well, and
    /// their certificates are for the name that was configured, since what is told are addresses as a rule.
    pub(super) fn discover(&mut self, by: &NatsServer, connect_urls: &[String]) {
        let told = connect_urls.iter().filter_map(|url| {
            let (host, port) = url.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some(NatsServer {
                host: host.to_owned(),
                port: port.parse().ok()?,
                certificate_name: Some(by.name_to_verify().to_owned()),
                ..by.clone()
            })
        });
        let configured = &self.settings.servers;
        let is_new = |one: &NatsServer| !configured.iter().any(|known| known.is_at(one));
        self.discovered = told.filter(is_new).collect();
    }

    async fn open(&mut self, server: &NatsServer) -> Result<Connected, DialError> {
        let credentials = Credentials::load(&self.settings, server)?;
        let socket = TcpStream::connect((server.host.as_str(), server.port)).await?;
        socket.set_nodelay(true)?;
        let (mut transport, mut input) = (Transport::new(socket), Input::default());
        let info = read_info(&mut transport, &mut input).await?;
        let tls = self.settings.wants_tls || server.tls || info.tls_required;
        if tls {
            if !info.tls_required && !info.tls_available {
                return Err(DialError::NoTls);
            }
            if !input.is_empty() {
                return Err(DialError::NoInfo);
            }
            let config = self.load_tls()?.current();
            let name = self.settings.tls_server_name.as_deref();
            let name = name.unwrap_or(server.name_to_verify());
            let name = ServerName::try_from(name.to_owned())
                .map_err(|_| DialError::Name(name.to_owned()))?;
            transport.open_tls(config, name).map_err(DialError::Tls)?;
            shake_hands(&mut transport, &mut input).await?;
        }
        let mut hello = credentials.connect_line(&self.name, &info, tls);
        hello.extend_from_slice(broker_proto::encode::PING);
        write(&mut transport, &hello).await?;
        wait_for_pong(&mut transport, &mut input).await?;
        Ok(Connected {
            server: server.clone(),
            transport,
            input,
            info,
        })
    }

    /// Once; from then on it follows its files.
    fn load_tls(&mut self) -> Result<Arc<ClientTls>, ReloadError> {
        if let Some(tls) = &self.tls {
            return Ok(Arc::clone(tls));
        }
        let tls = Arc::new(ClientTls::load(self.settings.tls.clone())?);
        spawn_local(Arc::clone(&tls).watch(self.stop.clone()));
        self.tls = Some(Arc::clone(&tls));
        Ok(tls)
    }
}

async fn fill(transport: &mut Transport, input: &mut Input) -> Result<(), DialError> {
    match poll_fn(|cx| input.fill(transport, cx)).await? {
        true => Err(DialError::Closed),
        false => Ok(()),
    }
}

/// The server speaks first.
async fn read_info(
    transport: &mut Transport,
    input: &mut Input,
) -> Result<UpstreamInfo, DialError> {
    loop {
        let first = input.take_first(|op| match op {
            UpstreamOp::Info(json) => UpstreamInfo::from_json(json).map_err(|_| DialError::NoInfo),
            UpstreamOp::Error(text) => Err(DialError::Refused(text.escape_ascii().to_string())),
            _ => Err(DialError::NoInfo),
        })?;
        match first {
            Some(outcome) => return outcome,
            None => fill(transport, input).await?,
        }
    }
}

/// The answer to our `PING` says that our `CONNECT` was accepted.
async fn wait_for_pong(transport: &mut Transport, input: &mut Input) -> Result<(), DialError> {
    loop {
        let op = input.take_first(|op| match op {
            UpstreamOp::Pong => Ok(true),
            UpstreamOp::Error(text) => Err(DialError::Refused(text.escape_ascii().to_string())),
            _ => Ok(false),
        })?;
        match op.transpose()? {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => fill(transport, input).await?,
        }
    }
}

/// Until both sides are done with TLS and our last message is on its way.
async fn shake_hands(transport: &mut Transport, input: &mut Input) -> Result<(), DialError> {
    let ended = poll_fn(|cx| {
        loop {
            transport.send_accepted()?;
            if transport.has_unsent() {
                ready!(transport.poll_write_ready(cx))?;
                continue;
            }
            if !transport.is_handshaking() {
                return Poll::Ready(Ok(false));
            }
            match input.fill(transport, cx) {
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending if transport.is_handshaking() && !transport.has_unsent() => {
                    return Poll::Pending;
                }
                // The last step was taken in there.
                Poll::Pending => {}
            }
        }
    });
    match ended.await {
        Ok(false) => Ok(()),
        Ok(true) => Err(DialError::Closed),
        Err(error) => match error.downcast() {
            Ok(error) => Err(DialError::Tls(error)),
            Err(error) => Err(error.into()),
        },
    }
}

async fn write(transport: &mut Transport, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() || transport.has_unsent() {
        let outcome = match bytes.is_empty() {
            true => transport.send_accepted().map(|()| 0),
            false => transport.try_write_vectored(&[IoSlice::new(bytes)]),
        };
        match outcome {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| transport.poll_write_ready(cx)).await?;
            }
            Err(error) => return Err(error),
        }
        if transport.has_unsent() {
            poll_fn(|cx| transport.poll_write_ready(cx)).await?;
        }
    }
    Ok(())
}
