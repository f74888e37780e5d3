//! Records survive their stored form, stay small, and nothing else is taken for one.

mod common;

use common::device;
use mqtt_fleet_session_store::limits::HISTORY_EVENTS;
use mqtt_fleet_session_store::{Event, EventKind, Filter, FilterOptions, Record, StoreError};
use proptest::prelude::*;

fn kinds() -> impl Strategy<Value = EventKind> {
    prop_oneof![
        Just(EventKind::Connected),
        any::<u8>().prop_map(EventKind::Refused),
        any::<u8>().prop_map(EventKind::LeftWith),
        any::<u8>().prop_map(EventKind::ClosedFor),
        Just(EventKind::Lost),
    ]
}

fn filters() -> impl Strategy<Value = Filter> {
    let options = (0..3_u8, any::<bool>(), any::<bool>(), 0..3_u8).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| FilterOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    );
    (".*", options, prop::option::of(1..268_435_456_u32)).prop_map(
        |(filter, options, subscription_id)| Filter {
            filter,
            options,
            subscription_id,
        },
    )
}

prop_compose! {
    fn records()(
        client_id in ".*",
        epoch in any::<u64>(),
        protocol_version in 3..6_u8,
        user in prop::option::of(".*"),
        node in ".*",
        address in any::<Option<std::net::SocketAddr>>(),
        clean_start in any::<bool>(),
        expiry_s in any::<u32>(),
        connected_at_ms in any::<u64>(),
        disconnected_at_ms in any::<Option<u64>>(),
        history in prop::collection::vec((any::<u64>(), kinds()), 0..=HISTORY_EVENTS),
        filters in prop::collection::vec(filters(), 0..5),
    ) -> Record {
        let history = history.into_iter().map(|(at_ms, kind)| Event { at_ms, kind }).collect();
        Record {
            client_id, epoch, protocol_version, user, node, address, clean_start, expiry_s,
            connected_at_ms, disconnected_at_ms, history, filters,
        }
    }
}

proptest! {
    #[test]
    fn any_record_comes_back(record in records()) {
        // The compact form has no room for the flow label of an IPv6 address.
        let mut record = record;
        if let Some(std::net::SocketAddr::V6(address)) = record.address {
            record.address = Some((*address.ip(), address.port()).into());
        }
        let bytes = record.encode().expect("small enough");
        prop_assert_eq!(Record::decode(&bytes).expect("a record"), record);
        for cut in 0..bytes.len() {
            prop_assert!(Record::decode(&bytes[..cut]).is_err(), "cut at {}", cut);
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert!(Record::decode(&longer).is_err());
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(record) = Record::decode(&[&[1], &bytes[..]].concat()) {
            prop_assert!(record.encode().is_ok());
        }
    }
}

#[test]
fn an_idle_device_takes_little() {
    let bytes = device(123_456, 1 << 40).encode().expect("small").len();
    assert!(bytes <= 100, "{bytes}");
}

#[test]
fn the_oldest_events_go() {
    let mut record = device(1, 1);
    for at_ms in 10..20 {
        record.push_event(at_ms, EventKind::Lost);
    }
    let times: Vec<_> = record.history.iter().map(|event| event.at_ms).collect();
    assert_eq!(times, [16, 17, 18, 19]);
}

#[test]
fn another_version_is_named() {
    let mut bytes = device(1, 1).encode().expect("small");
    bytes[0] = 7;
    assert!(matches!(
        Record::decode(&bytes),
        Err(StoreError::Unsupported { version: 7 })
    ));
}

#[test]
fn reserved_options_are_refused() {
    for byte in [3, 0b11_0000, 0b100_0000, 0xFF] {
        assert!(FilterOptions::from_byte(byte).is_err(), "{byte}");
    }
}
