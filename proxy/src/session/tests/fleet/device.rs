//! A client, and what it has been promised.

use cluster::ids::{Epoch, Handle};
use protocol::{Ack, Packet, PacketId, QoS};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How far a publish of a device has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Sent,
    Released,
}

/// A publish of a device that is not completed.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) id: PacketId,
    pub(super) topic: usize,
    pub(super) qos: QoS,
    pub(super) payload: String,
    pub(super) phase: Phase,
}

/// A client with a session that never expires, until it begins another.
#[derive(Default)]
pub(super) struct Device {
    pub(super) at: Option<(usize, Handle)>,
    pub(super) connected: bool,
    /// It asks for a new session, until it has one.
    pub(super) clean: bool,
    /// It has had CONNACK of its session.
    pub(super) has_session: bool,
    /// Counts its sessions.
    pub(super) session: u32,
    pub(super) outgoing: Vec<Outgoing>,
    /// Filters with the QoS that SUBACK granted.
    pub(super) granted: BTreeMap<usize, QoS>,
    pub(super) asked: Option<(PacketId, usize, QoS)>,
    pub(super) requests: u16,
    /// PUBACK, PUBREC and PUBCOMP that it has to send.
    pub(super) unanswered: VecDeque<Packet>,
    /// QoS 2 packet ids that it has had and whose PUBREL has not come.
    open: BTreeSet<PacketId>,
    /// Payloads, as the application got them.
    pub(super) got: Vec<String>,
    /// Payloads of publishes that were refused.
    pub(super) refused: Vec<String>,
    /// What was published at QoS 2, of this connection.
    got_here: BTreeSet<String>,
    /// The newest connection that had CONNACK, by its epoch, and how many publishes there had been.
    pub(super) newest: (Epoch, u32),
}

impl Device {
    /// Its socket is gone, or it leaves it.
    pub(super) fn drop_socket(&mut self) {
        self.at = None;
        self.connected = false;
        self.asked = None;
        self.unanswered.clear();
        self.got_here.clear();
    }

    /// It forgets its session, and asks for a new one.
    pub(super) fn start_clean(&mut self) {
        self.clean = true;
        self.has_session = false;
        self.session += 1;
        self.granted.clear();
        self.outgoing.clear();
        self.open.clear();
    }

    /// The lowest packet id that is free, as many clients take it.
    pub(super) fn free_id(&self) -> PacketId {
        let is_free = |id: &PacketId| self.outgoing.iter().all(|outgoing| outgoing.id != *id);
        let mut ids = (1..).filter_map(PacketId::new);
        ids.find(is_free).expect("few are open")
    }

    /// With which QoS a publish must reach it at least.
    pub(super) fn granted_for(&self, topic: usize, everything: usize) -> Option<QoS> {
        let granted = [topic, everything].map(|filter| self.granted.get(&filter).copied());
        granted.into_iter().flatten().max()
    }

    pub(super) fn take_publish(&mut self, publish: &protocol::Publish) {
        let id = publish.packet_id.expect("nothing is published at QoS 0");
        let payload = String::from_utf8_lossy(publish.message.payload()).into_owned();
        // MQTT-4.4.0-1: nothing is sent again over the same connection.
        let is_first = !payload.ends_with('2') || self.got_here.insert(payload.clone());
        assert!(is_first, "{payload} came twice over one connection");
        let ack = ack(id);
        if publish.qos == QoS::AtLeastOnce {
            self.got.push(payload);
            self.unanswered.push_back(Packet::PubAck(ack));
        } else {
            if self.open.insert(id) {
                self.got.push(payload);
            }
            self.unanswered.push_back(Packet::PubRec(ack));
        }
    }

    pub(super) fn take_release(&mut self, id: PacketId) {
        self.open.remove(&id);
        self.unanswered.push_back(Packet::PubComp(ack(id)));
    }

    /// PUBACK or PUBREC: the payload that is acknowledged.
    pub(super) fn published(&mut self, id: PacketId, qos: QoS) -> String {
        let is_it = |it: &Outgoing| it.id == id && it.qos == qos;
        let at = self.outgoing.iter().position(is_it);
        let at = at.unwrap_or_else(|| panic!("{qos:?} {id:?} is answered, but not open"));
        let outgoing = &mut self.outgoing[at];
        assert_eq!(outgoing.phase, Phase::Sent, "an answer is awaited");
        outgoing.phase = Phase::Released;
        let payload = outgoing.payload.clone();
        if qos == QoS::AtLeastOnce {
            self.outgoing.remove(at);
        }
        payload
    }

    /// PUBACK or PUBREC with an error: it will not come again.
    pub(super) fn is_refused(&mut self, id: PacketId) {
        let is_it = |it: &Outgoing| it.id == id && it.phase == Phase::Sent;
        let at = self.outgoing.iter().position(is_it);
        let refused = self.outgoing.remove(at.expect("an answer is awaited"));
        self.refused.push(refused.payload);
    }

    /// PUBCOMP.
    pub(super) fn completed(&mut self, id: PacketId) {
        let is_it = |it: &Outgoing| it.id == id && it.phase == Phase::Released;
        let at = self.outgoing.iter().position(is_it);
        self.outgoing.remove(at.expect("PUBCOMP is awaited"));
    }
}

pub(super) fn ack(packet_id: PacketId) -> Ack {
    Ack {
        packet_id,
        reason: protocol::ReasonCode::Success,
    }
}
