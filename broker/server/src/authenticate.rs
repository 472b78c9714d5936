//! From `CONNECT` to a user, or to a refusal.
//!
//! Passwords kept as bcrypt take a tenth of a second to check, so that happens on another thread. Until
//! it has, nothing more of the connection is looked at.

use std::sync::Arc;

use broker_core::{
    auth::{
        Credentials, Standing,
        certificate::CertificateNames,
        settings::ConnectionType,
        user::{SlowCheck, User, Verdict},
    },
    session::ConnectError,
};
use broker_proto::{info::ConnectOptions, op::ServerError};
use certs::inspect;
use tracing::error;

use crate::{close_reason::CloseReason, worker::Worker};

impl Worker {
    /// `CONNECT` came.
    pub(crate) fn connect(&mut self, slot: usize, json: &[u8]) {
        let Ok(options) = self.session(slot).read_connect(json) else {
            return self.refuse(slot, None, CloseReason::ProtocolViolation);
        };
        let connection = &mut self.exchange.connections[slot];
        let answered_after = connection.accepted.elapsed().unwrap_or_default();
        connection.liveness.estimate(answered_after);
        if !options.account.is_empty() || options.new_account {
            return self.turn_down(slot, &options);
        }
        let present = self.session(slot).user().cloned();
        if self.session(slot).is_connected()
            && !options.shows_credentials
            && let Some(present) = present
        {
            // Secrets are not kept, so that the user itself stands for what was shown before.
            return match self.exchange.settings.authorization.find_again(&present) {
                Standing::Stays(user) => self.accept(slot, &options, user),
                _ => self.turn_down(slot, &options),
            };
        }
        match self.judge(slot, &options) {
            Verdict::Accepted(user) => self.accept(slot, &options, user),
            Verdict::Refused => self.turn_down(slot, &options),
            Verdict::Slow(check) => self.judge_slowly(slot, options, check),
        }
    }

    fn judge(&mut self, slot: usize, options: &ConnectOptions) -> Verdict {
        let connection = &self.exchange.connections[slot];
        let settings = &self.exchange.settings;
        let names = if settings.config.auth.map_certificates {
            let leaf = connection.transport.peer_certificates().first();
            leaf.and_then(|leaf| certificate_names(leaf))
        } else {
            None
        };
        settings.authorization.judge(&Credentials {
            user: &options.user,
            pass: &options.pass,
            token: &options.auth_token,
            nkey: &options.nkey,
            sig: &options.sig,
            nonce: connection.nonce.as_bytes(),
            certificate: names.as_ref(),
            connection_type: ConnectionType::Standard,
        })
    }

    fn judge_slowly(&mut self, slot: usize, options: ConnectOptions, check: SlowCheck) {
        self.check_slowly(slot, check, move |worker, user| {
            // A reload meanwhile may have taken the user away.
            let authorization = &worker.exchange.settings.authorization;
            match user.map(|user| authorization.find_again(&user)) {
                Some(Standing::Stays(user)) => worker.accept(slot, &options, user),
                _ => worker.turn_down(slot, &options),
            }
        });
    }

    /// Has a password checked on another thread, decides by the outcome, and goes on with what came
    /// meanwhile. `decide` is not called if the connection ends before.
    pub(crate) fn check_slowly(
        &mut self,
        slot: usize,
        check: SlowCheck,
        decide: impl FnOnce(&mut Self, Option<Arc<User>>) + 'static,
    ) {
        let connection = &mut self.exchange.connections[slot];
        connection.being_judged = true;
        let id = connection.peer.id;
        let handle = self.handle();
        let turns = Arc::clone(&self.exchange.shared.slow_checks);
        tokio::task::spawn_local(async move {
            let Ok(_turn) = turns.acquire().await else {
                return;
            };
            let judged = tokio::task::spawn_blocking(move || check.run()).await;
            // A check that fails to end is no reason to let anybody in.
            let user = judged.ok().flatten();
            handle.with(|worker| {
                if worker.is_judged(slot, id) {
                    decide(worker, user);
                    worker.operate_on_tail(slot);
                }
            });
        });
    }

    /// Whether the connection is still there to hear what became of it.
    fn is_judged(&mut self, slot: usize, id: u64) -> bool {
        let connection = self.exchange.connections.get_mut(slot);
        let Some(connection) = connection.filter(|one| one.peer.id == id) else {
            return false;
        };
        connection.being_judged = false;
        connection.wake();
        connection.closing.is_none()
    }

    fn accept(&mut self, slot: usize, options: &ConnectOptions, user: Arc<User>) {
        let now = self.exchange.now;
        let settings = Arc::clone(&self.exchange.settings);
        let account = self.exchange.shared.account_of(&user);
        let jitter = self.jitter(self.exchange.connections[slot].peer.id);
        let connection = &mut self.exchange.connections[slot];
        let permissions = user.permissions().cloned();
        let session = connection.session();
        let before = Arc::clone(session.account());
        match session.connect(options, settings.config.headers, user, account) {
            Ok(ended) => {
                let headers = session.headers;
                connection.peer.set_headers(headers);
                connection.peer.set_permissions(permissions);
                connection.authenticate_by = None;
                connection
                    .liveness
                    .established(&settings.pings(), jitter, now);
                self.exchange.shared.unsubscribe(&before, &ended);
                self.acknowledge(slot);
            }
            Err(refused) => {
                let reason = match refused {
                    ConnectError::Protocol(_) => CloseReason::ClientProtocol,
                    ConnectError::NoRespondersWithoutHeaders => {
                        CloseReason::NoRespondersRequiresHeaders
                    }
                };
                self.refuse(slot, Some(refused.reply()), reason);
            }
        }
    }

    /// Somebody did what only those may who have shown who they are, or could not.
    pub(crate) fn violation(&mut self, slot: usize) {
        let error = Some(ServerError::AuthorizationViolation);
        self.refuse(slot, error, CloseReason::AuthenticationFailure);
    }

    /// The credentials are not right.
    fn turn_down(&mut self, slot: usize, options: &ConnectOptions) {
        self.log_refusal(slot, &options.user);
        self.session(slot).introduced(options);
        self.violation(slot);
    }

    pub(crate) fn log_refusal(&self, slot: usize, user: &str) {
        let label = self.exchange.connections[slot].label();
        if user.is_empty() {
            error!("{label} - authentication error");
        } else {
            error!("{label} - authentication error - User {user:?}");
        }
    }
}

/// Until the other end has shown who it is, nothing but a `CONNECT` may begin.
pub(crate) fn may_authenticate(input: &[u8]) -> bool {
    matches!(input.first(), None | Some(b'C' | b'c'))
}

/// What a client's certificate says, in the form that the rules want.
fn certificate_names(der: &[u8]) -> Option<CertificateNames> {
    let names = inspect::PeerNames::from_der(der).ok()?;
    Some(CertificateNames {
        emails: names.emails,
        dns: names.dns,
        uris: names.uris,
        subject: names.subject,
    })
}
