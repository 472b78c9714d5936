//! What clients ask for.

use std::sync::Arc;

use broker_core::{
    router::{MAX_RUN, route},
    session::{Session, Subscribed},
    subscription::Target,
};
use broker_proto::{
    encode,
    op::{ClientOp, ParseError, Publication, ServerError},
    parser::{Limits, Step, parse},
    quote::Quoted,
    subject,
};
use smallvec::SmallVec;
use tracing::error;

use crate::{authenticate::may_authenticate, close_reason::CloseReason, worker::Worker};

/// Messages with one subject that follow each other directly.
type Run<'a> = SmallVec<[Publication<'a>; MAX_RUN]>;

impl Worker {
    /// Carries out all whole operations at the start of the input; returns how many bytes they took.
    pub(crate) fn operate_client(&mut self, slot: usize, input: &[u8]) -> usize {
        let config = &self.exchange.settings.config;
        let (max_control_line, max_payload) = (config.max_control_line, config.max_payload);
        let mut limits = Limits {
            max_control_line,
            max_payload,
            headers: self.session(slot).headers,
        };
        let traced = self.exchange.connections[slot].tracer.is_some();
        let mut run = Run::new();
        let mut at = 0;
        loop {
            let connection = &mut self.exchange.connections[slot];
            if connection.closing.is_some() || connection.being_judged {
                break;
            }
            if connection.session().user().is_none() && !may_authenticate(&input[at..]) {
                self.violation(slot);
                break;
            }
            let (op, consumed) = match parse(&input[at..], &limits) {
                Ok(Step::Taken { op, consumed }) => (op, consumed),
                Ok(Step::Incomplete { needed }) => {
                    self.exchange.connections[slot].needed = needed;
                    break;
                }
                Err(error) => {
                    self.publish(slot, &mut run);
                    self.trace_refused(slot, &input[at..], &error);
                    self.refuse(slot, error.reply(), error.into());
                    break;
                }
            };
            if traced {
                // What came of the one before stands before it in the trace.
                self.publish(slot, &mut run);
                self.flush_now(slot);
                self.exchange.connections[slot].trace_in(&input[at..at + consumed]);
            }
            at += consumed;
            if let ClientOp::Publish(publication) = op {
                let continues = run
                    .last()
                    .is_none_or(|last| last.subject == publication.subject);
                if !continues || run.len() == MAX_RUN {
                    self.publish(slot, &mut run);
                }
                run.push(publication);
            } else {
                self.publish(slot, &mut run);
                self.carry_out(slot, &op);
                limits.headers = self.session(slot).headers;
            }
        }
        self.publish(slot, &mut run);
        // Even if nobody was interested: the counts have changed.
        self.schedule_pass();
        at
    }

    fn trace_ended(&mut self, slot: usize, sid: &[u8]) {
        if self.exchange.connections[slot].tracer.is_some() {
            self.flush_now(slot);
            self.exchange.connections[slot].trace_ended(sid);
        }
    }

    fn flush_now(&mut self, slot: usize) {
        let now = self.exchange.now;
        self.exchange.connections[slot].flush(now, &mut self.exchange.pool);
    }

    /// A line that says what no operation can say is shown all the same, one too long is not.
    fn trace_refused(&self, slot: usize, input: &[u8], error: &ParseError) {
        if matches!(error, ParseError::Arguments | ParseError::Payload) {
            let line = input.split_inclusive(|byte| *byte == b'\n').next();
            self.exchange.connections[slot].trace_in(line.unwrap_or_default());
        }
    }

    pub(crate) fn session(&mut self, slot: usize) -> &mut Session {
        self.exchange.connections[slot].session()
    }

    /// Anything but a publication.
    fn carry_out(&mut self, slot: usize, op: &ClientOp<'_>) {
        let now = self.exchange.now;
        let connection = &mut self.exchange.connections[slot];
        match *op {
            ClientOp::Publish(_) => unreachable!("publications go through runs"),
            ClientOp::Connect(json) => self.connect(slot, json),
            ClientOp::Subscribe {
                subject,
                queue_group,
                sid,
            } => {
                connection.liveness.heard(now);
                self.subscribe(slot, subject, queue_group, sid);
            }
            ClientOp::Unsubscribe { sid, max } => {
                connection.liveness.heard(now);
                let session = connection.session();
                let ended = session.unsubscribe(sid, max);
                let account = Arc::clone(session.account());
                self.exchange.shared.unsubscribe(&account, ended.as_slice());
                self.acknowledge(slot);
                if ended.is_some() {
                    self.trace_ended(slot, sid);
                }
            }
            ClientOp::Ping => self.answer_ping(slot),
            ClientOp::Pong => connection.liveness.ponged(now),
            ClientOp::Ignored => {}
            ClientOp::Error(text) => {
                error!(
                    "{} - Client Error {}",
                    connection.label(),
                    text.escape_ascii()
                );
                connection.close(CloseReason::ClientClosed);
            }
        }
    }

