//! Who is owed the messages of a stream, and at which `QoS`.

use crate::scenario::{Commands, Consumer, Population, Scenario};

/// What a sender may count on once its message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promise {
    /// How many receivers each message reaches; each of them gives one receipt. 0: nobody has asked for it.
    pub(crate) receivers: u8,
    /// The least `QoS` that it has on the way to any of them.
    pub(crate) qos: u8,
}

/// What becomes of the telemetry of a population: all connections of one share are one receiver.
pub(crate) fn of_telemetry(scenario: &Scenario, population: &Population) -> Promise {
    let published = population
        .telemetry
        .as_ref()
        .map_or(0, |telemetry| telemetry.qos);
    let consumers = scenario.consumers.iter();
    let hearing = consumers.filter(|consumer| hears(consumer, population));
    let granted =
        hearing.flat_map(|consumer| std::iter::repeat_n(consumer.qos, receivers(consumer)));
    promise(published, granted)
}

/// How many copies of each message a consumer gets.
fn receivers(consumer: &Consumer) -> usize {
    consumer
        .share
        .as_ref()
        .map_or(consumer.connections.into(), |_| 1)
}

/// What becomes of commands. A device that has several filters for them gets them once all the same: filters that
/// overlap are not judged.
pub(crate) fn of_commands(scenario: &Scenario, commands: &Commands) -> Promise {
    let population = &scenario.populations[commands.population];
    let topic = sample(population, &commands.topic);
    let hears = |filter: &str| matches(filter, &topic);
    let granted = population
        .subscriptions
        .iter()
        .filter(|subscription| hears(&sample(population, &subscription.filter)))
        .map(|subscription| subscription.qos);
    promise(commands.qos, granted.max())
}

/// Whether a consumer gets the telemetry of a population.
pub(crate) fn hears(consumer: &Consumer, population: &Population) -> bool {
    let topic = |telemetry: &crate::scenario::Telemetry| sample(population, &telemetry.topic);
    let topic = population.telemetry.as_ref().map(topic);
    topic.is_some_and(|topic| matches(&consumer.filter, &topic))
}

/// Whether a topic filter matches a topic (MQTT 5, 4.7).
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        if part == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if part == "+" || part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

fn promise(published: u8, granted: impl IntoIterator<Item = u8>) -> Promise {
    let mut promise = Promise {
        receivers: 0,
        qos: published,
    };
    for qos in granted {
        promise.receivers = promise.receivers.saturating_add(1);
        promise.qos = promise.qos.min(qos);
    }
    promise
}

/// The text of a template for the first device of a population.
fn sample(population: &Population, template: &crate::scenario::Template) -> String {
    template.fill(0, &population.client_id.fill(0, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic) in [
            ("a/b", "a/b"),
            ("+/b", "a/b"),
            ("a/+", "a/"),
            ("#", "a/b/c"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("+/+", "/x"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("a/b", "a"),
            ("a", "a/b"),
            ("+", "a/b"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("a/+", "a"),
            ("a/b", "a/c"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    #[test]
    fn every_receiver_counts_and_the_least_qos_holds() {
        let of = |published, granted: &[u8]| {
            let Promise { receivers, qos } = promise(published, granted.iter().copied());
            (receivers, qos)
        };
        assert_eq!(of(1, &[]), (0, 1));
        assert_eq!(of(1, &[2]), (1, 1));
        assert_eq!(of(2, &[2, 1]), (2, 1));
        assert_eq!(of(2, &[0]), (1, 0));
    }
}
