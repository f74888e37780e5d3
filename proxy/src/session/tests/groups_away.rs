//! Groups that are slow, full, away or forgetful.

use super::groups::*;
use super::*;
use crate::session::context::Waits;
use cluster::frame::Receiver;

impl Wire {
    /// The link to a group, which was full, takes more.
    pub(super) fn go_on(&mut self, group: GroupNo) {
        self.frames.lane(group).full = false;
        let waits = std::mem::take(&mut self.frames.lane(group).waits);
        for handle in waits.joins.into_iter().chain(waits.packets) {
            assert_eq!(handle, HANDLE);
            self.with(|session, cx| {
                session.join_late(group, cx);
                session.go_on(group, cx);
            });
        }
    }
}

pub(super) fn wait(wire: &mut Wire, seconds: u32) {
    wire.rules.now_s += seconds;
    if wire.session.due_s() <= wire.rules.now_s {
        wire.with(Session::overdue);
    }
}

#[test]
fn a_home_that_does_not_answer_refuses_the_connect() {
    for (version, code) in [
        (Version::V5, ReasonCode::ServerUnavailable),
        (Version::V311, ReasonCode::ServerUnavailable),
    ] {
        let connect = Connect::new(version, &client_id());
        let mut wire = Wire::before_claim(ProxyLimits::default(), connect);
        wait(&mut wire, 5);
        assert_eq!(wire.sent(), [], "the fifth second may not be over");
        wait(&mut wire, 1);
        let sent = wire.sent();
        assert!(
            matches!(&sent[..], [Packet::ConnAck(ack)] if ack.reason == code),
            "{sent:?}"
        );
        wire.claimed_at([]);
        assert!(matches!(wire.frames()[..], [ToGroup::Disconnect(_)]));
    }
}

#[test]
fn connack_waits_two_seconds_for_the_groups_and_the_rest_attaches_later() {
    let connect = Connect::new(Version::V5, &client_id());
    let mut wire = Wire::before_claim(ProxyLimits::default(), connect);
    wire.claimed_at([(SECOND, Some(1)), (THIRD, Some(2))]);
    wire.joined(THIRD);
    wait(&mut wire, 2);
    assert_eq!(wire.sent(), []);
    wait(&mut wire, 1);
    assert!(matches!(wire.sent()[..], [Packet::ConnAck(_)]));
    assert_eq!(wire.session.due_s(), u32::MAX);
    wire.frames_to(SECOND);
    wire.publish(&topic_of(SECOND), QoS::AtLeastOnce, 1);
    assert!(wire.frames_to(SECOND).is_empty());
    wire.joined(SECOND);
    assert_eq!(publishes(&wire.frames_to(SECOND), SECOND), [1]);
    assert_eq!(wire.sent(), []);
}

/// What has not left is not undone, but does not leave any more.
#[test]
fn a_subscribe_that_waited_for_a_join_in_vain_is_taken_back() {
    let mut wire = Wire::at_groups(Version::V311);
    wire.send(&subscribe_packet(7, &[&topic_of(SECOND)]));
    wire.listed(SECOND, Some(1));
    assert_eq!(wire.join_to(SECOND), Some(1));
    wait(&mut wire, 11);
    let failed = ReasonCode::UnspecifiedError;
    assert!(matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.reasons == [failed]));
    assert_eq!(wire.session.requests, 0);
    wire.joined(SECOND);
    assert!(wire.frames_to(SECOND).is_empty());
}

