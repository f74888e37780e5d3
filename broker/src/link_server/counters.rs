//! What the link server counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Figures of a link server: written by its thread alone, read by anyone.
        #[derive(Debug, Default)]
        pub struct LinkServerCounters {
            $($(#[doc = $doc])+ pub $name: Counter,)+
        }

        impl LinkServerCounters {
            /// Every figure with its name and description, in the order of the source.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii_start(), self.$name.get()),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Link sessions that are up now.
    links_up,
    /// Connections accepted.
    connections_accepted,
    /// Connections closed at once: there are as many as there may be.
    connections_refused,
    /// Connections that did not become a link session: wrong secret, version, fixed part or group, or no proxy at all.
    handshakes_failed,
    /// Those among them where one end had TLS and the other had not, or a certificate was not good.
    tls_failed,
    /// Link sessions that began.
    sessions_begun,
    /// Link sessions that ended, for any reason.
    sessions_ended,
    /// Link sessions that ended since the proxy broke the protocol.
    protocol_errors,
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
    /// Frames received.
    frames_in,
    /// Frames sent.
    frames_out,
    /// Bytes that wait for the sockets, now.
    bytes_waiting,
}

/// A figure with one writing thread and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The figure now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
