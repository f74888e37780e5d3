//! A publisher and a subscriber on one link: every publish is answered once, and delivered once and in order.

use super::frames::number;
use super::shard_end::{Client, ShardEnd};
use cluster::frame::FromGroup;
use mqtt_fleet_proxy::link_client::{
    LinkClient, LinkClientConfig, LinkCounters, RunningLinkClient,
};
use protocol::{QoS, ReasonCode};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Unanswered publishes of the publisher; fewer than it has packet ids.
const WINDOW: usize = 100;

pub(crate) struct Traffic {
    client: RunningLinkClient,
    shard: ShardEnd,
    publisher: Client,
    subscriber: Client,
    /// Packet ids that wait for their answer, oldest first.
    open: VecDeque<u16>,
    published: u32,
    answered: u32,
    delivered: u32,
}

impl Traffic {
    pub(crate) fn start(config: LinkClientConfig) -> Self {
        let mut client = LinkClient::new(config).expect("descriptors are left");
        let mut shard = ShardEnd::new(&mut client);
        let client = client.start().expect("a thread is free");
        let subscriber = shard.connect("subscriber");
        shard.subscribe(subscriber, "a/#", QoS::AtLeastOnce);
        let publisher = shard.connect("publisher");
        Self {
            client,
            shard,
            publisher,
            subscriber,
            open: VecDeque::new(),
            published: 0,
            answered: 0,
            delivered: 0,
        }
    }

    /// Of the link.
    pub(crate) fn counters(&self) -> Arc<LinkCounters> {
        Arc::clone(&self.client.counters()[0])
    }

    /// Publishes until `count` have been published in all.
    pub(crate) fn publish_to(&mut self, count: u32) {
        let mut frames = Vec::new();
        while self.published < count && self.open.len() < WINDOW {
            self.published += 1;
            let publisher = self.publisher;
            let frame = self
                .shard
                .publish(publisher, "a/b", self.published, QoS::AtLeastOnce);
            let cluster::frame::ToGroup::Publish(publish) = &frame else {
                unreachable!("it is a publish");
            };
            self.open.push_back(publish.packet_id.expect("QoS 1").get());
            frames.push(frame);
        }
        self.shard.send(frames);
    }

    /// Takes the next frame: every answer once, every delivery once and in order.
    fn take_one(&mut self) {
        match self.shard.next("answers and deliveries") {
            FromGroup::Published {
                packet_id, reason, ..
            } => {
                assert_eq!(
                    self.open.pop_front(),
                    Some(packet_id.get()),
                    "answers keep their order"
                );
                assert_eq!(reason, ReasonCode::Success);
                self.answered += 1;
            }
            FromGroup::Deliver(delivery) => {
                for got in self.shard.take(&delivery) {
                    assert_eq!(got.handle, self.subscriber.handle);
                    self.delivered += 1;
                    assert_eq!(
                        number(&got.message),
                        self.delivered,
                        "each once and in order"
                    );
                }
            }
            FromGroup::Done { .. } => {}
            other => panic!("nobody expects {other:?}"),
        }
    }

    pub(crate) fn run_to(&mut self, count: u32) {
        while self.answered < count || self.delivered < count {
            self.publish_to(count);
            self.take_one();
        }
    }

    /// Returns how many link sessions there were.
    pub(crate) fn stop(self) -> u64 {
        let sessions = self.counters().sessions.get();
        self.client
            .stop(Duration::from_secs(20))
            .expect("the poll works");
        sessions
    }
}
