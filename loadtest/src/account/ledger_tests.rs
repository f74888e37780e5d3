//! The ledger against a model that forgets nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_000_000;

fn telemetry(device: u32) -> Stream {
    Stream { kind: 0, device }
}

fn command(device: u32) -> Stream {
    Stream { kind: 1, device }
}

fn message(stream: Stream, seq: u32, qos: u8) -> Message {
    Message {
        stream,
        seq,
        qos,
        due_us: 100 * u64::from(seq),
        promise: Promise { receivers: 1, qos },
    }
}

fn receipt(stream: Stream, seq: u32) -> Receipt {
    let seen = Seen::First;
    Receipt { stream, seq, seen }
}

fn again(stream: Stream, seq: u32, qos: u8) -> Receipt {
    let seen = Seen::Again { qos };
    Receipt { stream, seq, seen }
}

fn gone(device: u32) -> Presence {
    gone_at(device, NOW)
}

fn gone_at(device: u32, at_us: u64) -> Presence {
    Presence {
        device,
        at_us,
        subscribed: false,
    }
}

fn behind(stream: Stream, seq: u32) -> Receipt {
    let seen = Seen::Behind { qos: 0 };
    Receipt { stream, seq, seen }
}

fn count(findings: &Findings, kind: FindingKind) -> u64 {
    findings.counts()[kind as usize]
}

#[derive(Debug, Default)]
struct Bench {
    ledger: Ledger,
    findings: Findings,
}

impl Bench {
    fn sent(&mut self, stream: Stream, seq: u32, qos: u8) {
        let message = message(stream, seq, qos);
        self.ledger.sent(&message, NOW).expect("room");
    }

    fn received(&mut self, receipt: Receipt) {
        self.ledger.received(&receipt, NOW, &mut self.findings);
    }

    fn close(&mut self) -> Closed {
        self.ledger.close(&mut self.findings)
    }
}

#[test]
fn acknowledged_and_received_in_either_order_owes_nothing() {
    for qos in [1, 2] {
        let mut bench = Bench::default();
        bench.sent(telemetry(1), 0, qos);
        bench.ledger.acknowledged(telemetry(1), 0, NOW);
        assert_eq!(bench.ledger.owed(), 1);
        bench.received(receipt(telemetry(1), 0));
        bench.sent(telemetry(1), 1, qos);
        bench.received(receipt(telemetry(1), 1));
        assert_eq!(bench.ledger.owed(), 0);
        bench.ledger.acknowledged(telemetry(1), 1, NOW);
        assert_eq!(bench.ledger.owed(), 0);
        assert!(bench.ledger.open.is_empty(), "nothing is kept of the past");
        assert_eq!(bench.close(), Closed::default());
        assert_eq!(bench.findings.counts().iter().sum::<u64>(), 0);
    }
}

#[test]
fn a_lost_message_names_device_sequence_and_time() {
    let mut bench = Bench::default();
    bench.sent(command(7), 5, 1);
    bench.ledger.acknowledged(command(7), 5, NOW);
    bench.close();
    let expected = Finding {
        kind: FindingKind::Lost,
        stream: command(7),
        seq: Some(5),
        at_us: 500,
        qos: 1,
        detail: String::new(),
    };
    assert_eq!(bench.findings.take(), [expected]);
}

#[test]
fn without_an_acknowledgement_nothing_is_owed() {
    let mut bench = Bench::default();
    bench.sent(telemetry(1), 0, 1);
    bench.sent(telemetry(1), 1, 1);
    bench.received(receipt(telemetry(1), 1));
    bench.sent(telemetry(1), 2, 1);
    bench.ledger.abandoned(telemetry(1), 2);
    bench.sent(telemetry(1), 3, 1);
    bench.ledger.refused(telemetry(1), 3);
    assert_eq!(bench.ledger.owed(), 0);
    assert_eq!(bench.close(), Closed { unacknowledged: 2 });
    assert_eq!(bench.ledger.abandoned_count(), 1);
    assert_eq!(bench.findings.counts().iter().sum::<u64>(), 0);
}

#[test]
fn qos_0_is_owed_once_written_and_written_off_in_time() {
    let mut bench = Bench::default();
    bench.sent(telemetry(1), 0, 0);
    bench.sent(telemetry(1), 1, 0);
    assert_eq!(bench.ledger.owed(), 2);
    bench.received(receipt(telemetry(1), 1));
    let patience = QOS0_PATIENCE.as_micros() as u64;
    bench.ledger.settle(NOW + patience, &mut bench.findings);
    assert_eq!(bench.ledger.owed(), 1);
    bench.ledger.settle(NOW + patience + 1, &mut bench.findings);
    assert_eq!(bench.ledger.owed(), 0);
    assert_eq!(count(&bench.findings, FindingKind::LostQos0), 1);
    bench.received(receipt(telemetry(1), 0));
    assert_eq!(bench.close(), Closed::default());
    assert_eq!(count(&bench.findings, FindingKind::Lost), 0);
}

