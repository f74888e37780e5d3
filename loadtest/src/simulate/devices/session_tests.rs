//! Messages out and in.

use super::*;
use crate::control::message::{Receipt, Seen};
use crate::simulate::devices::bench::{Bench, DEVICE, START_US, quiet};

#[test]
fn telemetry_leaves_when_due_and_waits_for_the_receive_maximum() {
    let mut bench = Bench::new(|_| {});
    bench.connect(false, 2);
    bench.suback();
    assert!(
        bench.device().due_us <= START_US + 1_000_000,
        "within the first interval"
    );
    let first_us = bench.device().due_us;
    bench.next();
    assert_eq!(bench.telemetry(), [(false, 2, 0)]);
    bench.next();
    assert_eq!(bench.device().due_us, first_us + 2_000_000);
    assert_eq!(bench.telemetry(), [(false, 3, 1)]);
    bench.now_us = first_us + 2_500_000;
    bench.due();
    assert!(bench.telemetry().is_empty(), "no room");
    let deadline_us = bench
        .crowd
        .deadline_us(DEVICE as usize, false)
        .expect("keepalive");
    assert!(deadline_us > bench.now_us, "it does not spin");
    bench.ack(kind::PUBACK, 2).expect("in order");
    assert_eq!(bench.telemetry(), [(false, 4, 2)]);
    let counts = bench.counts();
    assert_eq!((counts.sent, counts.acknowledged), ([0, 3, 0], [0, 1, 0]));
    assert_eq!((counts.left_late, bench.crowd.standing.open), (1, 2));
    let mut taken = bench.crowd.tally.spreads.take().into_iter();
    let took = taken.find(|(kind, _)| *kind == LatencyKind::TelemetryAck);
    assert!(took.expect("one").1.0[0].0.abs_diff(2_500_000) < 2_500);
}

#[test]
fn in_a_drain_nothing_is_sent_and_what_fell_due_is_skipped() {
    let mut bench = Bench::up(|_| {});
    bench.crowd.sending = false;
    bench.now_us += 5_000_000;
    bench.due();
    assert!(bench.said().is_empty());
    bench.crowd.sending = true;
    bench.act(|device, turn| device.schedule(turn));
    assert!(bench.device().due_us >= bench.now_us);
    bench.next();
    assert_eq!(bench.telemetry(), [(false, 2, 0)]);
    assert_eq!(bench.counts().left_late, 0);
}

#[test]
fn what_falls_due_while_a_device_is_away_is_counted_and_not_sent() {
    let mut bench = Bench::up(|_| {});
    let interval_us = bench
        .crowd
        .plan
        .population(DEVICE)
        .0
        .telemetry
        .as_ref()
        .expect("some")
        .interval_ms
        * 1_000;
    let due_us = bench.device().due_us;
    bench.lose(&Loss::Closed);
    bench.now_us = due_us + 3 * interval_us;
    bench.due();
    bench.act(Device::dialed);
    bench.hear(&[kind::CONNACK, 3, 1, 0, 0]).expect("accepted");
    assert_eq!(bench.counts().not_sent, 4);
    assert!(bench.device().due_us >= bench.now_us);
}

#[test]
fn what_is_open_is_sent_again_when_the_session_is_there() {
    let mut bench = Bench::up(|p| p.telemetry.as_mut().expect("some").qos = 2);
    for _ in 0..3 {
        bench.next();
    }
    assert_eq!(
        bench.telemetry(),
        [(false, 2, 0), (false, 3, 1), (false, 4, 2)]
    );
    bench.ack(kind::PUBREC, 2).expect("in order");
    assert_eq!(bench.said(), [kind::PUBREL | 0b10]);
    bench.lose(&Loss::Closed);
    assert_eq!(bench.counts().connections_lost, 1);
    assert_eq!(
        bench.connect(true, 2),
        [kind::PUBREL | 0b10, kind::PUBLISH | 0b1100]
    );
    assert_eq!(bench.telemetry(), [(true, 3, 1)], "Receive Maximum is 2");
    assert_eq!(
        bench.ack(kind::PUBREC, 4),
        Err(Loss::Violation("acknowledgement of nothing"))
    );
    bench.ack(kind::PUBCOMP, 2).expect("released");
    assert_eq!(bench.telemetry(), [(true, 4, 2)]);
    for id in [3, 4] {
        bench.ack(kind::PUBREC, id).expect("in order");
        bench.ack(kind::PUBCOMP, id).expect("released");
    }
    assert_eq!(bench.counts().acknowledged, [0, 0, 3]);
    assert!(bench.device().session.is_none(), "nothing is kept");
    assert_eq!(bench.found(FindingKind::SessionLost), 0);
    assert_eq!(
        bench.presence(),
        [true],
        "its subscriptions stand since the first connection"
    );
}

#[test]
fn telemetry_at_qos_0_may_be_overtaken_after_a_reconnect() {
    let behind = |bench: &mut Bench, seq| {
        let receipt = Receipt {
            stream: telemetry(DEVICE),
            seq,
            seen: Seen::Behind { qos: 0 },
        };
        let (tally, now_us) = (&mut bench.crowd.tally, bench.now_us);
        tally.ledger.received(&receipt, now_us, &mut tally.findings);
    };
    let mut bench = Bench::up(|p| p.telemetry.as_mut().expect("some").qos = 0);
    bench.next();
    bench.lose(&Loss::Closed);
    bench.connect(true, 10);
    for _ in 0..2 {
        bench.next();
    }
    assert!(bench.device().seq >= 3);
    behind(&mut bench, 0);
    assert_eq!(bench.found(FindingKind::Reordered), 0);
    behind(&mut bench, 1);
    assert_eq!(bench.found(FindingKind::Reordered), 1);
}

