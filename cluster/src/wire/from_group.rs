//! Frames of a group.

use super::errand::{self, read_done, read_errand, write_done, write_errand};
use super::read::{Reader, qos};
use super::write::{put_epoch, put_group, put_handle, put_rank, put_text, put_u16, put_varint};
use super::{FLAGS, RETAIN, WireError};
use crate::filters::{FilterDigest, HeldFilter};
use crate::frame::{
    Body, Claimed, Delivery, FilterOutcome, Filters, FromGroup, Joined, Listed, Receiver,
    SubscriptionIds,
};
use crate::ids::{ClientNo, Handle};
use bytes::Bytes;
use protocol::{PacketId, ReasonCode};
use smallvec::SmallVec;

mod tag {
    pub(super) const DELIVER: u8 = 1;
    pub(super) const PUBLISHED: u8 = 2;
    pub(super) const RELEASED: u8 = 3;
    pub(super) const RELEASE: u8 = 4;
    pub(super) const CLAIMED: u8 = 5;
    pub(super) const FILTERS: u8 = 6;
    pub(super) const END: u8 = 7;
    pub(super) const SUBSCRIBED: u8 = 8;
    pub(super) const UNSUBSCRIBED: u8 = 9;
    pub(super) const RESUME: u8 = 10;
    pub(super) const DONE: u8 = 11;
    pub(super) const LISTED: u8 = 12;
    pub(super) const JOINED: u8 = 13;
    pub(super) const REJOIN: u8 = 14;
    pub(super) const ERRAND: u8 = 15;
    pub(super) const ERRAND_DONE: u8 = 0;
}

/// Of a delivery.
const HAS_EXPIRY: u8 = 0b1;
const MANY_RECEIVERS: u8 = 0b10;
/// Of an answer (below it are two bits of QoS, of `Published` only): not Success.
const HAS_REASON: u8 = 0b100;
/// Of a claim's answer.
const SESSION_PRESENT: u8 = 0b1;
/// The session began in another epoch, which follows.
const HAS_START: u8 = 0b10;
const HAS_GROUPS: u8 = 0b100;
/// The group holds filters, whose digest follows.
const HAS_DIGEST: u8 = 0b1000;
/// Of the answer to a join: the same.
const JOINED_HAS_DIGEST: u8 = 0b1;
/// Of an end: a claim was refused. Otherwise it is a kick.
const OF_CLAIM: u8 = 0b1;
/// Of a page of filters: there are more.
const MORE: u8 = 0b1;

/// Of a receiver, above two bits of QoS and RETAIN.
const DUP: u8 = 0b1000;
const HAS_PACKET_ID: u8 = 0b1_0000;
const HAS_SUBSCRIPTION_IDS: u8 = 0b10_0000;
/// Beside the reason code of a filter: the subscription is new.
const IS_NEW: u8 = 0b100_0000;
const RECEIVER_FLAGS_MAX: u8 = 0b11_1111;

/// Bytes of a receiver at least.
const RECEIVER_BYTES_MIN: usize = 3;
/// Bytes of a listed group.
const LISTED_BYTES: usize = 2;
/// Bytes of a held filter at least.
const FILTER_BYTES_MIN: usize = 3;

