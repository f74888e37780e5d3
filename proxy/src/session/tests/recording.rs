//! What the session store hears.

use super::groups::{SECOND, THIRD, actor_at, client_id};
use super::*;
use crate::limits::ATTACH_WAIT_S;
use crate::records::{FilterQuestion, Held, Listed, Said, What};
use cluster::filters::HeldFilter;
use cluster::frame::Filters;
use protocol::{Subscribe, SubscribeOptions, TopicFilter};
use session_store::EventKind;

#[test]
fn the_record_gets_what_was_granted_and_how_it_ended() {
    let mut wire = Wire::new(ProxyLimits::default());
    wire.send_connect(Connect {
        username: Some("user".into()),
        ..Connect::new(Version::V5, "client")
    });
    assert!(wire.frames.changes.is_empty(), "nothing is stored yet");
    wire.claimed(true);
    let options = SubscribeOptions::default();
    wire.send(&Packet::Subscribe(Subscribe {
        packet_id: packet_id(1),
        subscription_id: Some(8),
        filters: ["a", "b"]
            .map(|text| (TopicFilter::new(text).expect("valid"), options))
            .to_vec(),
    }));
    assert_eq!(wire.frames.changes.len(), 1, "nothing is granted yet");
    let reasons = [ReasonCode::QuotaExceeded, ReasonCode::GrantedQoS1];
    wire.subscribed(HOME, 1, &reasons);
    wire.with(|session, cx| session.end(End::KeepAlive, cx));

    let changes = std::mem::take(&mut wire.frames.changes);
    assert!(
        changes
            .iter()
            .all(|change| &*change.client_id == "client" && change.epoch == ACTOR.epoch.0)
    );
    let [connected, subscribed, ended] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    let What::Connected(connected) = &connected.what else {
        panic!("{connected:?}")
    };
    assert!(connected.resumed.is_some() && connected.address.is_some());
    assert_eq!(connected.user.as_deref(), Some("user"));
    let filters = vec![(TopicFilter::new("b").expect("valid"), options)];
    assert_eq!(
        subscribed.what,
        What::Subscribed {
            filters,
            subscription_id: 8
        }
    );
    let how = EventKind::ClosedFor(ReasonCode::KeepAliveTimeout.as_u8());
    assert_eq!(ended.what, What::Ended { expiry_s: 0, how });
}

/// Whoever keeps the record waits for nothing more of the connection then, and remembers nothing of it.
#[test]
fn a_connection_that_its_home_ends_is_over_for_the_record_too() {
    let mut wire = Wire::new(ProxyLimits::default());
    wire.send_connect(Connect::new(Version::V5, "client"));
    wire.claimed(true);
    changes(&mut wire);
    let reason = ReasonCode::SessionTakenOver;
    wire.frame(FromGroup::Kick {
        handle: HANDLE,
        reason,
    });
    let how = EventKind::ClosedFor(reason.as_u8());
    assert_eq!(changes(&mut wire), [What::Ended { expiry_s: 0, how }]);
}

fn changes(wire: &mut Wire) -> Vec<What> {
    let changes = std::mem::take(&mut wire.frames.changes);
    changes.into_iter().map(|change| change.what).collect()
}

fn digest(group: GroupNo) -> (GroupNo, Said) {
    (group, Said::Digest(digest_at(group)))
}

/// A session that is at three groups and of which the third is away.
fn resumed_without_third() -> Wire {
    let connect = Connect::new(Version::V5, &client_id());
    let mut wire = Wire::before_claim(ProxyLimits::default(), connect);
    wire.claimed_at([(SECOND, Some(1)), (THIRD, Some(2))]);
    wire.joined(SECOND);
    assert!(wire.frames.changes.is_empty(), "CONNACK has not left");
    wire.rules.now_s += ATTACH_WAIT_S + 1;
    wire.with(Session::overdue);
    assert!(wire.session.is_connected());
    wire
}

