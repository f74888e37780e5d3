//! Bytes to commands. Never panics and reserves no more than there are bytes, whatever the bytes are.

use super::groups::read_of_groups;
use super::topology::read_of_fleet;
use super::{CodecError, NO_RANK, OLDEST_VERSION, VERSION, tag};
use crate::command::{Command, Entry, MessageRef, Producer};
use crate::log::Location;
use bytes::Bytes;
use cluster::frame::{
    Ack, AckKind, Claim, Disconnect, Publish, StoredAt, Subscribe, Unsubscribe, WillFate,
};
use cluster::ids::{Actor, ClientNo, Epoch, Handle, LinkNo, Rank};
use cluster::slots::GroupNo;
use protocol::{Message, PacketId, QoS, SubscribeOptions, TopicFilter, Version, Will};

/// Bytes of a command at least: its tag. Bounds what a damaged count can make a reader reserve.
const COMMAND_BYTES_MIN: usize = 1;

/// Reads an entry from `body`, which is that of the record at `at`. Messages are slices of it, not copies.
pub fn decode_entry(index: u64, body: &Bytes, at: Location) -> Result<Entry, CodecError> {
    decode_entry_within(index, body, at, 0)
}

/// Reads an entry from `body`, which begins at `offset` in the body of the record at `at`.
pub fn decode_entry_within(
    index: u64,
    body: &Bytes,
    at: Location,
    offset: u32,
) -> Result<Entry, CodecError> {
    let mut reader = Reader {
        body,
        next: 0,
        offset,
    };
    let version = reader.u8()?;
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(CodecError::Version(version));
    }
    let time_ms = reader.u64()?;
    let count = reader.count(COMMAND_BYTES_MIN)?;
    let mut commands = Vec::with_capacity(count);
    for _ in 0..count {
        commands.push(read_command(&mut reader, at)?);
    }
    match body.len() - reader.next {
        0 => Ok(Entry {
            index,
            time_ms,
            commands,
        }),
        rest => Err(CodecError::TrailingBytes(rest)),
    }
}

fn read_command(reader: &mut Reader<'_>, at: Location) -> Result<Command, CodecError> {
    Ok(match reader.u8()? {
        tag::PUBLISH => {
            let (publish, stored) = read_publish(reader, at)?;
            Command::Publish(publish, stored)
        }
        tag::ACK => Command::Ack(Ack {
            actor: reader.actor()?,
            packet_id: reader.packet_id()?,
            kind: read_ack_kind(reader.u8()?)?,
        }),
        tag::FROM => Command::From {
            link: reader.link()?,
            first: reader.u64()?,
        },
        tag::RELEASE => Command::Release {
            actor: reader.actor()?,
            packet_id: reader.packet_id()?,
        },
        tag::CLAIM => Command::Claim(Box::new(read_claim(reader)?)),
        tag::ATTACH => {
            let if_free = reader.flag()?;
            let actor = if reader.flag()? {
                Some(reader.actor()?)
            } else {
                None
            };
            Command::Attach { actor, if_free }
        }
        tag::SUBSCRIBE => Command::Subscribe(Box::new(read_subscribe(reader)?)),
        tag::UNSUBSCRIBE => Command::Unsubscribe(Box::new(read_unsubscribe(reader)?)),
        tag::DISCONNECT => Command::Disconnect(Box::new(read_disconnect(reader)?)),
        tag::PAGE => Command::Page {
            actor: reader.actor()?,
        },
        tag::TICK => Command::Tick,
        tag::LEADER_START => Command::LeaderStart,
        tag::LINK_UP => Command::LinkUp {
            link: reader.link()?,
            producer: read_producer(reader)?,
        },
        tag::LINK_DOWN => Command::LinkDown {
            link: reader.link()?,
        },
        tag::WILL_PUBLISH => {
            let Actor { client, epoch } = reader.actor()?;
            if reader.u8()? != tag::PUBLISH {
                return Err(CodecError::Invalid("will"));
            }
            let (publish, at) = read_publish(reader, at)?;
            Command::WillPublish {
                client,
                epoch,
                publish,
                at,
            }
        }
        tag::RELOCATE => {
            let message = MessageRef {
                place: reader.u32()?,
                seq: reader.u64()?,
            };
            let (copy, at) = reader.message(at)?;
            Command::Relocate { message, copy, at }
        }
        tag @ tag::LIST..=tag::WILL_DONE => read_of_groups(tag, reader, at)?,
        tag @ tag::TOPOLOGY..=tag::MOVE_MEMBER => read_of_fleet(tag, reader)?,
        _ => return Err(CodecError::Invalid("command")),
    })
}

