//! PUBLISH (MQTT 5 section 3.3).

use std::num::NonZeroU16;

use crate::{Message, PacketId, QoS};

/// An application message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Whether this may be the repetition of an earlier attempt.
    pub dup: bool,
    /// The QoS of this transfer.
    pub qos: QoS,
    /// From a client: replace the retained message. From a server: this is the retained message.
    pub retain: bool,
    /// The packet id; there is one exactly at QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// The topic alias; without one the message's topic is not empty.
    pub topic_alias: Option<NonZeroU16>,
    /// Which of the receiver's subscriptions match. Only a server may send them (MQTT-3.3.4-6).
    pub subscription_ids: Vec<u32>,
    /// The message itself; see there for how long it may be kept.
    pub message: Message,
}
