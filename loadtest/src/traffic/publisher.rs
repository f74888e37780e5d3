//! One publisher: its window and its packet ids.

use super::Pace;
use crate::limits::{AHEAD_WINDOWS, OPEN_LOOP_UNACKED_MAX, REFILL_PART};
use crate::wire::Template;

/// One publisher. Packet ids are taken in turn, and MQTT-4.6.0-2 makes the broker acknowledge in
/// order, so counters stand for sets of packet ids.
#[derive(Debug)]
pub(super) struct Publisher {
    template: Template,
    acknowledged: bool,
    /// Messages sent; also the next sequence number.
    pub(super) sent: u64,
    acked: u64,
    /// Messages its slowest receiver has passed, or that were written off.
    pub(super) arrived: u64,
    last_look: (u64, u64),
    unacked_max: u64,
    ahead_max: u64,
    refill: u64,
    /// True while it waits for its turn to send.
    pub(super) queued: bool,
}

/// The packet id of message `seq`: 1 to 65,535 in turn.
fn packet_id(seq: u64) -> u16 {
    (seq % 65_535) as u16 + 1
}

impl Publisher {
    /// Nothing sent yet.
    pub(super) fn new(template: Template, qos: u8, pace: &Pace) -> Self {
        let (unacked_max, ahead_max, refill) = match pace {
            Pace::Window(window) => {
                let window = u64::from(*window);
                let ahead = if qos == 0 {
                    window
                } else {
                    window * AHEAD_WINDOWS
                };
                (window, ahead, window.div_ceil(REFILL_PART))
            }
            Pace::Rate { .. } => (u64::from(OPEN_LOOP_UNACKED_MAX), u64::MAX, 1),
        };
        Self {
            template,
            acknowledged: qos > 0,
            sent: 0,
            acked: 0,
            arrived: 0,
            last_look: (0, 0),
            unacked_max,
            ahead_max,
            refill,
            queued: false,
        }
    }

    /// How far it may run ahead of its slowest receiver.
    pub(super) fn ahead_max(&self) -> u64 {
        self.ahead_max
    }

    /// Lowers the window to the broker's Receive Maximum.
    pub(super) fn limit_unacked(&mut self, receive_max: u64) {
        self.unacked_max = self.unacked_max.min(receive_max);
        self.refill = self.refill.min(self.unacked_max.div_ceil(REFILL_PART));
    }

    /// Messages sent and not acknowledged; none at `QoS` 0.
    pub(super) fn unacked(&self) -> u64 {
        if self.acknowledged {
            self.sent - self.acked
        } else {
            0
        }
    }

    /// Messages the broker answers for: the acknowledged ones, at `QoS` 0 all.
    pub(super) fn promised(&self) -> u64 {
        self.sent - self.unacked()
    }

    /// Messages the acknowledgements leave room for.
    pub(super) fn unacked_credit(&self) -> u64 {
        if self.acknowledged {
            self.unacked_max - self.unacked()
        } else {
            u64::MAX
        }
    }

    /// Messages the window leaves room for.
    pub(super) fn credit(&self) -> u64 {
        let ahead = self.sent.saturating_sub(self.arrived);
        self.ahead_max
            .saturating_sub(ahead)
            .min(self.unacked_credit())
    }

    /// True when enough of the window is free that a write carries a batch.
    #[inline]
    pub(super) fn worth_a_write(&self) -> bool {
        self.credit() >= self.refill
    }

    /// Its receiver has passed every message below `next`.
    #[inline]
    pub(super) fn arrived_up_to(&mut self, next: u64) {
        self.arrived = self.arrived.max(next);
    }

    /// Appends the next message.
    #[inline]
    pub(super) fn append(&mut self, out: &mut Vec<u8>, time_ns: u64) {
        self.template
            .append(out, packet_id(self.sent), self.sent, time_ns);
        self.sent += 1;
    }

    /// Counts an acknowledgement; false if another one was to come first.
    #[inline]
    pub(super) fn acked(&mut self, id: u16) -> bool {
        if self.unacked() == 0 {
            return false;
        }
        let in_turn = id == packet_id(self.acked);
        self.acked += 1;
        in_turn
    }

    /// `QoS` 0: gives up on what is under way if nothing left or arrived since the last call.
    pub(super) fn write_off_if_stalled(&mut self) -> bool {
        let waits = !self.acknowledged && self.sent > self.arrived;
        let stalled = waits && (self.sent, self.arrived) == self.last_look;
        if stalled {
            self.arrived = self.sent;
        }
        self.last_look = (self.sent, self.arrived);
        stalled
    }
}