/// Appends a frame. The body of a delivery must be inline: its place in a log means nothing elsewhere. A delivery
/// to nobody is left out.
pub fn write_from_group(frame: &FromGroup, out: &mut Vec<u8>) {
    match frame {
        FromGroup::Deliver(delivery) => write_delivery(delivery, out),
        FromGroup::Published {
            handle,
            packet_id,
            qos,
            reason,
        } => write_answer(
            tag::PUBLISHED,
            qos.as_u8(),
            *handle,
            *packet_id,
            *reason,
            out,
        ),
        FromGroup::Released {
            handle,
            packet_id,
            reason,
        } => write_answer(tag::RELEASED, 0, *handle, *packet_id, *reason, out),
        FromGroup::Release {
            handle,
            packet_id,
            reason,
        } => write_answer(tag::RELEASE, 0, *handle, *packet_id, *reason, out),
        FromGroup::Claimed(claimed) => write_claimed(claimed, out),
        FromGroup::ClaimRefused { handle, reason } => {
            write_end(OF_CLAIM, *handle, *reason, out);
        }
        FromGroup::Kick { handle, reason } => write_end(0, *handle, *reason, out),
        FromGroup::Subscribed {
            handle,
            packet_id,
            outcomes,
        } => {
            let codes = outcomes.iter().copied().map(outcome_code);
            write_codes(tag::SUBSCRIBED, *handle, *packet_id, codes, out);
        }
        FromGroup::Unsubscribed {
            handle,
            packet_id,
            reasons,
        } => {
            let codes = reasons.iter().map(|reason| reason.as_u8());
            write_codes(tag::UNSUBSCRIBED, *handle, *packet_id, codes, out);
        }
        FromGroup::Listed {
            handle,
            group,
            rank,
        } => {
            out.push(tag::LISTED);
            put_handle(*handle, out);
            put_group(*group, out);
            put_rank(*rank, out);
        }
        FromGroup::Joined(joined) => write_joined(**joined, out),
        FromGroup::Filters(filters) => write_filters(filters, out),
        FromGroup::Rejoin { handle } => {
            out.push(tag::REJOIN);
            put_handle(*handle, out);
        }
        FromGroup::Errand(errand) => write_errand(tag::ERRAND, errand, out),
        FromGroup::ErrandDone(done) => write_done(tag::ERRAND_DONE, done, out),
        FromGroup::Resume => out.push(tag::RESUME),
        FromGroup::Done { number } => {
            out.push(tag::DONE);
            put_varint(*number, out);
        }
    }
}

fn write_claimed(claimed: &Claimed, out: &mut Vec<u8>) {
    let mut flags = 0;
    for (set, flag) in [
        (claimed.session_present, SESSION_PRESENT),
        (claimed.start_epoch != claimed.epoch, HAS_START),
        (!claimed.groups.is_empty(), HAS_GROUPS),
        (claimed.digest != FilterDigest::default(), HAS_DIGEST),
    ] {
        flags |= if set { flag } else { 0 };
    }
    out.push(tag::CLAIMED | flags << FLAGS);
    put_handle(claimed.handle, out);
    put_varint(u64::from(claimed.client.0), out);
    put_epoch(claimed.epoch, out);
    if flags & HAS_START != 0 {
        put_epoch(claimed.start_epoch, out);
    }
    if flags & HAS_GROUPS != 0 {
        put_varint(claimed.groups.len() as u64, out);
    }
    for listed in &claimed.groups {
        put_group(listed.group, out);
        put_rank(listed.rank, out);
    }
    write_digest(claimed.digest, out);
}

fn write_joined(joined: Joined, out: &mut Vec<u8>) {
    let holds = joined.digest != FilterDigest::default();
    let flags = if holds { JOINED_HAS_DIGEST } else { 0 };
    out.push(tag::JOINED | flags << FLAGS);
    put_handle(joined.handle, out);
    put_varint(u64::from(joined.client.0), out);
    put_epoch(joined.epoch, out);
    write_digest(joined.digest, out);
}

/// That of no filters is left out.
fn write_digest(digest: FilterDigest, out: &mut Vec<u8>) {
    if digest != FilterDigest::default() {
        out.extend_from_slice(&digest.0.to_le_bytes());
    }
}

fn write_filters(page: &Filters, out: &mut Vec<u8>) {
    let flags = if page.more { MORE } else { 0 };
    out.push(tag::FILTERS | flags << FLAGS);
    put_handle(page.handle, out);
    put_varint(u64::from(page.number), out);
    put_varint(page.filters.len() as u64, out);
    for held in &page.filters {
        out.push(held.options.as_u8());
        put_varint(u64::from(held.subscription_id), out);
        put_text(held.filter.as_str(), out);
    }
}

fn write_end(flags: u8, handle: Handle, reason: ReasonCode, out: &mut Vec<u8>) {
    out.push(tag::END | flags << FLAGS);
    put_handle(handle, out);
    out.push(reason.as_u8());
}

