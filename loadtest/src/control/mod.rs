//! What the controller and the worker processes of one run say to each other, and how.

#[allow(dead_code, reason = "worker and controller follow")]
mod channel;
#[allow(dead_code, reason = "workers follow")]
pub(crate) mod desk;
#[allow(dead_code, reason = "worker and controller follow")]
mod frame;
#[allow(dead_code, reason = "the controller follows")]
pub(crate) mod line;
#[allow(dead_code, reason = "worker and controller follow")]
pub(crate) mod message;
#[cfg(test)]
mod tests;
