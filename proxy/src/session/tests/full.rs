//! A group that can store nothing more: what is new is refused where the client can be told, and held back elsewhere; what
//! has left is never refused.

use super::groups::*;
use super::groups_away::wait;
use super::*;

const QUOTA: ReasonCode = ReasonCode::QuotaExceeded;

impl Wire {
    fn is_refused_by(&mut self, group: GroupNo) {
        self.frames.lane(group).refuses = true;
    }

    /// The group can store again.
    fn has_space(&mut self, group: GroupNo) {
        self.frames.lane(group).refuses = false;
        self.go_on(group);
    }

    fn acks(&mut self) -> Vec<(&'static str, u16, ReasonCode)> {
        self.sent().iter().map(ack_of).collect()
    }
}

#[test]
fn new_publishes_of_a_v5_client_are_refused_and_those_under_way_are_not() {
    let mut wire = Wire::connected(Version::V5);
    wire.publish("a", QoS::AtLeastOnce, 1);
    wire.publish("a", QoS::ExactlyOnce, 2);
    assert_eq!(wire.frames().len(), 2);
    wire.is_refused_by(HOME);
    wire.publish("a", QoS::AtLeastOnce, 3);
    wire.publish("a", QoS::ExactlyOnce, 4);
    assert!(wire.frames().is_empty(), "nothing leaves");
    assert_eq!(wire.acks(), [], "answers keep the order of the publishes");
    assert!(wire.session.reads(&wire.rules), "the client is read from");
    wire.has_space(HOME);
    wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
    wire.published(2, QoS::ExactlyOnce, ReasonCode::Success);
    let expected = [
        ("PUBACK", 1, ReasonCode::Success),
        ("PUBREC", 2, ReasonCode::Success),
        ("PUBACK", 3, QUOTA),
        ("PUBREC", 4, QUOTA),
    ];
    assert_eq!(wire.acks(), expected);
    assert_eq!(wire.rules.counters.publishes_refused_full.get(), 2);
    assert_eq!(wire.session.publishes_in, 1, "PUBREL of 2 is open");
    wire.publish("a", QoS::AtLeastOnce, 3);
    assert_eq!(wire.frames().len(), 1);
}

#[test]
fn a_refusal_leaves_at_once_where_nothing_is_under_way() {
    let mut wire = Wire::connected(Version::V5);
    wire.is_refused_by(HOME);
    for id in 1..=500 {
        wire.publish("a", QoS::AtLeastOnce, id);
        assert_eq!(wire.acks(), [("PUBACK", id, QUOTA)]);
    }
    assert_eq!(wire.session.publishes_in, 0);
}

/// It may be stored: the answer to it was lost with the client's earlier connection.
#[test]
fn a_publish_that_comes_again_is_held_back_and_not_refused() {
    let mut wire = Wire::connected(Version::V5);
    wire.is_refused_by(HOME);
    let again = Publish {
        dup: true,
        ..publish_packet("a", QoS::ExactlyOnce, 7)
    };
    wire.send(&Packet::Publish(again));
    assert!(!wire.session.reads(&wire.rules));
    assert_eq!(wire.acks(), []);
    wire.has_space(HOME);
    assert!(matches!(wire.frames()[..], [ToGroup::Publish(_)]));
    assert!(wire.session.reads(&wire.rules));
}

#[test]
fn a_v3_client_is_held_back() {
    for version in [Version::V31, Version::V311] {
        let mut wire = Wire::connected(version);
        wire.is_refused_by(HOME);
        wire.publish("a", QoS::AtLeastOnce, 1);
        assert!(
            !wire.session.reads(&wire.rules),
            "nothing is read behind it"
        );
        assert!(wire.frames().is_empty());
        assert_eq!(wire.session.delayed_for(), Some(HOME));
        assert_eq!(
            wire.session.patience(&wire.rules),
            Patience::Endless,
            "its keep alive stands still"
        );
        wire.has_space(HOME);
        assert!(matches!(wire.frames()[..], [ToGroup::Publish(_)]));
        wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
        assert_eq!(wire.acks(), [("PUBACK", 1, ReasonCode::Success)]);
    }
}

#[test]
fn a_v3_client_that_was_held_back_for_too_long_is_let_go_unanswered() {
    let mut wire = Wire::connected(Version::V311);
    wire.is_refused_by(HOME);
    wire.publish("a", QoS::AtLeastOnce, 1);
    wait(&mut wire, 301);
    assert_eq!(wire.session.ended(), Some(End::PublishUnanswered));
    assert_eq!(wire.acks(), []);
}

