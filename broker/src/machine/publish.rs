//! PUBLISH: who gets it, what is stored for it, and the answer.

use super::effects::Effects;
use super::mailbox::Entry;
use super::messages::MessageKey;
use super::shared::effective;
use super::state::State;
use super::subscriptions::{QueueNo, Subscriber};
use crate::faults::{self, Fault};
use crate::limits::{QueueFull, UNLOGGED_IDS};
use cluster::frame::{FromGroup, Publish, Receiver, StoredAt, SubscriptionIds};
use cluster::ids::{Actor, ClientNo, Handle, LinkNo};
use protocol::{Message, PacketId, QoS, ReasonCode};

/// One client's matching subscriptions, merged: it gets one copy.
struct Target {
    client: ClientNo,
    /// The highest granted of all that match.
    qos: QoS,
    retain_as_published: bool,
    subscription_ids: SubscriptionIds,
}

/// A publish at hand.
pub(super) struct InHand<'a> {
    pub(super) publisher: Option<ClientNo>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) message: &'a Message,
    pub(super) key: MessageKey,
    /// Its bytes in the log.
    pub(super) len: u64,
}

impl State {
    /// Whether some match needs the publish stored: it is retained, or some match has an effective QoS of at least
    /// 1, or it is of QoS 2 and there is any subscription. At QoS 2 also when its packet id could not be remembered.
    pub fn must_log(&self, publish: &Publish) -> bool {
        if publish.retain {
            return true;
        }
        let topic = publish.message.topic_bytes();
        match publish.qos {
            QoS::AtMostOnce => false,
            QoS::AtLeastOnce => {
                self.subscriptions
                    .any_match(topic, |subscriber| match subscriber {
                        Subscriber::Client { options, .. } => options.qos() > QoS::AtMostOnce,
                        Subscriber::Shared(queue) => self.shared.get(queue.0).stores(),
                    })
            }
            QoS::ExactlyOnce => {
                self.volatile.unlogged_ids.len() >= UNLOGGED_IDS
                    || self.subscriptions.any_match(topic, |_| true)
            }
        }
    }

    /// A publish that needs no log entry ([`State::must_log`]): to who is connected, at QoS 0.
    ///
    /// Changes nothing that a replica must agree on.
    pub fn deliver_unlogged(&mut self, now_ms: u64, publish: Publish, out: &mut Effects) {
        debug_assert!(
            now_ms >= self.time_ms,
            "the leader's time is at least that of its last entry"
        );
        let Publish {
            actor,
            packet_id,
            qos,
            retain,
            message,
        } = publish;
        let is_nobodys = is_nobodys(actor, qos);
        let publisher = if is_nobodys {
            None
        } else {
            let Some(session) = self.fenced(actor) else {
                return;
            };
            session.attached()
        };
        if publisher.is_none() && !is_nobodys {
            // As in `publish`.
            self.counters.fenced += 1;
            return;
        }
        self.counters.published_unlogged += 1;
        let mut hits = std::mem::take(&mut self.volatile.hits);
        self.subscriptions.collect(message.topic_bytes(), &mut hits);
        let mut rest = hits.as_slice();
        let mut matched = false;
        while let Some(first) = rest.first() {
            if let Subscriber::Shared(queue) = first {
                rest = &rest[1..];
                matched = true;
                self.pick_unlogged(queue.0, &message, Some(actor.client), retain);
            } else if let Some(target) = next_target(&mut rest, Some(actor.client)) {
                matched = true;
                self.send_qos0(target, retain);
            }
        }
        self.volatile.hits = hits;
        self.volatile.fan_out.send(message, out);
        if let (Some(publisher), Some(packet_id)) = (publisher, packet_id) {
            self.answer_unlogged(actor, publisher, (packet_id, qos), matched, out);
        }
    }

    /// The answer to a publish that needs no log entry and that was sent again: it was delivered, or lost, the first
    /// time, and at QoS 0 nothing is delivered twice.
    pub fn answer_unlogged_again(&mut self, publish: &Publish, out: &mut Effects) {
        let actor = publish.actor;
        let Some(session) = self.fenced(actor) else {
            return;
        };
        let publisher = session.attached();
        let topic = publish.message.topic_bytes();
        let matched = self.subscriptions.any_match(topic, |_| true);
        if let (Some(publisher), Some(packet_id)) = (publisher, publish.packet_id) {
            let id_and_qos = (packet_id, publish.qos);
            self.answer_unlogged(actor, publisher, id_and_qos, matched, out);
        }
    }

