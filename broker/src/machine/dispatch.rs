//! Hands the items of shared queues to members.

use super::effects::Effects;
use super::mailbox::{Entry, Extra, Progress, SharedOrigin, TAKEN};
use super::messages::MessageKey;
use super::publish::InHand;
use super::session::Clients;
use super::shared::{Item, Member, Queue, effective, rendezvous, stable_hash};
use super::state::State;
use crate::limits::{MachineLimits, QueueFull, SHARED_LOOK_AHEAD, ShareStrategy};
use cluster::frame::{Body, Delivery, FromGroup, Receiver};
use cluster::ids::{ClientNo, Handle, LinkNo};
use protocol::{Message, QoS, ShareKind};
use smallvec::{SmallVec, smallvec};

/// Members that were found full while one queue was gone through: none of them may get a later item of it.
type Full = SmallVec<[ClientNo; 8]>;

/// What is known while one queue is gone through.
struct Pass<'a> {
    clients: &'a Clients,
    limits: &'a MachineLimits,
    /// An item's QoS as published, and its bytes.
    qos: QoS,
    len: u64,
}

impl Pass<'_> {
    fn connection(&self, client: ClientNo) -> Option<(LinkNo, Handle)> {
        self.clients.get(client)?.attached()
    }

    /// Whether the member could take the item at once.
    fn is_ready(&self, member: &Member) -> bool {
        let Some(session) = self.clients.get(member.client) else {
            return false;
        };
        let room = || {
            session
                .mailbox
                .as_ref()
                .is_none_or(|m| m.takes_now(self.len, self.limits))
        };
        session.attached().is_some()
            && (effective(self.qos, member.options) == QoS::AtMostOnce || room())
    }

    fn in_flight(&self, member: &Member) -> u16 {
        let session = self.clients.get(member.client);
        session
            .and_then(|s| s.mailbox.as_ref())
            .map_or(0, |mailbox| mailbox.sent)
    }

    /// Whose turn it is with strategies that go by nothing in the message.
    fn by_turn(&self, queue: &Queue, last: Option<ClientNo>) -> Option<ClientNo> {
        let ready = |member: &&Member| self.is_ready(member);
        let picked = match self.limits.share_strategy {
            ShareStrategy::RoundRobin | ShareStrategy::HashByClient => {
                queue.turns_after(last).find(ready)
            }
            ShareStrategy::Sticky => {
                let same = last.and_then(|last| queue.member(last)).filter(ready);
                same.or_else(|| queue.turns_after(last).find(ready))
            }
            ShareStrategy::LeastInFlight => queue
                .turns_after(last)
                .filter(ready)
                .min_by_key(|member| self.in_flight(member)),
        };
        picked.map(|member| member.client)
    }

    /// Who a key belongs to, whether there is room or not.
    fn by_hash(&self, queue: &Queue, key: u64) -> Option<ClientNo> {
        let attached = queue.members.iter().map(|member| member.client);
        rendezvous(
            key,
            attached.filter(|client| self.connection(*client).is_some()),
        )
    }
}

/// Whether one key's messages go to one member.
fn goes_by_key(queue: &Queue, limits: &MachineLimits) -> bool {
    queue.kind == ShareKind::Ordered || limits.share_strategy == ShareStrategy::HashByClient
}

impl State {
    /// What the strategy of a queue goes by.
    fn share_key(&self, queue: u32, publisher: Option<ClientNo>, message: &Message) -> u64 {
        let queue = self.shared.get(queue);
        if !goes_by_key(queue, &self.limits) {
            return 0;
        }
        let session = publisher.and_then(|client| self.clients.get(client));
        let publisher = session.map_or(&b""[..], |session| session.id.as_bytes());
        match queue.kind {
            ShareKind::Ordered => stable_hash(&[publisher, message.topic_bytes()]),
            ShareKind::Share | ShareKind::Queue => stable_hash(&[publisher]),
        }
    }

    /// A logged publish matches a shared subscription.
    pub(super) fn offer(&mut self, number: u32, in_hand: &InHand<'_>, out: &mut Effects) {
        let key = self.share_key(number, in_hand.publisher, in_hand.message);
        if in_hand.qos == QoS::AtMostOnce || !self.shared.get(number).stores() {
            if let Some(client) = self.pick(number, key, false) {
                self.shared.get_mut(number).last = Some(client);
                self.send_shared_qos0(number, client, in_hand.retain);
            }
            return;
        }
        let head = self.shared.get(number).items.front().copied();
        if !self.make_room(number, in_hand.len, out) {
            return;
        }
        self.messages.hold(in_hand.key);
        self.counters.entries += 1;
        let keyed = goes_by_key(self.shared.get(number), &self.limits);
        let queue = self.shared.get_mut(number);
        // Without keys the head goes first: where it waits for a member, so does all behind it.
        let waits = !keyed && head.is_some() && head == queue.items.front().copied();
        queue.items.push_back(Item {
            message: in_hand.key,
            key,
            retain: in_hand.retain,
        });
        queue.bytes += in_hand.len;
        if !waits {
            self.dispatch(number, Some((in_hand.key, in_hand.message)), out);
        }
    }

