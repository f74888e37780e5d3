//! The control packets (MQTT 5 chapter 3), one per file: what they hold, how they are read, how
//! they are written.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod suback;
mod subscribe;
mod unsuback;
mod unsubscribe;

pub use ack::{Ack, AckKind, encode_ack};
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Connect, Will, connect_version};
pub use disconnect::Disconnect;
pub use publish::{Publish, PublishOptions, PublishTemplate, encode_publish, publish_len};
pub use suback::SubAck;
pub use subscribe::{RetainHandling, Subscribe, SubscribeOptions};
pub use unsuback::UnsubAck;
pub use unsubscribe::Unsubscribe;

/// A control packet, of either direction and any version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A client opens a session.
    Connect(Box<Connect>),
    /// The server's answer to CONNECT.
    ConnAck(Box<ConnAck>),
    /// An application message.
    Publish(Publish),
    /// QoS 1: the message is taken over.
    PubAck(Ack),
    /// QoS 2: the message is taken over.
    PubRec(Ack),
    /// QoS 2: the sender has forgotten the message.
    PubRel(Ack),
    /// QoS 2: the receiver has forgotten the packet id.
    PubComp(Ack),
    /// A client subscribes.
    Subscribe(Subscribe),
    /// The answer to SUBSCRIBE.
    SubAck(SubAck),
    /// A client unsubscribes.
    Unsubscribe(Unsubscribe),
    /// The answer to UNSUBSCRIBE.
    UnsubAck(UnsubAck),
    /// A client asks for a sign of life.
    PingReq,
    /// The sign of life.
    PingResp,
    /// The sender is about to close the connection.
    Disconnect(Disconnect),
    /// A step of an enhanced authentication, MQTT 5 only.
    Auth(Box<Auth>),
}

impl Packet {
    /// The packet's name as the standard writes it.
    pub const fn name(&self) -> &'static str {
        match self {
            Packet::Connect(_) => "CONNECT",
            Packet::ConnAck(_) => "CONNACK",
            Packet::Publish(_) => "PUBLISH",
            Packet::PubAck(_) => "PUBACK",
            Packet::PubRec(_) => "PUBREC",
            Packet::PubRel(_) => "PUBREL",
            Packet::PubComp(_) => "PUBCOMP",
            Packet::Subscribe(_) => "SUBSCRIBE",
            Packet::SubAck(_) => "SUBACK",
            Packet::Unsubscribe(_) => "UNSUBSCRIBE",
            Packet::UnsubAck(_) => "UNSUBACK",
            Packet::PingReq => "PINGREQ",
            Packet::PingResp => "PINGRESP",
            Packet::Disconnect(_) => "DISCONNECT",
            Packet::Auth(_) => "AUTH",
        }
    }
}
