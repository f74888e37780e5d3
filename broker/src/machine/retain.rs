//! Retained messages: storing them, and sending them to new subscriptions (MQTT5 3.3.1.3).
//!
//! A subscription's retained messages are read page by page. Where the reading has come to is stored, so it goes on
//! after a reconnect or a leader change, and stands in one order with live messages: a topic that was published to
//! after the SUBSCRIBE is skipped, since the subscription has got that live.

use super::effects::{Effects, LeaderEffect};
use super::filters::HeldFilter;
use super::mailbox::Entry;
use super::messages::MessageKey;
use super::publish::InHand;
use super::retained::{Cursor, PageLimits, RetainedEntry};
use super::session::Owner;
use super::shared::effective;
use super::state::State;
use super::subscriptions::Options;
use crate::limits::{RETAINED_PAGE, RETAINED_STEPS};
use cluster::frame::{Body, Delivery, FromGroup, Receiver, SubscriptionIds};
use cluster::ids::{Actor, ClientNo};
use protocol::{Message, QoS};
use smallvec::smallvec;

/// Retained messages that a subscription has still to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PendingRetained {
    pub(super) filter: Box<str>,
    pub(super) options: Options,
    /// 0 where there is none.
    pub(super) subscription_id: u32,
    /// Topics changed after this command are skipped.
    pub(super) seq: u64,
    /// Where the next page begins.
    pub(super) from: Option<Cursor>,
}

impl PendingRetained {
    fn ids(&self) -> SubscriptionIds {
        (self.subscription_id != 0).then(|| Box::from([self.subscription_id]))
    }

    fn is_qos0(&self) -> bool {
        self.options.qos() == QoS::AtMostOnce
    }
}

const PAGE: PageLimits = PageLimits {
    matches_max: RETAINED_PAGE,
    steps_max: RETAINED_STEPS,
};

impl State {
    /// Whether the message may be retained, beside what is there.
    pub(super) fn retained_has_room(&self, message: &Message, len: u64) -> bool {
        if message.payload().is_empty() {
            return true;
        }
        let held = self.retained.get(message.topic());
        let held_len = held.map_or(0, |held| self.messages.get(MessageKey(held.message)).len());
        (held.is_some() || (self.retained.len() as u64) < self.limits.retained_messages)
            && self.counters.retained_bytes - held_len + len <= self.limits.retained_bytes
    }

    /// Sets or removes what is retained for the topic (MQTT-3.3.1-5, MQTT-3.3.1-6).
    pub(super) fn retain(&mut self, in_hand: &InHand<'_>, out: &mut Effects) {
        let topic = in_hand.message.topic();
        let old = if in_hand.message.payload().is_empty() {
            self.retained.remove(topic)
        } else {
            self.messages.hold(in_hand.key);
            self.counters.retained_bytes += in_hand.len;
            let kept = *self.messages.get(in_hand.key);
            if kept.expires_at_ms != u64::MAX {
                self.retained_expiry
                    .insert((kept.expires_at_ms, kept.seq), topic.into());
            }
            self.retained.set(
                topic,
                RetainedEntry {
                    message: in_hand.key.0,
                    index: self.seq,
                },
            )
        };
        if let Some(old) = old {
            self.release_retained(old, out);
        }
    }

    fn release_retained(&mut self, entry: RetainedEntry, out: &mut Effects) {
        let key = MessageKey(entry.message);
        let kept = *self.messages.get(key);
        self.retained_expiry.remove(&(kept.expires_at_ms, kept.seq));
        self.counters.retained_bytes -= kept.len();
        self.messages.release(key, out);
    }

    /// Removes retained messages that have expired, at most `budget`.
    pub(super) fn expire_retained(&mut self, budget: usize, out: &mut Effects) {
        for _ in 0..budget {
            let Some(first) = self.retained_expiry.first_entry() else {
                return;
            };
            if first.key().0 > self.time_ms {
                return;
            }
            let topic = first.remove();
            if let Some(entry) = self.retained.remove(&topic) {
                self.release_retained(entry, out);
            }
        }
    }

    /// A subscription is to get the retained messages that match now.
    pub(super) fn start_cursor(&mut self, client: ClientNo, filter: HeldFilter<'_>) {
        self.drop_cursor(client, filter.text);
        if self.retained.is_empty() {
            return;
        }
        let pending = PendingRetained {
            filter: filter.text.into(),
            options: Options::from(filter.options),
            subscription_id: filter.subscription_id,
            seq: self.seq,
            from: None,
        };
        let session = self.clients.get_mut(client).expect("checked by the caller");
        session.rare_mut().cursors.push(pending);
    }

    pub(super) fn drop_cursor(&mut self, client: ClientNo, filter: &str) {
        let session = self.clients.get_mut(client);
        if let Some(rare) = session.and_then(|session| session.rare.as_mut()) {
            rare.cursors.retain(|pending| *pending.filter != *filter);
        }
    }

