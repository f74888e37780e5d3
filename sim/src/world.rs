//! A world: its parts, and the loop that lets one thing happen after the other.

use crate::broker::Broker;
use crate::clock::Clock;
use crate::device::Device;
use crate::env::Env;
use crate::invariants::{Violation, no_panic, nothing_left, one_leader, p5_one_owner, progress};
use crate::net::{End, Piece};
use crate::operator::{self, Operator};
use crate::plan::Plan;
use crate::proxy::{Proxy, name_of};
use crate::queue::Event;
use crate::rng::Rng;
use crate::stops::Stops;
use crate::trace::{Lines, Trace};
use broker::faults::Fault;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SECOND: u64 = 1_000_000;
/// After the last fault everything has to be done in so long.
const SETTLE_US: u64 = 120 * SECOND;
/// It is done when nothing has been owed for so long.
const QUIET_US: u64 = 2 * SECOND;
const CHECK_US: u64 = SECOND / 2;
/// A member whose group has been quiet lacks no more entries than this: some may always be on their way.
const LAG_MAX: u64 = 5;

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) brokers: Vec<Broker>,
    /// By group.
    pub(crate) operators: Vec<Operator>,
    pub(crate) stops: Stops,
    devices: Vec<Device>,
    /// Nodes that stand still: nothing happens there before.
    pub(crate) paused_until: Vec<u64>,
    stage: Stage,
}

/// How far the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Things happen and go wrong.
    Active,
    /// Everybody comes back.
    Settling {
        since: u64,
        quiet_since: Option<u64>,
        /// All sessions are resumed once more, so that their records are right.
        resumed: bool,
    },
    /// Those whose sessions expire stay away, until then.
    Expiring {
        until: u64,
    },
    /// They come back, and it must have.
    Returning {
        since: u64,
    },
    /// All end their sessions.
    Parting {
        since: u64,
    },
    Over,
}

/// What a world came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was wrong first.
    pub violation: Option<Violation>,
    /// Hash of everything that happened, in order.
    pub digest: u64,
    /// Lines of the trace.
    pub events: u64,
    /// Messages that devices sent.
    pub messages: usize,
    /// Leaders that were told to stop and had another member lead first.
    pub handovers: usize,
    /// The lines, if they were kept.
    pub lines: Vec<String>,
    /// How long it was in its own time, in microseconds.
    pub time_us: u64,
}

/// Lets the world of a seed run from its beginning to its end, with a known mistake or without.
pub fn run(seed: u64, bad: Option<Fault>, lines: Lines) -> Outcome {
    broker::faults::set(bad);
    let clock = Clock::new();
    let _time = clock.enter();
    let mut rng = Rng::new(seed);
    broker::raft::seed(rng.next());
    let plan = Plan::of_seed(&mut rng);
    let mut trace = Trace::new(lines);
    trace.say(0, format_args!("{plan:?}"));
    World::new(Env::new(plan, rng, trace, clock.base())).run(&clock)
}

impl World {
    fn new(mut env: Env) -> Self {
        let mut brokers = Vec::new();
        for (group, members) in env.plan.brokers().into_iter().enumerate() {
            for member in 0..members {
                brokers.push(Broker::new(brokers.len(), group, member, &mut env));
            }
        }
        let proxies: Vec<_> = (0..env.plan.proxies)
            .map(|id| Proxy::new(id, &env))
            .collect();
        let plans = env.plan.devices.clone().into_iter().enumerate();
        let nodes = proxies.len() + brokers.len();
        let first = env.plan.groups.iter();
        Self {
            stops: Stops::of(env.plan.groups.len()),
            operators: first.map(|members| Operator::new(*members)).collect(),
            devices: plans.map(|(id, plan)| Device::new(id, plan)).collect(),
            proxies,
            brokers,
            paused_until: vec![0; nodes],
            stage: Stage::Active,
            env,
        }
    }

