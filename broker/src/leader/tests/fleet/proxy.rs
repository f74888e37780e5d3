//! A proxy of one shard, as far as links go.

use cluster::frame::{Disconnect, FromGroup, Reattach, Resume, ToGroup, WillFate};
use cluster::ids::{Actor, Handle, LinkNo};
use protocol::PacketId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A proxy's end of a connection.
#[derive(Clone, Debug)]
pub(in crate::leader::tests) struct Connection {
    pub(in crate::leader::tests) device: usize,
    /// `None` before `Claimed`.
    pub(in crate::leader::tests) actor: Option<Actor>,
    pub(in crate::leader::tests) last: Option<PacketId>,
    /// Packet ids of PUBRELs that it has sent.
    pub(in crate::leader::tests) released: BTreeSet<PacketId>,
}

/// A proxy of one shard: its connections, and its end of the link.
#[derive(Default)]
pub(in crate::leader::tests) struct Proxy {
    pub(in crate::leader::tests) connections: BTreeMap<Handle, Connection>,
    /// Connections that are over and whose claim has no answer yet.
    pub(in crate::leader::tests) void: BTreeSet<Handle>,
    pub(in crate::leader::tests) handles: u32,
    pub(in crate::leader::tests) incarnation: u64,
    /// Number of the last numbered frame.
    number: u64,
    /// The highest number ever sent.
    sent: u64,
    pub(in crate::leader::tests) kept: VecDeque<(u64, ToGroup)>,
    pub(in crate::leader::tests) link: Option<LinkNo>,
    pub(in crate::leader::tests) to_group: VecDeque<ToGroup>,
    pub(in crate::leader::tests) from_group: VecDeque<FromGroup>,
    pub(in crate::leader::tests) unit: Vec<FromGroup>,
    /// Frames that were sent again.
    pub(in crate::leader::tests) resent: u64,
}

impl Proxy {
    pub(in crate::leader::tests) fn push(&mut self, frame: ToGroup) {
        if !frame.is_numbered() {
            if self.link.is_some() {
                self.to_group.push_back(frame);
            }
            return;
        }
        self.number += 1;
        self.kept.push_back((self.number, frame.clone()));
        if self.link.is_some() {
            self.sent = self.number;
            self.to_group.push_back(frame);
        }
    }

    /// What a new session begins with.
    pub(in crate::leader::tests) fn resume(&mut self) {
        let sessions = self.connections.iter().filter_map(|(handle, connection)| {
            Some(Reattach {
                actor: connection.actor?,
                handle: *handle,
                last: connection.last,
            })
        });
        let resume = Resume {
            sessions: sessions.collect(),
            void: self.void.iter().copied().collect(),
        };
        self.to_group.push_back(ToGroup::Resume(Box::new(resume)));
        let first = self
            .kept
            .front()
            .map_or(self.number + 1, |(first, _)| *first);
        self.to_group.push_back(ToGroup::Number {
            first,
            resent: first <= self.sent,
        });
        for (number, frame) in &self.kept {
            if *number == self.sent + 1 && *number > first {
                let (first, resent) = (*number, false);
                self.to_group.push_back(ToGroup::Number { first, resent });
            }
            self.resent += u64::from(*number <= self.sent);
            self.to_group.push_back(frame.clone());
        }
        self.sent = self.number;
        let first = self.number + 1;
        let resent = false;
        self.to_group.push_back(ToGroup::Number { first, resent });
    }
}

/// The end of a connection that is not the client's own doing.
pub(in crate::leader::tests) fn disconnect(actor: Actor) -> ToGroup {
    ToGroup::Disconnect(Box::new(Disconnect {
        actor,
        expiry_s: None,
        will: WillFate::Published,
    }))
}