fn write_answer(
    tag: u8,
    qos: u8,
    handle: Handle,
    packet_id: PacketId,
    reason: ReasonCode,
    out: &mut Vec<u8>,
) {
    let success = reason == ReasonCode::Success;
    let has_reason = if success { 0 } else { HAS_REASON };
    out.push(tag | (qos | has_reason) << FLAGS);
    put_handle(handle, out);
    put_u16(packet_id.get(), out);
    if !success {
        out.push(reason.as_u8());
    }
}

fn write_codes(
    tag: u8,
    handle: Handle,
    packet_id: PacketId,
    codes: impl ExactSizeIterator<Item = u8>,
    out: &mut Vec<u8>,
) {
    out.push(tag);
    put_handle(handle, out);
    put_u16(packet_id.get(), out);
    put_varint(codes.len() as u64, out);
    out.extend(codes);
}

fn outcome_code(outcome: FilterOutcome) -> u8 {
    let code = outcome.reason.as_u8();
    debug_assert_eq!(code & IS_NEW, 0, "no reason code has this bit");
    code | if outcome.is_new { IS_NEW } else { 0 }
}

fn write_delivery(delivery: &Delivery, out: &mut Vec<u8>) {
    let Body::Inline(message) = &delivery.body else {
        unreachable!("the group's driver reads bodies from its log before a frame leaves the node");
    };
    let many = match delivery.receivers.len() {
        0 => return,
        1 => 0,
        _ => MANY_RECEIVERS,
    };
    let expiry = if delivery.expiry_s.is_some() {
        HAS_EXPIRY
    } else {
        0
    };
    out.push(tag::DELIVER | (many | expiry) << FLAGS);
    if let Some(seconds) = delivery.expiry_s {
        put_varint(u64::from(seconds), out);
    }
    if many != 0 {
        put_varint(delivery.receivers.len() as u64, out);
    }
    for receiver in &delivery.receivers {
        write_receiver(receiver, out);
    }
    message.write_to(out);
}

fn write_receiver(receiver: &Receiver, out: &mut Vec<u8>) {
    let ids = receiver.subscription_ids.as_deref().unwrap_or_default();
    let mut flags = receiver.qos.as_u8();
    for (set, flag) in [
        (receiver.retain, RETAIN),
        (receiver.dup, DUP),
        (receiver.packet_id.is_some(), HAS_PACKET_ID),
        (!ids.is_empty(), HAS_SUBSCRIPTION_IDS),
    ] {
        flags |= if set { flag } else { 0 };
    }
    out.push(flags);
    put_handle(receiver.handle, out);
    if let Some(id) = receiver.packet_id {
        put_u16(id.get(), out);
    }
    if !ids.is_empty() {
        put_varint(ids.len() as u64, out);
        for id in ids {
            put_varint(u64::from(*id), out);
        }
    }
}

/// Reads the frames of a batch and hands them over one by one. Fails at the first that is none; those before it have
/// been handed over.
pub fn read_from_group(body: &Bytes, mut take: impl FnMut(FromGroup)) -> Result<(), WireError> {
    let mut reader = Reader::new(body);
    while reader.left() > 0 {
        take(read_frame(&mut reader)?);
    }
    Ok(())
}

