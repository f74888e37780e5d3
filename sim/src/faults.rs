//! What goes wrong, by the seed.

use crate::broker::Broker;
use crate::env::Env;
use crate::queue::Event;
use crate::world::World;
use std::sync::atomic::Ordering;

const SECOND: u64 = 1_000_000;

/// Which ways nothing comes through to a node that is cut off: to it, from it.
const WAYS: [(bool, bool); 3] = [(true, true), (true, false), (false, true)];

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    CutLink,
    CutDevice,
    Partition,
    Isolate,
    Crash,
    KillProxy,
    SlowDisk,
    Pause,
    Clock,
    SlowNet,
    CrashAll,
    CrashLeader,
    CrashGroup,
    CrashMajority,
    Split,
    Stop,
    StopLeader,
    StopGroup,
    Roll,
}

/// How long something is away at most, in microseconds: less than a proxy's lease, unless the world is of the kind in
/// which that runs out.
pub(crate) fn outage_us(env: &mut Env) -> u64 {
    let longest = if env.plan.long_outages { 30 } else { 6 };
    env.rng.skewed(SECOND / 5, longest * SECOND)
}

impl World {
    /// The next thing goes wrong.
    pub(crate) fn fault(&mut self) {
        if self.env.calm_since.is_some() {
            return;
        }
        let (low, high) = self.env.plan.fault_us;
        let next = self.env.rng.range(low, high);
        self.env.after(next, Event::Fault);
        match self.choose() {
            Fault::CutLink => self.cut(true),
            Fault::CutDevice => self.cut(false),
            Fault::Partition => self.partition(),
            Fault::Isolate => self.isolate(),
            Fault::Crash => {
                let broker = self.env.rng.below(self.brokers.len());
                self.crash(broker);
            }
            Fault::KillProxy => {
                let proxy = self.env.rng.below(self.proxies.len());
                self.kill_proxy(proxy);
            }
            Fault::SlowDisk => self.slow_disk(),
            Fault::Pause => self.pause(),
            Fault::Clock => self.set_clock(),
            Fault::SlowNet => self.slow_net(),
            Fault::CrashAll => self.crash_all(),
            Fault::CrashLeader => self.crash_leader(),
            Fault::CrashGroup => self.crash_group(),
            Fault::CrashMajority => self.plan_majority_crash(),
            Fault::Split => self.split(),
            Fault::Stop => {
                let broker = self.env.rng.below(self.brokers.len());
                self.stop(broker);
            }
            Fault::StopLeader => self.stop_leader(),
            Fault::StopGroup => self.stop_group(),
            Fault::Roll => self.begin_roll(),
        }
    }

    fn choose(&mut self) -> Fault {
        let weights = self.env.plan.weights;
        let clock = if self.env.plan.clock_jumps {
            weights.clock
        } else {
            0
        };
        let is_any = self.env.plan.groups.iter().any(|members| *members > 1);
        let replicated = |weight: u64| if is_any { weight } else { 0 };
        let all = [
            (Fault::CutLink, weights.cut),
            (Fault::CutDevice, weights.cut_device),
            (Fault::Partition, weights.partition),
            (Fault::Isolate, weights.isolate),
            (Fault::Crash, weights.crash),
            (Fault::KillProxy, weights.kill_proxy),
            (Fault::SlowDisk, weights.slow_disk),
            (Fault::Pause, weights.pause),
            (Fault::Clock, clock),
            (Fault::SlowNet, weights.slow_net),
            (Fault::CrashAll, weights.crash_all),
            (Fault::CrashLeader, replicated(weights.crash_leader)),
            (Fault::CrashGroup, replicated(weights.crash_group)),
            (Fault::CrashMajority, replicated(weights.crash_majority)),
            (Fault::Split, replicated(weights.split)),
            (Fault::Stop, weights.stop),
            (Fault::StopLeader, replicated(weights.stop_leader)),
            (Fault::StopGroup, replicated(weights.stop_group)),
            (Fault::Roll, replicated(weights.roll)),
        ];
        let sum: u64 = all.iter().map(|(_, weight)| weight).sum();
        let mut left = self.env.rng.next() % sum;
        for (fault, weight) in all {
            if left < weight {
                return fault;
            }
            left -= weight;
        }
        unreachable!("the number is below the sum");
    }

    /// Cuts a connection between nodes, or one of a device.
    fn cut(&mut self, of_link: bool) {
        let living = self.env.net.living();
        let is_link = |conn: &usize| {
            let end = self.env.net.conns[*conn].ends[0];
            matches!(end, crate::net::End::Link { .. }) == of_link
        };
        let conns: Vec<usize> = living.into_iter().filter(is_link).collect();
        if conns.is_empty() {
            return;
        }
        let conn = *self.env.rng.pick(&conns);
        let ends = self.env.net.conns[conn].ends;
        self.env
            .say(format_args!("fault: connection {conn} is cut: {ends:?}"));
        self.env.cut(conn);
    }

