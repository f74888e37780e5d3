//! P2: no acknowledged message is lost, whenever the broker is killed.
//!
//! Publishers, subscribers and a clerk work on a broker that is killed with `SIGKILL` at random moments under
//! load, in rounds (`MQTT_FLEET_KILL_ROUNDS`, 10 when not set). Each of them behaves as the standard asks of a
//! client and remembers every acknowledgement, so each can tell a promise that was broken:
//! a message acknowledged to its publisher that a subscriber never gets, a `QoS` 2 message that comes twice,
//! an order that changed, a session that is not present, a retained message or a subscription that is gone.

#[path = "../common/mod.rs"]
mod common;

mod clerk;
mod publisher;
mod stage;
mod subscriber;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use common::{Broker, Dice, Version};
use stage::{Stage, Stream};
use subscriber::Habit;

const PUBLISHERS: u8 = 4;
/// Messages a publisher may add to each of its streams in one round.
const BUDGET: u64 = 300;
/// Acknowledgements of one round: `PUBLISHERS` with two streams each.
const ACKS_PER_ROUND: u64 = PUBLISHERS as u64 * 2 * BUDGET;

#[test]
fn kill_9_at_random_moments() {
    let rounds = std::env::var("MQTT_FLEET_KILL_ROUNDS").map_or(10, |text| {
        text.parse().expect("MQTT_FLEET_KILL_ROUNDS is a number")
    });
    let mut dice = Dice::new();
    let mut broker = Broker::start();
    let stage = Arc::new(Stage::new(broker.addr));
    let streams: Vec<Stream> = (0..PUBLISHERS)
        .flat_map(|p| [1, 2].map(|qos| Stream { publisher: p, qos }))
        .collect();

    // Every subscriber has its SUBACK before the first message is published.
    let subscribers = start_subscribers(&stage, &streams, &mut dice);
    let publishers = start_publishers(&stage, &mut dice);
    let clerk = {
        let (stage, seed) = (Arc::clone(&stage), dice.next());
        actor(&stage.clone(), "clerk", move || clerk::run(&stage, seed))
    };

    let mut killed_in_flight = 0;
    for round in 1..=rounds {
        let before = stage.grant(round, BUDGET);
        stage.await_acks(before + 1 + dice.below(ACKS_PER_ROUND * 9 / 10));
        broker.kill9();
        killed_in_flight += u64::from(stage.down());
        let since = Instant::now();
        broker.restart();
        println!(
            "round {round}: {} acknowledged, back after {:?}",
            stage.acks(),
            since.elapsed()
        );
        stage.up();
    }
    assert!(
        killed_in_flight > rounds / 2,
        "only {killed_in_flight} of {rounds} kills hit unfinished work"
    );
    stage.finish_publishing();
    for publisher in publishers {
        publisher.join().expect("no publisher panics");
    }
    clerk.join().expect("the clerk does not panic");
    stage.finish_receiving();
    for subscriber in subscribers {
        subscriber.join().expect("no subscriber panics");
    }
    stage.assert_no_violation();
    println!(
        "{} acknowledgements over {rounds} kills, none broken",
        stage.acks()
    );
}

/// A thread whose panic ends the test at once rather than at the next deadline.
fn actor(stage: &Arc<Stage>, name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let (stage, name) = (Arc::clone(stage), name.to_owned());
    let named = thread::Builder::new().name(name.clone());
    let run = move || {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
            let text = panic.downcast_ref::<String>().map_or_else(
                || panic.downcast_ref::<&str>().unwrap_or(&"").to_string(),
                Clone::clone,
            );
            stage.violation(format!("{name}: {text}"));
        }
    };
    named.spawn(run).expect("threads can be started")
}

fn start_subscribers(
    stage: &Arc<Stage>,
    streams: &[Stream],
    dice: &mut Dice,
) -> Vec<JoinHandle<()>> {
    let habits = [
        (Habit::Online, Version::V5),
        (Habit::Online, Version::V311),
        (Habit::Flaky, Version::V5),
        (Habit::Flaky, Version::V311),
        (Habit::Offline, Version::V5),
        (Habit::Offline, Version::V311),
    ];
    let all = habits.iter().enumerate().map(|(i, (habit, version))| {
        let name = format!("{habit:?}-{i}").to_lowercase();
        let mut subscriber =
            subscriber::Subscriber::new(stage, &name, *habit, *version, streams, dice.next());
        subscriber.subscribe_first();
        actor(stage, &name, move || subscriber.run())
    });
    all.collect()
}

fn start_publishers(stage: &Arc<Stage>, dice: &mut Dice) -> Vec<JoinHandle<()>> {
    let start = |p: u8| {
        let version = if p.is_multiple_of(2) {
            Version::V5
        } else {
            Version::V311
        };
        let publisher = publisher::Publisher::new(stage, p, version, dice.next());
        actor(stage, &format!("publisher-{p}"), move || publisher.run())
    };
    (0..PUBLISHERS).map(start).collect()
}
