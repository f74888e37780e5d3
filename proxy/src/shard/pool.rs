//! Output buffers that go round: a connection owns one only while bytes wait for its socket.

use crate::limits::{POOL_BUFFER_BYTES_MAX, POOL_BUFFERS};

/// Empty buffers with room, up to [`POOL_BUFFERS`] of at most [`POOL_BUFFER_BYTES_MAX`] each.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    spare: Vec<Vec<u8>>,
}

impl Pool {
    /// Gives `buffer` room if it has none.
    pub(crate) fn lend(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            *buffer = spare;
        }
    }

    /// Takes the room of `buffer`, which is left empty and without any.
    pub(crate) fn take_back(&mut self, buffer: &mut Vec<u8>) {
        let mut spare = std::mem::take(buffer);
        let keep = (1..=POOL_BUFFER_BYTES_MAX).contains(&spare.capacity());
        if keep && self.spare.len() < POOL_BUFFERS {
            spare.clear();
            self.spare.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_round_and_large_ones_go_away() {
        let mut pool = Pool::default();
        let mut buffer = Vec::with_capacity(100);
        buffer.push(1);
        pool.take_back(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        pool.lend(&mut buffer);
        assert!(buffer.is_empty() && buffer.capacity() >= 100);
        let mut large = Vec::with_capacity(POOL_BUFFER_BYTES_MAX + 1);
        pool.take_back(&mut large);
        pool.lend(&mut large);
        assert_eq!(large.capacity(), 0);
    }
}
