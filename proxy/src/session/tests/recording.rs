//! What the session store hears.

use super::*;
use crate::records::What;
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
    assert!(connected.session_present && connected.address.is_some());
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
