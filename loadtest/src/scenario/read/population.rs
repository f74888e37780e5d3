//! Populations: devices that are alike.

use std::ops::Range;
use std::time::Duration;

use super::super::model::{
    NextAddress, Population, Protocol, Reconnect, Subscription, Telemetry, Template, Will,
};
use super::text::{Found, Section};
use crate::limits::{DEVICES_MAX, POPULATIONS_MAX, SUBSCRIPTIONS_MAX};

/// Where in the file a population says what may be wrong together with something else.
#[derive(Debug, Default, Clone)]
pub(super) struct Places {
    /// Each population's telemetry topic; its section where there is none.
    pub(super) telemetry: Vec<Range<usize>>,
    /// Each population's client id; its section where there is none.
    pub(super) client_id: Vec<Range<usize>>,
}

/// All of them, and where they are.
pub(super) fn all(top: &Section<'_, '_>) -> (Vec<Population>, Places) {
    let sections = top.sections("population");
    if sections.is_empty() {
        top.complain(
            "population is missing: give devices as [[population]], with name = and devices =",
        );
    }
    if let Some(section) = sections.get(POPULATIONS_MAX) {
        section.complain(format!("population: at most {POPULATIONS_MAX}"));
    }
    let mut populations: Vec<Population> = Vec::new();
    let mut places = Places::default();
    for section in sections {
        let population = section.read(|section| {
            let first = populations.last().map_or(0, |last| last.devices.end);
            let population = one(section, first, &mut places);
            let twice = populations
                .iter()
                .any(|other| other.name == population.name);
            if twice && let Some(name) = section.get("name") {
                name.refuse("a name that no other population has");
            }
            population
        });
        populations.push(population);
    }
    (populations, places)
}

fn one(section: &Section<'_, '_>, first: u32, places: &mut Places) -> Population {
    let name = section.need("name", "what this population is called in reports");
    let name = name.and_then(|name| name.name()).unwrap_or_default();
    let devices = section.need("devices", "how many there are");
    let left = u64::from(DEVICES_MAX - first);
    let devices = devices.and_then(|devices| devices.whole(1..=left));
    // At least 1, so that what follows has a device to be tried with.
    let devices = devices.unwrap_or(1).min(left.max(1));
    let versions = [("3.1.1", Protocol::V311), ("5", Protocol::V5)];
    let protocol = section.get("mqtt").and_then(|mqtt| mqtt.choice(&versions));
    let protocol = protocol.unwrap_or(Protocol::V5);
    let keepalive = section.get("keepalive");
    let keepalive = keepalive.and_then(|found| found.seconds(u32::from(u16::MAX)));
    let clean = session(section, protocol);
    let client_id = section.get("client_id");
    let span = |found: &Option<Found<'_, '_>>| {
        let found = found.as_ref();
        found.map_or(section.span.clone(), |found| found.span.clone())
    };
    places.client_id.push(span(&client_id));
    places.telemetry.push(section.span.clone());
    Population {
        name: name.to_owned(),
        devices: first..(u64::from(first) + devices).min(u64::from(DEVICES_MAX)) as u32,
        protocol,
        tls: section.get("tls").and_then(|tls| tls.switch()) == Some(true),
        keepalive_s: keepalive.map_or(60, |seconds| seconds as u16),
        clean: clean.is_none(),
        session_expiry_s: clean.unwrap_or(0),
        client_id: client_id
            .and_then(|id| id.client_id(devices))
            .unwrap_or_else(|| Template(format!("{name}-%n"))),
        subscriptions: subscriptions(section),
        will: part(section, "will").map(|part| part.read(|part| will(part, protocol))),
        telemetry: part(section, "telemetry")
            .map(|part| part.read(|part| telemetry(part, places.telemetry.last_mut()))),
        reconnect: section.section("reconnect").read(reconnect),
    }
}

/// A section that need not be there.
fn part<'t, 'd>(section: &Section<'t, 'd>, key: &'static str) -> Option<Section<'t, 'd>> {
    let part = section.section(key);
    part.is_there().then_some(part)
}