    /// A publish that needs no storing matches a shared subscription: one attached member gets it at QoS 0.
    pub(super) fn pick_unlogged(
        &mut self,
        number: u32,
        message: &Message,
        publisher: Option<ClientNo>,
        retain: bool,
    ) {
        let key = self.share_key(number, publisher, message);
        if let Some(client) = self.pick(number, key, true) {
            self.volatile.last_unlogged.insert(number, client);
            self.send_shared_qos0(number, client, retain);
        }
    }

    /// Who gets a message at QoS 0.
    fn pick(&mut self, number: u32, key: u64, unlogged: bool) -> Option<ClientNo> {
        let queue = self.shared.get(number);
        let pass = Pass {
            clients: &self.clients,
            limits: &self.limits,
            qos: QoS::AtMostOnce,
            len: 0,
        };
        let picked = if goes_by_key(queue, &self.limits) {
            let owner = queue
                .bucket_owner(key)
                .filter(|c| pass.connection(*c).is_some());
            owner.or_else(|| pass.by_hash(queue, key))
        } else {
            pass.by_turn(
                queue,
                if unlogged {
                    self.volatile.last_unlogged.get(&number).copied()
                } else {
                    queue.last
                },
            )
        };
        if picked.is_none() {
            self.counters.dropped_shared_qos0 += 1;
        }
        picked
    }

    fn send_shared_qos0(&mut self, number: u32, client: ClientNo, retain: bool) {
        let member = *self
            .shared
            .get(number)
            .member(client)
            .expect("members are picked");
        let session = self.clients.get(client).expect("members are sessions");
        let (link, handle) = session.attached().expect("attached members are picked");
        self.counters.delivered += 1;
        self.volatile.fan_out.add(
            link,
            receiver(handle, None, QoS::AtMostOnce, retain, &member),
        );
    }

    /// Room for one more item, by the rule for a full queue; `false`: the new one goes.
    fn make_room(&mut self, number: u32, len: u64, out: &mut Effects) -> bool {
        let Self {
            shared,
            messages,
            limits,
            counters,
            ..
        } = self;
        let queue = shared.get_mut(number);
        while queue.items.len() >= limits.shared_messages || queue.bytes + len > limits.shared_bytes
        {
            counters.dropped_shared_full += 1;
            let oldest = match limits.queue_full {
                QueueFull::DropOldest => queue.take(0, messages),
                QueueFull::DropNewest | QueueFull::Refuse => None,
            };
            let Some(oldest) = oldest else { return false };
            messages.release(oldest.message, out);
            counters.entries -= 1;
        }
        true
    }

    /// Hands out items until no member can take one. `in_hand` is the message of the publish at hand.
    pub(super) fn dispatch(
        &mut self,
        number: u32,
        in_hand: Option<(MessageKey, &Message)>,
        out: &mut Effects,
    ) {
        let mut full = Full::new();
        let mut place = 0;
        while let Some(item) = self.shared.get(number).items.get(place).copied() {
            let kept = *self.messages.get(item.message);
            if kept.is_expired(self.time_ms) {
                self.shared.get_mut(number).take(place, &self.messages);
                self.messages.release(item.message, out);
                self.counters.entries -= 1;
                self.counters.dropped_expired += 1;
                continue;
            }
            match self.choose(number, &item, &mut full) {
                Some(client) => {
                    self.shared.get_mut(number).take(place, &self.messages);
                    self.hand_over(number, item, client, in_hand, out);
                }
                None if full.is_empty() || place >= SHARED_LOOK_AHEAD => break,
                None => place += 1,
            }
        }
        let queue = self.shared.get_mut(number);
        if queue.items.is_empty() && queue.items.capacity() > crate::limits::MAILBOX_KEEP {
            queue.items = std::collections::VecDeque::new();
        }
    }

    /// The member that takes the item now. A member that should and cannot is put on the list of full ones; the
    /// list stays empty where that stops the whole queue.
    fn choose(&mut self, number: u32, item: &Item, full: &mut Full) -> Option<ClientNo> {
        let kept = self.messages.get(item.message);
        let (qos, len) = (kept.qos, kept.len());
        let pass = Pass {
            clients: &self.clients,
            limits: &self.limits,
            qos,
            len,
        };
        let queue = self.shared.get(number);
        if !goes_by_key(queue, &self.limits) {
            let client = pass.by_turn(queue, queue.last)?;
            self.shared.get_mut(number).last = Some(client);
            return Some(client);
        }
        let client = match queue.kind {
            ShareKind::Share | ShareKind::Queue => pass.by_hash(queue, item.key)?,
            ShareKind::Ordered => self.ordered_owner(number, item.key)?,
        };
        let pass = Pass {
            clients: &self.clients,
            limits: &self.limits,
            qos,
            len,
        };
        let member = self.shared.get(number).member(client)?;
        if full.contains(&client) {
            return None;
        }
        if !pass.is_ready(member) {
            full.push(client);
            return None;
        }
        Some(client)
    }

