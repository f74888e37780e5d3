//! What the connections of a new link session have missed, sent a slice a turn.

use super::links::{Remote, Session};
use crate::machine::{Effects, OtherGroups, State};
use cluster::frame::{Body, FromGroup, Reattach};
use cluster::ids::{Actor, LinkNo};

/// A slice has about so many bytes of messages.
const SLICE_BYTES: usize = 1 << 20;

/// What a connection has missed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Missed {
    /// What is behind the delivery that it names.
    Behind(Reattach),
    /// The answer to its claim and everything after it, for all that is known.
    Claimed(Actor),
}

impl Remote {
    /// Lets some connections have what they missed, unless the link `is_full`.
    pub(super) fn catch_up(
        &mut self,
        link: LinkNo,
        is_full: bool,
        others: OtherGroups,
        state: &mut State,
        out: &mut Effects,
    ) {
        let frames = out.of_link(link);
        frames.retain_mut(|frame| self.is_for_caught_up(frame));
        let (mut bytes, mut weighed) = (0, frames.len());
        while !is_full
            && bytes < SLICE_BYTES
            && let Some((handle, missed)) = self.missed.pop_first()
        {
            match missed {
                Missed::Behind(reattach) => state.resume(link, &reattach, others, out),
                Missed::Claimed(actor) => state.claimed_again(link, handle, actor, out),
            }
            let frames = out.of_link(link);
            bytes += slice_bytes(&frames[weighed..]);
            weighed = frames.len();
        }
        if self.missed.is_empty() {
            self.session = Session::Live;
        }
    }

    /// Takes those out of a frame's receivers that will get it with what they missed; whether anybody is left.
    fn is_for_caught_up(&self, frame: &mut FromGroup) -> bool {
        match frame {
            FromGroup::Deliver(delivery) => {
                let receivers = &mut delivery.receivers;
                receivers.retain(|receiver| !self.missed.contains_key(&receiver.handle));
                !receivers.is_empty()
            }
            // It waits for the one that comes then.
            FromGroup::Claimed(claimed) => !self.missed.contains_key(&claimed.handle),
            FromGroup::Joined(joined) => !self.missed.contains_key(&joined.handle),
            // The others are no part of what is sent again: a kick is repeated at worst.
            _ => true,
        }
    }
}

/// Bytes of messages in some frames, and something for each frame.
fn slice_bytes(frames: &[FromGroup]) -> usize {
    let bytes = frames.iter().map(|frame| match frame {
        FromGroup::Deliver(delivery) => match &delivery.body {
            Body::Stored(at) => at.len as usize,
            Body::Inline(message) => message.byte_len(),
        },
        _ => 0,
    });
    bytes.map(|bytes| bytes + size_of::<FromGroup>()).sum()
}
