//! The way of a snapshot from the group's thread to the one that writes its file: few slices at a time, so that it
//! is never whole in memory, and the disk sets the pace.

use crate::group::GroupWaker;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Slices that may wait for the disk.
const SLICES: usize = 4;

/// A part of a snapshot.
pub(super) struct Slice {
    pub(super) bytes: Vec<u8>,
    pub(super) is_last: bool,
}

/// Where the group puts slices.
pub(super) struct SlicesIn {
    to: SyncSender<Slice>,
    /// The one that found no room.
    held: Option<Slice>,
    /// Whether there may be room for it. Set by the writer.
    room: Arc<AtomicBool>,
}

/// Where the writer takes them.
pub(super) struct SlicesOut {
    from: Receiver<Slice>,
    room: Arc<AtomicBool>,
    group: GroupWaker,
}

/// Where slices come from.
pub(super) trait Source {
    /// The next one; there is none after the last.
    fn next_slice(&mut self) -> Slice;
    /// Whether it holds too much of what the slices to come must have.
    fn is_behind(&self) -> bool;
}

/// What follows from giving a slice.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// A further one may follow at once.
    More,
    /// It is held until the writer has room; the group is woken then.
    NoRoom,
    /// It was the last one, or there is no writer any more; its thread says which.
    Ended,
}

pub(super) fn slices(group: GroupWaker) -> (SlicesIn, SlicesOut) {
    let (to, from) = sync_channel(SLICES);
    let room = Arc::new(AtomicBool::new(true));
    let slices = SlicesIn {
        to,
        held: None,
        room: Arc::clone(&room),
    };
    (slices, SlicesOut { from, room, group })
}

impl Given {
    fn after(is_last: bool) -> Self {
        if is_last { Self::Ended } else { Self::More }
    }
}

impl SlicesIn {
    /// Whether a slice would find room, as far as is known.
    pub(super) fn has_room(&self) -> bool {
        self.room.load(Ordering::Acquire)
    }

    /// Gives the next slice to the writer if it has room. Waits for room, slice by slice, while the source is behind,
    /// and counts the slices in `waits`.
    pub(super) fn give(&mut self, source: &mut impl Source, waits: &mut u64) -> Given {
        loop {
            let held = self.held.take();
            let slice = held.unwrap_or_else(|| source.next_slice());
            let is_behind = source.is_behind();
            *waits += u64::from(is_behind);
            let given = if is_behind {
                self.send(slice)
            } else {
                self.try_send(slice)
            };
            if !is_behind || given != Given::More {
                return given;
            }
        }
    }

    fn try_send(&mut self, slice: Slice) -> Given {
        let is_last = slice.is_last;
        // Before the try: room that comes after it is never overlooked.
        self.room.store(false, Ordering::SeqCst);
        match self.to.try_send(slice) {
            Ok(()) => {
                self.room.store(true, Ordering::Release);
                Given::after(is_last)
            }
            Err(TrySendError::Full(slice)) => {
                self.held = Some(slice);
                Given::NoRoom
            }
            Err(TrySendError::Disconnected(_)) => Given::Ended,
        }
    }

    fn send(&mut self, slice: Slice) -> Given {
        let is_last = slice.is_last;
        match self.to.send(slice) {
            Ok(()) => Given::after(is_last),
            Err(_) => Given::Ended,
        }
    }
}

impl SlicesOut {
    /// Writes all slices. Fails if the group gives the snapshot up.
    pub(super) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        loop {
            let slice = self.from.recv().map_err(io::Error::other)?;
            self.room.store(true, Ordering::SeqCst);
            self.group.wake();
            to.write_all(&slice.bytes)?;
            if slice.is_last {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices of one byte each, counted up to the last.
    struct Counted {
        next: u8,
        last: u8,
        /// It is behind up to this one.
        behind: u8,
    }

    impl Source for Counted {
        fn next_slice(&mut self) -> Slice {
            self.next += 1;
            Slice {
                bytes: vec![self.next],
                is_last: self.next == self.last,
            }
        }

        fn is_behind(&self) -> bool {
            self.next < self.behind
        }
    }

    fn counted(last: u8, behind: u8) -> Counted {
        let next = 0;
        Counted { next, last, behind }
    }

    #[test]
    fn what_finds_no_room_is_held_until_there_is_some() {
        let (mut to, from) = slices(GroupWaker::default());
        let all = SLICES as u8 + 1;
        let (mut source, mut waits) = (counted(all, 0), 0);
        for _ in 0..SLICES {
            assert_eq!(to.give(&mut source, &mut waits), Given::More);
            assert!(to.has_room());
        }
        for _ in 0..2 {
            assert_eq!(to.give(&mut source, &mut waits), Given::NoRoom);
            assert!(!to.has_room());
        }
        from.from.recv().expect("it is sent");
        from.room.store(true, Ordering::SeqCst);
        assert_eq!(to.give(&mut source, &mut waits), Given::Ended);
        let mut written = Vec::new();
        from.write(&mut written).expect("to memory");
        assert_eq!(written, (2..=all).collect::<Vec<_>>());
        assert!(to.has_room(), "the writer says so whenever it takes one");
        assert_eq!(waits, 0);
    }

    #[test]
    fn a_source_that_is_behind_waits_for_the_writer() {
        let (mut to, from) = slices(GroupWaker::default());
        let (mut source, mut waits) = (counted(100, 90), 0);
        let writer = std::thread::spawn(move || {
            let mut written = Vec::new();
            from.write(&mut written).map(|()| written)
        });
        to.give(&mut source, &mut waits);
        assert!(source.next >= 90, "in one call");
        assert_eq!(waits, 89);
        while to.give(&mut source, &mut waits) != Given::Ended {
            std::thread::yield_now();
        }
        let written = writer.join().expect("it only writes").expect("to memory");
        assert_eq!(written, (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_is_given_up_is_not_taken_for_whole() {
        let (mut to, from) = slices(GroupWaker::default());
        assert_eq!(to.give(&mut counted(2, 0), &mut 0), Given::More);
        drop(to);
        assert!(from.write(&mut Vec::new()).is_err());
    }

    #[test]
    fn without_a_writer_it_ends() {
        let (mut to, from) = slices(GroupWaker::default());
        drop(from);
        assert_eq!(to.give(&mut counted(9, 0), &mut 0), Given::Ended);
        assert_eq!(to.give(&mut counted(9, 9), &mut 0), Given::Ended);
    }
}
