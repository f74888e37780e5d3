//! A session that is at several groups: joins, ranks, requests, and who gets what.

use super::*;
use cluster::frame::{Ack as GroupAck, AckKind, Join, Joined, Listed, Receiver, Resume};
use cluster::ids::Rank;
use cluster::shard_key::{HomeKey, ShardKeyRules};
use cluster::slots::{SLOT_COUNT, SlotTable};
use cluster::topology::FixedPart;
use protocol::{Subscribe, SubscribeOptions, TopicFilter, Unsubscribe};

pub(super) const SECOND: GroupNo = GroupNo(3);
pub(super) const THIRD: GroupNo = GroupNo(5);
pub(super) const START: Epoch = Epoch(70);

/// Three groups, whose slots take turns.
pub(super) fn three_groups() -> Routing {
    let fixed = FixedPart {
        cluster_id: "fleet".to_owned(),
        rules: ShardKeyRules::default(),
        home_key: HomeKey::ClientId,
    };
    let in_turn = |slot| [HOME, SECOND, THIRD][usize::from(slot % 3)];
    let slots: Vec<_> = (0..SLOT_COUNT).map(in_turn).collect();
    Routing::new(&fixed, &SlotTable::new(1, slots).expect("one group a slot"))
}

/// A topic of a group.
pub(super) fn topic_of(group: GroupNo) -> String {
    let routing = three_groups();
    let topics = (0..).map(|n| format!("t/{n}"));
    topics
        .into_iter()
        .find(|topic| routing.group_of_topic(topic) == group)
        .expect("each group has topics")
}

/// A client id whose home is the first group.
pub(super) fn client_id() -> String {
    let routing = three_groups();
    let mut ids = (0..).map(|n| format!("client-{n}"));
    ids.find(|id| routing.home_of(id) == HOME)
        .expect("each group is a home")
}

impl Wire {
    pub(super) fn at_groups(version: Version) -> Self {
        Self::at_groups_with(ProxyLimits::default(), version)
    }

    /// A connected session whose home is the first of three groups.
    pub(super) fn at_groups_with(limits: ProxyLimits, version: Version) -> Self {
        let mut wire = Self::before_claim(limits, Connect::new(version, &client_id()));
        wire.claimed_at([]);
        assert!(matches!(wire.sent()[..], [Packet::ConnAck(_)]));
        wire
    }

    /// A session that has asked its home.
    pub(super) fn before_claim(limits: ProxyLimits, connect: Connect) -> Self {
        let mut wire = Self::with_routing(limits, Arc::new(AcceptAll), three_groups());
        wire.send_connect(connect);
        assert!(matches!(wire.frames()[..], [ToGroup::Claim(_)]));
        wire
    }

    /// The home says that the session is resumed, and where it is besides.
    pub(super) fn claimed_at<const N: usize>(&mut self, groups: [(GroupNo, Option<u8>); N]) {
        let listed = groups.map(|(group, rank)| Listed {
            group,
            rank: rank.map(Rank),
        });
        self.frame(FromGroup::Claimed(Box::new(Claimed {
            handle: HANDLE,
            client: ACTOR.client,
            epoch: ACTOR.epoch,
            session_present: true,
            start_epoch: START,
            groups: listed.into(),
            digest: digest_at(HOME),
        })));
    }

    pub(super) fn joined(&mut self, group: GroupNo) {
        let Actor { client, epoch } = actor_at(group);
        self.frame_from(
            group,
            FromGroup::Joined(Box::new(Joined {
                handle: HANDLE,
                client,
                epoch,
                digest: digest_at(group),
            })),
        );
    }

    pub(super) fn listed(&mut self, group: GroupNo, rank: Option<u8>) {
        self.frame(FromGroup::Listed {
            handle: HANDLE,
            group,
            rank: rank.map(Rank),
        });
    }

    /// Takes the one frame to a group, which must ask to join, and says with which rank.
    pub(super) fn join_to(&mut self, group: GroupNo) -> Option<u8> {
        let mut frames = self.frames_to(group);
        assert_eq!(frames.len(), 1, "{frames:?}");
        let Some(ToGroup::Join(join)) = frames.pop() else {
            panic!("a join expected")
        };
        let expected = Join {
            handle: HANDLE,
            client_id: client_id().into(),
            epoch: ACTOR.epoch,
            start_epoch: START,
            rank: join.rank,
        };
        assert_eq!(*join, expected);
        join.rank.map(|rank| rank.0)
    }

