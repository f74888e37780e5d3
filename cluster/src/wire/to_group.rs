//! Frames of a proxy shard.

use super::errand::{self, read_done, read_errand, write_done, write_errand};
use super::read::{Reader, qos};
use super::write::{
    put_actor, put_epoch, put_group, put_handle, put_rank, put_text, put_u16, put_varint, put_will,
};
use super::{FLAGS, RETAIN, WireError};
use crate::frame::{
    Ack, AckKind, Claim, Disconnect, Join, ListFilters, Publish, Reattach, Resume, Subscribe,
    ToGroup, Unsubscribe, WillFate,
};
use bytes::Bytes;
use protocol::{PacketId, Version};

mod tag {
    pub(super) const PUBLISH: u8 = 1;
    pub(super) const ACK: u8 = 2;
    pub(super) const RELEASE: u8 = 3;
    pub(super) const CLAIM: u8 = 4;
    pub(super) const SUBSCRIBE: u8 = 5;
    pub(super) const UNSUBSCRIBE: u8 = 6;
    pub(super) const DISCONNECT: u8 = 7;
    pub(super) const KICKED: u8 = 8;
    pub(super) const NUMBER: u8 = 9;
    pub(super) const RESUME: u8 = 10;
    pub(super) const LIST: u8 = 11;
    pub(super) const JOIN: u8 = 12;
    pub(super) const ERRAND: u8 = 13;
    pub(super) const ERRAND_DONE: u8 = 14;
    pub(super) const LIST_FILTERS: u8 = 15;
}

/// Of a claim: Clean Start, a will, two bits of version.
const CLEAN_START: u8 = 0b1;
const HAS_WILL: u8 = 0b10;
const VERSION: u32 = 2;
/// Of a disconnect: two bits for the will, then an expiry.
const HAS_EXPIRY: u8 = 0b100;
/// Of a question for filters: behind which one.
const HAS_AFTER: u8 = 0b1;

/// Bytes at least of what a count counts.
const FILTER_BYTES_MIN: usize = 2;
const SUBSCRIPTION_BYTES_MIN: usize = 3;
const HANDLE_BYTES_MIN: usize = 2;
const REATTACH_BYTES_MIN: usize = 7;

/// Appends a frame.
pub fn write_to_group(frame: &ToGroup, out: &mut Vec<u8>) {
    match frame {
        ToGroup::Publish(publish) => write_publish(publish, out),
        ToGroup::Ack(ack) => {
            out.push(tag::ACK | (ack.kind as u8) << FLAGS);
            put_actor(ack.actor, out);
            put_u16(ack.packet_id.get(), out);
        }
        ToGroup::Release { actor, packet_id } => {
            out.push(tag::RELEASE);
            put_actor(*actor, out);
            put_u16(packet_id.get(), out);
        }
        ToGroup::Claim(claim) => write_claim(claim, out),
        ToGroup::Subscribe(subscribe) => {
            out.push(tag::SUBSCRIBE);
            put_actor(subscribe.actor, out);
            put_u16(subscribe.packet_id.get(), out);
            put_varint(u64::from(subscribe.subscription_id), out);
            put_varint(subscribe.filters.len() as u64, out);
            for (filter, options) in &subscribe.filters {
                out.push(options.as_u8());
                put_text(filter.as_str(), out);
            }
        }
        ToGroup::Unsubscribe(unsubscribe) => {
            out.push(tag::UNSUBSCRIBE);
            put_actor(unsubscribe.actor, out);
            put_u16(unsubscribe.packet_id.get(), out);
            put_varint(unsubscribe.filters.len() as u64, out);
            for filter in &unsubscribe.filters {
                put_text(filter.as_str(), out);
            }
        }
        ToGroup::Disconnect(gone) => {
            let expiry = if gone.expiry_s.is_some() {
                HAS_EXPIRY
            } else {
                0
            };
            out.push(tag::DISCONNECT | (gone.will as u8 | expiry) << FLAGS);
            put_actor(gone.actor, out);
            if let Some(seconds) = gone.expiry_s {
                put_varint(u64::from(seconds), out);
            }
        }
        ToGroup::Kicked { handle } => {
            out.push(tag::KICKED);
            put_handle(*handle, out);
        }
        ToGroup::List { actor, group } => {
            out.push(tag::LIST);
            put_actor(*actor, out);
            put_group(*group, out);
        }
        ToGroup::Join(join) => write_join(join, out),
        ToGroup::ListFilters(list) => write_list_filters(list, out),
        ToGroup::Errand(errand) => write_errand(tag::ERRAND, errand, out),
        ToGroup::ErrandDone(done) => write_done(tag::ERRAND_DONE, done, out),
        ToGroup::Number { first, resent } => {
            out.push(tag::NUMBER | u8::from(*resent) << FLAGS);
            put_varint(*first, out);
        }
        ToGroup::Resume(resume) => write_resume(resume, out),
    }
}

