//! The group machine: a pure function of its log.
//!
//! Invariant: no clock, no I/O, no thread, and no order that comes from a hash table. Two replicas that apply the
//! same entries write the same snapshot, byte for byte, and give the same effects.

use super::context::Context;
use super::counters::Counters;
use super::effects::Effects;
use super::errands::Ends;
use super::fan_out::FanOut;
use super::memory::Memory;
use super::messages::Messages;
use super::producers::Producers;
use super::retained::{Retained, RetainedEntry};
use super::session::{Clients, Session};
use super::shared::SharedQueues;
use super::snapshot::Pass;
use super::subscriptions::{Subscriber, Subscriptions};
use super::timers::Timers;
use super::wills::DueWills;
use crate::command::{Command, MessageRef};
use crate::faults::{self, Fault};
use crate::limits::MachineLimits;
use cluster::frame::{Ack, AckKind, StoredAt};
use cluster::ids::{Actor, ClientNo, Epoch, Handle, LinkNo};
use cluster::slots::GroupNo;
use cluster::topology::Topology;
use protocol::PacketId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state of one group.
#[derive(Debug)]
pub struct State {
    pub(super) limits: MachineLimits,
    pub(super) time_ms: u64,
    /// Commands applied: the order of publishes, subscriptions and retained changes.
    pub(super) seq: u64,
    pub(super) reign: u32,
    /// The last epoch given.
    pub(super) epoch: Epoch,
    pub(super) clients: Clients,
    pub(super) subscriptions: Subscriptions,
    pub(super) retained: Retained,
    /// Topics of retained messages that expire, by time and position.
    pub(super) retained_expiry: BTreeMap<(u64, u64), Box<str>>,
    pub(super) messages: Messages,
    pub(super) shared: SharedQueues,
    pub(super) timers: Timers,
    pub(super) producers: Producers,
    pub(super) wills: DueWills,
    /// Sessions that are over and of which other groups may hold something.
    pub(super) ends: Ends,
    /// Sessions of other homes that are over, by client id: the start of the newest one.
    pub(super) ended: Memory<Box<str>, Epoch>,
    /// Wills of other homes that were published, by home and epoch.
    pub(super) wills_done: Memory<(GroupNo, Epoch), ()>,
    /// The topology of the fleet; in group 0 only.
    pub(super) topology: Option<Arc<Topology>>,
    pub(super) counters: Counters,
    pub(super) context: Context,
    pub(super) volatile: Volatile,
    /// A snapshot under way.
    pub(super) pass: Option<Pass>,
}

/// What decides nothing in apply and is in no snapshot: scratch space and leader memory.
#[derive(Debug, Default)]
pub(super) struct Volatile {
    pub(super) hits: Vec<Subscriber>,
    pub(super) page: Vec<RetainedEntry>,
    pub(super) fan_out: FanOut,
    /// Who got the last message that needed no storing, by shared queue.
    pub(super) last_unlogged: BTreeMap<u32, ClientNo>,
    /// Open QoS 2 packet ids of publishes that needed no storing.
    pub(super) unlogged_ids: BTreeSet<(ClientNo, Epoch, PacketId)>,
}

impl State {
    /// An empty group.
    pub fn new(limits: MachineLimits) -> Self {
        assert!(
            (1..=crate::limits::WINDOW_ENTRIES_MAX).contains(&limits.window_entries),
            "a window has at least one entry and fewer than there are packet ids"
        );
        Self {
            limits,
            time_ms: 0,
            seq: 0,
            reign: 0,
            epoch: Epoch::default(),
            clients: Clients::default(),
            subscriptions: Subscriptions::new(),
            retained: Retained::new(),
            retained_expiry: BTreeMap::new(),
            messages: Messages::default(),
            shared: SharedQueues::default(),
            timers: Timers::default(),
            producers: Producers::default(),
            wills: DueWills::default(),
            ends: Ends::default(),
            ended: Memory::default(),
            wills_done: Memory::default(),
            topology: None,
            counters: Counters::default(),
            context: Context::default(),
            volatile: Volatile::default(),
            pass: None,
        }
    }