    /// Brings the session to a group, with a rank.
    pub(super) fn settle_at(&mut self, group: GroupNo, rank: u8) {
        self.send(&subscribe_packet(999, &[&topic_of(group)]));
        assert!(matches!(self.frames()[..], [ToGroup::List { .. }]));
        self.listed(group, Some(rank));
        assert_eq!(self.join_to(group), Some(rank));
        self.joined(group);
        assert!(matches!(self.frames_to(group)[..], [ToGroup::Subscribe(_)]));
        self.subscribed(group, 999, &[ReasonCode::GrantedQoS1]);
        assert!(matches!(self.sent()[..], [Packet::SubAck(_)]));
    }

    /// The filters are new to the group.
    pub(super) fn subscribed(&mut self, from: GroupNo, id: u16, reasons: &[ReasonCode]) {
        self.answer_subscribe(from, id, reasons, true);
    }

    pub(super) fn unsubscribed(&mut self, from: GroupNo, id: u16, reasons: &[ReasonCode]) {
        let answer = FromGroup::Unsubscribed {
            handle: HANDLE,
            packet_id: packet_id(id),
            reasons: reasons.into(),
        };
        self.frame_from(from, answer);
    }

    pub(super) fn published_by(&mut self, from: GroupNo, id: u16, qos: QoS) {
        let answer = FromGroup::Published {
            handle: HANDLE,
            packet_id: packet_id(id),
            qos,
            reason: ReasonCode::Success,
        };
        self.frame_from(from, answer);
    }

    fn released_by(&mut self, from: GroupNo, id: u16, reason: ReasonCode) {
        let answer = FromGroup::Released {
            handle: HANDLE,
            packet_id: packet_id(id),
            reason,
        };
        self.frame_from(from, answer);
    }

    fn suback(&mut self) -> SubAckCodes {
        match self.sent().pop() {
            Some(Packet::SubAck(ack)) => (ack.packet_id.get(), ack.reasons),
            Some(Packet::UnsubAck(ack)) => (ack.packet_id.get(), ack.reasons),
            other => panic!("an answer expected, not {other:?}"),
        }
    }
}

type SubAckCodes = (u16, Vec<ReasonCode>);

/// Who the connection is at another group: not who it is at home.
pub(super) fn actor_at(group: GroupNo) -> Actor {
    Actor {
        client: ClientNo(100 + u32::from(group.0)),
        epoch: Epoch(1000 + u64::from(group.0)),
    }
}

pub(super) fn subscribe_packet(id: u16, filters: &[&str]) -> Packet {
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        ..SubscribeOptions::default()
    };
    let filter = |text: &&str| (TopicFilter::new(text).expect("valid"), options);
    Packet::Subscribe(Subscribe {
        packet_id: packet_id(id),
        subscription_id: None,
        filters: filters.iter().map(filter).collect(),
    })
}

pub(super) fn unsubscribe_packet(id: u16, filters: &[&str]) -> Packet {
    let filter = |text: &&str| TopicFilter::new(text).expect("valid");
    Packet::Unsubscribe(Unsubscribe {
        packet_id: packet_id(id),
        filters: filters.iter().map(filter).collect(),
    })
}

/// Packet ids of the publishes among the frames, 0 for QoS 0. All must act as the group knows the connection.
pub(super) fn publishes(frames: &[ToGroup], group: GroupNo) -> Vec<u16> {
    let id = |frame: &ToGroup| match frame {
        ToGroup::Publish(publish) => {
            assert_eq!(publish.actor, actor_at(group));
            publish.packet_id.map_or(0, PacketId::get)
        }
        other => panic!("a publish expected, not {other:?}"),
    };
    frames.iter().map(id).collect()
}

fn delivery(id: u16) -> Receiver {
    Receiver {
        handle: HANDLE,
        packet_id: PacketId::new(id),
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        subscription_ids: None,
    }
}