pub(super) fn read_publish(
    reader: &mut Reader<'_>,
    at: Location,
) -> Result<(Publish, StoredAt), CodecError> {
    let actor = reader.actor()?;
    let packet_id = PacketId::new(reader.u16()?);
    let (qos, retain) = reader.qos_and_retain()?;
    let (message, stored) = reader.message(at)?;
    Ok((
        Publish {
            actor,
            packet_id,
            qos,
            retain,
            message,
        },
        stored,
    ))
}

fn read_claim(reader: &mut Reader<'_>) -> Result<Claim, CodecError> {
    let handle = Handle {
        index: reader.u32()?,
        generation: reader.u32()?,
    };
    let version = match reader.u8()? {
        0 => Version::V31,
        1 => Version::V311,
        2 => Version::V5,
        _ => return Err(CodecError::Invalid("protocol version")),
    };
    let flags = reader.u8()?;
    if flags > 0b11 {
        return Err(CodecError::Invalid("claim"));
    }
    let expiry_s = reader.u32()?;
    let client_id = reader.text()?.into();
    let will = if flags & 0b10 == 0 {
        None
    } else {
        Some(Box::new(read_will(reader)?))
    };
    let clean_start = flags & 1 != 0;
    Ok(Claim {
        handle,
        client_id,
        version,
        clean_start,
        expiry_s,
        will,
    })
}

pub(crate) fn read_will(reader: &mut Reader<'_>) -> Result<Will, CodecError> {
    let (qos, retain) = reader.qos_and_retain()?;
    let delay_s = reader.u32()?;
    let (message, _) = reader.message(NOWHERE)?;
    Ok(Will {
        message: message.to_compact(),
        qos,
        retain,
        delay_s,
    })
}

/// For a message whose place nobody asks for.
const NOWHERE: Location = Location {
    segment: 0,
    offset: 0,
};

fn read_subscribe(reader: &mut Reader<'_>) -> Result<Subscribe, CodecError> {
    let actor = reader.actor()?;
    let packet_id = reader.packet_id()?;
    let subscription_id = reader.u32()?;
    let count = reader.count(3)?;
    let mut filters = Vec::with_capacity(count);
    for _ in 0..count {
        let options = SubscribeOptions::from_u8(reader.u8()?);
        let options = options.ok_or(CodecError::Invalid("subscription options"))?;
        filters.push((reader.filter()?, options));
    }
    Ok(Subscribe {
        actor,
        packet_id,
        subscription_id,
        filters,
    })
}

fn read_unsubscribe(reader: &mut Reader<'_>) -> Result<Unsubscribe, CodecError> {
    let actor = reader.actor()?;
    let packet_id = reader.packet_id()?;
    let count = reader.count(2)?;
    let mut filters = Vec::with_capacity(count);
    for _ in 0..count {
        filters.push(reader.filter()?);
    }
    Ok(Unsubscribe {
        actor,
        packet_id,
        filters,
    })
}

fn read_disconnect(reader: &mut Reader<'_>) -> Result<Disconnect, CodecError> {
    let actor = reader.actor()?;
    let expiry_s = if reader.flag()? {
        Some(reader.u32()?)
    } else {
        None
    };
    let will = match reader.u8()? {
        0 => WillFate::Dropped,
        1 => WillFate::Published,
        2 => WillFate::Kept,
        _ => return Err(CodecError::Invalid("fate of a will")),
    };
    Ok(Disconnect {
        actor,
        expiry_s,
        will,
    })
}

