//! Bytes on their way into a socket.

use crate::limits::{OUT_BYTES_MAX, OUT_BYTES_SPARE};

/// Encoded batches, in order; the first bytes of them may be gone already.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    written: usize,
}

impl Out {
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending().len() >= OUT_BYTES_MAX
    }

    /// The socket has taken so many.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        debug_assert!(self.written <= self.bytes.len());
        if self.written == self.bytes.len() {
            self.clear();
        } else if self.written >= OUT_BYTES_MAX {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.written = 0;
        self.bytes.clear();
        self.bytes.shrink_to(OUT_BYTES_SPARE);
    }
}