#[test]
fn a_publish_waits_until_the_connection_has_joined_its_group() {
    let mut wire = Wire::at_groups(Version::V5);
    let topic = topic_of(SECOND);
    wire.publish(&topic, QoS::AtLeastOnce, 1);
    wire.publish(&topic_of(HOME), QoS::AtLeastOnce, 2);
    assert_eq!(wire.join_to(SECOND), None, "nothing is kept for it there");
    let home = wire.frames();
    assert!(matches!(&home[..], [ToGroup::Publish(publish)] if publish.actor == ACTOR));
    wire.joined(SECOND);
    assert_eq!(publishes(&wire.frames_to(SECOND), SECOND), [1]);
    wire.publish(&topic, QoS::AtLeastOnce, 3);
    wire.publish(&topic, QoS::AtMostOnce, 0);
    assert_eq!(publishes(&wire.frames_to(SECOND), SECOND), [3, 0]);
    assert!(wire.frames_to(THIRD).is_empty());
    // Answers leave in the order of the publishes, whoever answers first.
    wire.published(2, QoS::AtLeastOnce, ReasonCode::Success);
    assert_eq!(wire.sent(), []);
    wire.published_by(SECOND, 1, QoS::AtLeastOnce);
    wire.published_by(SECOND, 3, QoS::AtLeastOnce);
    let sent: Vec<_> = wire.sent().iter().map(|packet| ack_of(packet).1).collect();
    assert_eq!(sent, [1, 2, 3]);
}

/// A client may leave right after a publish at QoS 0.
#[test]
fn a_publish_at_qos_0_waits_for_no_join() {
    let mut wire = Wire::at_groups(Version::V5);
    let topic = topic_of(SECOND);
    let by_nobody = |frames: &[ToGroup]| matches!(frames, [ToGroup::Publish(publish)] if publish.actor == Actor::NOBODY);
    wire.publish(&topic, QoS::AtMostOnce, 0);
    assert!(by_nobody(&wire.frames_to(SECOND)));
    assert!(wire.session.places.is_none());
    // Nor while others wait for one.
    wire.publish(&topic, QoS::AtLeastOnce, 1);
    assert_eq!(wire.join_to(SECOND), None);
    wire.publish(&topic, QoS::AtMostOnce, 0);
    assert!(by_nobody(&wire.frames_to(SECOND)));
    wire.publish(&topic, QoS::AtMostOnce, 0);
    wire.send(&Packet::Disconnect(protocol::Disconnect::new(
        ReasonCode::Success,
    )));
    assert!(by_nobody(&wire.frames_to(SECOND)));
}

/// A group keeps something of a session only after the home has listed it.
#[test]
fn what_a_group_keeps_takes_a_rank() {
    let mut wire = Wire::at_groups(Version::V5);
    let topic = topic_of(SECOND);
    wire.publish(&topic, QoS::AtLeastOnce, 1);
    assert_eq!(wire.join_to(SECOND), None);
    wire.publish(&topic, QoS::ExactlyOnce, 2);
    wire.send(&subscribe_packet(3, &[&topic]));
    wire.publish(&topic, QoS::AtMostOnce, 0);
    wire.joined(SECOND);
    assert_eq!(publishes(&wire.frames_to(SECOND), SECOND), [1]);
    let home = wire.frames();
    assert!(
        matches!(
            home[..],
            [ToGroup::List {
                actor: ACTOR,
                group: SECOND
            }]
        ),
        "asked once: {home:?}"
    );
    wire.listed(SECOND, Some(1));
    assert_eq!(wire.join_to(SECOND), Some(1));
    wire.joined(SECOND);
    let frames = wire.frames_to(SECOND);
    let [
        ToGroup::Publish(publish),
        ToGroup::Subscribe(_),
        ToGroup::Publish(last),
    ] = &frames[..]
    else {
        panic!("in the client's order: {frames:?}")
    };
    assert_eq!((publish.qos, last.qos), (QoS::ExactlyOnce, QoS::AtMostOnce));
}

