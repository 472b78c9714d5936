//! What other servers say.

use std::sync::Arc;

use broker_core::{
    account::Account, auth::user::Verdict, cluster::mesh::RouteId, router::route_arrived,
};
use broker_proto::{
    encode,
    parser::{Limits, Step},
    quote::Quoted,
    route::{RouteConnect, RouteInfo, RouteMessage, RouteOp, parse},
    subject,
};
use tracing::error;

use super::Routes;
use crate::{authenticate::may_authenticate, close_reason::CloseReason, worker::Worker};

/// Largest message taken from a peer, which has limits of its own for its clients.
const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

impl Worker {
    /// Carries out all whole operations at the start of the input; returns how many bytes they took.
    pub(crate) fn operate_route(&mut self, slot: usize, input: &[u8]) -> usize {
        let limits = Limits {
            max_control_line: self.exchange.settings.config.max_control_line,
            max_payload: MAX_MESSAGE_BYTES,
            headers: true,
        };
        let mut at = 0;
        loop {
            let connection = &mut self.exchange.connections[slot];
            if connection.closing.is_some() || connection.being_judged {
                break;
            }
            if !connection.link().is_connected && !may_authenticate(&input[at..]) {
                self.violation(slot);
                break;
            }
            match parse(&input[at..], &limits) {
                Ok(Step::Taken { op, consumed }) => {
                    connection.trace_in(&input[at..at + consumed]);
                    at += consumed;
                    self.carry_out_route(slot, op);
                }
                Ok(Step::Incomplete { needed }) => {
                    connection.needed = needed;
                    break;
                }
                Err(error) => {
                    self.refuse(slot, error.reply(), error.into());
                    break;
                }
            }
        }
        self.schedule_pass();
        at
    }

    fn carry_out_route(&mut self, slot: usize, op: RouteOp<'_>) {
        let now = self.exchange.now;
        let connection = &mut self.exchange.connections[slot];
        let route = RouteId(connection.peer.id);
        match op {
            RouteOp::Connect(json) => match RouteConnect::from_json(json) {
                Ok(connect) => self.judge_peer(slot, connect),
                Err(error) => self.misspoke(slot, &error),
            },
            RouteOp::Info(json) => match RouteInfo::from_json(json) {
                Ok(info) => self.with_mesh(|mesh, now| mesh.info(now, route, info)),
                Err(error) => self.misspoke(slot, &error),
            },
            RouteOp::Message(message) => {
                connection.liveness.heard(now);
                if connection.link().is_established {
                    self.deliver_arrived(slot, &message);
                }
            }
            RouteOp::Interest {
                account,
                subject,
                queue_group,
                weight,
            } => self.note_interest(slot, account, subject, queue_group, weight),
            RouteOp::NoInterest {
                account,
                subject,
                queue_group,
            } => self.note_interest(slot, account, subject, queue_group, 0),
            RouteOp::Ping => {
                connection.liveness.heard(now);
                self.reply(slot, encode::PONG);
            }
            RouteOp::Pong => connection.liveness.ponged(now),
            RouteOp::Ignored => {}
            RouteOp::Error(text) => {
                error!("{} - Route Error {}", connection.label(), Quoted(text));
                connection.close(CloseReason::ClientClosed);
            }
        }
    }

    fn misspoke(&mut self, slot: usize, error: &dyn std::fmt::Display) {
        error!("{} - {error}", self.exchange.connections[slot].label());
        self.refuse(slot, None, CloseReason::ProtocolViolation);
    }

    fn judge_peer(&mut self, slot: usize, connect: RouteConnect) {
        let Some(routes) = &self.routes else { return };
        // One with `lang` is a client, which the mesh tells so whatever it shows.
        let verdict = match connect.lang.is_empty() {
            true => routes.login.judge(&connect),
            false => return self.introduce(slot, &connect),
        };
        match verdict {
            Verdict::Accepted(_) => self.introduce(slot, &connect),
            Verdict::Refused => self.refuse_peer(slot),
            Verdict::Slow(check) => {
                self.check_slowly(slot, check, move |worker, user| match user {
                    Some(_) => worker.introduce(slot, &connect),
                    None => worker.refuse_peer(slot),
                })
            }
        }
    }

    fn introduce(&mut self, slot: usize, connect: &RouteConnect) {
        let connection = &mut self.exchange.connections[slot];
        let route = RouteId(connection.peer.id);
        connection.authenticate_by = None;
        connection.link().is_connected = true;
        self.with_mesh(|mesh, now| mesh.connect(now, route, connect));
    }

    fn refuse_peer(&mut self, slot: usize) {
        self.log_refusal(slot, "");
        self.violation(slot);
    }

    /// `weight` 0: there is none any more.
    fn note_interest(
        &mut self,
        slot: usize,
        account: &[u8],
        subject: &[u8],
        queue_group: &[u8],
        weight: u32,
    ) {
        let Some(account) = self.account(account) else {
            return;
        };
        let connection = &mut self.exchange.connections[slot];
        let peer = Arc::clone(&connection.peer);
        let link = connection.link();
        if !link.is_established || !subject::is_filter(subject) {
            return;
        }
        let permissions = self.routes.as_ref().map(|routes| &routes.permissions);
        if weight == 0 {
            link.want_no_more(&account, subject, queue_group);
        } else if permissions.is_some_and(|one| one.accepts(subject)) {
            link.want(&peer, &account, subject, queue_group, weight);
        }
    }

    /// What another server's client published.
    fn deliver_arrived(&mut self, slot: usize, message: &RouteMessage<'_>) {
        let publication = &message.publication;
        let bytes = publication.body().len() as u64;
        let traffic = &mut self.exchange.connections[slot].traffic;
        traffic.in_msgs += 1;
        traffic.in_bytes += bytes;
        let counters = &mut self.exchange.counters;
        counters.in_msgs += 1;
        counters.in_bytes += bytes;
        counters.route_in_msgs += 1;
        counters.route_in_bytes += bytes;
        let permissions = self.routes.as_ref().map(|routes| &routes.permissions);
        if !permissions.is_some_and(|one| one.imports(publication.subject)) {
            return;
        }
        let Some(account) = self.account(message.account) else {
            return;
        };
        self.count_from_route(&account, bytes);
        let from = self.exchange.connections[slot].peer.id;
        let interest = self.cache.look_up(publication.subject, &account);
        route_arrived(
            &interest,
            publication,
            &message.queue_groups,
            from,
            &mut self.dice,
            &mut self.exchange,
        );
        self.exchange.end_exhausted(&account);
    }

    /// An account by the name that a peer uses; one that this server does not have is nobody's.
    fn account(&mut self, name: &[u8]) -> Option<Arc<Account>> {
        let Routes { accounts, .. } = self.routes.as_mut()?;
        if let Some(known) = accounts.get(name) {
            return Some(Arc::clone(known));
        }
        let found = str::from_utf8(name).ok();
        let found = found.and_then(|name| self.exchange.shared.accounts.find(name))?;
        accounts.insert(name.into(), Arc::clone(&found));
        Some(found)
    }
}
