//! Back ends: consumers, which receive from devices, and commands, which are sent to them.

use protocol::TopicFilter;

use super::super::model::{Commands, Consumer, PayloadSize, Population, Subscription, Template};
use super::text::{Found, Section, hint};
use crate::limits::{BACKEND_CONNECTIONS_MAX, BACKENDS_MAX};

/// All of both.
pub(super) fn all(
    top: &Section<'_, '_>,
    populations: &[Population],
) -> (Vec<Consumer>, Vec<Commands>) {
    let mut names = Vec::new();
    let consumers = top.sections("consumer").into_iter();
    let consumers = consumers.map(|section| section.read(|section| consumer(section, &mut names)));
    let consumers: Vec<_> = consumers.collect();
    let sections = top.sections("commands");
    if let Some(section) = sections.get(BACKENDS_MAX) {
        section.complain(format!("commands: at most {BACKENDS_MAX}"));
    }
    let commands = sections
        .into_iter()
        .map(|section| section.read(|section| commands(section, populations, &mut names)));
    let commands = commands.collect();
    if consumers.len() > BACKENDS_MAX {
        top.complain(format!("consumer: at most {BACKENDS_MAX}"));
    }
    (consumers, commands)
}

fn consumer(section: &Section<'_, '_>, names: &mut Vec<String>) -> Consumer {
    let filter = section.need("filter", "what is received");
    let share = section.get("share").and_then(|share| share.name());
    Consumer {
        name: name(section, names),
        connections: connections(section),
        share: share.map(ToOwned::to_owned),
        filter: filter
            .and_then(|filter| filter.fixed_filter())
            .unwrap_or_default()
            .to_owned(),
        qos: section.get("qos").and_then(|qos| qos.qos()).unwrap_or(1),
    }
}

fn commands(
    section: &Section<'_, '_>,
    populations: &[Population],
    names: &mut Vec<String>,
) -> Commands {
    let population = section.need("population", "whose devices get them");
    let population = population.and_then(|found| index(&found, populations));
    let topic_found = section.need("topic", "where they are published");
    let topic = topic_found.as_ref().and_then(Found::topic);
    let rate = section.need("rate", "how many a second, all connections together");
    let payload = section.need(
        "payload",
        "how many bytes, such as 64 or { from = 50, to = 200 }",
    );
    let commands = Commands {
        name: name(section, names),
        population: population.unwrap_or(0),
        connections: connections(section),
        topic: topic.clone().unwrap_or(Template(String::new())),
        qos: section.get("qos").and_then(|qos| qos.qos()).unwrap_or(1),
        rate_per_s: rate
            .and_then(|rate| rate.number(0.001..=1e6))
            .unwrap_or(1.0),
        payload: payload
            .and_then(|payload| payload.payload())
            .unwrap_or(PayloadSize::Fixed(64)),
    };
    if let (Some(population), Some(_), Some(found)) = (population, topic, topic_found) {
        reaches_its_device(&found, &commands, &populations[population]);
    }
    commands
}

fn index(found: &Found<'_, '_>, populations: &[Population]) -> Option<usize> {
    let name = found.text()?;
    let index = populations.iter().position(|other| other.name == name);
    if index.is_none() {
        let hint = hint(name, populations.iter().map(|other| other.name.as_str()));
        found.complain(format!("there is no population \"{name}\"{hint}"));
    }
    index
}

/// Each command is for one device, and that device has to have subscribed to it, once.
fn reaches_its_device(topic: &Found<'_, '_>, commands: &Commands, population: &Population) {
    let fill = |template: &Template, number| {
        let client_id = population.client_id.fill(number, "");
        template.fill(number, &client_id)
    };
    let matching = |number: u32| -> Vec<&Subscription> {
        let own = fill(&commands.topic, number);
        let matches = |subscription: &&Subscription| {
            let filter = TopicFilter::new(&fill(&subscription.filter, 0));
            filter.is_ok_and(|filter| filter.matches(&own))
        };
        population.subscriptions.iter().filter(matches).collect()
    };
    let name = &population.name;
    match &matching(0)[..] {
        [] => topic.complain(format!("no subscription of \"{name}\" matches it")),
        [_] if population.devices.len() > 1 && !matching(1).is_empty() => topic.complain(format!(
            "device 0 of \"{name}\" would get those for device 1 as well; topic and filter need %c"
        )),
        [_] => {}
        [_, _, ..] => topic.complain(format!(
            "more than one subscription of \"{name}\" matches it, so that repetitions would be the broker's right"
        )),
    }
}

fn connections(section: &Section<'_, '_>) -> u16 {
    let connections = section.get("connections");
    let connections = connections.and_then(|found| found.whole(1..=BACKEND_CONNECTIONS_MAX));
    connections.map_or(1, |connections| connections as u16)
}

/// The name, which no other consumer and no other commands have.
fn name(section: &Section<'_, '_>, names: &mut Vec<String>) -> String {
    let Some(found) = section.need("name", "what it is called in reports") else {
        return String::new();
    };
    let Some(name) = found.name() else {
        return String::new();
    };
    if names.iter().any(|other| other == name) {
        found.refuse("a name that no other consumer and no other commands have");
    }
    names.push(name.to_owned());
    name.to_owned()
}