#[test]
fn without_a_rank_what_would_be_kept_is_refused() {
    let mut wire = Wire::at_groups(Version::V5);
    let topic = topic_of(SECOND);
    wire.publish(&topic, QoS::ExactlyOnce, 1);
    wire.send(&subscribe_packet(2, &[&topic, &topic_of(HOME)]));
    wire.publish(&topic, QoS::AtLeastOnce, 3);
    wire.frames();
    wire.listed(SECOND, None);
    let refused = ReasonCode::QuotaExceeded;
    assert_eq!(ack_of(&wire.sent()[0]), ("PUBREC", 1, refused));
    wire.subscribed(HOME, 2, &[ReasonCode::GrantedQoS1]);
    assert_eq!(wire.suback(), (2, vec![refused, ReasonCode::GrantedQoS1]));
    assert_eq!(wire.join_to(SECOND), None);
    wire.joined(SECOND);
    assert_eq!(publishes(&wire.frames_to(SECOND), SECOND), [3]);
}

#[test]
fn each_group_gets_its_filters_and_all_must_answer() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.settle_at(THIRD, 2);
    let (second, third) = (topic_of(SECOND), topic_of(THIRD));
    wire.send(&subscribe_packet(7, &[&second, "#", &third]));
    let filters_to = |wire: &mut Wire, group| -> Vec<String> {
        let frames = wire.frames_to(group);
        let [ToGroup::Subscribe(frame)] = &frames[..] else {
            panic!("{frames:?}")
        };
        let text = |(filter, _): &(TopicFilter, _)| filter.as_str().to_owned();
        frame.filters.iter().map(text).collect()
    };
    assert_eq!(filters_to(&mut wire, HOME), ["#"]);
    assert_eq!(filters_to(&mut wire, SECOND), [second.as_str(), "#"]);
    assert_eq!(filters_to(&mut wire, THIRD), ["#", third.as_str()]);
    let (granted, full) = (ReasonCode::GrantedQoS1, ReasonCode::QuotaExceeded);
    wire.subscribed(THIRD, 7, &[full, granted]);
    wire.subscribed(HOME, 7, &[granted]);
    assert_eq!(wire.sent(), [], "one group has not answered");
    wire.subscribed(SECOND, 7, &[granted, granted]);
    assert_eq!(wire.suback(), (7, vec![granted, full, granted]));

    wire.send(&unsubscribe_packet(8, &[&second, "#", "nowhere/+/x"]));
    let (gone, none) = (ReasonCode::Success, ReasonCode::NoSubscriptionExisted);
    wire.unsubscribed(SECOND, 8, &[gone, none, none]);
    wire.unsubscribed(HOME, 8, &[gone, none]);
    wire.unsubscribed(THIRD, 8, &[none, none]);
    assert_eq!(wire.suback(), (8, vec![gone, gone, none]));
}

#[test]
fn groups_that_hold_nothing_are_not_asked_to_unsubscribe() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.send(&unsubscribe_packet(1, &[&topic_of(SECOND)]));
    assert_eq!(wire.suback(), (1, vec![ReasonCode::NoSubscriptionExisted]));
    wire.send(&unsubscribe_packet(2, &["#"]));
    assert!(matches!(wire.frames()[..], [ToGroup::Unsubscribe(_)]));
    wire.unsubscribed(HOME, 2, &[ReasonCode::Success]);
    assert_eq!(wire.suback(), (2, vec![ReasonCode::Success]));
    assert!(wire.frames_to(SECOND).is_empty() && wire.frames_to(THIRD).is_empty());
}

#[test]
fn pubrel_goes_where_the_publish_went() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.publish(&topic_of(SECOND), QoS::ExactlyOnce, 4);
    wire.frames_to(SECOND);
    wire.published_by(SECOND, 4, QoS::ExactlyOnce);
    wire.sent();
    wire.ack(Packet::PubRel, 4);
    assert!(wire.frames().is_empty());
    assert!(matches!(
        wire.frames_to(SECOND)[..],
        [ToGroup::Release { actor, packet_id }] if actor == actor_at(SECOND) && packet_id.get() == 4
    ));
    wire.released_by(SECOND, 4, ReasonCode::Success);
    assert_eq!(ack_of(&wire.sent()[0]), ("PUBCOMP", 4, ReasonCode::Success));
    wire.session.rest();
    assert!(wire.session.busy.is_none(), "nothing is remembered of it");
}