    fn run(mut self, clock: &Clock) -> Outcome {
        for broker in &mut self.brokers {
            broker.start(&mut self.env);
        }
        for proxy in &mut self.proxies {
            proxy.start(&mut self.env);
        }
        for device in 0..self.devices.len() {
            self.env.after(SECOND / 10, Event::DeviceStep { device });
        }
        self.plan_birth_crashes();
        for group in 0..self.operators.len() {
            self.env.after(SECOND, Event::Operate { group });
        }
        self.env.after(SECOND, Event::Fault);
        self.env.plan_redis_fault();
        self.env.after(self.env.plan.active_us, Event::Calm);
        while self.stage != Stage::Over
            && self.env.judge.violation().is_none()
            && let Some(at) = self.env.queue.next_at()
        {
            let step = catch_unwind(AssertUnwindSafe(|| self.step(clock, at)));
            let verdict = no_panic::done(step, broker::raft::panicked());
            self.env.judge.find(verdict);
        }
        if self.env.judge.violation().is_some() {
            for broker in &self.brokers {
                broker.say_status(&mut self.env);
            }
        }
        Outcome {
            violation: self.env.judge.violation().cloned(),
            digest: self.env.trace.digest(),
            events: self.env.trace.count(),
            messages: self.env.judge.ledger.sent.len(),
            time_us: self.env.now,
            handovers: self.stops.handovers,
            lines: self.env.trace.into_lines(),
        }
    }

    /// Lets members work until the next event, and that happen.
    fn step(&mut self, clock: &Clock, at: u64) {
        if clock.reach(at, &self.env.outbox) {
            self.env.now = at;
            let (_, event) = self.env.queue.pop().expect("it was just seen");
            self.take(event);
        } else {
            self.env.now = clock.now();
            self.take_outbox();
        }
    }

    fn take(&mut self, event: Event) {
        if let Some(until) = self.paused(event) {
            return self.env.queue.put(until, event);
        }
        match event {
            Event::Arrive { conn, from } => self.arrive(conn, from),
            Event::Dialled { conn } => self.dialled(conn),
            Event::ProxyTurn { proxy, life } => {
                let proxy = &mut self.proxies[proxy];
                if proxy.up && proxy.life == life {
                    proxy.wake(&mut self.env);
                }
            }
            Event::BrokerTurn { broker, life } => {
                let broker = &mut self.brokers[broker];
                if broker.up && broker.life == life {
                    broker.wake(&mut self.env);
                    let group = broker.group;
                    self.check_leaders(group);
                }
            }
            Event::Synced { broker, life } => {
                let broker = &mut self.brokers[broker];
                if broker.up && broker.life == life {
                    broker.synced(&mut self.env);
                }
            }
            Event::Written { broker, life } => {
                let broker = &mut self.brokers[broker];
                if broker.up && broker.life == life {
                    broker.written(&mut self.env);
                }
            }
            Event::CallArrives { call } => self.call_arrives(call),
            Event::AnswerArrives { call } => self.answer_arrives(call),
            Event::Resume { node } => self.resume(node),
            Event::RedisOpened { proxy, life, link } => {
                let proxy = &mut self.proxies[proxy];
                if proxy.up && proxy.life == life {
                    proxy.redis_opened(&mut self.env, link);
                }
            }
            Event::RedisCall { call } => self.env.redis_hears(call),
            Event::RedisAnswer { proxy, life, call } => {
                let proxy = &mut self.proxies[proxy];
                if proxy.up && proxy.life == life {
                    proxy.hears_redis(&mut self.env, call);
                }
            }
            Event::RedisFault => self.env.redis_fault(),
            Event::RedisBack => self.env.redis_back(),
            Event::DeviceStep { device } => self.devices[device].step(&mut self.env),
            Event::DeviceAnswer { device } => self.devices[device].answer(&mut self.env),
            Event::BirthCrash { broker } => self.end_at_birth(broker),
            Event::MajorityCrash { left } => self.crash_majority(left),
            Event::Operate { group } => self.operate(group),
            Event::Roll { group } => self.roll(group),
            Event::KillLate { broker, life } => self.kill_late(broker, life),
            Event::Restart { node } => self.restart(node),
            Event::Fault => self.fault(),
            Event::Calm => self.calm(),
            Event::Check => self.check(),
        }
    }

