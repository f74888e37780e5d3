//! What the link server counts.

cluster::counters! {
    /// Figures of a link server: written by its thread alone, read by anyone.
    pub struct LinkServerCounters {
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
        /// Proxies sent away, in the handshake or later: this member does not lead its group or reaches no majority of it, or
        /// the group is full.
        sessions_refused,
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
}