#[test]
fn a_consumer_at_qos_0_is_owed_at_qos_0() {
    let mut bench = Bench::default();
    let promise = Promise {
        receivers: 2,
        qos: 0,
    };
    let message = Message {
        promise,
        ..message(telemetry(1), 0, 1)
    };
    bench.ledger.sent(&message, NOW).expect("room");
    bench.ledger.acknowledged(telemetry(1), 0, NOW);
    bench.received(receipt(telemetry(1), 0));
    assert_eq!(bench.ledger.owed(), 1, "one of two receivers");
    bench.close();
    assert_eq!(count(&bench.findings, FindingKind::LostQos0), 1);
    assert_eq!(count(&bench.findings, FindingKind::Lost), 0);
}

#[test]
fn what_nobody_has_asked_for_is_only_to_be_acknowledged() {
    for qos in 0..=2 {
        let mut bench = Bench::default();
        let promise = Promise { receivers: 0, qos };
        let message = Message {
            promise,
            ..message(telemetry(1), 0, qos)
        };
        bench.ledger.sent(&message, NOW).expect("room");
        bench.ledger.acknowledged(telemetry(1), 0, NOW);
        assert_eq!(bench.ledger.owed(), 0);
        assert!(bench.ledger.open.is_empty());
    }
}

#[test]
fn what_was_under_way_when_the_session_ended_is_excused() {
    let mut bench = Bench::default();
    bench.sent(command(7), 0, 1);
    bench.sent(command(7), 1, 1);
    bench.sent(command(7), 2, 1);
    bench.sent(command(8), 0, 1);
    bench.sent(telemetry(7), 0, 1);
    for (stream, seq) in [(command(7), 0), (command(8), 0), (telemetry(7), 0)] {
        bench.ledger.acknowledged(stream, seq, NOW);
    }
    bench.ledger.presence(&gone(7), NOW);
    assert_eq!(bench.ledger.owed(), 2, "another device, and telemetry");
    bench.ledger.acknowledged(command(7), 1, NOW);
    assert_eq!(bench.ledger.owed(), 2);
    bench.received(receipt(command(7), 1));
    let kept = EXCUSED_KEPT.as_micros() as u64;
    bench.ledger.settle(NOW + kept + 1, &mut bench.findings);
    assert_eq!(bench.ledger.excused(), 1);
    bench.sent(command(7), 3, 1);
    bench.ledger.acknowledged(command(7), 3, NOW);
    assert_eq!(bench.ledger.owed(), 3, "the new session is owed again");
    assert_eq!(bench.close(), Closed { unacknowledged: 1 });
    assert_eq!(count(&bench.findings, FindingKind::Lost), 3);
}

#[test]
fn what_was_long_overdue_when_the_session_ended_is_lost() {
    let mut bench = Bench::default();
    for seq in 0..3 {
        bench.sent(command(7), seq, 1);
    }
    let limit = UNDER_WAY_MAX.as_micros() as u64;
    bench.ledger.acknowledged(command(7), 0, NOW);
    bench.ledger.acknowledged(command(7), 1, NOW + 1);
    let at_us = NOW + limit + 1;
    bench.ledger.presence(&gone_at(7, at_us), at_us + 1);
    assert_eq!(bench.ledger.owed(), 1);
    bench.ledger.acknowledged(command(7), 2, NOW + limit + 2);
    assert_eq!(bench.close(), Closed { unacknowledged: 0 });
    assert_eq!(count(&bench.findings, FindingKind::Lost), 1);
    assert_eq!(bench.ledger.excused(), 2);
}

#[test]
fn what_was_sent_to_a_device_that_stayed_away_too_long_is_excused_however_old() {
    let mut bench = Bench::default();
    for seq in 0..2 {
        bench.sent(command(7), seq, 1);
    }
    let limit = UNDER_WAY_MAX.as_micros() as u64;
    let lost_us = NOW + 100;
    bench.ledger.acknowledged(command(7), 0, NOW);
    bench.ledger.acknowledged(command(7), 1, lost_us + 1);
    bench
        .ledger
        .presence(&gone_at(7, lost_us), lost_us + 9 * limit);
    assert_eq!(bench.ledger.owed(), 0);
    bench.close();
    assert_eq!(bench.ledger.excused(), 2);
}

