//! Reports of two workers, added up.

use super::*;
use crate::control::message::Stream;

fn sample(at_us: u64, connects: u64) -> Sample {
    Sample {
        at_us,
        connected: connects,
        counts: Counts {
            connects,
            sent: [1, connects, 0],
            ..Counts::default()
        },
        ..Sample::default()
    }
}

fn seen(role: &str, name: &str, rss_bytes: u64) -> Seen {
    Seen {
        role: role.to_owned(),
        name: name.to_owned(),
        rss_bytes,
        cpu_s: 0.5,
        generation: 0,
    }
}

#[test]
fn counters_are_the_newest_of_each_worker() {
    let mut records = Records::new(&[false, false]);
    records.sample(0, sample(1_000_000, 10));
    records.sample(1, sample(1_000_000, 5));
    records.sample(1, sample(2_000_000, 25));
    let counts = records.counts();
    assert_eq!(counts.connects, 35);
    assert_eq!(counts.sent, [2, 35, 0]);
    assert_eq!(records.connected(), 35);
    records.sample(0, sample(3_000_000, 4));
    assert_eq!((records.connected(), records.connected_max()), (29, 35));
    assert_eq!(records.totals().connected_max, 35);
}

#[test]
fn rates_are_taken_between_the_samples_of_each_worker() {
    let mut records = Records::new(&[false, false]);
    for (worker, at_us, connects) in [(0, 1_000_000, 10), (1, 1_400_000, 0), (0, 3_000_000, 50)] {
        records.sample(worker, sample(at_us, connects));
    }
    // A second one at once says nothing about rates.
    records.sample(0, sample(3_000_100, 60));
    let point = records.point(3_000_200);
    assert!((point.connects_per_s - 20.0).abs() < 1e-9, "{point:?}");
    records.sample(0, sample(4_000_000, 70));
    let point = records.point(4_000_000);
    assert!((point.connects_per_s - 20.0).abs() < 1e-9, "{point:?}");
    records.ended(0, sample(5_000_000, 90));
    let point = records.point(5_000_000);
    assert!(point.connects_per_s.abs() < 1e-9, "{point:?}");
    assert_eq!(records.counts().connects, 90);
}

#[test]
fn latencies_are_added_up_for_the_run_and_for_the_row() {
    let mut records = Records::new(&[false, false]);
    for (worker, us) in [(0, 100), (1, 900)] {
        let spread = Spread(vec![(us, 50)]);
        records.sample(
            worker,
            Sample {
                latencies: vec![(LatencyKind::Command, spread)],
                ..Sample::default()
            },
        );
    }
    let point = records.point(1_000_000);
    let latency = &point.latencies[0];
    assert_eq!((latency.kind.as_str(), latency.p50_us), ("command", 100));
    assert_eq!(latency.max_us, 900);
    assert!(records.point(2_000_000).latencies.is_empty());
    let run = &records.latencies()[0];
    assert_eq!((run.count, run.p50_us, run.p99_us), (100, 100, 900));
}

#[test]
fn errors_are_added_up_by_reason() {
    let mut records = Records::new(&[false, false]);
    let errors = |list: &[(&str, u64)]| Sample {
        errors: list
            .iter()
            .map(|&(reason, count)| (reason.to_owned(), count))
            .collect(),
        ..Sample::default()
    };
    records.sample(0, errors(&[("refused", 2), ("reset", 3)]));
    records.sample(1, errors(&[("refused", 4)]));
    let expected = [("refused".to_owned(), 6), ("reset".to_owned(), 3)];
    assert_eq!(records.errors(), expected);
    assert_eq!(records.point(0).errors, 9);
}

#[test]
fn workers_that_cannot_be_seen_are_taken_at_their_word() {
    let mut records = Records::new(&[false, true]);
    for worker in [0, 1] {
        records.sample(
            worker,
            Sample {
                rss_bytes: 7,
                cpu_us: 2_000_000,
                ..Sample::default()
            },
        );
    }
    let look = Look {
        target: vec![
            seen("proxies", "proxy-1", 100),
            seen("brokers", "broker-1", 10),
            seen("proxies", "proxy-2", 200),
        ],
        own: vec![
            seen(SIMULATOR, "controller", 1),
            seen(SIMULATOR, "worker 0", 2),
        ],
        ..Look::default()
    };
    let roles = records.roles(&look);
    let names: Vec<_> = roles.iter().map(|role| role.role.as_str()).collect();
    assert_eq!(names, ["proxies", "brokers", "simulator"]);
    assert_eq!((roles[0].processes, roles[0].rss_bytes), (2, 300));
    assert_eq!((roles[2].processes, roles[2].rss_bytes), (3, 10));
    assert!((roles[2].cpu_s - 3.0).abs() < 1e-9);
}

#[test]
fn findings_name_device_and_messages() {
    let mut records = Records::new(&[false]);
    let finding = |kind, device| Finding {
        kind: FindingKind::Lost,
        stream: Stream { kind, device },
        seq: Some(3),
        at_us: 1_500_000 + u64::from(device),
        qos: 1,
        detail: String::new(),
    };
    records.found(vec![finding(1, 7), finding(0, 3), finding(BACKEND, 1)]);
    records.found((0..1_000).map(|_| finding(0, 9)).collect());
    let scenario = crate::controller::samples::scenario(20);
    let lines = records.examples(&scenario, 0xab);
    assert_eq!(lines.len(), EXAMPLES_MAX);
    assert_eq!(lines[0].client_id, "connection 1 of the back end");
    let line = &lines[1];
    assert_eq!(
        (line.client_id.as_str(), line.messages.as_str()),
        ("ab-d-3", "telemetry")
    );
    let line = lines.iter().find(|line| line.client_id == "ab-d-7");
    assert_eq!(line.expect("it is among the first").messages, "commands");
}