#[test]
fn commands_are_acknowledged_and_get_receipts() {
    let mut bench = Bench::up(quiet);
    bench.command(0, false, 0, 0).expect("allowed");
    bench.command(1, false, 9, 1).expect("allowed");
    bench.command(2, false, 10, 2).expect("allowed");
    bench.ack(kind::PUBREL | 0b10, 10).expect("allowed");
    assert_eq!(bench.said(), [kind::PUBACK, kind::PUBREC, kind::PUBCOMP]);
    assert!(bench.device().session.is_none(), "nothing is kept");
    bench.command(1, true, 11, 1).expect("QoS 1 allows it");
    bench
        .command(1, false, 12, 1)
        .expect("the sender knows whether it may");
    let counts = bench.counts();
    assert_eq!((counts.received, counts.repeated), ([1, 1, 1], 1));
    let receipts = bench.receipts().into_iter();
    let seen: Vec<(u32, Seen)> = receipts
        .map(|receipt| (receipt.seq, receipt.seen))
        .collect();
    let again = Seen::Again { qos: 1 };
    let expected = [
        (0, Seen::First),
        (1, Seen::First),
        (2, Seen::First),
        (1, again),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn order_repetition_and_strangers_are_found() {
    let mut bench = Bench::up(quiet);
    bench.command(0, false, 0, 1).expect("a gap");
    bench.command(0, false, 0, 0).expect("late");
    bench.command(0, false, 0, 0).expect("again");
    assert_eq!(bench.found(FindingKind::DuplicatedQos0), 1);
    let seen: Vec<Seen> = bench
        .receipts()
        .iter()
        .map(|receipt| receipt.seen)
        .collect();
    assert_eq!(
        seen,
        [Seen::First, Seen::Behind { qos: 0 }],
        "its sender judges"
    );
    let stamp = |run, kind, device| Stamp {
        run,
        stream: Stream { kind, device },
        seq: 0,
        due_us: START_US,
    };
    for (run, kind, device, found) in [(0xA1, 1, 5, 1), (0xA1, 2, 4, 2), (0xA2, 1, 5, 2)] {
        bench
            .deliver(0, false, 0, stamp(run, kind, device))
            .expect("allowed");
        assert_eq!(bench.found(FindingKind::Misdelivered), found);
    }
    bench
        .hear(&[kind::PUBLISH, 6, 0, 1, b'x', 0, b'?', b'?'])
        .expect("allowed");
    assert_eq!(bench.found(FindingKind::Misdelivered), 3);
    assert_eq!(bench.counts().received, [2, 0, 0]);
}

#[test]
fn a_command_under_another_topic_is_misdelivered() {
    let mut bench = Bench::up(quiet);
    let stream = Stream {
        kind: 1,
        device: DEVICE,
    };
    let stamp = Stamp {
        run: 0xA1,
        stream,
        seq: 0,
        due_us: START_US,
    };
    let delivered = bench.deliver_as("d/a1-p5/cmd", 1, false, 9, stamp);
    delivered.expect("it is answered all the same");
    assert_eq!(bench.found(FindingKind::Misdelivered), 1);
    assert_eq!(bench.receipts(), []);
}

#[test]
fn a_command_at_another_qos_than_promised_is_found_and_counts_as_arrived() {
    let mut bench = Bench::up(quiet);
    bench.command(2, false, 10, 0).expect("as promised");
    assert_eq!(bench.found(FindingKind::Violation), 0);
    bench.command(1, false, 11, 1).expect("it is answered");
    bench.command(0, false, 0, 2).expect("it is taken");
    assert_eq!(bench.found(FindingKind::Violation), 2);
    assert_eq!(bench.counts().received, [1, 1, 1]);
    assert_eq!(bench.receipts().len(), 3);
    // What the device has subscribed to bounds the promise.
    let mut bench = Bench::new(|population| {
        quiet(population);
        population.subscriptions[0].qos = 1;
    });
    bench.connect(false, 10);
    bench.hear(&[kind::SUBACK, 4, 0, 1, 0, 1]).expect("granted");
    bench.command(1, false, 11, 0).expect("as promised");
    assert_eq!(bench.found(FindingKind::Violation), 0);
}

#[test]
fn qos_2_messages_are_remembered_over_connections() {
    let mut bench = Bench::up(quiet);
    bench.command(2, false, 10, 0).expect("new");
    bench.lose(&Loss::Closed);
    bench.connect(true, 10);
    assert!(bench.said().is_empty());
    bench.command(2, true, 10, 0).expect("again");
    assert_eq!(bench.said(), [kind::PUBREC]);
    assert_eq!(bench.counts().received, [0, 0, 1]);
    bench.ack(kind::PUBREL | 0b10, 10).expect("allowed");
    bench
        .ack(kind::PUBREL | 0b10, 10)
        .expect("its PUBCOMP may have been lost");
    bench
        .command(2, false, 10, 1)
        .expect("the packet id is free");
    assert_eq!(bench.counts().received, [0, 0, 2]);
}

#[test]
fn refused_telemetry_is_not_owed() {
    let mut bench = Bench::up(|_| {});
    bench.next();
    bench.hear(&[kind::PUBACK, 3, 0, 2, 0x97]).expect("allowed");
    assert_eq!(bench.crowd.tally.errors(), [("PUBACK 0x97".to_owned(), 1)]);
    assert_eq!(
        (bench.counts().acknowledged, bench.counts().owed),
        ([0; 3], 0)
    );
    bench.next();
    bench.crowd.out.clear();
    bench.ack(kind::PUBACK, 3).expect("in order");
    assert_eq!(
        (bench.counts().acknowledged, bench.counts().owed),
        ([0, 1, 0], 1)
    );
}
