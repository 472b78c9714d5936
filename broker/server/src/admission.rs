//! The beginning and the end of a connection: it gets a place, is greeted, and leaves nothing behind.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use broker_core::{liveness::Liveness, peer::Peer, session::Session};
use broker_proto::op::ServerError;
use tracing::{debug, warn};

use crate::{
    close_reason::CloseReason,
    config::HandshakeFirst,
    connection::{Connection, Phase, Role},
    listener::{Newcomer, Origin},
    output::ChunkPool,
    settings::{Settings, TlsPort},
    shared::is_full,
    transport::Transport,
    worker::Worker,
};

impl Worker {
    /// Makes a place for a connection and greets it; gives its place and number.
    pub(crate) fn admit(&mut self, newcomer: Newcomer) -> Option<(usize, u64)> {
        let now = Instant::now();
        self.exchange.now = now;
        let socket = match tokio::net::TcpStream::from_std(newcomer.socket) {
            Ok(socket) => socket,
            Err(error) => {
                warn!("{} - unable to serve: {error}", newcomer.address);
                self.turned_away(newcomer.origin);
                return None;
            }
        };
        let id = self.exchange.shared.next_id();
        let slot = self.exchange.connections.vacant_key();
        let peer = Arc::new(Peer::new(id, self.exchange.worker, slot));
        let transport = Transport::new(socket);
        match newcomer.origin {
            Origin::ClientPort => self.admit_client(peer, transport, newcomer.address, now),
            origin => self.admit_route(peer, transport, newcomer.address, origin, now)?,
        }
        self.schedule_pass();
        Some((slot, id))
    }

    fn turned_away(&mut self, origin: Origin) {
        match origin {
            Origin::ClientPort => self.exchange.shared.release_client(self.exchange.worker),
            Origin::RoutePort => {}
            Origin::Dialled(dialled) => self.dial_failed(dialled.target),
        }
    }

    fn admit_client(
        &mut self,
        peer: Arc<Peer>,
        transport: Transport,
        address: SocketAddr,
        now: Instant,
    ) {
        let (shared, settings) = (&self.exchange.shared, &self.exchange.settings);
        let user = settings.authorization.without_connect();
        let account = match &user {
            Some(user) => shared.account_of(user),
            None => Arc::clone(shared.accounts.global()),
        };
        if let Some(user) = &user {
            peer.set_permissions(user.permissions().cloned());
        }
        let (id, awaited) = (peer.id, user.is_none());
        let tls_port = settings.config.tls.as_ref();
        let phase = tls_port.map_or(Phase::Open, |tls| first_phase(tls, now));
        let role = Role::Client(Session::new(user, account));
        let liveness = Liveness::new(&settings.pings(), now);
        let mut connection = Connection::new(peer, address, transport, role, liveness, phase);
        if settings.authorization.wants_nonce() {
            // Without random numbers nobody can sign, but others can still log in.
            connection.nonce = shared.nonce().unwrap_or_default().into();
        }
        if awaited {
            let from = connection.phase.deadline().unwrap_or(now);
            connection.authenticate_by = Some(from + settings.config.auth_timeout);
        }
        connection.trace(settings.config.trace);
        debug!("{address} - cid:{id} - Client connection created");
        let full = is_full(shared, &settings.config);
        let tls_first = tls_port.is_some_and(|tls| tls.first != HandshakeFirst::Never);
        if !tls_first || full {
            greet(&mut connection, settings, &mut self.exchange.pool);
        }
        if full {
            let error = Some(ServerError::MaxConnections);
            connection.refuse(error, CloseReason::MaxConnections, &mut self.exchange.pool);
        }
        connection.flush(now, &mut self.exchange.pool);
        self.exchange.connections.insert(connection);
        self.exchange.counters.connections += 1;
        self.exchange.counters.total_connections += 1;
    }

    /// Takes a connection out, with everything that others know of it.
    pub(crate) fn release(&mut self, slot: usize) {
        let mut connection = self.exchange.connections.remove(slot);
        let reason = connection.closing.unwrap_or(CloseReason::ClientClosed);
        connection.peer.depart();
        connection.output.clear(&mut self.exchange.pool);
        // Whoever sees the end finds what was published before it on its way.
        self.exchange.hand_over();
        connection
            .transport
            .close(reason == CloseReason::ClientClosed);
        match &mut connection.role {
            Role::Client(session) => {
                debug!(
                    "{} - cid:{} - Client connection closed: {reason}",
                    connection.address, connection.peer.id
                );
                let ended = session.close();
                let account = Arc::clone(session.account());
                for subscription in &ended {
                    connection.trace_ended(&subscription.sid);
                }
                self.exchange.shared.unsubscribe(&account, &ended);
                self.exchange.counters.connections -= 1;
                if reason == CloseReason::StaleConnection {
                    self.exchange.counters.stale_clients += 1;
                }
                self.exchange.shared.release_client(self.exchange.worker);
                self.remember_closed(&connection, &ended, reason);
            }
            Role::Route(_) => self.release_route(connection, reason),
        }
        self.schedule_pass();
    }
}

/// Queues `INFO`.
pub(crate) fn greet(connection: &mut Connection, settings: &Settings, pool: &mut ChunkPool) {
    let info = settings.info(connection.peer.id, connection.address, &connection.nonce);
    connection.greeted = true;
    connection.put(&info.to_line(), pool);
}

/// How a client's connection begins where there is TLS.
fn first_phase(tls: &TlsPort, now: Instant) -> Phase {
    let deadline = now + tls.timeout;
    match tls.first {
        HandshakeFirst::Always => Phase::Greeting { deadline },
        HandshakeFirst::After(wait) => Phase::Expecting {
            until: now + wait,
            deadline,
        },
        HandshakeFirst::Never if tls.optional => Phase::Undecided,
        HandshakeFirst::Never => Phase::Greeting { deadline },
    }
}
