//! Messages as bytes: a length (`u32`, big endian, itself not counted), then the message as postcard writes it.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::CONTROL_FRAME_BYTES_MAX;

/// Bytes of the length.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Bytes a reader asks its socket for at once.
const READ_BYTES: usize = 64 * 1024;

/// Why bytes are no message, or a message cannot become bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a message of {0} bytes, {CONTROL_FRAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("bytes that are no message ({0}); do both ends run the same version?")]
    Unreadable(postcard::Error),
    #[error("a message that cannot be written: {0}")]
    Unwritable(postcard::Error),
}

/// Appends a message. Where that fails, `out` stays as it was.
pub(crate) fn append<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let begin = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let written = postcard::to_io(message, &mut *out).map(|_| ());
    let len = out.len() - begin - LENGTH_BYTES;
    let fits = if len > CONTROL_FRAME_BYTES_MAX {
        Err(FrameError::TooLong(len))
    } else {
        written.map_err(FrameError::Unwritable)
    };
    if fits.is_ok() {
        let length = u32::try_from(len).expect("the maximum fits");
        out[begin..begin + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    } else {
        out.truncate(begin);
    }
    fits
}

/// The length that a frame begins with.
pub(crate) fn length(bytes: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let len = u32::from_be_bytes(bytes) as usize;
    if len > CONTROL_FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(len));
    }
    Ok(len)
}

/// The message in the bytes behind a length.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(FrameError::Unreadable(postcard::Error::SerdeDeCustom)),
        Err(error) => Err(FrameError::Unreadable(error)),
    }
}

/// Bytes of a stream on their way to become messages of type `T`.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    bytes: Vec<u8>,
    /// What stands before it has been read.
    begin: usize,
    /// What stands behind it is room.
    end: usize,
    messages: PhantomData<T>,
}

impl<T: DeserializeOwned> Inbox<T> {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            begin: 0,
            end: 0,
            messages: PhantomData,
        }
    }

    /// Room to read into; [`filled`](Self::filled) says how much of it was used.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        self.bytes.resize(self.end + READ_BYTES, 0);
        &mut self.bytes[self.end..]
    }

    /// So many bytes have been read into the room.
    pub(crate) fn filled(&mut self, len: usize) {
        self.end += len;
        assert!(self.end <= self.bytes.len(), "no more than there was room");
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Result<Option<T>, FrameError> {
        let unread = &self.bytes[self.begin..self.end];
        let Some((head, rest)) = unread.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let len = length(*head)?;
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let message = read(body)?;
        self.begin += LENGTH_BYTES + len;
        if self.begin == self.end {
            // Most of the time nothing waits, and then nothing is kept.
            *self = Self::new();
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pour(inbox: &mut Inbox<String>, bytes: &[u8]) {
        inbox.room()[..bytes.len()].copy_from_slice(bytes);
        inbox.filled(bytes.len());
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let sent: Vec<String> = (0..200).map(|n| "x".repeat(n * 7)).collect();
        let mut bytes = Vec::new();
        for message in &sent {
            append(message, &mut bytes).expect("short enough");
        }
        for piece in [1, 3, 64, 4_096] {
            let mut inbox = Inbox::new();
            let mut received = Vec::new();
            for part in bytes.chunks(piece) {
                pour(&mut inbox, part);
                while let Some(message) = inbox.next().expect("well-formed") {
                    received.push(message);
                }
            }
            assert_eq!(received, sent, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_not_written_in_part() {
        let mut out = vec![7];
        let long = "x".repeat(CONTROL_FRAME_BYTES_MAX);
        let error = append(&long, &mut out).expect_err("its length comes on top");
        assert!(matches!(error, FrameError::TooLong(_)), "{error}");
        assert_eq!(out, [7]);
    }

    #[test]
    fn a_length_beyond_the_maximum_is_refused_before_its_bytes_come() {
        let mut inbox = Inbox::new();
        let len = CONTROL_FRAME_BYTES_MAX as u32 + 1;
        pour(&mut inbox, &len.to_be_bytes());
        assert_eq!(
            inbox.next(),
            Err(FrameError::TooLong(CONTROL_FRAME_BYTES_MAX + 1))
        );
    }

    #[test]
    fn bytes_behind_the_message_are_an_error() {
        let mut bytes = Vec::new();
        append(&"ab".to_owned(), &mut bytes).expect("short enough");
        bytes[3] += 1;
        bytes.push(0);
        let mut inbox = Inbox::new();
        pour(&mut inbox, &bytes);
        assert!(matches!(inbox.next(), Err(FrameError::Unreadable(_))));
    }
}
