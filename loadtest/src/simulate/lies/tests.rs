//! Every lie is found, counted once, and named.

use std::ops::RangeInclusive;

use super::hub::{Hub, RUN};
use super::server::{Lie, LieKind, Server, Told};
use crate::control::desk::own_clock_us;
use crate::control::message::{BACKEND, Counts, Finding, FindingKind, Stream};
use crate::scenario::{
    Commands, Consumer, FleetSpec, NextAddress, PayloadSize, Phase, PhaseKind, Population,
    Protocol, Reconnect, Scenario, Subscription, Telemetry, Template, Thresholds,
};
use crate::simulate::dice::Dice;

const DEVICES: u32 = 6;

const RAMP: u16 = 0;
const STEADY: u16 = 1;
const STORM: u16 = 2;
const CALM: u16 = 3;
const DRAIN: u16 = 4;

fn phase(what: PhaseKind, commands: f64) -> Phase {
    Phase {
        name: "phase".to_owned(),
        what,
        limit_ms: 60_000,
        commands,
    }
}

/// Six devices of MQTT 5 with persistent sessions; everything at one `QoS`.
pub(in crate::simulate) fn scenario(qos: u8) -> Scenario {
    let fleet = FleetSpec {
        proxies: 1,
        groups: 1,
        shards: 1,
        durability: "memory".to_owned(),
        home_key: None,
    };
    let steady = PhaseKind::Steady { for_ms: 60_000 };
    Scenario {
        name: "lies".to_owned(),
        about: String::new(),
        seed: 5,
        fleet,
        populations: vec![population(qos)],
        consumers: vec![Consumer {
            name: "ingest".to_owned(),
            connections: 1,
            share: Some("ingest".to_owned()),
            filter: "d/+/up".to_owned(),
            qos,
        }],
        commands: vec![Commands {
            name: "orders".to_owned(),
            population: 0,
            connections: 2,
            topic: Template("d/%c/cmd".to_owned()),
            qos,
            rate_per_s: 200.0,
            payload: PayloadSize::Even(30, 200),
        }],
        phases: vec![
            phase(PhaseKind::Ramp { per_s: 1_000.0 }, 0.0),
            phase(steady.clone(), 1.0),
            phase(PhaseKind::Storm { share: 0.5 }, 1.0),
            phase(steady, 0.0),
            phase(PhaseKind::Drain, 0.0),
        ],
        pass: Thresholds::default(),
    }
}

/// Who gets the telemetry.
#[derive(Debug, Clone, Copy)]
enum Audience {
    /// One connection.
    One,
    /// A share of two connections, and a tap beside it.
    ShareAndTap,
    /// Two connections that each get everything.
    Two,
}

impl Audience {
    const OF_TWO: [Self; 2] = [Self::ShareAndTap, Self::Two];

    fn sit_in(self, scenario: &mut Scenario) {
        let ingest = &mut scenario.consumers[0];
        match self {
            Self::One => {}
            Self::ShareAndTap => {
                let tap = Consumer {
                    name: "tap".to_owned(),
                    share: None,
                    ..ingest.clone()
                };
                ingest.connections = 2;
                scenario.consumers.push(tap);
            }
            Self::Two => (ingest.share, ingest.connections) = (None, 2),
        }
    }

    /// How often each message is received.
    fn copies(self) -> u64 {
        match self {
            Self::One => 1,
            Self::ShareAndTap | Self::Two => 2,
        }
    }

    /// How many receivers have an order to keep.
    fn orders(self) -> u64 {
        match self {
            Self::One | Self::ShareAndTap => 1,
            Self::Two => 2,
        }
    }
}

/// The same with devices of each version.
fn each_version(qos: RangeInclusive<u8>) -> impl Iterator<Item = (u8, Scenario)> {
    let versions = [Protocol::V311, Protocol::V5];
    qos.flat_map(move |qos| versions.map(|protocol| (qos, protocol)))
        .map(|(qos, protocol)| {
            let mut scenario = scenario(qos);
            scenario.populations[0].protocol = protocol;
            (qos, scenario)
        })
}

