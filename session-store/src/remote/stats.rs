//! What a Redis store counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Figures of a Redis store. All count up, but for the first three.
        #[derive(Debug, Default)]
        pub struct RedisStats {
            $($(#[doc = $doc])+ pub $name: AtomicU64,)+
        }

        impl RedisStats {
            /// Every figure with its name and description, in the order of the source.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((
                    stringify!($name),
                    concat!($($doc),+).trim_ascii_start(),
                    self.$name.load(Ordering::Relaxed),
                ),)+].into_iter()
            }
        }
    };
}

stats! {
    /// 1 while Redis answers, 0 while it does not.
    up,
    /// Writes that wait for Redis or are on their way to it.
    writes_waiting,
    /// Their bytes.
    bytes_waiting,
    /// Writes taken in.
    writes_taken,
    /// Writes that replaced a waiting one of the same client.
    writes_coalesced,
    /// Writes of a lower epoch than the waiting one, left out.
    writes_outdated,
    /// Writes refused because too many wait.
    writes_refused_full,
    /// Records stored.
    saves,
    /// Records deleted.
    deletes,
    /// Writes without effect: a record of a higher epoch stands, or the session was deleted.
    writes_newer,
    /// Writes without effect: a later write of this process stands, or there was nothing to delete.
    writes_without_effect,
    /// Writes that have to be sent again: Redis did not answer, or could not do it then.
    writes_retried,
    /// Writes given up: Redis refuses the command itself.
    writes_failed,
    /// Records asked for.
    loads,
    /// Records that did not come in time.
    loads_late,
    /// Loads and other questions refused because too many are open.
    questions_refused,
    /// Records and keys in Redis that cannot be read.
    malformed,
    /// Scripts given to Redis again because it had forgotten them.
    scripts_reloaded,
    /// Times the keys of TLS session tickets were read.
    ticket_keys_read,
    /// New keys of TLS session tickets that this process gave.
    ticket_keys_made,
    /// Times the keys of TLS session tickets could not be had.
    ticket_keys_failed,
    /// Times Redis was found to have lost what it had.
    wipes,
    /// Times Redis could not be asked whether it has.
    mark_failed,
    /// Times Redis went away.
    outages,
    /// Connections opened.
    connects,
    /// Attempts to connect that failed.
    connects_failed,
}

/// One more.
pub(super) fn count(figure: &AtomicU64) {
    figure.fetch_add(1, Ordering::Relaxed);
}

/// Sets a figure that goes up and down.
pub(super) fn set(figure: &AtomicU64, value: usize) {
    figure.store(value as u64, Ordering::Relaxed);
}
