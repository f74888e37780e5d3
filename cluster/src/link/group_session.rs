//! The broker's end of one link session.

use super::LinkError;
use super::exchange::Exchange;
use super::out::Out;
use crate::frame::{FromGroup, ToGroup};
use crate::limits::{
    BATCH_BYTES_GOAL, BATCH_BYTES_MAX, CREDIT_BYTES, CREDIT_STEP_BYTES, HANDSHAKE_BYTES_MAX,
    LINK_DEAD, LINK_HANDSHAKE, LINK_HEARTBEAT,
};
use crate::topology::{Announcement, Topology};
use crate::wire::{
    Batch, BatchKind, BatchStart, Batches, Challenge, FixedHash, Handshake, Heartbeat, Hello,
    LINK_VERSION, Nonce, Refusal, Refused, Terms, Transcript, WireError, is_tls, read_to_group,
    write_from_group,
};
use std::sync::Arc;
use std::time::Instant;

/// What a broker tells and asks of whoever connects.
#[derive(Clone)]
pub struct GroupIdentity {
    /// The group that this broker has.
    pub group: u32,
    /// Name of the node: 1 to 64 letters, digits, `.`, `_`, `-`.
    pub name: Box<str>,
    /// The fleet's secret.
    pub secret: Arc<[u8]>,
}

/// What a session has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupFigures {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
}

/// What became of received bytes.
#[derive(Debug, Default)]
pub struct Admission {
    /// Bytes of the batches whose frames were handed over. The bag is told the same number, so that what is left in
    /// it says how much the group has taken.
    pub frame_bytes: usize,
    /// The proxy has proved that it knows the secret: the driver asks the group for a link, and then calls
    /// [`GroupSession::welcome`] or [`GroupSession::refuse`].
    pub admit: Option<Hello>,
    /// A topology that the proxy told of, and that was news to this end when the proxy heard of it last.
    pub topology: Option<Topology>,
}

/// The broker's end of one connection, from its first byte.
#[derive(Debug)]
pub struct GroupSession {
    identity: GroupIdentity,
    exchange: Exchange,
    nonce: Nonce,
    state: State,
    inbox: Batches,
    out: Out,
    /// Number of the next numbered frame; none was said yet.
    next: Option<u64>,
    /// Bytes of frames received; those the group has taken; those the proxy was told of.
    received: u64,
    taken: u64,
    told: u64,
    /// The group can store nothing more, as the proxy was told.
    full: bool,
    heard: Instant,
    said: Instant,
    figures: GroupFigures,
}

#[derive(Debug)]
enum State {
    /// `Hello` must come until then.
    Waiting(Instant),
    /// `Proof` must come until then.
    Challenged(Transcript, Box<Hello>, Instant),
    /// The driver asks the group.
    Admitting(Transcript),
    /// Welcome; the proxy's `Resume` must come first.
    Welcomed,
    /// Frames flow.
    Up,
    /// What is in `out` is the last.
    Refused,
}

impl GroupSession {
    /// A connection that was just accepted, by a node that knows this `topology`. `nonce` is random.
    pub fn new(
        identity: GroupIdentity,
        topology: Arc<Announcement>,
        nonce: Nonce,
        now: Instant,
    ) -> Self {
        Self {
            identity,
            exchange: Exchange::new(topology),
            nonce,
            state: State::Waiting(now + LINK_HANDSHAKE),
            inbox: Batches::default(),
            out: Out::default(),
            next: None,
            received: 0,
            taken: 0,
            told: 0,
            full: false,
            heard: now,
            said: now,
            figures: GroupFigures::default(),
        }
    }

    /// Bytes from the connection; frames for the group are appended to `frames`. After an error what is outgoing is
    /// written as far as it goes, and the connection is closed.
    pub fn receive(
        &mut self,
        now: Instant,
        bytes: &[u8],
        frames: &mut Vec<ToGroup>,
    ) -> Result<Admission, LinkError> {
        self.heard = now;
        self.figures.bytes_in += bytes.len() as u64;
        self.inbox.push(bytes);
        if matches!(self.state, State::Waiting(_)) && self.inbox.head().is_some_and(is_tls) {
            return Err(self.refuse_tls("without TLS, the proxy comes with it", "broker"));
        }
        let mut admission = Admission::default();
        loop {
            let in_handshake = !self.is_welcome();
            let max = if in_handshake {
                HANDSHAKE_BYTES_MAX
            } else {
                BATCH_BYTES_MAX
            };
            let next = self.inbox.next(max);
            let Some(batch) = next.map_err(|error| self.answer(error))? else {
                return Ok(admission);
            };
            if in_handshake {
                admission.admit = self.handshake(now, &batch)?;
            } else if batch.kind == BatchKind::Topology {
                admission.topology = Some(self.exchange.hear(&batch)?);
            } else {
                admission.frame_bytes += self.batch(&batch, frames)?;
            }
        }
    }

