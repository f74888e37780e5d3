//! What one session is owed: references to messages, the window of sent ones first.
//!
//! An entry gets its number when it moves into the window, and its packet id follows from the number: entry n has
//! packet id `1 + n % 1023`, plus 1023 times the group's rank in the session. Nothing is stored for it, a re-send has its first id, and ids are unique in the
//! window, because the window never holds more than 1,023 entries from the oldest uncompleted one on.
//! Entries above the window have no number yet, so dropping one leaves no hole.

use super::effects::Effects;
use super::messages::{MessageKey, Messages};
use crate::limits::{MAILBOX_KEEP, MachineLimits, PACKET_IDS};
use cluster::frame::SubscriptionIds;
use cluster::ids::Rank;
use protocol::{PacketId, QoS};
use std::collections::VecDeque;

/// What an entry refers to when a shared queue has taken its message back.
pub(super) const TAKEN: MessageKey = MessageKey(u32::MAX);

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Progress {
    /// Not completed, perhaps never sent.
    Open = 0,
    /// QoS 2: the client's PUBREC is stored, PUBREL is due.
    Received = 1,
    /// Completed; it leaves when all before it have.
    Done = 2,
}

/// One delivery owed.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) message: MessageKey,
    /// Effective QoS, never 0.
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) progress: Progress,
    pub(super) extra: Option<Box<Extra>>,
}

/// What few entries have.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    pub(super) subscription_ids: SubscriptionIds,
    /// The shared queue the entry came from, to go back there.
    pub(super) shared: Option<SharedOrigin>,
}

/// Where a shared entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedOrigin {
    /// The queue's number.
    pub(super) queue: u32,
    /// What its strategy goes by.
    pub(super) key: u64,
    /// RETAIN flag of the publish.
    pub(super) retain: bool,
}

impl Entry {
    pub(super) fn new(message: MessageKey, qos: QoS, retain: bool, ids: SubscriptionIds) -> Self {
        let extra = ids.is_some().then(|| {
            Box::new(Extra {
                subscription_ids: ids,
                shared: None,
            })
        });
        Self {
            message,
            qos,
            retain,
            progress: Progress::Open,
            extra,
        }
    }

    pub(super) fn subscription_ids(&self) -> SubscriptionIds {
        self.extra
            .as_ref()
            .and_then(|extra| extra.subscription_ids.clone())
    }
}

/// Entries of one session, oldest first; the first `sent` of them are the window.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    pub(super) entries: VecDeque<Entry>,
    pub(super) sent: u16,
    /// Number of the oldest entry, modulo [`PACKET_IDS`].
    pub(super) first: u16,
    /// What the group's rank adds to a packet id.
    pub(super) base: u16,
    pub(super) window_bytes: u64,
    pub(super) waiting_bytes: u64,
}

impl Mailbox {
    /// An empty one at a group of this rank.
    pub(super) fn of_rank(rank: Rank) -> Self {
        Self {
            base: u16::from(rank.0) * PACKET_IDS,
            ..Self::default()
        }
    }

    /// Entries above the window.
    pub(super) fn waiting(&self) -> usize {
        self.entries.len() - usize::from(self.sent)
    }

    /// Whether an entry of `len` bytes may move into the window, behind no other.
    pub(super) fn has_room(&self, len: u64, limits: &MachineLimits) -> bool {
        self.sent < limits.window_entries
            && (self.sent == 0 || self.window_bytes + len <= limits.window_bytes)
    }

    /// Whether an entry of `len` bytes that comes now would be sent at once.
    pub(super) fn takes_now(&self, len: u64, limits: &MachineLimits) -> bool {
        self.waiting() == 0 && self.has_room(len, limits)
    }

    /// Whether one waiting entry more would be above a limit.
    pub(super) fn is_full(&self, len: u64, limits: &MachineLimits) -> bool {
        self.waiting() >= limits.queue_messages || self.waiting_bytes + len > limits.queue_bytes
    }

