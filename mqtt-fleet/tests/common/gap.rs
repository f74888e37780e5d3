//! How long a publisher waits for acknowledgements while something is done to the fleet.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::client::Client;
use super::tools::await_that;

/// Between two messages.
const PACE: Duration = Duration::from_millis(10);
/// Messages that are acknowledged before and after what is done.
const AROUND: usize = 40;

/// Ends the publisher, also when the test fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The longest that `mouth` waits for a PUBACK while `work` is done. Its messages, one after the other, are the numbers from
/// `next` on.
pub(crate) fn longest_gap(
    mouth: &mut Client,
    topic: &str,
    next: &mut usize,
    work: impl FnOnce(),
) -> Duration {
    let (acknowledged, is_over) = (AtomicUsize::new(*next), AtomicBool::new(false));
    let longest = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let sent = Instant::now();
                mouth.say(topic, 1, &acknowledged.load(Ordering::Relaxed).to_string());
                longest = longest.max(sent.elapsed());
                acknowledged.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(PACE);
            }
            longest
        });
        let over = Over(&is_over);
        let some_come = || {
            let enough = acknowledged.load(Ordering::Relaxed) + AROUND;
            await_that(
                || acknowledged.load(Ordering::Relaxed) >= enough,
                || "no message is acknowledged".to_owned(),
            );
        };
        some_come();
        work();
        some_come();
        drop(over);
        publisher.join().expect("it publishes")
    });
    *next = acknowledged.into_inner();
    longest
}