    /// Until when the node stands still for which this is.
    fn paused(&self, event: Event) -> Option<u64> {
        let node = match event {
            Event::Arrive { conn, from } => match self.env.net.conns[conn].ends[1 - from] {
                End::Device(_) => return None,
                End::Shard { proxy, .. } | End::Link { proxy, .. } => proxy,
                End::Broker { broker, .. } => self.env.net.node_of_broker(broker),
            },
            Event::ProxyTurn { proxy, .. }
            | Event::RedisOpened { proxy, .. }
            | Event::RedisAnswer { proxy, .. } => proxy,
            Event::BrokerTurn { broker, .. }
            | Event::Synced { broker, .. }
            | Event::Written { broker, .. } => self.env.net.node_of_broker(broker),
            Event::CallArrives { call } => {
                let to = self.env.calls[call].to();
                self.env.net.node_of_broker(to)
            }
            Event::Restart { node } => node,
            _ => return None,
        };
        let until = self.paused_until[node];
        (until > self.env.now).then_some(until)
    }

    /// Two members of a group must not act as leaders at the same time.
    fn check_leaders(&mut self, group: usize) {
        let act = |broker: &&Broker| broker.group == group && broker.may_act(&self.env);
        let brokers = self.brokers.iter().filter(act);
        let members: Vec<usize> = brokers.map(|broker| broker.member).collect();
        self.env.judge.find(one_leader::sure(group, &members));
    }

    fn arrive(&mut self, conn: usize, from: usize) {
        let env = &mut self.env;
        match env.net.arrive(env.now, conn, from) {
            Err(later) => env.queue.put(later, Event::Arrive { conn, from }),
            Ok(Some((end, piece))) => self.hear(conn, end, &piece),
            Ok(None) => {}
        }
    }

    fn hear(&mut self, conn: usize, end: End, piece: &Piece) {
        let env = &mut self.env;
        match end {
            End::Device(device) => self.devices[device].hears(env, conn, piece),
            End::Shard {
                proxy,
                life,
                handle,
            } => {
                let proxy = &mut self.proxies[proxy];
                if proxy.up && proxy.life == life {
                    proxy.hears_device(env, handle, piece);
                }
            }
            End::Link { proxy, life, group } => {
                let proxy = &mut self.proxies[proxy];
                if proxy.up && proxy.life == life {
                    proxy.hears_group(env, group, conn, piece);
                }
            }
            End::Broker { broker, life } => {
                let broker = &mut self.brokers[broker];
                if broker.up && broker.life == life {
                    broker.hears(env, conn, piece);
                }
            }
        }
    }

    /// Somebody has tried to make a connection.
    fn dialled(&mut self, conn: usize) {
        let env = &mut self.env;
        if let Some(later) = env.net.dial_later(env.now, conn) {
            return env.queue.put(later, Event::Dialled { conn });
        }
        let [from, to] = env.net.conns[conn].ends;
        let is_up = match to {
            End::Shard { proxy, .. } => self.proxies[proxy].up,
            End::Broker { broker, .. } => self.brokers[broker].listens(),
            End::Device(_) | End::Link { .. } => unreachable!("nobody connects to those"),
        };
        // Who has given up meanwhile does not come.
        let made = is_up && env.net.conns[conn].open[0];
        env.net.conns[conn].made = made;
        match (from, to) {
            (End::Device(device), End::Shard { proxy, .. }) if made => {
                self.proxies[proxy].accept(env, conn, device);
            }
            (_, End::Broker { broker, .. }) if made => {
                let life = self.brokers[broker].life;
                env.net.conns[conn].ends[1] = End::Broker { broker, life };
                self.brokers[broker].accept(env, conn);
            }
            _ => {}
        }
        match from {
            End::Device(device) => self.devices[device].dialled(env, conn, made),
            End::Link { proxy, life, group } => {
                let proxy = &mut self.proxies[proxy];
                if proxy.up && proxy.life == life {
                    proxy.dialled(env, group, conn, made);
                }
            }
            End::Shard { .. } | End::Broker { .. } => unreachable!("those wait to be connected to"),
        }
    }

