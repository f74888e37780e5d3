//! Batches: a stream of bytes in pieces that say their length and kind.

use super::WireError;
use super::read::Reader;
use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes before the body of a batch: its length, which counts the kind, and its kind.
pub const HEADER_BYTES: usize = 5;

const LENGTH_BYTES: usize = 4;

/// What a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BatchKind {
    /// The first message of a proxy.
    Hello = 1,
    /// The broker's nonce.
    Challenge = 2,
    /// The proxy's proof that it knows the secret.
    Proof = 3,
    /// The broker's proof, and what holds for this link.
    Welcome = 4,
    /// The broker will not have this link; the last message on it.
    Refused = 5,
    /// Frames of a proxy shard.
    ToGroup = 16,
    /// Frames of a group.
    FromGroup = 17,
    /// A sign of life, and how many bytes of frames the group has taken in this link session; 0 from a proxy.
    Heartbeat = 18,
    /// The text of a topology that the other end does not know.
    Topology = 19,
}

impl BatchKind {
    const ALL: [Self; 9] = [
        Self::Hello,
        Self::Challenge,
        Self::Proof,
        Self::Welcome,
        Self::Refused,
        Self::ToGroup,
        Self::FromGroup,
        Self::Heartbeat,
        Self::Topology,
    ];

    fn from_u8(byte: u8) -> Result<Self, WireError> {
        let known = Self::ALL.into_iter().find(|kind| *kind as u8 == byte);
        known.ok_or(WireError::Kind(byte))
    }
}

/// One batch off the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What it holds.
    pub kind: BatchKind,
    /// Its body, a slice of what was received.
    pub body: Bytes,
}

impl Batch {
    /// Bytes of it on the wire.
    pub fn wire_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// Cuts a stream into batches. Holds what has come of the next one, and no more.
#[derive(Debug, Default)]
pub struct Batches {
    partial: BytesMut,
}

impl Batches {
    /// Takes what has been received.
    pub fn push(&mut self, received: &[u8]) {
        self.partial.extend_from_slice(received);
    }

    /// The next batch, once it is complete; none may be larger than `bytes_max` on the wire.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Batch>, WireError> {
        let Some(length) = self.partial.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            return Err(WireError::EmptyBatch);
        }
        let bytes = LENGTH_BYTES.saturating_add(length);
        if bytes > bytes_max {
            return Err(WireError::BatchTooLarge {
                bytes,
                max: bytes_max,
            });
        }
        let Some(&kind) = self.partial.get(LENGTH_BYTES) else {
            return Ok(None);
        };
        let kind = BatchKind::from_u8(kind)?;
        if self.partial.len() < bytes {
            return Ok(None);
        }
        let mut body = self.partial.split_to(bytes).freeze();
        body.advance(HEADER_BYTES);
        if self.partial.is_empty() {
            // What is left of the block would be kept for as long as the messages in it.
            self.partial = BytesMut::new();
        }
        Ok(Some(Batch { kind, body }))
    }

    /// The first bytes of the next batch, if so many are there.
    pub fn head<const BYTES: usize>(&self) -> Option<[u8; BYTES]> {
        self.partial.first_chunk().copied()
    }

    /// Bytes held of a batch that is not complete.
    pub fn held_bytes(&self) -> usize {
        self.partial.len()
    }
}

/// A batch that is being written: where it begins in a buffer of others.
#[derive(Debug)]
#[must_use = "a batch has a length once it is ended"]
pub struct BatchStart(usize);

impl BatchStart {
    /// Begins a batch at the end of `out`.
    pub fn begin(kind: BatchKind, out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        out.push(kind as u8);
        Self(start)
    }

    /// Bytes the batch has so far.
    pub fn bytes(&self, out: &[u8]) -> usize {
        out.len() - self.0
    }

    /// Ends the batch where `out` ends. One without a body is taken back.
    pub fn end(self, out: &mut Vec<u8>) {
        let Self(start) = self;
        if out.len() == start + HEADER_BYTES {
            out.truncate(start);
            return;
        }
        let length = (out.len() - start - LENGTH_BYTES) as u32;
        out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    }
}

