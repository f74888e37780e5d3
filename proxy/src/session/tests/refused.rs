//! SUBSCRIBEs that fail at a group: what they made is taken back, and nothing else.

use super::groups::*;
use super::groups_away::wait;
use super::*;
use cluster::frame::FilterOutcome;

impl Wire {
    /// The group had the filters before.
    fn replaced(&mut self, from: GroupNo, id: u16, reasons: &[ReasonCode]) {
        self.answer_subscribe(from, id, reasons, false);
    }

    pub(super) fn answer_subscribe(
        &mut self,
        from: GroupNo,
        id: u16,
        reasons: &[ReasonCode],
        is_new: bool,
    ) {
        let outcome = |&reason: &ReasonCode| FilterOutcome {
            reason,
            is_new: is_new && !reason.is_error(),
        };
        let answer = FromGroup::Subscribed {
            handle: HANDLE,
            packet_id: packet_id(id),
            outcomes: reasons.iter().map(outcome).collect(),
        };
        self.frame_from(from, answer);
    }

    /// Takes the one frame to a group, which must be UNSUBSCRIBE: its filters.
    fn taken_back(&mut self, group: GroupNo) -> Vec<String> {
        match &self.frames_to(group)[..] {
            [ToGroup::Unsubscribe(frame)] => {
                let filters = frame.filters.iter();
                filters.map(|filter| filter.as_str().to_owned()).collect()
            }
            other => panic!("UNSUBSCRIBE expected, not {other:?}"),
        }
    }
}

/// The filters of a group that is away have failed, and what was made of them anywhere is taken back.
#[test]
fn a_subscribe_fails_where_a_group_does_not_answer() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.settle_at(THIRD, 2);
    wire.send(&subscribe_packet(7, &["#", &topic_of(SECOND)]));
    for group in [HOME, SECOND, THIRD] {
        assert!(matches!(wire.frames_to(group)[..], [ToGroup::Subscribe(_)]));
    }
    let granted = ReasonCode::GrantedQoS1;
    wire.subscribed(HOME, 7, &[granted]);
    wire.subscribed(SECOND, 7, &[granted, granted]);
    wait(&mut wire, 10);
    assert_eq!(wire.sent(), []);
    wait(&mut wire, 1);
    let failed = ReasonCode::UnspecifiedError;
    assert!(
        matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.reasons == [failed, granted]),
        "the filter of the group that is away"
    );
    assert_eq!(wire.rules.counters.subscribes_given_up.get(), 1);
    assert_eq!(wire.taken_back(HOME), ["#"]);
    assert_eq!(wire.taken_back(SECOND), ["#"]);
    assert!(
        wire.frames_to(THIRD).is_empty(),
        "it may have had it before"
    );
    // The client uses the packet id again; the late answers are not for it.
    wire.send(&subscribe_packet(7, &[&topic_of(THIRD)]));
    assert!(matches!(wire.frames_to(THIRD)[..], [ToGroup::Subscribe(_)]));
    wire.subscribed(THIRD, 7, &[granted]);
    assert_eq!(wire.taken_back(THIRD), ["#"]);
    assert_eq!(wire.sent(), []);
    wire.subscribed(THIRD, 7, &[granted]);
    assert!(matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.reasons == [granted]));
    for group in [HOME, SECOND, THIRD] {
        wire.unsubscribed(group, 7, &[ReasonCode::Success]);
    }
    assert_eq!(wire.sent(), []);
    assert_eq!(wire.session.requests, 0);
}

/// Promise P2: a subscription that was acknowledged before stays, whatever becomes of a later SUBSCRIBE.
#[test]
fn a_subscribe_that_fails_takes_no_earlier_subscription_along() {
    let granted = ReasonCode::GrantedQoS1;
    let mut wire = Wire::at_groups(Version::V5);
    for (group, rank) in [(SECOND, 1), (THIRD, 2)] {
        wire.settle_at(group, rank);
    }
    wire.send(&subscribe_packet(7, &["#", &topic_of(THIRD)]));
    wire.replaced(HOME, 7, &[granted]);
    wire.replaced(SECOND, 7, &[granted]);
    wait(&mut wire, 11);
    assert!(matches!(wire.sent()[..], [Packet::SubAck(_)]));
    wire.replaced(THIRD, 7, &[granted, granted]);
    for group in [HOME, SECOND, THIRD] {
        let frames = wire.frames_to(group);
        let undone = frames
            .iter()
            .any(|frame| matches!(frame, ToGroup::Unsubscribe(_)));
        assert!(!undone, "{frames:?}");
    }
    assert_eq!(wire.session.requests, 0);
}