/// Only the connections that want something of a full group stop, and only for what must not be lost.
#[test]
fn a_full_group_stops_what_is_for_it() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.frames.lane(SECOND).full = true;
    wire.publish(&topic_of(SECOND), QoS::AtMostOnce, 0);
    assert_eq!(wire.rules.counters.publishes_dropped_away.get(), 1);
    wire.publish(&topic_of(HOME), QoS::AtLeastOnce, 1);
    assert!(wire.session.reads(&wire.rules), "others are not touched");
    wire.publish(&topic_of(SECOND), QoS::AtLeastOnce, 2);
    assert!(!wire.session.reads(&wire.rules));
    assert_eq!(wire.session.delayed_for(), Some(SECOND));
    assert_eq!(
        wire.session.patience(&wire.rules),
        Patience::Endless,
        "its keep alive stands still"
    );
    wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
    assert_eq!(wire.sent().len(), 1, "answers of other groups leave");
    assert!(wire.frames_to(SECOND).is_empty());
    wire.go_on(SECOND);
    assert_eq!(publishes(&wire.frames_to(SECOND), SECOND), [2]);
    assert!(wire.session.reads(&wire.rules));
}

#[test]
fn requests_wait_for_room_and_a_subscribe_not_for_ever() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.frames.lane(SECOND).full = true;
    wire.send(&subscribe_packet(7, &["#"]));
    assert!(!wire.session.reads(&wire.rules));
    wait(&mut wire, 6);
    // The others are asked, and the third needs a rank first.
    assert!(matches!(
        wire.frames()[..],
        [ToGroup::Subscribe(_), ToGroup::List { group: THIRD, .. }]
    ));
    assert!(wire.frames_to(SECOND).is_empty());
    wire.listed(THIRD, Some(2));
    wire.joined(THIRD);
    let granted = ReasonCode::GrantedQoS1;
    wire.subscribed(THIRD, 7, &[granted]);
    wire.subscribed(HOME, 7, &[granted]);
    let failed = ReasonCode::UnspecifiedError;
    assert!(matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.reasons == [failed]));

    wire.ack(Packet::PubRel, 1);
    assert_eq!(wire.session.delayed_for(), Some(SECOND));
    wire.go_on(SECOND);
    assert!(matches!(
        wire.frames_to(SECOND)[..],
        [ToGroup::Release { .. }]
    ));
}

/// The time of a SUBSCRIBE runs from when it was read, also while it waits for room.
#[test]
fn a_subscribe_that_waited_for_room_is_answered_in_ten_seconds() {
    let failed = ReasonCode::UnspecifiedError;
    for room_comes in [true, false] {
        let mut wire = Wire::at_groups(Version::V5);
        wire.settle_at(SECOND, 1);
        wire.settle_at(THIRD, 2);
        wire.frames.lane(SECOND).full = true;
        wire.send(&subscribe_packet(7, &["#"]));
        wait(&mut wire, 5);
        assert!(wire.frames_to(THIRD).is_empty());
        if room_comes {
            wire.go_on(SECOND);
        }
        wait(&mut wire, 5);
        assert!(matches!(wire.frames_to(THIRD)[..], [ToGroup::Subscribe(_)]));
        assert_eq!(wire.sent(), []);
        wait(&mut wire, 1);
        assert!(matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.reasons == [failed]));
    }
}

/// A publish that waits for room grows old like one that has left.
#[test]
fn a_publish_that_waited_for_room_for_five_minutes_ends_the_connection() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    for room_after_s in [0, 200] {
        let mut wire = Wire::at_groups(Version::V5);
        wire.settle_at(SECOND, 1);
        wire.frames.lane(SECOND).full = true;
        wire.publish(&topic_of(SECOND), QoS::AtLeastOnce, 1);
        assert!(!wire.session.reads(&wire.rules));
        wait(&mut wire, room_after_s);
        if room_after_s > 0 {
            wire.go_on(SECOND);
        }
        wait(&mut wire, 300 - room_after_s);
        assert_eq!(wire.session.ended(), None);
        wait(&mut wire, 1);
        assert_eq!(wire.session.ended(), Some(End::PublishUnanswered));
    }
    // So does one that waits until the connection has joined; and then nothing of it waits any more.
    wire.publish(&topic_of(THIRD), QoS::AtLeastOnce, 1);
    assert!(wire.frames.waiting_bytes(THIRD) > 0);
    wait(&mut wire, 301);
    assert_eq!(wire.session.ended(), Some(End::PublishUnanswered));
    assert_eq!(wire.frames.waiting_bytes(THIRD), 0);
}