fn population(qos: u8) -> Population {
    Population {
        name: "pumps".to_owned(),
        devices: 0..DEVICES,
        protocol: Protocol::V5,
        tls: false,
        keepalive_s: 60,
        clean: false,
        session_expiry_s: 600,
        client_id: Template("p%n".to_owned()),
        subscriptions: vec![Subscription {
            filter: Template("d/%c/cmd".to_owned()),
            qos,
        }],
        will: None,
        telemetry: Some(Telemetry {
            topic: Template("d/%c/up".to_owned()),
            qos,
            interval_ms: 30,
            jitter: 0.5,
            payload: PayloadSize::Even(30, 200),
        }),
        reconnect: Reconnect {
            first_ms: 300,
            longest_ms: 300,
            address: NextAddress::Same,
        },
    }
}

fn device(number: u32) -> String {
    format!("{RUN:x}-p{number}")
}

/// One lie of each kind about telemetry and about commands, each of another device.
fn lies() -> Vec<Lie> {
    let kinds = |shift: u32| {
        let to = device((4 + shift) % DEVICES);
        [
            LieKind::Drop,
            LieKind::Repeat,
            LieKind::Swap,
            LieKind::Alter,
            LieKind::Misdeliver(to),
        ]
    };
    let of = |kind: u8| {
        let about = kinds(1).into_iter().zip(0..);
        about.map(move |(lie, device)| Lie {
            stream: Stream { kind, device },
            seq: 3 + device,
            kind: lie,
        })
    };
    of(0).chain(of(1)).collect()
}

/// Ramp, everything until `is_so`, and a drain until nothing is under way but what is lost.
fn run(scenario: &Scenario, server: &Server, lost: u64, is_so: impl Fn(&Hub) -> bool) -> Hub {
    let mut hub = Hub::start(scenario, server);
    hub.play(RAMP, "all devices", |hub| hub.did(RAMP));
    let commands = if scenario.commands[0].rate_per_s > 0.0 {
        STEADY
    } else {
        CALM
    };
    hub.play(commands, "all lies", is_so);
    drain(&mut hub, lost);
    hub
}

fn drain(hub: &mut Hub, lost: u64) {
    let sent = |counts: &Counts| counts.sent.iter().sum::<u64>();
    let acknowledged = |counts: &Counts| counts.acknowledged.iter().sum::<u64>();
    // Samples come each second; one that is older may not know that nothing more is sent.
    let known_us = own_clock_us() + 1_500_000;
    hub.drain(DRAIN, "what is under way", |hub| {
        let known = hub.samples.iter().all(|sample| sample.at_us > known_us);
        let under_way = hub.sum(sent) - hub.sum(acknowledged);
        known && under_way == 0 && hub.sum(|counts| counts.owed) == lost
    });
    hub.finish();
}

/// How many findings there are of each kind; all others are 0.
fn check_counts(hub: &Hub, expected: &[(FindingKind, u64)]) {
    for kind in FindingKind::ALL {
        let known = expected.iter().find(|(of, _)| *of == kind);
        let count = known.map_or(0, |(_, count)| *count);
        assert_eq!(hub.count(kind), count, "{kind:?}: {:#?}", hub.findings);
    }
}

/// Finds the finding of one lie, by device, sequence and time.
fn named<'a>(hub: &'a Hub, kind: FindingKind, told: &Told) -> Option<&'a Finding> {
    let is_it = |finding: &&Finding| {
        let named = finding.stream == told.lie.stream && finding.seq == Some(told.lie.seq);
        // Of a repetition only the time when it was found is known, once its first arrival is settled.
        let repeated = kind == FindingKind::Duplicated && finding.at_us > told.due_us;
        finding.kind == kind && named && (finding.at_us == told.due_us || repeated)
    };
    let mut findings = hub.findings.iter().map(|(_, finding)| finding);
    findings.find(is_it)
}

