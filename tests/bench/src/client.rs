//! One connection of the load: the protocol by hand, so that it costs less than the server does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ClientConnection, StreamOwned};

use crate::tls::Tls;

/// After so much silence a pass has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Room for what is read at once, but for subscribers, which read more.
const READ_BYTES: usize = 4096;

const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"stanchion-bench\",\
    \"version\":\"1\",\"protocol\":1}\r\nPING\r\n";

/// What bytes go through.
#[derive(Debug)]
enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Client {
    link: Link,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// A message that came, as a place in the client's buffer.
struct Message {
    payload_at: usize,
    payload_bytes: usize,
}

impl Client {
    /// INFO, TLS if asked for, CONNECT, PING and PONG.
    ///
    /// # Errors
    /// When the server refuses or falls silent.
    pub(crate) fn connect(server: SocketAddr, tls: Option<&Tls>) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(server).context("connecting")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut client = Self {
            link: Link::Plain(socket),
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
        };
        let info = client.line()?;
        ensure!(info.starts_with(b"INFO "), "no INFO at first");
        if let Some(tls) = tls {
            // The server says nothing more before the handshake, so nothing is left in the buffer.
            ensure!(client.start == client.end, "more than INFO before TLS");
            let Link::Plain(socket) = client.link else {
                unreachable!("it was made plain above");
            };
            let stream = StreamOwned::new(tls.connect()?, socket);
            client.link = Link::Tls(Box::new(stream));
        }
        client.link.write_all(CONNECT).context("sending CONNECT")?;
        client.pong()?;
        Ok(client)
    }

    /// # Errors
    /// When the server does not take it.
    pub(crate) fn subscribe(&mut self, subject: &str) -> anyhow::Result<()> {
        self.send(format!("SUB {subject} 1\r\n").as_bytes())?;
        self.ping()
    }

    /// # Errors
    /// When the connection is gone, or takes nothing for long.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.link.write_all(bytes).context("writing to the server")
    }

    /// PING and its PONG: everything sent before has been worked on. Fails when a message comes instead.
    ///
    /// # Errors
    /// See above.
    pub(crate) fn ping(&mut self) -> anyhow::Result<()> {
        self.send(b"PING\r\n")?;
        self.pong()
    }

    fn pong(&mut self) -> anyhow::Result<()> {
        loop {
            let line = self.line()?;
            if line == b"PONG" {
                return Ok(());
            }
            let line = line.to_vec();
            self.control(&line)?;
        }
    }

    /// Answers what the server asked in the meantime, without waiting.
    ///
    /// # Errors
    /// When it said that something is wrong.
    pub(crate) fn answer_pings(&mut self) -> anyhow::Result<()> {
        loop {
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let mut socket = [PollFd::new(self.socket(), PollFlags::IN)];
            if poll(&mut socket, Some(&now)).context("asking for input")? == 0 {
                return Ok(());
            }
            let line = self.line()?.to_vec();
            self.control(&line)?;
        }
    }

    /// A line that is no message. `PONG` is not expected here.
    fn control(&mut self, line: &[u8]) -> anyhow::Result<()> {
        match line {
            b"PING" => self.send(b"PONG\r\n"),
            line if line.starts_with(b"INFO ") => Ok(()),
            line => bail!("the server says {:?}", String::from_utf8_lossy(line)),
        }
    }

    /// The next message's payload.
    ///
    /// # Errors
    /// When none comes for long.
    pub(crate) fn payload(&mut self) -> anyhow::Result<&[u8]> {
        let message = self.message()?;
        Ok(&self.buffer[message.payload_at..message.payload_at + message.payload_bytes])
    }

    fn message(&mut self) -> anyhow::Result<Message> {
        loop {
            let line = self.line()?;
            if line.starts_with(b"MSG ") {
                let size = line.rsplit(|byte| *byte == b' ').next();
                let size = size.and_then(|size| std::str::from_utf8(size).ok()?.parse().ok());
                let payload_bytes: usize = size.context("a message without a size")?;
                while self.end - self.start < payload_bytes + 2 {
                    self.fill()?;
                }
                let payload_at = self.start;
                self.start += payload_bytes + 2;
                return Ok(Message {
                    payload_at,
                    payload_bytes,
                });
            }
            let line = line.to_vec();
            self.control(&line)?;
        }
    }

    /// The next line without its end.
    fn line(&mut self) -> anyhow::Result<&[u8]> {
        let mut seen = 0;
        loop {
            let rest = &self.buffer[self.start + seen..self.end];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let line = self.start..self.start + seen + length;
                self.start = line.end + 1;
                return Ok(self.buffer[line].trim_ascii_end());
            }
            seen = self.end - self.start;
            self.fill()?;
        }
    }

    /// Reads at least a byte behind what is there.
    fn fill(&mut self) -> anyhow::Result<()> {
        match self.read() {
            Ok(true) => Ok(()),
            Ok(false) => bail!("the server closed the connection"),
            Err(error) => Err(error).context("reading from the server"),
        }
    }

    /// Reads once behind what is there; false at the end of the connection.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` too, where it does not wait.
    pub(crate) fn read(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let bytes = self.link.read(&mut self.buffer[self.end..])?;
        self.end += bytes;
        Ok(bytes > 0)
    }

    /// What was read and not taken yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes the first of what [`Self::unread`] gives.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end, "more taken than read");
    }

    /// Whether reading and writing wait for the other side; they do at first.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn wait(&self, wait: bool) -> anyhow::Result<()> {
        let socket = self.link.socket();
        socket.set_nonblocking(!wait).context("changing a socket")
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` too, where it does not wait.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.link.write(bytes)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.link.socket()
    }

    /// Takes exactly `count` messages of `frame_bytes` each, line ends and all, and nothing else.
    ///
    /// Only both ends of a frame are looked at: that all are of one length, and that PONG follows at once, leaves no
    /// room for a message too few, too many or cut.
    ///
    /// # Errors
    /// When anything else comes, or nothing for long.
    pub(crate) fn take(&mut self, count: u64, frame_bytes: usize) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            while left > 0 && self.end - self.start >= frame_bytes {
                let frame = &self.buffer[self.start..self.start + frame_bytes];
                if frame[0] != b'M' || frame[frame_bytes - 1] != b'\n' {
                    break;
                }
                self.start += frame_bytes;
                left -= 1;
            }
            if left == 0 {
                break;
            }
            let rest = &self.buffer[self.start..self.end];
            match rest.first() {
                None | Some(b'M') if rest.len() < frame_bytes => self.fill()?,
                _ => {
                    let line = self.line()?.to_vec();
                    ensure!(!line.starts_with(b"MSG"), "a message of another length");
                    self.control(&line)?;
                }
            }
        }
        self.ping()
    }

    /// Reads `bytes` at once from now on.
    pub(crate) fn read_much(&mut self, bytes: usize) {
        self.buffer.resize(bytes.max(self.buffer.len()), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A client whose server sends `script` after its handshake, and then answers one PING.
    fn with_server(script: Vec<u8>) -> (Client, thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(b"INFO {}\r\n").unwrap();
            let mut connect = vec![0; CONNECT.len()];
            socket.read_exact(&mut connect).unwrap();
            socket.write_all(b"PONG\r\n").unwrap();
            socket.write_all(&script).unwrap();
            let mut heard = Vec::new();
            let mut buffer = [0; 64];
            while !heard.ends_with(b"PING\r\n") {
                let bytes = socket.read(&mut buffer).unwrap_or(0);
                if bytes == 0 {
                    return heard;
                }
                heard.extend_from_slice(&buffer[..bytes]);
            }
            let _ = socket.write_all(b"PONG\r\n");
            heard
        });
        (Client::connect(address, None).unwrap(), server)
    }

    const FRAME: &[u8] = b"MSG bench 1 2\r\nxx\r\n";

    #[test]
    fn messages_are_counted_and_pings_between_them_answered() {
        let mut script = FRAME.repeat(500);
        script.extend_from_slice(b"PING\r\n");
        script.extend_from_slice(&FRAME.repeat(500));
        let (mut client, server) = with_server(script);
        client.take(1000, FRAME.len()).unwrap();
        assert_eq!(server.join().unwrap(), b"PONG\r\nPING\r\n");
    }

    #[test]
    fn a_message_too_many_is_an_error() {
        let (mut client, _server) = with_server(FRAME.repeat(11));
        assert!(client.take(10, FRAME.len()).is_err());
    }

    #[test]
    fn an_error_of_the_server_ends_the_count() {
        let (mut client, _server) = with_server(b"-ERR 'Slow Consumer'\r\n".to_vec());
        let error = client.take(10, FRAME.len()).unwrap_err();
        assert!(error.to_string().contains("Slow Consumer"));
    }

    #[test]
    fn a_message_of_another_length_is_an_error() {
        let mut script = FRAME.to_vec();
        script.extend_from_slice(b"MSG bench 1 1\r\nx\r\n");
        script.extend_from_slice(FRAME);
        let (mut client, _server) = with_server(script);
        assert!(client.take(3, FRAME.len()).is_err());
    }

    #[test]
    fn payloads_come_one_by_one() {
        let (mut client, _server) = with_server(b"MSG a 1 3\r\nxyz\r\nMSG a 1 0\r\n\r\n".to_vec());
        assert_eq!(client.payload().unwrap(), b"xyz");
        assert_eq!(client.payload().unwrap(), b"");
    }
}