/// What an end says though it has nothing else to say. All have the same length: what an idle link carries does not depend
/// on what it has carried before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Bytes that it has taken; below 2^63.
    pub taken: u64,
    /// Of a broker: its group can store nothing more.
    pub full: bool,
}

impl Heartbeat {
    /// Stands above the bytes taken.
    const FULL: u64 = 1 << 63;

    /// Appends it.
    pub fn write(self, out: &mut Vec<u8>) {
        let full = if self.full { Self::FULL } else { 0 };
        let batch = BatchStart::begin(BatchKind::Heartbeat, out);
        out.extend_from_slice(&(self.taken | full).to_le_bytes());
        batch.end(out);
    }

    /// Reads its body.
    pub fn read(body: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let word = u64::from_le_bytes(reader.array()?);
        reader.end()?;
        Ok(Self {
            taken: word & !Self::FULL,
            full: word & Self::FULL != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(taken: u64, full: bool) -> Heartbeat {
        Heartbeat { taken, full }
    }

    fn heartbeat_and_hello() -> Vec<u8> {
        let mut out = Vec::new();
        heartbeat(300, false).write(&mut out);
        let hello = BatchStart::begin(BatchKind::Hello, &mut out);
        out.extend_from_slice(b"body");
        hello.end(&mut out);
        out
    }

    #[test]
    fn heartbeats_have_one_length_and_are_read_as_written() {
        let numbers = [0, 127, 128, 300, 1 << 40, (1 << 63) - 1];
        let both = |taken| [heartbeat(taken, false), heartbeat(taken, true)];
        for sent in numbers.into_iter().flat_map(both) {
            let mut out = Vec::new();
            sent.write(&mut out);
            assert_eq!(out.len(), HEADER_BYTES + 8, "{sent:?}");
            let mut batches = Batches::default();
            batches.push(&out);
            let batch = batches.next(100).expect("well-formed").expect("whole");
            assert_eq!(batch.kind, BatchKind::Heartbeat);
            assert_eq!(Heartbeat::read(&batch.body), Ok(sent));
        }
        for body in [&b""[..], b"\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0\0"] {
            let body = Bytes::from_static(body);
            assert!(Heartbeat::read(&body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_stream_is_cut_wherever_it_breaks() {
        let stream = heartbeat_and_hello();
        for cut in 0..=stream.len() {
            let mut batches = Batches::default();
            let mut got = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                batches.push(part);
                while let Some(batch) = batches.next(100).expect("a good stream") {
                    got.push((batch.kind, batch.body));
                }
            }
            let taken = Bytes::from_static(b"\x2C\x01\0\0\0\0\0\0");
            let heartbeat = (BatchKind::Heartbeat, taken);
            let hello = (BatchKind::Hello, Bytes::from_static(b"body"));
            assert_eq!(got, [heartbeat, hello]);
            assert_eq!(batches.held_bytes(), 0);
        }
    }

    #[test]
    fn a_batch_that_is_too_large_is_refused_at_its_header() {
        let mut batches = Batches::default();
        batches.push(&200_u32.to_le_bytes());
        let too_large = WireError::BatchTooLarge {
            bytes: 204,
            max: 203,
        };
        assert_eq!(batches.next(203), Err(too_large));
        assert_eq!(batches.next(204), Ok(None));
    }

    #[test]
    fn nonsense_is_named() {
        for (bytes, error) in [
            (&[0, 0, 0, 0][..], WireError::EmptyBatch),
            (&[1, 0, 0, 0, 99], WireError::Kind(99)),
        ] {
            let mut batches = Batches::default();
            batches.push(bytes);
            assert_eq!(batches.next(100), Err(error));
        }
    }

    #[test]
    fn a_batch_without_frames_is_taken_back() {
        let mut out = vec![7];
        BatchStart::begin(BatchKind::ToGroup, &mut out).end(&mut out);
        assert_eq!(out, [7]);
    }
}
