//! Registered clients, found by id and by connection id.

use std::collections::HashMap;

use ahash::RandomState;
use broker_proto::streaming::{ClientInfo, ConnectRequest};
use bytes::Bytes;

use super::keys::{ClientKey, SubKey, Table};
use crate::effect::RequestId;

#[derive(Debug)]
pub(super) struct Client {
    pub(super) info: ClientInfo,
    /// Tells this registration from a later one in the same place.
    pub(super) serial: u64,
    /// Consecutive heartbeats without answer.
    pub(super) failed_heartbeats: u32,
    /// The heartbeat that is waited for.
    pub(super) heartbeat: Option<RequestId>,
    /// A new connection wants this id, and this client is asked whether it is still there.
    pub(super) probe: Option<Probe>,
    pub(super) subs: Vec<SubKey>,
}

/// A connect request that waits for the outcome of a probe.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) request: RequestId,
    pub(super) connect: ConnectRequest,
    pub(super) reply: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Clients {
    table: Table<ClientKey, Client>,
    by_id: HashMap<String, ClientKey, RandomState>,
    /// Later registrations own a shared connection id.
    by_conn_id: HashMap<Bytes, ClientKey, RandomState>,
    next_serial: u64,
}

impl Clients {
    /// The id must not be registered.
    pub(super) fn register(&mut self, info: ClientInfo) -> ClientKey {
        self.next_serial += 1;
        let client = Client {
            info,
            serial: self.next_serial,
            failed_heartbeats: 0,
            heartbeat: None,
            probe: None,
            subs: Vec::new(),
        };
        let (id, conn_id) = (client.info.id.clone(), client.info.conn_id.clone());
        let key = self.table.insert(client);
        let before = self.by_id.insert(id, key);
        assert!(before.is_none(), "a client id is registered once");
        if !conn_id.is_empty() {
            self.by_conn_id.insert(conn_id, key);
        }
        key
    }

    pub(super) fn unregister(&mut self, key: ClientKey) -> Client {
        let client = self.table.remove(key);
        self.by_id.remove(&client.info.id);
        if self.by_conn_id.get(&client.info.conn_id) == Some(&key) {
            self.by_conn_id.remove(&client.info.conn_id);
        }
        client
    }

    pub(super) fn by_id(&self, id: &str) -> Option<ClientKey> {
        self.by_id.get(id).copied()
    }

    pub(super) fn by_conn_id(&self, conn_id: &[u8]) -> Option<ClientKey> {
        self.by_conn_id.get(conn_id).copied()
    }

    /// A connection id decides alone when given; else the client id does.
    pub(super) fn is_valid_sender(&self, client_id: &[u8], conn_id: &[u8]) -> bool {
        if !conn_id.is_empty() {
            return self.by_conn_id.contains_key(conn_id);
        }
        std::str::from_utf8(client_id).is_ok_and(|id| self.by_id.contains_key(id))
    }

    pub(super) fn get(&self, key: ClientKey) -> &Client {
        &self.table[key]
    }

    pub(super) fn get_mut(&mut self, key: ClientKey) -> &mut Client {
        &mut self.table[key]
    }

    /// The registration with this serial, if it is still there.
    pub(super) fn is_current(&self, key: ClientKey, serial: u64) -> bool {
        self.table
            .get(key)
            .is_some_and(|client| client.serial == serial)
    }

    pub(super) fn is_failing(&self, key: Option<ClientKey>) -> bool {
        key.and_then(|key| self.table.get(key))
            .is_some_and(|client| client.failed_heartbeats > 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> {
        self.table.iter()
    }

    pub(super) fn keys(&self) -> Vec<ClientKey> {
        self.table.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}
