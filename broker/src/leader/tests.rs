//! The leader with fake clocks and a log that is a counter.

mod fleet;
mod groups;
mod links;

use super::intake::{ENTRY_BYTES_MAX, LAZY_MS_MAX};
use super::*;
use crate::command::Producer;
use crate::limits::MachineLimits;
use crate::log::Location;
use cluster::frame::{Ack, AckKind, Claim, Delivery, Subscribe, ToGroup};
use protocol::{PacketId, QoS, SubscribeOptions, TopicFilter, TopicName, Version, Will};

const EPOCH_MS: u64 = 1_000_000_000;

/// A leader, its log as far as tickets go, and the time.
struct World {
    leader: Leader,
    now_ms: u64,
    /// Entries in the log, by their number of commands.
    log: Vec<usize>,
    /// Bodies of the entries.
    bodies: Vec<Vec<u8>>,
    /// Entries that are stored.
    stored: usize,
}

impl World {
    /// A leader that serves, with two links.
    fn new() -> Self {
        Self::with(MachineLimits::default())
    }

    fn with(limits: MachineLimits) -> Self {
        let state = State::new(limits);
        let leader = Leader::new(state, 0, clocks(0));
        let mut world = Self {
            leader,
            now_ms: 0,
            log: Vec::new(),
            bodies: Vec::new(),
            stored: 0,
        };
        for shard in 0..2 {
            world.leader.link_up(Producer {
                node: 0,
                shard,
                incarnation: 1,
            });
        }
        assert!(!world.leader.is_serving());
        world.settle();
        assert!(world.leader.is_serving());
        world
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.leader.advance(clocks(self.now_ms));
    }

    /// Appends what is due; says how many entries that were.
    fn append(&mut self) -> usize {
        let before = self.log.len();
        while self.leader.due() {
            let mut body = Vec::new();
            self.leader.seal(&mut body);
            self.bodies.push(body);
            let sealed = self.leader.waiting.back().expect("just sealed");
            self.log.push(sealed.commands.len());
        }
        self.log.len() - before
    }

    fn store(&mut self) {
        for index in self.stored + 1..=self.log.len() {
            let at = Location {
                segment: 1,
                offset: index as u32 * 8,
            };
            self.leader.committed(index as u64, at, 0);
        }
        self.stored = self.log.len();
    }

    /// Appends and stores until nothing is due any more.
    fn settle(&mut self) {
        while self.append() > 0 {
            self.store();
        }
    }

    /// Frames for a link since the last look.
    fn frames(&mut self, link: u16) -> Vec<FromGroup> {
        let links = &mut self.leader.effects().links;
        links
            .get_mut(usize::from(link))
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn claim(&mut self, link: u16, index: u32, id: &str) {
        let claim = claim(index, id);
        self.leader
            .frame(LinkNo(link), ToGroup::Claim(Box::new(claim)));
    }

    /// A connected client.
    fn connect(&mut self, link: u16, index: u32, id: &str) -> Actor {
        self.claim(link, index, id);
        self.settle();
        claimed(&self.frames(link)).expect("the client id is free")
    }

    fn publish(&mut self, actor: Actor, qos: QoS, topic: &str, payload: &[u8]) {
        let publish = Publish {
            actor,
            packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::MIN),
            qos,
            retain: false,
            message: message(topic, payload),
        };
        self.leader.frame(LinkNo(0), ToGroup::Publish(publish));
    }

    fn subscribe(&mut self, link: u16, actor: Actor, filter: &str, qos: QoS) {
        let frame = subscribe_frame(actor, filter, qos);
        self.leader.frame(LinkNo(link), frame);
        self.settle();
        let frames = self.frames(link);
        assert!(matches!(frames[..], [FromGroup::Subscribed { .. }]));
    }
}

fn clocks(ms: u64) -> Clocks {
    Clocks {
        monotonic_ms: ms,
        wall_ms: EPOCH_MS + ms,
    }
}

fn subscribe_frame(actor: Actor, filter: &str, qos: QoS) -> ToGroup {
    let options = SubscribeOptions {
        qos,
        ..SubscribeOptions::default()
    };
    ToGroup::Subscribe(Box::new(Subscribe {
        actor,
        packet_id: PacketId::MIN,
        subscription_id: 0,
        filters: vec![(TopicFilter::new(filter).expect("a filter"), options)],
    }))
}

fn message(topic: &str, payload: &[u8]) -> Message {
    let topic = TopicName::new(topic).expect("a topic");
    Message::new(&topic, &[], payload).expect("a message")
}

fn handle(index: u32) -> Handle {
    Handle {
        index,
        generation: 0,
    }
}

fn claim(index: u32, id: &str) -> Claim {
    Claim {
        handle: handle(index),
        client_id: id.into(),
        version: Version::V5,
        clean_start: false,
        expiry_s: 600,
        will: None,
    }
}

fn claimed(frames: &[FromGroup]) -> Option<Actor> {
    frames.iter().find_map(|frame| match frame {
        FromGroup::Claimed(claimed) => Some(Actor {
            client: claimed.client,
            epoch: claimed.epoch,
        }),
        _ => None,
    })
}

