//! Start, watch, bring back, stop.
//!
//! One loop on the main thread: it waits for an event (a line of a node, a signal, the end of a child) or the next
//! time at which something is due, and then looks at each node.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::child::{Outputs, Running};
use super::leaders::Leaders;
use super::logs::NodeLog;
use super::plan::{NodePlan, NodeRole, Plan, log_file};
use super::screen::{Row, Screen};
use super::{LaunchError, files, manifest, probe};

/// Lines that wait to be shown; above it the nodes wait.
const EVENTS_MAX: usize = 1_024;
/// How often a node that starts is asked.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How often the table is drawn.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// The first start takes at most so long.
const START_MAX: Duration = Duration::from_secs(60);
/// A group's members are waited for so long; then a group that has a leader goes on without one that is not ready.
const MEMBER_WAIT: Duration = Duration::from_secs(8);
/// A group's leader is waited for so long; then the other groups start without it.
const LEADER_WAIT: Duration = Duration::from_secs(20);
/// Nodes of one role have so long to end in order; more than the default drain.
const STOP_MAX: Duration = Duration::from_secs(15);
/// What ended nodes have written is waited for so long: somebody else may hold an output open.
const LAST_LINES_MAX: Duration = Duration::from_secs(2);
/// Waits before a node is brought back: the first time at once, then longer if it does not stay.
const RESPAWN_WAIT_MIN: Duration = Duration::from_millis(200);
const RESPAWN_WAIT_MAX: Duration = Duration::from_secs(5);
/// A node that ran so long has stayed.
const STAYED: Duration = Duration::from_secs(10);

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    /// A node wrote a line.
    Line(usize, String),
    /// A child may have ended.
    Child,
    /// An output of a node has ended.
    Silent,
    /// SIGTERM or SIGINT.
    Stop,
}

/// A node and what became of it.
struct Node {
    plan: NodePlan,
    log: NodeLog,
    state: State,
    restarts: u32,
    /// The wait before the next restart.
    wait: Duration,
}

enum State {
    /// To be started at this time.
    Waiting(Instant),
    /// Started, not ready yet.
    Starting(Running, Instant),
    /// Ready since then.
    Ready(Running, Instant),
    /// Ended, and nobody brings it back.
    Ended(String),
}

/// Runs the fleet until a signal stops it, or until it cannot be started.
pub(super) fn run(plan: Plan) -> Result<(), LaunchError> {
    let _lock = files::lock(&plan.folder)?;
    plan.check_ports()?;
    files::write(&plan)?;
    let (sender, events) = sync_channel(EVENTS_MAX);
    watch_signals(sender.clone())?;
    let path = plan.folder.join("cluster.json");
    manifest::remove(&path)?;
    let mut fleet = Fleet::new(plan, sender, path.clone());
    let outcome = fleet.serve(&events);
    let stopped = fleet.stop(&events);
    manifest::remove(&path)?;
    outcome.and(stopped)
}

struct Fleet {
    nodes: Vec<Node>,
    respawn: bool,
    screen: Screen,
    events: SyncSender<Event>,
    outputs: Outputs,
    manifest: PathBuf,
    started: Instant,
    drawn: Instant,
    leaders: Leaders,
    /// When the brokers were last asked who leads.
    asked: Instant,
    /// All nodes were ready once.
    complete: bool,
    /// It was said which groups have no leader yet.
    has_warned: bool,
    /// It was said how to use the fleet.
    has_invited: bool,
    /// Something became ready or ended, and the file does not say so yet.
    changed: bool,
}