fn read_frame(reader: &mut Reader<'_>) -> Result<FromGroup, WireError> {
    let first = reader.u8()?;
    let (tag, flags) = (first & 0x0F, first >> FLAGS);
    let allowed = match tag {
        tag::DELIVER => HAS_EXPIRY | MANY_RECEIVERS,
        tag::PUBLISHED => 0b11 | HAS_REASON,
        tag::RELEASED | tag::RELEASE => HAS_REASON,
        tag::CLAIMED => SESSION_PRESENT | HAS_START | HAS_GROUPS | HAS_DIGEST,
        tag::JOINED => JOINED_HAS_DIGEST,
        tag::END => OF_CLAIM,
        tag::FILTERS => MORE,
        tag::ERRAND | tag::ERRAND_DONE => errand::KINDS,
        _ => 0,
    };
    if flags & !allowed != 0 {
        return Err(WireError::Tag(first));
    }
    Ok(match tag {
        tag::DELIVER => FromGroup::Deliver(read_delivery(flags, reader)?),
        tag::PUBLISHED => FromGroup::Published {
            qos: qos(flags)?,
            handle: reader.handle()?,
            packet_id: reader.packet_id()?,
            reason: read_reason(flags, reader)?,
        },
        tag::RELEASED => FromGroup::Released {
            handle: reader.handle()?,
            packet_id: reader.packet_id()?,
            reason: read_reason(flags, reader)?,
        },
        tag::RELEASE => FromGroup::Release {
            handle: reader.handle()?,
            packet_id: reader.packet_id()?,
            reason: read_reason(flags, reader)?,
        },
        tag::CLAIMED => FromGroup::Claimed(Box::new(read_claimed(flags, reader)?)),
        tag::END => read_end(flags, reader)?,
        tag::SUBSCRIBED => FromGroup::Subscribed {
            handle: reader.handle()?,
            packet_id: reader.packet_id()?,
            outcomes: read_outcomes(reader)?,
        },
        tag::UNSUBSCRIBED => FromGroup::Unsubscribed {
            handle: reader.handle()?,
            packet_id: reader.packet_id()?,
            reasons: read_reasons(reader)?,
        },
        tag::LISTED => FromGroup::Listed {
            handle: reader.handle()?,
            group: reader.group()?,
            rank: reader.rank()?,
        },
        tag::JOINED => FromGroup::Joined(Box::new(read_joined(flags, reader)?)),
        tag::FILTERS => FromGroup::Filters(Box::new(read_filters(flags, reader)?)),
        tag::REJOIN => FromGroup::Rejoin {
            handle: reader.handle()?,
        },
        tag::ERRAND => FromGroup::Errand(Box::new(read_errand(flags, reader)?)),
        tag::ERRAND_DONE => FromGroup::ErrandDone(Box::new(read_done(flags, reader)?)),
        tag::RESUME => FromGroup::Resume,
        tag::DONE => FromGroup::Done {
            number: reader.varint()?,
        },
        _ => return Err(WireError::Tag(first)),
    })
}

fn read_end(flags: u8, reader: &mut Reader<'_>) -> Result<FromGroup, WireError> {
    let handle = reader.handle()?;
    let reason = reader.reason()?;
    Ok(if flags == OF_CLAIM {
        FromGroup::ClaimRefused { handle, reason }
    } else {
        FromGroup::Kick { handle, reason }
    })
}

fn read_claimed(flags: u8, reader: &mut Reader<'_>) -> Result<Claimed, WireError> {
    let handle = reader.handle()?;
    let client = ClientNo(reader.varint_u32()?);
    let epoch = reader.epoch()?;
    let start_epoch = if flags & HAS_START == 0 {
        epoch
    } else {
        reader.epoch()?
    };
    if (start_epoch != epoch) != (flags & HAS_START != 0) {
        return Err(WireError::Invalid("epoch of a session's start"));
    }
    let count = if flags & HAS_GROUPS == 0 {
        0
    } else {
        reader.count(LISTED_BYTES)?
    };
    if count == 0 && flags & HAS_GROUPS != 0 {
        return Err(WireError::Invalid("number of groups"));
    }
    let mut groups = Vec::with_capacity(count);
    for _ in 0..count {
        groups.push(Listed {
            group: reader.group()?,
            rank: reader.rank()?,
        });
    }
    Ok(Claimed {
        handle,
        client,
        epoch,
        session_present: flags & SESSION_PRESENT != 0,
        start_epoch,
        groups: groups.into(),
        digest: read_digest(flags & HAS_DIGEST != 0, reader)?,
    })
}

fn read_digest(is_there: bool, reader: &mut Reader<'_>) -> Result<FilterDigest, WireError> {
    if !is_there {
        return Ok(FilterDigest::default());
    }
    match u64::from_le_bytes(reader.array()?) {
        0 => Err(WireError::Invalid("digest of filters")),
        digest => Ok(FilterDigest(digest)),
    }
}