#[test]
fn a_resume_tells_what_each_group_says_that_it_holds() {
    let mut wire = resumed_without_third();
    let told = changes(&mut wire);
    let [What::Connected(connected)] = told.as_slice() else {
        panic!("{told:?}")
    };
    let held = connected.resumed.as_deref().expect("it is resumed");
    assert_eq!(held.handle, HANDLE);
    let said = [digest(HOME), digest(SECOND), (THIRD, Said::Nothing)];
    assert_eq!(*held.groups, said);
    // The third one comes late, and once.
    wire.joined(THIRD);
    let said = [(HOME, Said::Before), (SECOND, Said::Before), digest(THIRD)];
    let late = Held {
        handle: HANDLE,
        groups: said.into(),
    };
    assert_eq!(changes(&mut wire), [What::Held(Box::new(late))]);
    wire.joined(THIRD);
    assert!(changes(&mut wire).is_empty());
}

#[test]
fn a_group_that_had_forgotten_the_connection_is_told_anew() {
    let mut wire = resumed_without_third();
    changes(&mut wire);
    wire.frame_from(SECOND, FromGroup::Rejoin { handle: HANDLE });
    assert!(changes(&mut wire).is_empty());
    wire.joined(SECOND);
    let told = changes(&mut wire);
    let [What::Held(held)] = told.as_slice() else {
        panic!("{told:?}")
    };
    let said = [(HOME, Said::Before), digest(SECOND), (THIRD, Said::Nothing)];
    assert_eq!(*held.groups, said);
}

#[test]
fn a_group_that_a_new_session_comes_to_has_nothing_to_tell() {
    let mut wire = Wire::at_groups(Version::V5);
    wire.settle_at(SECOND, 1);
    let told = changes(&mut wire);
    assert!(!told.iter().any(|what| matches!(what, What::Held(_))));
}

#[test]
fn groups_are_asked_for_filters_as_the_record_wants_it() {
    let mut wire = resumed_without_third();
    let ask = |wire: &mut Wire, group, number| {
        wire.frames_to(group);
        let after = Some(TopicFilter::new("a").expect("valid"));
        let handle = HANDLE;
        let question = FilterQuestion {
            handle,
            group,
            number,
            after,
        };
        wire.with(|session, cx| session.ask_for_filters(question, cx));
        wire.frames_to(group)
    };
    for (group, actor) in [(HOME, ACTOR), (SECOND, actor_at(SECOND))] {
        let frames = ask(&mut wire, group, 7);
        let [ToGroup::ListFilters(asked)] = frames.as_slice() else {
            panic!("{frames:?}")
        };
        assert_eq!((asked.actor, asked.number), (actor, 7));
        assert_eq!(asked.after.as_ref().map(TopicFilter::as_str), Some("a"));
    }
    assert!(ask(&mut wire, THIRD, 8).is_empty(), "it has not let us in");
    wire.joined(THIRD);
    let frames = wire.frames_to(THIRD);
    assert!(matches!(&frames[..], [ToGroup::ListFilters(asked)] if asked.actor == actor_at(THIRD)));
    changes(&mut wire);
    let filters = vec![HeldFilter {
        filter: TopicFilter::new("b").expect("valid"),
        options: SubscribeOptions::default(),
        subscription_id: 3,
    }];
    let page = Filters {
        handle: HANDLE,
        number: 8,
        filters: filters.clone(),
        more: true,
    };
    wire.frame_from(THIRD, FromGroup::Filters(Box::new(page)));
    let listed = Listed {
        number: 8,
        filters,
        more: true,
    };
    assert_eq!(changes(&mut wire), [What::Listed(Box::new(listed))]);
    wire.with(|session, cx| session.end(End::SocketClosed, cx));
    assert!(
        !ask(&mut wire, HOME, 9)
            .iter()
            .any(|frame| matches!(frame, ToGroup::ListFilters(_)))
    );
}