impl Fleet {
    fn new(plan: Plan, events: SyncSender<Event>, manifest: PathBuf) -> Self {
        let now = Instant::now();
        let folder = plan.folder;
        let node = |plan: NodePlan| Node {
            log: NodeLog::at(log_file(&folder, &plan.name)),
            plan,
            state: State::Waiting(now),
            restarts: 0,
            wait: Duration::ZERO,
        };
        let nodes: Vec<_> = plan.nodes.into_iter().map(node).collect();
        let names = nodes.iter().map(|node| node.plan.name.as_str());
        Self {
            screen: Screen::new(names),
            nodes,
            respawn: plan.respawn,
            events,
            outputs: Outputs::default(),
            manifest,
            started: now,
            drawn: now,
            leaders: Leaders::of_groups(plan.groups),
            asked: now,
            complete: false,
            has_warned: false,
            has_invited: false,
            changed: true,
        }
    }

    /// Until a signal.
    fn serve(&mut self, events: &Receiver<Event>) -> Result<(), LaunchError> {
        loop {
            let now = Instant::now();
            self.start_due(now)?;
            self.look(now)?;
            self.publish()?;
            self.draw(now);
            match events.recv_timeout(self.next_due(now)) {
                Ok(Event::Line(node, line)) => self.line(node, &line),
                Ok(Event::Stop) => return Ok(()),
                Ok(Event::Child | Event::Silent) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
            }
        }
    }