#[test]
fn an_arrival_behind_a_later_one_is_a_finding_and_an_arrival() {
    for qos in 0..=2 {
        let mut bench = Bench::default();
        bench.sent(telemetry(1), 3, qos);
        bench.ledger.acknowledged(telemetry(1), 3, NOW);
        bench.received(behind(telemetry(1), 3));
        let found = bench.findings.take();
        assert_eq!(
            (found[0].kind, found[0].seq, found[0].at_us),
            (FindingKind::Reordered, Some(3), 300)
        );
        assert_eq!((found.len(), bench.ledger.owed()), (1, 0));
        assert!(bench.ledger.open.is_empty());
    }
}

#[test]
fn at_qos_0_the_next_connection_may_overtake_the_one_before() {
    let mut bench = Bench::default();
    let all = [
        (telemetry(4), 0),
        (telemetry(4), 1),
        (telemetry(5), 0),
        (command(4), 0),
    ];
    for (stream, qos) in all {
        bench.sent(stream, u32::from(qos), qos);
        bench.ledger.acknowledged(stream, u32::from(qos), NOW);
    }
    bench.ledger.connection_lost(0, 4..6, |device| device == 4);
    bench.sent(telemetry(4), 2, 0);
    for (stream, seq) in [(telemetry(4), 0), (telemetry(4), 7)] {
        bench.received(behind(stream, seq));
        assert_eq!(count(&bench.findings, FindingKind::Reordered), 0);
    }
    // What is sent again keeps its place, and other connections stand.
    let judged = [
        (telemetry(4), 1),
        (telemetry(4), 2),
        (telemetry(5), 0),
        (command(4), 0),
    ];
    for ((stream, seq), found) in judged.into_iter().zip(1..) {
        bench.received(behind(stream, seq));
        assert_eq!(count(&bench.findings, FindingKind::Reordered), found);
    }
    assert_eq!(bench.ledger.owed(), 0);
}

#[test]
fn a_repetition_is_judged_by_what_the_sender_did() {
    let mut bench = Bench::default();
    for (seq, qos) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
        bench.sent(telemetry(1), seq, qos);
        bench.received(receipt(telemetry(1), seq));
    }
    let mut resent = |seq, how| {
        let resent = bench.ledger.resent(telemetry(1), seq, how, NOW);
        resent.expect("room");
    };
    resent(1, Resent::Again);
    resent(2, Resent::Again);
    resent(3, Resent::Anew);
    resent(3, Resent::Again);
    for (seq, qos) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
        bench.ledger.acknowledged(telemetry(1), seq, NOW);
        bench.received(again(telemetry(1), seq, qos));
    }
    assert_eq!(bench.ledger.repeated(), 2);
    let seqs: Vec<_> = bench
        .findings
        .take()
        .iter()
        .map(|found| found.seq)
        .collect();
    assert_eq!(seqs, [Some(0), Some(2)]);
}

#[test]
fn beyond_its_limit_the_run_fails() {
    let mut ledger = Ledger::default();
    for seq in 0..LEDGER_MAX as u32 {
        ledger
            .sent(&message(telemetry(1), seq, 1), NOW)
            .expect("room");
    }
    let full = ledger
        .sent(&message(telemetry(1), u32::MAX, 1), NOW)
        .expect_err("no room");
    assert!(full.to_string().contains("sent"), "{full}");
}

/// What happens to one message.
#[derive(Debug, Clone, Copy)]
enum Step {
    Sent {
        qos: u8,
        owed_qos: u8,
        receivers: u8,
    },
    Acknowledged,
    Received,
    Refused,
    Abandoned,
    Gone,
}

/// Everything that ever happened to a message.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    owed_qos: u8,
    receivers: u8,
    received: u8,
    acknowledged: bool,
    excused: bool,
    refused: bool,
    abandoned: bool,
}

impl Record {
    fn over(self) -> bool {
        self.refused || self.abandoned
    }

    fn owed(self) -> bool {
        let missing = self.received < self.receivers;
        self.acknowledged && missing && !self.excused && !self.over()
    }
}

#[derive(Debug, Default)]
struct Naive(BTreeMap<(Stream, u32), Record>);

