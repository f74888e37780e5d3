//! When devices connect, ping, come back and leave.

use super::*;
use crate::scenario::Protocol;
use crate::simulate::devices::bench::{Bench, DEVICE, START_US, quiet};

#[test]
fn a_connect_counts_from_the_time_it_was_due() {
    let mut bench = Bench::new(quiet);
    bench.act(|device, _| device.begin(START_US));
    bench.now_us += 70_000;
    assert_eq!(bench.due(), Due::Dial);
    bench.now_us += 30_000;
    bench.act(Device::dialed);
    bench.now_us += 900;
    bench.hear(&[kind::CONNACK, 3, 0, 0, 0]).expect("accepted");
    let taken = bench.crowd.tally.spreads.take();
    assert_eq!(taken[0].0, LatencyKind::Connect);
    assert!(taken[0].1.0[0].0.abs_diff(100_900) < 100, "{taken:?}");
    assert_eq!(bench.crowd.standing.connecting, 1);
    bench.suback();
    assert_eq!(
        (bench.crowd.standing.up, bench.crowd.standing.connecting),
        (1, 0)
    );
    assert_eq!(bench.presence(), [true]);
}

#[test]
fn a_lost_session_is_found_and_begins_anew() {
    let mut bench = Bench::up(|_| {});
    bench.next();
    assert_eq!(bench.telemetry(), [(false, 2, 0)]);
    bench.lose(&Loss::Closed);
    assert_eq!(bench.connect(false, 10), [kind::SUBSCRIBE | 0b10]);
    assert_eq!(bench.found(FindingKind::SessionLost), 1);
    bench.crowd.out.clear();
    bench.hear(&[kind::SUBACK, 4, 0, 1, 0, 2]).expect("granted");
    assert_eq!(bench.telemetry()[0], (false, 2, 0), "as new");
}

#[test]
fn a_session_that_may_be_gone_is_none_lost() {
    let mut bench = Bench::up(quiet);
    bench.lose(&Loss::Closed);
    bench.now_us += 601_000_000;
    bench.connect(false, 10);
    assert_eq!(bench.found(FindingKind::SessionLost), 0);
    bench.suback();
    assert_eq!(bench.presence(), [true, false, true]);
}

#[test]
fn a_broker_may_keep_sessions_for_less_than_asked() {
    // The scenario asks for 600 s.
    for (away_us, lost) in [(59_000_000, 1), (61_000_000, 0)] {
        let mut bench = Bench::new(quiet);
        bench.dial();
        let connack = [kind::CONNACK, 8, 0, 0, 5, 0x11, 0, 0, 0, 60];
        bench.hear(&connack).expect("accepted");
        bench.suback();
        bench.lose(&Loss::Closed);
        bench.now_us += away_us;
        bench.connect(false, 10);
        assert_eq!(bench.found(FindingKind::SessionLost), lost);
        // What is lost with a session that had to be there stays owed.
        let told: &[bool] = if lost == 0 { &[true, false] } else { &[true] };
        assert_eq!(bench.presence(), told);
    }
}

#[test]
fn a_session_without_an_end_is_there_after_any_time() {
    let mut bench = Bench::up(|population| {
        quiet(population);
        population.protocol = Protocol::V311;
    });
    bench.lose(&Loss::Closed);
    bench.now_us += 1_000_000_000_000;
    bench.connect(false, 10);
    assert_eq!(bench.found(FindingKind::SessionLost), 1);
}

#[test]
fn tries_that_reach_nobody_do_not_keep_a_session() {
    let mut bench = Bench::up(quiet);
    bench.lose(&Loss::Closed);
    for _ in 0..7 {
        bench.now_us += 100_000_000;
        bench.dial();
        bench.lose(&Loss::Closed);
    }
    bench.connect(false, 10);
    assert_eq!(bench.found(FindingKind::SessionLost), 0);
}