    fn start_due(&mut self, now: Instant) -> io::Result<()> {
        let stage = if self.complete {
            u8::MAX
        } else {
            self.first_stage(now)
        };
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let too_early = node.plan.role.stage() > stage;
            if matches!(node.state, State::Waiting(due) if due <= now) && !too_early {
                let running = Running::start(number, &node.plan, &self.events, &self.outputs)?;
                node.state = State::Starting(running, now);
            }
        }
        Ok(())
    }

    /// The first time nodes of later stages than this wait for those they need: it saves a new user from reading of links
    /// that fail.
    fn first_stage(&mut self, now: Instant) -> u8 {
        if now.duration_since(self.started) > MEMBER_WAIT && !self.all_led() {
            self.warn_leaderless();
        }
        let unready = self.nodes.iter().filter(|node| self.holds_up(node, now));
        let first = unready.map(|node| node.plan.role.stage()).min();
        let are_proxies = first == Some(NodeRole::Proxy.stage());
        if are_proxies && !self.is_left_without(now) && !self.all_led() {
            return NodeRole::Broker.stage();
        }
        first.unwrap_or(u8::MAX)
    }

    /// Whether the fleet starts without some group, since that has had no leader for long.
    fn is_left_without(&self, now: Instant) -> bool {
        now.duration_since(self.started) > LEADER_WAIT && !self.leaders.all_known()
    }

    /// Whether others wait for this node: not if it is a member that its group does without, or belongs to a group that
    /// the others do without, or is not ready for want of such a group.
    fn holds_up(&self, node: &Node, now: Instant) -> bool {
        let since = match &node.state {
            State::Ready(..) => return false,
            State::Waiting(_) => now,
            State::Starting(_, since) => *since,
            State::Ended(_) => self.started,
        };
        let is_done_without = match node.plan.group {
            Some(group) => {
                let members = self.nodes.iter().filter(|it| it.plan.group == Some(group));
                self.leaders.of(group).is_some() || members.count() > 1 && self.is_left_without(now)
            }
            None => node.plan.role != NodeRole::Redis && self.is_left_without(now),
        };
        !(is_done_without && now.duration_since(since) > MEMBER_WAIT)
    }

    /// Whether each group has a leader, which proxies wait for the first time.
    fn all_led(&mut self) -> bool {
        if !self.leaders.all_known() {
            self.ask_leaders();
        }
        self.leaders.all_known()
    }

    fn ask_leaders(&mut self) {
        self.asked = Instant::now();
        let plans = self.nodes.iter().filter(|node| node.is_ready());
        let brokers = plans.filter(|node| node.plan.group.is_some());
        let answers = brokers.map(|node| (&node.plan, probe::report(&node.plan)));
        let is_planned = |name: &str| self.nodes.iter().any(|node| node.plan.name == name);
        self.leaders.hear(answers, is_planned);
    }

    /// Says, once, which groups have no leader yet, and how their members are.
    fn warn_leaderless(&mut self) {
        if std::mem::replace(&mut self.has_warned, true) {
            return;
        }
        for group in self.leaders.missing() {
            let members = self.nodes.iter().filter(|it| it.plan.group == Some(group));
            let members = members.map(|node| {
                let says = probe::report(&node.plan).map(|report| report.health);
                let says = says.unwrap_or_else(|| "does not answer".to_owned());
                format!("{}: {says}", node.plan.name)
            });
            let members = members.collect::<Vec<_>>().join("; ");
            self.screen.say(&format!(
                "Group {group} has no leader yet; waits for one. {members}"
            ));
        }
    }

    /// Says without which groups the fleet has started.
    fn say_leaderless(&self) {
        let groups = self.leaders.missing();
        let groups: Vec<_> = groups.map(|group| group.to_string()).collect();
        self.screen.say(&format!(
            "Started without group {}, which has no leader; groups that have one serve. {} describes the fleet for programs; \
             mqtt-fleet ctl group status says what is wrong.",
            groups.join(", "),
            self.manifest.display()
        ));
    }

    /// Looks at what has ended and what is ready.
    fn look(&mut self, now: Instant) -> Result<(), LaunchError> {
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            let (State::Starting(running, since) | State::Ready(running, since)) = &mut node.state
            else {
                continue;
            };
            let since = *since;
            if let Some(status) = running.ended()? {
                self.ended(number, now, since, &status.to_string())?;
            } else if matches!(node.state, State::Starting(..)) && probe::is_ready(&node.plan) {
                node.become_ready(now);
                self.changed = true;
            }
        }
        if !self.complete && now.duration_since(self.started) > START_MAX {
            let late = self.nodes.iter().find(|node| self.holds_up(node, now));
            let node = late.map_or_else(String::new, |node| node.plan.name.clone());
            let status = format!("not ready after {START_MAX:?}");
            return Err(LaunchError::NotStarted { node, status });
        }
        Ok(())
    }

    fn ended(
        &mut self,
        number: usize,
        now: Instant,
        since: Instant,
        status: &str,
    ) -> Result<(), LaunchError> {
        let members = self.members_beside(number);
        let node = &mut self.nodes[number];
        // A group of several may do without this one; whether it does is seen later.
        if !self.complete && members == 0 {
            let (node, status) = (node.plan.name.clone(), status.to_owned());
            return Err(LaunchError::NotStarted { node, status });
        }
        self.changed = true;
        if !self.respawn {
            node.state = State::Ended(status.to_owned());
            self.line(number, &format!("ended ({status})"));
            return Ok(());
        }
        if now.duration_since(since) >= STAYED {
            node.wait = Duration::ZERO;
        }
        let text = format!("ended ({status}), coming back");
        node.state = State::Waiting(now + node.wait);
        node.wait = (node.wait * 2).clamp(RESPAWN_WAIT_MIN, RESPAWN_WAIT_MAX);
        node.restarts += 1;
        self.line(number, &text);
        Ok(())
    }

    /// Other members of this node's group that run, if it is one of several.
    fn members_beside(&self, number: usize) -> usize {
        let group = self.nodes[number].plan.group;
        let beside = self.nodes.iter().enumerate().filter(|(other, node)| {
            let runs = !matches!(node.state, State::Ended(_));
            *other != number && group.is_some() && node.plan.group == group && runs
        });
        beside.count()
    }

    /// Writes `cluster.json` when every node that is to run, and that its group does not do without, is ready.
    fn publish(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let pending = |node: &Node| {
            let has_ended = matches!(node.state, State::Ended(_)) && self.complete;
            !has_ended && self.holds_up(node, now)
        };
        let late = self.complete && !self.leaders.all_known() && self.asked.elapsed() >= DRAW_EVERY;
        if !(self.changed || late) || self.nodes.iter().any(pending) {
            return Ok(());
        }
        let missing = self.leaders.missing().count();
        self.ask_leaders();
        // One that does not answer at once may lead all the same.
        let waits = !self.complete && !self.is_left_without(now) && !self.leaders.all_known();
        // A group whose leader has ended elects another one soon; the file is for those who look then.
        if waits || !self.changed && self.leaders.missing().count() >= missing {
            return Ok(());
        }
        let nodes = self.nodes.iter().map(|node| match &node.state {
            State::Ready(running, _) | State::Starting(running, _) => {
                (&node.plan, Some(running.pid()))
            }
            State::Waiting(_) | State::Ended(_) => (&node.plan, None),
        });
        manifest::write(&self.manifest, &nodes.collect::<Vec<_>>(), &self.leaders)?;
        self.changed = false;
        let first = !std::mem::replace(&mut self.complete, true);
        self.screen.table(&self.rows());
        if self.leaders.all_known() && !std::mem::replace(&mut self.has_invited, true) {
            self.screen.say(&self.invitation());
            self.say_missing();
        } else if first {
            self.say_leaderless();
        }
        Ok(())
    }

    /// Names the members that groups do without.
    fn say_missing(&self) {
        let missing = self.nodes.iter().filter(|node| !node.is_ready());
        let names: Vec<_> = missing.map(|node| node.plan.name.as_str()).collect();
        if !names.is_empty() {
            self.screen.say(&format!(
                "Not ready: {}; the other members of the group serve without. mqtt-fleet ctl group status says what is wrong.",
                names.join(", ")
            ));
        }
    }

    /// What a new user does next: one end at the first proxy, the other at the last one or HAProxy.
    fn invitation(&self) -> String {
        let addresses = || self.nodes.iter().map(|node| node.plan.addresses);
        let mut plain = addresses().filter_map(|address| Some(address.mqtt?.port()));
        let first = plain.next().unwrap_or_default();
        let last = plain.next_back().unwrap_or(first);
        let publish = "-t test/hello -m world -q 1";
        let tls = addresses().filter_map(|address| address.mqtts).next_back();
        let tls = tls.map_or_else(String::new, |tls| {
            let ca = self.manifest.with_file_name("certs").join("ca.pem");
            let (port, ca) = (tls.port(), ca.display());
            format!("  mosquitto_pub -p {port} --cafile '{ca}' {publish}    # with TLS\n")
        });
        format!(
            "Ready; {} describes it for programs. Try it:\n  mosquitto_sub -p {first} -t 'test/#' -v\n  \
             mosquitto_pub -p {last} {publish}\n{tls}Ctrl-C stops all of it.",
            self.manifest.display()
        )
    }

    /// A line of a node, or about it: shown, and in its file.
    fn line(&mut self, number: usize, line: &str) {
        self.screen.line(number, line);
        if let Err(error) = self.nodes[number].log.line(line) {
            self.screen
                .line(number, &format!("its lines are not kept any more: {error}"));
        }
    }

    fn draw(&mut self, now: Instant) {
        if now.duration_since(self.drawn) >= DRAW_EVERY {
            self.drawn = now;
            self.screen.redraw(&self.rows());
        }
    }

    fn rows(&self) -> Vec<Row> {
        let rows = self.nodes.iter().map(|node| {
            let (state, pid) = match &node.state {
                State::Waiting(_) => ("waiting".to_owned(), None),
                State::Starting(running, _) => ("starting".to_owned(), Some(running.pid())),
                State::Ready(running, _) => ("ready".to_owned(), Some(running.pid())),
                State::Ended(status) => (status.clone(), None),
            };
            Row {
                name: node.plan.name.clone(),
                group: node.plan.group,
                state,
                pid,
                address: node.plan.addresses.main(),
                admin: node.plan.addresses.admin,
                restarts: node.restarts,
            }
        });
        rows.collect()
    }

    fn next_due(&self, now: Instant) -> Duration {
        let waits = self.nodes.iter().map(|node| match &node.state {
            // One that is due and not started waits for others to become ready.
            State::Waiting(due) => due.saturating_duration_since(now).max(PROBE_EVERY),
            State::Starting(..) => PROBE_EVERY,
            State::Ready(..) | State::Ended(_) => DRAW_EVERY,
        });
        waits.min().unwrap_or(DRAW_EVERY)
    }

    /// Ends the nodes: proxies take leave of their devices first, partly through HAProxy, so it is the next; then the
    /// brokers store what they have.
    fn stop(&mut self, events: &Receiver<Event>) -> Result<(), LaunchError> {
        for role in [
            NodeRole::Proxy,
            NodeRole::Haproxy,
            NodeRole::Broker,
            NodeRole::Redis,
        ] {
            let waiting = |node: &&mut Node| matches!(node.state, State::Waiting(_));
            for node in self.nodes.iter_mut().filter(waiting) {
                node.state = State::Ended("stopped".to_owned());
            }
            self.signal(role, Signal::TERM);
            if !self.await_end(role, events, Instant::now() + STOP_MAX)? {
                self.signal(role, Signal::KILL);
                self.await_end(role, events, Instant::now() + STOP_MAX)?;
            }
        }
        self.show_last_lines(events);
        Ok(())
    }

    /// Of nodes that have ended.
    fn show_last_lines(&mut self, events: &Receiver<Event>) {
        let deadline = Instant::now() + LAST_LINES_MAX;
        loop {
            let wait = if self.outputs.are_read() {
                Duration::ZERO
            } else {
                deadline.saturating_duration_since(Instant::now())
            };
            match events.recv_timeout(wait) {
                Ok(Event::Line(node, line)) => self.line(node, &line),
                Ok(Event::Child | Event::Silent | Event::Stop) => {}
                Err(_) => return,
            }
        }
    }

    fn signal(&self, role: NodeRole, signal: Signal) {
        for node in self.nodes.iter().filter(|node| node.plan.role == role) {
            if let State::Starting(running, _) | State::Ready(running, _) = &node.state {
                running.signal(signal);
            }
        }
    }

    /// Waits until all nodes of a role have ended; `false` at the deadline, or when a second signal asks for haste.
    fn await_end(
        &mut self,
        role: NodeRole,
        events: &Receiver<Event>,
        deadline: Instant,
    ) -> io::Result<bool> {
        loop {
            let mut left = false;
            for node in self.nodes.iter_mut().filter(|node| node.plan.role == role) {
                if let State::Starting(running, _) | State::Ready(running, _) = &mut node.state {
                    match running.ended()? {
                        Some(status) => node.state = State::Ended(status.to_string()),
                        None => left = true,
                    }
                }
            }
            let wait = deadline.saturating_duration_since(Instant::now());
            if !left || wait.is_zero() {
                return Ok(!left);
            }
            match events.recv_timeout(wait) {
                Ok(Event::Line(node, line)) => self.line(node, &line),
                Ok(Event::Stop) => return Ok(false),
                Ok(Event::Child | Event::Silent) | Err(_) => {}
            }
        }
    }
}

impl Node {
    fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(..))
    }

    fn become_ready(&mut self, now: Instant) {
        let state = std::mem::replace(&mut self.state, State::Waiting(now));
        self.state = match state {
            State::Starting(running, _) => State::Ready(running, now),
            other => other,
        };
    }
}

fn watch_signals(events: SyncSender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGCHLD])?;
    let body = move || {
        for signal in signals.forever() {
            let event = if signal == SIGCHLD {
                Event::Child
            } else {
                Event::Stop
            };
            // A full queue wakes the loop as well, and it looks at every child then. A stop must not get lost.
            let sent = match events.try_send(event) {
                Err(TrySendError::Full(Event::Stop)) => events.send(Event::Stop).is_ok(),
                Err(TrySendError::Disconnected(_)) => false,
                _ => true,
            };
            if !sent {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(body)
        .map(|_| ())
}
