//! The controller's side and the workers' side of one run, and what they say to each other.

#[allow(dead_code, reason = "worker and controller follow")]
pub(crate) mod message;
