use super::*;
use crate::limits::OPEN_MAX;
use crate::wire::{Scan, Version, scan};

/// What left, as (first byte, packet id, message number); PUBRELs have no number.
fn packets(out: &mut Vec<u8>) -> Vec<(u8, u16, Option<u64>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Scan::Packet(packet) = scan(&out[at..]) {
        at += packet.len;
        if packet.first & 0xF0 == kind::PUBLISH {
            let (id, stamp) = wire::delivery(&packet, Version::V5).expect("well-formed");
            found.push((packet.first, id, Some(stamp.seq)));
        } else {
            let id = wire::packet_id(packet.body).expect("well-formed");
            found.push((packet.first, id, None));
        }
    }
    assert_eq!(at, out.len(), "whole packets");
    out.clear();
    found
}

fn publisher(qos: u8) -> (Publisher, Ledger, Vec<u8>) {
    let mut publisher = Publisher::new(Template::new(Version::V5, qos, "a/b", 0, 20), qos);
    let mut ledger = Ledger::new(qos);
    publisher.begin(u16::MAX, false);
    ledger.sent(u64::MAX);
    (publisher, ledger, Vec::new())
}

/// Messages below `below` are due, each since its number in milliseconds.
fn due(below: u64, now_ms: u64) -> Due<impl Fn(u64) -> u64> {
    Due {
        below,
        intended_ns: |number| number * 1_000_000,
        now_ns: now_ms * 1_000_000,
        late_ns: 50_000_000,
    }
}

const PUB_1: u8 = kind::PUBLISH | 0b10;
const PUB_2: u8 = kind::PUBLISH | 0b100;
const REL: u8 = kind::PUBREL | 0b10;

#[test]
fn what_is_open_is_sent_again_in_order_with_its_id_and_dup() {
    let (mut publisher, mut ledger, mut out) = publisher(1);
    publisher.fill(&due(4, 4), &mut ledger, &mut out);
    let first = packets(&mut out);
    assert_eq!(first[2], (PUB_1, 3, Some(2)));
    for id in [1, 2] {
        let acked = publisher.take(kind::PUBACK, id, 0, &mut out);
        assert_eq!(acked, Ok(Acked::Promised(u64::from(id) - 1)));
    }
    publisher.end();
    assert_eq!(publisher.unacked(), 2);
    publisher.begin(u16::MAX, false);
    publisher.fill(&due(5, 5), &mut ledger, &mut out);
    let again = PUB_1 | wire::DUP;
    let expected = [
        (again, 3, Some(2)),
        (again, 4, Some(3)),
        (PUB_1, 5, Some(4)),
    ];
    assert_eq!(packets(&mut out), expected);
}

#[test]
fn at_qos_2_what_was_received_is_only_released_again() {
    let (mut publisher, mut ledger, mut out) = publisher(2);
    publisher.fill(&due(3, 3), &mut ledger, &mut out);
    packets(&mut out);
    for id in [1, 2] {
        let acked = publisher.take(kind::PUBREC, id, 0, &mut out);
        assert_eq!(acked, Ok(Acked::Going));
    }
    assert_eq!(packets(&mut out), [(REL, 1, None), (REL, 2, None)]);
    assert_eq!(
        publisher.take(kind::PUBCOMP, 2, 0, &mut out),
        Ok(Acked::Promised(1)),
        "PUBCOMPs need no order"
    );
    publisher.begin(u16::MAX, false);
    publisher.fill(&due(3, 3), &mut ledger, &mut out);
    let expected = [(REL, 1, None), (PUB_2 | wire::DUP, 3, Some(2))];
    assert_eq!(packets(&mut out), expected);
    // 0x92: the broker had completed it before it crashed.
    assert_eq!(
        publisher.take(kind::PUBCOMP, 1, 0x92, &mut out),
        Ok(Acked::Promised(0))
    );
    assert_eq!(publisher.unacked(), 1);
}

#[test]
fn after_a_lost_session_everything_open_is_new() {
    let (mut publisher, mut ledger, mut out) = publisher(2);
    publisher.fill(&due(2, 2), &mut ledger, &mut out);
    let taken = publisher.take(kind::PUBREC, 1, 0, &mut out);
    assert_eq!(taken, Ok(Acked::Going));
    publisher.begin(u16::MAX, true);
    out.clear();
    publisher.fill(&due(2, 2), &mut ledger, &mut out);
    assert_eq!(
        packets(&mut out),
        [(PUB_2, 1, Some(0)), (PUB_2, 2, Some(1))]
    );
    for number in [0, 1, 0] {
        ledger.arrived(number, false).expect("was sent");
    }
    let sums = ledger.sums();
    assert_eq!((sums.duplicated, sums.repeated), (0, 1), "it was told");
}

