//! SUBSCRIBE (MQTT 5 section 3.8).

use crate::{PacketId, QoS, TopicFilter};

/// A client subscribes. User properties are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The packet id that SUBACK repeats.
    pub packet_id: PacketId,
    /// The identifier of all subscriptions of this packet, 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// The subscriptions, at least one.
    pub filters: Vec<(TopicFilter, SubscribeOptions)>,
}

/// The options of one subscription (section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscribeOptions {
    /// The highest QoS at which the client wants the messages.
    pub qos: QoS,
    /// Whether the client's own messages stay away. Never with a shared subscription.
    pub no_local: bool,
    /// Whether the retain flag stays as it was published.
    pub retain_as_published: bool,
    /// Which retained messages to send.
    pub retain_handling: RetainHandling,
}

/// Which retained messages to send when a subscription is made (section 3.3.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Those that match, each time: the only way before MQTT 5.
    #[default]
    Send = 0,
    /// Those that match, if the subscription did not exist before.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

impl SubscribeOptions {
    /// The options as the byte of the wire: QoS in bits 0 and 1, no local, retain as published,
    /// retain handling in bits 4 and 5.
    pub const fn as_u8(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    /// The options behind such a byte; `None` where it is not valid in MQTT 5.
    pub const fn from_u8(byte: u8) -> Option<SubscribeOptions> {
        if byte & 0b1100_0000 != 0 {
            return None;
        }
        let Some(qos) = QoS::from_u8(byte & 0b11) else {
            return None;
        };
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        let no_local = byte & 0b100 != 0;
        let retain_as_published = byte & 0b1000 != 0;
        Some(SubscribeOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        })
    }
}