fn kicked(frames: &[FromGroup]) -> Vec<u32> {
    let kicks = frames.iter().filter_map(|frame| match frame {
        FromGroup::Kick { handle, .. } => Some(handle.index),
        _ => None,
    });
    kicks.collect()
}

fn deliveries(frames: &[FromGroup]) -> Vec<&Delivery> {
    let deliveries = frames.iter().filter_map(|frame| match frame {
        FromGroup::Deliver(delivery) => Some(delivery),
        _ => None,
    });
    deliveries.collect()
}

#[test]
fn a_claim_is_answered_when_it_is_stored_and_not_before() {
    let mut world = World::new();
    world.claim(0, 1, "a");
    assert!(world.frames(0).is_empty());
    assert_eq!(world.append(), 1);
    assert!(world.frames(0).is_empty(), "in the log, not stored");
    world.store();
    assert!(claimed(&world.frames(0)).is_some());
}

#[test]
fn a_logged_publish_is_answered_when_it_is_stored_and_not_before() {
    let mut world = World::new();
    let actor = world.connect(0, 1, "a");
    world.subscribe(0, actor, "t", QoS::AtLeastOnce);
    world.publish(actor, QoS::AtLeastOnce, "t", b"x");
    world.append();
    assert!(world.frames(0).is_empty());
    world.store();
    let frames = world.frames(0);
    let answered = |frame: &FromGroup| matches!(frame, FromGroup::Published { .. });
    assert_eq!(frames.iter().filter(|frame| answered(frame)).count(), 1);
    assert_eq!(deliveries(&frames).len(), 1);
}

#[test]
fn an_unlogged_publish_stays_behind_a_logged_one_of_its_topic() {
    let mut world = World::new();
    let actor = world.connect(0, 1, "a");
    world.subscribe(0, actor, "+", QoS::AtMostOnce);
    let retained = Publish {
        actor,
        packet_id: None,
        qos: QoS::AtMostOnce,
        retain: true,
        message: message("t", b"first"),
    };
    world.leader.frame(LinkNo(0), ToGroup::Publish(retained));
    world.publish(actor, QoS::AtMostOnce, "t", b"second");
    world.publish(actor, QoS::AtMostOnce, "other", b"now");
    let payloads = |frames: &[FromGroup]| -> Vec<Vec<u8>> {
        let bodies = deliveries(frames).into_iter().map(|d| match &d.body {
            cluster::frame::Body::Inline(message) => message.payload().to_vec(),
            cluster::frame::Body::Stored(at) => panic!("{at:?} is at hand"),
        });
        bodies.collect()
    };
    assert_eq!(payloads(&world.frames(0)), [b"now".to_vec()]);
    world.settle();
    let frames = world.frames(0);
    assert_eq!(payloads(&frames), [b"first".to_vec(), b"second".to_vec()]);
    world.publish(actor, QoS::AtMostOnce, "t", b"third");
    assert_eq!(payloads(&world.frames(0)), [b"third".to_vec()]);
}

/// A client with one delivery that it has not answered; says its packet id.
fn with_delivery(world: &mut World) -> (Actor, PacketId) {
    let actor = world.connect(0, 1, "a");
    world.subscribe(0, actor, "t", QoS::AtLeastOnce);
    world.publish(actor, QoS::AtLeastOnce, "t", b"x");
    world.settle();
    let frames = world.frames(0);
    let packet_id = deliveries(&frames)[0].receivers[0].packet_id;
    (actor, packet_id.expect("of QoS 1"))
}

fn ack(actor: Actor, packet_id: PacketId) -> ToGroup {
    ToGroup::Ack(Ack {
        actor,
        packet_id,
        kind: AckKind::Ack,
    })
}

#[test]
fn an_ack_that_nothing_waits_for_waits_for_company_but_not_long() {
    let mut world = World::new();
    let (actor, packet_id) = with_delivery(&mut world);
    world.leader.frame(LinkNo(0), ack(actor, packet_id));
    assert_eq!(world.append(), 0);
    assert_eq!(world.leader.wait_ms(), Some(LAZY_MS_MAX));
    world.wait(LAZY_MS_MAX - 1);
    assert_eq!(world.append(), 0);
    world.wait(1);
    assert_eq!(world.append(), 1);
    assert!(!world.leader.is_settled());
    world.store();
    assert_eq!(world.leader.state().counters().messages, 0);
}

#[test]
fn an_ack_goes_with_the_next_entry() {
    let mut world = World::new();
    let (actor, packet_id) = with_delivery(&mut world);
    world.leader.frame(LinkNo(0), ack(actor, packet_id));
    world.publish(actor, QoS::AtLeastOnce, "t", b"y");
    assert_eq!(world.append(), 1, "one entry with both");
    world.store();
    assert_eq!(world.leader.state().counters().messages, 1);
}

