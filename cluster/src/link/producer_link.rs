//! The proxy's end of a link.

use super::LinkError;
use super::back_off::BackOff;
use super::exchange::Exchange;
use super::kept::Kept;
use super::out::Out;
use super::search::Again;
use crate::frame::{FromGroup, Resume, ToGroup};
use crate::limits::{
    BACK_OFF_MAX, BATCH_BYTES_GOAL, BATCH_BYTES_MAX, HANDSHAKE_BYTES_MAX, KEPT_BYTES_MAX,
    LINK_CONNECT, LINK_DEAD, LINK_HANDSHAKE, LINK_HEARTBEAT, SEARCH_WAIT_MAX,
};
use crate::topology::{Announcement, Topology};
use crate::wire::{
    Batch, BatchKind, BatchStart, Batches, Handshake, Heartbeat, Hello, Nonce, Terms, Transcript,
    WireError, read_from_group, write_to_group,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who a producer is and what it wants.
#[derive(Clone)]
pub struct ProducerIdentity {
    /// The group.
    pub group: u32,
    /// Number of the node.
    pub node: u32,
    /// Shard of the node.
    pub shard: u32,
    /// Random, new at each start of the node.
    pub incarnation: u64,
    /// Name of the node: 1 to 64 letters, digits, `.`, `_`, `-`.
    pub name: Box<str>,
    /// The fleet's secret.
    pub secret: Arc<[u8]>,
}

/// What a link has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerFigures {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Frames received and handed on.
    pub frames_in: u64,
    /// Frames sent, those sent again included.
    pub frames_out: u64,
    /// Frames sent again.
    pub frames_resent: u64,
    /// Link sessions that got as far as the shard's `Resume`.
    pub sessions: u64,
    /// QoS 0 publishes dropped, since there was no link session to send them over.
    pub qos0_dropped: u64,
    /// Bytes kept until the group has stored them, now.
    pub kept_bytes: u64,
    /// Frames kept, now.
    pub kept_frames: u64,
}

/// What became of received bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the batches with the frames that were handed over.
    pub frame_bytes: usize,
    /// The handshake is over: the link session has begun.
    pub welcomed: Option<Terms>,
    /// A topology that the broker told of, and that was news to this end when the broker heard of it last.
    pub topology: Option<Topology>,
}

/// The proxy's end of the link between one shard and one group, over all its sessions.
///
/// The driver makes connections when [`ProducerLink::wants_connection`] says so, and tells how they went; it moves
/// bytes and frames, and calls [`ProducerLink::tick`] at [`ProducerLink::deadline`].
#[derive(Debug)]
pub struct ProducerLink {
    identity: ProducerIdentity,
    exchange: Exchange,
    state: State,
    back_off: BackOff,
    kept: Kept,
    /// Number of the next numbered frame to be sent in this session.
    unsent: u64,
    /// Frames below this number may have been sent in an earlier session.
    maybe_sent: u64,
    /// What the group takes the next numbered frame for: its number, and whether it may be a repeat.
    assumed: Option<(u64, bool)>,
    inbox: Batches,
    out: Out,
    /// Frames behind the last `Done`, not handed over yet, and the bytes of their batches.
    unit: Vec<FromGroup>,
    unit_bytes: usize,
    /// `Resume` was put before the shard this many times more than it has answered.
    resumes_owed: u32,
    /// Bytes of frames sent in this session, and those the group has taken.
    sent: u64,
    taken: u64,
    heard: Instant,
    said: Instant,
    /// Nothing is read for now, so silence means nothing.
    deaf: bool,
    /// The group says so, in this session.
    group_full: bool,
    figures: ProducerFigures,
}

#[derive(Debug)]
enum State {
    /// No connection; the next may be made then.
    Down(Instant),
    /// A connection is being made, until then.
    Connecting(Instant),
    /// `Hello` is sent; the handshake ends by then.
    Greeted(Transcript, Instant),
    /// `Proof` is sent.
    Proved(Transcript, Instant),
    /// Welcome; the shard has not said yet what goes on.
    Resuming(Terms),
    /// Frames flow.
    Up(Terms),
}

