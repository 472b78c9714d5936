//! What the clients and services of this server want, as other servers have to be told of it.
//!
//! Every worker notes its changes here; worker 0 sends them on at the end of its pass. The order in
//! which changes are noted is that in which peers learn of them.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use broker_core::{
    account::Account,
    cluster::{
        interest::{LocalInterest, RoutePermissions},
        settings::ClusterSettings,
    },
    subscription::Subscription,
};

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct RouteInterest(Mutex<State>);

#[derive(Debug)]
struct State {
    local: LocalInterest,
    /// Routes that have been told everything so far.
    peers: usize,
    /// What they have not been told yet.
    news: Vec<u8>,
}

impl RouteInterest {
    pub(crate) fn new(settings: &ClusterSettings) -> Self {
        // Permissions that cannot be used are refused before anything starts.
        let permissions = RoutePermissions::new(settings).unwrap_or_default();
        Self(Mutex::new(State {
            local: LocalInterest::new(permissions),
            peers: 0,
            news: Vec::new(),
        }))
    }

    /// A subscription was made. Returns whether worker 0 has to be woken.
    pub(crate) fn added(&self, account: &Account, one: &Subscription) -> bool {
        self.note(|local, news| {
            local.add(
                account.name.as_bytes(),
                &one.subject,
                &one.queue_group,
                news,
            );
        })
    }

    /// Subscriptions have gone. Returns whether worker 0 has to be woken.
    pub(crate) fn removed(&self, account: &Account, ended: &[Arc<Subscription>]) -> bool {
        self.note(|local, news| {
            for one in ended {
                local.remove(
                    account.name.as_bytes(),
                    &one.subject,
                    &one.queue_group,
                    news,
                );
            }
        })
    }

    /// Other permissions apply.
    pub(crate) fn permit(&self, permissions: RoutePermissions) -> bool {
        self.note(|local, news| local.permit(permissions, news))
    }

    fn note(&self, change: impl FnOnce(&mut LocalInterest, &mut Vec<u8>)) -> bool {
        let State { local, peers, news } = &mut *self.state();
        let was_empty = news.is_empty();
        change(local, news);
        if *peers == 0 {
            news.clear();
        }
        was_empty && !news.is_empty()
    }

    /// What the routes that have joined must be told now.
    pub(crate) fn take(&self) -> Vec<u8> {
        mem::take(&mut self.state().news)
    }

    /// One more route, and everything that it must be told.
    pub(crate) fn join(&self) -> Vec<u8> {
        let mut state = self.state();
        debug_assert!(state.news.is_empty() || state.peers > 0, "news for nobody");
        state.peers += 1;
        let mut all = Vec::new();
        state.local.all(&mut all);
        all
    }

    /// A route that had joined is gone.
    pub(crate) fn leave(&self) {
        self.state().peers -= 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
