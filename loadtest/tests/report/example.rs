//! A made-up run of a million devices, the same each time.

use mqtt_fleet_loadtest::{
    Check, FindingKind, FindingLine, LatencyOutcome, LatencyPoint, Machine, Outcome, PhaseOutcome,
    Point, Resources, RoleResources, TargetInfo, Totals,
};

const DEVICES: f64 = 1_000_000.0;

/// Names, kinds and ends of the phases, s.
const PHASES: [(&str, &str, f64); 6] = [
    ("connect all", "ramp", 185.0),
    ("keepalive and telemetry", "steady", 785.0),
    ("commands", "steady", 905.0),
    ("a tenth falls off", "storm", 946.0),
    ("proxies one by one", "restart", 1_060.0),
    ("drain", "drain", 1_066.0),
];

/// Multiplicative chance: good enough for a picture.
struct Dice(u64);

impl Dice {
    /// Evenly from 0 to 1.
    fn roll(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A latency: `middle` times something that is mostly near 1 and now and then far above.
    fn latency(&mut self, kind: &str, middle: f64) -> LatencyPoint {
        let p50 = middle * (0.9 + 0.2 * self.roll());
        let p99 = p50 * (3.0 + 3.0 * self.roll());
        let max = p99 * (1.2 + 6.0 * self.roll() * self.roll());
        let [p50_us, p99_us, max_us] = [p50, p99, max].map(whole);
        LatencyPoint {
            kind: kind.to_owned(),
            p50_us,
            p99_us,
            max_us,
        }
    }
}

#[expect(clippy::cast_sign_loss, reason = "nothing here is below 0")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

fn role(name: &str, figure: f64) -> (String, u64) {
    (name.to_owned(), whole(figure))
}

/// How many devices are connected at a time.
fn connected_at(at_s: f64) -> f64 {
    let dip = |from: f64, depth: f64, length: f64| {
        let part = ((at_s - from) / length).clamp(0.0, 1.0);
        if at_s < from {
            0.0
        } else {
            depth * (1.0 - part)
        }
    };
    let restarts: f64 = (0..5)
        .map(|number| dip(950.0 + 20.0 * f64::from(number), 20_000.0, 6.0))
        .sum();
    (DEVICES * at_s / 184.0).min(DEVICES) - dip(905.0, DEVICES / 10.0, 35.0) - restarts
}

fn point(at_s: f64, connects_before: f64, dice: &mut Dice) -> Point {
    let connected = connected_at(at_s);
    let ramp = at_s < 185.0;
    let busy = if ramp || (905.0..940.0).contains(&at_s) {
        3.0
    } else {
        1.0
    };
    let telemetry = connected / 300.0 * (0.97 + 0.06 * dice.roll());
    let commands = if (785.0..905.0).contains(&at_s) {
        1_000.0
    } else {
        0.0
    };
    let sent = if at_s > 1_060.0 {
        0.0
    } else {
        telemetry + commands
    };
    let mut latencies = vec![
        dice.latency("telemetry", 1_800.0 * busy),
        dice.latency("telemetry ack", 1_400.0 * busy),
        dice.latency("ping", 350.0 * busy),
    ];
    let connects = (connected - connects_before).max(0.0);
    if connects > 0.0 {
        latencies.insert(0, dice.latency("connect", 9_000.0 * busy));
    }
    if commands > 0.0 {
        latencies.push(dice.latency("command", 2_600.0));
        latencies.push(dice.latency("command ack", 1_900.0));
    }
    let lost = if at_s > 1_000.0 { 3 } else { 0 };
    Point {
        at_s,
        connected: whole(connected),
        connects_per_s: connects,
        sent_per_s: sent,
        received_per_s: sent * (0.995 + 0.01 * dice.roll()),
        connections_lost: lost,
        errors: lost + whole((at_s - 905.0).clamp(0.0, 30.0) * 40.0),
        owed: whole(sent * 0.004 * busy * dice.roll()),
        latencies,
        memory: vec![
            role("proxies", 260e6 + 2_310.0 * connected),
            role(
                "brokers",
                45e6 + 640.0 * connected.max(at_s.min(184.0) / 184.0 * DEVICES),
            ),
            role("redis", 8e6 + 610.0 * at_s.min(184.0) / 184.0 * DEVICES),
            role("simulator", 190e6 + 1_280.0 * connected),
        ],
        cpu: [
            ("proxies", 0.42),
            ("brokers", 0.2),
            ("redis", 0.07),
            ("simulator", 0.31),
        ]
        .map(|(name, share)| {
            (
                name.to_owned(),
                share * (busy / 1.7) * (0.9 + 0.2 * dice.roll()),
            )
        })
        .to_vec(),
    }
}

fn series() -> Vec<Point> {
    let mut dice = Dice(4);
    let mut before = 0.0;
    let mut points = Vec::new();
    for second in 1..=1_066 {
        let next = point(f64::from(second), before, &mut dice);
        before = next.connected as f64;
        points.push(next);
    }
    points
}

fn phases() -> Vec<PhaseOutcome> {
    let mut from_s = 0.0;
    let phase = |(name, kind, to_s): (&str, &str, f64)| {
        let storm = kind == "storm";
        let connects = match kind {
            "ramp" => 1_000_000,
            "storm" | "restart" => 100_000,
            _ => 0,
        };
        let of_phase = PhaseOutcome {
            name: name.to_owned(),
            kind: kind.to_owned(),
            from_s,
            to_s,
            done: true,
            connects,
            connections_lost: if kind == "restart" { 3 } else { 0 },
            dropped: if storm { 100_000 } else { 0 },
            growth: storm.then(|| ("proxy-17".to_owned(), 0.063)),
            cpu_s: [0.7 * (to_s - from_s), 0.31 * (to_s - from_s)],
        };
        from_s = to_s;
        of_phase
    };
    PHASES.into_iter().map(phase).collect()
}

fn latencies() -> Vec<LatencyOutcome> {
    let kinds = [
        ("connect", 1_100_000, 9_800),
        ("telemetry", 3_300_000, 1_900),
        ("telemetry ack", 3_300_000, 1_500),
        ("ping", 3_120_000, 360),
        ("command", 120_000, 2_600),
        ("command ack", 120_000, 1_900),
    ];
    let latency = |(kind, count, p50_us): (&str, u64, u64)| LatencyOutcome {
        kind: kind.to_owned(),
        count,
        p50_us,
        p90_us: p50_us * 2,
        p99_us: p50_us * 5,
        p999_us: p50_us * 11,
        max_us: p50_us * 74,
    };
    kinds.map(latency).to_vec()
}

fn resources() -> Resources {
    let role = |role: &str, processes, before_bytes, per_device_bytes: f64, cpu_s| RoleResources {
        role: role.to_owned(),
        processes,
        before_bytes,
        steady_bytes: before_bytes + whole(per_device_bytes * DEVICES),
        max_bytes: before_bytes + whole(per_device_bytes * DEVICES * 1.06),
        per_device_bytes,
        per_device_whole_bytes: per_device_bytes + before_bytes as f64 / DEVICES,
        cpu_s,
    };
    Resources {
        roles: vec![
            role("proxies", 53, 260_000_000, 2_310.0, 612.0),
            role("brokers", 2, 45_000_000, 640.0, 231.0),
            role("redis", 1, 8_000_000, 610.0, 88.0),
            role("simulator", 53, 190_000_000, 1_280.0, 452.0),
        ],
        target_cpu_s: Some(931.0),
        simulator_cpu_s: 452.0,
        socket_bytes_max: 312_000_000,
        available_bytes_min: 9_800_000_000,
    }
}

fn checks() -> Vec<Check> {
    let check = |key: &str, about: &str, bound: &str, figure: &str| Check {
        key: key.to_owned(),
        about: about.to_owned(),
        bound: bound.to_owned(),
        figure: figure.to_owned(),
        passed: true,
    };
    vec![
        check("promises", "no promise broken", "0", "0"),
        check(
            "ramp_per_s_min",
            "connects per second in each ramp",
            "at least 5,000",
            "5,405",
        ),
        check(
            "storm_s_max",
            "all back after a storm",
            "at most 60 s",
            "35.0 s",
        ),
        check(
            "command_p99_ms_max",
            "p99 of commands",
            "at most 100 ms",
            "13.0 ms",
        ),
        check(
            "proxy_bytes_per_connection_max",
            "memory of proxies per connection",
            "at most 2,500 B",
            "2,310 B",
        ),
        check(
            "cpu_ratio_max",
            "CPU of the simulator over the target's",
            "at most 1",
            "0.49",
        ),
    ]
}

/// A run that passed.
pub(crate) fn million() -> Outcome {
    Outcome {
        scenario: "million".to_owned(),
        about: "A million devices with keepalive and telemetry, commands, a storm and a rolling restart.".to_owned(),
        started: "2026-03-01T12:00:00Z".to_owned(),
        version: "0.1.0".to_owned(),
        machine: Machine { cores: 2, memory_bytes: 25_769_803_776, kernel: "Linux 6.1.0-18-amd64".to_owned() },
        target: TargetInfo {
            addresses: (0..53).map(|port| format!("127.0.0.1:{}", 30_000 + port)).collect(),
            about: "53 proxies, 2 groups and Redis, started by this run".to_owned(),
        },
        devices: 1_000_000,
        workers: 53,
        secs: 1_066.0,
        phases: phases(),
        series: series(),
        latencies: latencies(),
        totals: Totals {
            connected_max: 1_000_000,
            connects: 1_200_003,
            reconnects: 200_003,
            connections_lost: 3,
            dropped: 100_000,
            pings: 3_120_412,
            sent: [0, 3_420_117, 0],
            acknowledged: [0, 3_420_117, 0],
            received: [0, 3_420_117, 0],
            repeated: 14,
            left_late: 212,
            bytes: [218_887_488, 218_887_488],
            ..Totals::default()
        },
        errors: vec![
            ("Connection refused (os error 111)".to_owned(), 1_140),
            ("closed by the broker".to_owned(), 60),
        ],
        resources: resources(),
        checks: checks(),
        passed: true,
        ..Outcome::default()
    }
}

/// The same run, with broken promises.
pub(crate) fn failed() -> Outcome {
    let mut outcome = million();
    outcome.passed = false;
    outcome.findings = vec![
        (FindingKind::Lost, 41),
        (FindingKind::LostQos0, 7),
        (FindingKind::SessionLost, 2),
    ];
    let example = |number: u32| FindingLine {
        kind: FindingKind::Lost,
        client_id: format!("meter-{}", 1_000 + number * 7),
        messages: "telemetry".to_owned(),
        seq: Some(31 + number),
        at_s: 951.25 + 0.013 * f64::from(number),
        detail: "QoS 1, acknowledged, never received".to_owned(),
    };
    outcome.examples = (0..20).map(example).collect();
    outcome.checks[0].passed = false;
    outcome.checks[0].figure = String::from("43: 41 lost, 2 sessions lost");
    outcome.checks[3].passed = false;
    outcome.checks[3].figure = String::from("130 ms");
    outcome.phases[4].done = false;
    outcome
}