#[test]
fn a_connect_waits_for_room_at_its_home() {
    let routing = three_groups();
    let mut wire = Wire::with_routing(ProxyLimits::default(), Arc::new(AcceptAll), routing);
    wire.frames.lane(HOME).full = true;
    wire.send_connect(Connect::new(Version::V5, &client_id()));
    assert!(wire.frames().is_empty());
    assert_eq!(wire.session.delayed_for(), Some(HOME));
    wire.go_on(HOME);
    assert!(matches!(wire.frames()[..], [ToGroup::Claim(_)]));
    wire.claimed_at([]);
    assert!(wire.session.is_connected());
}

/// What waits for a join is bounded for the client and for the shard, and given back at the end.
#[test]
fn what_waits_for_a_group_is_bounded() {
    let limits = ProxyLimits {
        receive_maximum: 3,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::at_groups_with(limits, Version::V311);
    let topic = topic_of(SECOND);
    wire.send(&subscribe_packet(1, &[&topic]));
    for _ in 0..5 {
        wire.publish(&topic, QoS::AtMostOnce, 0);
    }
    assert_eq!(wire.rules.counters.publishes_dropped_away.get(), 3);
    assert!(!wire.frames.is_full(SECOND));
    wire.frames
        .hold(SECOND, crate::limits::WAITING_BYTES_MAX - 1);
    assert!(wire.frames.is_full(SECOND), "the sessions' own bytes count");
    wire.with(|session, cx| session.end(End::SocketClosed, cx));
    assert!(!wire.frames.is_full(SECOND));
    wire.frames
        .release(SECOND, crate::limits::WAITING_BYTES_MAX - 1);
}

fn rejoin(wire: &mut Wire, group: GroupNo) {
    wire.frame_from(group, FromGroup::Rejoin { handle: HANDLE });
}

#[test]
fn a_group_that_has_forgotten_the_connection_is_joined_again() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    rejoin(&mut wire, SECOND);
    assert!(wire.session.reattach(SECOND).is_none());
    assert_eq!(wire.join_to(SECOND), Some(1));
    wire.publish(&topic_of(SECOND), QoS::AtLeastOnce, 1);
    wire.joined(SECOND);
    assert_eq!(publishes(&wire.frames_to(SECOND), SECOND), [1]);
    assert!(wire.session.is_connected());
}

#[test]
fn a_home_that_has_forgotten_the_connection_ends_it() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    rejoin(&mut wire, HOME);
    assert_eq!(wire.disconnect_reason(), ReasonCode::SessionTakenOver);
    assert!(matches!(
        wire.frames_to(SECOND)[..],
        [ToGroup::Disconnect(_)]
    ));
}

/// What the group had not answered it has forgotten too: the client must learn that, or it waits for ever.
#[test]
fn a_connection_ends_whose_publish_was_forgotten() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.publish(&topic_of(SECOND), QoS::AtLeastOnce, 1);
    rejoin(&mut wire, SECOND);
    assert!(wire.session.is_connected(), "the answer may still come");
    wire.joined(SECOND);
    assert_eq!(wire.session.ended(), Some(End::Forgotten));
    assert_eq!(wire.disconnect_reason(), ReasonCode::ServerBusy);
}

#[test]
fn a_group_that_nothing_is_open_at_is_left() {
    let mut wire = Wire::at_groups(Version::V5);
    let topic = topic_of(SECOND);
    wire.publish(&topic, QoS::AtLeastOnce, 1);
    wire.joined(SECOND);
    wire.frames_to(SECOND);
    wire.published_by(SECOND, 1, QoS::AtLeastOnce);
    rejoin(&mut wire, SECOND);
    assert!(wire.frames_to(SECOND).is_empty());
    assert!(wire.session.places.is_none());
    wire.publish(&topic, QoS::AtLeastOnce, 2);
    assert_eq!(wire.join_to(SECOND), None);
}

