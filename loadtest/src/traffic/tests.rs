use super::*;

fn spec(shape: Shape, qos: u8, pace: Pace, publishers: usize, subscribers: usize) -> Spec {
    let topics = (0..publishers).map(|i| format!("load/t/{i}")).collect();
    Spec {
        shape,
        version: Version::V4,
        qos,
        size: 20,
        pace,
        topics,
        subscribers,
    }
}

fn windowed(shape: Shape, qos: u8, window: u32, publishers: usize, subscribers: usize) -> Traffic {
    let mut traffic = Traffic::new(&spec(
        shape,
        qos,
        Pace::Window(window),
        publishers,
        subscribers,
    ));
    traffic.start(0);
    traffic
}

/// Lets every ready publisher send; gives how many messages each sent.
fn send(traffic: &mut Traffic) -> Vec<(u32, u64)> {
    let mut sent = Vec::new();
    while let Some(publisher) = traffic.next_ready() {
        let mut out = Vec::new();
        traffic.fill(publisher, &mut out, 1_000);
        let packet = if traffic.publishers[0].unacked() > 0 {
            34
        } else {
            32
        };
        sent.push((publisher, (out.len() / packet) as u64));
    }
    sent.sort_unstable();
    sent
}

fn stamp(sender: u32, seq: u64) -> Stamp {
    Stamp {
        sender,
        seq,
        time_ns: 1_000,
    }
}

#[test]
fn a_window_at_qos_0_is_refilled_by_deliveries() {
    let mut traffic = windowed(Shape::Pair, 0, 8, 2, 2);
    assert_eq!(send(&mut traffic), [(0, 8), (1, 8)]);
    traffic.deliver(1, stamp(1, 0), 2_000).expect("was sent");
    assert_eq!(
        send(&mut traffic),
        [],
        "less than a quarter of the window is free"
    );
    traffic.deliver(1, stamp(1, 1), 2_000).expect("was sent");
    assert_eq!(send(&mut traffic), [(1, 2)]);
    assert_eq!((traffic.sent(), traffic.delivered()), (18, 2));
}

#[test]
fn a_window_at_qos_1_needs_acknowledgements_and_is_held_by_a_slow_subscriber() {
    let mut traffic = windowed(Shape::Pair, 1, 4, 1, 1);
    let mut id = 0;
    for _ in 0..4 {
        assert_eq!(send(&mut traffic), [(0, 4)]);
        for _ in 0..4 {
            id += 1;
            traffic.acked(0, id, 0);
        }
    }
    assert_eq!(
        send(&mut traffic),
        [],
        "four windows ahead of the subscriber"
    );
    traffic.deliver(0, stamp(0, 0), 2_000).expect("was sent");
    assert_eq!(send(&mut traffic), [(0, 1)]);
    assert!(traffic.errors.is_empty());
}

#[test]
fn fan_out_waits_for_the_slowest_subscriber() {
    let mut traffic = windowed(Shape::FanOut, 0, 4, 1, 3);
    assert_eq!(send(&mut traffic), [(0, 4)]);
    for seq in 0..4 {
        traffic.deliver(0, stamp(0, seq), 2_000).expect("was sent");
        traffic.deliver(1, stamp(0, seq), 2_000).expect("was sent");
    }
    assert_eq!(send(&mut traffic), []);
    traffic.deliver(2, stamp(0, 2), 2_000).expect("was sent");
    assert_eq!(
        send(&mut traffic),
        [(0, 3)],
        "a gap is lost, not waited for"
    );
    traffic.stop();
    traffic.deliver(2, stamp(0, 3), 2_000).expect("was sent");
    let tally = traffic.finish();
    assert_eq!(
        (tally.lost, tally.duplicated, tally.reordered),
        (2 + 3 * 3, 0, 0)
    );
}

#[test]
fn fan_in_keeps_one_stream_for_each_publisher() {
    let mut traffic = windowed(Shape::FanIn, 0, 2, 2, 1);
    assert_eq!(send(&mut traffic), [(0, 2), (1, 2)]);
    traffic.stop();
    for (sender, seq) in [(1, 0), (0, 1), (0, 0), (1, 0)] {
        traffic
            .deliver(0, stamp(sender, seq), 2_000)
            .expect("was sent");
    }
    assert!(!traffic.settled());
    let tally = traffic.finish();
    assert_eq!((tally.lost, tally.duplicated, tally.reordered), (1, 1, 1));
}