impl ProducerLink {
    /// A link without a connection, of a node that knows this `topology`. `seed` makes its waits random.
    pub fn new(
        identity: ProducerIdentity,
        topology: Arc<Announcement>,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            identity,
            exchange: Exchange::new(topology),
            state: State::Down(now),
            back_off: BackOff::new(seed),
            kept: Kept::new(),
            unsent: 1,
            maybe_sent: 1,
            assumed: None,
            inbox: Batches::default(),
            out: Out::default(),
            unit: Vec::new(),
            unit_bytes: 0,
            resumes_owed: 0,
            sent: 0,
            taken: 0,
            heard: now,
            said: now,
            deaf: false,
            group_full: false,
            figures: ProducerFigures::default(),
        }
    }

    /// Whether it is time to make a connection.
    pub fn wants_connection(&self, now: Instant) -> bool {
        matches!(self.state, State::Down(at) if at <= now)
    }

    /// A connection is being made.
    pub fn connecting(&mut self, now: Instant) {
        self.state = State::Connecting(now + LINK_CONNECT);
    }

    /// The connection is made. `nonce` is random.
    pub fn connected(&mut self, now: Instant, nonce: Nonce) {
        let (identity, known) = (&self.identity, self.exchange.own());
        let hello = Hello {
            fixed: known.topology().fixed.0,
            slots: known.slots(),
            topology: known.version(),
            group: identity.group,
            node: identity.node,
            shard: identity.shard,
            incarnation: identity.incarnation,
            nonce,
            name: identity.name.clone(),
        };
        hello.write(&mut self.out.bytes);
        self.state = State::Greeted(Transcript::new(&hello), now + LINK_HANDSHAKE);
        self.heard = now;
        self.said = now;
        self.deaf = false;
    }

    /// The connection is gone, or could not be made. What was not handed over of the last unit is forgotten; the
    /// frames that were answered in it will be sent again. [`Search`](super::Search) says when the next may be made.
    pub fn lost(&mut self, now: Instant, again: Again) {
        let wait = match again {
            Again::AtOnce => Duration::ZERO,
            Again::Soon => self.back_off.wait_at_most(SEARCH_WAIT_MAX),
            Again::Later => self.back_off.wait_at_most(BACK_OFF_MAX),
            Again::Longest => self.back_off.longest(),
        };
        self.state = State::Down(now + wait);
        self.maybe_sent = self.maybe_sent.max(self.unsent);
        self.group_full = false;
        self.exchange.end();
        self.inbox = Batches::default();
        self.out.clear();
        self.unit.clear();
        self.unit_bytes = 0;
    }

    /// This node knows another topology from now on: the broker is told.
    pub fn know(&mut self, topology: Arc<Announcement>) {
        self.exchange.know(topology);
        if self.is_welcome() {
            self.exchange.tell(&mut self.out.bytes);
        }
    }

    /// Whether frames flow.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Whether the group says that it can store nothing more. Frames are taken, kept and sent all the same.
    pub fn is_group_full(&self) -> bool {
        self.group_full
    }

    /// Whether the shard's `Resume` is wanted before anything else; see [`ProducerLink::frames`].
    pub fn wants_resume(&self) -> bool {
        self.resumes_owed > 0
    }

    /// Whether the shard's frames should be taken. If not, they wait in the bag.
    pub fn takes_frames(&self) -> bool {
        let room = self.kept.bytes() < KEPT_BYTES_MAX;
        match self.state {
            State::Up(terms) => {
                room && !self.has_backlog() && !self.out.is_full() && self.has_credit(terms)
            }
            _ => room,
        }
    }

    /// Takes frames of the shard, in order; `frames` is empty afterwards. `Resume` may come at any place: the answer
    /// to the last `Resume` put before the shard begins the session.
    pub fn frames(&mut self, frames: &mut Vec<ToGroup>) {
        let mut batch = None;
        for frame in frames.drain(..) {
            match frame {
                ToGroup::Resume(resume) => self.resume(&resume),
                ToGroup::Number { .. } => {
                    debug_assert!(false, "a shard does not number its frames");
                }
                frame if frame.is_numbered() => self.numbered(&frame, &mut batch),
                frame => self.unnumbered(&frame, &mut batch),
            }
            self.end_batch(&mut batch, BATCH_BYTES_GOAL);
        }
        self.end_batch(&mut batch, 0);
        self.send_backlog();
    }

    /// Bytes from the connection. Frames that are to be handed to the shard are appended to `frames`; after an error
    /// the connection is to be closed and [`ProducerLink::lost`] told.
    pub fn received(
        &mut self,
        now: Instant,
        bytes: &[u8],
        frames: &mut Vec<FromGroup>,
    ) -> Result<Received, LinkError> {
        self.heard = now;
        self.figures.bytes_in += bytes.len() as u64;
        self.inbox.push(bytes);
        let mut received = Received::default();
        loop {
            let in_handshake = matches!(self.state, State::Greeted(..) | State::Proved(..));
            let max = if in_handshake {
                HANDSHAKE_BYTES_MAX
            } else {
                BATCH_BYTES_MAX
            };
            let Some(batch) = self.inbox.next(max)? else {
                break;
            };
            if in_handshake {
                if let Some(terms) = self.handshake(&batch)? {
                    received.welcomed = Some(terms);
                    frames.push(FromGroup::Resume);
                }
            } else if batch.kind == BatchKind::Topology {
                received.topology = Some(self.exchange.hear(&batch)?);
            } else {
                received.frame_bytes += self.batch(&batch, frames)?;
            }
        }
        self.send_backlog();
        Ok(received)
    }

    /// Bytes for the connection.
    pub fn outgoing(&self) -> &[u8] {
        self.out.pending()
    }

    /// The connection has taken so many of them.
    pub fn written(&mut self, now: Instant, bytes: usize) {
        self.out.advance(bytes);
        self.figures.bytes_out += bytes as u64;
        self.said = now;
        self.send_backlog();
    }

    /// Nothing is read from the connection for now, since the shard does not keep up; or it is again.
    pub fn set_deaf(&mut self, now: Instant, deaf: bool) {
        if self.deaf && !deaf {
            self.heard = now;
        }
        self.deaf = deaf;
    }

    /// Does what is due. After an error the connection is to be closed and [`ProducerLink::lost`] told.
    pub fn tick(&mut self, now: Instant) -> Result<(), LinkError> {
        match self.state {
            State::Connecting(until) if until <= now => {
                return Err(LinkError::Io(std::io::ErrorKind::TimedOut));
            }
            State::Down(_) | State::Connecting(_) => return Ok(()),
            State::Greeted(_, until) | State::Proved(_, until) if until <= now => {
                return Err(LinkError::HandshakeTooLong);
            }
            _ => {}
        }
        if !self.deaf && self.heard + LINK_DEAD <= now {
            return Err(LinkError::Silent);
        }
        if self.is_welcome() && self.out.pending().is_empty() && self.said + LINK_HEARTBEAT <= now {
            Heartbeat::default().write(&mut self.out.bytes);
            self.said = now;
        }
        Ok(())
    }

    /// When [`ProducerLink::tick`] or [`ProducerLink::wants_connection`] has something to do next, by time alone.
    pub fn deadline(&self) -> Option<Instant> {
        let dead = (!self.deaf).then_some(self.heard + LINK_DEAD);
        let due = match self.state {
            State::Down(at) | State::Connecting(at) => return Some(at),
            State::Greeted(_, until) | State::Proved(_, until) => Some(until),
            // While the socket takes nothing, nothing can be said.
            State::Resuming(_) | State::Up(_) => {
                (self.out.pending().is_empty()).then_some(self.said + LINK_HEARTBEAT)
            }
        };
        due.into_iter().chain(dead).min()
    }

    /// What was counted.
    pub fn figures(&self) -> ProducerFigures {
        ProducerFigures {
            kept_bytes: self.kept.bytes() as u64,
            kept_frames: self.kept.frames(),
            ..self.figures
        }
    }

    fn is_welcome(&self) -> bool {
        matches!(self.state, State::Resuming(_) | State::Up(_))
    }

    fn has_backlog(&self) -> bool {
        self.unsent < self.kept.next()
    }

    fn has_credit(&self, terms: Terms) -> bool {
        self.sent - self.taken < u64::from(terms.credit_bytes)
    }

    fn handshake(&mut self, batch: &Batch) -> Result<Option<Terms>, LinkError> {
        let message = Handshake::read(batch)?;
        match (&mut self.state, message) {
            (_, Handshake::Refused(refused)) => Err(LinkError::Refused(refused)),
            (State::Greeted(transcript, until), Handshake::Challenge(challenge)) => {
                transcript.challenged(&challenge);
                let proof = transcript.proof(&self.identity.secret);
                proof.write(&mut self.out.bytes);
                self.state = State::Proved(std::mem::take(transcript), *until);
                Ok(None)
            }
            (State::Proved(transcript, _), Handshake::Welcome(welcome)) => {
                if !transcript.welcomes(&self.identity.secret, &welcome) {
                    return Err(LinkError::BrokerSecret);
                }
                self.state = State::Resuming(welcome.terms);
                self.resumes_owed += 1;
                self.sent = 0;
                self.taken = 0;
                self.assumed = None;
                self.unsent = self.kept.oldest();
                self.exchange.begin(welcome.terms.topology);
                self.exchange.tell(&mut self.out.bytes);
                Ok(Some(welcome.terms))
            }
            _ => Err(LinkError::Wire(WireError::Kind(batch.kind as u8))),
        }
    }

    /// Returns the bytes of the batches whose frames were handed over.
    fn batch(&mut self, batch: &Batch, frames: &mut Vec<FromGroup>) -> Result<usize, LinkError> {
        match batch.kind {
            BatchKind::Heartbeat => {
                let Heartbeat { taken, full } = Heartbeat::read(&batch.body)?;
                self.group_full = full;
                if taken < self.taken || taken > self.sent {
                    return Err(WireError::OutOfOrder("credit for what was never sent").into());
                }
                self.taken = taken;
                return Ok(0);
            }
            BatchKind::FromGroup => {}
            BatchKind::Refused => {
                return match Handshake::read(batch)? {
                    Handshake::Refused(refused) => Err(LinkError::Refused(refused)),
                    _ => Err(WireError::Kind(batch.kind as u8).into()),
                };
            }
            kind => return Err(WireError::Kind(kind as u8).into()),
        }
        if !self.is_up() {
            return Err(WireError::OutOfOrder("a frame before this end's Resume").into());
        }
        self.unit_bytes += batch.wire_bytes();
        let (unit, mut done, mut count, mut stray) = (&mut self.unit, None, 0, false);
        read_from_group(&batch.body, |frame| match frame {
            FromGroup::Done { number } => {
                frames.append(unit);
                done = Some(number);
            }
            FromGroup::Resume => stray = true,
            frame => {
                count += 1;
                unit.push(frame);
            }
        })?;
        self.figures.frames_in += count;
        if stray {
            return Err(WireError::OutOfOrder("a Resume from a group").into());
        }
        let Some(number) = done else {
            return Ok(0);
        };
        self.kept.done(number)?;
        if number >= self.unsent {
            return Err(WireError::OutOfOrder("Done for a frame not sent in this session").into());
        }
        self.back_off.reset();
        Ok(std::mem::take(&mut self.unit_bytes))
    }

    fn resume(&mut self, resume: &Resume) {
        self.resumes_owed = self.resumes_owed.saturating_sub(1);
        let State::Resuming(terms) = self.state else {
            return;
        };
        if self.resumes_owed > 0 {
            // The answer to what an earlier session asked.
            return;
        }
        self.state = State::Up(terms);
        self.figures.sessions += 1;
        let out = &mut self.out.bytes;
        let batch = BatchStart::begin(BatchKind::ToGroup, out);
        write_to_group(&ToGroup::Resume(Box::new(resume.clone())), out);
        self.sent += batch.bytes(out) as u64;
        batch.end(out);
    }

    fn numbered(&mut self, frame: &ToGroup, batch: &mut Option<BatchStart>) {
        let direct = self.is_up() && !self.has_backlog();
        let number = self.kept.next();
        if direct {
            self.begin_batch(number, false, batch);
        }
        let bytes = self.kept.push(|out| write_to_group(frame, out));
        if direct {
            self.out.bytes.extend_from_slice(bytes);
            self.unsent = number + 1;
            self.assumed = Some((self.unsent, false));
            self.figures.frames_out += 1;
        }
    }

    fn unnumbered(&mut self, frame: &ToGroup, batch: &mut Option<BatchStart>) {
        if !self.is_up() || self.has_backlog() {
            self.figures.qos0_dropped += 1;
            return;
        }
        if batch.is_none() {
            *batch = Some(BatchStart::begin(BatchKind::ToGroup, &mut self.out.bytes));
        }
        write_to_group(frame, &mut self.out.bytes);
        self.figures.frames_out += 1;
    }

    /// Begins a batch unless there is one, and says what the next numbered frame is unless the group takes it for that.
    fn begin_batch(&mut self, first: u64, resent: bool, batch: &mut Option<BatchStart>) {
        let out = &mut self.out.bytes;
        if batch.is_none() {
            *batch = Some(BatchStart::begin(BatchKind::ToGroup, out));
        }
        if self.assumed != Some((first, resent)) {
            write_to_group(&ToGroup::Number { first, resent }, out);
        }
    }

    /// Ends a batch that has this many bytes.
    fn end_batch(&mut self, batch: &mut Option<BatchStart>, bytes_min: usize) {
        if let Some(begun) = batch.take_if(|begun| begun.bytes(&self.out.bytes) >= bytes_min) {
            self.sent += begun.bytes(&self.out.bytes) as u64;
            begun.end(&mut self.out.bytes);
        }
    }

    /// Sends kept frames that this session has not carried yet, as far as credit and room go.
    fn send_backlog(&mut self) {
        let State::Up(terms) = self.state else {
            return;
        };
        while self.has_backlog() && !self.out.is_full() && self.has_credit(terms) {
            let resent = self.unsent < self.maybe_sent;
            let until = if resent {
                self.maybe_sent
            } else {
                self.kept.next()
            };
            let mut batch = None;
            self.begin_batch(self.unsent, resent, &mut batch);
            let out = &mut self.out.bytes;
            let next = self.kept.copy(self.unsent, until, BATCH_BYTES_GOAL, out);
            self.figures.frames_out += next - self.unsent;
            self.figures.frames_resent += if resent { next - self.unsent } else { 0 };
            self.unsent = next;
            self.assumed = Some((next, resent));
            self.end_batch(&mut batch, 0);
        }
    }
}

impl std::fmt::Debug for ProducerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerIdentity")
            .field("name", &self.name)
            .field("node", &self.node)
            .field("shard", &self.shard)
            .field("incarnation", &self.incarnation)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