/// After a join the window comes again from its beginning; the client had some of it on this connection.
#[test]
fn deliveries_that_come_again_after_a_join_are_sent_once() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    let message = message("t", b"x");
    let deliver = |wire: &mut Wire, id: u16, dup| {
        let receiver = Receiver {
            handle: HANDLE,
            packet_id: PacketId::new(id),
            qos: QoS::AtLeastOnce,
            retain: false,
            dup,
            subscription_ids: None,
        };
        wire.deliver(&message, None, &receiver);
    };
    // Around the end of the group's packet ids.
    for id in [2045, 2046, 1024] {
        deliver(&mut wire, id, false);
    }
    assert_eq!(wire.sent().len(), 3);
    rejoin(&mut wire, SECOND);
    wire.joined(SECOND);
    for id in [2045, 2046, 1024, 1025] {
        deliver(&mut wire, id, true);
    }
    assert_eq!(wire.sent().len(), 1, "1025 is new");
    assert_eq!(wire.rules.counters.deliveries_repeated.get(), 3);
    rejoin(&mut wire, SECOND);
    wire.joined(SECOND);
    deliver(&mut wire, 1026, false);
    assert_eq!(wire.sent().len(), 1, "all before was completed");
}

/// A join was stored, its answer was lost with the link, and the link was away for so long that the group let the
/// connection go: to the join that comes again it says `Rejoin`, and nothing else.
#[test]
fn a_join_that_was_forgotten_before_its_answer_came_is_made_again() {
    let connect = Connect::new(Version::V5, &client_id());
    let mut wire = Wire::before_claim(ProxyLimits::default(), connect);
    wire.claimed_at([(SECOND, Some(1))]);
    assert_eq!(wire.join_to(SECOND), Some(1));
    wait(&mut wire, 3);
    assert!(wire.session.is_connected());
    rejoin(&mut wire, SECOND);
    assert_eq!(wire.join_to(SECOND), Some(1));
    // The same while a join is on its way that says the rank, which the group answers twice then.
    wire.publish(&topic_of(THIRD), QoS::AtLeastOnce, 1);
    assert_eq!(wire.join_to(THIRD), None);
    wire.publish(&topic_of(SECOND), QoS::AtLeastOnce, 2);
    wire.joined(SECOND);
    wire.joined(SECOND);
    assert_eq!(publishes(&wire.frames_to(SECOND), SECOND), [2]);
    rejoin(&mut wire, THIRD);
    assert_eq!(wire.join_to(THIRD), None);
    wire.joined(THIRD);
    assert_eq!(publishes(&wire.frames_to(THIRD), THIRD), [1]);
    assert!(wire.session.is_connected());
}

fn deliver_again(wire: &mut Wire, id: u16, qos: QoS, dup: bool) {
    let receiver = Receiver {
        handle: HANDLE,
        packet_id: PacketId::new(id),
        qos,
        retain: false,
        dup,
        subscription_ids: None,
    };
    wire.deliver(&message("t", b"x"), None, &receiver);
}

/// What a group had under way for a member of a shared queue goes back to the queue while the link is away, and its
/// packet ids with it: what is new then does not follow the last delivery.
#[test]
fn deliveries_behind_a_gap_of_packet_ids_are_new() {
    let q1 = QoS::AtLeastOnce;
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    for id in [2040, 2041] {
        deliver_again(&mut wire, id, q1, false);
    }
    assert_eq!(wire.sent().len(), 2);
    rejoin(&mut wire, SECOND);
    wire.joined(SECOND);
    deliver_again(&mut wire, 2044, q1, false);
    deliver_again(&mut wire, 2045, q1, false);
    assert_eq!(wire.sent().len(), 2, "no repeats");
    // The oldest comes again, 2045 has been completed, 2046 given back.
    rejoin(&mut wire, SECOND);
    wire.joined(SECOND);
    deliver_again(&mut wire, 2040, q1, true);
    assert_eq!(wire.sent(), []);
    deliver_again(&mut wire, 1024, q1, true);
    deliver_again(&mut wire, 1025, q1, true);
    assert_eq!(wire.sent().len(), 2);
}