    fn subscribe(&mut self, slot: usize, subject: &[u8], queue_group: &[u8], sid: &[u8]) {
        let limits = self.exchange.settings.config.subscriptions;
        let connection = &mut self.exchange.connections[slot];
        let target = Target::Connection(Arc::clone(&connection.peer));
        let session = connection.session();
        match session.subscribe(subject, queue_group, sid, &limits, target) {
            Ok(Subscribed::New(new)) => {
                let account = Arc::clone(session.account());
                self.exchange.shared.subscribe(&account, new);
                self.acknowledge(slot);
            }
            Ok(Subscribed::Duplicate) => self.acknowledge(slot),
            Err(refused) => {
                self.log_denial(slot, &refused, sid);
                self.report(slot, &refused);
            }
        }
    }

    fn answer_ping(&mut self, slot: usize) {
        let now = self.exchange.now;
        let connection = &mut self.exchange.connections[slot];
        connection.liveness.heard(now);
        let first = connection.session().pinged();
        self.reply(slot, encode::PONG);
        if first && self.session(slot).async_info {
            let connection = &mut self.exchange.connections[slot];
            let account = Arc::clone(connection.session().account());
            let nonce = connection.nonce.clone();
            let settings = &self.exchange.settings;
            let mut info = settings.info(connection.peer.id, connection.address, &nonce);
            info.connect_info = true;
            // Whoever is here needs no invitation any more.
            info.auth_required = settings.authorization.is_configured();
            info.remote_account = account.name.to_string();
            info.acc_is_sys = Arc::ptr_eq(&account, self.exchange.shared.accounts.system());
            self.reply(slot, &info.to_line());
        }
    }

    /// Routes a run and empties it.
    fn publish(&mut self, slot: usize, run: &mut Run<'_>) {
        let Some(first) = run.first() else { return };
        let now = self.exchange.now;
        let connection = &mut self.exchange.connections[slot];
        connection.liveness.heard(now);
        let session = connection.session();
        let singly = session.verbose
            || (session.pedantic && !subject::is_literal(first.subject))
            || !session.publishes_freely()
            || is_reserved(first.subject)
            || run.iter().any(|one| is_reserved_reply(one.reply));
        if singly {
            for publication in run.iter() {
                self.publish_singly(slot, publication);
            }
        } else {
            self.route_run(slot, run);
        }
        run.clear();
    }

    /// With everything that has to be said before the message goes out.
    fn publish_singly(&mut self, slot: usize, publication: &Publication<'_>) {
        let now = self.exchange.now;
        let subject = publication.subject;
        let session = self.session(slot);
        if session.pedantic && !subject::is_literal(subject) {
            self.report(slot, &ServerError::InvalidPublishSubject);
        }
        let denial = if is_reserved(subject) || !self.session(slot).may_publish(subject, now) {
            Some(ServerError::PublishDenied(subject))
        } else if is_reserved_reply(publication.reply) {
            Some(ServerError::ReplyDenied(publication.reply))
        } else {
            None
        };
        if let Some(denial) = denial {
            self.count_in(slot, std::slice::from_ref(publication));
            self.log_denial(slot, &denial, b"");
            return self.report(slot, &denial);
        }
        self.acknowledge(slot);
        self.route_run(slot, std::slice::from_ref(publication));
    }

