//! The way of a snapshot from the group's thread to the one that writes its file: few slices at a time, so that it
//! is never whole in memory, and the disk sets the pace.

use crate::group::GroupWaker;
use crate::limits::SNAPSHOT_SLICES;
use crate::log::rest_after;
use std::cell::Cell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

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
    /// Whether there may be room for it.
    room: Arc<AtomicBool>,
    is_urgent: Arc<AtomicBool>,
}

/// Where the writer takes them.
pub(super) struct SlicesOut {
    from: Receiver<Slice>,
    room: Arc<AtomicBool>,
    /// The group waits for them, or soon will.
    is_urgent: Arc<AtomicBool>,
    group: GroupWaker,
    is_given_up: Cell<bool>,
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
    let (to, from) = sync_channel(SNAPSHOT_SLICES);
    let room = Arc::new(AtomicBool::new(true));
    let is_urgent = Arc::new(AtomicBool::new(false));
    let slices = SlicesIn {
        to,
        held: None,
        room: Arc::clone(&room),
        is_urgent: Arc::clone(&is_urgent),
    };
    let out = SlicesOut {
        from,
        room,
        is_urgent,
        group,
        is_given_up: Cell::new(false),
    };
    (slices, out)
}

impl SlicesIn {
    /// Whether a slice would find room, as far as is known.
    pub(super) fn has_room(&self) -> bool {
        self.room.load(Ordering::Acquire)
    }

    /// Whether the writer is to leave its rests out.
    pub(super) fn set_urgent(&self, is_urgent: bool) {
        self.is_urgent.store(is_urgent, Ordering::Relaxed);
    }

    /// Gives the writer the slice that found no room before, or else the next one.
    pub(super) fn give(&mut self, next: impl FnOnce() -> Slice) -> Given {
        let slice = self.held.take().unwrap_or_else(next);
        let is_last = slice.is_last;
        // Before the try: room that comes after it is never overlooked.
        self.room.store(false, Ordering::SeqCst);
        match self.to.try_send(slice) {
            Ok(()) => {
                self.room.store(true, Ordering::SeqCst);
                if is_last { Given::Ended } else { Given::More }
            }
            Err(TrySendError::Full(slice)) => {
                self.held = Some(slice);
                Given::NoRoom
            }
            Err(TrySendError::Disconnected(_)) => Given::Ended,
        }
    }
}

impl SlicesOut {
    /// Writes all slices, with rests. Fails if the group gives the snapshot up.
    pub(super) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        loop {
            let slice = self.from.recv().map_err(|error| {
                self.is_given_up.set(true);
                io::Error::other(error)
            })?;
            // A group that knows of room goes on by itself.
            if !self.room.swap(true, Ordering::SeqCst) {
                self.group.wake();
            }
            let began = Instant::now();
            to.write_all(&slice.bytes)?;
            if slice.is_last {
                return Ok(());
            }
            if !self.is_urgent.load(Ordering::Relaxed) {
                std::thread::park_timeout(rest_after(began.elapsed()));
            }
        }
    }

    /// Whether the group gave the snapshot up.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices of one byte each, counted up to the last.
    struct Counted {
        next: u8,
        last: u8,
    }

    impl Counted {
        fn slice(&mut self) -> Slice {
            self.next += 1;
            Slice {
                bytes: vec![self.next],
                is_last: self.next == self.last,
            }
        }
    }

    fn counted(last: u8) -> Counted {
        Counted { next: 0, last }
    }

    #[test]
    fn what_finds_no_room_is_held_until_there_is_some() {
        let (mut to, from) = slices(GroupWaker::default());
        let all = SNAPSHOT_SLICES as u8 + 1;
        let mut source = counted(all);
        for _ in 0..SNAPSHOT_SLICES {
            assert_eq!(to.give(|| source.slice()), Given::More);
            assert!(to.has_room());
        }
        for _ in 0..2 {
            assert_eq!(to.give(|| source.slice()), Given::NoRoom);
            assert!(!to.has_room());
        }
        let writer = std::thread::spawn(move || {
            let mut written = Vec::new();
            from.write(&mut written).map(|()| written)
        });
        while !to.has_room() {
            std::thread::yield_now();
        }
        assert_eq!(to.give(|| source.slice()), Given::Ended);
        let written = writer.join().expect("it only writes").expect("to memory");
        assert_eq!(written, (1..=all).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_is_given_up_is_not_taken_for_whole() {
        let (mut to, from) = slices(GroupWaker::default());
        let mut source = counted(2);
        assert_eq!(to.give(|| source.slice()), Given::More);
        drop(to);
        assert!(from.write(&mut Vec::new()).is_err());
        assert!(from.is_given_up());
    }

    #[test]
    fn without_a_writer_it_ends() {
        let (mut to, from) = slices(GroupWaker::default());
        drop(from);
        assert_eq!(to.give(|| counted(9).slice()), Given::Ended);
    }

    #[test]
    fn a_disk_that_fails_is_not_taken_for_giving_up() {
        let (mut to, from) = slices(GroupWaker::default());
        let mut source = counted(2);
        assert_eq!(to.give(|| source.slice()), Given::More);
        let mut full: &mut [u8] = &mut [];
        assert!(from.write(&mut full).is_err());
        assert!(!from.is_given_up());
    }
}