fn read_producer(reader: &mut Reader<'_>) -> Result<Producer, CodecError> {
    Ok(Producer {
        node: reader.u32()?,
        shard: reader.u32()?,
        incarnation: reader.u64()?,
    })
}

fn read_ack_kind(kind: u8) -> Result<AckKind, CodecError> {
    Ok(match kind {
        0 => AckKind::Ack,
        1 => AckKind::Received,
        2 => AckKind::Refused,
        3 => AckKind::Complete,
        _ => return Err(CodecError::Invalid("kind of acknowledgement")),
    })
}

/// Takes fields off the front of some bytes. Never panics, whatever they are.
pub(crate) struct Reader<'a> {
    pub(crate) body: &'a Bytes,
    pub(crate) next: usize,
    /// Where `body` begins in the body of its record.
    pub(crate) offset: u32,
}

impl Reader<'_> {
    pub(super) fn take(&mut self, len: usize) -> Result<&[u8], CodecError> {
        let end = self.next.checked_add(len).ok_or(CodecError::Truncated)?;
        let field = self.body.get(self.next..end).ok_or(CodecError::Truncated)?;
        self.next = end;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let field = self.take(N)?;
        Ok(field.try_into().expect("take gives the length asked for"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, CodecError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Invalid("flag")),
        }
    }

    /// A number of things that take at least `bytes_min` each: no more than fit into what is left.
    fn count(&mut self, bytes_min: usize) -> Result<usize, CodecError> {
        let count = self.u32()? as usize;
        let left = self.body.len() - self.next;
        if count > left / bytes_min {
            Err(CodecError::Truncated)
        } else {
            Ok(count)
        }
    }

    pub(super) fn text(&mut self) -> Result<&str, CodecError> {
        let len = usize::from(self.u16()?);
        std::str::from_utf8(self.take(len)?).map_err(|_| CodecError::Invalid("text"))
    }

    fn filter(&mut self) -> Result<TopicFilter, CodecError> {
        TopicFilter::new(self.text()?).map_err(|_| CodecError::Invalid("topic filter"))
    }

    pub(super) fn actor(&mut self) -> Result<Actor, CodecError> {
        Ok(Actor {
            client: ClientNo(self.u32()?),
            epoch: self.epoch()?,
        })
    }

    pub(super) fn epoch(&mut self) -> Result<Epoch, CodecError> {
        self.u64().map(Epoch)
    }

    pub(super) fn group(&mut self) -> Result<GroupNo, CodecError> {
        match self.u8()? {
            group if group < GroupNo::MAX => Ok(GroupNo(group)),
            _ => Err(CodecError::Invalid("group")),
        }
    }

    pub(super) fn rank(&mut self) -> Result<Option<Rank>, CodecError> {
        match self.u8()? {
            NO_RANK => Ok(None),
            rank if rank < GroupNo::MAX => Ok(Some(Rank(rank))),
            _ => Err(CodecError::Invalid("rank")),
        }
    }

    fn link(&mut self) -> Result<LinkNo, CodecError> {
        let link = self.u16()?;
        if link < LinkNo::MAX {
            Ok(LinkNo(link))
        } else {
            Err(CodecError::Invalid("link"))
        }
    }

    fn packet_id(&mut self) -> Result<PacketId, CodecError> {
        PacketId::new(self.u16()?).ok_or(CodecError::Invalid("packet id"))
    }

    fn qos_and_retain(&mut self) -> Result<(QoS, bool), CodecError> {
        let byte = self.u8()?;
        let qos = QoS::from_u8(byte & 0b11).filter(|_| byte <= 0b111);
        Ok((qos.ok_or(CodecError::Invalid("QoS"))?, byte & 0b100 != 0))
    }

    /// A message, and where the log has it if the bytes are at `at`.
    fn message(&mut self, at: Location) -> Result<(Message, StoredAt), CodecError> {
        let (message, len) = Message::read_at(self.body, self.next).map_err(CodecError::Message)?;
        let offset = self.offset + self.next as u32;
        self.next += len;
        let Location {
            segment,
            offset: record,
        } = at;
        Ok((
            message,
            StoredAt {
                segment,
                record,
                offset,
                len: len as u32,
            },
        ))
    }
}
