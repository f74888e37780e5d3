//! What the nodes of a fleet speak: ids, slots and the frames of a link.
//!
//! Invariant: nothing here does I/O or reads a clock, and the one lock is that of a [`mailbag::Mailbag`],
//! taken once a batch. In one process the frames pass as typed values; nothing is serialised.

pub mod frame;
pub mod ids;
pub mod limits;
pub mod link;
pub mod mailbag;
pub mod ring;
pub mod shard_key;
pub mod slots;
pub mod topology;
pub mod wire;