#[test]
fn a_session_that_cannot_be_is_unexpected() {
    let mut bench = Bench::new(quiet);
    bench.connect(true, 10);
    assert_eq!(bench.found(FindingKind::SessionUnexpected), 1);
    let mut bench = Bench::up(|p| p.clean = true);
    bench.lose(&Loss::Closed);
    bench.connect(true, 10);
    assert_eq!(bench.found(FindingKind::SessionUnexpected), 1);
    // A CONNECT whose answer was lost may have made one.
    let mut bench = Bench::new(quiet);
    bench.dial();
    bench.lose(&Loss::Closed);
    bench.connect(true, 10);
    assert_eq!(bench.found(FindingKind::SessionUnexpected), 0);
}

#[test]
fn a_clean_session_ends_with_its_connection() {
    let mut bench = Bench::up(|p| p.clean = true);
    bench.next();
    assert_eq!(bench.telemetry().len(), bench.crowd.standing.open);
    bench.act(Device::storm);
    assert_eq!(bench.crowd.standing.open, 0);
    let counts = bench.counts();
    assert_eq!(
        (
            counts.unacknowledged,
            counts.dropped,
            counts.connections_lost
        ),
        (1, 1, 0)
    );
    assert_eq!(bench.presence(), [true, false]);
    bench.connect(false, 10);
    bench.suback();
    assert_eq!(bench.counts().reconnects, 1);
}

#[test]
fn idle_devices_ping_in_time_and_notice_silence() {
    let mut bench = Bench::up(quiet);
    let since_us = bench.now_us;
    assert_eq!(bench.next(), Due::Nothing);
    assert_eq!(bench.said(), [kind::PINGREQ]);
    let idle_us = bench.now_us - since_us;
    // The broker has asked for 30 s where the scenario says 60.
    assert!((24_000_000..=27_100_000).contains(&idle_us), "{idle_us}");
    assert_eq!(bench.now_us % 100_000, 0, "in steps");
    bench.now_us += 2_000;
    bench.hear(&[kind::PINGRESP, 0]).expect("asked for");
    assert_eq!(bench.counts().pings, 1);
    bench.next();
    assert_eq!(bench.said(), [kind::PINGREQ]);
    assert_eq!(bench.next(), Due::Lose(Loss::Silent("PINGREQ")));
}

#[test]
fn brokers_that_do_not_answer_messages_are_left() {
    // Its telemetry leaves every second: there is always something to say before a ping is due.
    for qos in 1..=2 {
        let mut bench = Bench::up(|p| p.telemetry.as_mut().expect("some").qos = qos);
        bench.next();
        let first_us = bench.now_us;
        let loss = loop {
            match bench.next() {
                Due::Nothing => assert!(bench.now_us < first_us + ANSWER_US),
                loss => break loss,
            }
        };
        assert_eq!(loss, Due::Lose(Loss::Silent("PUBLISH")));
        assert_eq!(bench.now_us, first_us + ANSWER_US, "QoS {qos}");
    }
}

#[test]
fn an_answer_that_is_late_is_waited_for_again() {
    let mut bench = Bench::up(|p| p.telemetry.as_mut().expect("some").qos = 2);
    bench.next();
    bench.said();
    bench.crowd.sending = false;
    bench.now_us += ANSWER_US - 1;
    assert_eq!(bench.due(), Due::Nothing);
    bench.ack(kind::PUBREC, 2).expect("in order");
    bench.now_us += ANSWER_US - 1;
    assert_eq!(bench.due(), Due::Nothing, "for PUBCOMP from here on");
    bench.lose(&Loss::Closed);
    assert!(bench.connect(true, 10).contains(&(kind::PUBREL | 0b10)));
    let left_us = bench.now_us;
    bench.now_us += ANSWER_US - 1;
    assert_eq!(bench.due(), Due::Nothing, "sent again");
    bench.now_us = left_us + ANSWER_US;
    assert_eq!(bench.due(), Due::Lose(Loss::Silent("PUBLISH")));
}

