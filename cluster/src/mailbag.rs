//! One direction of an in-process link: a vector of frames, swapped whole under a mutex.
//!
//! One lock per batch, none per frame. A receiver that finds nothing says that it sleeps, and only then does a
//! sender pay for a wake-up. A sender that finds the bag full says that it waits for room, and is woken by the
//! next [`Mailbag::take`].
//!
//! Why no wake-up is lost: both sides change their flag and look at the queue in critical sections of the same
//! mutex, in opposite order. If the receiver's look comes first, the sender's lock makes the flag visible to it;
//! if the sender's push comes first, the receiver sees the frames. The same holds for room.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Wakes the thread on one end of a bag. Must be cheap and must not take the bag.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// Frames on their way from one thread (or some) to one other.
///
/// Bounded by its senders, who ask [`Mailbag::is_full`] or [`Mailbag::wait_for_room`] before they take in more
/// work: one batch may overshoot the limit, by no more than what that sender takes in at one go.
pub struct Mailbag<T> {
    queue: Mutex<Vec<T>>,
    /// Bytes of the frames in `queue`, as their senders counted them. Written under the lock only.
    bytes: AtomicUsize,
    limit_bytes: usize,
    receiver_sleeps: AtomicBool,
    sender_waits: AtomicBool,
    wake_receiver: Wake,
    wake_sender: Wake,
}

/// A taken vector with more room than this that was filled to less than an eighth gives memory back. Three vectors go
/// round in each direction of each link, so what stays counts: with this, some 32 KiB each.
const SPARE_FRAMES_MAX: usize = 512;

impl<T> Mailbag<T> {
    /// An empty bag that counts as full from `limit_bytes` on.
    ///
    /// `wake_receiver` is called when frames arrive for a receiver that said it sleeps, `wake_sender` when room
    /// comes for a sender that said it waits.
    pub fn new(limit_bytes: usize, wake_receiver: Wake, wake_sender: Wake) -> Self {
        Self {
            queue: Mutex::new(Vec::new()),
            bytes: AtomicUsize::new(0),
            limit_bytes,
            receiver_sleeps: AtomicBool::new(false),
            sender_waits: AtomicBool::new(false),
            wake_receiver,
            wake_sender,
        }
    }

    /// Moves all `frames` (of `bytes` bytes in sum) into the bag, in order, behind what is there, and wakes the
    /// receiver if it sleeps. `frames` is empty afterwards and keeps, or gets, room for a next batch.
    pub fn send(&self, frames: &mut Vec<T>, bytes: usize) {
        if frames.is_empty() {
            return;
        }
        let mut queue = self.lock();
        if queue.is_empty() {
            std::mem::swap(&mut *queue, frames);
        } else {
            queue.append(frames);
        }
        self.bytes.store(
            self.bytes.load(Ordering::Relaxed) + bytes,
            Ordering::Relaxed,
        );
        drop(queue);
        if self.receiver_sleeps.load(Ordering::Acquire)
            && self.receiver_sleeps.swap(false, Ordering::AcqRel)
        {
            (self.wake_receiver)();
        }
    }

    /// Wakes the receiver though no frame comes, for other news of its sender. It need not sleep.
    pub fn ring(&self) {
        (self.wake_receiver)();
    }

    /// Moves everything in the bag into `into`, which must be empty, and wakes a sender that waits for room.
    pub fn take(&self, into: &mut Vec<T>) {
        debug_assert!(
            into.is_empty(),
            "a batch is finished before the next one is taken"
        );
        let mut queue = self.lock();
        if !queue.is_empty() {
            if into.capacity() > SPARE_FRAMES_MAX && queue.len() < into.capacity() / 8 {
                into.shrink_to(SPARE_FRAMES_MAX);
            }
            std::mem::swap(&mut *queue, into);
        }
        self.bytes.store(0, Ordering::Relaxed);
        drop(queue);
        if self.sender_waits.load(Ordering::Acquire)
            && self.sender_waits.swap(false, Ordering::AcqRel)
        {
            (self.wake_sender)();
        }
    }

    /// Takes out the first frame that `wanted` picks; the others stay in their order. The bytes of the bag stay as
    /// they are until all of it is taken.
    pub fn extract(&self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let mut queue = self.lock();
        let at = queue.iter().position(wanted)?;
        Some(queue.remove(at))
    }

    /// Receiver: says that it sleeps though frames may be in the bag, since it waits for one in particular. Every
    /// later [`Mailbag::send`] calls its wake function until [`Mailbag::awake`]; look with [`Mailbag::extract`]
    /// after this, not before.
    pub fn listen(&self) {
        self.receiver_sleeps.store(true, Ordering::Release);
    }

