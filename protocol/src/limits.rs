//! What the wire format itself limits. Limits an operator can change live with those who enforce them.

/// The largest "remaining length" a fixed header can say, in bytes (MQTT 5 section 1.5.5).
pub const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// The longest string or binary field, in bytes: its length is a two-byte integer.
pub const FIELD_BYTES_MAX: usize = 65_535;

/// The largest fixed header, in bytes: the type and flags, then at most four bytes of length.
pub const FIXED_HEADER_BYTES_MAX: usize = 5;

/// The largest subscription identifier (MQTT 5 section 3.8.2.1.2).
pub const SUBSCRIPTION_ID_MAX: u32 = 268_435_455;

/// What a PUBLISH may need beside its message: packet id, topic alias, message expiry, and one
/// subscription identifier of at most five bytes for each of the receiver's matching filters.
pub const PUBLISH_OVERHEAD_BYTES_MAX: usize = 1 << 20;

/// The largest application message (topic, properties and payload together), in bytes: with the
/// overhead above it still fits the largest packet, so that what was received can be sent on.
pub const MESSAGE_BYTES_MAX: usize = REMAINING_LENGTH_MAX - PUBLISH_OVERHEAD_BYTES_MAX;

const _: () = assert!(MESSAGE_BYTES_MAX > 3 * FIELD_BYTES_MAX);
const _: () = assert!(REMAINING_LENGTH_MAX < u32::MAX as usize);