#[test]
fn publishes_without_an_answer_are_dropped_and_counted() {
    for version in [Version::V311, Version::V5] {
        let mut wire = Wire::connected(version);
        wire.is_refused_by(HOME);
        wire.publish("a", QoS::AtMostOnce, 0);
        assert!(wire.frames().is_empty());
        assert_eq!(wire.rules.counters.publishes_dropped_away.get(), 1);
        assert!(wire.session.reads(&wire.rules));
    }
}

#[test]
fn a_subscribe_is_refused_filter_by_filter() {
    let mut wire = Wire::connected(Version::V5);
    wire.is_refused_by(HOME);
    wire.send(&subscribe_packet(7, &["a", "b/#"]));
    assert!(matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.reasons == [QUOTA; 2]));
    assert!(wire.frames().is_empty());
    assert_eq!(wire.rules.counters.subscribes_refused_full.get(), 1);
    // What gives up space, or changes nothing, goes on its way.
    wire.ack(Packet::PubRel, 3);
    assert!(matches!(wire.frames()[..], [ToGroup::Release { .. }]));

    let mut wire = Wire::connected(Version::V311);
    wire.is_refused_by(HOME);
    wire.send(&subscribe_packet(7, &["a"]));
    assert_eq!(wire.sent(), [], "it waits for the group");
    assert!(matches!(wire.frames()[..], [ToGroup::Subscribe(_)]));
}

#[test]
fn a_connect_is_refused_in_v5_and_waits_in_v3() {
    let mut wire = Wire::new(ProxyLimits::default());
    wire.is_refused_by(HOME);
    wire.send_connect(Connect::new(Version::V5, "client"));
    assert!(matches!(&wire.sent()[..], [Packet::ConnAck(ack)] if ack.reason == QUOTA));
    assert_eq!(wire.session.ended(), Some(End::Refused(QUOTA)));
    assert!(wire.frames().is_empty());

    let mut wire = Wire::new(ProxyLimits::default());
    wire.is_refused_by(HOME);
    wire.send_connect(Connect::new(Version::V311, "client"));
    assert!(matches!(wire.frames()[..], [ToGroup::Claim(_)]));
    assert_eq!(wire.sent(), []);
}

#[test]
fn other_groups_are_not_touched() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.is_refused_by(SECOND);
    wire.publish(&topic_of(SECOND), QoS::AtLeastOnce, 1);
    wire.publish(&topic_of(HOME), QoS::AtLeastOnce, 2);
    assert_eq!(wire.acks(), [("PUBACK", 1, QUOTA)]);
    assert!(matches!(wire.frames()[..], [ToGroup::Publish(_)]));
    assert!(wire.frames_to(SECOND).is_empty());
}

/// A filter of every group fails where one cannot store it, and is taken back from the others.
#[test]
fn a_filter_fails_if_one_of_its_groups_is_full() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.settle_at(THIRD, 2);
    wire.is_refused_by(THIRD);
    wire.send(&subscribe_packet(7, &["#", &topic_of(SECOND)]));
    assert!(wire.frames_to(THIRD).is_empty());
    let granted = ReasonCode::GrantedQoS1;
    wire.subscribed(HOME, 7, &[granted]);
    wire.subscribed(SECOND, 7, &[granted, granted]);
    assert!(
        matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.reasons == [QUOTA, granted]),
        "the filter of the group that is full"
    );
    for group in [HOME, SECOND] {
        let last = wire.frames_to(group).pop();
        assert!(matches!(last, Some(ToGroup::Unsubscribe(_))), "{last:?}");
    }
    assert_eq!(wire.rules.counters.subscribes_refused_full.get(), 1);
}

/// The home lists a group before that keeps anything.
#[test]
fn a_full_home_refuses_what_it_would_have_to_list() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.is_refused_by(HOME);
    wire.publish(&topic_of(THIRD), QoS::ExactlyOnce, 1);
    wire.send(&subscribe_packet(7, &[&topic_of(THIRD)]));
    let sent = wire.sent();
    assert_eq!(ack_of(&sent[0]), ("PUBREC", 1, QUOTA));
    assert!(matches!(&sent[1], Packet::SubAck(ack) if ack.reasons == [QUOTA]));
    assert!(wire.frames_to(THIRD).is_empty() && wire.frames().is_empty());
    // Listed before.
    wire.publish(&topic_of(SECOND), QoS::ExactlyOnce, 2);
    assert!(matches!(wire.frames_to(SECOND)[..], [ToGroup::Publish(_)]));
    // Not kept for the session.
    wire.publish(&topic_of(THIRD), QoS::AtLeastOnce, 3);
    assert_eq!(wire.join_to(THIRD), None);
}
