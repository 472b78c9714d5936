//! A socket, plain or under TLS, as a worker sees it: readiness, reads, vectored writes, none of which
//! ever waits.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, ServerName},
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: TcpStream,
    /// Nothing has been written. The runtime believes in no readiness that it has not been told of; a
    /// first write that does not ask it saves a look at all sockets, and the client gets its `INFO` at once.
    untouched: bool,
    /// Ciphertext that the socket does not take waits in here.
    tls: Option<Box<Connection>>,
}

impl Transport {
    /// In clear.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            untouched: true,
            tls: None,
        }
    }

    /// Goes on under TLS on the same socket. Everything written so far must have been sent.
    pub(crate) fn upgrade(&mut self, config: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        let tls = ServerConnection::new(config)?;
        self.tls = Some(Box::new(tls.into()));
        Ok(())
    }

    /// Goes on under TLS as the one who opened the connection.
    pub(crate) fn open_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), rustls::Error> {
        let tls = ClientConnection::new(config, name)?;
        self.tls = Some(Box::new(tls.into()));
        Ok(())
    }

    /// The first byte that came, left where it is; `None` at the end. Cancel-safe.
    pub(crate) fn poll_first_byte(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let seen = ready!(self.socket.poll_peek(cx, &mut buffer))?;
        Poll::Ready(Ok((seen > 0).then_some(byte[0])))
    }

    /// TLS is spoken, or about to be.
    pub(crate) fn tls(&self) -> Option<&Connection> {
        self.tls.as_deref()
    }

    /// What the other end proved to be, leaf first; empty without TLS or certificate.
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.tls
            .as_ref()
            .and_then(|tls| tls.peer_certificates())
            .unwrap_or_default()
    }

    /// The TLS handshake is not over yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Bytes accepted from the caller that the socket has not taken yet.
    pub(crate) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Reads what there is; 0 is the end. A result shorter than the buffer says that a plain socket is
    /// drained. Cancel-safe.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else {
            return poll_read(&mut self.socket, cx, buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
            match tls.read_tls(&mut Source {
                socket: &mut self.socket,
                cx,
            }) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
            let processed = tls.process_new_packets();
            // Handshake messages, or the alert that tells the client what was wrong. Tickets wait for what
            // goes out anyway: the end of a handshake mostly comes together with what it was for.
            let sent = if tls.is_handshaking() || processed.is_err() {
                send(tls, &self.socket)
            } else {
                Ok(())
            };
            if let Err(error) = processed {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            sent?;
        }
    }

    /// Ready when a write that would have blocked may go on. Cancel-safe.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// Writes what is taken now; would block if nothing is. TLS accepts no more than its buffer holds,
    /// and nothing while earlier bytes wait there.
    pub(crate) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            if std::mem::take(&mut self.untouched) {
                return SockRef::from(&self.socket).send_vectored(slices);
            }
            return self.socket.try_write_vectored(slices);
        };
        send(tls, &self.socket)?;
        if tls.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let accepted = tls.writer().write_vectored(slices)?;
        send(tls, &self.socket)?;
        Ok(accepted)
    }

    /// Sends what was accepted earlier, as far as the socket takes it.
    pub(crate) fn send_accepted(&mut self) -> io::Result<()> {
        self.tls
            .as_deref_mut()
            .map_or(Ok(()), |tls| send(tls, &self.socket))
    }

    /// Says that nothing more will come, as far as that is possible without waiting. Whoever has `gone`
    /// hears it only if he said so himself.
    pub(crate) fn close(&mut self, gone: bool) {
        if let Some(tls) = &mut self.tls
            && !tls.is_handshaking()
            && (!gone || has_said_goodbye(tls))
        {
            tls.send_close_notify();
            // Whoever does not read it is gone already.
            let _ = send(tls, &self.socket);
        }
        if !gone {
            // The same holds here.
            let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
        }
    }
}

fn has_said_goodbye(tls: &mut Connection) -> bool {
    tls.process_new_packets()
        .is_ok_and(|state| state.peer_has_closed())
}

/// Sends ciphertext as far as the socket takes it.
fn send(tls: &mut Connection, socket: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut Drain(socket)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn poll_read(
    socket: &mut TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    // Unlike `try_read` this takes a short read as the end of readiness, which saves a system call a
    // pass.
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// A socket to read from within a poll: what would be pending would block.
struct Source<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Read for Source<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match poll_read(self.socket, self.cx, buffer) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// A socket to write to without waiting.
struct Drain<'a>(&'a TcpStream);

impl Write for Drain<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
