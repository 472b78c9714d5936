//! Another server, played by bytes.

use std::ops::{Deref, DerefMut};

use anyhow::ensure;
use serde_json::{Value, json};
use tests::{patience, wire::Wire};

use super::node::{Node, PATIENCE};

/// What a peer says of itself: members that differ from the usual, for `CONNECT` and `INFO`.
#[derive(Debug)]
pub(crate) struct Manner {
    pub(crate) connect: Value,
    pub(crate) info: Value,
}

impl Default for Manner {
    /// Nothing unusual.
    fn default() -> Self {
        Self {
            connect: json!({}),
            info: json!({}),
        }
    }
}

/// A connection to the port of routes that has introduced itself.
#[derive(Debug)]
pub(crate) struct Peer {
    wire: Wire,
    /// What came and nobody has asked for yet.
    said: String,
}

impl Peer {
    /// Known to the server.
    pub(crate) async fn join(node: &Node, id: &str) -> Self {
        Self::join_in(node, id, &Manner::default()).await
    }

    pub(crate) async fn join_in(node: &Node, id: &str, manner: &Manner) -> Self {
        let mut wire = introduced(node, id, manner).await;
        let said = wire.answers().await.unwrap();
        Self { wire, said }
    }

    /// As soon as the server has forgotten an earlier connection under the same name.
    pub(crate) async fn join_again(node: &Node, id: &str) -> Self {
        let joined = patience::until("it may come again", PATIENCE, async || {
            let mut wire = introduced(node, id, &Manner::default()).await;
            let said = wire.answers().await?;
            Ok(Self { wire, said })
        });
        joined.await.unwrap()
    }

    /// Reads until everything of this has come; all that came since the last time.
    pub(crate) async fn hears(&mut self, texts: &[&str]) -> String {
        let mut said = std::mem::take(&mut self.said);
        let heard = patience::until("words of the server", PATIENCE, async || {
            said += &self.wire.answers().await?;
            for text in texts {
                ensure!(said.contains(text), "{text:?} is not in {said:?}");
            }
            Ok(())
        });
        heard.await.unwrap();
        said
    }

    /// All of it is known to the server afterwards.
    pub(crate) async fn tells(&mut self, text: &str) {
        self.wire.send(text.as_bytes()).await.unwrap();
        self.said += &self.wire.answers().await.unwrap();
    }
}

impl Deref for Peer {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

/// A peer that has said who it is, of cluster `c`. What the server makes of it is still to be read.
pub(crate) async fn introduced(node: &Node, id: &str, manner: &Manner) -> Wire {
    let mut wire = Wire::connect(node.routes).await.unwrap();
    let text = introduction(id, manner).concat();
    wire.send(text.as_bytes()).await.unwrap();
    wire
}

/// `CONNECT` and `INFO`.
pub(crate) fn introduction(id: &str, manner: &Manner) -> [String; 2] {
    let mut connect = json!({"verbose": false, "headers": true, "name": id, "cluster": "c"});
    // As a server from before pools of routes does, so that there is one connection.
    let mut info = json!({"server_id": id, "server_name": id, "version": "2.9.24", "proto": 1,
        "go": "go", "host": "127.0.0.1", "port": 1, "headers": true, "max_payload": 1_048_576,
        "cluster": "c"});
    for (all, unusual) in [(&mut connect, &manner.connect), (&mut info, &manner.info)] {
        for (member, value) in unusual.as_object().expect("members") {
            all[member] = value.clone();
        }
    }
    [format!("CONNECT {connect}\r\n"), format!("INFO {info}\r\n")]
}

/// Reads until `text` has come; everything that came.
pub(crate) async fn hears(wire: &mut Wire, text: &str) -> String {
    let mut got = String::new();
    let heard = patience::until(text, PATIENCE, async || {
        got += &wire.answers().await?;
        ensure!(got.contains(text), "{got}");
        Ok(())
    });
    heard.await.unwrap();
    got
}

/// Everything of the interest that is told, but for the server's own.
pub(crate) fn interest(said: &str) -> Vec<&str> {
    said.lines()
        .filter(|line| line.starts_with("RS") && !line[3..].starts_with(" $SYS "))
        .collect()
}

/// The same in no particular order.
pub(crate) fn sorted_interest(said: &str) -> Vec<&str> {
    let mut all = interest(said);
    all.sort_unstable();
    all
}

/// Everything but interest.
pub(crate) fn without_interest(said: &str) -> String {
    let lines = said.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("RS")).collect()
}
