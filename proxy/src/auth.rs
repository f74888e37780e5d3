//! Who may connect.

use crate::tls::CertificateNames;
use protocol::{Connect, ReasonCode};
use std::net::SocketAddr;

/// Who is at the other end of a connection, as far as the network says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address: by the load balancer where the listener expects one to say it.
    pub address: SocketAddr,
    /// The names in the client's certificate, which has been verified; `None`: it gave none.
    pub certificate: Option<CertificateNames>,
}

/// Decides on a CONNECT. Called on the shard's thread: it must not wait.
pub trait Authenticator: Send + Sync {
    /// Lets the client in, or says with which CONNACK reason it is refused. v3 clients get the return code that
    /// says it best.
    fn authenticate(&self, connect: &Connect, peer: &Peer) -> Result<(), ReasonCode>;
}

/// Lets everyone in.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptAll;

impl Authenticator for AcceptAll {
    fn authenticate(&self, _connect: &Connect, _peer: &Peer) -> Result<(), ReasonCode> {
        Ok(())
    }
}
