//! The session against a fake client and a fake group: no socket, no thread, and a clock that is set by hand.

mod bounds;
mod connect;
mod deliver;
mod end;
mod fleet;
mod full;
mod groups;
mod groups_away;
mod hostile;
mod publish;
mod recording;
mod refused;
mod subscribe;

use super::*;
use crate::auth::{AcceptAll, Authenticator};
use crate::counters::ProxyCounters;
use crate::limits::ProxyLimits;
use cluster::filters::FilterDigest;
use cluster::frame::Claimed;
use cluster::topology::Routing;
use protocol::{Ack, Connect, Message, PacketId, Publish, QoS, ReasonCode, TopicName, encode};
use std::sync::Arc;

/// A session with both its neighbours in the hands of the test.
struct Wire {
    session: Session,
    rules: Rules,
    bytes: Vec<u8>,
    frames: Frames,
    version: Version,
}

const HANDLE: Handle = Handle {
    index: 5,
    generation: 2,
};
const HOME: GroupNo = GroupNo(0);
const ACTOR: Actor = Actor {
    client: ClientNo(9),
    epoch: Epoch(77),
};

/// Of what a group holds of the session.
fn digest_at(group: GroupNo) -> FilterDigest {
    FilterDigest(100 + u64::from(group.0))
}

impl Wire {
    fn new(limits: ProxyLimits) -> Self {
        Self::with_authenticator(limits, Arc::new(AcceptAll))
    }

    fn with_authenticator(limits: ProxyLimits, authenticator: Arc<dyn Authenticator>) -> Self {
        Self::with_routing(limits, authenticator, Routing::one_group(HOME))
    }

    fn with_routing(
        limits: ProxyLimits,
        authenticator: Arc<dyn Authenticator>,
        routing: Routing,
    ) -> Self {
        let counters = Arc::new(ProxyCounters::default());
        let ids = AssignedIds::new(1);
        Self {
            session: Session::new(HANDLE),
            frames: Frames::new(routing.groups()),
            rules: Rules {
                limits,
                counters,
                authenticator,
                now_s: 0,
                keeps_records: true,
                ids,
                routing: Arc::new(routing),
            },
            bytes: Vec::new(),
            version: Version::V311,
        }
    }

    /// A session whose CONNECT was answered.
    fn connected(version: Version) -> Self {
        Self::connected_with(ProxyLimits::default(), Connect::new(version, "client"))
    }

    fn connected_with(limits: ProxyLimits, connect: Connect) -> Self {
        let mut wire = Self::new(limits);
        wire.send_connect(connect);
        wire.claimed(false);
        wire.sent();
        wire.frames();
        assert!(wire.session.is_connected());
        wire
    }

    fn send_connect(&mut self, connect: Connect) {
        self.version = connect.version;
        self.send(&Packet::Connect(Box::new(connect)));
    }

    fn claimed(&mut self, session_present: bool) {
        let Actor { client, epoch } = ACTOR;
        self.frame(FromGroup::Claimed(Box::new(Claimed {
            handle: HANDLE,
            client,
            epoch,
            session_present,
            start_epoch: epoch,
            groups: Box::default(),
            digest: FilterDigest::default(),
        })));
    }

    /// The client sends a packet.
    fn send(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes).expect("the test's packet can be written");
        let len = bytes.len();
        let received = self.send_bytes(&bytes);
        assert!(received.consumed == len || !self.session.reads(&self.rules));
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> Received {
        let chunk = Bytes::copy_from_slice(bytes);
        self.with(|session, cx| session.receive(&chunk, cx))
    }

    fn publish(&mut self, topic: &str, qos: QoS, id: u16) {
        self.send(&Packet::Publish(publish_packet(topic, qos, id)));
    }

    /// The group sends a frame.
    fn frame(&mut self, frame: FromGroup) {
        self.frame_from(HOME, frame);
    }

    fn frame_from(&mut self, from: GroupNo, frame: FromGroup) {
        self.with(|session, cx| session.frame(from, frame, cx));
    }

    fn published(&mut self, id: u16, qos: QoS, reason: ReasonCode) {
        self.frame(FromGroup::Published {
            handle: HANDLE,
            packet_id: packet_id(id),
            qos,
            reason,
        });
    }

    fn deliver(
        &mut self,
        message: &Message,
        expiry_s: Option<u32>,
        receiver: &cluster::frame::Receiver,
    ) {
        let outgoing = Outgoing { message, expiry_s };
        self.with(|session, cx| session.deliver(outgoing, receiver, None, cx));
    }

    fn with<R>(&mut self, run: impl FnOnce(&mut Session, &mut Context<'_>) -> R) -> R {
        let peer = || {
            Some(crate::auth::Peer {
                address: ([127, 0, 0, 1], 1).into(),
                certificate: None,
            })
        };
        let mut context = Context {
            bytes: &mut self.bytes,
            frames: &mut self.frames,
            rules: &self.rules,
            peer: &peer,
        };
        run(&mut self.session, &mut context)
    }

    /// What the client was sent since the last call.
    fn sent(&mut self) -> Vec<Packet> {
        let chunk = Bytes::from(std::mem::take(&mut self.bytes));
        let mut at = 0;
        let mut packets = Vec::new();
        while at < chunk.len() {
            match decode(&chunk, at, self.version, usize::MAX)
                .expect("the session writes valid packets")
            {
                Decoded::Packet { packet, len } => {
                    packets.push(packet);
                    at += len;
                }
                Decoded::Incomplete { .. } => panic!("the session wrote a part of a packet"),
            }
        }
        packets
    }

    /// What the group was sent since the last call.
    fn frames(&mut self) -> Vec<ToGroup> {
        self.frames_to(HOME)
    }

    fn frames_to(&mut self, group: GroupNo) -> Vec<ToGroup> {
        std::mem::take(&mut self.frames.lane(group).list)
    }

    fn ack(&mut self, packet: fn(Ack) -> Packet, id: u16) {
        self.ack_with(packet, id, ReasonCode::Success);
    }

    fn ack_with(&mut self, packet: fn(Ack) -> Packet, id: u16, reason: ReasonCode) {
        self.send(&packet(Ack {
            packet_id: packet_id(id),
            reason,
        }));
    }

    /// The reason in the last packet, which must be DISCONNECT.
    fn disconnect_reason(&mut self) -> ReasonCode {
        match self.sent().pop() {
            Some(Packet::Disconnect(disconnect)) => disconnect.reason,
            other => panic!("DISCONNECT expected, not {other:?}"),
        }
    }
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

fn message(topic: &str, payload: &[u8]) -> Message {
    Message::new(&TopicName::new(topic).expect("valid"), &[], payload).expect("valid")
}

fn publish_packet(topic: &str, qos: QoS, id: u16) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        packet_id: PacketId::new(id),
        topic_alias: None,
        subscription_ids: Vec::new(),
        message: message(topic, b"payload"),
    }
}

fn ack_of(packet: &Packet) -> (&'static str, u16, ReasonCode) {
    match packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            (packet.name(), ack.packet_id.get(), ack.reason)
        }
        other => panic!("an acknowledgement expected, not {other:?}"),
    }
}
