//! The scenario as the back end sees it.

use crate::scenario::{Population, Scenario};
use crate::simulate::names;

/// What all connections of the back end have in common.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) scenario: Scenario,
    pub(super) run: u32,
}

/// Texts that are made again for each message.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) client_id: String,
    pub(super) topic: String,
}

impl Plan {
    /// Topic of a device's telemetry; `None` where it sends none.
    pub(super) fn telemetry_topic<'a>(&self, device: u32, texts: &'a mut Texts) -> Option<&'a str> {
        let population = self.population(device);
        let telemetry = population.telemetry.as_ref()?;
        self.fill(population, device, &telemetry.topic, texts);
        Some(&texts.topic)
    }

    /// `QoS` of a device's telemetry.
    pub(super) fn telemetry_qos(&self, device: u32) -> u8 {
        let telemetry = self.population(device).telemetry.as_ref();
        telemetry.map_or(0, |telemetry| telemetry.qos)
    }

    /// Topic of the commands for a device.
    pub(super) fn command_topic<'a>(
        &self,
        commands: usize,
        device: u32,
        texts: &'a mut Texts,
    ) -> &'a str {
        let commands = &self.scenario.commands[commands];
        let population = &self.scenario.populations[commands.population];
        self.fill(population, device, &commands.topic, texts);
        &texts.topic
    }

    /// The device whose telemetry has this topic.
    pub(super) fn device_named_in(&self, topic: &str) -> Option<u32> {
        let mut populations = self.scenario.populations.iter();
        populations.find_map(|population| self.member_named_in(population, topic))
    }

    fn member_named_in(&self, population: &Population, topic: &str) -> Option<u32> {
        let telemetry = population.telemetry.as_ref()?;
        // Everything but the number, which is looked up where it would stand.
        let client_id = format!("{:x}-{}", self.run, population.client_id.0);
        let text = telemetry.topic.0.replace("%c", &client_id);
        let number = match text.split_once("%n") {
            None => 0,
            Some((before, _)) => {
                let rest = topic.strip_prefix(before)?;
                let end = rest.find(|c: char| !c.is_ascii_digit());
                rest[..end.unwrap_or(rest.len())].parse().ok()?
            }
        };
        let device = population.devices.start.checked_add(number)?;
        let mut texts = Texts::default();
        let is_it = population.devices.contains(&device)
            && self.telemetry_topic(device, &mut texts) == Some(topic);
        is_it.then_some(device)
    }

    fn population(&self, device: u32) -> &Population {
        &self.scenario.populations[self.scenario.population_of(device)]
    }

    fn fill(
        &self,
        population: &Population,
        device: u32,
        template: &crate::scenario::Template,
        texts: &mut Texts,
    ) {
        names::client_id(&self.scenario, self.run, device, &mut texts.client_id);
        let number = device - population.devices.start;
        names::topic(template, number, &texts.client_id, &mut texts.topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Template;
    use crate::simulate::lies::scenario;

    #[test]
    fn a_topic_names_its_device_and_no_other_does() {
        let plan = |topic: &str, client_id: &str| {
            let mut scenario = scenario(1);
            let mut first = scenario.populations[0].clone();
            first.devices = 0..3;
            scenario.populations[0].devices = 3..20;
            let second = &mut scenario.populations[0];
            second.client_id = Template(client_id.to_owned());
            let telemetry = second.telemetry.as_mut().expect("some");
            telemetry.topic = Template(topic.to_owned());
            scenario.populations.insert(0, first);
            Plan {
                scenario,
                run: 0xAB,
            }
        };
        for (topic, client_id) in [
            ("d/%c/up", "q%n"),
            ("x/%n", "q%n"),
            ("%n/%c/y", "q%nq"),
            ("d/%c/%n", "7%n"),
        ] {
            let plan = plan(topic, client_id);
            let mut texts = Texts::default();
            for device in 0..20 {
                let topic = plan.telemetry_topic(device, &mut texts).expect("some");
                assert_eq!(plan.device_named_in(topic), Some(device), "{topic}");
                assert_eq!(plan.device_named_in(&format!("{topic}0/")), None);
            }
        }
        let plan = plan("d/%c/up", "q%n");
        for topic in [
            "d/ab-q17/up",
            "d/ab-q/up",
            "d/ab-q07/up",
            "d/ac-q7/up",
            "",
            "d/ab-q99999999999/up",
        ] {
            assert_eq!(plan.device_named_in(topic), None, "{topic}");
        }
    }
}