    fn count_in(&mut self, slot: usize, run: &[Publication<'_>]) {
        let bytes = run.iter().map(|one| one.body().len() as u64).sum::<u64>();
        let traffic = &mut self.exchange.connections[slot].traffic;
        traffic.in_msgs += run.len() as u64;
        traffic.in_bytes += bytes;
        let counters = &mut self.exchange.counters;
        counters.in_msgs += run.len() as u64;
        counters.in_bytes += bytes;
    }

    fn route_run(&mut self, slot: usize, run: &[Publication<'_>]) {
        let subject = run[0].subject;
        self.count_in(slot, run);
        let connection = &mut self.exchange.connections[slot];
        let id = connection.peer.id;
        let session = connection.session();
        let muted = (!session.echo).then_some(id);
        let wants_answer = session.no_responders;
        let interest = self.cache.look_up(subject, session.account());
        let mut reached = 0;
        if !interest.is_empty() {
            reached = route(&interest, run, muted, &mut self.dice, &mut self.exchange);
            self.end_exhausted(slot);
            if self.exchange.forwarded.msgs > 0 {
                let account = Arc::clone(self.session(slot).account());
                self.count_forwarded(&account);
            }
        }
        if wants_answer {
            for (index, publication) in run.iter().enumerate() {
                if reached & (1 << index) == 0 && !publication.reply.is_empty() {
                    self.answer_no_responders(slot, subject, publication.reply);
                }
            }
        }
    }

    /// Tells a publisher on its own inbox that its request reached nobody. That counts towards no
    /// `UNSUB` maximum, as with the reference.
    fn answer_no_responders(&mut self, slot: usize, subject: &[u8], reply: &[u8]) {
        let connection = &mut self.exchange.connections[slot];
        let id = connection.peer.id;
        let account = Arc::clone(connection.session().account());
        let matches = account.sublist.read(|list| list.matches(reply));
        // Its right to receive there is not asked for, as in the reference: it hears of nobody's data.
        let own = matches
            .plain
            .into_iter()
            .find(|one| one.connection() == Some(id));
        let Some(own) = own else { return };
        let prefix = encode::delivery_prefix(reply, &own.sid);
        let connection = &mut self.exchange.connections[slot];
        let mut writer = connection.output.writer(&mut self.exchange.pool);
        encode::no_responders(&prefix, subject, &mut writer);
        self.exchange.touched(slot);
        self.schedule_pass();
    }

    /// Subscriptions in a client's account that got their last message from it.
    fn end_exhausted(&mut self, slot: usize) {
        if !self.exchange.exhausted.is_empty() {
            let account = Arc::clone(self.session(slot).account());
            self.exchange.end_exhausted(&account);
        }
    }

    /// `+OK`, for those who want it.
    pub(crate) fn acknowledge(&mut self, slot: usize) {
        if self.session(slot).verbose {
            self.reply(slot, encode::OK);
        }
    }

    /// An error that leaves the connection open.
    pub(crate) fn report(&mut self, slot: usize, error: &ServerError<'_>) {
        debug_assert!(!error.closes());
        let mut text = Vec::new();
        encode::error(error, &mut text);
        self.reply(slot, &text);
    }

    /// In the words of the reference, for those who watch its log.
    fn log_denial(&mut self, slot: usize, denial: &ServerError<'_>, sid: &[u8]) {
        let connection = &mut self.exchange.connections[slot];
        let label = connection.label();
        let session = connection.session();
        let user = session.user().map(|user| user.name()).unwrap_or_default();
        let who = format!("{label} - \"{}/user:{user}\"", session.account().name);
        let sid = sid.escape_ascii();
        match denial {
            ServerError::PublishDenied(subject) => {
                error!("{who} - Publish Violation - Subject {}", Quoted(subject));
            }
            ServerError::ReplyDenied(reply) => {
                error!("{who} - Publish Violation - Reply {}", Quoted(reply));
            }
            ServerError::SubscriptionDenied {
                subject,
                queue_group: b"",
            } => {
                let subject = Quoted(subject);
                error!("{who} - Subscription Violation - Subject {subject}, SID {sid}");
            }
            ServerError::SubscriptionDenied {
                subject,
                queue_group,
            } => {
                let (subject, group) = (Quoted(subject), Quoted(queue_group));
                error!(
                    "{who} - Subscription Violation - Subject {subject}, Queue: {group}, SID {sid}"
                );
            }
            _ => {}
        }
    }
}

/// Nobody may publish to these: replies of gateways and groups of JetStream (nats-server 2.15,
/// `hasGWRoutedReplyPrefix` and `processInboundClientMsg`).
fn is_reserved(subject: &[u8]) -> bool {
    begins_with(subject, &GATEWAY_REPLIES) || subject.starts_with(b"$NRG.")
}

/// Answers to these would go to services of the reference (nats-server 2.15, `isReservedReply`).
fn is_reserved_reply(reply: &[u8]) -> bool {
    reply.starts_with(b"_R_.")
        || begins_with(reply, &[b"$JS.ACK."])
        || begins_with(reply, &GATEWAY_REPLIES)
}

const GATEWAY_REPLIES: [&[u8]; 2] = [b"_GR_.", b"$GR."];

/// And goes on.
fn begins_with(subject: &[u8], prefixes: &[&[u8]]) -> bool {
    let mut prefixes = prefixes.iter();
    prefixes.any(|prefix| subject.len() > prefix.len() && subject.starts_with(prefix))
}
