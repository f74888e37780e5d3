//! A receiver's answers, and what they make room for.

use super::effects::Effects;
use super::mailbox::{Entry, Progress, TAKEN};
use super::messages::Kept;
use super::state::State;
use cluster::frame::{Ack, AckKind, Body, Delivery, FromGroup, Receiver};
use cluster::ids::{ClientNo, Handle};
use protocol::{PacketId, QoS, ReasonCode};
use smallvec::{SmallVec, smallvec};

impl State {
    /// PUBACK, PUBREC or PUBCOMP.
    pub(super) fn ack(&mut self, ack: Ack, out: &mut Effects) {
        let Some(session) = self.fenced_mut(ack.actor) else {
            return;
        };
        let connection = session.owner.connection();
        let found = session.mailbox.as_mut().and_then(|mailbox| {
            let place = mailbox.place_of(ack.packet_id)?;
            Some((place, &mut mailbox.entries[usize::from(place)]))
        });
        let next = found
            .as_ref()
            .and_then(|(_, entry)| next_progress(entry, ack.kind));
        if next.is_none() {
            self.counters.acks_unknown += 1;
        } else if let (Some((place, entry)), Some(next)) = (found, next) {
            entry.progress = next;
            if next == Progress::Done && place == 0 {
                self.window_moves(ack.actor.client, out);
            }
        }
        if let (AckKind::Received, Some((link, handle))) = (ack.kind, connection) {
            let packet_id = ack.packet_id;
            let reason = match next {
                Some(_) => ReasonCode::Success,
                None => ReasonCode::PacketIdentifierNotFound,
            };
            out.send(
                link,
                FromGroup::Release {
                    handle,
                    packet_id,
                    reason,
                },
            );
        }
    }

    /// The oldest entry of the window is complete.
    fn window_moves(&mut self, client: ClientNo, out: &mut Effects) {
        let Self {
            clients,
            messages,
            counters,
            ..
        } = self;
        let Some(session) = clients.get_mut(client) else {
            return;
        };
        let attached = session.attached().is_some();
        let Some(mailbox) = &mut session.mailbox else {
            return;
        };
        counters.entries -= mailbox.pop_done(messages, out);
        mailbox.shrink(attached);
        if mailbox.waiting() > 0 || session.rare.is_some() {
            self.pump(client, out);
        }
    }

    /// Moves what waits into the window, as far as there is room: the mailbox's own entries, then those of shared
    /// queues, then retained messages.
    pub(super) fn pump(&mut self, client: ClientNo, out: &mut Effects) {
        self.pump_waiting(client, out);
        let Some(session) = self.clients.get(client) else {
            return;
        };
        let queues: SmallVec<[u32; 8]> = SmallVec::from_slice(session.shared());
        let has_cursors = !session.cursors().is_empty();
        for queue in queues {
            if !self.shared.get(queue).items.is_empty() {
                self.dispatch(queue, None, out);
            }
        }
        if has_cursors {
            self.run_cursors(client, out);
        }
    }

    fn pump_waiting(&mut self, client: ClientNo, out: &mut Effects) {
        let Self {
            clients,
            messages,
            limits,
            counters,
            time_ms,
            ..
        } = self;
        let Some(session) = clients.get_mut(client) else {
            return;
        };
        let Some((link, handle)) = session.attached() else {
            return;
        };
        let Some(mailbox) = &mut session.mailbox else {
            return;
        };
        while let Some(entry) = mailbox.next_waiting() {
            let kept = *messages.get(entry.message);
            if kept.is_expired(*time_ms) {
                let expired = mailbox
                    .drop_oldest_waiting(messages)
                    .expect("there is a next one");
                messages.release(expired.message, out);
                counters.dropped_expired += 1;
                counters.entries -= 1;
                continue;
            }
            if !mailbox.has_room(kept.len(), limits) {
                break;
            }
            let mut receiver = receiver_of(entry, handle, false);
            receiver.packet_id = Some(mailbox.send_next(kept.len()));
            counters.delivered += 1;
            out.send(link, stored(&kept, *time_ms, receiver));
            out.stored = true;
        }
    }

    /// Sends the window to a new connection, in order: what was sent with DUP, and PUBREL where the PUBREC is stored
    /// (MQTT-4.4.0-1).
    pub(super) fn send_again(&mut self, client: ClientNo, out: &mut Effects) {
        self.send_window(client, 0, true, out);
    }

    /// Sends what a connection has not had of the window: the entries behind the one with packet id `last`, all if
    /// there is none or it has left the window. PUBRELs are no part of it: those of the connection's own PUBRECs
    /// are answers, and those of earlier ones came with its CONNACK.
    pub(super) fn send_missed(
        &mut self,
        client: ClientNo,
        last: Option<PacketId>,
        out: &mut Effects,
    ) {
        let session = self.clients.get(client);
        let Some(mailbox) = session.and_then(|session| session.mailbox.as_ref()) else {
            return;
        };
        let had = last.and_then(|last| mailbox.place_in_window(last));
        let from = had.map_or(0, |place| place + 1);
        self.send_window(client, from, false, out);
    }

    fn send_window(&mut self, client: ClientNo, from: u16, releases: bool, out: &mut Effects) {
        let Self {
            clients,
            messages,
            counters,
            time_ms,
            ..
        } = self;
        let Some(session) = clients.get(client) else {
            return;
        };
        let (Some((link, handle)), Some(mailbox)) = (session.attached(), &session.mailbox) else {
            return;
        };
        for place in from..mailbox.sent {
            let entry = &mailbox.entries[usize::from(place)];
            let packet_id = mailbox.packet_id(place);
            match entry.progress {
                Progress::Open => {
                    debug_assert_ne!(entry.message, TAKEN, "taken entries are done");
                    let mut receiver = receiver_of(entry, handle, true);
                    receiver.packet_id = Some(packet_id);
                    counters.redelivered += 1;
                    out.send(
                        link,
                        stored(messages.get(entry.message), *time_ms, receiver),
                    );
                    out.stored = true;
                }
                Progress::Received if releases => {
                    let reason = ReasonCode::Success;
                    out.send(
                        link,
                        FromGroup::Release {
                            handle,
                            packet_id,
                            reason,
                        },
                    );
                }
                Progress::Received | Progress::Done => {}
            }
        }
    }
}

/// Where an answer takes an entry; `None` if it does not fit.
fn next_progress(entry: &Entry, kind: AckKind) -> Option<Progress> {
    match (entry.qos, kind, entry.progress) {
        (QoS::AtLeastOnce, AckKind::Ack, _)
        | (QoS::ExactlyOnce, AckKind::Refused, Progress::Open)
        | (QoS::ExactlyOnce, AckKind::Complete, Progress::Received) => Some(Progress::Done),
        (QoS::ExactlyOnce, AckKind::Received, _) => Some(Progress::Received),
        _ => None,
    }
}

fn receiver_of(entry: &Entry, handle: Handle, dup: bool) -> Receiver {
    let subscription_ids = entry.subscription_ids();
    let packet_id: Option<PacketId> = None;
    Receiver {
        handle,
        packet_id,
        qos: entry.qos,
        retain: entry.retain,
        dup,
        subscription_ids,
    }
}

/// A delivery whose bytes have to be read from the log. What was sent before may have expired since; it still has
/// to be completed, so it says one second.
fn stored(kept: &Kept, now_ms: u64, receiver: Receiver) -> FromGroup {
    FromGroup::Deliver(Delivery {
        body: Body::Stored(kept.at),
        expiry_s: kept.seconds_left(now_ms).map(|seconds| seconds.max(1)),
        receivers: smallvec![receiver],
    })
}