fn write_publish(publish: &Publish, out: &mut Vec<u8>) {
    let retain = if publish.retain { RETAIN } else { 0 };
    out.push(tag::PUBLISH | (publish.qos.as_u8() | retain) << FLAGS);
    put_actor(publish.actor, out);
    if publish.qos.has_packet_id() {
        let id = publish.packet_id.expect("QoS 1 and 2 have a packet id");
        put_u16(id.get(), out);
    }
    publish.message.write_to(out);
}

fn write_claim(claim: &Claim, out: &mut Vec<u8>) {
    let version = match claim.version {
        Version::V31 => 0,
        Version::V311 => 1,
        Version::V5 => 2,
    };
    let clean = if claim.clean_start { CLEAN_START } else { 0 };
    let will = if claim.will.is_some() { HAS_WILL } else { 0 };
    out.push(tag::CLAIM | (version << VERSION | clean | will) << FLAGS);
    put_handle(claim.handle, out);
    put_varint(u64::from(claim.expiry_s), out);
    put_text(&claim.client_id, out);
    if let Some(will) = &claim.will {
        put_will(will, out);
    }
}

fn write_join(join: &Join, out: &mut Vec<u8>) {
    out.push(tag::JOIN);
    put_handle(join.handle, out);
    put_text(&join.client_id, out);
    put_epoch(join.epoch, out);
    put_epoch(join.start_epoch, out);
    put_rank(join.rank, out);
}

fn write_list_filters(list: &ListFilters, out: &mut Vec<u8>) {
    let flags = if list.after.is_some() { HAS_AFTER } else { 0 };
    out.push(tag::LIST_FILTERS | flags << FLAGS);
    put_actor(list.actor, out);
    put_varint(u64::from(list.number), out);
    if let Some(after) = &list.after {
        put_text(after.as_str(), out);
    }
}

fn write_resume(resume: &Resume, out: &mut Vec<u8>) {
    out.push(tag::RESUME);
    put_varint(resume.sessions.len() as u64, out);
    for session in &resume.sessions {
        put_actor(session.actor, out);
        put_handle(session.handle, out);
        put_u16(session.last.map_or(0, PacketId::get), out);
    }
    put_varint(resume.void.len() as u64, out);
    for handle in &resume.void {
        put_handle(*handle, out);
    }
}

/// Reads the frames of a batch and hands them over one by one. Fails at the first that is none; those before it have
/// been handed over.
pub fn read_to_group(body: &Bytes, mut take: impl FnMut(ToGroup)) -> Result<(), WireError> {
    let mut reader = Reader::new(body);
    while reader.left() > 0 {
        take(read_frame(&mut reader)?);
    }
    Ok(())
}

fn read_frame(reader: &mut Reader<'_>) -> Result<ToGroup, WireError> {
    let first = reader.u8()?;
    let (tag, flags) = (first & 0x0F, first >> FLAGS);
    let flags_max = match tag {
        tag::PUBLISH | tag::DISCONNECT => 0b111,
        tag::ACK => 0b11,
        tag::CLAIM => 0b1111,
        tag::NUMBER => 0b1,
        tag::LIST_FILTERS => HAS_AFTER,
        tag::ERRAND | tag::ERRAND_DONE => errand::KINDS,
        _ => 0,
    };
    if flags > flags_max {
        return Err(WireError::Tag(first));
    }
    Ok(match tag {
        tag::PUBLISH => ToGroup::Publish(read_publish(flags, reader)?),
        tag::ACK => ToGroup::Ack(Ack {
            kind: ack_kind(flags),
            actor: reader.actor()?,
            packet_id: reader.packet_id()?,
        }),
        tag::RELEASE => ToGroup::Release {
            actor: reader.actor()?,
            packet_id: reader.packet_id()?,
        },
        tag::CLAIM => ToGroup::Claim(Box::new(read_claim(flags, reader)?)),
        tag::SUBSCRIBE => ToGroup::Subscribe(Box::new(read_subscribe(reader)?)),
        tag::UNSUBSCRIBE => ToGroup::Unsubscribe(Box::new(read_unsubscribe(reader)?)),
        tag::DISCONNECT => ToGroup::Disconnect(Box::new(read_disconnect(flags, reader)?)),
        tag::KICKED => ToGroup::Kicked {
            handle: reader.handle()?,
        },
        tag::LIST => ToGroup::List {
            actor: reader.actor()?,
            group: reader.group()?,
        },
        tag::JOIN => ToGroup::Join(Box::new(Join {
            handle: reader.handle()?,
            client_id: reader.client_id()?,
            epoch: reader.epoch()?,
            start_epoch: reader.epoch()?,
            rank: reader.rank()?,
        })),
        tag::LIST_FILTERS => ToGroup::ListFilters(Box::new(read_list_filters(flags, reader)?)),
        tag::ERRAND => ToGroup::Errand(Box::new(read_errand(flags, reader)?)),
        tag::ERRAND_DONE => ToGroup::ErrandDone(Box::new(read_done(flags, reader)?)),
        tag::NUMBER => ToGroup::Number {
            first: reader.varint()?,
            resent: flags != 0,
        },
        tag::RESUME => ToGroup::Resume(Box::new(read_resume(reader)?)),
        _ => return Err(WireError::Tag(first)),
    })
}