fn read_filters(flags: u8, reader: &mut Reader<'_>) -> Result<Filters, WireError> {
    let handle = reader.handle()?;
    let number = reader.varint_u32()?;
    let count = reader.count(FILTER_BYTES_MIN)?;
    let more = flags & MORE != 0;
    if more && count == 0 {
        return Err(WireError::Invalid("page of filters"));
    }
    let mut filters = Vec::with_capacity(count);
    for _ in 0..count {
        let options = reader.options()?;
        let subscription_id = reader.varint_u32()?;
        let filter = reader.filter()?;
        filters.push(HeldFilter {
            filter,
            options,
            subscription_id,
        });
    }
    Ok(Filters {
        handle,
        number,
        filters,
        more,
    })
}

fn read_joined(flags: u8, reader: &mut Reader<'_>) -> Result<Joined, WireError> {
    Ok(Joined {
        handle: reader.handle()?,
        client: ClientNo(reader.varint_u32()?),
        epoch: reader.epoch()?,
        digest: read_digest(flags & JOINED_HAS_DIGEST != 0, reader)?,
    })
}

fn read_reason(flags: u8, reader: &mut Reader<'_>) -> Result<ReasonCode, WireError> {
    if flags & HAS_REASON == 0 {
        return Ok(ReasonCode::Success);
    }
    match reader.reason()? {
        ReasonCode::Success => Err(WireError::Invalid("reason code")),
        reason => Ok(reason),
    }
}

fn read_outcomes(reader: &mut Reader<'_>) -> Result<Box<[FilterOutcome]>, WireError> {
    let count = reader.count(1)?;
    let outcome = |_| {
        let code = reader.u8()?;
        let reason = ReasonCode::from_u8(code & !IS_NEW);
        Ok(FilterOutcome {
            reason: reason.ok_or(WireError::Invalid("reason code"))?,
            is_new: code & IS_NEW != 0,
        })
    };
    (0..count).map(outcome).collect()
}

fn read_reasons(reader: &mut Reader<'_>) -> Result<Box<[ReasonCode]>, WireError> {
    let count = reader.count(1)?;
    (0..count).map(|_| reader.reason()).collect()
}

fn read_delivery(flags: u8, reader: &mut Reader<'_>) -> Result<Delivery, WireError> {
    let expiry_s = if flags & HAS_EXPIRY == 0 {
        None
    } else {
        Some(reader.varint_u32()?)
    };
    let count = if flags & MANY_RECEIVERS == 0 {
        1
    } else {
        reader.count(RECEIVER_BYTES_MIN)?
    };
    if count < 2 && flags & MANY_RECEIVERS != 0 {
        return Err(WireError::Invalid("number of receivers"));
    }
    let mut receivers = SmallVec::with_capacity(count);
    for _ in 0..count {
        receivers.push(read_receiver(reader)?);
    }
    Ok(Delivery {
        body: Body::Inline(reader.message()?),
        expiry_s,
        receivers,
    })
}

fn read_receiver(reader: &mut Reader<'_>) -> Result<Receiver, WireError> {
    let flags = reader.u8()?;
    if flags > RECEIVER_FLAGS_MAX {
        return Err(WireError::Invalid("receiver"));
    }
    let qos = qos(flags)?;
    let has_packet_id = flags & HAS_PACKET_ID != 0;
    if has_packet_id != qos.has_packet_id() {
        return Err(WireError::Invalid("packet id of a receiver"));
    }
    Ok(Receiver {
        handle: reader.handle()?,
        packet_id: if has_packet_id {
            Some(reader.packet_id()?)
        } else {
            None
        },
        qos,
        retain: flags & RETAIN != 0,
        dup: flags & DUP != 0,
        subscription_ids: read_subscription_ids(flags, reader)?,
    })
}

fn read_subscription_ids(flags: u8, reader: &mut Reader<'_>) -> Result<SubscriptionIds, WireError> {
    if flags & HAS_SUBSCRIPTION_IDS == 0 {
        return Ok(None);
    }
    let count = reader.count(1)?;
    if count == 0 {
        return Err(WireError::Invalid("subscription identifiers"));
    }
    let ids: Result<Box<[u32]>, _> = (0..count).map(|_| reader.varint_u32()).collect();
    ids.map(Some)
}