/// Promise P4: what came at QoS 0 before CONNACK does not wait for room that is not for it.
#[test]
fn qos0_deliveries_before_connack_are_not_overtaken() {
    let mut connect = Connect::new(Version::V5, &client_id());
    connect.receive_maximum = std::num::NonZeroU16::new(1);
    let mut wire = Wire::before_claim(ProxyLimits::default(), connect);
    wire.claimed_at([(SECOND, Some(1))]);
    let qos0 = Receiver {
        handle: HANDLE,
        packet_id: None,
        qos: QoS::AtMostOnce,
        retain: false,
        dup: false,
        subscription_ids: None,
    };
    deliver_again(&mut wire, 1, QoS::AtLeastOnce, false);
    deliver_again(&mut wire, 2, QoS::AtLeastOnce, false);
    wire.deliver(&message("t", b"1"), None, &qos0);
    wire.joined(SECOND);
    wire.deliver(&message("t", b"2"), None, &qos0);
    let payloads: Vec<_> = wire
        .sent()
        .iter()
        .filter_map(|packet| match packet {
            Packet::Publish(publish) if publish.qos == QoS::AtMostOnce => {
                Some(publish.message.payload().to_vec())
            }
            _ => None,
        })
        .collect();
    assert_eq!(payloads, [b"1", b"2"]);
}

/// Promises P8 and P10: a client can acknowledge without end what a group that is away cannot take.
#[test]
fn acknowledgements_for_a_full_group_stop_the_reading() {
    for packet in [Packet::PubAck, Packet::PubRec, Packet::PubComp] {
        for group in [HOME, SECOND] {
            let mut wire = Wire::at_groups(Version::V5);
            wire.settle_at(SECOND, 1);
            wire.frames();
            let id = if group == HOME { 1 } else { 1024 };
            deliver_again(&mut wire, id, QoS::ExactlyOnce, false);
            wire.frames.lane(group).full = true;
            wire.ack(packet, id);
            assert!(wire.frames_to(group).is_empty());
            assert!(!wire.session.reads(&wire.rules));
            assert_eq!(wire.session.delayed_for(), Some(group));
            wire.go_on(group);
            assert!(matches!(wire.frames_to(group)[..], [ToGroup::Ack(_)]));
            assert!(wire.session.reads(&wire.rules));
        }
    }
}

/// A SUBSCRIBE that waits behind a PUBLISH is followed by what undoes it.
#[test]
fn an_unsubscribe_follows_a_subscribe_that_waits() {
    let mut wire = Wire::at_groups(Version::V5);
    let topic = topic_of(SECOND);
    wire.publish(&topic, QoS::AtLeastOnce, 1);
    wire.send(&subscribe_packet(7, &[&topic]));
    wire.send(&unsubscribe_packet(8, &[&topic]));
    assert_eq!(wire.sent(), [], "no group has answered");
    wire.frames_to(SECOND);
    wire.joined(SECOND);
    wire.listed(SECOND, Some(1));
    wire.joined(SECOND);
    let frames = wire.frames_to(SECOND);
    let acting: Vec<_> = frames
        .iter()
        .filter(|frame| !matches!(frame, ToGroup::Join(_)))
        .collect();
    assert!(
        matches!(
            acting[..],
            [
                ToGroup::Publish(_),
                ToGroup::Subscribe(_),
                ToGroup::Unsubscribe(_)
            ]
        ),
        "{frames:?}"
    );
}

