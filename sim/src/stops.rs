//! Members that stop as planned, and come back: one, all of a group, or all of a group one after the other.

use crate::broker::Broker;
use crate::faults::outage_us;
use crate::outbox::Life;
use crate::queue::Event;
use crate::world::World;

const SECOND: u64 = 1_000_000;

/// Between two looks whether the next member may be stopped.
const LOOK_US: u64 = 200_000;
/// Whoever restarts a group waits no longer than this for a member.
const PATIENCE_US: u64 = 10 * SECOND;
/// A member that has come back lacks no more entries than this before the next one is stopped.
const LAG_MAX: u64 = 5;

/// What is known of stops as planned.
#[derive(Debug)]
pub(crate) struct Stops {
    /// Leaders that had another member lead before they ended.
    pub(crate) handovers: usize,
    /// The restart that is under way in each group.
    rolls: Vec<Option<Roll>>,
}

/// A restart of all members of a group, one after the other.
#[derive(Clone, Debug)]
struct Roll {
    /// Those that are left.
    left: Vec<usize>,
    /// As it is written: followers first, and each when the one before it is back and lacks little.
    is_careful: bool,
    /// When the last one was stopped.
    since: u64,
}

impl Stops {
    pub(crate) fn of(groups: usize) -> Self {
        Self {
            handovers: 0,
            rolls: vec![None; groups],
        }
    }
}

impl World {
    /// A member stops as planned, and is away for a while. Some are given too little time for that.
    pub(crate) fn stop(&mut self, broker: usize) {
        let node = self.env.net.node_of_broker(broker);
        if self.paused_until[node] > self.env.now {
            // It would hear of it only when it goes on.
            return;
        }
        let away = outage_us(&mut self.env);
        let is_hurried = self.env.rng.chance(100);
        let wait = self.env.rng.skewed(1_000, 2 * SECOND);
        if self.brokers[broker].begin_stop(&mut self.env, away) && is_hurried {
            let life = self.brokers[broker].life;
            self.env.after(wait, Event::KillLate { broker, life });
        }
    }

    pub(crate) fn kill_late(&mut self, broker: usize, life: u32) {
        if self.brokers[broker].stopping_life() == Some((broker, life)) {
            self.crash(broker);
        }
    }

    /// A member is killed while its group comes into being, or told to stop.
    pub(crate) fn end_at_birth(&mut self, broker: usize) {
        if self.env.plan.weights.stop > 0 && self.env.rng.chance(500) {
            self.stop(broker);
        } else {
            self.crash(broker);
        }
    }

    pub(crate) fn stop_leader(&mut self) {
        if let Some(leader) = self.any_leader() {
            self.stop(leader);
        }
    }

    /// All members of a group stop, in one moment or nearly.
    pub(crate) fn stop_group(&mut self) {
        for broker in self.replicated_group() {
            if self.env.rng.chance(900) {
                self.stop(broker);
            }
        }
    }

    /// All members of a group are to be restarted, one after the other.
    pub(crate) fn begin_roll(&mut self) {
        let mut left = self.replicated_group();
        let group = self.brokers[left[0]].group;
        let is_careful = self.env.rng.chance(700);
        if self.stops.rolls[group].is_some() {
            return;
        }
        left.retain(|broker| self.operators[group].is_inside(self.brokers[*broker].member));
        self.env.say(format_args!(
            "fault: group {group} is restarted, one after the other (careful {is_careful})"
        ));
        self.stops.rolls[group] = Some(Roll {
            left,
            is_careful,
            since: self.env.now,
        });
        self.roll(group);
    }

    /// Stops the next member, if it is time for that.
    pub(crate) fn roll(&mut self, group: usize) {
        let Some(mut roll) = self.stops.rolls[group].take() else {
            return;
        };
        if self.env.calm_since.is_some() {
            return;
        }
        let is_late = self.env.now >= roll.since + PATIENCE_US;
        if is_late || self.is_whole(group, roll.is_careful) {
            let leads = |broker: &usize| roll.is_careful && self.brokers[*broker].leads();
            // The leader last.
            roll.left.sort_by_key(leads);
            let next = roll.left.remove(0);
            self.stop(next);
            roll.since = self.env.now;
        }
        if !roll.left.is_empty() {
            self.stops.rolls[group] = Some(roll);
            self.env.after(LOOK_US, Event::Roll { group });
        }
    }

    /// Whether all members of a group are there, and, with `has_all`, lack little.
    fn is_whole(&self, group: usize, has_all: bool) -> bool {
        let is_inside =
            |it: &&Broker| it.group == group && self.operators[group].is_inside(it.member);
        let members = || self.brokers.iter().filter(is_inside);
        let newest = members().map(Broker::applied).max().unwrap_or(0);
        let is_there = |it: &Broker| it.up && it.stopping_life().is_none();
        let lacks_little = |it: &Broker| !has_all || it.applied() + LAG_MAX >= newest;
        let is_led = !has_all || members().any(Broker::leads);
        is_led && members().all(|it| is_there(it) && lacks_little(it))
    }

    /// A member that is to stop leads no more, or nobody else can.
    pub(crate) fn handed_over(&mut self, (broker, life): Life, to: Option<&str>) {
        self.stops.handovers += usize::from(to.is_some());
        self.brokers[broker].handed_over(&mut self.env, life, to);
    }
}