/// What losses and repetitions are called.
fn names(qos: u8) -> (FindingKind, FindingKind) {
    match qos {
        0 => (FindingKind::LostQos0, FindingKind::DuplicatedQos0),
        _ => (FindingKind::Lost, FindingKind::Duplicated),
    }
}

fn check_named(hub: &Hub, qos: u8, told: &[Told]) {
    let (lost, repeated) = names(qos);
    for told in told {
        let kind = match told.lie.kind {
            LieKind::Drop | LieKind::Alter | LieKind::Misdeliver(_) => lost,
            LieKind::Repeat => repeated,
            LieKind::Swap => FindingKind::Reordered,
            LieKind::Lower => FindingKind::Violation,
            LieKind::AnswerLate | LieKind::Forget(_) | LieKind::Cut(_) => continue,
        };
        let finding =
            named(hub, kind, told).unwrap_or_else(|| panic!("{told:?}: {:#?}", hub.findings));
        let lower = u8::from(told.lie.kind == LieKind::Lower);
        assert!(
            finding.at_us >= hub.began_us && finding.qos == qos - lower,
            "{finding:?}"
        );
    }
}

#[test]
fn every_lie_is_found_counted_and_named() {
    for (qos, scenario) in each_version(0..=2) {
        let server = Server::start(lies());
        let all = lies().len();
        let hub = run(&scenario, &server, 6, |_| server.told().len() == all);
        let (lost, repeated) = names(qos);
        let expected = [
            (lost, 6),
            (repeated, 2),
            (FindingKind::Reordered, 2),
            (FindingKind::Misdelivered, 4),
        ];
        check_counts(&hub, &expected);
        check_named(&hub, qos, &server.told());
        let at = usize::from(qos);
        let (sent, received) = (hub.sum(|c| c.sent[at]), hub.sum(|c| c.received[at]));
        assert_eq!((received, server.unwanted()), (sent - 6, 0), "QoS {qos}");
        assert_eq!(server.sessions(), 0, "all sessions end with the run");
    }
}

#[test]
fn a_message_below_its_qos_is_found_and_counts_as_arrived() {
    for (qos, scenario) in each_version(1..=2) {
        let of = |kind| Lie {
            stream: Stream { kind, device: 2 },
            seq: 4,
            kind: LieKind::Lower,
        };
        let server = Server::start(vec![of(0), of(1)]);
        let hub = run(&scenario, &server, 0, |_| server.told().len() == 2);
        check_counts(&hub, &[(FindingKind::Violation, 2)]);
        check_named(&hub, qos, &server.told());
        assert_eq!(hub.sum(|c| c.received[usize::from(qos) - 1]), 2);
    }
}

#[test]
fn an_acknowledgement_behind_a_later_one_is_found() {
    for (qos, scenario) in each_version(1..=2) {
        let of = |kind, device| Lie {
            stream: Stream { kind, device },
            seq: 4,
            kind: LieKind::AnswerLate,
        };
        let server = Server::start(vec![of(0, 2), of(1, 3)]);
        let hub = run(&scenario, &server, 0, |hub| {
            server.told().len() == 2 && hub.sum(|c| c.reconnects) == 1
        });
        check_counts(&hub, &[(FindingKind::Violation, 2)]);
        for (worker, kind, device) in [(1, 0, 2), (0, BACKEND, 2)] {
            let is_it = |(of, finding): &&(u16, Finding)| {
                *of == worker && finding.stream == Stream { kind, device }
            };
            let (_, finding) = hub.findings.iter().find(is_it).expect("named");
            assert!(finding.detail.contains("acknowledgement out of order"));
        }
        let at = usize::from(qos);
        assert_eq!(hub.sum(|c| c.received[at]), hub.sum(|c| c.sent[at]));
        assert_eq!(hub.sum(|c| c.connections_lost), 1, "the device's");
    }
}

