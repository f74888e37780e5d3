//! Just enough MQTT 3.1.1 and 5 for a device under load, written apart from the broker's codec so
//! that one misreading of the standard cannot hide in both.

mod encode;
mod publish;
mod scan;

pub(crate) use encode::{
    Keep, Template, Testament, ack, connect, connect_with_will, disconnect, end_session, pingreq,
    subscribe, subscribe_each,
};
pub(crate) use publish::{Publish, Published, published};
pub(crate) use scan::{Connack, Packet, Scan, connack, delivery, packet_id, reason, scan, suback};

/// The version a device speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

impl Version {
    /// As people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

/// Packet types as they stand in the upper four bits of the first byte.
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 0x10;
    pub(crate) const CONNACK: u8 = 0x20;
    pub(crate) const PUBLISH: u8 = 0x30;
    pub(crate) const PUBACK: u8 = 0x40;
    pub(crate) const PUBREC: u8 = 0x50;
    pub(crate) const PUBREL: u8 = 0x60;
    pub(crate) const PUBCOMP: u8 = 0x70;
    pub(crate) const SUBSCRIBE: u8 = 0x80;
    pub(crate) const SUBACK: u8 = 0x90;
    pub(crate) const PINGREQ: u8 = 0xC0;
    pub(crate) const PINGRESP: u8 = 0xD0;
    pub(crate) const DISCONNECT: u8 = 0xE0;
}

/// Flag of a PUBLISH that was sent before (3.1.1 and 5, 3.3.1.1).
pub(crate) const DUP: u8 = 0b1000;

/// What every payload carries: who sent it, its number, and when it should have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Number of the publisher within its thread.
    pub(crate) sender: u32,
    /// Number of the message within its publisher, from 0.
    pub(crate) seq: u64,
    /// Nanoseconds since the start of the run.
    pub(crate) time_ns: u64,
}
