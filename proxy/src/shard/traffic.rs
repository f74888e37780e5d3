//! Between sockets and the groups: what clients send goes in, what the groups send goes out.

use super::connection::Written;
use super::reading::Unread;
use super::{Shard, mark};
use crate::session::{Context, End, Outgoing, Received, answer_for_gone};
use bytes::Bytes;
use cluster::frame::{Body, Delivery, FromGroup, Receiver, ToGroup};
use cluster::slots::GroupNo;
use std::io;

/// A turn's frames are handed over early when they have so many bytes, so that the group can begin.
pub(super) const HAND_OVER_BYTES: usize = 64 * 1024;

impl Shard {
    /// Reads at most one block from each connection that has something, while the group keeps up.
    pub(super) fn read_ready(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        self.pause_if_full();
        if self.paused {
            return;
        }
        debug_assert!(self.reading.is_empty());
        std::mem::swap(&mut self.ready, &mut self.reading);
        let mut reading = std::mem::take(&mut self.reading);
        let mut next = 0;
        while next < reading.len() && !self.paused {
            self.read_one(reading[next]);
            next += 1;
            if self.frames.bytes() >= HAND_OVER_BYTES {
                self.hand_over();
                self.pause_if_full();
            }
        }
        self.ready.extend_from_slice(&reading[next..]);
        reading.clear();
        self.reading = reading;
    }