    fn answer_unlogged(
        &mut self,
        actor: Actor,
        (link, handle): (LinkNo, Handle),
        (packet_id, qos): (PacketId, QoS),
        matched: bool,
        out: &mut Effects,
    ) {
        if qos == QoS::ExactlyOnce {
            self.volatile
                .unlogged_ids
                .insert((actor.client, actor.epoch, packet_id));
        }
        let reason = success(matched);
        out.send(
            link,
            FromGroup::Published {
                handle,
                packet_id,
                qos,
                reason,
            },
        );
    }

    /// A logged publish.
    pub(super) fn publish(&mut self, publish: Publish, at: StoredAt, out: &mut Effects) {
        if is_nobodys(publish.actor, publish.qos) {
            self.counters.published_logged += 1;
            // There is nobody to tell; a refusal is counted.
            let _reason = self.store_and_deliver(None, publish, at, out);
            return;
        }
        let Some(session) = self.fenced(publish.actor) else {
            return;
        };
        let Some((link, handle)) = session.owner.connection() else {
            // Its link was given up, and nobody is left to be answered: the client sends it again, and what it sent
            // before it too, in order.
            self.counters.fenced += 1;
            return;
        };
        let (actor, packet_id, qos) = (publish.actor, publish.packet_id, publish.qos);
        self.counters.published_logged += 1;
        let reason = match packet_id {
            Some(id) if qos == QoS::ExactlyOnce => self.publish_once(id, publish, at, out),
            _ => self.store_and_deliver(Some(actor.client), publish, at, out),
        };
        if packet_id.is_some() && reason.is_error() {
            let (link, number) = self.context.numbered();
            self.producers.refuse(link, number);
        }
        if let Some(packet_id) = packet_id {
            out.send(
                link,
                FromGroup::Published {
                    handle,
                    packet_id,
                    qos,
                    reason,
                },
            );
        }
    }

    /// QoS 2: an open packet id is answered again, and its message not delivered again (MQTT-4.3.3-10).
    fn publish_once(
        &mut self,
        packet_id: PacketId,
        publish: Publish,
        at: StoredAt,
        out: &mut Effects,
    ) -> ReasonCode {
        let client = publish.actor.client;
        let ids_max = self.limits.qos2_ids;
        let session = self.clients.get(client);
        if session.is_some_and(super::session::Session::holds_nothing) {
            return ReasonCode::ImplementationSpecificError;
        }
        let open = session.and_then(|session| session.rare.as_ref());
        let open: &[u16] = open.map_or(&[], |rare| &rare.qos2_ids);
        let is_open = open.binary_search(&packet_id.get()).is_ok();
        if is_open && !faults::is_on(Fault::ForgetDeduplication) {
            self.counters.qos2_duplicates += 1;
            return ReasonCode::Success;
        }
        if open.len() >= ids_max {
            self.counters.refused_qos2_ids += 1;
            return ReasonCode::QuotaExceeded;
        }
        let reason = self.store_and_deliver(Some(client), publish, at, out);
        // A refusal ends the exchange: the packet id is free again (MQTT5 4.3.3).
        if reason.as_u8() < 0x80 {
            let session = self.clients.get_mut(client).expect("it has just published");
            let ids = &mut session.rare_mut().qos2_ids;
            if let Err(place) = ids.binary_search(&packet_id.get()) {
                ids.insert(place, packet_id.get());
            }
        }
        reason
    }

