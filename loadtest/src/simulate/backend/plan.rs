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

    /// The device whose telemetry has this topic. It is looked for one by one: for reports of what is broken.
    pub(super) fn device_named_in(&self, topic: &str) -> Option<u32> {
        if !topic.contains(&format!("{:x}-", self.run)) {
            return None;
        }
        let mut texts = Texts::default();
        (0..self.scenario.device_count())
            .find(|device| self.telemetry_topic(*device, &mut texts) == Some(topic))
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
