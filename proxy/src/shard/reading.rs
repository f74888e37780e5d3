//! Reading: one block for all connections of a shard, and what a connection has to keep of it.

use crate::limits::{
    READ_BLOCK_BYTES, READ_ROOM_BYTES_MIN, SHARED_READ_PACKET_BYTES_MAX, TLS_BLOCK_BYTES,
};
use crate::tls::TlsStream;
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};

/// The block that sockets are read into. What is read is split off, and packets are slices of it; the block is
/// used again when no such slice is left, and replaced otherwise.
#[derive(Debug)]
pub(crate) struct ReadBlock {
    shared: BytesMut,
    /// Where TLS records are opened; has no room until the first.
    records: Vec<u8>,
}

/// A socket under TLS, as something that plaintext is read from.
struct Opened<'a, S> {
    socket: &'a mut S,
    tls: &'a mut TlsStream,
    records: &'a mut [u8],
}

impl<S: Read> Read for Opened<'_, S> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.tls.read(self.socket, self.records, room)
    }
}

/// Bytes of a connection that no packet was made of yet. A connection without any owns none.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    bytes: Vec<u8>,
    /// Length of the packet they begin, if known.
    need: Option<usize>,
}

/// What one read gave.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Unread bytes of before and new ones. Empty while a large packet is not complete.
    pub(crate) bytes: Bytes,
    /// New bytes; 0: the peer has closed its side.
    pub(crate) fresh: usize,
    /// There may be more in the socket.
    pub(crate) full: bool,
}

impl Chunk {
    /// The peer has closed its side.
    pub(crate) fn end() -> Self {
        Self {
            bytes: Bytes::new(),
            fresh: 0,
            full: false,
        }
    }
}

impl Unread {
    /// Keeps a copy of `rest`, which begins a packet of `need` bytes, if that is known.
    pub(crate) fn keep(rest: &[u8], need: Option<usize>) -> Option<Box<Self>> {
        (!rest.is_empty()).then(|| {
            Box::new(Self {
                bytes: rest.to_vec(),
                need,
            })
        })
    }

    /// The bytes, to be looked at again.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    fn has_own_buffer(&self) -> bool {
        self.need
            .is_some_and(|need| need > SHARED_READ_PACKET_BYTES_MAX)
    }
}

impl ReadBlock {
    pub(crate) fn new() -> Self {
        Self {
            shared: BytesMut::zeroed(READ_BLOCK_BYTES),
            records: Vec::new(),
        }
    }

    /// Reads plaintext once; else as [`ReadBlock::read`].
    pub(crate) fn read_tls(
        &mut self,
        socket: &mut impl Read,
        tls: &mut TlsStream,
        unread: &mut Option<Box<Unread>>,
    ) -> io::Result<Chunk> {
        let mut records = std::mem::take(&mut self.records);
        records.resize(TLS_BLOCK_BYTES, 0);
        let mut opened = Opened {
            socket,
            tls,
            records: &mut records,
        };
        let result = self.read(&mut opened, unread);
        self.records = records;
        result
    }

    /// Reads once. After an error `unread` is as before.
    pub(crate) fn read(
        &mut self,
        socket: &mut impl Read,
        unread: &mut Option<Box<Unread>>,
    ) -> io::Result<Chunk> {
        match unread {
            Some(own) if own.has_own_buffer() => {
                let chunk = read_large(socket, own)?;
                if !chunk.bytes.is_empty() {
                    *unread = None;
                }
                Ok(chunk)
            }
            _ => self.read_shared(socket, unread),
        }
    }

    fn read_shared(
        &mut self,
        socket: &mut impl Read,
        unread: &mut Option<Box<Unread>>,
    ) -> io::Result<Chunk> {
        let tail: &[u8] = unread.as_ref().map_or(&[], |unread| &unread.bytes);
        let start = tail.len();
        self.make_room(start + READ_ROOM_BYTES_MIN);
        self.shared[..start].copy_from_slice(tail);
        let room = &mut self.shared[start..];
        let room_bytes = room.len();
        let fresh = socket.read(room)?;
        let bytes = self.shared.split_to(start + fresh).freeze();
        *unread = None;
        Ok(Chunk {
            bytes,
            fresh,
            full: fresh == room_bytes,
        })
    }

    fn make_room(&mut self, bytes: usize) {
        if self.shared.len() >= bytes {
            return;
        }
        self.shared.clear();
        if self.shared.try_reclaim(READ_BLOCK_BYTES) {
            self.shared.resize(READ_BLOCK_BYTES, 0);
        } else {
            self.shared = BytesMut::zeroed(READ_BLOCK_BYTES);
        }
        debug_assert!(
            self.shared.len() >= bytes,
            "unread bytes stay below the limit of shared reading"
        );
    }
}

/// Reads on in a packet too large for the shared block, never past its end. The buffer grows with what has come,
/// not with what the header promises.
fn read_large(socket: &mut impl Read, unread: &mut Unread) -> io::Result<Chunk> {
    let need = unread.need.expect("a large packet has said its length");
    let have = unread.bytes.len();
    let upto = need.min(have + READ_BLOCK_BYTES);
    unread.bytes.resize(upto, 0);
    let result = socket.read(&mut unread.bytes[have..]);
    let fresh = *result.as_ref().unwrap_or(&0);
    unread.bytes.truncate(have + fresh);
    result?;
    let complete = have + fresh == need;
    let bytes = if complete {
        std::mem::take(&mut unread.bytes).into()
    } else {
        Bytes::new()
    };
    Ok(Chunk {
        bytes,
        fresh,
        full: have + fresh == upto,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what it has in pieces of a size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(buf.len()).min(self.0.len());
            buf[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    #[test]
    fn unread_bytes_come_before_new_ones() {
        let mut block = ReadBlock::new();
        let mut unread = Unread::keep(b"ab", None);
        let chunk = block
            .read(&mut Pieces(b"cdef", 3), &mut unread)
            .expect("reads");
        assert_eq!(&chunk.bytes[..], b"abcde");
        assert_eq!((chunk.fresh, chunk.full), (3, false));
        assert!(unread.is_none());
    }

    #[test]
    fn the_block_is_replaced_when_it_is_used_up_and_slices_stay_whole() {
        let data: Vec<u8> = (0..3 * READ_BLOCK_BYTES).map(|n| (n / 7) as u8).collect();
        let mut source = Pieces(&data, 10_000);
        let mut block = ReadBlock::new();
        let mut chunks = Vec::new();
        loop {
            let chunk = block.read(&mut source, &mut None).expect("reads");
            if chunk.fresh == 0 {
                break;
            }
            chunks.push(chunk.bytes);
        }
        assert_eq!(chunks.concat(), data);
    }

    #[test]
    fn a_large_packet_is_read_to_its_end_and_no_further() {
        let need = 5 * READ_BLOCK_BYTES + 17;
        let data: Vec<u8> = (0..need + 100).map(|n| (n / 3) as u8).collect();
        let mut source = Pieces(&data[10..], usize::MAX);
        let mut block = ReadBlock::new();
        let mut unread = Unread::keep(&data[..10], Some(need));
        let chunk = loop {
            let chunk = block.read(&mut source, &mut unread).expect("reads");
            if !chunk.bytes.is_empty() {
                break chunk;
            }
            let unread = unread.as_ref().expect("kept while incomplete");
            assert!(unread.bytes.capacity() <= 2 * unread.bytes.len() + 2 * READ_BLOCK_BYTES);
        };
        assert_eq!(&chunk.bytes[..], &data[..need]);
        assert!(unread.is_none());
        assert_eq!(source.0.len(), 100);
    }
}
