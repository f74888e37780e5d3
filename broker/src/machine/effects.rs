//! What applying a command asks others to do.

use super::errands::ErrandKey;
use super::topology::TopologyRefused;
use cluster::frame::FromGroup;
use cluster::ids::{Actor, ClientNo, Epoch, Handle, LinkNo};
use cluster::topology::Topology;
use protocol::Will;
use std::sync::Arc;

/// Effects of some commands, in order, for the leader to carry out. A replica that does not lead drops them.
#[derive(Debug, Default)]
pub struct Effects {
    /// Frames for each link, in order; the index is the link's number.
    pub links: Vec<Vec<FromGroup>>,
    /// What the leader has to do.
    pub leader: Vec<LeaderEffect>,
    /// Whether the body of some delivery is still in the log ([`cluster::frame::Body::Stored`]).
    pub stored: bool,
}

impl Effects {
    /// Appends a frame for a link.
    pub fn send(&mut self, link: LinkNo, frame: FromGroup) {
        self.of_link(link).push(frame);
    }

    /// The frames for one link so far.
    pub fn of_link(&mut self, link: LinkNo) -> &mut Vec<FromGroup> {
        let at = usize::from(link.0);
        if at >= self.links.len() {
            self.links.resize_with(at + 1, Vec::new);
        }
        &mut self.links[at]
    }

    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        self.links.iter_mut().for_each(Vec::clear);
        self.leader.clear();
        self.stored = false;
    }
}

/// Something that only a leader does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderEffect {
    /// Close `old`, then propose `Attach` for `actor`.
    ///
    /// `old` owned the client id until now, or had claimed it and was never attached. Where a kick of an even
    /// earlier owner of the same client is open, the attach has to wait for that one too.
    KickThenAttach {
        /// The new owner.
        actor: Actor,
        /// The connection to close.
        old: (LinkNo, Handle),
    },
    /// A claim is not attached, and the connection it took the client id from, if there was one, is not known any
    /// more: wait as long as for a kick, then propose `Attach`. Follows a `LeaderStart`.
    ClaimOpen {
        /// The owner.
        actor: Actor,
    },
    /// Propose `WillPublish`. Repeated at each `LeaderStart` until that has been applied.
    WillDue {
        /// Whose will.
        client: ClientNo,
        /// The epoch of the connection that left it.
        epoch: Epoch,
        /// The will.
        will: Box<Will>,
    },
    /// Retained messages are left to send, and there is room for them: propose `Page`. Repeated at each
    /// `LeaderStart` until that has been applied.
    PagesLeft {
        /// Whose subscription.
        actor: Actor,
    },
    /// Another group is to do something for this one: ask it. Asked again until that is done.
    ErrandDue(ErrandKey),
    /// The last living message of this segment is gone, and no further one will be put there.
    SegmentFree(u32),
    /// What a `Topology` or `MoveMember` has come to: the topology as the log has it now, or why it stays as it is.
    Topology(Result<Arc<Topology>, TopologyRefused>),
}