#[test]
fn a_shared_group_has_order_within_each_subscriber_only() {
    let mut traffic = windowed(Shape::Share, 0, 6, 1, 2);
    assert_eq!(send(&mut traffic), [(0, 6)]);
    traffic.stop();
    for (to, seq) in [(0, 1), (1, 0), (1, 3), (1, 2), (0, 5), (0, 5)] {
        traffic.deliver(to, stamp(0, seq), 2_000).expect("was sent");
    }
    let tally = traffic.finish();
    assert_eq!((tally.lost, tally.duplicated, tally.reordered), (1, 1, 1));
}

#[test]
fn settled_means_delivered_and_acknowledged() {
    let mut traffic = windowed(Shape::Pair, 1, 1, 1, 1);
    send(&mut traffic);
    traffic.stop();
    traffic.deliver(0, stamp(0, 0), 2_000).expect("was sent");
    assert!(!traffic.settled());
    traffic.acked(0, 1, 0);
    assert!(traffic.settled());
}

#[test]
fn a_message_nobody_sent_is_an_error() {
    let mut traffic = windowed(Shape::Pair, 0, 2, 2, 2);
    send(&mut traffic);
    assert!(
        traffic.deliver(0, stamp(0, 2), 0).is_err(),
        "a number not yet used"
    );
    assert!(
        traffic.deliver(0, stamp(1, 0), 0).is_err(),
        "another pair's message"
    );
    assert!(
        traffic.deliver(0, stamp(9, 0), 0).is_err(),
        "an unknown sender"
    );
}

#[test]
fn wrong_acknowledgements_are_errors() {
    let mut traffic = windowed(Shape::Pair, 1, 2, 1, 1);
    traffic.acked(0, 1, 0);
    send(&mut traffic);
    traffic.acked(0, 2, 0);
    traffic.acked(0, 2, 0x97);
    let errors = traffic.finish().errors;
    assert_eq!(errors["acknowledgement out of order or unasked"], 2);
    assert_eq!(errors["publish refused with reason 0x97"], 1);
}

#[test]
fn unacknowledged_messages_are_an_error_at_the_end() {
    let mut traffic = windowed(Shape::Pair, 2, 3, 1, 1);
    send(&mut traffic);
    traffic.acked(0, 1, 0);
    let tally = traffic.finish();
    assert_eq!(tally.errors["publish never acknowledged"], 2);
    assert_eq!(tally.lost, 1, "only what was acknowledged was promised");
}

#[test]
fn a_stalled_window_is_written_off_at_qos_0_only() {
    let mut traffic = windowed(Shape::FanOut, 0, 4, 1, 2);
    send(&mut traffic);
    traffic.deliver(0, stamp(0, 3), 2_000).expect("was sent");
    traffic.write_off_stalled();
    assert_eq!(send(&mut traffic), [], "it moved since the start");
    traffic.write_off_stalled();
    assert_eq!(send(&mut traffic), [(0, 4)]);
    let mut traffic = windowed(Shape::Pair, 1, 4, 1, 1);
    send(&mut traffic);
    traffic.write_off_stalled();
    traffic.write_off_stalled();
    assert_eq!(send(&mut traffic), []);
}

#[test]
fn the_open_loop_sends_by_the_clock_and_stamps_the_intended_time() {
    let pace = Pace::Rate { per_s: 2_000.0 };
    let mut traffic = Traffic::new(&spec(Shape::Pair, 0, pace, 4, 4));
    traffic.start(5_000_000);
    traffic.measure();
    traffic.advance(5_999_999);
    assert_eq!(send(&mut traffic), []);
    traffic.advance(8_100_000);
    assert_eq!(
        send(&mut traffic),
        [(0, 2), (1, 2), (2, 1), (3, 1)],
        "three steps of two"
    );
    let third_step = Stamp {
        sender: 0,
        seq: 1,
        time_ns: 8_000_000,
    };
    traffic.deliver(0, third_step, 8_500_000).expect("was sent");
    assert_eq!(traffic.finish().latency_us.max(), 500);
}

#[test]
fn the_open_loop_counts_what_never_left() {
    let pace = Pace::Rate { per_s: 1_000.0 };
    let mut traffic = Traffic::new(&spec(Shape::Pair, 0, pace, 1, 1));
    traffic.start(0);
    traffic.advance(10_000_000);
    traffic.stop();
    assert_eq!(traffic.finish().unsent, 10);
}

#[test]
fn a_lower_receive_maximum_counts() {
    let mut traffic = windowed(Shape::Pair, 1, 16, 1, 1);
    traffic.limit_unacked(0, 3);
    assert_eq!(send(&mut traffic), [(0, 3)]);
}
