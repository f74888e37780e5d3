//! What a shard counts. One instance a shard, so that no two threads write to one cache line.

pub use cluster::counters::Counter;

cluster::counters! {
    /// Figures of one shard. All count up, but for `connections_open` and `store_changes_waiting`.
    #[repr(align(128))]
    pub struct ProxyCounters {
        /// Connections open now, connected or not.
        connections_open,
        /// Connections accepted.
        connections_accepted,
        /// Connections closed at once: the shard has its maximum.
        refused_connections_max,
        /// Connections closed at once: the process is out of descriptors.
        refused_descriptors,
        /// Failures of accept other than running out of descriptors.
        accept_errors,
        /// TLS handshakes completed.
        tls_handshakes,
        /// TLS handshakes completed that continued an earlier session with a ticket.
        tls_handshakes_resumed,
        /// Connections that ended before their TLS handshake was complete, for any reason.
        tls_handshakes_failed,
        /// Connections ended by a TLS error, in the handshake (wrong certificate, no TLS at all) or after it.
        tls_errors,
        /// Connections refused: they do not begin with the PROXY protocol header their listener expects.
        proxy_headers_refused,
        /// CONNECT packets that were refused, for any reason.
        connects_refused,
        /// CONNECT packets answered with success.
        connects_accepted,
        /// Bytes read from sockets.
        bytes_in,
        /// Bytes written to sockets.
        bytes_out,
        /// Packets decoded.
        packets_in,
        /// Packets encoded.
        packets_out,
        /// PUBLISH packets received at QoS 0.
        publishes_in_qos0,
        /// PUBLISH packets received at QoS 1.
        publishes_in_qos1,
        /// PUBLISH packets received at QoS 2.
        publishes_in_qos2,
        /// PUBLISH packets sent at QoS 0.
        publishes_out_qos0,
        /// PUBLISH packets sent at QoS 1.
        publishes_out_qos1,
        /// PUBLISH packets sent at QoS 2.
        publishes_out_qos2,
        /// QoS 0 messages dropped: the receiver's socket does not take bytes fast enough.
        dropped_slow_consumer,
        /// Messages not sent: larger than the receiver's Maximum Packet Size (MQTT-3.1.2-25).
        dropped_packet_too_large,
        /// Messages that expired while they waited for the receiver's window.
        dropped_expired,
        /// Messages for connections that were gone (QoS 1 and 2 stay with their group).
        deliveries_stale,
        /// QoS 1 and 2 deliveries that came twice and were sent to the client once.
        deliveries_repeated,
        /// Publishes refused: topic too long or too deep.
        publishes_refused_topic,
        /// Publishes refused: their group can store nothing more.
        publishes_refused_full,
        /// QoS 0 publishes dropped: the link to their group is full, or the group does not answer or can store nothing more.
        publishes_dropped_away,
        /// SUBSCRIBEs of which filters were refused, since a group can store nothing more.
        subscribes_refused_full,
        /// SUBSCRIBEs of which filters failed because a group did not answer in time.
        subscribes_given_up,
        /// PUBACK, PUBREC and PUBCOMP for which nothing was outstanding.
        acks_unknown,
        /// Answers of a group for requests that are not open any more.
        answers_stale,
        /// Connections ended by a DISCONNECT of the client.
        ended_by_client,
        /// Connections ended by the peer without DISCONNECT.
        ended_socket_closed,
        /// Connections ended by an error of the socket.
        ended_socket_error,
        /// Connections ended: nothing came for 1.5 times the keep alive (MQTT-3.1.2-22).
        ended_keep_alive,
        /// Connections ended: no CONNECT in time.
        ended_connect_timeout,
        /// Connections ended: the client violated the protocol or a limit it was told.
        ended_violation,
        /// Connections ended: another connection took the session over, or the group ended it.
        ended_kicked,
        /// Connections ended: a group had forgotten them, and with them what it was to answer.
        ended_forgotten,
        /// Connections ended: a publish of theirs had no answer for five minutes. It was not acknowledged.
        ended_publish_unanswered,
        /// Connections ended by a drain.
        ended_drained,
        /// Times a connection's reading was paused because its requests wait for answers.
        paused_connection,
        /// Times a shard's reading was paused because the group does not keep up.
        paused_shard,
        /// Errands of groups for other groups that were carried.
        errands_carried,
        /// Errands of groups that were not carried, since the other group is unknown or takes no more. They come again.
        errands_dropped,
        /// Groups named by other groups that this proxy does not know: by another slot table than its own.
        groups_unknown,
        /// Changes of session records that wait until the store has taken those before them.
        store_changes_waiting,
        /// Session records not written because the store's queue was full.
        store_writes_dropped,
        /// Resumed sessions of which the store had no record.
        store_records_missing,
        /// Session records whose filters were built again from what the groups hold.
        store_records_rebuilt,
        /// Records not built again, at a limit: they stand as they are until their session is resumed again.
        store_rebuilds_given_up,
        /// Records of connected clients written again after the store had lost them.
        store_records_rewritten,
        /// Session records not remembered at the limit; they are loaded again when their client changes something.
        store_records_not_remembered,
        /// Failures of the session store.
        store_errors,
    }
}
