//! CONNECT and SUBSCRIBE of a device.

use super::device::Turn;
use super::plan;
use crate::simulate::names;
use crate::wire::{self, Keep, Testament};

/// Writes CONNECT. `clearing`: all it is for is to end the session.
pub(super) fn connect(turn: &mut Turn<'_>, clearing: bool) {
    let (population, _) = turn.plan.population(turn.device);
    let number = turn.device - population.devices.start;
    let texts = &mut *turn.texts;
    turn.plan.client_id(turn.device, &mut texts.client_id);
    let keep = if population.clean || clearing {
        Keep::No
    } else {
        Keep::Seconds(population.session_expiry_s)
    };
    let will = population.will.as_ref().filter(|_| !clearing);
    let will = will.map(|will| {
        names::topic(&will.topic, number, &texts.client_id, &mut texts.topic);
        Testament {
            topic: &texts.topic,
            qos: will.qos,
            retain: will.retain,
            delay_s: will.delay_s,
            payload: &will.payload,
        }
    });
    let version = plan::version(population);
    let keepalive_s = population.keepalive_s;
    wire::connect_with_will(turn.out, version, &texts.client_id, keepalive_s, keep, will);
}

/// Writes SUBSCRIBE, to all filters at once.
pub(super) fn subscribe(turn: &mut Turn<'_>) {
    let (population, _) = turn.plan.population(turn.device);
    let number = turn.device - population.devices.start;
    let texts = &mut *turn.texts;
    turn.plan.client_id(turn.device, &mut texts.client_id);
    let filters = population.subscriptions.iter().map(|subscription| {
        let mut filter = String::new();
        names::topic(&subscription.filter, number, &texts.client_id, &mut filter);
        (filter, subscription.qos)
    });
    wire::subscribe_each(turn.out, plan::version(population), filters);
}