#[test]
fn an_ack_that_makes_room_for_a_waiting_message_does_not_wait() {
    let limits = MachineLimits {
        window_entries: 1,
        ..MachineLimits::default()
    };
    let mut world = World::with(limits);
    let (actor, packet_id) = with_delivery(&mut world);
    world.publish(actor, QoS::AtLeastOnce, "t", b"waits");
    world.settle();
    assert!(deliveries(&world.frames(0)).is_empty());
    world.leader.frame(LinkNo(0), ack(actor, packet_id));
    assert_eq!(world.append(), 1);
    world.store();
    assert_eq!(deliveries(&world.frames(0)).len(), 1);
}

#[test]
fn a_claim_over_a_live_owner_is_answered_when_that_one_is_closed() {
    let mut world = World::new();
    let old = world.connect(0, 1, "a");
    world.claim(1, 2, "a");
    world.settle();
    assert_eq!(kicked(&world.frames(0)), [1]);
    assert!(claimed(&world.frames(1)).is_none());
    let confirm = ToGroup::Kicked { handle: handle(1) };
    world.leader.frame(LinkNo(0), confirm);
    world.settle();
    let new = claimed(&world.frames(1)).expect("the old one is closed");
    assert_eq!(new.client, old.client);
    assert!(new.epoch > old.epoch);
}

#[test]
fn a_claim_over_a_silent_owner_is_answered_in_time() {
    let mut world = World::new();
    world.connect(0, 1, "a");
    world.claim(1, 2, "a");
    world.settle();
    assert_eq!(world.leader.wait_ms(), Some(KICK_WAIT_MS));
    world.wait(KICK_WAIT_MS - 1);
    world.settle();
    assert!(claimed(&world.frames(1)).is_none());
    world.wait(1);
    world.settle();
    assert!(claimed(&world.frames(1)).is_some());
}

#[test]
fn a_claim_over_a_waiting_claim_waits_for_the_first_owner_too() {
    let mut world = World::new();
    world.connect(0, 1, "a");
    world.claim(1, 2, "a");
    world.claim(1, 3, "a");
    world.settle();
    assert_eq!(kicked(&world.frames(0)), [1]);
    assert_eq!(kicked(&world.frames(1)), [2], "named by its connection");
    let confirm = |index| ToGroup::Kicked {
        handle: handle(index),
    };
    world.leader.frame(LinkNo(1), confirm(2));
    world.settle();
    let early = claimed(&world.frames(1));
    assert!(early.is_none(), "connection 1 may still be open");
    world.leader.frame(LinkNo(0), confirm(1));
    world.settle();
    let frames = world.frames(1);
    assert!(claimed(&frames).is_some());
    assert!(
        frames
            .iter()
            .any(|frame| matches!(frame, FromGroup::Claimed(c) if c.handle == handle(3)))
    );
}

#[test]
fn the_owner_of_a_lost_link_needs_no_kick() {
    let mut world = World::new();
    world.connect(0, 1, "a");
    world.claim(1, 2, "a");
    world.settle();
    assert!(claimed(&world.frames(1)).is_none());
    world.leader.link_down(LinkNo(0));
    world.settle();
    assert!(claimed(&world.frames(1)).is_some());
}

#[test]
fn one_tick_at_a_time_is_in_the_log() {
    let mut world = World::new();
    let actor = world.connect(0, 1, "a");
    let gone = cluster::frame::Disconnect {
        actor,
        expiry_s: Some(1),
        will: cluster::frame::WillFate::Dropped,
    };
    world
        .leader
        .frame(LinkNo(0), ToGroup::Disconnect(Box::new(gone)));
    world.settle();
    assert_eq!(world.leader.state().counters().sessions, 1);
    world.wait(1_000);
    assert_eq!(world.append(), 1);
    world.wait(10);
    assert_eq!(world.append(), 0, "it is due already, and in the log");
    world.store();
    assert_eq!(world.leader.state().counters().sessions, 0);
    world.wait(10);
    assert_eq!(world.append(), 0);
}

#[test]
fn an_entry_has_few_bytes_of_messages_and_wills() {
    let mut world = World::new();
    let actor = world.connect(0, 1, "a");
    world.subscribe(0, actor, "t", QoS::AtLeastOnce);
    let payload = vec![7; ENTRY_BYTES_MAX / 8];
    for index in 0..100 {
        world.publish(actor, QoS::AtLeastOnce, "t", &payload);
        let mut claim = claim(100 + index, &format!("with a will {index}"));
        claim.will = Some(Box::new(Will {
            message: message("will", &payload),
            qos: QoS::AtLeastOnce,
            retain: false,
            delay_s: 0,
        }));
        world
            .leader
            .frame(LinkNo(0), ToGroup::Claim(Box::new(claim)));
    }
    let before = world.bodies.len();
    assert!(world.append() >= 200 / 8);
    let largest = world.bodies[before..].iter().map(Vec::len).max();
    let one_more = payload.len() + 1_024;
    assert!(largest.expect("some entries") <= ENTRY_BYTES_MAX + 2 * one_more);
    world.store();
    let sessions = world.leader.state().counters().attached;
    assert_eq!(sessions, 101, "a claim and its attach stay together");
}
