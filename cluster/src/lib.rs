//! What the nodes of a fleet speak: ids, slots and the frames of a link.
//!
//! Invariant: nothing here opens a file or socket or reads a clock (but TLS, for the dates of certificates); the locks are
//! that of a [`mailbag::Mailbag`], taken once a batch, and that of a [`transport::LinkTls`], once a connection. In one
//! process the frames pass as typed values; nothing is serialised.

pub mod counters;
pub mod filters;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod link;
pub mod mailbag;
pub mod ring;
pub mod shard_key;
pub mod slots;
pub mod topology;
pub mod transport;
pub mod wire;