/// The session expiry, `None` where the session ends with the connection.
fn session(section: &Section<'_, '_>, protocol: Protocol) -> Option<u32> {
    let words = [("clean", true), ("persistent", false)];
    let session = section.get("session");
    let clean = session.and_then(|session| session.choice(&words)) == Some(true);
    let Some(expiry) = section.get("session_expiry") else {
        // Version 3.1.1 says nothing about it on the wire.
        return (!clean).then_some(if protocol == Protocol::V5 { 3600 } else { 0 });
    };
    if clean {
        expiry.complain("a clean session ends with its connection; say session = \"persistent\", or leave this out");
    } else if protocol == Protocol::V311 {
        expiry.complain("in MQTT 3.1.1 the broker decides; say mqtt = \"5\", or leave this out");
    }
    (!clean).then(|| expiry.seconds(u32::MAX - 1).unwrap_or(0))
}

fn subscriptions(section: &Section<'_, '_>) -> Vec<Subscription> {
    let Some(found) = section.get("subscriptions") else {
        return Vec::new();
    };
    let sections =
        found.sections("filters, such as [{ filter = \"devices/%c/commands\", qos = 1 }]");
    if sections.len() > SUBSCRIPTIONS_MAX {
        found.complain(format!("at most {SUBSCRIPTIONS_MAX}"));
    }
    let one = |section: &Section<'_, '_>| {
        let filter = section.need("filter", "what is subscribed to");
        let filter = filter.and_then(|filter| filter.filter());
        let qos = section.get("qos").and_then(|qos| qos.qos()).unwrap_or(1);
        filter.map(|filter| Subscription { filter, qos })
    };
    let read = sections.into_iter().map(|section| section.read(one));
    read.flatten().collect()
}

fn will(section: &Section<'_, '_>, protocol: Protocol) -> Will {
    let topic = section.need("topic", "where it is published");
    let delay = section.get("delay");
    if let Some(delay) = &delay
        && protocol == Protocol::V311
    {
        delay.complain("MQTT 3.1.1 has no such thing; say mqtt = \"5\", or leave this out");
    }
    let payload = section.get("payload").and_then(|payload| payload.text());
    Will {
        topic: topic
            .and_then(|topic| topic.topic())
            .unwrap_or(Template(String::new())),
        qos: section.get("qos").and_then(|qos| qos.qos()).unwrap_or(0),
        retain: section.get("retain").and_then(|retain| retain.switch()) == Some(true),
        delay_s: delay
            .and_then(|delay| delay.seconds(u32::MAX - 1))
            .unwrap_or(0),
        payload: payload.unwrap_or("gone").to_owned(),
    }
}

fn telemetry(section: &Section<'_, '_>, place: Option<&mut Range<usize>>) -> Telemetry {
    let topic = section.need("topic", "where it is published");
    if let (Some(topic), Some(place)) = (&topic, place) {
        *place = topic.span.clone();
    }
    let interval = section.need("interval", "the mean time between two messages of a device");
    let jitter = section
        .get("jitter")
        .and_then(|jitter| jitter.number(0.0..=1.0));
    let payload = section.need(
        "payload",
        "how many bytes, such as 100 or { from = 50, to = 200 }",
    );
    Telemetry {
        topic: topic
            .and_then(|topic| topic.topic())
            .unwrap_or(Template(String::new())),
        qos: section.get("qos").and_then(|qos| qos.qos()).unwrap_or(1),
        interval_ms: interval.and_then(|interval| interval.any_ms()).unwrap_or(1),
        jitter: jitter.unwrap_or(0.1),
        payload: payload
            .and_then(|payload| payload.payload())
            .unwrap_or(super::super::model::PayloadSize::Fixed(64)),
    }
}

fn reconnect(section: &Section<'_, '_>) -> Reconnect {
    let wait = |key, default| {
        let bounds = Duration::from_millis(10)..=Duration::from_secs(3600);
        let found = section.get(key);
        let ms = found.as_ref().and_then(|found| found.ms(bounds));
        (found, ms.unwrap_or(default))
    };
    let (_, first_ms) = wait("first", 1_000);
    let (longest, longest_ms) = wait("longest", first_ms.max(30_000));
    if first_ms > longest_ms
        && let Some(longest) = longest
    {
        longest.refuse("not less than first");
    }
    let words = [
        ("same", NextAddress::Same),
        ("next", NextAddress::Next),
        ("random", NextAddress::Random),
    ];
    let address = section.get("address");
    Reconnect {
        first_ms,
        longest_ms,
        address: address
            .and_then(|address| address.choice(&words))
            .unwrap_or(NextAddress::Next),
    }
}
