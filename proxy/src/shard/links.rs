//! A shard's links, one to each group: how frames get onto them, and what happens where one takes no more.
//!
//! With one group a link that does not keep up stops the whole reading ([`Shard::pause_if_full`]). With several it
//! stops only the connections that have something for that group; the session keeps the packet it was at.
//!
//! A group that can store nothing more (it says so, see [`GroupLink::is_group_full`]) gets no new publishes, whatever the
//! number of groups: the session refuses them or keeps the packet it was at.
//!
//! What goes onto a link that takes no more, all the same, is bounded: by what the group itself has sent before (answers
//! to `Kick` and `Claimed`, one each), by the connections that act there, which cannot become more while the group lets nobody
//! in (one `Disconnect` each, and what takes back their SUBSCRIBEs), by the requests of the connections of a home (one
//! `List` each), and by what had waited in sessions already. Whatever a client that comes and goes could add, CONNECT and
//! joins among it, waits for room, and errands are dropped and come again.

use super::{Shard, mark};
use crate::link::GroupLink;
use crate::session::{Context, Frames, Session};
use cluster::frame::{ErrandKind, Reattach, Resume, ToGroup};
use cluster::ids::Handle;
use cluster::slots::GroupNo;
use hashbrown::HashSet;
use std::sync::Arc;

/// One of a shard's links.
pub(super) struct Link {
    pub(super) group: GroupNo,
    pub(super) bags: Arc<GroupLink>,
}

impl Link {
    pub(super) fn new(group: GroupNo, bags: Arc<GroupLink>) -> Self {
        Self { group, bags }
    }
}

impl Shard {
    /// Stops reading while the only group has its limit of bytes to take; its next take wakes the shard.
    pub(super) fn pause_if_full(&mut self) {
        let [link] = self.links.as_slice() else {
            return;
        };
        let was_paused = self.paused;
        self.paused = link.bags.to_group.is_full() && link.bags.to_group.wait_for_room();
        if self.paused && !was_paused {
            self.rules.counters.paused_shard.increment();
        }
    }

    /// Gives the frames to the groups, each theirs in one piece.
    pub(super) fn hand_over(&mut self) {
        if self.frames.bytes() > 0 {
            for link in &self.links {
                let lane = self.frames.lane(link.group);
                let bytes = std::mem::take(&mut lane.bytes);
                link.bags.to_group.send(&mut lane.list, bytes);
            }
            self.frames.taken();
        }
        find_full(&self.links, &mut self.frames);
    }

    /// Where all groups are told that the shard is about to sleep. `false`: one has sent something.
    pub(super) fn prepare_sleep(&self) -> bool {
        let mut links = self.links.iter();
        links.all(|link| link.bags.to_shard.prepare_sleep())
    }

    pub(super) fn awake(&self) {
        for link in &self.links {
            link.bags.to_shard.awake();
        }
    }

    /// Takes one group's errand, or word of it, to another.
    pub(super) fn carry(&mut self, to: GroupNo, errand: ToGroup) {
        if !self.frames.knows(to) || self.frames.is_full(to) {
            // It comes again until it arrives.
            return self.rules.counters.errands_dropped.increment();
        }
        let bytes = match &errand {
            ToGroup::Errand(errand) => match &errand.what {
                ErrandKind::Will { will, .. } => will.message.byte_len(),
                ErrandKind::End { .. } => 0,
            },
            _ => 0,
        };
        self.rules.counters.errands_carried.increment();
        self.frames.push(to, errand, bytes);
    }

    /// A new link session begins: tells the group which connections go on.
    pub(super) fn resume_link(&mut self, group: GroupNo) {
        let connections = self.table.iter();
        let sessions: Vec<_> = connections
            .filter_map(|connection| connection.session.reattach(group))
            .collect();
        let void = self.frames.void_claims(group);
        let bytes = sessions.len() * size_of::<Reattach>() + void.len() * size_of::<Handle>();
        let resume = ToGroup::Resume(Box::new(Resume { sessions, void }));
        self.frames.push(group, resume, bytes);
    }