    fn nodes(&self) -> usize {
        self.proxies.len() + self.brokers.len()
    }

    /// Between two nodes nothing comes through, in one direction or both.
    fn partition(&mut self) {
        let nodes = self.nodes();
        let (one, other) = (self.env.rng.below(nodes), self.env.rng.below(nodes));
        if one == other {
            return;
        }
        let time = outage_us(&mut self.env);
        let until = self.env.now + time;
        let both = self.env.rng.chance(500);
        self.env.net.block(one, other, until);
        if both {
            self.env.net.block(other, one, until);
        }
        let (one, other) = (self.name(one), self.name(other));
        let arrow = if both { "<->" } else { "->" };
        self.env.say(format_args!(
            "fault: nothing comes through {one} {arrow} {other} for {time} us"
        ));
    }

    /// One node is cut off from all others, in one direction or both.
    fn isolate(&mut self) {
        let nodes = self.nodes();
        let one = self.env.rng.below(nodes);
        let time = outage_us(&mut self.env);
        let until = self.env.now + time;
        let (to, from) = *self.env.rng.pick(&WAYS);
        for other in (0..nodes).filter(|other| *other != one) {
            self.env.net.block_ways(one, other, (to, from), until);
        }
        let name = self.name(one);
        self.env.say(format_args!(
            "fault: {name} is cut off (to it {to}, from it {from}) for {time} us"
        ));
    }

    /// Plans crashes of members for the time in which their groups come into being: of each by itself, or of all in one
    /// moment.
    pub(crate) fn plan_birth_crashes(&mut self) {
        if !self.env.plan.hard_births {
            return;
        }
        let (at_once, moment) = (self.env.rng.chance(300), self.birth_moment());
        for broker in 0..self.brokers.len() {
            let at = if at_once { moment } else { self.birth_moment() };
            if at_once || self.env.rng.chance(600) {
                self.env.after(at, Event::BirthCrash { broker });
            }
        }
    }

    fn birth_moment(&mut self) -> u64 {
        self.env.rng.skewed(100, SECOND)
    }

    pub(crate) fn crash(&mut self, broker: usize) {
        if !self.brokers[broker].up {
            return;
        }
        let silently = self.env.rng.chance(300);
        self.brokers[broker].crash(&mut self.env, silently);
        let away = outage_us(&mut self.env);
        let node = self.env.net.node_of_broker(broker);
        self.env.after(away, Event::Restart { node });
    }

    fn kill_proxy(&mut self, proxy: usize) {
        if !self.proxies[proxy].up {
            return;
        }
        let silently = self.env.rng.chance(300);
        self.proxies[proxy].kill(&mut self.env, silently);
        let away = outage_us(&mut self.env);
        self.env.after(away, Event::Restart { node: proxy });
    }

    /// The whole fleet loses its power.
    fn crash_all(&mut self) {
        self.env.say(format_args!("fault: the whole fleet crashes"));
        for broker in 0..self.brokers.len() {
            self.crash(broker);
        }
        for proxy in 0..self.proxies.len() {
            self.kill_proxy(proxy);
        }
    }

    /// A member that leads others crashes.
    fn crash_leader(&mut self) {
        if let Some(leader) = self.any_leader() {
            self.crash(leader);
        }
    }

    /// A member that leads others.
    pub(crate) fn any_leader(&mut self) -> Option<usize> {
        let leads = |broker: &&Broker| broker.leads() && self.env.plan.groups[broker.group] > 1;
        let leaders = self.brokers.iter().filter(leads);
        let leaders: Vec<usize> = leaders.map(|broker| broker.id).collect();
        (!leaders.is_empty()).then(|| *self.env.rng.pick(&leaders))
    }

    /// The brokers of a group of several members.
    pub(crate) fn replicated_group(&mut self) -> Vec<usize> {
        let groups = self.env.plan.groups.iter().enumerate();
        let replicated = groups.filter(|(_, members)| **members > 1);
        let replicated: Vec<usize> = replicated.map(|(group, _)| group).collect();
        let group = *self.env.rng.pick(&replicated);
        let own = self.brokers.iter().filter(|broker| broker.group == group);
        own.map(|broker| broker.id).collect()
    }

    /// All members of a group crash.
    fn crash_group(&mut self) {
        for broker in self.replicated_group() {
            self.crash(broker);
        }
    }

