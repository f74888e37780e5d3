//! SUBSCRIBE and UNSUBSCRIBE.

use super::effects::Effects;
use super::filters::HeldFilter;
use super::mailbox::Progress;
use super::shared::Member;
use super::state::State;
use super::subscriptions::{Options, QueueNo, Subscriber, SubscriberKey};
use cluster::frame::{FilterOutcome, FromGroup, Subscribe, Unsubscribe};
use cluster::ids::ClientNo;
use protocol::{ReasonCode, RetainHandling, SubscribeOptions, TopicFilter};

impl State {
    /// SUBSCRIBE: one code a filter; then the retained messages.
    pub(super) fn subscribe(&mut self, subscribe: Subscribe, out: &mut Effects) {
        let Subscribe {
            actor,
            packet_id,
            subscription_id,
            filters,
        } = subscribe;
        let Some(session) = self.fenced(actor) else {
            return;
        };
        let connection = session.owner.connection();
        let may_hold = !session.holds_nothing();
        let outcomes: Box<[FilterOutcome]> = filters
            .iter()
            .map(|(filter, options)| {
                if may_hold {
                    self.subscribe_one(actor.client, filter, *options, subscription_id)
                } else {
                    refused(ReasonCode::ImplementationSpecificError)
                }
            })
            .collect();
        if let Some((link, handle)) = connection {
            out.send(
                link,
                FromGroup::Subscribed {
                    handle,
                    packet_id,
                    outcomes,
                },
            );
        }
        self.pump(actor.client, out);
    }

    fn subscribe_one(
        &mut self,
        client: ClientNo,
        filter: &TopicFilter,
        options: SubscribeOptions,
        subscription_id: u32,
    ) -> FilterOutcome {
        let session = self.clients.get_mut(client).expect("checked by the caller");
        let is_new = !session.filters.contains(filter.as_str());
        if is_new && session.filters.len() >= self.limits.filters_per_session {
            self.counters.refused_filters += 1;
            return refused(ReasonCode::QuotaExceeded);
        }
        let held = HeldFilter {
            text: filter.as_str(),
            options,
            subscription_id,
        };
        session.filters.set(held);
        self.counters.subscriptions += u64::from(is_new);
        self.register(client, filter, options, subscription_id);
        // Retained messages are not sent to shared subscriptions (MQTT5 4.8.2).
        let retained = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if filter.shared().is_none() && retained {
            self.start_cursor(client, held);
        }
        FilterOutcome {
            reason: ReasonCode::granted(options.qos),
            is_new,
        }
    }

    /// Enters a subscription into the index, or its new options.
    pub(super) fn register(
        &mut self,
        client: ClientNo,
        filter: &TopicFilter,
        options: SubscribeOptions,
        subscription_id: u32,
    ) {
        let options = Options::from(options);
        let Some((kind, _, inner)) = filter.shared() else {
            let subscriber = Subscriber::Client {
                client,
                options,
                subscription_id,
            };
            self.subscriptions.insert(filter.as_str(), subscriber);
            return;
        };
        let number = self.shared.find(filter.as_str()).unwrap_or_else(|| {
            let number = self.shared.create(filter.as_str(), kind);
            self.subscriptions
                .insert(inner, Subscriber::Shared(QueueNo(number)));
            number
        });
        let member = Member {
            client,
            options,
            subscription_id,
        };
        let members = &mut self.shared.get_mut(number).members;
        match members.binary_search_by_key(&client, |member| member.client) {
            Ok(at) => members[at] = member,
            Err(at) => members.insert(at, member),
        }
        let session = self.clients.get_mut(client).expect("checked by the caller");
        let queues = &mut session.rare_mut().shared;
        if let Err(at) = queues.binary_search(&number) {
            queues.insert(at, number);
        }
    }

    /// UNSUBSCRIBE: what the mailbox holds already is still delivered (MQTT-3.10.4-3).
    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe, out: &mut Effects) {
        let actor = unsubscribe.actor;
        let Some(session) = self.fenced(actor) else {
            return;
        };
        let connection = session.owner.connection();
        let reasons: Box<[ReasonCode]> = unsubscribe
            .filters
            .iter()
            .map(|filter| self.unsubscribe_one(actor.client, filter, out))
            .collect();
        if let Some((link, handle)) = connection {
            let packet_id = unsubscribe.packet_id;
            out.send(
                link,
                FromGroup::Unsubscribed {
                    handle,
                    packet_id,
                    reasons,
                },
            );
        }
    }

    fn unsubscribe_one(
        &mut self,
        client: ClientNo,
        filter: &TopicFilter,
        out: &mut Effects,
    ) -> ReasonCode {
        let session = self.clients.get_mut(client).expect("checked by the caller");
        if !session.filters.remove(filter.as_str()) {
            return ReasonCode::NoSubscriptionExisted;
        }
        if filter.shared().is_some() {
            let queue = self
                .shared
                .find(filter.as_str())
                .expect("it has this member");
            self.keep_as_own(client, queue);
            self.leave_queue(client, queue, out);
        } else {
            self.subscriptions
                .remove(filter.as_str(), SubscriberKey::Client(client));
            self.counters.subscriptions -= 1;
            self.drop_cursor(client, filter.as_str());
        }
        ReasonCode::Success
    }

    /// What a leaving member was sent from the queue is its own from now on.
    fn keep_as_own(&mut self, client: ClientNo, queue: u32) {
        let session = self.clients.get_mut(client).expect("checked by the caller");
        let Some(mailbox) = &mut session.mailbox else {
            return;
        };
        let extras = mailbox
            .entries
            .iter_mut()
            .filter(|entry| entry.progress != Progress::Done);
        for extra in extras.filter_map(|entry| entry.extra.as_mut()) {
            if extra.shared.is_some_and(|origin| origin.queue == queue) {
                extra.shared = None;
            }
        }
    }

    /// Leaves all shared queues; what it has not acknowledged goes back to them.
    pub(super) fn leave_all_queues(&mut self, client: ClientNo, out: &mut Effects) {
        let session = self.clients.get(client).expect("checked by the caller");
        let queues = session.shared().to_vec();
        self.take_back(client, out);
        for queue in queues {
            self.leave_queue(client, queue, out);
        }
    }

    /// Takes a member out of a queue. The last one takes the queue with it.
    fn leave_queue(&mut self, client: ClientNo, number: u32, out: &mut Effects) {
        let session = self.clients.get_mut(client).expect("checked by the caller");
        session.rare_mut().shared.retain(|queue| *queue != number);
        self.counters.subscriptions -= 1;
        let queue = self.shared.get_mut(number);
        queue.members.retain(|member| member.client != client);
        queue.free_buckets(client);
        if !queue.members.is_empty() {
            self.dispatch(number, None, out);
            return;
        }
        let queue = self.shared.remove(number);
        self.volatile.last_unlogged.remove(&number);
        let filter = TopicFilter::new(&queue.filter).expect("it was one when the queue was made");
        self.subscriptions
            .remove(filter.inner(), SubscriberKey::Shared(QueueNo(number)));
        for item in queue.items {
            self.messages.release(item.message, out);
            self.counters.entries -= 1;
            self.counters.dropped_shared_end += 1;
        }
    }
}

fn refused(reason: ReasonCode) -> FilterOutcome {
    FilterOutcome {
        reason,
        is_new: false,
    }
}
