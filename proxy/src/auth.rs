//! Who may connect.

use protocol::{Connect, ReasonCode};
use std::net::SocketAddr;

/// Decides on a CONNECT. Called on the shard's thread: it must not wait.
pub trait Authenticator: Send + Sync {
    /// Lets the client in, or says with which CONNACK reason it is refused. v3 clients get the return code that
    /// says it best.
    fn authenticate(&self, connect: &Connect, peer: SocketAddr) -> Result<(), ReasonCode>;
}

/// Lets everyone in.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptAll;

impl Authenticator for AcceptAll {
    fn authenticate(&self, _connect: &Connect, _peer: SocketAddr) -> Result<(), ReasonCode> {
        Ok(())
    }
}
