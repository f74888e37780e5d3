//! One connection of a proxy, and the link session on it.

use super::limits::{FROM_GROUP_BYTES_MAX, READS_PER_TURN, TO_GROUP_BYTES_TOLD};
use super::refusal::refusal;
use crate::command::Producer;
use crate::group::LinkTicket;
use cluster::frame::{FromGroup, ToGroup};
use cluster::link::{GroupFigures, GroupSession, LinkError};
use cluster::mailbag::{Mailbag, Wake};
use cluster::topology::Topology;
use cluster::transport::Transport;
use cluster::wire::Hello;
use mio::net::TcpStream;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// A connection from accept to close.
pub(super) struct Connection {
    pub(super) transport: Transport<TcpStream>,
    pub(super) peer: SocketAddr,
    pub(super) session: GroupSession,
    pub(super) link: Option<Link>,
    /// The socket may have something to read.
    pub(super) readable: bool,
    /// The socket takes no more for now.
    pub(super) blocked: bool,
    /// What has been added to the server's counters.
    counted: GroupFigures,
}

/// The link session of a connection.
pub(super) struct Link {
    pub(super) name: Box<str>,
    pub(super) producer: Producer,
    pub(super) ticket: LinkTicket,
    pub(super) bags: Bags,
}

/// The bags of a link session, new for each.
#[derive(Clone)]
pub(super) struct Bags {
    pub(super) to_group: Arc<Mailbag<ToGroup>>,
    pub(super) from_group: Arc<Mailbag<FromGroup>>,
}

impl Bags {
    pub(super) fn new(wake_group: Wake, wake_server: impl Fn() -> Wake) -> Self {
        let nobody: Wake = Box::new(|| {});
        Self {
            to_group: Arc::new(Mailbag::new(TO_GROUP_BYTES_TOLD, wake_group, wake_server())),
            from_group: Arc::new(Mailbag::new(FROM_GROUP_BYTES_MAX, wake_server(), nobody)),
        }
    }
}

pub(super) fn producer(hello: &Hello) -> Producer {
    Producer {
        node: hello.node,
        shard: hello.shard,
        incarnation: hello.incarnation,
    }
}

/// What the thread keeps for all connections.
pub(super) struct Scratch {
    pub(super) block: Box<[u8]>,
    pub(super) to_group: Vec<ToGroup>,
    pub(super) from_group: Vec<FromGroup>,
    /// What a proxy has told of the fleet.
    pub(super) heard: Option<Topology>,
}

impl Connection {
    pub(super) fn new(
        transport: Transport<TcpStream>,
        peer: SocketAddr,
        session: GroupSession,
    ) -> Self {
        Self {
            transport,
            peer,
            session,
            link: None,
            // It may have spoken before it was registered.
            readable: true,
            blocked: false,
            counted: GroupFigures::default(),
        }
    }

    /// Reads what has come, a bounded amount, and gives the group its frames. A proxy that is to be admitted is
    /// returned.
    pub(super) fn read(
        &mut self,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Result<Option<Hello>, LinkError> {
        for _ in 0..READS_PER_TURN {
            let read = match self.transport.read(&mut scratch.block) {
                Ok(Some(read)) => read,
                Ok(None) => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(LinkError::NoTls) => return Err(self.session.refuse_without_tls()),
                Err(error) => return Err(error),
            };
            let frames = &mut scratch.to_group;
            let result = self.session.receive(now, &scratch.block[..read], frames);
            let admission = match result {
                Ok(admission) => admission,
                Err(error) => {
                    // The session is over, and they come again.
                    frames.clear();
                    return Err(error);
                }
            };
            if let Some(link) = &self.link {
                link.bags.to_group.send(frames, admission.frame_bytes);
            }
            if admission.topology.is_some() {
                scratch.heard = admission.topology;
            }
            debug_assert!(frames.is_empty(), "frames come on links only");
            if admission.admit.is_some() {
                return Ok(admission.admit);
            }
        }
        Ok(None)
    }

    /// What is the connection's due: its end, if the group has ended the session, or time and frames. `name` is this node's.
    pub(super) fn go_on(
        &mut self,
        now: Instant,
        name: &str,
        scratch: &mut Scratch,
    ) -> Result<(), LinkError> {
        if let Some(why) = self.link.as_ref().and_then(|link| link.ticket.ended()) {
            let refused = refusal(why, name);
            self.take_frames(scratch);
            return Err(self.session.refuse(refused));
        }
        self.give_credit(now);
        if let Some(link) = &self.link {
            self.session.set_full(now, link.ticket.is_group_full());
        }
        self.session.tick(now)?;
        self.write(now, scratch)
    }

    /// Tells the session how much the group has taken, and sees to it that the server hears of the rest.
    fn give_credit(&mut self, now: Instant) {
        if let Some(link) = &self.link {
            let bag = &link.bags.to_group;
            if bag.is_full() {
                let _told_when_taken = bag.wait_for_room();
            }
            self.session.waiting(now, bag.bytes());
        }
    }

    /// Sends what the group has for the proxy, as far as the socket takes it.
    fn write(&mut self, now: Instant, scratch: &mut Scratch) -> Result<(), LinkError> {
        loop {
            self.take_frames(scratch);
            let outgoing = self.session.outgoing();
            if self.blocked || (outgoing.is_empty() && !self.transport.has_more()) {
                return Ok(());
            }
            let written = self.transport.write(outgoing)?;
            if written.bytes > 0 {
                self.session.written(now, written.bytes);
            }
            self.blocked = written.blocked;
        }
    }

    fn take_frames(&mut self, scratch: &mut Scratch) {
        if self.session.takes_frames()
            && let Some(link) = &self.link
        {
            link.bags.from_group.take(&mut scratch.from_group);
            self.session.send(&mut scratch.from_group);
        }
    }

    /// Whether nothing waits for this end; from then on the bag wakes the server.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(link) = &self.link else {
            return !self.readable;
        };
        // Behind a socket that takes nothing, frames stay in the bag.
        let bag_is_quiet = !self.session.takes_frames() || link.bags.from_group.prepare_sleep();
        bag_is_quiet && !self.readable
    }

    pub(super) fn awake(&self) {
        if let Some(link) = &self.link {
            link.bags.from_group.awake();
        }
    }

    /// The last bytes, if the socket takes them at once, and the end.
    pub(super) fn close(mut self) -> Option<Link> {
        if !self.blocked
            && let Err(error) = self.transport.finish(self.session.outgoing())
        {
            tracing::debug!(%error, peer = %self.peer, "a closing link does not take its last bytes");
        }
        if let Err(error) = self.transport.socket().shutdown(Shutdown::Write) {
            tracing::debug!(%error, peer = %self.peer, "a closing link was gone");
        }
        self.link
    }

    /// What was counted since this was last asked.
    pub(super) fn take_figures(&mut self) -> GroupFigures {
        let now = self.session.figures();
        let before = std::mem::replace(&mut self.counted, now);
        GroupFigures {
            bytes_in: now.bytes_in - before.bytes_in,
            bytes_out: now.bytes_out - before.bytes_out,
            frames_in: now.frames_in - before.frames_in,
            frames_out: now.frames_out - before.frames_out,
        }
    }
}
