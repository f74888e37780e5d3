//! Scenarios for the tests.

use crate::scenario::{
    Commands, FleetSpec, NextAddress, PayloadSize, Phase, PhaseKind, Population, Protocol,
    Reconnect, Scenario, Template, Thresholds,
};

/// So many devices that connect, stay a second, and drain.
pub(crate) fn scenario(devices: u32) -> Scenario {
    let fleet = FleetSpec {
        proxies: 1,
        groups: 1,
        shards: 1,
        durability: "fsync".to_owned(),
        home_key: None,
    };
    let population = Population {
        name: "devices".to_owned(),
        devices: 0..devices,
        protocol: Protocol::V5,
        tls: false,
        keepalive_s: 60,
        clean: false,
        session_expiry_s: 600,
        client_id: Template("d-%n".to_owned()),
        subscriptions: Vec::new(),
        will: None,
        telemetry: None,
        reconnect: Reconnect {
            first_ms: 100,
            longest_ms: 1_000,
            address: NextAddress::Same,
        },
    };
    let commands = Commands {
        name: "commands".to_owned(),
        population: 0,
        connections: 1,
        topic: Template("d/%n".to_owned()),
        qos: 1,
        rate_per_s: 1.0,
        payload: PayloadSize::Fixed(32),
    };
    Scenario {
        name: "sample".to_owned(),
        about: "Devices of a test.".to_owned(),
        seed: 1,
        fleet,
        populations: vec![population],
        consumers: Vec::new(),
        commands: vec![commands],
        phases: vec![
            phase("up", PhaseKind::Ramp { per_s: 1_000.0 }),
            phase("quiet", PhaseKind::Steady { for_ms: 1_000 }),
            phase("end", PhaseKind::Drain),
        ],
        pass: Thresholds {
            promises: true,
            ..Thresholds::default()
        },
    }
}

/// A phase with ten seconds.
pub(crate) fn phase(name: &str, what: PhaseKind) -> Phase {
    Phase {
        name: name.to_owned(),
        what,
        limit_ms: 10_000,
        commands: 1.0,
    }
}
