//! From sockets to the group.

use super::reading::Unread;
use super::{Shard, mark};
use crate::session::{End, Received};
use bytes::Bytes;
use std::io;

/// A turn's frames are handed over early when they have so many bytes, so that the group can begin.
const HAND_OVER_BYTES: usize = 64 * 1024;

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
            if self.frames.bytes >= HAND_OVER_BYTES {
                self.hand_over();
                self.pause_if_full();
            }
        }
        self.ready.extend_from_slice(&reading[next..]);
        reading.clear();
        self.reading = reading;
    }

    /// Stops reading while the group has its limit of bytes to take; its next take wakes the shard.
    fn pause_if_full(&mut self) {
        let was_paused = self.paused;
        self.paused = self.link.to_group.is_full() && self.link.to_group.wait_for_room();
        if self.paused && !was_paused {
            self.rules.counters.paused_shard.increment();
        }
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
        match self
            .block
            .read(&mut connection.socket, &mut connection.unread)
        {
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
            Err(_) => self.end(index, End::SocketError),
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
        if !connection.reads(&self.rules) {
            connection.paused = true;
            self.rules.counters.paused_connection.increment();
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
}
