//! New settings meet living connections.
//!
//! What a reload does to clients, as observed on nats-server (core-nats 3.6): whose user is gone is
//! closed without a word; whose secret changed, or who never showed one and now must, is refused; whose
//! rights were narrowed loses the subscriptions concerned, and stays.

use std::sync::Arc;

use broker_core::{
    auth::{Standing, user::User},
    subscription::Subscription,
};
use broker_proto::op::ServerError;
use certs::reload::PeerRefusal;

use crate::{
    close_reason::CloseReason,
    drive::peer_refusal,
    settings::Settings,
    shared::is_full,
    worker::{Worker, WorkerHandle},
};

impl WorkerHandle {
    /// Takes new settings over.
    pub(crate) fn apply(&self, new: Arc<Settings>) {
        self.with(|worker| worker.apply(new));
    }
}

impl Worker {
    fn apply(&mut self, new: Arc<Settings>) {
        let old = std::mem::replace(&mut self.exchange.settings, new);
        let new = Arc::clone(&self.exchange.settings);
        if !Arc::ptr_eq(&old.authorization, &new.authorization) {
            self.judge_again();
        }
        if old.loaded != new.loaded {
            self.check_pins();
        }
        if old.config.max_connections != new.config.max_connections {
            self.close_excess();
        }
        if old.info != new.info && !self.exchange.shared.is_lame_duck() {
            self.announce(|_| {});
        }
        if old.config.trace != new.config.trace {
            for (_, connection) in &mut self.exchange.connections {
                connection.trace(new.config.trace);
            }
        }
        self.apply_to_routes(&old);
    }

    fn judge_again(&mut self) {
        let slots: Vec<_> = self
            .exchange
            .connections
            .iter()
            .filter(|(_, one)| one.client().is_some() && one.closing.is_none())
            .map(|(slot, _)| slot)
            .collect();
        let authorization = Arc::clone(&self.exchange.settings.authorization);
        for slot in slots {
            let standing = match self.session(slot).user() {
                Some(user) => Some(authorization.find_again(user)),
                // It has to show who it is, as before; or nobody has to any more.
                None => authorization.without_connect().map(Standing::Stays),
            };
            match standing {
                Some(Standing::Stays(user)) => self.change_user(slot, user),
                Some(Standing::Violation) => self.violation(slot),
                Some(Standing::Gone) => self.refuse(slot, None, CloseReason::CredentialsRevoked),
                None => {}
            }
        }
        for account in self.exchange.shared.accounts.list() {
            account.sublist.change(|list| list.invalidate());
        }
    }

    fn change_user(&mut self, slot: usize, user: Arc<User>) {
        let account = self.exchange.shared.account_of(&user);
        let connection = &mut self.exchange.connections[slot];
        connection.peer.set_permissions(user.permissions().cloned());
        connection.authenticate_by = None;
        let session = connection.session();
        if !Arc::ptr_eq(session.account(), &account) {
            // Its subscriptions are in another world now; it comes again and finds its own.
            return self.refuse(slot, None, CloseReason::CredentialsRevoked);
        }
        let revoked: Vec<Arc<Subscription>> = session.change_user(user);
        self.exchange.shared.unsubscribe(&account, &revoked);
        for subscription in revoked {
            let error = ServerError::SubscriptionRevoked {
                subject: &subscription.subject,
                sid: &subscription.sid,
            };
            self.report(slot, &error);
        }
    }

    /// Whose certificate is pinned no more has to go, client or server. Others stay, as long as their
    /// connection does, whatever has become of their certificate.
    fn check_pins(&mut self) {
        let settings = Arc::clone(&self.exchange.settings);
        for (_, connection) in &mut self.exchange.connections {
            if peer_refusal(connection, &settings) == Some(PeerRefusal::NotPinned) {
                connection.close(CloseReason::HandshakeFailure);
            }
        }
    }

    /// Those who came last have to go, worker by worker, until there are no more than allowed.
    fn close_excess(&mut self) {
        let shared = Arc::clone(&self.exchange.shared);
        let settings = Arc::clone(&self.exchange.settings);
        let limit = settings.config.max_connections;
        let Some(limit) = limit.filter(|_| is_full(&shared, &settings.config)) else {
            return;
        };
        // Every worker takes its part, since connections are dealt out evenly.
        let workers = shared.workers.len();
        let mut clients: Vec<_> = self
            .exchange
            .connections
            .iter()
            .filter(|(_, one)| one.client().is_some() && one.closing.is_none())
            .map(|(slot, one)| (one.peer.id, slot))
            .collect();
        let share = limit / workers + usize::from(self.exchange.worker < limit % workers);
        clients.sort_unstable();
        for (_, slot) in clients.split_off(share.min(clients.len())) {
            let error = Some(ServerError::MaxConnections);
            self.refuse(slot, error, CloseReason::MaxConnections);
        }
    }
}
