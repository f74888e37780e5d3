//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 sections 3.4 to 3.7): they differ in their first byte
//! and in the reasons they may give.

use crate::{PacketId, ReasonCode};

/// Which of the four acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckKind {
    /// PUBACK.
    PubAck,
    /// PUBREC.
    PubRec,
    /// PUBREL.
    PubRel,
    /// PUBCOMP.
    PubComp,
}

/// The contents of an acknowledgement. A reason string and user properties are checked when they
/// come in, and dropped: nothing acts on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The packet id that is acknowledged.
    pub packet_id: PacketId,
    /// The answer; `Success` always, before MQTT 5.
    pub reason: ReasonCode,
}
