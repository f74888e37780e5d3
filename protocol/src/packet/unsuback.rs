//! UNSUBACK (MQTT 5 section 3.11).

use crate::{PacketId, ReasonCode};

/// The answer to UNSUBSCRIBE. A reason string and user properties are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// The packet id of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One answer per filter, in its order. Before MQTT 5 they do not travel: empty on receipt.
    pub reasons: Vec<ReasonCode>,
}
