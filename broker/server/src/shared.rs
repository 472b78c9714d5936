//! What all workers share.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Instant,
};

use broker_core::{
    account::{Account, Accounts},
    auth::user::User,
    peer::Peer,
    subscription::Subscription,
};
use broker_proto::info::ServerInfo;
use data_encoding::BASE64URL_NOPAD;
use tokio::sync::Semaphore;

use crate::{
    handshake_rate::HandshakeRate,
    mailbox::{Mailbox, Parcel},
    route_interest::RouteInterest,
    settings::{CoreConfig, Settings},
    stats::Shown,
    worker::WorkerHandle,
};

/// Passwords that are checked at a time: each costs a core for a tenth of a second.
const SLOW_CHECKS: usize = 2;

/// Something a worker does on its own thread, between passes.
pub(crate) type Request = Box<dyn FnOnce(&WorkerHandle) + Send>;

/// See the module documentation.
///
/// Locks: each account's list, each mailbox's, the current settings, the handshakes of this second, what
/// other servers are to be told of local interest, and those in each [`Peer`]. All are held for a few
/// lines only, and nobody who holds one takes another.
pub(crate) struct Shared {
    pub(crate) accounts: Accounts,
    pub(crate) workers: Vec<WorkerPort>,
    /// Stands for the services on worker 0 where producers have to hold back.
    pub(crate) internal: Arc<Peer>,
    /// Where other servers learn what is wanted here; `None` without a cluster.
    pub(crate) route_interest: Option<RouteInterest>,
    pub(crate) slow_checks: Arc<Semaphore>,
    /// What `INFO` says about this process.
    pub(crate) identity: ServerInfo,
    /// Where clients connect to.
    pub(crate) client_address: SocketAddr,
    current: Mutex<Arc<Settings>>,
    handshakes: Mutex<HandshakeRate>,
    lame_duck: AtomicBool,
    next_id: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The side of a worker that others reach.
#[derive(Debug, Default)]
pub(crate) struct WorkerPort {
    pub(crate) mailbox: Mailbox,
    pub(crate) counters: Shown,
    /// Clients connected to it now, those on their way to it included.
    clients: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(
        settings: Settings,
        identity: ServerInfo,
        client_address: SocketAddr,
        workers: usize,
    ) -> Self {
        let config = &settings.config;
        let accounts = Accounts::new(config.auth.system_account.as_deref());
        for name in settings.authorization.accounts() {
            accounts.declare(name);
        }
        let cluster = config.cluster.as_ref();
        Self {
            accounts,
            workers: (0..workers).map(|_| WorkerPort::default()).collect(),
            internal: Arc::new(Peer::internal(0)),
            route_interest: cluster.map(|cluster| RouteInterest::new(&cluster.settings)),
            slow_checks: Arc::new(Semaphore::new(SLOW_CHECKS)),
            identity,
            client_address,
            current: Mutex::new(Arc::new(settings)),
            handshakes: Mutex::default(),
            lame_duck: AtomicBool::new(false),
            next_id: AtomicU64::new(4),
        }
    }

    /// A number for a new connection; the first few are the reference's own.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// The account a user belongs to.
    pub(crate) fn account_of(&self, user: &User) -> Arc<Account> {
        self.accounts.declare(user.account())
    }

    /// The settings in force. Workers have a copy of their own.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the settings and lets every worker apply them to its connections.
    pub(crate) fn change_settings(&self, change: impl FnOnce(&Settings) -> Settings) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Arc::new(change(&current));
        for name in new.authorization.accounts() {
            self.accounts.declare(name);
        }
        *current = Arc::clone(&new);
        // Under the lock, so that workers get changes in the order in which they were made.
        for worker in 0..self.workers.len() {
            let new = Arc::clone(&new);
            self.ask(worker, Box::new(move |handle| handle.apply(new)));
        }
    }