    /// The disks of all members of a group but one become slow, so that much is not stored when these members crash.
    fn plan_majority_crash(&mut self) {
        let members = self.replicated_group();
        let left = *self.env.rng.pick(&members);
        let time = self.env.rng.skewed(20_000, SECOND);
        for broker in members.iter().filter(|broker| **broker != left) {
            self.brokers[*broker].slow_disk = (self.env.now + time, time);
        }
        let node = self.env.net.node_of_broker(left);
        let name = self.name(node);
        self.env.say(format_args!(
            "fault: for {time} us each sync of those in a group with {name} takes so much longer"
        ));
        self.env.after(time, Event::MajorityCrash { left });
    }

    /// All members of a group but one crash, and for a while they do not hear what that one knows.
    pub(crate) fn crash_majority(&mut self, left: usize) {
        let until = self.env.now + outage_us(&mut self.env);
        let node = self.env.net.node_of_broker(left);
        let group = self.brokers[left].group;
        let is_other = |broker: &&Broker| broker.group == group && broker.id != left;
        let others = self.brokers.iter().filter(is_other);
        let others: Vec<usize> = others.map(|broker| broker.id).collect();
        for broker in others {
            let other = self.env.net.node_of_broker(broker);
            self.env.net.block_ways(node, other, (true, true), until);
            self.crash(broker);
        }
    }

    /// One member is cut off from the others of its group or from one of them, in one direction or both; the proxies
    /// reach it.
    fn split(&mut self) {
        let members = self.replicated_group();
        let one = *self.env.rng.pick(&members);
        let all = self.env.rng.chance(700);
        let time = outage_us(&mut self.env);
        let until = self.env.now + time;
        let (to, from) = *self.env.rng.pick(&WAYS);
        let net = &mut self.env.net;
        let node = net.node_of_broker(one);
        let others = members.iter().filter(|other| **other != one);
        for other in others.take(if all { usize::MAX } else { 1 }) {
            let other = net.node_of_broker(*other);
            net.block_ways(node, other, (to, from), until);
        }
        let name = self.name(node);
        self.env.say(format_args!(
            "fault: {name} is cut off from its group (all {all}, to it {to}, from it {from}) for {time} us"
        ));
    }

    fn slow_disk(&mut self) {
        let broker = self.env.rng.below(self.brokers.len());
        let until = self.env.now + outage_us(&mut self.env);
        let by = self.env.rng.skewed(10_000, 2_500_000);
        self.brokers[broker].slow_disk = (until, by);
        let (group, member) = (self.brokers[broker].group, self.brokers[broker].member);
        self.env.say(format_args!(
            "fault: group {group} member {member}: each sync takes {by} us longer"
        ));
    }

    /// A node stands still, and goes on as if nothing had been.
    fn pause(&mut self) {
        let node = self.env.rng.below(self.nodes());
        let time = self.env.rng.skewed(10_000, 5 * SECOND);
        self.paused_until[node] = self.env.now + time;
        if let Some(broker) = node.checked_sub(self.proxies.len()) {
            self.brokers[broker].pause(true);
            self.env.after(time, Event::Resume { node });
        }
        let name = self.name(node);
        self.env
            .say(format_args!("fault: {name} stands still for {time} us"));
    }

    /// Somebody sets the wall clock of a broker's machine.
    fn set_clock(&mut self) {
        let broker = self.env.rng.below(self.brokers.len());
        let hour = 3_600_000;
        let by: i64 = *self.env.rng.pick(&[
            -2_000,
            2_000,
            -hour,
            hour,
            -30 * hour,
            30 * hour,
            24 * 400 * hour,
        ]);
        let off_ms = &self.brokers[broker].wall_off_ms;
        off_ms.fetch_add(by, Ordering::Relaxed);
        let (group, member) = (self.brokers[broker].group, self.brokers[broker].member);
        self.env.say(format_args!(
            "fault: group {group} member {member}: its wall clock is set by {by} ms"
        ));
    }

    fn slow_net(&mut self) {
        let nodes = self.nodes();
        let (one, other) = (self.env.rng.below(nodes), self.env.rng.below(nodes));
        let until = self.env.now + outage_us(&mut self.env);
        let by = self.env.rng.skewed(10_000, 1_500_000);
        self.env.net.slow_down(one, other, until, by);
        let (one, other) = (self.name(one), self.name(other));
        self.env
            .say(format_args!("fault: {one} -> {other} takes {by} us longer"));
    }

    fn name(&self, node: usize) -> String {
        match node.checked_sub(self.proxies.len()) {
            None => format!("proxy {node}"),
            Some(broker) => {
                let broker = &self.brokers[broker];
                format!("group {} member {}", broker.group, broker.member)
            }
        }
    }
}