    /// Lets connections go on that waited for groups which have room now, in the order they came.
    pub(super) fn resume_delayed(&mut self) {
        for at in 0..self.links.len() {
            let group = self.links[at].group;
            if self.frames.lane(group).waits.is_empty() {
                continue;
            }
            self.prune_waits(group);
            find_full(&self.links, &mut self.frames);
            if self.frames.is_link_full(group) {
                // Nobody can go on, and the lists may be long.
                continue;
            }
            let joins = std::mem::take(&mut self.frames.lane(group).waits.joins);
            let mut joins = joins.into_iter();
            while !self.frames.is_link_full(group)
                && let Some(handle) = joins.next()
            {
                self.resume_one(handle, |session, cx| session.join_late(group, cx));
            }
            // Those that began to wait again meanwhile come behind.
            let again = std::mem::take(&mut self.frames.lane(group).waits.joins);
            self.frames.lane(group).waits.joins = joins.chain(again).collect();

            let packets = std::mem::take(&mut self.frames.lane(group).waits.packets);
            let mut packets = packets.into_iter();
            while self.frames.takes_publishes(group)
                && let Some(handle) = packets.next()
            {
                self.resume_one(handle, |session, cx| session.go_on(group, cx));
            }
            let again = std::mem::take(&mut self.frames.lane(group).waits.packets);
            self.frames.lane(group).waits.packets = packets.chain(again).collect();
        }
    }

    /// Forgets who is gone, does not wait any more, or is there twice, once those may be more than half: so the lists are
    /// bounded by twice the connections, and what one turn adds.
    fn prune_waits(&mut self, group: GroupNo) {
        let max = 2 * self.table.len() as usize;
        let table = &mut self.table;
        let waits = &mut self.frames.lane(group).waits;
        if waits.joins.len() > max {
            retain(&mut waits.joins, |handle| {
                let connection = table.get(handle);
                connection.is_some_and(|it| it.session.is_join_due(group))
            });
        }
        if waits.packets.len() > max {
            retain(&mut waits.packets, |handle| {
                let connection = table.get(handle);
                connection.is_some_and(|it| it.session.delayed_for() == Some(group))
            });
        }
    }

    fn resume_one(&mut self, handle: Handle, run: impl FnOnce(&mut Session, &mut Context<'_>)) {
        if self.table.get(handle).is_none() {
            return;
        }
        self.with(handle.index, run);
        self.look_after(handle.index);
        if self.frames.bytes() >= super::traffic::HAND_OVER_BYTES {
            self.hand_over();
        }
    }

    /// After something that may have ended a session, let it read again or given it a time to wait until.
    pub(super) fn look_after(&mut self, index: u32) {
        let Some(connection) = self.table.at(index) else {
            return;
        };
        if connection.session.ended().is_some() {
            return self.see_end(index);
        }
        if connection.paused && connection.reads(&self.rules) {
            // Its clock stood still while we did not read.
            connection.heard_s = self.rules.now_s;
            mark(&mut connection.ready, &mut self.ready, index);
        }
        if connection.session.due_s() < connection.visit_s {
            self.arm(index);
        }
    }
}

/// Looks which groups can store nothing more, and, where there are several, which have their limit of bytes to take. The
/// next take of one that has wakes the shard.
fn find_full(links: &[Link], frames: &mut Frames) {
    for link in links {
        let lane = frames.lane(link.group);
        lane.refuses = link.bags.is_group_full();
        if links.len() > 1 {
            let bag = &link.bags.to_group;
            lane.full = bag.is_full() && bag.wait_for_room();
        }
    }
}

/// Keeps the handles that `waits`, each once.
fn retain(handles: &mut Vec<Handle>, mut waits: impl FnMut(Handle) -> bool) {
    let mut seen = HashSet::with_hasher(foldhash::fast::RandomState::default());
    handles.retain(|handle| waits(*handle) && seen.insert(*handle));
}