/// Many lies, drawn, none next to another: a swap is one of two neighbours.
fn many_lies(seed: u64) -> Vec<Lie> {
    let mut dice = Dice::new(seed, 1);
    let mut lies = Vec::new();
    for (kind, device, place) in
        (0..2_u8).flat_map(|k| (0..DEVICES).flat_map(move |d| (1..10).map(move |p| (k, d, p))))
    {
        let other = (device + 1 + dice.below(DEVICES as usize - 1) as u32) % DEVICES;
        let lie = match dice.below(8) {
            0 => LieKind::Drop,
            1 => LieKind::Repeat,
            2 => LieKind::Swap,
            3 => LieKind::Alter,
            4 => LieKind::Misdeliver(self::device(other)),
            _ => continue,
        };
        lies.push(Lie {
            stream: Stream { kind, device },
            seq: place * 3,
            kind: lie,
        });
    }
    lies
}

#[test]
fn any_mix_of_lies_is_counted_exactly() {
    for (seed, (qos, scenario)) in (0..).zip(each_version(0..=2)) {
        check_mix(seed, qos, scenario, Audience::One);
    }
}

#[test]
fn any_mix_of_lies_is_counted_exactly_at_each_of_two_receivers() {
    for (audience, qos) in Audience::OF_TWO
        .into_iter()
        .flat_map(|a| [(a, 0), (a, 1), (a, 2)])
    {
        check_mix(6 + u64::from(qos), qos, scenario(qos), audience);
    }
}

fn check_mix(seed: u64, qos: u8, mut scenario: Scenario, audience: Audience) {
    audience.sit_in(&mut scenario);
    let lies = many_lies(seed);
    // Telemetry (kind 0) counts at each receiver.
    let count = |times: u64, is_it: fn(&LieKind) -> bool| {
        let told = lies.iter().filter(|lie| is_it(&lie.kind));
        told.map(|lie| if lie.stream.kind == 0 { times } else { 1 })
            .sum::<u64>()
    };
    let is_misdelivered = |kind: &LieKind| matches!(kind, LieKind::Misdeliver(_));
    let repeats = count(audience.copies(), |kind| *kind == LieKind::Repeat);
    let swaps = count(audience.orders(), |kind| *kind == LieKind::Swap);
    let altered = count(audience.copies(), |kind| *kind == LieKind::Alter);
    let misdelivered = altered + count(1, is_misdelivered);
    let losses =
        misdelivered - altered + count(1, |kind| matches!(kind, LieKind::Drop | LieKind::Alter));
    assert!(repeats > 5 && swaps > 5 && misdelivered > 10 && losses > 15);
    let server = Server::start(lies.clone());
    let all = lies.len();
    let hub = run(&scenario, &server, losses, |_| server.told().len() == all);
    let (lost, repeated) = names(qos);
    let expected = [
        (lost, losses),
        (repeated, repeats),
        (FindingKind::Reordered, swaps),
        (FindingKind::Misdelivered, misdelivered),
    ];
    check_counts(&hub, &expected);
    check_named(&hub, qos, &server.told());
}

/// Enough of everything.
fn busy(hub: &Hub) -> bool {
    let arrived = |counts: &Counts| counts.received.iter().sum::<u64>();
    hub.samples
        .iter()
        .all(|sample| arrived(&sample.counts) > 300)
}

#[test]
fn a_truthful_server_gives_no_findings_through_a_storm_and_cut_connections() {
    for (qos, mut scenario) in each_version(1..=2) {
        scenario.consumers[0].connections = 2;
        check_truth(qos, &scenario, 1);
    }
}

