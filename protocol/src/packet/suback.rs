//! SUBACK (MQTT 5 section 3.9).

use crate::{PacketId, ReasonCode};

/// The answer to SUBSCRIBE. A reason string and user properties are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// The packet id of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One answer per filter, in its order: the granted QoS or an error. MQTT 3 knows one error,
    /// 0x80, which stands for all.
    pub reasons: Vec<ReasonCode>,
}
