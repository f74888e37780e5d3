//! Reading the fields of one packet. No field reaches beyond the packet's end.

use crate::text::mqtt_str;
use crate::{PacketId, Violation};

/// A position in the bytes of one packet.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from `at` to their end.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Reader<'a> {
        debug_assert!(at <= bytes.len());
        Reader { bytes, at }
    }

    /// Where the next field begins, counted from the start of the bytes given.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Violation> {
        let end = self
            .at
            .checked_add(len)
            .ok_or(Violation::FieldBeyondPacket)?;
        let field = self
            .bytes
            .get(self.at..end)
            .ok_or(Violation::FieldBeyondPacket)?;
        self.at = end;
        Ok(field)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        let field = self.take(2)?;
        Ok(u16::from_be_bytes([field[0], field[1]]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        let field = self.take(4)?;
        Ok(u32::from_be_bytes([field[0], field[1], field[2], field[3]]))
    }

    pub(crate) fn varint(&mut self) -> Result<u32, Violation> {
        match varint(&self.bytes[self.at..])? {
            Some((value, len)) => {
                self.at += len;
                Ok(value)
            }
            None => Err(Violation::FieldBeyondPacket),
        }
    }

    /// Binary data: two bytes of length, then the bytes (section 1.5.6).
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Violation> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Violation> {
        mqtt_str(self.binary()?)
    }

    pub(crate) fn packet_id(&mut self) -> Result<PacketId, Violation> {
        PacketId::new(self.u16()?).ok_or(Violation::ZeroPacketId)
    }

    /// The end of a packet whose fields were all read.
    pub(crate) fn finish(&self) -> Result<(), Violation> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Violation::TrailingBytes)
        }
    }
}

/// A variable byte integer at the start of `bytes` and its length; `None` where it goes on beyond
/// them (section 1.5.5).
pub(crate) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Violation> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(Violation::VariableIntegerOverlong);
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        Err(Violation::VariableIntegerTooLong)
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers() {
        assert_eq!(varint(&[0x7F]), Ok(Some((127, 1))));
        assert_eq!(varint(&[0x80, 0x01, 9]), Ok(Some((128, 2))));
        assert_eq!(
            varint(&[0xFF, 0xFF, 0xFF, 0x7F]),
            Ok(Some((268_435_455, 4)))
        );
        assert_eq!(varint(&[]), Ok(None));
        assert_eq!(varint(&[0x80, 0x80, 0x80]), Ok(None));
        assert_eq!(
            varint(&[0x80, 0x80, 0x80, 0x80]),
            Err(Violation::VariableIntegerTooLong)
        );
        assert_eq!(
            varint(&[0x80, 0x00]),
            Err(Violation::VariableIntegerOverlong)
        );
    }

    #[test]
    fn fields_stay_within_the_packet() {
        let mut reader = Reader::new(&[0, 3, b'a', b'b'], 0);
        assert_eq!(reader.binary(), Err(Violation::FieldBeyondPacket));
        let mut reader = Reader::new(&[9, 0, 1, b'a', 7], 1);
        assert_eq!(reader.str(), Ok("a"));
        assert_eq!(reader.finish(), Err(Violation::TrailingBytes));
        assert_eq!((reader.rest(), reader.finish()), (&[7][..], Ok(())));
    }
}