#[test]
fn a_storm_is_not_over_while_a_device_is_away_that_it_did_not_drop() {
    let cut = |device| Lie {
        stream: Stream { kind: 0, device: 0 },
        seq: 3 + device,
        kind: LieKind::Cut(self::device(device)),
    };
    let server = Server::start((1..DEVICES).map(cut).collect());
    let mut scenario = scenario(1);
    scenario.phases[usize::from(STORM)].what = PhaseKind::Storm { share: 0.0 };
    // One of so many waits for longer than the second that a sample takes.
    let reconnect = &mut scenario.populations[0].reconnect;
    (reconnect.first_ms, reconnect.longest_ms) = (10_000, 10_000);
    let mut hub = Hub::start(&scenario, &server);
    hub.play(RAMP, "all devices", |hub| hub.did(RAMP));
    let all = u64::from(DEVICES) - 1;
    hub.play(CALM, "the losses", |hub| {
        hub.sum(|c| c.connections_lost) == all
    });
    assert!(hub.samples[1].connected <= all);
    hub.play(STORM, "all devices to be back", |hub| hub.did(STORM));
    assert_eq!(hub.samples[1].connected, u64::from(DEVICES));
    hub.drain(DRAIN, "both workers", |hub| hub.did(DRAIN));
    hub.finish();
    check_counts(&hub, &[]);
    assert_eq!(hub.sum(|c| c.dropped), 0);
}

#[test]
fn a_truthful_server_gives_no_findings_to_two_receivers_either() {
    for (audience, qos) in Audience::OF_TWO.into_iter().flat_map(|a| [(a, 1), (a, 2)]) {
        let mut scenario = scenario(qos);
        audience.sit_in(&mut scenario);
        check_truth(qos, &scenario, audience.copies());
    }
}

/// Through a storm and cut connections all arrives, telemetry in so many `copies`, and nothing is found.
fn check_truth(qos: u8, scenario: &Scenario, copies: u64) {
    let about = |kind, seq, whom: String| Lie {
        stream: Stream { kind, device: 1 },
        seq,
        kind: LieKind::Cut(whom),
    };
    let cuts = vec![
        about(0, 3, device(2)),
        about(0, 6, format!("{RUN:x}-ingest-0")),
        about(0, 9, format!("{RUN:x}-ingest-1")),
        about(1, 4, format!("{RUN:x}-orders-0")),
        about(1, 8, format!("{RUN:x}-orders-1")),
    ];
    let all = cuts.len();
    let server = Server::start(cuts);
    let mut hub = Hub::start(scenario, &server);
    hub.play(RAMP, "all devices", |hub| hub.did(RAMP));
    hub.play(STEADY, "all cuts and traffic", |hub| {
        server.told().len() == all && busy(hub)
    });
    hub.play(STORM, "all devices to be back", |hub| hub.did(STORM));
    hub.drain(DRAIN, "both workers", |hub| hub.did(DRAIN));
    hub.finish();
    check_counts(&hub, &[]);
    let at = usize::from(qos);
    let [back_end, devices] = hub.samples.each_ref().map(|sample| sample.counts);
    assert_eq!(back_end.received[at], copies * devices.sent[at]);
    assert_eq!(devices.received[at], back_end.sent[at]);
    assert_eq!(hub.sum(|c| c.acknowledged[at]), hub.sum(|c| c.sent[at]));
    assert_eq!(hub.sum(|c| c.unacknowledged + c.owed + c.excused), 0);
    assert_eq!(hub.sum(|c| c.connections_lost), 5);
    assert_eq!(
        hub.sum(|c| c.connects),
        u64::from(DEVICES) + 1 + hub.sum(|c| c.dropped)
    );
}

