//! Scenarios for tests.

use super::plan::Plan;
use crate::control::message::Assignment;
use crate::scenario::{
    FleetSpec, NextAddress, PayloadSize, Population, Protocol, Reconnect, Scenario, Subscription,
    Telemetry, Template, Thresholds,
};

/// Ten devices with everything, of one population, on three targets.
pub(super) fn plan(change: impl FnOnce(&mut Population)) -> Plan {
    Plan::new(assignment(change))
}

/// The same, not yet made ready.
pub(super) fn assignment(change: impl FnOnce(&mut Population)) -> Assignment {
    let mut population = population();
    change(&mut population);
    Assignment {
        scenario: scenario(population),
        run: 0xA1,
        worker: 1,
        targets: (1..=3).map(|port| ([127, 0, 0, 1], port).into()).collect(),
        tls_targets: Vec::new(),
        tls: None,
        shares: vec![0..0, 0..10],
    }
}

fn population() -> Population {
    Population {
        name: "pumps".to_owned(),
        devices: 0..10,
        protocol: Protocol::V5,
        tls: false,
        keepalive_s: 60,
        clean: false,
        session_expiry_s: 600,
        client_id: Template("p%n".to_owned()),
        subscriptions: vec![Subscription {
            filter: Template("d/%c/cmd".to_owned()),
            qos: 2,
        }],
        will: None,
        telemetry: Some(Telemetry {
            topic: Template("d/%c/up".to_owned()),
            qos: 1,
            interval_ms: 1_000,
            jitter: 0.0,
            payload: PayloadSize::Fixed(40),
        }),
        reconnect: Reconnect {
            first_ms: 1_000,
            longest_ms: 8_000,
            address: NextAddress::Next,
        },
    }
}

fn scenario(population: Population) -> Scenario {
    Scenario {
        name: "test".to_owned(),
        about: String::new(),
        seed: 5,
        fleet: FleetSpec {
            proxies: 1,
            groups: 1,
            shards: 1,
            durability: "memory".to_owned(),
            home_key: None,
        },
        commands: vec![crate::scenario::Commands {
            name: "commands".to_owned(),
            population: 0,
            connections: 1,
            topic: Template("d/%c/cmd".to_owned()),
            qos: 2,
            rate_per_s: 1.0,
            payload: PayloadSize::Fixed(40),
        }],
        consumers: vec![crate::scenario::Consumer {
            name: "consumers".to_owned(),
            connections: 1,
            share: None,
            filter: "d/+/up".to_owned(),
            qos: 1,
        }],
        populations: vec![population],
        phases: Vec::new(),
        pass: Thresholds::default(),
    }
}
