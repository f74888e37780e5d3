//! The bytes of a log entry.
//!
//! ```text
//! u8   version, 1
//! u64  time in milliseconds
//! u32  number of commands
//! then each command: u8 tag, its fields
//! ```
//! Integers are little endian; text has its length before it, as a u16. A message is in the form of
//! [`Message::write_to`], so that a reader finds it by its place alone: the log is where a group's messages live.

use crate::command::{Command, Entry, MessageRef, Producer};
use crate::log::Location;
use bytes::Bytes;
use cluster::frame::{
    Ack, AckKind, Claim, Disconnect, Publish, StoredAt, Subscribe, Unsubscribe, WillFate,
};
use cluster::ids::{Actor, ClientNo, Epoch, Handle, LinkNo};
use protocol::{
    CorruptMessage, Message, PacketId, QoS, SubscribeOptions, TopicFilter, Version, Will,
};

const VERSION: u8 = 1;

/// Bytes of a command at least: its tag. Bounds what a damaged count can make a reader reserve.
const COMMAND_BYTES_MIN: usize = 1;

/// Where a command's message is in the entry's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedMessage {
    /// Which command, counted from 0.
    pub command: u32,
    /// Offset of the message's first byte from the entry's first.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

/// Why bytes are not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by another release.
    #[error("log entry of version {0}, this release reads version {VERSION}")]
    Version(u8),
    /// They end before the entry does.
    #[error("log entry ends early")]
    Truncated,
    /// They go on after the entry.
    #[error("{0} bytes after the log entry")]
    TrailingBytes(usize),
    /// A field has a value that no entry has.
    #[error("log entry with an invalid {0}")]
    Invalid(&'static str),
    /// A message is not one.
    #[error("log entry: {0}")]
    Message(CorruptMessage),
}

mod tag {
    pub(super) const LEADER_START: u8 = 1;
    pub(super) const LINK_UP: u8 = 2;
    pub(super) const LINK_DOWN: u8 = 3;
    pub(super) const FROM: u8 = 4;
    pub(super) const CLAIM: u8 = 5;
    pub(super) const ATTACH: u8 = 6;
    pub(super) const PUBLISH: u8 = 7;
    pub(super) const RELEASE: u8 = 8;
    pub(super) const ACK: u8 = 9;
    pub(super) const SUBSCRIBE: u8 = 10;
    pub(super) const UNSUBSCRIBE: u8 = 11;
    pub(super) const DISCONNECT: u8 = 12;
    pub(super) const PAGE: u8 = 13;
    pub(super) const TICK: u8 = 14;
    pub(super) const WILL_PUBLISH: u8 = 15;
    pub(super) const RELOCATE: u8 = 16;
}

/// Appends an entry's bytes to `out`, and what the log needs to know of its messages to `placed`. Offsets are from
/// where the entry begins, the end of `out` as given.
pub fn encode_entry(
    time_ms: u64,
    commands: &[Command],
    out: &mut Vec<u8>,
    placed: &mut Vec<PlacedMessage>,
) {
    let start = out.len();
    out.push(VERSION);
    out.extend_from_slice(&time_ms.to_le_bytes());
    out.extend_from_slice(&(commands.len() as u32).to_le_bytes());
    for (number, command) in commands.iter().enumerate() {
        if let Some(at) = write_command(command, out) {
            placed.push(PlacedMessage {
                command: number as u32,
                offset: (at - start) as u32,
                len: (out.len() - at) as u32,
            });
        }
    }
}

/// Writes one command. Returns where its message begins, which then ends the command.
fn write_command(command: &Command, out: &mut Vec<u8>) -> Option<usize> {
    match command {
        Command::Publish(publish, _) => return Some(write_publish(tag::PUBLISH, publish, out)),
        Command::Ack(Ack {
            actor,
            packet_id,
            kind,
        }) => {
            write_for(tag::ACK, *actor, out);
            out.extend_from_slice(&packet_id.get().to_le_bytes());
            out.push(*kind as u8);
        }
        Command::From { link, first } => {
            out.push(tag::FROM);
            out.extend_from_slice(&link.0.to_le_bytes());
            out.extend_from_slice(&first.to_le_bytes());
        }
        Command::Release { actor, packet_id } => {
            write_for(tag::RELEASE, *actor, out);
            out.extend_from_slice(&packet_id.get().to_le_bytes());
        }
        Command::Claim(claim) => write_claim(claim, out),
        Command::Attach { actor, if_free } => {
            out.extend_from_slice(&[tag::ATTACH, u8::from(*if_free), u8::from(actor.is_some())]);
            if let Some(actor) = actor {
                write_actor(*actor, out);
            }
        }
        Command::Subscribe(subscribe) => write_subscribe(subscribe, out),
        Command::Unsubscribe(unsubscribe) => {
            write_for(tag::UNSUBSCRIBE, unsubscribe.actor, out);
            out.extend_from_slice(&unsubscribe.packet_id.get().to_le_bytes());
            out.extend_from_slice(&(unsubscribe.filters.len() as u32).to_le_bytes());
            for filter in &unsubscribe.filters {
                write_text(filter.as_str(), out);
            }
        }
        Command::Disconnect(gone) => {
            write_for(tag::DISCONNECT, gone.actor, out);
            write_option_u32(gone.expiry_s, out);
            out.push(gone.will as u8);
        }
        Command::Page { actor } => write_for(tag::PAGE, *actor, out),
        Command::Tick => out.push(tag::TICK),
        Command::LeaderStart => out.push(tag::LEADER_START),
        Command::LinkUp { link, producer } => {
            out.push(tag::LINK_UP);
            out.extend_from_slice(&link.0.to_le_bytes());
            out.extend_from_slice(&producer.node.to_le_bytes());
            out.extend_from_slice(&producer.shard.to_le_bytes());
            out.extend_from_slice(&producer.incarnation.to_le_bytes());
        }
        Command::LinkDown { link } => {
            out.push(tag::LINK_DOWN);
            out.extend_from_slice(&link.0.to_le_bytes());
        }
        Command::WillPublish {
            client,
            epoch,
            publish,
            ..
        } => {
            write_for(
                tag::WILL_PUBLISH,
                Actor {
                    client: *client,
                    epoch: *epoch,
                },
                out,
            );
            return Some(write_publish(tag::PUBLISH, publish, out));
        }
        Command::Relocate { message, copy, .. } => {
            out.push(tag::RELOCATE);
            out.extend_from_slice(&message.place.to_le_bytes());
            out.extend_from_slice(&message.seq.to_le_bytes());
            let at = out.len();
            copy.write_to(out);
            return Some(at);
        }
    }
    None
}