#[test]
fn what_is_under_way_to_a_session_that_ends_is_excused_and_nothing_else() {
    for (qos, mut scenario) in each_version(1..=2) {
        // Its session ends with its connection, and this message finds neither.
        let ends = Lie {
            stream: Stream { kind: 1, device: 1 },
            seq: 5,
            kind: LieKind::Forget(device(1)),
        };
        let server = Server::start(vec![ends]);
        scenario.populations[0].clean = true;
        scenario.commands[0].rate_per_s = 3_000.0;
        let mut hub = Hub::start(&scenario, &server);
        hub.play(RAMP, "all devices", |hub| hub.did(RAMP));
        hub.play(STEADY, "traffic", |hub| {
            server.told().len() == 1 && busy(hub)
        });
        hub.play(STORM, "all devices to be back", |hub| hub.did(STORM));
        hub.drain(DRAIN, "both workers", |hub| hub.did(DRAIN));
        hub.finish();
        check_counts(&hub, &[]);
        let at = usize::from(qos);
        let [back_end, devices] = hub.samples.each_ref().map(|sample| sample.counts);
        assert!(devices.dropped > 0 && back_end.excused > 0, "{back_end:?}");
        assert_eq!(back_end.sent[at], devices.received[at] + back_end.excused);
        assert_eq!(back_end.sent[at], back_end.acknowledged[at]);
        // Telemetry that a storm tore from a socket may have come through or not; nobody was promised it.
        let received = back_end.received[at];
        let promised = devices.sent[at] - devices.unacknowledged;
        assert!(
            (promised..=devices.sent[at]).contains(&received),
            "{devices:?}"
        );
    }
}

#[test]
fn a_truthful_server_gives_no_findings_at_qos_0() {
    for (_, scenario) in each_version(0..=0) {
        let server = Server::start(Vec::new());
        let hub = run(&scenario, &server, 0, busy);
        check_counts(&hub, &[]);
        assert_eq!(hub.sum(|c| c.received[0]), hub.sum(|c| c.sent[0]));
    }
}

#[test]
fn a_session_that_was_forgotten_is_found() {
    for (qos, mut scenario) in each_version(1..=2) {
        let forget = Lie {
            stream: Stream { kind: 0, device: 3 },
            seq: 5,
            kind: LieKind::Forget(device(3)),
        };
        let server = Server::start(vec![forget]);
        scenario.commands[0].rate_per_s = 0.0;
        let arrived = |hub: &Hub| {
            let back = hub.samples[1].counts.reconnects == 1;
            back && hub.samples[0].counts.received[usize::from(qos)] > 300
        };
        let hub = run(&scenario, &server, 0, arrived);
        check_counts(&hub, &[(FindingKind::SessionLost, 1)]);
        let (worker, finding) = &hub.findings[0];
        assert_eq!((*worker, finding.stream.device), (1, 3));
        assert!(finding.at_us > server.told()[0].due_us);
    }
}

#[test]
fn what_a_consumers_forgotten_session_has_cost_is_counted() {
    for qos in 1..=2 {
        let forget = Lie {
            stream: Stream { kind: 0, device: 3 },
            seq: 5,
            kind: LieKind::Forget(format!("{RUN:x}-ingest-0")),
        };
        let server = Server::start(vec![forget]);
        let mut scenario = scenario(qos);
        scenario.commands[0].rate_per_s = 0.0;
        let mut hub = Hub::start(&scenario, &server);
        hub.play(RAMP, "all devices", |hub| hub.did(RAMP));
        hub.play(CALM, "the consumer to be back", |hub| {
            hub.count(FindingKind::SessionLost) == 1
                && hub.samples[0].counts.received[usize::from(qos)] > 300
        });
        let unwanted = server.unwanted();
        assert!(
            unwanted > 0,
            "at least the message that it was forgotten with"
        );
        drain(&mut hub, unwanted);
        check_counts(
            &hub,
            &[(FindingKind::SessionLost, 1), (FindingKind::Lost, unwanted)],
        );
        let lost = |finding: &&(u16, Finding)| finding.1.kind == FindingKind::SessionLost;
        let (worker, finding) = hub.findings.iter().find(lost).expect("counted");
        assert_eq!((*worker, finding.stream.kind), (0, BACKEND));
        assert!(
            finding.detail.starts_with(&format!("{RUN:x}-ingest-0")),
            "{finding:?}"
        );
        let told = &server.told()[0];
        assert!(named(&hub, FindingKind::Lost, told).is_some(), "{told:?}");
    }
}
