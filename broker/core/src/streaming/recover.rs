//! Start: from what the store has, back to where the last activation stopped.

use std::collections::{HashMap, VecDeque};

use broker_proto::streaming::{ServerInfo, SubState};

use super::{
    Engine, MAX_PAGE_BYTES, Phase,
    channel::Channel,
    clients::Clients,
    config::EngineConfig,
    keys::{ChannelKey, Handler, SubKey, Table},
    lane::Lane,
    names::is_publishable,
    nuid::NuidSource,
    pages::Pages,
    partition::Partition,
    pending::Entry,
    status::Counters,
    subjects::{Subjects, first_server_info, sub_close},
    subscription::{Group, RunKind, Subscription},
    tickets::Tickets,
    timers::Timers,
    totals::Counting,
};
use crate::{
    Now,
    durable::{
        Change, Recovered, RecoveredChannel, RecoveredSubscription, Sequence, SubscriptionId,
    },
    effect::Effect,
};

/// Why an engine cannot serve what a store holds. Only an operator can help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("cluster ID \"{configured}\" does not match recovered value of \"{recovered}\"")]
    ClusterIdMismatch {
        configured: String,
        recovered: String,
    },
    /// White space, or nothing: no subject can be made of it.
    #[error("cluster ID \"{0}\" cannot be part of a subject")]
    InvalidClusterId(String),
    /// Partitioned, without a list.
    #[error("stan: no configured channel")]
    NoChannel,
    #[error("message payload too small to send channels list")]
    ChannelTooLong,
}

impl Engine {
    /// Begins to serve. `lanes` is the store's; `seed` makes inbox names unguessable.
    ///
    /// # Errors
    /// See [`StartError`].
    ///
    /// # Panics
    /// If `lanes` is 0.
    pub fn new(
        config: EngineConfig,
        recovered: Recovered,
        lanes: usize,
        seed: u64,
        now: Now,
    ) -> Result<Self, StartError> {
        assert!(lanes > 0, "a store has at least one lane");
        let (info, is_info_new) = server_info(&config, recovered.server_info)?;
        let mut names = NuidSource::new(seed);
        let subjects = Subjects::new(info, names.next_inbox());
        let mut draft_serials = 0;
        let lanes = (0..lanes).map(|_| Lane::new(&mut draft_serials)).collect();
        let channels = config.partitioned_channels();
        let partition = config.partition.as_ref();
        let partition = partition.map(|partition| Partition::new(partition, channels));
        let mut engine = Self {
            partition: partition.transpose()?,
            config,
            subjects,
            phase: Phase::Running,
            started: now.monotonic,
            started_unix_nanos: now.unix_nanos,
            names,
            clients: Clients::default(),
            channels: Table::default(),
            channel_names: HashMap::default(),
            channel_cases: HashMap::default(),
            channel_ids: HashMap::default(),
            last_channel_id: recovered.last_channel_id,
            subs: Table::default(),
            groups: Table::default(),
            last_subscription_id: recovered.last_subscription_id,
            last_generation: 0,
            lanes,
            draft_serials,
            tickets: Tickets::default(),
            timers: Timers::default(),
            pages: Pages::new(MAX_PAGE_BYTES),
            loads: HashMap::default(),
            last_load: 0,
            inquiries: HashMap::default(),
            last_request: 0,
            ready: VecDeque::new(),
            finished: VecDeque::new(),
            dirty: Vec::new(),
            counting: Counting::default(),
            now,
            effects: VecDeque::new(),
            counters: Counters::default(),
            notices: Vec::new(),
        };
        if is_info_new {
            let info = engine.subjects.info.clone();
            engine
                .general_draft()
                .changes
                .push(Change::PutServerInfo(info));
            if !recovered.channels.is_empty() {
                engine.note("the store has channels but no server record".into());
            }
        }
        for client in recovered.clients {
            if engine.clients.by_id(&client.id).is_none() {
                engine.clients.register(client);
            }
        }
        for channel in recovered.channels {
            engine.recover_channel(channel);
        }
        match engine.partition {
            None => engine.go_on_line(now),
            Some(_) => {
                engine.begin_claim();
                engine.settle();
            }
        }
        Ok(engine)
    }

