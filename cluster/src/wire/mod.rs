//! The bytes of a link between processes: batches, frames and the handshake.
//!
//! ```text
//! batch   u32 length of what follows, u8 kind, body            integers are little endian
//! body    frames until the end (kinds ToGroup, FromGroup), one message of the handshake, or a text (kind Topology)
//! frame   u8 tag in the low four bits and flags in the high four, then fields
//! ```
//! Small numbers are varints: seven bits a byte, lowest first, the shortest form only. Messages are in their stored
//! form and are read as slices of the batch, not copied.
//!
//! Invariant: no I/O, no clock. Invariant: reading never panics, and reserves no more than in proportion to the bytes
//! at hand, whatever they are. Every value has one form: what was read is written as the same bytes.

mod batch;
mod errand;
mod from_group;
mod handshake;
mod read;
mod to_group;
mod write;

pub use batch::{Batch, BatchKind, BatchStart, Batches, HEADER_BYTES, Heartbeat};
pub use from_group::{read_from_group, write_from_group};
pub use handshake::{
    Challenge, FixedHash, Handshake, Hello, LINK_VERSION, Mac, NODE_NAME_BYTES_MAX, Nonce, Proof,
    Refusal, Refused, TLS_HEAD_BYTES, Terms, Transcript, Welcome, is_tls,
};
pub use to_group::{read_to_group, write_to_group};

#[cfg(test)]
mod tests;

/// Flags stand above the tag of a frame.
const FLAGS: u32 = 4;
/// RETAIN of a publish, a will or a receiver: above two bits of QoS.
const RETAIN: u8 = 0b100;
/// Stands where there is no rank.
const NO_RANK: u8 = 0xFF;

use protocol::CorruptMessage;

/// Why bytes of a link are not what they should be. The link that brought them is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field goes on beyond the end of its batch.
    #[error("a field goes on beyond the end of its batch")]
    Truncated,
    /// A batch goes on after the one message it may hold.
    #[error("a batch goes on after its message")]
    TrailingBytes,
    /// A number has more bytes than it needs or is out of its range.
    #[error("a number has more bytes than it needs, or is out of range")]
    Varint,
    /// A batch without a kind.
    #[error("a batch is empty")]
    EmptyBatch,
    /// A batch is larger than may come at this point of the link.
    #[error("a batch of {bytes} bytes, {max} may come here")]
    BatchTooLarge {
        /// What it announces.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// A batch of a kind that this release does not know, or that does not come from this end or at this time.
    #[error("a batch of kind {0} does not belong here")]
    Kind(u8),
    /// A frame with a tag that this release does not know.
    #[error("a frame begins with the unknown tag 0x{0:02X}")]
    Tag(u8),
    /// A field with a value that it cannot have.
    #[error("a field has a value that it cannot have: {0}")]
    Invalid(&'static str),
    /// A message that is none.
    #[error(transparent)]
    Message(CorruptMessage),
    /// The other end speaks another version of the link protocol.
    #[error(
        "the other end speaks version {0} of the link protocol, this one version {LINK_VERSION}"
    )]
    Version(u16),
    /// The first bytes are not those of a link.
    #[error("these are not the first bytes of a link")]
    Magic,
    /// A frame that a link does not carry in this state.
    #[error("{0}")]
    OutOfOrder(&'static str),
}
