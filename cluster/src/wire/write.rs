//! Fields onto the end of a batch.

use super::RETAIN;
use crate::ids::{Actor, Epoch, Handle, Rank};
use crate::slots::GroupNo;
use protocol::Will;

/// A number in its shortest form.
pub(super) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    put_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_u16(number: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn put_epoch(epoch: Epoch, out: &mut Vec<u8>) {
    put_varint(u64::from(epoch.reign()), out);
    put_varint(epoch.counter(), out);
}

pub(super) fn put_actor(actor: Actor, out: &mut Vec<u8>) {
    put_varint(u64::from(actor.client.0), out);
    put_epoch(actor.epoch, out);
}

pub(super) fn put_handle(handle: Handle, out: &mut Vec<u8>) {
    put_varint(u64::from(handle.index), out);
    put_varint(u64::from(handle.generation), out);
}

pub(super) fn put_group(group: GroupNo, out: &mut Vec<u8>) {
    out.push(group.0);
}

/// A rank, or none.
pub(super) fn put_rank(rank: Option<Rank>, out: &mut Vec<u8>) {
    out.push(rank.map_or(super::NO_RANK, |rank| rank.0));
}

pub(super) fn put_will(will: &Will, out: &mut Vec<u8>) {
    out.push(will.qos.as_u8() | if will.retain { RETAIN } else { 0 });
    put_varint(u64::from(will.delay_s), out);
    will.message.write_to(out);
}
