//! A shard's links, one to each group: how frames get onto them, and what happens where one takes no more.
//!
//! With one group a link that does not keep up stops the whole reading ([`Shard::pause_if_full`]). With several it
//! stops only the connections that have something for that group; the session keeps the packet it was at.

use super::{Shard, mark};
use crate::link::GroupLink;
use crate::session::{Frames, Session};
use cluster::frame::{ErrandKind, Reattach, Resume, ToGroup};
use cluster::ids::Handle;
use cluster::slots::GroupNo;
use hashbrown::HashSet;
use std::sync::Arc;

/// One of a shard's links.
pub(super) struct Link {
    pub(super) group: GroupNo,
    pub(super) bags: Arc<GroupLink>,
    /// Connections that wait for room, in the order they came. At most about twice as many as there are connections.
    delayed: Vec<Handle>,
}

impl Link {
    pub(super) fn new(group: GroupNo, bags: Arc<GroupLink>) -> Self {
        Self {
            group,
            bags,
            delayed: Vec::new(),
        }
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
        if self.links.len() > 1 {
            find_full(&self.links, &mut self.frames);
        }
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

    /// If a connection is not read from because a group takes no more: it is told when that has room.
    pub(super) fn note_delayed(&mut self, index: u32) {
        let Some(connection) = self.table.at(index) else {
            return;
        };
        let Some(group) = connection.session.delayed_for() else {
            return;
        };
        let handle = connection.session.handle();
        let connections = self.table.len() as usize;
        let Some(link) = self.links.iter_mut().find(|link| link.group == group) else {
            return;
        };
        if link.delayed.len() > 2 * connections {
            // Half of them are gone, or wait for something else, or are in it twice.
            let mut seen = HashSet::with_hasher(foldhash::fast::RandomState::default());
            let table = &mut self.table;
            link.delayed.retain(|handle| {
                let connection = table.get(*handle);
                connection.is_some_and(|it| it.session.delayed_for() == Some(group))
                    && seen.insert(*handle)
            });
        }
        link.delayed.push(handle);
    }

    /// Lets connections go on that waited for groups which have room now, in the order they came.
    pub(super) fn resume_delayed(&mut self) {
        for at in 0..self.links.len() {
            if self.links[at].delayed.is_empty() {
                continue;
            }
            let group = self.links[at].group;
            find_full(&self.links, &mut self.frames);
            let delayed = std::mem::take(&mut self.links[at].delayed);
            let mut delayed = delayed.into_iter();
            while !self.frames.is_full(group)
                && let Some(handle) = delayed.next()
            {
                self.resume_one(handle);
                if self.frames.bytes() >= super::traffic::HAND_OVER_BYTES {
                    self.hand_over();
                }
            }
            // Those that began to wait again meanwhile come behind.
            let again = std::mem::take(&mut self.links[at].delayed);
            self.links[at].delayed = delayed.chain(again).collect();
        }
    }

    fn resume_one(&mut self, handle: Handle) {
        if self.table.get(handle).is_none() {
            return;
        }
        let index = handle.index;
        self.with(index, Session::go_on);
        self.look_after(index);
        self.note_delayed(index);
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

/// Looks which groups have their limit of bytes to take. The next take of one that has wakes the shard.
fn find_full(links: &[Link], frames: &mut Frames) {
    for link in links {
        let bag = &link.bags.to_group;
        frames.lane(link.group).full = bag.is_full() && bag.wait_for_room();
    }
}
