//! What is in the records of a disk: entries, and the messages in them.

use crate::env::Env;
use crate::log::{Disk, SharedDisk, lock};
use broker::consensus::{Entry, Payload};
use broker::log::{Location, Record, RecordKind};
use cluster::frame::{Body, FromGroup, StoredAt};
use protocol::Message;
use std::ops::Range;

/// Term and kind of an entry.
const HEAD: usize = 9;

/// The term of a replicated group's entry.
pub(crate) fn term_of(body: &[u8]) -> u64 {
    let term = body[..8].try_into().expect("eight bytes");
    u64::from_le_bytes(term)
}

/// An entry that a member of a replicated group has stored, or one of a group that has no others.
pub(crate) fn entry_of(record: &Record, is_raft: bool) -> Entry {
    const COMMANDS: u8 = 1;
    let offset = if is_raft { HEAD } else { 0 };
    let payload = if !is_raft || record.body[HEAD - 1] == COMMANDS {
        Payload::Commands {
            body: record.body.slice(offset..),
            offset: offset as u32,
        }
    } else {
        Payload::Blank
    };
    Entry {
        term: 1,
        index: record.index,
        at: record.at,
        payload,
    }
}

/// These records of a member's disk are there for good.
pub(crate) fn note_stored(
    env: &mut Env,
    member: (usize, usize),
    disk: &Disk,
    records: Range<usize>,
) {
    let records = disk.records(records);
    let voids = |record: &Record| record.kind == RecordKind::Truncate;
    if records.iter().any(voids) {
        env.judge.stored.forgets(member);
        note_all(env, member, disk);
        return;
    }
    for record in records {
        env.judge.stored.stores(member, &record.body);
    }
}

/// All that a member's disk has is there for good.
pub(crate) fn note_all(env: &mut Env, member: (usize, usize), disk: &Disk) {
    for body in disk.living() {
        env.judge.stored.stores(member, body);
    }
}

/// Reads bodies that are in the log.
pub(crate) fn resolve(disk: &SharedDisk, frames: &mut [FromGroup]) {
    for frame in frames {
        if let FromGroup::Deliver(delivery) = frame
            && let Body::Stored(at) = delivery.body
        {
            delivery.body = Body::Inline(read(disk, at));
        }
    }
}

fn read(disk: &SharedDisk, at: StoredAt) -> Message {
    let disk = lock(disk);
    let body = disk.body(Location {
        segment: at.segment,
        offset: at.record,
    });
    let (from, to) = (at.offset as usize, (at.offset + at.len) as usize);
    Message::read_from(&body.slice(from..to)).expect("a message is there")
}
