//! What a client keeps of its session, by the standard.

use protocol::{Ack, Packet, PacketId, QoS, ReasonCode};
use std::collections::{BTreeSet, VecDeque};

/// How far a publish has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Sent,
    /// PUBREC has come.
    Released,
}

/// A publish that is not completed.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) id: PacketId,
    pub(super) number: u32,
    pub(super) qos: QoS,
    pub(super) phase: Phase,
    pub(super) bytes: usize,
}

/// A SUBSCRIBE or UNSUBSCRIBE without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: PacketId,
    pub(super) filter: usize,
    /// `None`: UNSUBSCRIBE.
    pub(super) qos: Option<QoS>,
}

#[derive(Debug, Default)]
pub(super) struct ClientSession {
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) asked: Option<Asked>,
    requests: u16,
    /// PUBACK, PUBREC and PUBCOMP that it has to send.
    pub(super) unanswered: VecDeque<Packet>,
    /// QoS 2 packet ids that it has had and whose PUBREL has not come.
    pub(super) open: BTreeSet<PacketId>,
    /// An answer is planned.
    pub(super) answers_soon: bool,
}

impl ClientSession {
    /// The connection is gone, the session is not.
    pub(super) fn lose_connection(&mut self) {
        self.asked = None;
        self.unanswered.clear();
    }

    /// The session is over.
    pub(super) fn forget(&mut self) {
        self.outgoing.clear();
        self.open.clear();
        self.lose_connection();
    }

    pub(super) fn owed(&self) -> Option<String> {
        if let Some(outgoing) = self.outgoing.first() {
            return Some(format!(
                "the answer to message {}: {:?}",
                outgoing.number, outgoing.phase
            ));
        }
        if let Some(asked) = self.asked {
            return Some(format!("the answer to {asked:?}"));
        }
        let unanswered = self.unanswered.len();
        (unanswered > 0).then(|| format!("its own {unanswered} answers"))
    }

    /// The lowest packet id that is free, as many clients take it.
    pub(super) fn free_id(&self) -> PacketId {
        let is_free = |id: &PacketId| self.outgoing.iter().all(|outgoing| outgoing.id != *id);
        let mut ids = (1..).filter_map(PacketId::new);
        ids.find(is_free).expect("few are open")
    }

    pub(super) fn request_id(&mut self) -> PacketId {
        self.requests = self.requests % 1_000 + 1;
        PacketId::new(30_000 + self.requests).expect("not zero")
    }

    /// PUBACK, or PUBREC: the number of the message, if the device waits for this.
    pub(super) fn published(&mut self, id: PacketId, qos: QoS, refused: bool) -> Option<u32> {
        let is_it = |it: &Outgoing| it.id == id && it.qos == qos && it.phase == Phase::Sent;
        let at = self.outgoing.iter().position(is_it)?;
        let number = self.outgoing[at].number;
        if qos == QoS::AtLeastOnce || refused {
            self.outgoing.remove(at);
        } else {
            self.outgoing[at].phase = Phase::Released;
        }
        Some(number)
    }

    /// PUBCOMP.
    pub(super) fn completed(&mut self, id: PacketId) {
        let open = |it: &Outgoing| it.id != id || it.phase != Phase::Released;
        self.outgoing.retain(open);
    }
}

pub(super) fn ack(packet_id: PacketId) -> Ack {
    Ack {
        packet_id,
        reason: ReasonCode::Success,
    }
}