/// The PUBLISH was on an earlier connection: whoever may have it is asked, and PUBCOMP waits for all.
#[test]
fn pubrel_of_an_earlier_connection_goes_to_every_group_of_the_session() {
    let unknown = ReasonCode::PacketIdentifierNotFound;
    for (third, expected) in [
        (ReasonCode::Success, ReasonCode::Success),
        (unknown, unknown),
    ] {
        let mut wire = Wire::at_groups(Version::V5);
        wire.settle_at(SECOND, 1);
        wire.settle_at(THIRD, 2);
        wire.ack(Packet::PubRel, 4);
        for group in [HOME, SECOND, THIRD] {
            assert!(matches!(
                wire.frames_to(group)[..],
                [ToGroup::Release { .. }]
            ));
        }
        wire.released_by(HOME, 4, unknown);
        wire.released_by(THIRD, 4, third);
        assert_eq!(wire.sent(), []);
        wire.released_by(SECOND, 4, unknown);
        assert_eq!(ack_of(&wire.sent()[0]), ("PUBCOMP", 4, expected));
    }
}

#[test]
fn the_clients_answers_go_to_the_group_whose_packet_id_it_is() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.settle_at(THIRD, 2);
    let message = message("t", b"x");
    for (id, group) in [(1, HOME), (1024, SECOND), (2047, THIRD), (1023, HOME)] {
        wire.deliver(&message, None, &delivery(id));
        wire.ack(Packet::PubAck, id);
        let frames = wire.frames_to(group);
        let expected = if group == HOME {
            ACTOR
        } else {
            actor_at(group)
        };
        assert!(
            matches!(frames[..], [ToGroup::Ack(GroupAck { actor, packet_id, kind: AckKind::Ack })]
                if actor == expected && packet_id.get() == id),
            "{id} {frames:?}"
        );
    }
    assert_eq!(wire.sent().len(), 4);
    let last = |group| {
        let reattach = wire.session.reattach(group).expect("it acts there");
        (reattach.actor, reattach.last.map(PacketId::get))
    };
    assert_eq!(last(HOME), (ACTOR, Some(1023)));
    assert_eq!(last(SECOND), (actor_at(SECOND), Some(1024)));
    assert_eq!(last(THIRD), (actor_at(THIRD), Some(2047)));
}

/// One client, one receive maximum.
#[test]
fn the_receive_maximum_is_shared_by_all_groups() {
    let connect = Connect {
        receive_maximum: std::num::NonZeroU16::new(2),
        ..Connect::new(Version::V5, &client_id())
    };
    let mut wire = Wire::before_claim(ProxyLimits::default(), connect);
    wire.claimed_at([]);
    wire.sent();
    wire.settle_at(SECOND, 1);
    let message = message("t", b"x");
    for id in [1024, 1, 1025, 2] {
        wire.deliver(&message, None, &delivery(id));
    }
    let ids = |wire: &mut Wire| -> Vec<u16> {
        let id = |packet: &Packet| match packet {
            Packet::Publish(publish) => publish.packet_id.map_or(0, PacketId::get),
            other => panic!("{other:?}"),
        };
        wire.sent().iter().map(id).collect()
    };
    assert_eq!(ids(&mut wire), [1024, 1]);
    wire.ack(Packet::PubAck, 1);
    wire.ack(Packet::PubAck, 1024);
    assert_eq!(ids(&mut wire), [1025, 2], "in the order they came");
}

#[test]
fn every_group_hears_of_the_end() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.publish(&topic_of(THIRD), QoS::AtLeastOnce, 1);
    assert_eq!(wire.join_to(THIRD), None);
    wire.send(&Packet::Disconnect(protocol::Disconnect {
        session_expiry_s: Some(0),
        ..protocol::Disconnect::new(ReasonCode::Success)
    }));
    for (group, actor, expiry_s) in [(HOME, ACTOR, Some(0)), (SECOND, actor_at(SECOND), None)] {
        let frames = wire.frames_to(group);
        assert!(
            matches!(&frames[..], [ToGroup::Disconnect(gone)] if gone.actor == actor && gone.expiry_s == expiry_s),
            "{frames:?}"
        );
    }
    assert!(wire.frames_to(THIRD).is_empty(), "it knows nobody yet");
    assert!(wire.session.reattach(SECOND).is_none());
    wire.joined(THIRD);
    let frames = wire.frames_to(THIRD);
    assert!(
        matches!(&frames[..], [ToGroup::Disconnect(gone)] if gone.actor == actor_at(THIRD)),
        "{frames:?}"
    );
}

