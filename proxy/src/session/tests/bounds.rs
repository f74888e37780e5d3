//! What a session costs in memory.

use super::*;

#[test]
fn an_idle_session_is_small() {
    assert!(
        size_of::<Session>() <= 112,
        "{} bytes",
        size_of::<Session>()
    );
}

#[test]
fn what_only_work_needs_goes_with_the_work() {
    let mut wire = Wire::connected(Version::V311);
    assert!(wire.session.busy.is_none());
    wire.publish("a", QoS::AtLeastOnce, 1);
    wire.session.rest();
    assert!(wire.session.busy.is_some(), "an answer is owed");
    wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
    wire.session.rest();
    assert!(wire.session.busy.is_none());
}

/// Refusals that wait for their turn are bounded like publishes.
#[test]
fn refusals_behind_an_open_publish_stop_reading() {
    let limits = ProxyLimits {
        topic_levels_max: 1,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::connected_with(limits, Connect::new(Version::V5, "client"));
    wire.publish("a", QoS::AtLeastOnce, 1);
    for id in 2..=1024 {
        wire.publish("a/b", QoS::AtLeastOnce, id);
        assert!(wire.session.is_connected());
    }
    wire.publish("a/b", QoS::AtLeastOnce, 1025);
    assert_eq!(wire.session.ended(), Some(End::Rule(Rule::ReceiveMaximum)));
}

/// The count of open requests cannot run over, whatever the limits.
#[test]
fn a_flood_of_pubrel_stops_reading() {
    let limits = ProxyLimits {
        receive_maximum: u16::MAX,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::connected_with(limits, Connect::new(Version::V5, "client"));
    let flood = [0x62, 2, 0, 1].repeat(70_000);
    let received = wire.send_bytes(&flood);
    let requests = usize::from(u16::MAX) + usize::from(OTHER_REQUESTS_MAX);
    assert_eq!(received.consumed, 4 * requests);
    assert_eq!(wire.frames().len(), requests);
    assert!(wire.session.is_connected());
}