    /// One block of one connection. It stays ready if there may be more.
    fn read_one(&mut self, index: u32) {
        let Some(connection) = self.table.at(index) else {
            return;
        };
        connection.ready = false;
        if connection.session.ended().is_some() {
            return self.discard(index);
        }
        if !connection.reads(&self.rules) {
            // It becomes ready again when the session wants bytes.
            connection.paused = true;
            return;
        }
        if std::mem::take(&mut connection.paused) {
            let held = connection.unread.take();
            // What was held back comes first, and the socket has not been looked at since.
            mark(&mut connection.ready, &mut self.ready, index);
            if let Some(held) = held {
                return self.receive(index, &held.into_bytes());
            }
            return;
        }
        let result = connection.read(&mut self.block, &self.rules.counters);
        if connection.has_more() {
            mark(&mut connection.ready, &mut self.ready, index);
        }
        if connection.has_sealed() && !connection.blocked {
            mark(&mut connection.dirty, &mut self.dirty, index);
        }
        match result {
            Ok(chunk) if chunk.fresh == 0 => self.end(index, End::SocketClosed),
            Ok(chunk) => {
                if chunk.full || connection.peer_closed {
                    mark(&mut connection.ready, &mut self.ready, index);
                }
                if !connection.session.awaits_connect() {
                    connection.heard_s = self.rules.now_s;
                }
                self.rules.counters.bytes_in.add(chunk.fresh as u64);
                // Nothing while a large packet is not complete.
                if !chunk.bytes.is_empty() {
                    self.receive(index, &chunk.bytes);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                mark(&mut connection.ready, &mut self.ready, index);
            }
            Err(error) => self.end_read(index, &error),
        }
    }

    /// Lets the session have a chunk and keeps what it leaves.
    fn receive(&mut self, index: u32, chunk: &Bytes) {
        let received = self.with(index, |session, context| session.receive(chunk, context));
        let Some(Received { consumed, need }) = received else {
            return;
        };
        let Some(connection) = self.table.at(index) else {
            return;
        };
        if connection.session.ended().is_some() {
            return self.see_end(index);
        }
        connection.unread = Unread::keep(&chunk[consumed..], need);
        let waits = connection.session.due_s() < connection.visit_s;
        if !connection.reads(&self.rules) {
            connection.paused = true;
            self.rules.counters.paused_connection.increment();
        }
        if waits {
            self.arm(index);
        }
    }

    /// A connection that is over is read to the end of what the peer sends, so that the kernel does not answer
    /// unread bytes with a reset that would overtake our last packet.
    fn discard(&mut self, index: u32) {
        let Some(connection) = self.table.at(index) else {
            return;
        };
        match self.block.read(&mut connection.socket, &mut None) {
            Ok(chunk) if chunk.fresh == 0 => self.close(index),
            Ok(chunk) => {
                if chunk.full || connection.peer_closed {
                    mark(&mut connection.ready, &mut self.ready, index);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.close(index),
        }
    }

    /// Handles everything the groups have sent.
    pub(super) fn take_frames(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        for at in 0..self.links.len() {
            let link = &self.links[at];
            let group = link.group;
            link.bags.to_shard.take(&mut inbox);
            for frame in inbox.drain(..) {
                match frame {
                    FromGroup::Deliver(delivery) => self.deliver(&delivery),
                    FromGroup::Resume => self.resume_link(group),
                    // For the link's own end, which has seen it.
                    FromGroup::Done { .. } => {}
                    FromGroup::Errand(errand) => self.carry(errand.to, ToGroup::Errand(errand)),
                    FromGroup::ErrandDone(done) => {
                        self.carry(done.from, ToGroup::ErrandDone(done));
                    }
                    frame => self.take_frame(group, frame),
                }
            }
        }
        self.inbox = inbox;
        self.resume_delayed();
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let message = match &delivery.body {
            Body::Inline(message) => message,
            Body::Stored(at) => {
                // The group's driver resolves these before a frame leaves its node. What is lost here stays in the
                // receiver's mailbox and comes again with its next connection.
                tracing::error!(?at, "a delivery came without its message");
                debug_assert!(false, "a delivery came without its message");
                return;
            }
        };
        let outgoing = Outgoing {
            message,
            expiry_s: delivery.expiry_s,
        };
        let many = delivery.receivers.len() > 1;
        self.fanout.begin();
        for receiver in &delivery.receivers {
            self.deliver_to(outgoing, receiver, many);
        }
    }

    fn deliver_to(&mut self, outgoing: Outgoing<'_>, receiver: &Receiver, many: bool) {
        let Some(connection) = self.table.get(receiver.handle) else {
            return self.rules.counters.deliveries_stale.increment();
        };
        self.pool.lend(&mut connection.out);
        let mut context = Context {
            bytes: &mut connection.out,
            frames: &mut self.frames,
            rules: &self.rules,
            peer: &|| None,
        };
        let fanout = many.then_some(&mut self.fanout);
        connection
            .session
            .deliver(outgoing, receiver, fanout, &mut context);
        if connection.out.is_empty() {
            self.pool.take_back(&mut connection.out);
        } else if !connection.blocked {
            mark(
                &mut connection.dirty,
                &mut self.dirty,
                receiver.handle.index,
            );
        }
    }

    fn take_frame(&mut self, from: GroupNo, frame: FromGroup) {
        let Some(handle) = frame.connection() else {
            unreachable!("{frame:?} is not for one connection");
        };
        if let FromGroup::Claimed(_) | FromGroup::ClaimRefused { .. } | FromGroup::Kick { .. } =
            &frame
        {
            self.frames.claim_answered(from, handle);
        }
        if self.table.get(handle).is_none() {
            return self.answer_for_gone(from, frame);
        }
        let decides = matches!(
            frame,
            FromGroup::Claimed(_)
                | FromGroup::ClaimRefused { .. }
                | FromGroup::Kick { .. }
                | FromGroup::Joined(_)
        );
        let index = handle.index;
        let was_over = self.with(index, |session, context| {
            let was_over = session.ended().is_some();
            session.frame(from, frame, context);
            was_over
        });
        if was_over == Some(true) {
            return;
        }
        self.look_after(index);
        if decides {
            self.arm(index);
        }
    }

    /// A frame for a connection that is gone: ownership is given back, a kick is confirmed, the rest is void.
    fn answer_for_gone(&mut self, from: GroupNo, frame: FromGroup) {
        let mut nothing = Vec::new();
        let mut context = Context {
            bytes: &mut nothing,
            frames: &mut self.frames,
            rules: &self.rules,
            peer: &|| None,
        };
        answer_for_gone(from, frame, &mut context);
    }

    /// Writes to every connection that has bytes, once, and closes those that are over.
    pub(super) fn write_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut bytes = 0;
        for index in dirty.drain(..) {
            self.write_one(index, &mut bytes);
        }
        self.rules.counters.bytes_out.add(bytes);
        // Failed writes end sessions, which makes them dirty again: they are closed now.
        std::mem::swap(&mut self.dirty, &mut dirty);
        for index in dirty.drain(..) {
            self.close(index);
        }
    }

    fn write_one(&mut self, index: u32, bytes: &mut u64) {
        let Some(connection) = self.table.at(index) else {
            return;
        };
        connection.dirty = false;
        let written = connection.write(&mut self.pool, bytes);
        match (connection.session.ended(), written) {
            // A client that takes its answers again is read from again.
            (None, Written::All) if connection.paused && connection.reads(&self.rules) => {
                mark(&mut connection.ready, &mut self.ready, index);
            }
            (None, Written::All) | (_, Written::Blocked) => {}
            (None, Written::Failed) => self.end(index, End::SocketError),
            (Some(_), Written::Failed) => self.close(index),
            (Some(end), Written::All) => self.take_leave(index, end),
        }
    }

    /// The last bytes of an ended connection are out.
    fn take_leave(&mut self, index: u32, end: End) {
        let Some(connection) = self.table.at(index) else {
            return;
        };
        let draining = self.drain_until.is_some();
        let told = end.is_told() && !draining;
        if !told || connection.finish_writing().is_err() {
            return self.close(index);
        }
        // From here on the peer's end of the connection, or the wheel, closes it.
        mark(&mut connection.ready, &mut self.ready, index);
    }
}
