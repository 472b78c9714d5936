//! Others who have all connections of a database server.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

/// The protocol's version 3.0.
const VERSION: u32 = 3 << 16;

/// For an answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// More connections than any server of the tests has.
const MOST: usize = 1000;

/// Sessions, open until they are dropped. Who is not asked for a password gets in.
#[derive(Debug)]
pub(crate) struct Crowd {
    port: u16,
    user: String,
    sessions: Vec<TcpStream>,
}

impl Crowd {
    /// Takes what is left.
    ///
    /// # Errors
    /// The server says anything else than that it is full.
    pub(crate) fn gather(port: u16, user: &str) -> anyhow::Result<Self> {
        let mut crowd = Self {
            port,
            user: user.to_owned(),
            sessions: Vec::new(),
        };
        crowd.grow()?;
        Ok(crowd)
    }

    /// Takes what has become free. Comes back when nothing is left.
    ///
    /// # Errors
    /// See [`Self::gather`].
    pub(crate) fn grow(&mut self) -> anyhow::Result<()> {
        while let Some(session) = enter(self.port, &self.user)? {
            self.sessions.push(session);
            ensure!(self.sessions.len() < MOST, "the server is never full");
        }
        Ok(())
    }

    /// Runs a query in one of the sessions; how many rows it has.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn run(&mut self, sql: &str) -> anyhow::Result<usize> {
        let session = self.sessions.last_mut().context("nobody is there")?;
        let text = [sql.as_bytes(), b"\0"].concat();
        session.write_all(&framed(b"Q", &text)?)?;
        match await_ready(session)? {
            Answer::Ready { rows } => Ok(rows),
            Answer::Full => bail!("no answer to a query"),
        }
    }
}

/// A session. None: all connections are taken.
fn enter(port: u16, user: &str) -> anyhow::Result<Option<TcpStream>> {
    let mut session = TcpStream::connect(("127.0.0.1", port)).context("joining the crowd")?;
    session.set_read_timeout(Some(PATIENCE))?;
    let parameters = format!("user\0{user}\0database\0postgres\0application_name\0crowd\0\0");
    let startup = [&VERSION.to_be_bytes()[..], parameters.as_bytes()].concat();
    session.write_all(&framed(b"", &startup)?)?;
    Ok(match await_ready(&mut session)? {
        Answer::Ready { .. } => Some(session),
        Answer::Full => None,
    })
}

fn framed(kind: &[u8], body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u32::try_from(body.len() + 4).context("a short message")?;
    Ok([kind, &length.to_be_bytes(), body].concat())
}

enum Answer {
    /// The server is ready for a query; so many rows were before.
    Ready { rows: usize },
    /// It has no connection left.
    Full,
}

fn await_ready(session: &mut TcpStream) -> anyhow::Result<Answer> {
    let mut rows = 0;
    loop {
        let mut head = [0; 5];
        session.read_exact(&mut head).context("reading an answer")?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        let mut body = vec![0; length.checked_sub(4).context("a length of an answer")?];
        session.read_exact(&mut body).context("reading an answer")?;
        match kind {
            b'Z' => return Ok(Answer::Ready { rows }),
            b'D' => rows += 1,
            // Fields: a letter, a text, a zero.
            b'E' if body.split(|byte| *byte == 0).any(|one| one == b"C53300") => {
                return Ok(Answer::Full);
            }
            b'E' => bail!("refused: {}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}