    /// The group has a link for the proxy.
    pub fn welcome(&mut self, now: Instant, reign: u32, known: bool) {
        let State::Admitting(transcript) = &self.state else {
            debug_assert!(false, "only a proxy that asked is welcome");
            return;
        };
        let terms = Terms {
            reign,
            known,
            credit_bytes: CREDIT_BYTES,
            topology: self.exchange.own().version(),
        };
        let welcome = transcript.welcome(&self.identity.secret, terms);
        welcome.write(&mut self.out.bytes);
        self.state = State::Welcomed;
        self.said = now;
        self.exchange.tell(&mut self.out.bytes);
    }

    /// This node knows another topology from now on: the proxy is told.
    pub fn know(&mut self, topology: Arc<Announcement>) {
        self.exchange.know(topology);
        if self.is_welcome() {
            self.exchange.tell(&mut self.out.bytes);
        }
    }

    /// The last word on this connection, whether its link session has begun or not.
    pub fn refuse(&mut self, refused: Refused) -> LinkError {
        refused.write(&mut self.out.bytes);
        self.state = State::Refused;
        LinkError::Refused(refused)
    }

    /// The proxy does not speak TLS, and this end does.
    pub fn refuse_without_tls(&mut self) -> LinkError {
        self.refuse_tls("with TLS, the proxy comes without it", "proxy")
    }

    fn refuse_tls(&mut self, how: &str, lacking: &str) -> LinkError {
        let name = &self.identity.name;
        let text = format!("{name} takes links {how}; the {lacking} lacks section [link_tls]");
        self.refuse(Refused::new(Refusal::Tls, &text))
    }

    /// Whether the group's frames should be taken from the bag.
    pub fn takes_frames(&self) -> bool {
        self.is_welcome() && !self.out.is_full()
    }

    /// Takes frames of the group, in order; `frames` is empty afterwards.
    pub fn send(&mut self, frames: &mut Vec<FromGroup>) {
        if frames.is_empty() {
            return;
        }
        self.figures.frames_out += frames.len() as u64;
        let out = &mut self.out.bytes;
        let mut batch = BatchStart::begin(BatchKind::FromGroup, out);
        for frame in frames.drain(..) {
            write_from_group(&frame, out);
            if batch.bytes(out) >= BATCH_BYTES_GOAL {
                batch.end(out);
                batch = BatchStart::begin(BatchKind::FromGroup, out);
            }
        }
        batch.end(out);
    }

    /// So many bytes of what was handed over still wait for the group. Tells the proxy when it is worth it.
    pub fn waiting(&mut self, now: Instant, bytes: usize) {
        self.taken = self
            .taken
            .max(self.received - (bytes as u64).min(self.received));
        if self.is_welcome() && self.taken - self.told >= CREDIT_STEP_BYTES {
            self.speak(now);
        }
    }

    /// Whether the group can store nothing more, once there is a link session. The proxy is told when that changes.
    pub fn set_full(&mut self, now: Instant, full: bool) {
        if self.is_welcome() && self.full != full {
            self.full = full;
            self.speak(now);
        }
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
    }

    /// Does what is due. An error as from [`GroupSession::receive`].
    pub fn tick(&mut self, now: Instant) -> Result<(), LinkError> {
        match self.state {
            State::Waiting(until) | State::Challenged(_, _, until) if until <= now => {
                return Err(LinkError::HandshakeTooLong);
            }
            State::Waiting(_) | State::Challenged(..) | State::Admitting(_) | State::Refused => {}
            State::Welcomed | State::Up => {
                if self.heard + LINK_DEAD <= now {
                    return Err(LinkError::Silent);
                }
                if self.out.pending().is_empty() && self.said + LINK_HEARTBEAT <= now {
                    self.speak(now);
                }
            }
        }
        Ok(())
    }