    /// Receiver: says that it is about to sleep. `false`: there are frames, do not sleep.
    ///
    /// After `true` every later [`Mailbag::send`] calls the receiver's wake function until [`Mailbag::awake`].
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.receiver_sleeps.store(true, Ordering::Release);
        let empty = self.lock().is_empty();
        if !empty {
            self.awake();
        }
        empty
    }

    /// Receiver: says that it is up, so that senders need not wake it.
    pub fn awake(&self) {
        self.receiver_sleeps.store(false, Ordering::Release);
    }

    /// Sender: whether the bag holds its limit of bytes.
    pub fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.limit_bytes
    }

    /// Sender: asks to be woken by the next [`Mailbag::take`]. `false`: there is room, do not wait.
    #[must_use]
    pub fn wait_for_room(&self) -> bool {
        self.sender_waits.store(true, Ordering::Release);
        let queue = self.lock();
        let full = self.is_full();
        drop(queue);
        if !full {
            self.sender_waits.store(false, Ordering::Release);
        }
        full
    }

    /// Bytes of the frames in the bag.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether no frame waits.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// A panic while the lock was held cannot have left a half-made vector: its operations do not run foreign code.
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> std::fmt::Debug for Mailbag<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbag")
            .field("bytes", &self.bytes())
            .field("limit_bytes", &self.limit_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A wake function with a memory of one, as an eventfd has, and its other end.
    fn bell() -> (Wake, Receiver<()>) {
        let (ring, hear): (SyncSender<()>, _) = sync_channel(1);
        (
            Box::new(move || {
                let _full_is_fine = ring.try_send(());
            }),
            hear,
        )
    }

    #[test]
    fn frames_keep_their_order_over_several_sends() {
        let bag = Mailbag::new(100, Box::new(|| {}), Box::new(|| {}));
        let mut batch = vec![1, 2];
        bag.send(&mut batch, 20);
        batch.push(3);
        bag.send(&mut batch, 10);
        assert_eq!(bag.bytes(), 30);
        let mut got = Vec::new();
        bag.take(&mut got);
        assert_eq!(got, [1, 2, 3]);
        assert_eq!(bag.bytes(), 0);
        assert!(bag.is_empty());
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let (wake, hear) = bell();
        let bag = Mailbag::new(100, wake, Box::new(|| {}));
        bag.send(&mut vec![1], 1);
        assert!(hear.try_recv().is_err(), "nobody slept");
        assert!(!bag.prepare_sleep(), "a frame waits");
        bag.take(&mut Vec::new());
        assert!(bag.prepare_sleep());
        bag.send(&mut vec![2], 1);
        hear.try_recv().expect("the sleeper is woken");
        bag.send(&mut vec![3], 1);
        assert!(hear.try_recv().is_err(), "it is up already");
    }

    #[test]
    fn a_full_bag_wakes_its_waiting_sender_when_taken() {
        let (wake, hear) = bell();
        let bag = Mailbag::new(10, Box::new(|| {}), wake);
        assert!(!bag.wait_for_room());
        bag.send(&mut vec![1], 10);
        assert!(bag.is_full());
        assert!(bag.wait_for_room());
        bag.take(&mut Vec::new());
        hear.try_recv().expect("room wakes the sender");
        assert!(!bag.is_full());
    }

    #[test]
    fn one_frame_is_taken_out_of_its_turn() {
        let (wake, hear) = bell();
        let bag = Mailbag::new(10, wake, Box::new(|| {}));
        bag.send(&mut vec![1, 2, 3], 30);
        bag.listen();
        assert_eq!(bag.extract(|frame| *frame == 4), None);
        bag.send(&mut vec![4, 5], 2);
        hear.try_recv()
            .expect("a listener is woken though the bag was not empty");
        assert_eq!(bag.extract(|frame| *frame == 4), Some(4));
        assert!(bag.is_full());
        let mut got = Vec::new();
        bag.take(&mut got);
        assert_eq!(got, [1, 2, 3, 5]);
    }

    /// Sender and receiver both sleep whenever they may. A lost wake-up stops the run.
    #[test]
    fn no_wake_up_is_lost_between_threads() {
        const FRAMES: u64 = 200_000;
        let (wake_receiver, receiver_hears) = bell();
        let (wake_sender, sender_hears) = bell();
        let bag = Arc::new(Mailbag::new(64, wake_receiver, wake_sender));
        let sent = Arc::clone(&bag);
        let sender = std::thread::spawn(move || {
            for n in 0..FRAMES {
                sent.send(&mut vec![n], 16);
                while sent.wait_for_room() {
                    sender_hears
                        .recv_timeout(PATIENCE)
                        .expect("room is announced");
                }
            }
        });
        let mut next = 0;
        let mut batch = Vec::new();
        while next < FRAMES {
            if bag.prepare_sleep() {
                receiver_hears
                    .recv_timeout(PATIENCE)
                    .expect("frames are announced");
                bag.awake();
            }
            bag.take(&mut batch);
            for n in batch.drain(..) {
                assert_eq!(n, next);
                next += 1;
            }
        }
        sender.join().expect("the sender ends well");
    }
}
