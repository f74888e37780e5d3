//! Fields off the front of a batch.

use super::{NO_RANK, RETAIN, WireError};
use crate::ids::{Actor, ClientNo, Epoch, Handle, Rank};
use crate::slots::GroupNo;
use bytes::Bytes;
use protocol::{Message, PacketId, QoS, ReasonCode, SubscribeOptions, TopicFilter, Will};

/// Takes fields off the front of some bytes. Never panics, whatever they are.
pub(super) struct Reader<'a> {
    body: &'a Bytes,
    next: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a Bytes) -> Self {
        Self { body, next: 0 }
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.body.len() - self.next
    }

    /// Fails if anything is left.
    pub(super) fn end(&self) -> Result<(), WireError> {
        match self.left() {
            0 => Ok(()),
            _ => Err(WireError::TrailingBytes),
        }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let end = self.next.checked_add(len).ok_or(WireError::Truncated)?;
        let field = self.body.get(self.next..end).ok_or(WireError::Truncated)?;
        self.next = end;
        Ok(field)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let field = self.take(N)?;
        Ok(field.try_into().expect("take gives the length asked for"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    /// A number in its shortest form.
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(WireError::Varint);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(WireError::Varint)
    }

    pub(super) fn varint_u32(&mut self) -> Result<u32, WireError> {
        u32::try_from(self.varint()?).map_err(|_| WireError::Varint)
    }

    /// A number of things that take at least `bytes_min` each: no more than fit into what is left.
    pub(super) fn count(&mut self, bytes_min: usize) -> Result<usize, WireError> {
        let count = self.varint()?;
        if count > (self.left() / bytes_min) as u64 {
            Err(WireError::Truncated)
        } else {
            Ok(count as usize)
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, WireError> {
        let len = self.count(1)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| WireError::Invalid("text"))
    }

    pub(super) fn filter(&mut self) -> Result<TopicFilter, WireError> {
        TopicFilter::new(self.text()?).map_err(|_| WireError::Invalid("topic filter"))
    }

    pub(super) fn options(&mut self) -> Result<SubscribeOptions, WireError> {
        let options = SubscribeOptions::from_u8(self.u8()?);
        options.ok_or(WireError::Invalid("subscription options"))
    }

    pub(super) fn actor(&mut self) -> Result<Actor, WireError> {
        Ok(Actor {
            client: ClientNo(self.varint_u32()?),
            epoch: self.epoch()?,
        })
    }

    pub(super) fn epoch(&mut self) -> Result<Epoch, WireError> {
        let reign = self.varint_u32()?;
        let counter = self.varint()?;
        if reign >= 1 << 24 || counter >= 1 << 40 {
            return Err(WireError::Invalid("epoch"));
        }
        Ok(Epoch(Epoch::first_of(reign).0 | counter))
    }

    pub(super) fn handle(&mut self) -> Result<Handle, WireError> {
        Ok(Handle {
            index: self.varint_u32()?,
            generation: self.varint_u32()?,
        })
    }

    pub(super) fn group(&mut self) -> Result<GroupNo, WireError> {
        match self.u8()? {
            group if group < GroupNo::MAX => Ok(GroupNo(group)),
            _ => Err(WireError::Invalid("group")),
        }
    }

    /// A rank, or none.
    pub(super) fn rank(&mut self) -> Result<Option<Rank>, WireError> {
        match self.u8()? {
            NO_RANK => Ok(None),
            rank if rank < GroupNo::MAX => Ok(Some(Rank(rank))),
            _ => Err(WireError::Invalid("rank")),
        }
    }

    /// A client id: some text.
    pub(super) fn client_id(&mut self) -> Result<Box<str>, WireError> {
        match self.text()? {
            "" => Err(WireError::Invalid("client id")),
            id => Ok(id.into()),
        }
    }

    pub(super) fn will(&mut self) -> Result<Will, WireError> {
        let flags = self.u8()?;
        if flags > 0b111 {
            return Err(WireError::Invalid("will"));
        }
        Ok(Will {
            qos: qos(flags)?,
            retain: flags & RETAIN != 0,
            delay_s: self.varint_u32()?,
            // It is kept for as long as its connection: not at the price of the whole batch.
            message: self.message()?.to_compact(),
        })
    }

    pub(super) fn packet_id(&mut self) -> Result<PacketId, WireError> {
        PacketId::new(self.u16()?).ok_or(WireError::Invalid("packet id"))
    }

    pub(super) fn reason(&mut self) -> Result<ReasonCode, WireError> {
        ReasonCode::from_u8(self.u8()?).ok_or(WireError::Invalid("reason code"))
    }

    pub(super) fn message(&mut self) -> Result<Message, WireError> {
        let (message, len) = Message::read_at(self.body, self.next).map_err(WireError::Message)?;
        self.next += len;
        Ok(message)
    }
}

/// The quality of service in two bits.
pub(super) fn qos(bits: u8) -> Result<QoS, WireError> {
    QoS::from_u8(bits & 0b11).ok_or(WireError::Invalid("QoS"))
}