    /// Applies one command of entry `index`, whose time is `now_ms`. Effects are appended to `out`.
    ///
    /// A time before that of an earlier entry counts as the earlier one's: the group's time never goes back.
    pub fn apply(&mut self, index: u64, now_ms: u64, command: Command, out: &mut Effects) {
        self.time_ms = self.time_ms.max(now_ms);
        self.seq += 1;
        self.context.enter(index);
        if command.is_numbered() && !self.take_number() {
            self.counters.repeated += 1;
            return;
        }
        match command {
            Command::Publish(publish, at) => self.publish(publish, at, out),
            Command::Ack(ack) => self.ack(ack, out),
            Command::Release { actor, packet_id } => self.release(actor, packet_id, out),
            Command::From { link, first } => self.context.from(link, first),
            Command::Claim(claim) => self.claim(*claim, out),
            Command::Attach { actor, if_free } => self.attach(actor, if_free, out),
            Command::Subscribe(subscribe) => self.subscribe(*subscribe, out),
            Command::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe, out),
            Command::Disconnect(gone) => self.disconnect(&gone, out),
            Command::Page { actor } => self.page(actor, out),
            Command::Tick => self.tick(out),
            Command::WillPublish {
                client,
                epoch,
                publish,
                at,
            } => {
                self.publish_will(client, epoch, publish, at, out);
            }
            Command::LeaderStart => self.leader_start(out),
            Command::LinkUp { link, producer } => {
                self.link_down(link, out);
                self.producers.up(link, producer);
            }
            Command::LinkDown { link } => self.link_down(link, out),
            Command::Relocate { message, at, .. } => {
                self.messages.relocate(message, at, out);
            }
            Command::List { actor, group } => self.list(actor, group, out),
            Command::Join(join) => self.join(&join, out),
            Command::End {
                from,
                to,
                client_id,
                start_epoch,
            } => self.end_guest(client_id, start_epoch, (from, to), out),
            Command::ForeignWill {
                from,
                to,
                publish,
                at,
            } => self.publish_foreign_will((from, to), publish, at, out),
            Command::ErrandDone(done) => self.errand_done(*done),
            Command::Topology(heard) => self.learn_topology(*heard, out),
            Command::ChangeMembers(change) => self.change_members(&change, out),
        }
    }

    fn take_number(&mut self) -> bool {
        let Some((link, number)) = self.context.next_number() else {
            return false;
        };
        self.producers.take(link, number)
    }

    /// The session that `actor` may act for; a frame of any other epoch is fenced off and counted (promise P5).
    pub(super) fn fenced(&mut self, actor: Actor) -> Option<&Session> {
        let session = self.clients.get(actor.client);
        let own = session
            .filter(|session| session.epoch == actor.epoch || faults::is_on(Fault::IgnoreEpochs));
        self.counters.fenced += u64::from(own.is_none());
        own
    }

    /// The same to change it, which a snapshot under way pays for.
    pub(super) fn fenced_mut(&mut self, actor: Actor) -> Option<&mut Session> {
        self.fenced(actor)?;
        self.clients.get_mut(actor.client)
    }

    /// The group's time: that of the newest applied entry.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// When the next `Tick` is due, in group time.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let retained = self
            .retained_expiry
            .first_key_value()
            .map(|((at, _), _)| *at);
        [
            self.timers.next_ms(),
            self.producers.next_ms(),
            self.ended.next_ms(),
            self.wills_done.next_ms(),
            retained,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The connection that owns a client id now, or has claimed it.
    pub fn owner(&self, client_id: &str) -> Option<(LinkNo, Handle)> {
        self.clients
            .get(self.clients.find(client_id)?)?
            .owner
            .connection()
    }

    /// Whether this ack lets something waiting move, so that it should not wait itself.
    pub fn ack_unblocks(&self, ack: &Ack) -> bool {
        if ack.kind == AckKind::Received {
            return true;
        }
        let Some(session) = self.clients.get(ack.actor.client) else {
            return false;
        };
        let waiting = session
            .mailbox
            .as_ref()
            .is_some_and(|mailbox| mailbox.waiting() > 0 && mailbox.packet_id(0) == ack.packet_id);
        waiting
            || !session.cursors().is_empty()
            || session
                .shared()
                .iter()
                .any(|queue| !self.shared.get(*queue).items.is_empty())
    }

    /// Segments of the log with living messages, in order.
    pub fn live_segments(&self) -> Vec<u32> {
        self.messages
            .live_segments()
            .map(|(segment, _)| segment)
            .collect()
    }

    /// Living messages of each such segment, in order.
    pub fn segment_use(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.messages.live_segments()
    }

    /// Living messages of a segment that few of them keep alive, for the leader to copy to the log's end with
    /// `Relocate`: those among `places_max` places of the message table from `from` on, and where to look on.
    pub fn messages_in_segment(
        &self,
        segment: u32,
        from: u32,
        places_max: u32,
    ) -> (Vec<(MessageRef, StoredAt)>, Option<u32>) {
        self.messages.in_segment(segment, from, places_max)
    }

    /// What the group holds and has done.
    pub fn counters(&self) -> Counters {
        Counters {
            sessions: self.clients.len() as u64,
            subscriptions: self.counters.subscriptions,
            shared_queues: self.shared.len() as u64,
            messages: self.messages.len(),
            message_bytes: self.messages.bytes(),
            retained_messages: self.retained.len() as u64,
            ends_pending: self.ends.len() as u64,
            ..self.counters
        }
    }
}
