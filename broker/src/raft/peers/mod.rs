//! Calls between members over TCP.
//!
//! Each member keeps two connections to each other for the calls that it makes, one for small calls and one for large
//! ones; answers may overtake one another. Both ends prove that they know the fleet's secret, and with `[link_tls]` show each other their certificates.

mod client;
mod complaints;
mod frames;
mod handshake;
mod server;
#[cfg(test)]
mod tests;

use super::config::Node;
use super::limits::{CALLS_MAX, SMALL_CALL_BYTES_MAX};
use super::network::{CallError, Peers};
use bytes::Bytes;
use client::Waiting;
use cluster::slots::GroupNo;
use cluster::transport::LinkTls;
use frames::Broken;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

pub(super) use server::run as listen;

/// Answers a call of another member.
pub(super) type Answerer =
    Arc<dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>> + Send + Sync>;

/// How members know each other.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) group: GroupNo,
    pub(super) secret: Arc<[u8]>,
    pub(super) tls: Option<Arc<LinkTls>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// The other members, by their addresses.
#[derive(Clone, Debug)]
pub(super) struct TcpPeers {
    credentials: Arc<Credentials>,
    connections: Arc<Mutex<BTreeMap<Way, mpsc::Sender<Waiting>>>>,
}

/// An address, and what goes there.
type Way = (Box<str>, Size);

/// Which calls a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Size {
    Small,
    Large,
}

impl TcpPeers {
    pub(super) fn new(credentials: Arc<Credentials>) -> Self {
        Self {
            credentials,
            connections: Arc::default(),
        }
    }

    /// The way to an address; the first call makes it.
    fn connection(&self, to: &Node, size: Size) -> mpsc::Sender<Waiting> {
        let connections = &self.connections;
        let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
        let way = (to.address.clone(), size);
        if let Some(known) = connections.get(&way).filter(|known| !known.is_closed()) {
            return known.clone();
        }
        let (calls, waiting) = mpsc::channel(CALLS_MAX);
        let credentials = Arc::clone(&self.credentials);
        tokio::spawn(client::run(to.clone(), credentials, waiting));
        connections.insert(way, calls.clone());
        calls
    }
}

impl Peers for TcpPeers {
    fn call(
        &self,
        to: &Node,
        call: Bytes,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + 'static {
        let (peers, to) = (self.clone(), to.clone());
        async move {
            let failed = |why: &str| CallError {
                address: to.address.clone(),
                why: why.into(),
            };
            let (answer, answered) = oneshot::channel();
            let size = if call.len() > SMALL_CALL_BYTES_MAX {
                Size::Large
            } else {
                Size::Small
            };
            let sent = peers
                .connection(&to, size)
                .try_send(Waiting { call, answer });
            sent.map_err(|_| failed("too many calls wait for it"))?;
            let answer = answered.await;
            answer.map_err(|_| failed("the connection has ended"))?
        }
    }
}

fn nonce() -> Result<handshake::Nonce, Broken> {
    let mut nonce = [0; 32];
    let filled = getrandom::fill(&mut nonce);
    filled.map_err(|error| Broken::Io(error.to_string()))?;
    Ok(nonce)
}
