//! The numbered frames of a producer, encoded, until its group has stored them.

use crate::limits::BATCH_BYTES_GOAL;
use crate::wire::WireError;
use std::collections::VecDeque;

/// Encoded frames with consecutive numbers from 1.
#[derive(Debug)]
pub(super) struct Kept {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Number of the next frame.
    next: u64,
    /// Everything up to here is stored by the group.
    done: u64,
}

/// Frames in a row.
#[derive(Debug)]
struct Chunk {
    /// Number of the first.
    first: u64,
    /// Where each ends in `bytes`.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

/// What a frame costs beside its own bytes.
const BYTES_PER_FRAME: usize = size_of::<u32>();

impl Kept {
    pub(super) fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            bytes: 0,
            next: 1,
            done: 0,
        }
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that are kept.
    pub(super) fn frames(&self) -> u64 {
        self.next - 1 - self.done
    }

    /// Number that the next frame will have.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Number of the oldest frame that is not done; [`Kept::next`] if there is none.
    pub(super) fn oldest(&self) -> u64 {
        self.done + 1
    }

    /// Takes a frame, which `write` appends. Returns its bytes.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let chunk = self
            .chunks
            .back()
            .filter(|chunk| chunk.bytes.len() < BATCH_BYTES_GOAL);
        if chunk.is_none() {
            self.chunks.push_back(Chunk {
                first: self.next,
                ends: Vec::new(),
                bytes: Vec::new(),
            });
        }
        let chunk = self.chunks.back_mut().expect("there is one now");
        let start = chunk.bytes.len();
        write(&mut chunk.bytes);
        chunk.ends.push(chunk.bytes.len() as u32);
        self.next += 1;
        self.bytes += chunk.bytes.len() - start + BYTES_PER_FRAME;
        &chunk.bytes[start..]
    }

    /// The group has stored everything up to `number`.
    pub(super) fn done(&mut self, number: u64) -> Result<(), WireError> {
        if number >= self.next {
            return Err(WireError::OutOfOrder(
                "Done for a frame that was never sent",
            ));
        }
        self.done = self.done.max(number);
        while let Some(chunk) = self.chunks.front()
            && chunk.last() <= self.done
        {
            self.bytes -= chunk.bytes.len() + chunk.ends.len() * BYTES_PER_FRAME;
            self.chunks.pop_front();
        }
        Ok(())
    }

    /// Appends frames from number `from` on, before number `until`, to `out`: about as many as `goal` bytes hold, and
    /// one at least. Returns the number behind them. `from` is not done, and `from < until`.
    pub(super) fn copy(&self, from: u64, until: u64, goal: usize, out: &mut Vec<u8>) -> u64 {
        assert!(self.done < from && from < until && until <= self.next);
        let at = self.chunks.partition_point(|chunk| chunk.last() < from);
        let chunk = &self.chunks[at];
        let skipped = (from - chunk.first) as usize;
        let in_chunk = chunk.ends.len().min((until - chunk.first) as usize);
        let start = skipped.checked_sub(1).map_or(0, |last| chunk.ends[last]);
        let ends = &chunk.ends[skipped..in_chunk];
        let fitting = ends.partition_point(|end| (end - start) as usize <= goal);
        let count = fitting.max(1);
        let end = ends[count - 1];
        out.extend_from_slice(&chunk.bytes[start as usize..end as usize]);
        from + count as u64
    }
}

impl Chunk {
    /// Number of the last frame. A chunk is made with its first.
    fn last(&self) -> u64 {
        self.first + self.ends.len() as u64 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(frames: &[usize]) -> Kept {
        let mut kept = Kept::new();
        for (at, len) in frames.iter().enumerate() {
            let bytes = vec![at as u8; *len];
            assert_eq!(kept.push(|out| out.extend_from_slice(&bytes)), bytes);
        }
        kept
    }

    /// The frames from `from` on, by their first bytes, in pieces of about `goal`.
    fn all_from(kept: &Kept, mut from: u64, goal: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while from < kept.next() {
            from = kept.copy(from, kept.next(), goal, &mut out);
        }
        out.dedup();
        out
    }

    #[test]
    fn frames_come_again_from_any_number() {
        let kept = with(&[10, 70_000, 1, 1, 65_536, 3]);
        for from in 1..=6 {
            for goal in [1, 2, 1_000, 1 << 20] {
                let wanted: Vec<u8> = (from as u8 - 1..6).collect();
                assert_eq!(all_from(&kept, from, goal), wanted, "{from} {goal}");
            }
        }
    }

    #[test]
    fn copies_end_where_they_are_told() {
        let kept = with(&[2, 2, 2]);
        let mut out = Vec::new();
        assert_eq!(kept.copy(1, 3, 100, &mut out), 3);
        assert_eq!(out, [0, 0, 1, 1]);
        out.clear();
        assert_eq!(kept.copy(2, 4, 3, &mut out), 3, "two would be four bytes");
        assert_eq!(out, [1, 1]);
    }

    #[test]
    fn what_is_done_goes() {
        let mut kept = with(&[10, 70_000, 1, 1]);
        assert_eq!(kept.bytes(), 70_012 + 4 * BYTES_PER_FRAME);
        kept.done(1).expect("it was sent");
        assert_eq!((kept.frames(), kept.oldest()), (3, 2));
        assert_eq!(all_from(&kept, 2, 1), [1, 2, 3]);
        kept.done(2).expect("it was sent");
        assert_eq!(
            kept.bytes(),
            2 + 2 * BYTES_PER_FRAME,
            "the first chunk is gone"
        );
        kept.done(1).expect("it goes back to nothing");
        assert_eq!(kept.oldest(), 3);
        kept.done(4).expect("it was sent");
        assert_eq!((kept.bytes(), kept.frames(), kept.next()), (0, 0, 5));
        kept.done(5).expect_err("it was never sent");
    }
}