impl Naive {
    fn step(&mut self, stream: Stream, seq: u32, step: Step) -> bool {
        if let (
            Step::Sent {
                qos,
                owed_qos,
                receivers,
            },
            false,
        ) = (step, self.0.contains_key(&(stream, seq)))
        {
            let record = Record {
                owed_qos,
                receivers,
                acknowledged: qos == 0,
                ..Record::default()
            };
            self.0.insert((stream, seq), record);
            return true;
        }
        if let Step::Gone = step {
            let of_device =
                |(other, _): &&(Stream, u32)| other.device == stream.device && other.kind > 0;
            let keys: Vec<_> = self.0.keys().filter(of_device).copied().collect();
            for key in &keys {
                self.excuse(key);
            }
            return true;
        }
        let Some(record) = self.0.get_mut(&(stream, seq)) else {
            return false;
        };
        match step {
            Step::Sent { .. } | Step::Gone => return false,
            // A sender gives up only what is not acknowledged.
            Step::Refused | Step::Abandoned if record.acknowledged => return false,
            _ if record.over() => return false,
            Step::Acknowledged => record.acknowledged = true,
            Step::Received => record.received += 1,
            Step::Refused => record.refused = true,
            Step::Abandoned => record.abandoned = true,
        }
        true
    }

    fn excuse(&mut self, key: &(Stream, u32)) {
        let record = self.0.get_mut(key).expect("it is one of its keys");
        let done = record.acknowledged && record.received >= record.receivers;
        record.excused |= !done;
    }

    fn count(&self, which: impl Fn(&Record) -> bool) -> u64 {
        self.0.values().filter(|record| which(record)).count() as u64
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_u8, 0..3_u8, 0..3_u8)
            .prop_map(|(qos, granted, receivers)| Step::Sent { qos, owed_qos: qos.min(granted), receivers }),
        3 => Just(Step::Acknowledged),
        3 => Just(Step::Received),
        1 => Just(Step::Refused),
        1 => Just(Step::Abandoned),
        1 => Just(Step::Gone),
    ]
}

fn apply(bench: &mut Bench, stream: Stream, seq: u32, step: Step) {
    let ledger = &mut bench.ledger;
    match step {
        Step::Sent {
            qos,
            owed_qos,
            receivers,
        } => {
            let promise = Promise {
                receivers,
                qos: owed_qos,
            };
            let message = Message {
                promise,
                ..message(stream, seq, qos)
            };
            ledger.sent(&message, NOW).expect("room");
        }
        Step::Acknowledged => ledger.acknowledged(stream, seq, NOW),
        Step::Received => bench.received(receipt(stream, seq)),
        Step::Refused => ledger.refused(stream, seq),
        Step::Abandoned => ledger.abandoned(stream, seq),
        Step::Gone => ledger.presence(&gone(stream.device), NOW),
    }
}

fn agree(steps: Vec<(Stream, u32, Step)>) {
    let (mut bench, mut naive) = (Bench::default(), Naive::default());
    for (stream, seq, step) in steps {
        if naive.step(stream, seq, step) {
            apply(&mut bench, stream, seq, step);
        }
        assert_eq!(bench.ledger.owed(), naive.count(|r| r.owed()));
    }
    let closed = bench.close();
    assert_eq!(
        closed.unacknowledged,
        naive.count(|r| !r.acknowledged && !r.over())
    );
    assert_eq!(bench.ledger.abandoned_count(), naive.count(|r| r.abandoned));
    let missing = |r: &Record| r.received < r.receivers;
    let excused = naive.count(|r| r.acknowledged && r.excused && missing(r) && !r.over());
    assert_eq!(bench.ledger.excused(), excused);
    let lost = naive.count(|r| r.owed() && r.owed_qos > 0);
    assert_eq!(count(&bench.findings, FindingKind::Lost), lost);
    let lost = naive.count(|r| r.owed() && r.owed_qos == 0);
    assert_eq!(count(&bench.findings, FindingKind::LostQos0), lost);
}

#[test]
fn all_short_traces_of_two_messages_agree_with_a_model_that_forgets_nothing() {
    let sent = |qos| Step::Sent {
        qos,
        owed_qos: qos,
        receivers: 1,
    };
    for qos in 0..=2 {
        let steps = [
            sent(qos),
            Step::Acknowledged,
            Step::Received,
            Step::Abandoned,
            Step::Gone,
        ];
        for trace in 0..(2 * steps.len()).pow(5) {
            let mut rest = trace;
            let turns = (0..5).map(|_| {
                let turn = rest % (2 * steps.len());
                rest /= 2 * steps.len();
                (command(3), (turn % 2) as u32, steps[turn / 2])
            });
            agree(turns.collect());
        }
    }
}

proptest! {
    #[test]
    fn long_traces_agree_too(
        steps in proptest::collection::vec((0..2_u8, 0..2_u32, 0..6_u32, step()), 1..200),
    ) {
        let place = |(kind, device, seq, step)| (Stream { kind, device }, seq, step);
        agree(steps.into_iter().map(place).collect());
    }
}