    /// Whether one more client may begin a TLS handshake now.
    pub(crate) fn admits_handshake(&self, limit: Option<u32>, now: Instant) -> bool {
        // Without a limit there is no reason for workers to meet here.
        limit.is_none() || {
            let rate = self.handshakes.lock();
            rate.unwrap_or_else(PoisonError::into_inner)
                .admits(limit, now)
        }
    }

    /// Lets a worker do something soon.
    pub(crate) fn ask(&self, worker: usize, request: Request) {
        self.workers[worker].mailbox.push(Parcel {
            requests: vec![request],
            ..Parcel::default()
        });
    }

    /// Random text for a client to sign: 11 bytes as unpadded base64url.
    pub(crate) fn nonce(&self) -> Result<String, getrandom::Error> {
        let mut bytes = [0; 11];
        getrandom::fill(&mut bytes)?;
        Ok(BASE64URL_NOPAD.encode(&bytes))
    }

    /// No new clients are taken any more.
    pub(crate) fn begin_lame_duck(&self) {
        self.lame_duck.store(true, Release);
    }

    pub(crate) fn is_lame_duck(&self) -> bool {
        self.lame_duck.load(Acquire)
    }

    /// A client has been accepted: the worker that gets it is the one with the fewest, and among equals
    /// the next `after` the one before it. So one says goodbye to a client while another greets the next.
    pub(crate) fn place_client(&self, after: usize) -> usize {
        let count = self.workers.len();
        let turns = (1..=count).map(|turn| (after + turn) % count);
        let worker = turns.min_by_key(|at| self.workers[*at].clients.load(Relaxed));
        let worker = worker.expect("there is a worker, or nothing would be accepted");
        self.workers[worker].clients.fetch_add(1, Relaxed);
        worker
    }

    /// A client of a worker has gone.
    pub(crate) fn release_client(&self, worker: usize) {
        self.workers[worker].clients.fetch_sub(1, Relaxed);
    }

    /// Clients connected now, on all workers.
    pub(crate) fn clients(&self) -> usize {
        let workers = self.workers.iter();
        workers.map(|worker| worker.clients.load(Relaxed)).sum()
    }

    /// Adds a subscription to an account's list.
    pub(crate) fn subscribe(&self, account: &Account, new: Arc<Subscription>) {
        let noted = self.route_interest.as_ref();
        let news = noted.is_some_and(|interest| interest.added(account, &new));
        account.sublist.change(|list| list.insert(new));
        if news {
            self.wake_first();
        }
    }

    /// Removes subscriptions from an account's list.
    pub(crate) fn unsubscribe(&self, account: &Account, ended: &[Arc<Subscription>]) {
        if ended.is_empty() {
            return;
        }
        account.sublist.change(|list| {
            for subscription in ended {
                list.remove(subscription);
            }
        });
        let noted = self.route_interest.as_ref();
        if noted.is_some_and(|interest| interest.removed(account, ended)) {
            self.wake_first();
        }
    }

    /// Worker 0 tells other servers what is new.
    fn wake_first(&self) {
        self.ask(0, Box::new(|handle| handle.with(|_| ())));
    }
}

/// There are more connections than allowed, the one just counted included.
pub(crate) fn is_full(shared: &Shared, config: &CoreConfig) -> bool {
    let limit = config.max_connections;
    limit.is_some_and(|limit| shared.clients() > limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_go_where_the_fewest_are_and_by_turns_among_equals() {
        let identity = ServerInfo::default();
        let settings = Settings::new(CoreConfig::default(), &identity).unwrap();
        let shared = Shared::new(settings, identity, ([127, 0, 0, 1], 4222).into(), 3);
        let mut last = 2;
        let mut next = || {
            last = shared.place_client(last);
            last
        };
        assert_eq!([(); 4].map(|()| next()), [0, 1, 2, 0]);
        shared.release_client(1);
        assert_eq!([(); 3].map(|()| next()), [1, 2, 1]);
        assert_eq!(shared.clients(), 6);
    }
}
