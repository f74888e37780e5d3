//! What the controller and the worker processes of one run say to each other, and how.

pub(crate) mod channel;
pub(crate) mod desk;
mod frame;
pub(crate) mod line;
pub(crate) mod message;
#[cfg(test)]
mod tests;
