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

/// What became of a slice.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// It is held until the writer has room; the group is woken then.
    NoRoom,
    /// There is no writer any more. Its thread says why.
    NoWriter,
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

impl SlicesIn {
    /// Whether a slice would find room, as far as is known.
    pub(super) fn has_room(&self) -> bool {
        self.room.load(Ordering::Acquire)
    }

    /// The slice that is to be sent next if there was no room for it before.
    pub(super) fn take_held(&mut self) -> Option<Slice> {
        self.held.take()
    }

    /// Sends a slice if there is room.
    pub(super) fn try_send(&mut self, slice: Slice) -> Sent {
        // Before the try: room that comes after it is never overlooked.
        self.room.store(false, Ordering::SeqCst);
        match self.to.try_send(slice) {
            Ok(()) => {
                self.room.store(true, Ordering::Release);
                Sent::Yes
            }
            Err(TrySendError::Full(slice)) => {
                self.held = Some(slice);
                Sent::NoRoom
            }
            Err(TrySendError::Disconnected(_)) => Sent::NoWriter,
        }
    }

    /// Sends a slice as soon as there is room.
    pub(super) fn send(&mut self, slice: Slice) -> Sent {
        match self.to.send(slice) {
            Ok(()) => Sent::Yes,
            Err(_) => Sent::NoWriter,
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

    fn slice(byte: u8, is_last: bool) -> Slice {
        let bytes = vec![byte];
        Slice { bytes, is_last }
    }

    #[test]
    fn what_finds_no_room_is_held_until_there_is_some() {
        let (mut to, from) = slices(GroupWaker::default());
        for byte in 0..SLICES as u8 {
            assert_eq!(to.try_send(slice(byte, false)), Sent::Yes);
            assert!(to.has_room());
        }
        assert_eq!(to.try_send(slice(SLICES as u8, true)), Sent::NoRoom);
        assert!(!to.has_room());
        let writer = std::thread::spawn(move || {
            let mut written = Vec::new();
            from.write(&mut written).map(|()| written)
        });
        let held = to.take_held().expect("there was no room");
        assert_eq!(to.send(held), Sent::Yes);
        let written = writer.join().expect("it only writes").expect("to memory");
        assert_eq!(written, (0..=SLICES as u8).collect::<Vec<_>>());
        assert!(to.has_room(), "the writer says so whenever it takes one");
        assert_eq!(to.try_send(slice(0, true)), Sent::NoWriter);
    }

    #[test]
    fn one_that_is_given_up_is_not_taken_for_whole() {
        let (mut to, from) = slices(GroupWaker::default());
        assert_eq!(to.try_send(slice(0, false)), Sent::Yes);
        drop(to);
        assert!(from.write(&mut Vec::new()).is_err());
    }
}
