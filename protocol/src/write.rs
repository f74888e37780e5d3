//! Writing the fields of a packet.

use std::fmt;

use crate::Version;
use crate::limits::{FIELD_BYTES_MAX, REMAINING_LENGTH_MAX};

/// Why a packet cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A string or binary field is longer than 65,535 bytes.
    FieldTooLong,
    /// The packet would be larger than any packet can be.
    PacketTooLong,
    /// The version has no such packet: AUTH before MQTT 5.
    NotInVersion(Version),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::FieldTooLong => f.write_str("a field is longer than 65,535 bytes"),
            EncodeError::PacketTooLong => {
                write!(f, "packet is longer than {REMAINING_LENGTH_MAX} bytes")
            }
            EncodeError::NotInVersion(version) => write!(f, "MQTT {version} has no such packet"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// The number of bytes of a variable byte integer.
pub(crate) const fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer; `value` is at most [`REMAINING_LENGTH_MAX`].
pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    debug_assert!(value <= REMAINING_LENGTH_MAX);
    let mut rest = value;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EncodeError> {
    if bytes.len() > FIELD_BYTES_MAX {
        return Err(EncodeError::FieldTooLong);
    }
    put_u16(out, bytes.len() as u16);
    out.extend_from_slice(bytes);
    Ok(())
}

pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    put_binary(out, text.as_bytes())
}

/// Appends what `write` writes, with its length as a variable byte integer before it. Moves what was
/// written, so it is for packets that are rare or short.
pub(crate) fn put_with_length(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    write(out)?;
    let len = out.len() - start;
    if len > REMAINING_LENGTH_MAX {
        return Err(EncodeError::PacketTooLong);
    }
    put_varint(out, len);
    out[start..].rotate_right(varint_len(len));
    Ok(())
}

/// The properties of one packet, each left out where it has nothing to say.
pub(crate) struct Properties<'a>(&'a mut Vec<u8>);

impl Properties<'_> {
    pub(crate) fn flag(&mut self, id: u8, value: Option<bool>) {
        if let Some(flag) = value {
            self.0.extend_from_slice(&[id, u8::from(flag)]);
        }
    }

    pub(crate) fn u16(&mut self, id: u8, value: Option<u16>) {
        if let Some(number) = value {
            self.0.push(id);
            put_u16(self.0, number);
        }
    }

    pub(crate) fn u32(&mut self, id: u8, value: Option<u32>) {
        if let Some(number) = value {
            self.0.push(id);
            self.0.extend_from_slice(&number.to_be_bytes());
        }
    }

    pub(crate) fn varint(&mut self, id: u8, value: Option<u32>) {
        if let Some(number) = value {
            self.0.push(id);
            put_varint(self.0, number as usize);
        }
    }

    pub(crate) fn binary(
        &mut self,
        id: u8,
        value: Option<impl AsRef<[u8]>>,
    ) -> Result<(), EncodeError> {
        let Some(bytes) = value else { return Ok(()) };
        self.0.push(id);
        put_binary(self.0, bytes.as_ref())
    }

    /// Properties that are in wire form already.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Appends the property length and the properties that `write` writes.
pub(crate) fn put_properties(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Properties<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    put_with_length(out, |out| write(&mut Properties(out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_survive() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            268_435_455,
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            let read = crate::read::varint(&out).expect("valid").expect("complete");
            assert_eq!(read, (value as u32, out.len()));
        }
    }

    #[test]
    fn length_comes_first() {
        let mut out = b"x".to_vec();
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(&[7; 200]);
            Ok(())
        };
        put_with_length(&mut out, write).expect("short enough");
        assert_eq!(out[..3], [b'x', 0xC8, 0x01]);
        assert_eq!(out[3..], [7; 200]);
    }
}