#[test]
fn telemetry_that_nobody_answers_is_no_proof_of_life() {
    let mut bench = Bench::up(|p| p.telemetry.as_mut().expect("some").qos = 0);
    let since_us = bench.now_us;
    let mut pinged_us = 0;
    let loss = loop {
        match bench.next() {
            Due::Nothing if bench.said().contains(&kind::PINGREQ) => pinged_us = bench.now_us,
            Due::Nothing => assert!(bench.now_us < since_us + 90_000_000),
            loss => break loss,
        }
    };
    // The broker has asked for 30 s.
    assert!((since_us + 24_000_000..since_us + 27_100_000).contains(&pinged_us));
    assert_eq!(loss, Due::Lose(Loss::Silent("PINGREQ")));
    assert_eq!(bench.now_us, pinged_us + ANSWER_US);
}

#[test]
fn brokers_that_do_not_answer_are_left() {
    let mut bench = Bench::new(quiet);
    bench.dial();
    assert_eq!(bench.next(), Due::Lose(Loss::Silent("CONNECT")));
    bench.lose(&Loss::Silent("CONNECT"));
    bench.connect(false, 10);
    assert_eq!(bench.next(), Due::Lose(Loss::Silent("SUBSCRIBE")));
}

#[test]
fn refusals_are_counted_by_reason_and_tried_again_later_and_later() {
    let mut bench = Bench::new(quiet);
    let mut longest_us = 0;
    for _ in 0..40 {
        bench.dial();
        let refused = bench.hear(&[kind::CONNACK, 3, 0, 0x97, 0]);
        assert_eq!(refused, Err(Loss::Refused(0x97)));
        bench.lose(&Loss::Refused(0x97));
        let until_us = bench
            .crowd
            .deadline_us(DEVICE as usize, false)
            .expect("again");
        longest_us = longest_us.max(until_us - bench.now_us);
    }
    assert!(
        (4_000_000..=8_000_000).contains(&longest_us),
        "{longest_us}"
    );
    bench.connect(false, 10);
    let refused = bench.hear(&[kind::SUBACK, 4, 0, 1, 0, 0x87]);
    assert_eq!(refused, Err(Loss::SubscribeRefused(0x87)));
    bench.lose(&Loss::SubscribeRefused(0x87));
    let errors = bench.crowd.tally.errors();
    let expected = [
        ("CONNACK 0x97".to_owned(), 40),
        ("SUBACK 0x87".to_owned(), 1),
    ];
    assert_eq!(errors, expected);
    assert_eq!(bench.counts().connections_lost, 1, "40 never stood");
}

#[test]
fn a_subscription_at_another_qos_is_none() {
    for granted in [0, 1] {
        let mut bench = Bench::new(quiet);
        bench.connect(false, 10);
        let loss = bench.hear(&[kind::SUBACK, 4, 0, 1, 0, granted]);
        assert_eq!(loss, Err(Loss::Granted { asked: 2, granted }));
        bench.lose(&loss.expect_err("compared"));
        assert!(bench.presence().is_empty(), "nobody sends to it");
        let why = format!("SUBACK grants QoS {granted}, asked for 2");
        assert_eq!(bench.crowd.tally.errors(), [(why, 1)]);
    }
}

