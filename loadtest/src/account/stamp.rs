//! What each payload begins with: whose message it is, and a check over all of it.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::control::message::Stream;
use crate::scenario::STAMP_BYTES;

/// Bytes in front of the check.
const CHECKED: usize = STAMP_BYTES - 4;

/// The start of a payload, in network byte order: run `u32`, kind `u8`, device `u32`, sequence `u32`, due time `u64`,
/// check `u32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Which run.
    pub(crate) run: u32,
    /// Kind of message, and the device that it is from or for.
    pub(crate) stream: Stream,
    /// Number within the stream, from 0.
    pub(crate) seq: u32,
    /// When it should have left, run time.
    pub(crate) due_us: u64,
}

/// A payload that this program has not made, or that was altered since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Shorter than a stamp.
    Short,
    /// The check does not fit.
    Altered,
}

impl Unreadable {
    /// In words.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Short => "payload shorter than any that was sent",
            Self::Altered => "payload altered",
        }
    }
}

impl Stamp {
    /// Writes the stamp at the start of `payload`, which has at least [`STAMP_BYTES`]; the rest of it is final already,
    /// as the check covers it.
    pub(crate) fn write(&self, payload: &mut [u8]) {
        let (stamp, filler) = payload
            .split_first_chunk_mut::<STAMP_BYTES>()
            .expect("payloads have room for a stamp");
        stamp[..4].copy_from_slice(&self.run.to_be_bytes());
        stamp[4] = self.stream.kind;
        stamp[5..9].copy_from_slice(&self.stream.device.to_be_bytes());
        stamp[9..13].copy_from_slice(&self.seq.to_be_bytes());
        stamp[13..CHECKED].copy_from_slice(&self.due_us.to_be_bytes());
        let check = check(&stamp[..CHECKED], filler);
        stamp[CHECKED..].copy_from_slice(&check.to_be_bytes());
    }

    /// Reads the stamp of a whole payload.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, Unreadable> {
        let (stamp, filler) = payload
            .split_first_chunk::<STAMP_BYTES>()
            .ok_or(Unreadable::Short)?;
        if stamp[CHECKED..] != check(&stamp[..CHECKED], filler).to_be_bytes() {
            return Err(Unreadable::Altered);
        }
        let word = |at: usize| {
            let bytes = [stamp[at], stamp[at + 1], stamp[at + 2], stamp[at + 3]];
            u32::from_be_bytes(bytes)
        };
        let stream = Stream {
            kind: stamp[4],
            device: word(5),
        };
        Ok(Self {
            run: word(0),
            stream,
            seq: word(9),
            due_us: u64::from(word(13)) << 32 | u64::from(word(17)),
        })
    }
}

/// Four bytes of xxh3 over both parts.
fn check(stamp: &[u8], filler: &[u8]) -> u32 {
    xxh3_64_with_seed(filler, xxh3_64(stamp)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            run: 0x0102_0304,
            stream: Stream {
                kind: 5,
                device: 0x0607_0809,
            },
            seq: 0x0A0B_0C0D,
            due_us: 0x0E0F_1011_1213_1415,
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut payload = [0xFF; STAMP_BYTES];
        stamp().write(&mut payload);
        let expected: Vec<u8> = (1..=21).collect();
        assert_eq!(payload[..CHECKED], expected);
    }

    #[test]
    fn a_short_payload_is_no_stamp() {
        for len in 0..STAMP_BYTES {
            assert_eq!(Stamp::read(&vec![0; len]), Err(Unreadable::Short));
        }
        assert_eq!(Stamp::read(&[0; 64]), Err(Unreadable::Altered));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for len in [STAMP_BYTES, 26, 40, 300] {
            let mut payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            stamp().write(&mut payload);
            assert_eq!(Stamp::read(&payload), Ok(stamp()));
            for bit in 0..len * 8 {
                payload[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Stamp::read(&payload), Err(Unreadable::Altered), "bit {bit}");
                payload[bit / 8] ^= 1 << (bit % 8);
            }
            assert!(Stamp::read(&payload[..len - 1]).is_err(), "cut");
            payload.push(0);
            assert_eq!(Stamp::read(&payload), Err(Unreadable::Altered), "longer");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            run: u32, kind: u8, device: u32, seq: u32, due_us: u64,
            filler in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let stamp = Stamp { run, stream: Stream { kind, device }, seq, due_us };
            let mut payload = vec![0; STAMP_BYTES];
            payload.extend_from_slice(&filler);
            stamp.write(&mut payload);
            prop_assert_eq!(Stamp::read(&payload), Ok(stamp));
            prop_assert_eq!(&payload[STAMP_BYTES..], &filler[..]);
        }
    }
}