/// A packet may have more filters than 16 bits count.
#[test]
fn every_filter_of_a_large_subscribe_is_asked_for() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    let texts: Vec<_> = (0..66_000).map(|n| format!("{n:x}")).collect();
    let filters: Vec<_> = texts.iter().map(String::as_str).collect();
    wire.send(&subscribe_packet(7, &filters));
    let groups = [HOME, SECOND, THIRD];
    let mut asked = 0;
    for group in groups {
        let place = wire.session.place(group).map_or(0, |place| place.waiting());
        if place > 0 {
            wire.listed(group, Some(2));
            wire.joined(group);
        }
        for frame in wire.frames_to(group) {
            if let ToGroup::Subscribe(subscribe) = frame {
                asked += subscribe.filters.len();
            }
        }
    }
    assert_eq!(asked, filters.len());
}

/// Promise P8: clients that come and go while one of their groups is away add nothing to a link that takes no more.
#[test]
fn a_session_joins_a_full_group_when_that_has_room() {
    let connect = Connect::new(Version::V5, &client_id());
    let mut wire = Wire::with_routing(ProxyLimits::default(), Arc::new(AcceptAll), three_groups());
    wire.frames.lane(SECOND).full = true;
    for _ in 0..10_000 {
        wire.session = Session::new(HANDLE);
        wire.send_connect(connect.clone());
        wire.claimed_at([(SECOND, Some(1)), (THIRD, Some(2))]);
        wire.with(|session, cx| session.end(End::SocketClosed, cx));
        wire.sent();
    }
    assert!(wire.frames_to(SECOND).is_empty());
    wire.frames_to(THIRD);
    wire.frames();
    wire.frames.lane(SECOND).waits = Waits::default();

    wire.session = Session::new(HANDLE);
    wire.send_connect(connect);
    wire.claimed_at([(SECOND, Some(1)), (THIRD, Some(2))]);
    wire.joined(THIRD);
    assert!(!wire.session.is_connected(), "CONNACK waits for the group");
    wait(&mut wire, 3);
    assert!(wire.session.is_connected(), "but not for ever");
    assert!(wire.session.reattach(SECOND).is_none());
    wire.go_on(SECOND);
    assert_eq!(wire.join_to(SECOND), Some(1));
    wire.go_on(SECOND);
    assert!(wire.frames_to(SECOND).is_empty(), "it joins once");
    wire.joined(SECOND);
    assert!(wire.session.reattach(SECOND).is_some());
}

/// What waits in sessions leaves behind a join only, so a join does not wait for that.
#[test]
fn joins_do_not_wait_for_what_waits_for_them() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.frames
        .hold(SECOND, crate::limits::WAITING_BYTES_MAX - 1);
    wire.publish(&topic_of(SECOND), QoS::AtLeastOnce, 1);
    assert!(wire.frames.is_full(SECOND));
    assert_eq!(wire.join_to(SECOND), None);
    wire.frames
        .release(SECOND, crate::limits::WAITING_BYTES_MAX - 1);
}

/// A claim that was never sent has no answer; nothing is remembered of it.
#[test]
fn connects_that_find_their_home_full_leave_nothing() {
    let connect = Connect::new(Version::V5, &client_id());
    let mut wire = Wire::with_routing(ProxyLimits::default(), Arc::new(AcceptAll), three_groups());
    wire.frames.lane(HOME).full = true;
    for index in 0..100 {
        let handle = Handle { index, ..HANDLE };
        wire.session = Session::new(handle);
        wire.send_connect(connect.clone());
        wait(&mut wire, 6);
        assert_eq!(wire.session.ended(), Some(End::ClaimTimeout));
        wire.sent();
    }
    assert!(wire.frames().is_empty());
    assert!(wire.frames.void_claims(HOME).is_empty());
}