/// The client asks again for what it was refused, before the late answer to the first comes.
#[test]
fn a_later_subscribe_decides_what_becomes_of_a_refused_one() {
    let granted = ReasonCode::GrantedQoS1;
    let topic = topic_of(SECOND);
    for survives in [true, false] {
        let mut wire = Wire::at_groups(Version::V5);
        wire.settle_at(SECOND, 1);
        wire.send(&subscribe_packet(7, &[&topic]));
        wait(&mut wire, 11);
        wire.send(&subscribe_packet(8, &[&topic]));
        wire.frames_to(SECOND);
        wire.sent();
        if !survives {
            wait(&mut wire, 11);
            assert!(matches!(wire.sent()[..], [Packet::SubAck(_)]));
        }
        wire.subscribed(SECOND, 7, &[granted]);
        assert!(wire.frames_to(SECOND).is_empty());
        wire.replaced(SECOND, 8, &[granted]);
        if survives {
            assert!(matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.reasons == [granted]));
            assert!(wire.frames_to(SECOND).is_empty());
        } else {
            assert_eq!(wire.taken_back(SECOND), [topic.as_str()]);
        }
    }
}

/// The same where a group answers both before another has answered the first.
#[test]
fn an_answered_part_of_a_later_subscribe_decides_too() {
    let granted = ReasonCode::GrantedQoS1;
    for survives in [true, false] {
        let mut wire = Wire::at_groups(Version::V5);
        wire.settle_at(SECOND, 1);
        wire.settle_at(THIRD, 2);
        wire.send(&subscribe_packet(7, &["#"]));
        wait(&mut wire, 5);
        wire.send(&subscribe_packet(8, &["#"]));
        for group in [HOME, SECOND] {
            wire.subscribed(group, 7, &[granted]);
            wire.replaced(group, 8, &[granted]);
            wire.frames_to(group);
        }
        wait(&mut wire, 6);
        assert!(matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.packet_id.get() == 7));
        assert!(wire.frames().is_empty(), "the second still waits");
        if survives {
            wire.frames_to(THIRD);
            wire.subscribed(THIRD, 7, &[granted]);
            wire.replaced(THIRD, 8, &[granted]);
            assert!(matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.reasons == [granted]));
            for group in [HOME, SECOND, THIRD] {
                assert!(wire.frames_to(group).is_empty());
            }
        } else {
            wait(&mut wire, 5);
            assert!(matches!(&wire.sent()[..], [Packet::SubAck(ack)] if ack.packet_id.get() == 8));
            assert_eq!(wire.taken_back(HOME), ["#"]);
            assert_eq!(wire.taken_back(SECOND), ["#"]);
        }
    }
}

/// An UNSUBSCRIBE behind a refused SUBSCRIBE has removed what that made; a third SUBSCRIBE behind it stays.
#[test]
fn nothing_is_taken_back_across_an_unsubscribe() {
    let granted = ReasonCode::GrantedQoS1;
    let topic = topic_of(SECOND);
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    wire.send(&subscribe_packet(7, &[&topic]));
    wait(&mut wire, 11);
    wire.send(&unsubscribe_packet(8, &[&topic]));
    wire.send(&subscribe_packet(9, &[&topic]));
    wire.frames_to(SECOND);
    wire.sent();
    wire.subscribed(SECOND, 7, &[granted]);
    wire.unsubscribed(SECOND, 8, &[ReasonCode::Success]);
    wire.subscribed(SECOND, 9, &[granted]);
    assert!(wire.frames_to(SECOND).is_empty());
    assert!(matches!(
        wire.sent()[..],
        [Packet::UnsubAck(_), Packet::SubAck(_)]
    ));
    assert_eq!(wire.session.requests, 0);
}