/// Tag and fields in one piece, then the message: a few copies on the hot path.
fn write_publish(tag: u8, publish: &Publish, out: &mut Vec<u8>) -> usize {
    let mut head = [0; 16];
    head[0] = tag;
    head[1..5].copy_from_slice(&publish.actor.client.0.to_le_bytes());
    head[5..13].copy_from_slice(&publish.actor.epoch.0.to_le_bytes());
    let id = publish.packet_id.map_or(0, PacketId::get);
    head[13..15].copy_from_slice(&id.to_le_bytes());
    head[15] = publish.qos as u8 | u8::from(publish.retain) << 2;
    out.extend_from_slice(&head);
    let at = out.len();
    publish.message.write_to(out);
    at
}

fn write_claim(claim: &Claim, out: &mut Vec<u8>) {
    out.push(tag::CLAIM);
    out.extend_from_slice(&claim.handle.index.to_le_bytes());
    out.extend_from_slice(&claim.handle.generation.to_le_bytes());
    out.push(claim.version as u8);
    out.push(u8::from(claim.clean_start) | u8::from(claim.will.is_some()) << 1);
    out.extend_from_slice(&claim.expiry_s.to_le_bytes());
    write_text(&claim.client_id, out);
    if let Some(will) = &claim.will {
        write_will(will, out);
    }
}

/// A will: its options and its message.
pub(crate) fn write_will(will: &Will, out: &mut Vec<u8>) {
    out.push(will.qos as u8 | u8::from(will.retain) << 2);
    out.extend_from_slice(&will.delay_s.to_le_bytes());
    will.message.write_to(out);
}

fn write_subscribe(subscribe: &Subscribe, out: &mut Vec<u8>) {
    write_for(tag::SUBSCRIBE, subscribe.actor, out);
    out.extend_from_slice(&subscribe.packet_id.get().to_le_bytes());
    out.extend_from_slice(&subscribe.subscription_id.to_le_bytes());
    out.extend_from_slice(&(subscribe.filters.len() as u32).to_le_bytes());
    for (filter, options) in &subscribe.filters {
        out.push(options.as_u8());
        write_text(filter.as_str(), out);
    }
}

fn write_for(tag: u8, actor: Actor, out: &mut Vec<u8>) {
    out.push(tag);
    write_actor(actor, out);
}

fn write_actor(actor: Actor, out: &mut Vec<u8>) {
    out.extend_from_slice(&actor.client.0.to_le_bytes());
    out.extend_from_slice(&actor.epoch.0.to_le_bytes());
}

fn write_option_u32(value: Option<u32>, out: &mut Vec<u8>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Filters and client ids have at most 65,535 bytes: they came in an MQTT string.
fn write_text(text: &str, out: &mut Vec<u8>) {
    let len = u16::try_from(text.len()).expect("an MQTT string has at most 65,535 bytes");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads an entry from `body`, which is that of the record at `at`. Messages are slices of it, not copies.
pub fn decode_entry(index: u64, body: &Bytes, at: Location) -> Result<Entry, CodecError> {
    let mut reader = Reader { body, next: 0 };
    let version = reader.u8()?;
    if version != VERSION {
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
        _ => return Err(CodecError::Invalid("command")),
    })
}

fn read_publish(reader: &mut Reader<'_>, at: Location) -> Result<(Publish, StoredAt), CodecError> {
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
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Result<&[u8], CodecError> {
        let end = self.next.checked_add(len).ok_or(CodecError::Truncated)?;
        let field = self.body.get(self.next..end).ok_or(CodecError::Truncated)?;
        self.next = end;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let field = self.take(N)?;
        Ok(field.try_into().expect("take gives the length asked for"))
    }

    fn u8(&mut self) -> Result<u8, CodecError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
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

    fn text(&mut self) -> Result<&str, CodecError> {
        let len = usize::from(self.u16()?);
        std::str::from_utf8(self.take(len)?).map_err(|_| CodecError::Invalid("text"))
    }

    fn filter(&mut self) -> Result<TopicFilter, CodecError> {
        TopicFilter::new(self.text()?).map_err(|_| CodecError::Invalid("topic filter"))
    }

    fn actor(&mut self) -> Result<Actor, CodecError> {
        Ok(Actor {
            client: ClientNo(self.u32()?),
            epoch: Epoch(self.u64()?),
        })
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
        let offset = self.next as u32;
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