#[test]
fn receive_maximum_holds_for_new_and_for_old_messages() {
    let (mut publisher, mut ledger, mut out) = publisher(1);
    publisher.begin(3, false);
    publisher.fill(&due(10, 10), &mut ledger, &mut out);
    assert_eq!(packets(&mut out).len(), 3);
    publisher.begin(2, false);
    publisher.fill(&due(10, 10), &mut ledger, &mut out);
    assert_eq!(packets(&mut out).len(), 2);
    let acked = publisher.take(kind::PUBACK, 1, 0, &mut out);
    assert_eq!(acked, Ok(Acked::Promised(0)));
    publisher.fill(&due(10, 10), &mut ledger, &mut out);
    assert_eq!(packets(&mut out), [(PUB_1 | wire::DUP, 3, Some(2))]);
}

#[test]
fn open_messages_are_bounded_and_what_waits_leaves_late_with_its_own_time() {
    let (mut publisher, mut ledger, mut out) = publisher(1);
    let all = OPEN_MAX as u64 + 2;
    let sent = publisher.fill(&due(all, 0), &mut ledger, &mut out);
    assert_eq!((sent.fresh, sent.late), (OPEN_MAX as u64, 0));
    assert_eq!(packets(&mut out).len(), OPEN_MAX);
    let acked = publisher.take(kind::PUBACK, 1, 0, &mut out);
    assert_eq!(acked, Ok(Acked::Promised(0)));
    let sent = publisher.fill(&due(all, all + 100), &mut ledger, &mut out);
    assert_eq!((sent.fresh, sent.late), (1, 1));
    let Scan::Packet(packet) = scan(&out) else {
        panic!("a PUBLISH")
    };
    let (_, stamp) = wire::delivery(&packet, Version::V5).expect("well-formed");
    assert_eq!(stamp.time_ns, stamp.seq * 1_000_000);
}

#[test]
fn packet_ids_go_round_and_still_name_one_message() {
    let (mut publisher, mut ledger, mut out) = publisher(1);
    for number in 0..65_535 + 10 {
        publisher.fill(&due(number + 1, 0), &mut ledger, &mut out);
        out.clear();
        let id = (number % 65_535) as u16 + 1;
        let acked = publisher.take(kind::PUBACK, id, 0, &mut out);
        assert_eq!(acked, Ok(Acked::Promised(number)));
    }
}

#[test]
fn a_refusal_promises_nothing() {
    let (mut publisher, mut ledger, mut out) = publisher(2);
    publisher.fill(&due(1, 0), &mut ledger, &mut out);
    let taken = publisher.take(kind::PUBREC, 1, 0x97, &mut out);
    assert_eq!(taken, Ok(Acked::Refused(0x97)));
    assert_eq!((publisher.unacked(), publisher.waits()), (0, false));
}

#[test]
fn what_a_broker_must_not_do_is_named() {
    let (mut one, mut ledger, mut out) = publisher(1);
    one.fill(&due(3, 0), &mut ledger, &mut out);
    let wrong = [(kind::PUBACK, 4), (kind::PUBREC, 1), (kind::PUBCOMP, 1)];
    for (first, id) in wrong.into_iter().chain([(kind::PUBACK, 0)]) {
        assert!(one.take(first, id, 0, &mut out).is_err(), "{first} {id}");
    }
    assert!(one.take(kind::PUBACK, 2, 0, &mut out).is_err(), "order");
    assert_eq!(
        one.take(kind::PUBACK, 1, 0, &mut out),
        Ok(Acked::Promised(0))
    );
    assert!(one.take(kind::PUBACK, 1, 0, &mut out).is_err(), "twice");
    one.begin(1, false);
    one.fill(&due(3, 0), &mut ledger, &mut out);
    let early = one.take(kind::PUBACK, 3, 0, &mut out);
    assert!(early.is_err(), "not sent again yet on this connection");

    let (mut two, mut ledger, mut out) = publisher(2);
    two.fill(&due(1, 0), &mut ledger, &mut out);
    assert!(two.take(kind::PUBCOMP, 1, 0, &mut out).is_err());
    two.take(kind::PUBREC, 1, 0, &mut out).expect("in turn");
    assert!(two.take(kind::PUBREC, 1, 0, &mut out).is_err());
    assert!(two.take(kind::PUBCOMP, 1, 0x80, &mut out).is_err());
}