    /// A node that stood still goes on, unless it is to stand for longer.
    fn resume(&mut self, node: usize) {
        if let Some(broker) = node.checked_sub(self.proxies.len())
            && self.paused_until[node] <= self.env.now
        {
            self.brokers[broker].pause(false);
        }
    }

    fn restart(&mut self, node: usize) {
        match node.checked_sub(self.proxies.len()) {
            None if !self.proxies[node].up => self.proxies[node].start(&mut self.env),
            Some(broker) if !self.brokers[broker].up => self.brokers[broker].start(&mut self.env),
            _ => {}
        }
    }

    /// From now on nothing goes wrong, and everything is there again.
    fn calm(&mut self) {
        self.env.say(format_args!("faults are over"));
        self.env.calm_since = Some(self.env.now);
        self.env.net.heal();
        self.env.heal_redis();
        self.paused_until.fill(0);
        for broker in &mut self.brokers {
            broker.slow_disk = (0, 0);
        }
        for node in 0..self.proxies.len() + self.brokers.len() {
            self.resume(node);
            self.restart(node);
        }
        self.settle_anew(false);
        self.env.after(CHECK_US, Event::Check);
    }

    fn check(&mut self) {
        self.env.after(CHECK_US, Event::Check);
        match self.stage {
            Stage::Settling {
                since,
                quiet_since,
                resumed,
            } => self.settle(since, quiet_since, resumed),
            Stage::Expiring { until } if self.env.now >= until => {
                self.env.say(format_args!("who stayed away comes back"));
                for device in &mut self.devices {
                    device.stays_away = false;
                }
                let since = self.env.now;
                self.stage = Stage::Returning { since };
            }
            Stage::Active | Stage::Over | Stage::Expiring { .. } => {}
            Stage::Parting { since } => {
                let owed = self.owed();
                let is_late = self.env.now >= since + SETTLE_US;
                match self.left() {
                    _ if owed.is_some() && is_late => self.env.judge.find(progress::at_end(owed)),
                    Some(left) if is_late => self.env.judge.find(nothing_left::at_end(&left)),
                    None if owed.is_none() => self.stage = Stage::Over,
                    _ => {}
                }
            }
            Stage::Returning { since } => {
                let owed = self.owed();
                if owed.is_none() {
                    self.part();
                } else if self.env.now >= since + SETTLE_US {
                    self.env.judge.find(progress::at_end(owed));
                }
            }
        }
    }

    /// All devices end their sessions, and then nothing may be left of them.
    fn part(&mut self) {
        self.env.say(format_args!("all devices end their sessions"));
        for device in &mut self.devices {
            device.part(&mut self.env);
        }
        let since = self.env.now;
        self.stage = Stage::Parting { since };
    }

    /// What is left of sessions that are over.
    fn left(&self) -> Option<String> {
        let now = self.env.now;
        let clients = &self.env.names.clients;
        let has_record = |client: &&String| self.env.redis.record(now, client).is_some();
        let record = clients.iter().find(has_record);
        let record = record.map(|client| format!("Redis still has the record of {client}"));
        self.brokers.iter().find_map(Broker::left).or(record)
    }

    fn settle_anew(&mut self, resumed: bool) {
        self.stage = Stage::Settling {
            since: self.env.now,
            quiet_since: None,
            resumed,
        };
    }

    fn settle(&mut self, since: u64, quiet_since: Option<u64>, resumed: bool) {
        let now = self.env.now;
        let owed = self.owed();
        if owed.is_some() && now >= since + SETTLE_US {
            self.env.judge.find(progress::at_end(owed));
            return;
        }
        let quiet_since = owed.is_none().then(|| quiet_since.unwrap_or(now));
        self.stage = Stage::Settling {
            since,
            quiet_since,
            resumed,
        };
        if quiet_since.is_none_or(|quiet| now < quiet + QUIET_US) {
            return;
        }
        if resumed {
            self.judge_records();
            self.expire();
        } else {
            self.judge();
            self.resume_sessions();
        }
    }

    /// All sessions that last are resumed once more.
    fn resume_sessions(&mut self) {
        if !self.env.plan.redis.used {
            return self.expire();
        }
        for device in self.devices.iter_mut().filter(|device| device.lasts()) {
            device.drop_socket(&mut self.env);
        }
        self.settle_anew(true);
    }

