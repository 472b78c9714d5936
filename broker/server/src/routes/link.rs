//! One connection to another server, as far as it differs from that to a client.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use broker_core::{
    account::Account,
    auth::settings::SubjectRules,
    cluster::mesh::TargetId,
    peer::Peer,
    subscription::{Subscription, Target},
};
use certs::reload::PeerRefusal;
use rustls::pki_types::ServerName;

use super::dial::Dialled;
use crate::{
    inspect::subscription_figures, monitor::details::SubscriptionFigures, settings::RouteTls,
    transport::Transport,
};

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Link {
    pub(super) begun: Begun,
    tls: Option<RouteTls>,
    /// The mesh has been told of it.
    pub(super) is_known: bool,
    /// Messages and interest pass.
    pub(super) is_established: bool,
    /// It is allowed to introduce itself: we dialled, or its `CONNECT` was accepted.
    pub(super) is_connected: bool,
    pub(crate) remote_id: String,
    pub(crate) remote_name: String,
    pub(crate) solicited: bool,
    pub(crate) configured: bool,
    pub(crate) import: Option<SubjectRules>,
    pub(crate) export: Option<SubjectRules>,
    interest: HashMap<Box<[u8]>, Wanted, RandomState>,
}

/// A filter that the other server wants, in the list of this account.
type Wanted = (Arc<Account>, Arc<Subscription>);

/// Who opened the connection.
#[derive(Debug)]
pub(super) enum Begun {
    Accepted,
    Dialled(Dialled),
}

impl Begun {
    pub(super) fn target(&self) -> Option<TargetId> {
        match self {
            Self::Accepted => None,
            Self::Dialled(dialled) => Some(dialled.target),
        }
    }
}

impl Link {
    pub(super) fn new(begun: Begun, tls: Option<RouteTls>) -> Self {
        Self {
            is_connected: matches!(begun, Begun::Dialled(_)),
            begun,
            tls,
            is_known: false,
            is_established: false,
            remote_id: String::new(),
            remote_name: String::new(),
            solicited: false,
            configured: false,
            import: None,
            export: None,
            interest: HashMap::default(),
        }
    }

    /// Goes on under TLS, as the one or the other side of it.
    pub(crate) fn begin_tls(&self, transport: &mut Transport) -> Result<(), rustls::Error> {
        let Some(tls) = &self.tls else { return Ok(()) };
        match &self.begun {
            Begun::Accepted => transport.upgrade((tls.accepting)()),
            Begun::Dialled(dialled) => {
                let host = dialled.host.clone();
                let name = ServerName::try_from(host)
                    .map_err(|_| rustls::Error::General("the route has no valid name".into()))?;
                transport.open_tls((tls.dialling)(), name)
            }
        }
    }

    /// Why the other server may not be here with the certificate that it has shown.
    pub(crate) fn refusal(&self, leaf: &[u8]) -> Option<PeerRefusal> {
        (self.tls.as_ref()?.admits)(leaf).err()
    }

    /// The other server wants a subject, from now on with this weight.
    pub(super) fn want(
        &mut self,
        peer: &Arc<Peer>,
        account: &Arc<Account>,
        subject: &[u8],
        queue_group: &[u8],
        weight: u32,
    ) {
        let target = Target::Route {
            peer: Arc::clone(peer),
            weight,
        };
        let new = Arc::new(Subscription::new(subject, queue_group, b"", target));
        let key = key(account, subject, queue_group);
        let wanted = (Arc::clone(account), Arc::clone(&new));
        let old = self.interest.insert(key, wanted);
        account.sublist.change(|list| {
            if let Some((_, old)) = &old {
                list.remove(old);
            }
            list.insert(new);
        });
    }

    /// The other server does not want a subject any more.
    pub(super) fn want_no_more(&mut self, account: &Account, subject: &[u8], queue_group: &[u8]) {
        if let Some((account, old)) = self.interest.remove(&key(account, subject, queue_group)) {
            account.sublist.change(|list| list.remove(&old));
        }
    }

    /// The connection is gone.
    pub(super) fn forget_interest(&mut self) {
        let mut all: Vec<_> = self.interest.drain().map(|(_, one)| one).collect();
        all.sort_unstable_by_key(|(account, _)| account.index);
        for of_account in all.chunk_by(|one, other| one.0.index == other.0.index) {
            of_account[0].0.sublist.change(|list| {
                for (_, subscription) in of_account {
                    list.remove(subscription);
                }
            });
        }
    }

    /// Filters that the other server wants.
    pub(crate) fn interest_count(&self) -> usize {
        self.interest.len()
    }

    /// The same, listed.
    pub(crate) fn subscriptions(&self) -> Vec<SubscriptionFigures> {
        let all = self.interest.values();
        all.map(|(account, one)| subscription_figures(one, &account.name))
            .collect()
    }
}

/// No argument of a line holds a blank.
fn key(account: &Account, subject: &[u8], queue_group: &[u8]) -> Box<[u8]> {
    [account.name.as_bytes(), subject, queue_group]
        .join(&b' ')
        .into_boxed_slice()
}