    fn recover_channel(&mut self, mut channel: RecoveredChannel) {
        let subscriptions = std::mem::take(&mut channel.subscriptions);
        let known_to_subs = subscriptions.iter().map(|sub| sub.state.last_sent).max();
        channel.last = channel.last.max(Sequence(known_to_subs.unwrap_or(0)));
        self.last_channel_id = self.last_channel_id.max(channel.id.0);
        let limits = self.config.limits_of(&channel.name);
        let key = self.adopt_channel(Channel::recovered(&channel, limits));
        if channel.limits != limits.into() {
            self.put_channel(key);
        }
        let lane = self.lane_of(key);
        if self.channels[key].is_over_limits() {
            self.lanes[lane]
                .open(&mut self.draft_serials)
                .share(key, &mut self.channels[key]);
        }
        let mut ghosts = Vec::new();
        for subscription in subscriptions {
            self.last_subscription_id = self.last_subscription_id.max(subscription.state.id);
            if self.is_ghost(&subscription.state) {
                ghosts.push(subscription);
            } else {
                self.recover_subscription(key, subscription);
            }
        }
        for ghost in ghosts {
            self.bury(key, ghost);
        }
    }

    /// A member of a durable group whose client is unknown: left by an unclean end.
    fn is_ghost(&self, state: &SubState) -> bool {
        !state.q_group.is_empty()
            && state.is_durable
            && !state.client_id.is_empty()
            && self.clients.by_id(&state.client_id).is_none()
    }

    /// Removes the record of a ghost. What was pending there goes to the group if there is one.
    fn bury(&mut self, channel_key: ChannelKey, ghost: RecoveredSubscription) {
        let state = ghost.state;
        let channel = &self.channels[channel_key];
        let notice = format!(
            "channel {}: removed member {} of durable group {}, whose client {} is unknown",
            channel.name, state.id, state.q_group, state.client_id
        );
        let group = channel.group_names.get(&(true, state.q_group)).copied();
        self.note(notice);
        if let Some(group) = group {
            let group = &mut self.groups[group];
            group.last_sent = group.last_sent.max(Sequence(state.last_sent));
            let (heir, last_sent) = (
                group.members.first().copied().or(group.shadow),
                group.last_sent,
            );
            if let Some(heir) = heir {
                let sub = &mut self.subs[heir];
                sub.last_sent = sub.last_sent.max(last_sent);
                for sequence in ghost.pending {
                    sub.pending.insert(Entry {
                        sequence,
                        expires: None,
                        redeliveries: 0,
                    });
                }
                self.mark_dirty(heir);
            }
        }
        self.delete_record(channel_key, SubscriptionId(state.id));
    }

    fn delete_record(&mut self, key: ChannelKey, id: SubscriptionId) {
        let channel = self.channels[key].id;
        self.channel_draft(key)
            .changes
            .push(Change::DeleteSubscription { channel, id });
    }

    fn recover_subscription(&mut self, channel_key: ChannelKey, recovered: RecoveredSubscription) {
        let RecoveredSubscription { state, pending } = recovered;
        let id = SubscriptionId(state.id);
        let is_member = !state.q_group.is_empty();
        let is_durable = state.is_durable || (!is_member && !state.durable_name.is_empty());
        let client = if state.is_closed {
            None
        } else {
            self.clients.by_id(&state.client_id)
        };
        if client.is_none() && !is_durable {
            // Nobody could ever use it again, and it would count against the limit.
            self.delete_record(channel_key, id);
            return;
        }
        if is_member && client.is_none() && !self.is_best_shadow(channel_key, &state) {
            self.delete_record(channel_key, id);
            return;
        }
        let mut sub = Subscription::from_state(channel_key, client, &state);
        for sequence in pending {
            sub.pending.insert(Entry {
                sequence,
                expires: None,
                redeliveries: 0,
            });
        }
        sub.is_durable = is_durable;
        sub.generation = self.next_generation();
        sub.is_stalled = sub.pending.len() >= sub.capacity();
        sub.is_initialized = client.is_some();
        let key = self.subs.insert(sub);
        self.channels[channel_key].records += 1;
        if let Some(client) = client {
            self.clients.get_mut(client).subs.push(key);
        }
        if is_member {
            self.recover_member(key, &state, is_durable);
        } else {
            let channel = &mut self.channels[channel_key];
            channel.subs.push(key);
            if is_durable {
                channel
                    .durables
                    .insert((state.client_id, state.durable_name), key);
            }
        }
    }

    /// Of several shadows of a group the one with the highest position stays.
    fn is_best_shadow(&mut self, channel_key: ChannelKey, state: &SubState) -> bool {
        let channel = &self.channels[channel_key];
        let group = channel
            .group_names
            .get(&(true, state.q_group.clone()))
            .copied();
        let Some(other) = group.and_then(|group| self.groups[group].shadow) else {
            return true;
        };
        let notice = format!(
            "channel {}: durable group {} has more than one shadow",
            channel.name, state.q_group
        );
        self.note(notice);
        if self.subs[other].last_sent >= Sequence(state.last_sent) {
            return false;
        }
        let id = self.subs[other].id;
        let group = self.subs[other].group;
        self.drop_subscription(other);
        if let Some(group) = group {
            self.groups[group].shadow = None;
        }
        self.delete_record(channel_key, id);
        true
    }

