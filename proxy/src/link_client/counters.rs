//! What a link counts.

use cluster::link::ProducerFigures;

cluster::counters! {
    /// Figures of one link: written by the client's thread alone, read by anyone.
    pub struct LinkCounters {
        /// 1 while frames flow, 0 otherwise.
        up,
        /// 1 while the group says that it can store nothing more, 0 otherwise.
        group_full,
        /// Link sessions that began; all but the first are reconnects.
        sessions,
        /// Connections that failed, were refused or were lost.
        losses,
        /// Connections that the broker refused.
        refusals,
        /// Refusals that named the group's leader.
        redirects,
        /// Link sessions that began with another member than the last one.
        leader_changes,
        /// Connections where one end had TLS and the other had not, or a certificate was not good.
        tls_failed,
        /// Connections that were closed since the broker broke the protocol.
        protocol_errors,
        /// Bytes received.
        bytes_in,
        /// Bytes sent.
        bytes_out,
        /// Frames received.
        frames_in,
        /// Frames sent, those sent again included.
        frames_out,
        /// Frames sent again.
        frames_resent,
        /// QoS 0 publishes dropped while there was no link session.
        qos0_dropped,
        /// Bytes kept until the group has stored them, now.
        kept_bytes,
        /// Frames kept until the group has stored them, now.
        kept_frames,
    }
}

impl LinkCounters {
    pub(super) fn take(&self, up: bool, figures: &ProducerFigures) {
        self.up.set(u64::from(up));
        for (counter, figure) in [
            (&self.sessions, figures.sessions),
            (&self.bytes_in, figures.bytes_in),
            (&self.bytes_out, figures.bytes_out),
            (&self.frames_in, figures.frames_in),
            (&self.frames_out, figures.frames_out),
            (&self.frames_resent, figures.frames_resent),
            (&self.qos0_dropped, figures.qos0_dropped),
            (&self.kept_bytes, figures.kept_bytes),
            (&self.kept_frames, figures.kept_frames),
        ] {
            counter.set(figure);
        }
    }
}