/// Promise P5: whichever group ends the connection.
#[test]
fn a_kick_by_any_group_ends_the_connection_everywhere() {
    for by in [HOME, SECOND] {
        let mut wire = Wire::at_groups(Version::V5);
        wire.settle_at(SECOND, 1);
        wire.frame_from(
            by,
            FromGroup::Kick {
                handle: HANDLE,
                reason: ReasonCode::SessionTakenOver,
            },
        );
        assert_eq!(wire.disconnect_reason(), ReasonCode::SessionTakenOver);
        let other = if by == HOME { SECOND } else { HOME };
        assert!(matches!(
            wire.frames_to(by)[..],
            [ToGroup::Kicked { handle: HANDLE }]
        ));
        assert!(matches!(
            wire.frames_to(other)[..],
            [ToGroup::Disconnect(_)]
        ));
    }
}

#[test]
fn a_resumed_session_joins_its_groups_before_connack() {
    let connect = Connect::new(Version::V5, &client_id());
    let mut wire = Wire::before_claim(ProxyLimits::default(), connect);
    wire.claimed_at([(SECOND, Some(1)), (THIRD, Some(2))]);
    assert_eq!(wire.join_to(SECOND), Some(1));
    assert_eq!(wire.join_to(THIRD), Some(2));
    assert!(!wire.session.reads(&wire.rules));
    let resume = Resume {
        sessions: wire.session.reattach(HOME).into_iter().collect(),
        void: Vec::new(),
    };
    assert_eq!(resume.sessions.len(), 1, "the home knows of it already");
    let message = message("t", b"x");
    wire.deliver(&message, None, &delivery(1));
    wire.joined(SECOND);
    wire.deliver(&message, None, &delivery(1024));
    wire.frame_from(
        SECOND,
        FromGroup::Release {
            handle: HANDLE,
            packet_id: packet_id(1030),
            reason: ReasonCode::Success,
        },
    );
    let at_most_once = Receiver {
        packet_id: None,
        qos: QoS::AtMostOnce,
        ..delivery(1)
    };
    wire.deliver(&message, None, &at_most_once);
    assert_eq!(wire.sent(), [], "CONNACK comes first");
    wire.joined(THIRD);
    let sent = wire.sent();
    let [Packet::ConnAck(connack), Packet::PubRel(release), rest @ ..] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert!(connack.session_present);
    assert_eq!(release.packet_id.get(), 1030);
    let id = |packet: &Packet| match packet {
        Packet::Publish(publish) => publish.packet_id.map_or(0, PacketId::get),
        other => panic!("{other:?}"),
    };
    assert_eq!(rest.iter().map(id).collect::<Vec<_>>(), [1, 1024, 0]);
    assert!(wire.session.reads(&wire.rules));
    // What the other groups had for the session may be subscribed to again at once.
    wire.send(&subscribe_packet(1, &[&topic_of(THIRD)]));
    assert!(matches!(wire.frames_to(THIRD)[..], [ToGroup::Subscribe(_)]));
}

/// A clean start fences the groups of the session before.
#[test]
fn a_clean_start_fences_the_groups_of_the_session_before() {
    let connect = Connect::new(Version::V311, &client_id());
    let mut wire = Wire::before_claim(ProxyLimits::default(), connect);
    wire.claimed_at([(SECOND, None), (GroupNo(60), None)]);
    assert_eq!(wire.rules.counters.groups_unknown.get(), 1);
    assert_eq!(wire.join_to(SECOND), None);
    assert_eq!(wire.sent(), []);
    wire.joined(SECOND);
    assert!(matches!(wire.sent()[..], [Packet::ConnAck(_)]));
}
