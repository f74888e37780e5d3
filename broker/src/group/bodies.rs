//! The bodies of deliveries: where they are, and what they weigh.

use crate::log::{Location, LogError, LogHandle};
use bytes::Bytes;
use cluster::filters::HeldFilter;
use cluster::frame::{Body, FromGroup, StoredAt};
use cluster::limits::FILTER_BYTES;
use protocol::Message;

/// Where a turn may look for the bodies of messages. Only the group's own thread may wait for a disk: a shard has
/// sockets that others wait for, and the log's thread has what comes next to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Memory,
    Disk,
}

/// Reads the bodies of the links' frames that are still in the log; `false` if one is where this turn may not look.
///
/// In the order of the log, not of the frames: sessions that come back together have their messages beside each other
/// there, and what was read for one is then at hand for the next.
pub(super) fn resolve(
    log: &LogHandle,
    links: &mut [Vec<FromGroup>],
    reads: Reads,
) -> Result<bool, LogError> {
    let mut stored = Vec::new();
    for (link, frames) in links.iter().enumerate() {
        let places = frames.iter().enumerate();
        stored.extend(places.filter_map(|(place, frame)| match frame {
            FromGroup::Deliver(delivery) => match delivery.body {
                Body::Stored(at) => Some((at, (link, place))),
                Body::Inline(_) => None,
            },
            _ => None,
        }));
    }
    stored.sort_unstable_by_key(|(at, _)| (at.segment, at.record, at.offset));
    for (at, (link, place)) in stored {
        let Some(message) = read_where(log, at, reads)? else {
            return Ok(false);
        };
        if let FromGroup::Deliver(delivery) = &mut links[link][place] {
            delivery.body = Body::Inline(message);
        }
    }
    Ok(true)
}

fn read_where(log: &LogHandle, at: StoredAt, reads: Reads) -> Result<Option<Message>, LogError> {
    if reads == Reads::Disk {
        return read_message(log, at).map(Some);
    }
    let record = record_of(at);
    let found = log.read_from_memory(record, at.offset, at.len);
    found.map(|bytes| parse(record, &bytes?)).transpose()
}

/// Reads a message that the group keeps.
pub(crate) fn read_message(log: &LogHandle, at: StoredAt) -> Result<Message, LogError> {
    let record = record_of(at);
    parse(record, &log.read(record, at.offset, at.len)?)
}

fn record_of(at: StoredAt) -> Location {
    Location {
        segment: at.segment,
        offset: at.record,
    }
}

fn parse(record: Location, bytes: &Bytes) -> Result<Message, LogError> {
    Message::read_from(bytes).map_err(|_| LogError::NotFound { at: record })
}

/// Takes the deliveries that no window bounds out of the frames for a link that is full; says how many.
pub(super) fn drop_unwindowed(frames: &mut Vec<FromGroup>) -> u64 {
    let mut dropped = 0;
    frames.retain_mut(|frame| {
        let FromGroup::Deliver(delivery) = frame else {
            return true;
        };
        let before = delivery.receivers.len();
        delivery
            .receivers
            .retain(|receiver| receiver.packet_id.is_some());
        dropped += (before - delivery.receivers.len()) as u64;
        !delivery.receivers.is_empty()
    });
    dropped
}

pub(super) fn frame_bytes(frame: &FromGroup) -> usize {
    size_of::<FromGroup>()
        + match frame {
            FromGroup::Deliver(delivery) => match &delivery.body {
                Body::Inline(message) => message.byte_len(),
                Body::Stored(at) => at.len as usize,
            },
            FromGroup::Filters(page) => {
                let bytes = |held: &HeldFilter| held.filter.as_str().len() + FILTER_BYTES;
                page.filters.iter().map(bytes).sum()
            }
            _ => 0,
        }
}