    fn recover_member(&mut self, key: SubKey, state: &SubState, is_durable: bool) {
        let channel_key = self.subs[key].channel;
        let name = (is_durable, state.q_group.clone());
        let known = self.channels[channel_key].group_names.get(&name).copied();
        let group_key = known.unwrap_or_else(|| {
            self.adopt_group(Group::new(channel_key, name.1, is_durable, Sequence(0)))
        });
        let group = &mut self.groups[group_key];
        group.last_sent = group.last_sent.max(Sequence(state.last_sent));
        if self.subs[key].is_online() {
            group.members.push(key);
        } else {
            group.shadow = Some(key);
        }
        self.subs[key].group = Some(group_key);
    }

    /// On all subjects that do not belong to a subscription.
    fn listen(&mut self) {
        for handler in Handler::fixed() {
            match (handler, &self.partition) {
                (Handler::Partition, None) | (Handler::Partition | Handler::Answer, Some(_)) => {}
                (Handler::Publish, Some(partition)) => {
                    for (index, channel) in partition.channels.iter().enumerate() {
                        self.effects.push_back(Effect::Subscribe {
                            subject: format!("{}.{channel}", self.subjects.info.publish).into(),
                            handler: Handler::listed(index),
                        });
                    }
                }
                _ => {
                    if let Some(subject) = self.subjects.subject_of(handler) {
                        let handler = handler.id();
                        self.effects
                            .push_back(Effect::Subscribe { subject, handler });
                    }
                }
            }
        }
    }

    /// Everything is in memory: listen, and redeliver what was pending before anything new.
    pub(super) fn go_on_line(&mut self, now: Now) {
        self.merge_shadows();
        let online: Vec<SubKey> = self
            .subs
            .iter()
            .filter(|(_, sub)| sub.is_online())
            .map(|(key, _)| key)
            .collect();
        for key in &online {
            let sub = &self.subs[*key];
            let handler = Handler::Ack {
                sub: *key,
                generation: sub.generation,
            };
            let subject = sub.ack_inbox.clone();
            self.effects.push_back(Effect::Subscribe {
                subject,
                handler: handler.id(),
            });
        }
        self.listen();
        for client in self.clients.keys() {
            self.arm_heartbeat(client, now);
        }
        for channel in self.channels.keys() {
            if self.channels[channel].limits.max_age_nanos > 0 {
                self.arm_expiry(channel);
            }
            self.may_rest(channel);
        }
        for key in &online {
            let sub = &mut self.subs[*key];
            if !sub.pending.is_empty() {
                sub.is_on_hold = true;
                if let Some(group) = sub.group {
                    self.groups[group].members_on_hold += 1;
                }
            }
        }
        for key in online {
            if self.subs[key].is_on_hold {
                self.redeliver_pending(key, RunKind::Recovered, now);
            } else {
                self.wake_reader_of(key);
            }
        }
        self.begin_counting();
        self.settle();
    }

    /// A group that has members needs no shadow; what was pending there goes to a member.
    fn merge_shadows(&mut self) {
        for key in self.groups.keys() {
            let group = &mut self.groups[key];
            let Some(heir) = group.members.first().copied() else {
                continue;
            };
            let Some(shadow) = group.shadow.take() else {
                continue;
            };
            let last_sent = group.last_sent;
            let (channel, id) = (self.subs[shadow].channel, self.subs[shadow].id);
            let entries: Vec<Entry> = self.subs[shadow].pending.iter().collect();
            let sub = &mut self.subs[heir];
            sub.last_sent = sub.last_sent.max(last_sent);
            for entry in entries {
                sub.pending.insert(entry);
            }
            self.mark_dirty(heir);
            self.drop_subscription(shadow);
            self.delete_record(channel, id);
        }
    }
}

/// The record to use, and whether it has to be written.
fn server_info(
    config: &EngineConfig,
    recovered: Option<ServerInfo>,
) -> Result<(ServerInfo, bool), StartError> {
    let cluster_id = &config.cluster_id;
    let Some(mut info) = recovered else {
        if !is_publishable(cluster_id) {
            return Err(StartError::InvalidClusterId(cluster_id.clone()));
        }
        return Ok((first_server_info(cluster_id, &config.discover_prefix), true));
    };
    if info.cluster_id != *cluster_id {
        return Err(StartError::ClusterIdMismatch {
            configured: cluster_id.clone(),
            recovered: info.cluster_id,
        });
    }
    let lacks_sub_close = info.sub_close.is_empty();
    if lacks_sub_close {
        info.sub_close = sub_close(cluster_id);
    }
    Ok((info, lacks_sub_close))
}
