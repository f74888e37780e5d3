//! Receipts on their way to the workers of their senders.

use std::ops::Range;

use crate::control::message::{FromWorker, Receipt};
use crate::limits::RECEIPTS_BATCH;

/// Receipts that were not sent yet, by the worker that they are for. Memory is bounded by [`RECEIPTS_BATCH`] times the
/// workers: a full batch leaves at once.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// First device of each worker but the back end, in order, with the worker's number.
    shares: Vec<(u32, u16)>,
    batches: Vec<Vec<Receipt>>,
}

impl Outbox {
    /// `shares` are the devices of each worker, as in `Assignment`.
    pub(crate) fn new(shares: &[Range<u32>]) -> Self {
        let mut firsts: Vec<(u32, u16)> = (0_u16..)
            .zip(shares)
            .filter(|(_, share)| !share.is_empty())
            .map(|(worker, share)| (share.start, worker))
            .collect();
        firsts.sort_unstable();
        Self {
            shares: firsts,
            batches: vec![Vec::new(); shares.len()],
        }
    }

    /// A receipt for the sender of its message: telemetry comes from the worker that has the device, commands from
    /// worker 0. Gives the batch where that made it full.
    pub(crate) fn push(&mut self, receipt: Receipt) -> Option<FromWorker> {
        let of = if receipt.stream.kind == 0 {
            self.worker_of(receipt.stream.device)
        } else {
            0
        };
        let batch = &mut self.batches[usize::from(of)];
        batch.push(receipt);
        if batch.len() < RECEIPTS_BATCH {
            return None;
        }
        let receipts = std::mem::take(batch);
        Some(FromWorker::Receipts { of, receipts })
    }

    /// All that was not given yet; to be sent once a second, and before a `Presence`.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = FromWorker> {
        let batches = (0_u16..).zip(&mut self.batches);
        batches
            .filter(|(_, batch)| !batch.is_empty())
            .map(|(of, batch)| {
                let receipts = std::mem::take(batch);
                FromWorker::Receipts { of, receipts }
            })
    }

    fn worker_of(&self, device: u32) -> u16 {
        let after = self.shares.partition_point(|(first, _)| *first <= device);
        let (_, worker) = self.shares[after.saturating_sub(1)];
        worker
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::{Seen, Stream};

    fn receipt(kind: u8, device: u32) -> Receipt {
        Receipt {
            stream: Stream { kind, device },
            seq: 3,
            seen: Seen::First,
        }
    }

    fn addressed(outbox: &mut Outbox) -> Vec<(u16, usize)> {
        let sizes = |message| match message {
            FromWorker::Receipts { of, receipts } => (of, receipts.len()),
            other => panic!("{other:?}"),
        };
        outbox.take().map(sizes).collect()
    }

    #[test]
    fn each_goes_to_the_worker_of_its_sender() {
        let mut outbox = Outbox::new(&[0..0, 0..10, 10..25, 25..26]);
        for device in [0, 9, 10, 24, 25, 24] {
            assert_eq!(outbox.push(receipt(0, device)), None);
        }
        for device in [0, 9, 25] {
            assert_eq!(outbox.push(receipt(1, device)), None);
        }
        assert_eq!(addressed(&mut outbox), [(0, 3), (1, 2), (2, 3), (3, 1)]);
        assert_eq!(addressed(&mut outbox), []);
    }

    #[test]
    fn a_full_batch_leaves_at_once() {
        let mut outbox = Outbox::new(&[0..0, 0..10]);
        for _ in 1..RECEIPTS_BATCH {
            assert_eq!(outbox.push(receipt(0, 1)), None);
        }
        let Some(FromWorker::Receipts { of: 1, receipts }) = outbox.push(receipt(0, 2)) else {
            panic!("a batch for worker 1")
        };
        assert_eq!(receipts.len(), RECEIPTS_BATCH);
        assert_eq!(addressed(&mut outbox), []);
    }
}