    /// Appends an entry to the waiting ones.
    pub(super) fn push_waiting(&mut self, entry: Entry, len: u64) {
        self.waiting_bytes += len;
        self.entries.push_back(entry);
    }

    /// Takes the oldest waiting entry out.
    pub(super) fn drop_oldest_waiting(&mut self, messages: &Messages) -> Option<Entry> {
        let entry = self.entries.remove(usize::from(self.sent))?;
        self.waiting_bytes -= messages.get(entry.message).len();
        Some(entry)
    }

    /// Appends an entry to the window and gives it its packet id. No entry may be waiting.
    pub(super) fn push_sent(&mut self, entry: Entry, len: u64) -> PacketId {
        debug_assert_eq!(
            self.waiting(),
            0,
            "the window never overtakes waiting entries"
        );
        let packet_id = self.packet_id(self.sent);
        self.entries.push_back(entry);
        self.window_bytes += len;
        self.sent += 1;
        packet_id
    }

    /// The oldest waiting entry.
    pub(super) fn next_waiting(&self) -> Option<&Entry> {
        self.entries.get(usize::from(self.sent))
    }

    /// Moves the oldest waiting entry, of `len` bytes, into the window.
    pub(super) fn send_next(&mut self, len: u64) -> PacketId {
        let packet_id = self.packet_id(self.sent);
        self.waiting_bytes -= len;
        self.window_bytes += len;
        self.sent += 1;
        packet_id
    }

    /// Packet id of the entry at `place` in the window.
    pub(super) fn packet_id(&self, place: u16) -> PacketId {
        let id = 1 + (u32::from(self.first) + u32::from(place)) % u32::from(PACKET_IDS);
        PacketId::new(self.base + id as u16).expect("1 + something")
    }

    /// Place in the window of the uncompleted entry with this packet id.
    pub(super) fn place_of(&self, packet_id: PacketId) -> Option<u16> {
        let place = self.place_in_window(packet_id)?;
        let open = self.entries[usize::from(place)].progress != Progress::Done;
        open.then_some(place)
    }

    /// Place in the window of the entry with this packet id, completed or not.
    pub(super) fn place_in_window(&self, packet_id: PacketId) -> Option<u16> {
        let number = (packet_id.get() - 1).checked_sub(self.base)?;
        if number >= PACKET_IDS {
            return None;
        }
        let place = (number + PACKET_IDS - self.first) % PACKET_IDS;
        (place < self.sent).then_some(place)
    }

    /// Lets the completed entries at the window's start go. Returns how many entries went.
    pub(super) fn pop_done(&mut self, messages: &mut Messages, out: &mut Effects) -> u64 {
        let mut popped = 0;
        while self.sent > 0 && self.entries[0].progress == Progress::Done {
            let entry = self.entries.pop_front().expect("the window is not empty");
            self.sent -= 1;
            self.first = (self.first + 1) % PACKET_IDS;
            if entry.message != TAKEN {
                self.window_bytes -= messages.get(entry.message).len();
                messages.release(entry.message, out);
                popped += 1;
            }
        }
        popped
    }

    /// Counts the bytes of the window and of what waits again, and returns how many entries hold a message.
    pub(super) fn sum_up(&mut self, messages: &Messages) -> u64 {
        let (mut window_bytes, mut waiting_bytes, mut held) = (0, 0, 0);
        for (place, entry) in self.entries.iter().enumerate() {
            if entry.message == TAKEN {
                continue;
            }
            held += 1;
            let len = messages.get(entry.message).len();
            if place < usize::from(self.sent) {
                window_bytes += len;
            } else {
                waiting_bytes += len;
            }
        }
        (self.window_bytes, self.waiting_bytes) = (window_bytes, waiting_bytes);
        held
    }

    /// Gives memory back that an empty mailbox does not need.
    pub(super) fn shrink(&mut self, attached: bool) {
        if self.entries.is_empty() && (!attached || self.entries.capacity() > MAILBOX_KEEP) {
            self.entries = VecDeque::new();
        }
    }
}
