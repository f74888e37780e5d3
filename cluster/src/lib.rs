//! What the nodes of a fleet speak: ids, slots and the frames of a link.
//!
//! Invariant: nothing here does I/O, reads a clock or holds a lock. In one process the frames pass as
//! typed values; nothing is serialised.

pub mod frame;
pub mod ids;