#[test]
fn what_a_broker_must_not_do_is_named() {
    let violation = |act: &dyn Fn(&mut Bench) -> Result<(), Loss>| {
        let mut bench = Bench::up(|_| {});
        bench.next();
        bench.next();
        bench.command(2, false, 10, 0).expect("new");
        let loss = act(&mut bench).expect_err("a violation");
        bench.lose(&loss);
        assert_eq!(bench.found(FindingKind::Violation), 1, "{loss}");
        assert_eq!(bench.counts().connections_lost, 1);
    };
    violation(&|bench| bench.command(2, true, 10, 0));
    violation(&|bench| bench.command(2, false, 10, 1));
    violation(&|bench| bench.command(1, false, 0, 1));
    violation(&|bench| bench.ack(kind::PUBACK, 3));
    violation(&|bench| bench.ack(kind::PUBACK, 9));
    violation(&|bench| bench.ack(kind::PUBREC, 2));
    violation(&|bench| bench.ack(kind::PUBCOMP, 2));
    violation(&|bench| bench.ack(kind::SUBSCRIBE | 0b10, 2));
    violation(&|bench| bench.hear(&[kind::PINGRESP, 0]));
    violation(&|bench| bench.hear(&[kind::CONNACK, 3, 0, 0, 0]));
    violation(&|bench| bench.hear(&[kind::SUBACK, 4, 0, 1, 0, 2]));
    violation(&|bench| {
        bench.lose(&Loss::Closed);
        bench.crowd.tally.counts.connections_lost = 0;
        bench.connect(true, 10);
        bench.command(2, false, 10, 0)
    });
    let mut bench = Bench::up(quiet);
    let goodbye = bench.hear(&[kind::DISCONNECT, 1, 0x8B]);
    assert_eq!(goodbye, Err(Loss::Goodbye(0x8B)), "in version 5");
    let mut bench = Bench::new(|p| p.protocol = Protocol::V311);
    bench.dial();
    assert!(matches!(
        bench.hear(&[kind::PINGRESP, 0]),
        Err(Loss::Violation(_))
    ));
    assert!(matches!(
        bench.hear(&[kind::DISCONNECT, 0]),
        Err(Loss::Violation(_))
    ));
}

#[test]
fn a_session_of_3_1_1_is_ended_by_a_clean_one() {
    let persistent = |p: &mut crate::scenario::Population| {
        quiet(p);
        p.protocol = Protocol::V311;
    };
    let connect_flags = |bench: &mut Bench| {
        assert_eq!(bench.next(), Due::Dial);
        bench.act(Device::dialed);
        bench.packets()[0].1[7]
    };
    let mut bench = Bench::up(persistent);
    bench.act(Device::leave);
    assert_eq!(bench.said(), [kind::DISCONNECT]);
    bench.lose(&Loss::Closed);
    assert_eq!(
        (bench.crowd.standing.gone, bench.crowd.standing.leaving),
        (0, 1)
    );
    assert_eq!(connect_flags(&mut bench), 0b10, "clean, without a will");
    bench.hear(&[kind::CONNACK, 2, 0, 0]).expect("accepted");
    assert_eq!(bench.said(), [kind::DISCONNECT]);
    bench.lose(&Loss::Closed);
    assert_eq!(
        (bench.crowd.standing.gone, bench.crowd.standing.leaving),
        (1, 0)
    );
    let counts = bench.counts();
    assert_eq!((counts.connects, counts.connections_lost), (1, 0));
    assert_eq!(bench.crowd.tally.errors(), []);

    let mut bench = Bench::up(persistent);
    bench.act(Device::leave);
    bench.lose(&Loss::Closed);
    connect_flags(&mut bench);
    bench.lose(&Loss::Closed);
    assert_eq!(bench.crowd.standing.gone, 1, "one try");
    let why = "ending a session: closed by the broker".to_owned();
    assert_eq!(bench.crowd.tally.errors(), [(why, 1)]);

    let mut bench = Bench::up(|p| {
        persistent(p);
        p.clean = true;
    });
    bench.act(Device::leave);
    bench.lose(&Loss::Closed);
    assert_eq!(bench.crowd.standing.gone, 1, "its session is gone with it");
}

#[test]
fn it_leaves_in_good_order() {
    let mut bench = Bench::up(quiet);
    bench.act(Device::leave);
    assert_eq!(
        bench.packets(),
        [(kind::DISCONNECT, vec![0, 5, 0x11, 0, 0, 0, 0])]
    );
    bench
        .hear(&[kind::PINGRESP, 0])
        .expect("whatever comes now");
    bench.lose(&Loss::Closed);
    assert_eq!(
        (bench.crowd.standing.gone, bench.crowd.standing.leaving),
        (1, 0)
    );
    assert_eq!(
        (bench.counts().connections_lost, bench.crowd.tally.errors()),
        (0, Vec::new())
    );
    assert_eq!(bench.crowd.deadline_us(DEVICE as usize, false), None);
    let mut bench = Bench::up(quiet);
    bench.act(Device::leave);
    assert_eq!(
        bench.next(),
        Due::Lose(Loss::Left),
        "a broker that does not close"
    );
}
