//! What is fine alone and wrong together.

use std::ops::Range;

use protocol::TopicFilter;

use super::super::model::{PhaseKind, Population, Scenario, Template};
use super::population::Places;
use super::text::Section;

/// Complains about what makes no sense in the whole.
pub(super) fn check(top: &Section<'_, '_>, scenario: &Scenario, places: &Places) {
    client_ids_differ(top, scenario, places);
    for (population, place) in scenario.populations.iter().zip(&places.telemetry) {
        telemetry_goes_to_no_device(top, scenario, population, place);
    }
    thresholds_judge_something(&top.section("pass"), scenario);
}

fn client_ids_differ(top: &Section<'_, '_>, scenario: &Scenario, places: &Places) {
    for (index, population) in scenario.populations.iter().enumerate() {
        let earlier = &scenario.populations[..index];
        if let Some(other) = earlier
            .iter()
            .find(|other| other.client_id == population.client_id)
        {
            let (id, name) = (&population.client_id.0, &other.name);
            let problem = format!("population.client_id: population \"{name}\" has \"{id}\" too");
            top.complain_at(&places.client_id[index], problem);
        }
    }
}

/// A device that gets what a device has sent would look like one that the broker has mistaken for another.
fn telemetry_goes_to_no_device(
    top: &Section<'_, '_>,
    scenario: &Scenario,
    population: &Population,
    place: &Range<usize>,
) {
    let Some(telemetry) = &population.telemetry else {
        return;
    };
    let topic = filled(&telemetry.topic, population);
    let matches = |filter: &String| TopicFilter::new(filter).is_ok_and(|f| f.matches(&topic));
    for other in &scenario.populations {
        let filters = other.subscriptions.iter();
        let mut filters = filters.map(|one| filled(&one.filter, other));
        if let Some(filter) = filters.find(matches) {
            let name = &other.name;
            let problem = format!(
                "population.telemetry.topic: devices of \"{name}\" would get it by their filter \"{filter}\""
            );
            top.complain_at(place, problem);
        }
    }
}

/// The text for the first device.
fn filled(template: &Template, population: &Population) -> String {
    template.fill(0, &population.client_id.fill(0, ""))
}

/// A threshold that nothing is held against would let a run pass that has shown nothing.
fn thresholds_judge_something(section: &Section<'_, '_>, scenario: &Scenario) {
    let has_phase =
        |wanted: fn(&PhaseKind) -> bool| scenario.phases.iter().any(|phase| wanted(&phase.what));
    let storm = has_phase(|what| matches!(what, PhaseKind::Storm { .. }));
    let ramp = has_phase(|what| matches!(what, PhaseKind::Ramp { .. }));
    let commands = !scenario.commands.is_empty();
    let mut telemetry = scenario.populations.iter().filter_map(|population| {
        let telemetry = population.telemetry.as_ref()?;
        Some(filled(&telemetry.topic, population))
    });
    let received = |topic: &str| {
        let filters = scenario.consumers.iter().map(|consumer| &consumer.filter);
        let mut filters = filters.filter_map(|filter| TopicFilter::new(filter).ok());
        filters.any(|filter| filter.matches(topic))
    };
    let arrives = telemetry.any(|topic| received(&topic));
    let may_get_lost = scenario.populations.iter().any(|population| {
        let telemetry = population.telemetry.as_ref();
        telemetry.is_some_and(|telemetry| telemetry.qos == 0)
    }) || scenario.commands.iter().any(|commands| commands.qos == 0);
    for (key, judged, without) in [
        ("storm_s_max", storm, "a phase with do = \"storm\""),
        ("storm_growth_max", storm, "a phase with do = \"storm\""),
        ("ramp_per_s_min", ramp, "a phase with do = \"ramp\""),
        ("command_p99_ms_max", commands, "[[commands]]"),
        ("qos0_lost_share_max", may_get_lost, "messages at QoS 0"),
        (
            "telemetry_p99_ms_max",
            arrives,
            "a consumer that gets telemetry",
        ),
    ] {
        if let Some(found) = section.get(key)
            && !judged
        {
            found.complain(format!("would judge nothing without {without}"));
        }
    }
}
