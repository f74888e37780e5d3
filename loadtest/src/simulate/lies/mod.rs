//! The oracle finds exactly the lies that a broker tells: workers, as they are, against a small server that lies on command.

mod hub;
mod packet;
mod server;
mod tests;

pub(super) use server::Server;
pub(super) use tests::scenario;
