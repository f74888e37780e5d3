//! Known mistakes, to be switched on by the simulator alone: it has to find each of them.
//!
//! Without the feature `faults`, which no program of ours has, every switch is a constant `false` and nothing is left of
//! it. With the feature it is off until a thread switches it on for itself.

/// A known mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody waits for the disk.
    AckBeforeStore,
    /// A follower says that entries are stored before they are.
    AnswerBeforeStore,
    /// A leader tells others of entries that are agreed on before it has stored them.
    CommitBeforeStore,
    /// A leader acts though no majority has answered it.
    LeadWithoutLease,
    /// A leader that has another member lead does not give way before.
    LeadAfterHandover,
    /// A QoS 2 publish that is sent again is taken for a new one.
    ForgetDeduplication,
    /// A frame of any epoch acts for its client.
    IgnoreEpochs,
}

#[cfg(feature = "faults")]
thread_local! {
    static ON: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Switches one mistake on for this thread, or all off.
#[cfg(feature = "faults")]
pub fn set(fault: Option<Fault>) {
    ON.set(fault);
}

/// Whether the mistake is made.
#[cfg(feature = "faults")]
#[inline]
pub fn is_on(fault: Fault) -> bool {
    ON.get() == Some(fault)
}

/// Whether the mistake is made: never.
#[cfg(not(feature = "faults"))]
#[inline]
pub const fn is_on(_fault: Fault) -> bool {
    false
}