    /// Who has this key's part of an ordered queue; one that is nobody's goes to the next in turn.
    fn ordered_owner(&mut self, number: u32, key: u64) -> Option<ClientNo> {
        let clients = &self.clients;
        let is_attached =
            |client: &ClientNo| clients.get(*client).is_some_and(|s| s.attached().is_some());
        let queue = self.shared.get_mut(number);
        if let Some(owner) = queue.bucket_owner(key).filter(is_attached) {
            return Some(owner);
        }
        let next = queue
            .turns_after(queue.last)
            .map(|member| member.client)
            .find(is_attached)?;
        queue.last = Some(next);
        queue.set_bucket_owner(key, next);
        Some(next)
    }

    fn hand_over(
        &mut self,
        number: u32,
        item: Item,
        client: ClientNo,
        in_hand: Option<(MessageKey, &Message)>,
        out: &mut Effects,
    ) {
        let Self {
            clients,
            messages,
            shared,
            counters,
            volatile,
            ..
        } = self;
        let kept = *messages.get(item.message);
        let member = *shared
            .get(number)
            .member(client)
            .expect("members are chosen");
        let session = clients.get_mut(client).expect("members are sessions");
        let (link, handle) = session.attached().expect("attached members are chosen");
        let qos = effective(kept.qos, member.options);
        let retain = item.retain && member.options.retain_as_published();
        counters.delivered += 1;
        let packet_id = (qos > QoS::AtMostOnce).then(|| {
            let origin = SharedOrigin {
                queue: number,
                key: item.key,
                retain: item.retain,
            };
            let mut entry = Entry::new(item.message, qos, retain, None);
            let subscription_ids = ids(&member);
            entry.extra = Some(Box::new(Extra {
                subscription_ids,
                shared: Some(origin),
            }));
            session.mailbox_mut().push_sent(entry, kept.len())
        });
        let receiver = receiver(handle, packet_id, qos, item.retain, &member);
        match in_hand {
            Some((key, _)) if key == item.message => volatile.fan_out.add(link, receiver),
            _ => {
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
        if packet_id.is_none() {
            // At QoS 0 the item is done with; else its reference is the entry's now.
            messages.release(item.message, out);
            counters.entries -= 1;
        }
    }

    /// A member is detached or gone: its unacknowledged QoS 1 entries go back to their places in their queues, and
    /// others get them. QoS 2 entries stay with it (MQTT5 4.8.2).
    pub(super) fn take_back(&mut self, client: ClientNo, out: &mut Effects) {
        let Self {
            clients,
            messages,
            shared,
            counters,
            ..
        } = self;
        let Some(session) = clients.get_mut(client) else {
            return;
        };
        let queues: SmallVec<[u32; 8]> = SmallVec::from_slice(session.shared());
        if queues.is_empty() {
            return;
        }
        if let Some(mailbox) = &mut session.mailbox {
            for entry in mailbox.entries.iter_mut().take(usize::from(mailbox.sent)) {
                let origin = entry.extra.as_ref().and_then(|extra| extra.shared);
                let Some(origin) = origin else { continue };
                if entry.qos != QoS::AtLeastOnce || entry.progress != Progress::Open {
                    continue;
                }
                let message = std::mem::replace(&mut entry.message, TAKEN);
                entry.progress = Progress::Done;
                mailbox.window_bytes -= messages.get(message).len();
                let item = Item {
                    message,
                    key: origin.key,
                    retain: origin.retain,
                };
                shared.get_mut(origin.queue).put_back(item, messages);
            }
            counters.entries -= mailbox.pop_done(messages, out);
        }
        for queue in queues {
            self.shared.get_mut(queue).free_buckets(client);
            self.dispatch(queue, None, out);
        }
    }
}

fn ids(member: &Member) -> cluster::frame::SubscriptionIds {
    (member.subscription_id != 0).then(|| Box::from([member.subscription_id]))
}

fn receiver(
    handle: Handle,
    packet_id: Option<protocol::PacketId>,
    qos: QoS,
    retain: bool,
    member: &Member,
) -> Receiver {
    let retain = retain && member.options.retain_as_published();
    Receiver {
        handle,
        packet_id,
        qos,
        retain,
        dup: false,
        subscription_ids: ids(member),
    }
}