    /// When [`GroupSession::tick`] has something to do next, by time alone.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(until) | State::Challenged(_, _, until) => Some(until),
            State::Admitting(_) | State::Refused => None,
            State::Welcomed | State::Up => {
                let speak = (self.out.pending().is_empty()).then_some(self.said + LINK_HEARTBEAT);
                speak.into_iter().chain([self.heard + LINK_DEAD]).min()
            }
        }
    }

    /// What was counted.
    pub fn figures(&self) -> GroupFigures {
        self.figures
    }

    fn is_welcome(&self) -> bool {
        matches!(self.state, State::Welcomed | State::Up)
    }

    fn speak(&mut self, now: Instant) {
        let heartbeat = Heartbeat {
            taken: self.taken,
            full: self.full,
        };
        heartbeat.write(&mut self.out.bytes);
        self.told = self.taken;
        self.said = now;
    }

    fn handshake(&mut self, now: Instant, batch: &Batch) -> Result<Option<Hello>, LinkError> {
        let message = Handshake::read(batch).map_err(|error| self.answer(error))?;
        let state = std::mem::replace(&mut self.state, State::Refused);
        match (state, message) {
            (State::Waiting(until), Handshake::Hello(hello)) => {
                self.check(&hello)?;
                let challenge = Challenge {
                    nonce: self.nonce,
                    name: self.identity.name.clone(),
                };
                let mut transcript = Transcript::new(&hello);
                transcript.challenged(&challenge);
                challenge.write(&mut self.out.bytes);
                self.state = State::Challenged(transcript, Box::new(hello), until);
                self.said = now;
                Ok(None)
            }
            (State::Challenged(transcript, hello, _), Handshake::Proof(proof)) => {
                if !transcript.proves(&self.identity.secret, &proof) {
                    let text = format!(
                        "the link secrets of {} and {} differ",
                        self.identity.name, hello.name
                    );
                    return Err(self.refuse(Refused::new(Refusal::Secret, &text)));
                }
                self.exchange.begin(hello.topology);
                self.state = State::Admitting(transcript);
                Ok(Some(*hello))
            }
            _ => Err(self.answer(WireError::Kind(batch.kind as u8))),
        }
    }

    /// Whether both nodes are of one fleet and the proxy came to the right broker.
    fn check(&mut self, hello: &Hello) -> Result<(), LinkError> {
        let GroupIdentity { group, name, .. } = &self.identity;
        let own = self.exchange.own();
        let fixed = own.topology().fixed.0;
        if hello.fixed != fixed {
            let text = format!(
                "the fixed parts of the cluster files of {name} (hash {}) and {} (hash {}) differ",
                hex(fixed),
                hello.name,
                hex(hello.fixed)
            );
            return Err(self.refuse(Refused::new(Refusal::FixedPart, &text)));
        }
        if hello.group != *group {
            let text = format!(
                "{name} has group {group}, {} asks for group {}",
                hello.name, hello.group
            );
            return Err(self.refuse(Refused::new(Refusal::Group, &text)));
        }
        if hello.slots != own.slots() {
            let text = format!(
                "by {name} other groups have some slots than by {}: start all nodes with the groups that the fleet \
                 began with",
                hello.name
            );
            return Err(self.refuse(Refused::new(Refusal::Slots, &text)));
        }
        Ok(())
    }

    /// Tells the proxy what it did wrong in the handshake.
    fn answer(&mut self, error: WireError) -> LinkError {
        if self.is_welcome() {
            return LinkError::Wire(error);
        }
        let name = &self.identity.name;
        let (refusal, text) = match error {
            WireError::Version(theirs) => (
                Refusal::Version,
                format!(
                    "{name} speaks version {LINK_VERSION} of the link protocol, the proxy version {theirs}"
                ),
            ),
            error => (Refusal::Malformed, error.to_string()),
        };
        self.refuse(Refused::new(refusal, &text))
    }

    /// Returns the bytes of frames that were handed over.
    fn batch(&mut self, batch: &Batch, frames: &mut Vec<ToGroup>) -> Result<usize, LinkError> {
        match batch.kind {
            BatchKind::ToGroup => {}
            BatchKind::Heartbeat => {
                Heartbeat::read(&batch.body)?;
                return Ok(0);
            }
            kind => return Err(WireError::Kind(kind as u8).into()),
        }
        self.received += batch.wire_bytes() as u64;
        let before = frames.len();
        read_to_group(&batch.body, |frame| frames.push(frame))?;
        self.figures.frames_in += (frames.len() - before) as u64;
        let checked = frames[before..]
            .iter()
            .try_for_each(|frame| self.order(frame));
        if let Err(error) = checked {
            frames.truncate(before);
            return Err(error.into());
        }
        Ok(batch.wire_bytes())
    }

    /// Whether this frame may come now.
    fn order(&mut self, frame: &ToGroup) -> Result<(), WireError> {
        match frame {
            ToGroup::Resume(_) if matches!(self.state, State::Welcomed) => {
                self.state = State::Up;
                Ok(())
            }
            ToGroup::Resume(_) => Err(WireError::OutOfOrder("a second Resume")),
            _ if matches!(self.state, State::Welcomed) => {
                Err(WireError::OutOfOrder("a frame before Resume"))
            }
            ToGroup::Number { first, .. } => {
                if *first == 0 || self.next.is_some_and(|next| next != *first) {
                    return Err(WireError::OutOfOrder(
                        "the numbers of the frames have a gap",
                    ));
                }
                self.next = Some(*first);
                Ok(())
            }
            frame if frame.is_numbered() => {
                let next = self.next.and_then(|next| next.checked_add(1));
                self.next = Some(next.ok_or(WireError::OutOfOrder("a frame without a number"))?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn hex(hash: FixedHash) -> String {
    format!("{:032x}", u128::from_be_bytes(hash))
}

impl std::fmt::Debug for GroupIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupIdentity")
            .field("name", &self.name)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