    /// All sessions have been resumed, and there was time.
    fn judge_records(&mut self) {
        let Env {
            judge,
            redis,
            names,
            now,
            ..
        } = &mut self.env;
        for proxy in &self.proxies {
            for device in proxy
                .serves()
                .filter(|device| self.devices[*device].lasts())
            {
                let record = redis.record(*now, &names.clients[device]);
                let node = name_of(proxy.id);
                judge.records(&names.filters, device, (&node, record.as_ref()));
            }
        }
    }

    /// What is still owed to anybody, and words of the trace about it.
    fn owed(&self) -> Option<(String, Vec<String>)> {
        let net = &self.env.net;
        let devices = self.devices.iter().find_map(|device| device.owed(net));
        let proxies = self.proxies.iter().find_map(Proxy::owed);
        let brokers = self.brokers.iter().find_map(Broker::owed);
        let changes = || self.operators.iter().enumerate().find_map(operator::owed);
        let owed = devices.or(proxies).or(brokers).or_else(changes);
        let owed = owed.or_else(|| self.lag())?;
        let words: Vec<&str> = owed.split(' ').collect();
        let about = words.get(..2).map(|words| words.join(" "));
        Some((owed, about.into_iter().collect()))
    }

    /// A member that is far behind another one of its group.
    fn lag(&self) -> Option<String> {
        let lags = |it: &Broker| {
            let others = self.brokers.iter().filter(|other| other.group == it.group);
            let newest = others.map(Broker::applied).max();
            newest.is_some_and(|newest| it.applied() + LAG_MAX < newest)
        };
        let is_inside = |it: &&Broker| self.operators[it.group].is_inside(it.member);
        let mut members = self.brokers.iter().filter(is_inside);
        let late = members.find(|broker| lags(broker))?;
        let (group, member) = (late.group, late.member);
        Some(format!("group {group} member {member} is far behind"))
    }

    /// Members that have applied the same entries have the same state.
    fn compare_members(&mut self) {
        let mut states: BTreeMap<(usize, u64), (usize, Vec<u8>)> = BTreeMap::new();
        for broker in &mut self.brokers {
            let Some(state) = broker.snapshot() else {
                continue;
            };
            let place = (broker.group, broker.applied());
            let Some((other, known)) = states.get(&place) else {
                states.insert(place, (broker.member, state));
                continue;
            };
            let names = [*other, broker.member].map(|member| format!("member {member}"));
            let names = (names[0].as_str(), names[1].as_str());
            self.env
                .judge
                .compares(broker.group, names, (known, &state));
        }
    }

    /// Everybody is back and has had time: everything that was promised has been kept.
    fn judge(&mut self) {
        self.env.say(format_args!("everything is done"));
        let proxies = &self.proxies;
        let lives = |proxy: usize, life: u32| proxies[proxy].life == life;
        let net = &self.env.net;
        self.env.judge.at_end(lives, |conn| net.works(conn));
        let served = self.proxies.iter().flat_map(Proxy::serves);
        let mut counts = vec![0; self.devices.len()];
        served.for_each(|device| counts[device] += 1);
        let counts: Vec<(usize, usize)> = counts.into_iter().enumerate().collect();
        self.env.judge.find(p5_one_owner::at_end(&counts));
        for broker in &mut self.brokers {
            broker.compare(&mut self.env);
        }
        self.compare_members();
    }

    /// Those whose sessions expire stay away for long enough.
    fn expire(&mut self) {
        let finite = |device: &Device| device.expiry_s().filter(|expiry_s| *expiry_s < u32::MAX);
        let longest = self.devices.iter().filter_map(finite).max();
        let Some(longest_s) = longest else {
            return self.part();
        };
        for device in self.devices.iter_mut().filter(|it| finite(it).is_some()) {
            device.stays_away = true;
            device.drop_socket(&mut self.env);
        }
        let wait = u64::from(longest_s) * SECOND + crate::invariants::expiry::LATE_US + SECOND;
        self.stage = Stage::Expiring {
            until: self.env.now + wait,
        };
    }
}