    /// QoS 0 needs no delivery to who is not connected.
    pub(super) fn drop_qos0_cursors(&mut self, client: ClientNo) {
        let session = self.clients.get_mut(client);
        if let Some(rare) = session.and_then(|session| session.rare.as_mut()) {
            rare.cursors.retain(|pending| !pending.is_qos0());
        }
    }

    /// The leader says that it is time for the next page.
    pub(super) fn page(&mut self, actor: Actor, out: &mut Effects) {
        let Some(session) = self.fenced_mut(actor) else {
            return;
        };
        if let Some(rare) = &mut session.rare {
            rare.page_asked = false;
        }
        self.run_cursors(actor.client, out);
    }

    /// Sends one page to a subscription that has retained messages left, and room for them in the mailbox. Where
    /// another page could follow at once, the leader is asked for it, so that one command stays short.
    pub(super) fn run_cursors(&mut self, client: ClientNo, out: &mut Effects) {
        if let Some(mut pending) = self.next_cursor(client) {
            pending.from = self.send_page(client, &pending, out);
            if pending.from.is_some() {
                let session = self.clients.get_mut(client).expect("it was there");
                session.rare_mut().cursors.push(pending);
            }
        }
        let more = self.runnable_cursor(client).is_some();
        let Some(session) = self.clients.get_mut(client) else {
            return;
        };
        let actor = Actor {
            client,
            epoch: session.epoch,
        };
        // While nobody is connected the next Attach goes on.
        let is_owned = session.owner != Owner::None;
        if let Some(rare) = &mut session.rare
            && more
            && is_owned
            && !rare.page_asked
        {
            rare.page_asked = true;
            out.leader.push(LeaderEffect::PagesLeft { actor });
        }
    }

    /// The first subscription that could get a page now: the mailbox has room, or it needs none.
    fn runnable_cursor(&self, client: ClientNo) -> Option<usize> {
        let cursors = self.clients.get(client)?.cursors();
        let has_room = self.has_page_room(client);
        cursors
            .iter()
            .position(|pending| pending.is_qos0() || has_room)
    }

    fn next_cursor(&mut self, client: ClientNo) -> Option<PendingRetained> {
        let place = self.runnable_cursor(client)?;
        let rare = self.clients.get_mut(client)?.rare.as_mut()?;
        Some(rare.cursors.remove(place))
    }

    /// A page goes into the mailbox when less than a page waits there.
    fn has_page_room(&self, client: ClientNo) -> bool {
        let mailbox = self
            .clients
            .get(client)
            .and_then(|session| session.mailbox.as_ref());
        mailbox.is_none_or(|mailbox| mailbox.waiting() < RETAINED_PAGE)
    }

    /// Sends the next page; returns where the one after begins.
    fn send_page(
        &mut self,
        client: ClientNo,
        pending: &PendingRetained,
        out: &mut Effects,
    ) -> Option<Cursor> {
        let mut page = std::mem::take(&mut self.volatile.page);
        page.clear();
        let next = self
            .retained
            .page(&pending.filter, pending.from.as_ref(), PAGE, &mut page);
        for entry in page.iter().filter(|entry| entry.index <= pending.seq) {
            self.send_retained(client, pending, MessageKey(entry.message), out);
        }
        self.volatile.page = page;
        next
    }

    fn send_retained(
        &mut self,
        client: ClientNo,
        pending: &PendingRetained,
        key: MessageKey,
        out: &mut Effects,
    ) {
        let kept = *self.messages.get(key);
        if kept.is_expired(self.time_ms) {
            return;
        }
        let qos = effective(kept.qos, pending.options);
        let session = self.clients.get_mut(client).expect("checked by the caller");
        let attached = session.attached();
        let mut receiver = match attached {
            Some((_, handle)) => Receiver {
                handle,
                packet_id: None,
                qos,
                retain: true,
                dup: false,
                subscription_ids: pending.ids(),
            },
            None if qos == QoS::AtMostOnce => return,
            None => {
                let entry = Entry::new(key, qos, true, pending.ids());
                self.put_waiting(client, entry, kept.len(), out);
                return;
            }
        };
        if qos > QoS::AtMostOnce {
            let entry = Entry::new(key, qos, true, pending.ids());
            let mailbox = session.mailbox_mut();
            if !mailbox.takes_now(kept.len(), &self.limits) {
                self.put_waiting(client, entry, kept.len(), out);
                return;
            }
            self.messages.hold(key);
            self.counters.entries += 1;
            receiver.packet_id = Some(mailbox.push_sent(entry, kept.len()));
        }
        let Some((link, _)) = attached else { return };
        self.counters.delivered += 1;
        let expiry_s = kept.seconds_left(self.time_ms);
        let body = Body::Stored(kept.at);
        let receivers = smallvec![receiver];
        out.send(
            link,
            FromGroup::Deliver(Delivery {
                body,
                expiry_s,
                receivers,
            }),
        );
        out.stored = true;
    }
}