fn ack_kind(bits: u8) -> AckKind {
    match bits {
        0 => AckKind::Ack,
        1 => AckKind::Received,
        2 => AckKind::Refused,
        _ => AckKind::Complete,
    }
}

fn read_publish(flags: u8, reader: &mut Reader<'_>) -> Result<Publish, WireError> {
    let qos = qos(flags)?;
    let actor = reader.actor()?;
    let packet_id = if qos.has_packet_id() {
        Some(reader.packet_id()?)
    } else {
        None
    };
    Ok(Publish {
        actor,
        packet_id,
        qos,
        retain: flags & RETAIN != 0,
        message: reader.message()?,
    })
}

fn read_claim(flags: u8, reader: &mut Reader<'_>) -> Result<Claim, WireError> {
    let version = match flags >> VERSION {
        0 => Version::V31,
        1 => Version::V311,
        2 => Version::V5,
        _ => return Err(WireError::Invalid("protocol version")),
    };
    let handle = reader.handle()?;
    let expiry_s = reader.varint_u32()?;
    let client_id = reader.client_id()?;
    let will = if flags & HAS_WILL == 0 {
        None
    } else {
        Some(Box::new(reader.will()?))
    };
    Ok(Claim {
        handle,
        client_id,
        version,
        clean_start: flags & CLEAN_START != 0,
        expiry_s,
        will,
    })
}

fn read_subscribe(reader: &mut Reader<'_>) -> Result<Subscribe, WireError> {
    let actor = reader.actor()?;
    let packet_id = reader.packet_id()?;
    let subscription_id = reader.varint_u32()?;
    let count = at_least_one(reader.count(SUBSCRIPTION_BYTES_MIN)?)?;
    let mut filters = Vec::with_capacity(count);
    for _ in 0..count {
        let options = reader.options()?;
        filters.push((reader.filter()?, options));
    }
    Ok(Subscribe {
        actor,
        packet_id,
        subscription_id,
        filters,
    })
}

fn read_unsubscribe(reader: &mut Reader<'_>) -> Result<Unsubscribe, WireError> {
    let actor = reader.actor()?;
    let packet_id = reader.packet_id()?;
    let count = at_least_one(reader.count(FILTER_BYTES_MIN)?)?;
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

fn at_least_one(count: usize) -> Result<usize, WireError> {
    match count {
        0 => Err(WireError::Invalid("no topic filter")),
        count => Ok(count),
    }
}

fn read_disconnect(flags: u8, reader: &mut Reader<'_>) -> Result<Disconnect, WireError> {
    let will = match flags & 0b11 {
        0 => WillFate::Dropped,
        1 => WillFate::Published,
        2 => WillFate::Kept,
        _ => return Err(WireError::Invalid("fate of a will")),
    };
    let actor = reader.actor()?;
    let expiry_s = if flags & HAS_EXPIRY == 0 {
        None
    } else {
        Some(reader.varint_u32()?)
    };
    Ok(Disconnect {
        actor,
        expiry_s,
        will,
    })
}

fn read_list_filters(flags: u8, reader: &mut Reader<'_>) -> Result<ListFilters, WireError> {
    Ok(ListFilters {
        actor: reader.actor()?,
        number: reader.varint_u32()?,
        after: if flags & HAS_AFTER == 0 {
            None
        } else {
            Some(reader.filter()?)
        },
    })
}

fn read_resume(reader: &mut Reader<'_>) -> Result<Resume, WireError> {
    let count = reader.count(REATTACH_BYTES_MIN)?;
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        sessions.push(Reattach {
            actor: reader.actor()?,
            handle: reader.handle()?,
            last: PacketId::new(reader.u16()?),
        });
    }
    let count = reader.count(HANDLE_BYTES_MIN)?;
    let mut void = Vec::with_capacity(count);
    for _ in 0..count {
        void.push(reader.handle()?);
    }
    Ok(Resume { sessions, void })
}
