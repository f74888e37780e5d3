//! What a group machine holds, and what it has done.

/// Plain numbers; whoever shows them copies them. Gauges say so, all others count up from the start of the process.
///
/// Every drop and refusal has its own counter (promise P8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Gauge: sessions.
    pub sessions: u64,
    /// Gauge: sessions whose connection takes deliveries.
    pub attached: u64,
    /// Gauge: subscriptions, shared ones included.
    pub subscriptions: u64,
    /// Gauge: queues of shared subscriptions.
    pub shared_queues: u64,
    /// Gauge: messages kept, each once.
    pub messages: u64,
    /// Gauge: their bytes in the log.
    pub message_bytes: u64,
    /// Gauge: places in mailboxes and shared queues that refer to a message.
    pub entries: u64,
    /// Gauge: retained messages.
    pub retained_messages: u64,
    /// Gauge: bytes of the retained messages.
    pub retained_bytes: u64,

    /// Publishes applied from the log.
    pub published_logged: u64,
    /// Publishes that needed no log entry.
    pub published_unlogged: u64,
    /// Wills published.
    pub wills_published: u64,
    /// First deliveries handed to links, one a receiver.
    pub delivered: u64,
    /// Deliveries sent again after a reconnect.
    pub redelivered: u64,
    /// Claims applied.
    pub claims: u64,
    /// Claims over a live owner.
    pub takeovers: u64,
    /// Sessions ended.
    pub sessions_ended: u64,
    /// Sessions ended by their expiry interval, part of `sessions_ended`.
    pub sessions_expired: u64,

    /// Commands ignored because their epoch is over.
    pub fenced: u64,
    /// Commands ignored because their number was applied before.
    pub repeated: u64,
    /// QoS 2 publishes answered again and not delivered again.
    pub qos2_duplicates: u64,
    /// Acks for which there is no delivery in the right state.
    pub acks_unknown: u64,

    /// Entries dropped because a session's queue was full: the oldest waiting one.
    pub dropped_oldest: u64,
    /// Entries dropped because a session's queue was full: the new one.
    pub dropped_newest: u64,
    /// Entries of shared queues dropped because the queue was full.
    pub dropped_shared_full: u64,
    /// Entries dropped because their message had expired while they waited.
    pub dropped_expired: u64,
    /// Entries dropped with their session.
    pub dropped_session_end: u64,
    /// Entries dropped with the last member of their shared queue.
    pub dropped_shared_end: u64,
    /// QoS 0 deliveries of shared subscriptions for which no member was attached.
    pub dropped_shared_qos0: u64,
    /// QoS 0 publishes that had to be stored and met a full group.
    pub dropped_qos0: u64,
    /// Publishes refused with 0x97: the group is full.
    pub refused_group_full: u64,
    /// Publishes refused with 0x97: no room for a retained message.
    pub refused_retained: u64,
    /// Publishes refused with 0x97: a receiver's queue is full and the rule is to refuse.
    pub refused_queue_full: u64,
    /// Publishes refused with 0x97: too many open QoS 2 packet ids.
    pub refused_qos2_ids: u64,
    /// Filters refused with 0x97: too many in the session.
    pub refused_filters: u64,
    /// Claims refused with 0x97: too many sessions.
    pub refused_sessions: u64,
}
