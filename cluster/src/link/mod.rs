//! The two ends of a link session, as machines: bytes and frames in, bytes and frames out.
//!
//! A *link* is between one producer (a proxy shard) and one group, and lasts as long as both; a *link session* is one
//! TCP connection of it. [`ProducerLink`] is the proxy's end and outlives its sessions: it numbers the frames, keeps
//! them until the group has stored them, and sends them again. [`Search`] says which member of the group it tries.
//! [`GroupSession`] is the broker's end of one session.
//!
//! Invariant: no I/O, no clock, no randomness of its own; time, nonces and a seed are arguments.

mod back_off;
mod exchange;
mod group_session;
mod kept;
mod out;
mod producer_link;
mod search;
#[cfg(test)]
mod tests;

pub use group_session::{Admission, GroupFigures, GroupIdentity, GroupSession};
pub use producer_link::{ProducerFigures, ProducerIdentity, ProducerLink, Received};
pub use search::{Again, GroupView, Search};

use crate::wire::{Refusal, Refused, WireError};
use std::fmt;

/// Why a link session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The other end sent what it must not.
    Wire(WireError),
    /// The broker will not have the link; said by the broker, or about to be said to the proxy.
    Refused(Refused),
    /// The broker does not know the fleet's secret.
    BrokerSecret,
    /// This end speaks TLS, the other does not.
    NoTls,
    /// TLS does not work with the other end: a certificate that is not good, or none; what, for people.
    Tls(Box<str>),
    /// Nothing was heard from the other end for too long.
    Silent,
    /// The handshake took too long.
    HandshakeTooLong,
    /// The other end closed the connection.
    Closed,
    /// The connection failed, or could not be made.
    Io(std::io::ErrorKind),
    /// The same producer has a newer link session.
    Replaced,
    /// The broker has another address now.
    Moved,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => write!(f, "the other end broke the link protocol: {error}"),
            Self::Refused(refused) => write!(f, "refused: {refused}"),
            Self::BrokerSecret => {
                f.write_str("the broker does not know this fleet's link secret; check both secrets")
            }
            Self::NoTls => f.write_str(
                "the other end speaks without TLS, this end with it; the other end lacks section [link_tls]",
            ),
            Self::Tls(text) => write!(f, "TLS: {text}"),
            Self::Silent => f.write_str("nothing was heard from the other end for too long"),
            Self::HandshakeTooLong => f.write_str("the handshake took too long"),
            Self::Closed => f.write_str("the other end closed the connection"),
            Self::Io(kind) => write!(f, "the connection failed: {kind}"),
            Self::Replaced => {
                f.write_str("the same proxy shard has come back on a newer connection")
            }
            Self::Moved => f.write_str("the broker has another address now"),
        }
    }
}

impl LinkError {
    /// Whether trying again helps only after somebody has changed a configuration, a certificate or a program.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.refusal.needs_a_person(),
            Self::BrokerSecret => true,
            error => error.is_about_tls(),
        }
    }

    /// Whether the two ends do not agree on TLS or on each other's certificates.
    pub fn is_about_tls(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.refusal == Refusal::Tls,
            Self::NoTls | Self::Tls(_) => true,
            _ => false,
        }
    }
}

impl std::error::Error for LinkError {}

impl From<WireError> for LinkError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}
