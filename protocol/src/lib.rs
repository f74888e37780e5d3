//! What devices speak: MQTT 3.1, 3.1.1 and 5 on the wire.
//!
//! [`decode`] turns bytes into a [`Packet`], says that more bytes are needed, or names the
//! [`Violation`]; [`encode`] turns a packet into bytes. Topics and filters are valid by
//! construction. Versions differ here and nowhere else: a [`Packet`] means the same in all of them.
//!
//! Invariant: no I/O, no clock, no state. Invariant: decoding copies no payload, and allocates no
//! more than in proportion to the bytes of the packet at hand.

#![allow(
    clippy::doc_markdown,
    reason = "QoS is how the standard writes it in prose"
)]

pub mod limits;

mod decode;
mod encode;
mod filter;
mod message;
mod packet;
mod property;
mod read;
mod reason;
mod text;
mod topic;
mod user_properties;
mod version;
mod violation;
mod write;

pub use compact_str::CompactString;
pub use decode::{Decoded, decode, decode_first};
pub use encode::encode;
pub use filter::{ShareKind, TopicFilter, filter_matches};
pub use message::{CorruptMessage, Message};
pub use packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, Publish, PublishOptions,
    PublishTemplate, RetainHandling, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe,
    Will, connect_version, encode_ack, encode_publish, publish_len,
};
pub use reason::ReasonCode;
pub use topic::TopicName;
pub use user_properties::UserProperties;
pub use version::{PacketId, QoS, Version};
pub use violation::Violation;
pub use write::EncodeError;