    /// PUBREL: the packet id is free again.
    pub(super) fn release(&mut self, actor: Actor, packet_id: PacketId, out: &mut Effects) {
        let Some(session) = self.fenced_mut(actor) else {
            return;
        };
        let connection = session.owner.connection();
        let ids = session.rare.as_mut().map(|rare| &mut rare.qos2_ids);
        let held = ids.is_some_and(|ids| match ids.binary_search(&packet_id.get()) {
            Ok(place) => {
                ids.remove(place);
                true
            }
            Err(_) => false,
        });
        // Whether the publish was stored makes no difference to the client.
        let unlogged = self
            .volatile
            .unlogged_ids
            .remove(&(actor.client, actor.epoch, packet_id));
        let reason = if held || unlogged {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        if let Some((link, handle)) = connection {
            out.send(
                link,
                FromGroup::Released {
                    handle,
                    packet_id,
                    reason,
                },
            );
        }
    }

    /// Stores a message for everybody who needs it stored, and sends it to who can take it now.
    pub(super) fn store_and_deliver(
        &mut self,
        publisher: Option<ClientNo>,
        publish: Publish,
        at: StoredAt,
        out: &mut Effects,
    ) -> ReasonCode {
        let Publish {
            qos,
            retain,
            message,
            ..
        } = publish;
        let mut hits = std::mem::take(&mut self.volatile.hits);
        self.subscriptions.collect(message.topic_bytes(), &mut hits);
        let refused = self.refuses(publisher, qos, retain, &message, at, &hits);
        if !refused {
            let expires_at_ms = message
                .expiry_s()
                .map_or(u64::MAX, |seconds| self.time_ms + u64::from(seconds) * 1000);
            let key = self.messages.insert(at, expires_at_ms, self.seq, qos, out);
            let len = u64::from(at.len);
            let in_hand = InHand {
                publisher,
                qos,
                retain,
                message: &message,
                key,
                len,
            };
            if retain {
                self.retain(&in_hand, out);
            }
            self.deposit_all(&hits, &in_hand, out);
            self.messages.release(key, out);
            self.volatile.fan_out.send(message, out);
        }
        let matched = !hits.is_empty();
        self.volatile.hits = hits;
        if refused {
            ReasonCode::QuotaExceeded
        } else {
            success(matched)
        }
    }

    fn deposit_all(&mut self, hits: &[Subscriber], in_hand: &InHand<'_>, out: &mut Effects) {
        let mut rest = hits;
        while let Some(first) = rest.first() {
            if let Subscriber::Shared(QueueNo(queue)) = *first {
                rest = &rest[1..];
                self.offer(queue, in_hand, out);
            } else if let Some(target) = next_target(&mut rest, in_hand.publisher) {
                self.deposit(target, in_hand, out);
            }
        }
    }

    /// Gives one client its copy.
    fn deposit(&mut self, target: Target, in_hand: &InHand<'_>, out: &mut Effects) {
        let qos = in_hand.qos.min(target.qos);
        if qos == QoS::AtMostOnce {
            self.send_qos0(target, in_hand.retain);
            return;
        }
        let retain = in_hand.retain && target.retain_as_published;
        let entry = Entry::new(in_hand.key, qos, retain, target.subscription_ids);
        let Self {
            clients,
            messages,
            limits,
            counters,
            volatile,
            ..
        } = self;
        let session = clients
            .get_mut(target.client)
            .expect("subscribers are sessions");
        let attached = session.attached();
        let mailbox = session.mailbox_mut();
        let Some((link, handle)) = attached.filter(|_| mailbox.takes_now(in_hand.len, limits))
        else {
            self.put_waiting(target.client, entry, in_hand.len, out);
            return;
        };
        messages.hold(in_hand.key);
        counters.entries += 1;
        counters.delivered += 1;
        let subscription_ids = entry.subscription_ids();
        let packet_id = Some(mailbox.push_sent(entry, in_hand.len));
        volatile.fan_out.add(
            link,
            Receiver {
                handle,
                packet_id,
                qos,
                retain,
                dup: false,
                subscription_ids,
            },
        );
    }

    /// Puts an entry behind the window, by the rule for a full queue.
    pub(super) fn put_waiting(
        &mut self,
        client: ClientNo,
        entry: Entry,
        len: u64,
        out: &mut Effects,
    ) {
        let Self {
            clients,
            messages,
            limits,
            counters,
            ..
        } = self;
        let session = clients.get_mut(client).expect("subscribers are sessions");
        let mailbox = session.mailbox_mut();
        while mailbox.is_full(len, limits) {
            let oldest = match limits.queue_full {
                QueueFull::DropOldest => mailbox.drop_oldest_waiting(messages),
                QueueFull::DropNewest | QueueFull::Refuse => None,
            };
            let Some(oldest) = oldest else {
                counters.dropped_newest += 1;
                return;
            };
            messages.release(oldest.message, out);
            counters.dropped_oldest += 1;
            counters.entries -= 1;
        }
        messages.hold(entry.message);
        counters.entries += 1;
        mailbox.push_waiting(entry, len);
    }

    fn send_qos0(&mut self, target: Target, retain: bool) {
        let session = self
            .clients
            .get(target.client)
            .expect("subscribers are sessions");
        let Some((link, handle)) = session.attached() else {
            return;
        };
        self.counters.delivered += 1;
        let receiver = Receiver {
            handle,
            packet_id: None,
            qos: QoS::AtMostOnce,
            retain: retain && target.retain_as_published,
            dup: false,
            subscription_ids: target.subscription_ids,
        };
        self.volatile.fan_out.add(link, receiver);
    }

    /// Whether a limit refuses the publish as a whole; counted by reason.
    fn refuses(
        &mut self,
        publisher: Option<ClientNo>,
        qos: QoS,
        retain: bool,
        message: &Message,
        at: StoredAt,
        hits: &[Subscriber],
    ) -> bool {
        let len = u64::from(at.len);
        let stores = retain || (qos > QoS::AtMostOnce && !hits.is_empty());
        let full = self.messages.len() >= self.limits.group_messages
            || self.messages.bytes() + len > self.limits.group_bytes
            || self.counters.entries >= self.limits.group_entries;
        let counter = if stores && full {
            &mut self.counters.refused_group_full
        } else if retain && !self.retained_has_room(message, len) {
            &mut self.counters.refused_retained
        } else if self.limits.queue_full == QueueFull::Refuse
            && self.meets_full_queue(publisher, qos, len, hits)
        {
            &mut self.counters.refused_queue_full
        } else {
            return false;
        };
        *counter += 1;
        if qos == QoS::AtMostOnce {
            self.counters.dropped_qos0 += 1;
        }
        true
    }

    fn meets_full_queue(
        &self,
        publisher: Option<ClientNo>,
        qos: QoS,
        len: u64,
        hits: &[Subscriber],
    ) -> bool {
        hits.iter().any(|hit| match hit {
            Subscriber::Shared(queue) => {
                let queue = self.shared.get(queue.0);
                qos > QoS::AtMostOnce
                    && queue.stores()
                    && (queue.items.len() >= self.limits.shared_messages
                        || queue.bytes + len > self.limits.shared_bytes)
            }
            Subscriber::Client {
                client, options, ..
            } => {
                let own = options.no_local() && Some(*client) == publisher;
                if own || effective(qos, *options) == QoS::AtMostOnce {
                    return false;
                }
                let session = self.clients.get(*client).expect("subscribers are sessions");
                let attached = session.attached().is_some();
                let mailbox = session.mailbox.as_ref();
                mailbox.is_some_and(|mailbox| {
                    !(attached && mailbox.takes_now(len, &self.limits))
                        && mailbox.is_full(len, &self.limits)
                })
            }
        })
    }
}

/// Whether a publish comes from a connection that has not joined the group: no session stands for it, and none is
/// needed where nothing is answered.
fn is_nobodys(actor: Actor, qos: QoS) -> bool {
    qos == QoS::AtMostOnce && actor == Actor::NOBODY
}

fn success(matched: bool) -> ReasonCode {
    if matched {
        ReasonCode::Success
    } else {
        ReasonCode::NoMatchingSubscribers
    }
}

/// Takes the adjacent hits of one client off `rest` and merges them (MQTT-3.3.4-3): the highest QoS, all
/// subscription ids, RETAIN kept if any keeps it. `None` if all of them are the publisher's own with no local
/// (MQTT-3.8.3-3).
fn next_target(rest: &mut &[Subscriber], publisher: Option<ClientNo>) -> Option<Target> {
    let mut merged: Option<Target> = None;
    let mut of: Option<ClientNo> = None;
    while let Some(Subscriber::Client {
        client,
        options,
        subscription_id,
    }) = rest.first().copied()
    {
        if *of.get_or_insert(client) != client {
            break;
        }
        *rest = &rest[1..];
        if options.no_local() && Some(client) == publisher {
            continue;
        }
        let granted = effective(QoS::ExactlyOnce, options);
        let target = merged.get_or_insert(Target {
            client,
            qos: granted,
            retain_as_published: false,
            subscription_ids: None,
        });
        target.qos = target.qos.max(granted);
        target.retain_as_published |= options.retain_as_published();
        if subscription_id != 0 {
            let ids = target.subscription_ids.take().unwrap_or_default();
            let mut ids = ids.into_vec();
            ids.push(subscription_id);
            target.subscription_ids = Some(ids.into_boxed_slice());
        }
    }
    merged
}
