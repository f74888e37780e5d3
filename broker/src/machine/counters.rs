//! What a group machine holds, and what it has done.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Plain numbers; whoever shows them copies them. Gauges say so, all others count up from the start of the process.
        ///
        /// Every drop and refusal has its own counter (promise P8).
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Every figure with its name and description, in the order of the source.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii_start(), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Gauge: sessions.
    sessions,
    /// Gauge: sessions whose connection takes deliveries.
    attached,
    /// Gauge: subscriptions, shared ones included.
    subscriptions,
    /// Gauge: queues of shared subscriptions.
    shared_queues,
    /// Gauge: messages kept, each once.
    messages,
    /// Gauge: their bytes in the log.
    message_bytes,
    /// Gauge: places in mailboxes and shared queues that refer to a message.
    entries,
    /// Gauge: retained messages.
    retained_messages,
    /// Gauge: bytes of the retained messages.
    retained_bytes,

    /// Gauge: sessions whose home is another group, part of `sessions`.
    guests,
    /// Gauge: sessions that are over and that another group was not heard to have ended.
    ends_pending,

    /// Publishes applied from the log.
    published_logged,
    /// Publishes that needed no log entry.
    published_unlogged,
    /// Wills published.
    wills_published,
    /// First deliveries handed to links, one a receiver.
    delivered,
    /// Deliveries sent again after a reconnect.
    redelivered,
    /// Claims applied.
    claims,
    /// Claims over a live owner.
    takeovers,
    /// Sessions ended.
    sessions_ended,
    /// Sessions ended by their expiry interval, part of `sessions_ended`.
    sessions_expired,

    /// Joins applied.
    joins,
    /// Ranks asked for.
    lists,
    /// Pages of a session's filters sent to a proxy whose record of it differs, or is gone.
    filter_pages,
    /// Errands handed to links, repeated ones included.
    errands_sent,
    /// Errands handed to links once more, part of `errands_sent`.
    errands_repeated,
    /// Errands that another group has done.
    errands_done,
    /// Ends of sessions that other groups asked for.
    ends_applied,

    /// Commands ignored because their epoch is over.
    fenced,
    /// Commands ignored because their number was applied before.
    repeated,
    /// QoS 2 publishes answered again and not delivered again.
    qos2_duplicates,
    /// Acks for which there is no delivery in the right state.
    acks_unknown,

    /// Entries dropped because a session's queue was full: the oldest waiting one.
    dropped_oldest,
    /// Entries dropped because a session's queue was full: the new one.
    dropped_newest,
    /// Entries of shared queues dropped because the queue was full.
    dropped_shared_full,
    /// Entries dropped because their message had expired while they waited.
    dropped_expired,
    /// Entries dropped with their session.
    dropped_session_end,
    /// Entries dropped with the last member of their shared queue.
    dropped_shared_end,
    /// QoS 0 deliveries of shared subscriptions for which no member was attached.
    dropped_shared_qos0,
    /// QoS 0 publishes that had to be stored and met a full group.
    dropped_qos0,
    /// Publishes refused with 0x97: the group is full.
    refused_group_full,
    /// Publishes refused with 0x97: no room for a retained message.
    refused_retained,
    /// Publishes refused with 0x97: a receiver's queue is full and the rule is to refuse.
    refused_queue_full,
    /// Publishes refused with 0x97: too many open QoS 2 packet ids.
    refused_qos2_ids,
    /// Filters refused with 0x97: too many in the session.
    refused_filters,
    /// Claims refused with 0x97: too many sessions.
    refused_sessions,
    /// Joins refused: the connection or its session is over.
    joins_refused,
    /// Ranks refused: none is left, or the session's home is another group.
    lists_refused,
    /// Memories of errands given up early because there were too many.
    memories_dropped,
}
