//! UNSUBSCRIBE (MQTT 5 section 3.10).

use crate::{PacketId, TopicFilter};

/// A client unsubscribes. User properties are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The packet id that UNSUBACK repeats.
    pub packet_id: PacketId,
    /// The filters, at least one; share prefixes included.
    pub filters: Vec<TopicFilter>,
}
