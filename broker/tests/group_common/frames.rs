//! Frames of a client, as a shard makes them, and messages that tell their number. Also for the tests of proxies.

use cluster::frame::{
    Ack, AckKind, Claim, Disconnect, FromGroup, Publish, Subscribe, ToGroup, WillFate,
};
use cluster::ids::{Actor, Handle};
use protocol::{
    Message, PacketId, QoS, ReasonCode, SubscribeOptions, TopicFilter, TopicName, Version,
};

/// For a session that does not expire.
pub(crate) fn claim(handle: Handle, id: &str) -> ToGroup {
    ToGroup::Claim(Box::new(Claim {
        handle,
        client_id: id.into(),
        version: Version::V5,
        clean_start: false,
        expiry_s: u32::MAX,
        will: None,
    }))
}

/// Who acts for the connection from now on, and whether its session was there before; `None`: the frame says nothing
/// of that.
pub(crate) fn claimed(frame: &FromGroup, handle: Handle) -> Option<(Actor, bool)> {
    match frame {
        FromGroup::Claimed(claimed) if claimed.handle == handle => {
            let (client, epoch) = (claimed.client, claimed.epoch);
            Some((Actor { client, epoch }, claimed.session_present))
        }
        _ => None,
    }
}

/// An orderly one.
pub(crate) fn disconnect(actor: Actor) -> ToGroup {
    ToGroup::Disconnect(Box::new(Disconnect {
        actor,
        expiry_s: None,
        will: WillFate::Dropped,
    }))
}

pub(crate) fn subscribe(actor: Actor, packet_id: PacketId, filter: &str, qos: QoS) -> ToGroup {
    let options = SubscribeOptions {
        qos,
        ..SubscribeOptions::default()
    };
    ToGroup::Subscribe(Box::new(Subscribe {
        actor,
        packet_id,
        subscription_id: 0,
        filters: vec![(TopicFilter::new(filter).expect("a filter"), options)],
    }))
}

/// Whether the frame answers the SUBSCRIBE of one filter, which has to be granted at this QoS.
pub(crate) fn is_subscribed(frame: &FromGroup, to: PacketId, qos: QoS) -> Option<()> {
    match frame {
        FromGroup::Subscribed {
            packet_id,
            outcomes,
            ..
        } if *packet_id == to => {
            let reasons: Vec<_> = outcomes.iter().map(|outcome| outcome.reason).collect();
            assert_eq!(reasons, [ReasonCode::granted(qos)]);
            Some(())
        }
        _ => None,
    }
}

pub(crate) fn publish(
    actor: Actor,
    packet_id: Option<PacketId>,
    (qos, retain): (QoS, bool),
    message: Message,
) -> ToGroup {
    ToGroup::Publish(Publish {
        actor,
        packet_id,
        qos,
        retain,
        message,
    })
}

/// PUBACK.
pub(crate) fn ack(actor: Actor, packet_id: PacketId) -> ToGroup {
    ToGroup::Ack(Ack {
        actor,
        packet_id,
        kind: AckKind::Ack,
    })
}

/// A message of `len` bytes that tells its number.
pub(crate) fn message(topic: &str, number: u32, len: usize) -> Message {
    let topic = TopicName::new(topic).expect("a topic");
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(len, number as u8);
    Message::new(&topic, &[], &payload).expect("a message")
}

/// The number that [`message`] was given; the whole message has to fit it.
pub(crate) fn number(found: &Message) -> u32 {
    let head = found.payload()[..4].try_into().expect("four bytes");
    let number = u32::from_be_bytes(head);
    let wanted = message(found.topic(), number, found.payload().len());
    assert_eq!(*found, wanted);
    number
}
