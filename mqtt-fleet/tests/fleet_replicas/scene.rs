//! The fleet, the load on it, and what fails when.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::Dice;
use crate::common::tools::pause;
use crate::cut::{Cut, KINDS};
use crate::devices::Devices;
use crate::load::Load;
use crate::net::Host;
use crate::nodes::{GROUPS, MEMBERS, Node, Nodes};
use crate::probe::Probe;
use crate::settings::Settings;
use crate::table::{Failure, Table, gap_of};

/// A group serves again within this time, or the run fails.
const SERVED_MAX: Duration = Duration::from_secs(30);
/// All members are there again and keep up within this time.
const WHOLE_MAX: Duration = Duration::from_secs(60);
/// How long a cut lasts, in milliseconds: longer than any election.
const CUT_MS: std::ops::RangeInclusive<u64> = 2_000..=6_000;
/// Between two failures all is well for so long.
const REST: Duration = Duration::from_secs(1);
/// Between two looks.
const TICK: Duration = Duration::from_millis(50);
const LEADER_KILLED: &str = "leader killed";
const FLEET_KILLED: &str = "everything killed";

/// All that runs.
pub(crate) struct Scene {
    settings: Settings,
    nodes: Nodes,
    /// At `QoS` 1, and at `QoS` 2.
    loads: Vec<Load>,
    /// One for each group.
    probes: Vec<Probe>,
    devices: Devices,
    dice: Dice,
    failures: Vec<Failure>,
    folder: tempfile::TempDir,
}

impl Scene {
    /// Starts everything, and waits until messages flow.
    pub(crate) fn start(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nodes = Nodes::start(folder.path());
        await_whole(&nodes);
        let proxies: Vec<SocketAddr> = nodes.proxies.iter().map(Node::mqtt).collect();
        let texts: Vec<_> = proxies.iter().map(ToString::to_string).collect();
        let load = |qos| {
            let Settings { pairs, rate, .. } = settings;
            Load::start(folder.path(), &texts.join(","), qos, pairs, rate)
        };
        let probe = |(n, topic): (usize, &String)| {
            let mut proxies = proxies.clone();
            proxies.rotate_left(n % texts.len());
            Probe::start(topic, proxies)
        };
        let topics = Nodes::topics(folder.path());
        Self {
            loads: vec![load(1), load(2)],
            probes: topics.iter().enumerate().map(probe).collect(),
            devices: Devices::connect(&proxies),
            dice: Dice::seeded(settings.seed),
            settings,
            nodes,
            failures: Vec::new(),
            folder,
        }
    }

    /// Kills the leaders of the groups in turn, and waits each time until the group is whole again.
    pub(crate) fn kill_leaders(&mut self) {
        for n in 0..self.settings.kills {
            let group = n as usize % GROUPS;
            self.rest();
            let leader = self.leader(group);
            let from = Instant::now();
            let member = &mut self.nodes.groups[group][leader];
            member.kill();
            let who = member.host.name.clone();
            let gap = self.probes[group].await_ack(from, SERVED_MAX);
            self.nodes.groups[group][leader].start();
            self.took(LEADER_KILLED, who, gap);
        }
    }

    /// Cuts members of the groups from each other, and waits each time until the group is whole again.
    pub(crate) fn cut_members(&mut self) {
        for n in 0..self.settings.partitions as usize {
            let (group, kind) = (n % GROUPS, KINDS[n % KINDS.len()]);
            self.rest();
            let mut members: Vec<Host> = self.nodes.groups[group]
                .iter()
                .map(|member| member.host.clone())
                .collect();
            members.swap(0, self.leader(group));
            if self.dice.below(2) == 1 {
                members.swap(1, MEMBERS - 1);
            }
            let spread = CUT_MS.end() - CUT_MS.start();
            let time = Duration::from_millis(CUT_MS.start() + self.dice.below(spread + 1));
            let cut = Cut::begin(kind, &members);
            let from = cut.since;
            self.pass(time);
            let (_, lost) = cut.heal();
            assert!(lost > 0, "{}: nothing was lost", kind.name);
            self.probes[group].await_ack(Instant::now(), SERVED_MAX);
            let gap = self.probes[group].longest_silence(from);
            let who = format!("group {group}, {:.1} s", time.as_secs_f64());
            self.took(kind.name, who, gap);
        }
    }

    /// Nobody has lost a socket while there was a majority of each group.
    pub(crate) fn judge_sockets(&mut self) {
        let lost: u32 = self.probes.iter().map(Probe::sockets_lost).sum();
        let refused: u32 = self.probes.iter().map(Probe::refused).sum();
        let quiet = self.devices.lost();
        println!(
            "sockets lost: {lost} of publishers, {quiet} of quiet devices; {refused} messages refused"
        );
        assert_eq!((lost, quiet, refused), (0, 0, 0));
    }

    /// Kills everything at once and starts it again.
    pub(crate) fn kill_fleets(&mut self) {
        for _ in 0..self.settings.fleet_kills {
            self.rest();
            let from = Instant::now();
            self.nodes.kill_all();
            self.nodes.start_all();
            let gaps = self
                .probes
                .iter()
                .map(|probe| probe.await_ack(from, WHOLE_MAX));
            let gap = gaps.max().expect("there are groups");
            self.took(FLEET_KILLED, "all nodes".to_owned(), gap);
        }
    }

    /// Ends everything; nothing is broken.
    pub(crate) fn finish(mut self) {
        println!("{}", Table(&self.failures));
        self.probes.clear();
        for load in self.loads.drain(..) {
            load.finish(self.folder.path());
        }
        self.nodes.terminate();
        if let Some(gap) = gap_of(&self.failures, LEADER_KILLED, 99) {
            let most = self.settings.gap_max;
            assert!(
                gap < most,
                "gaps after kills: p99 is {gap:.3} s, the limit {most} s"
            );
        }
    }

    /// A failure is over, but for what follows from it: waits until all is as before.
    fn took(&mut self, kind: &'static str, who: String, gap: Duration) {
        let whole = await_whole(&self.nodes);
        let failure = Failure {
            kind,
            who,
            gap,
            whole,
        };
        println!("{failure}");
        self.failures.push(failure);
    }

    fn leader(&self, group: usize) -> usize {
        let whole = self.nodes.whole(group);
        whole.unwrap_or_else(|trouble| panic!("while all is well: {trouble}"))
    }

    /// A time in which all is well.
    fn rest(&mut self) {
        self.pass(REST);
        await_whole(&self.nodes);
    }

    /// Lets time pass, in which no promise may be broken.
    fn pass(&self, time: Duration) {
        pause(time);
        self.loads.iter().for_each(Load::check);
    }
}

/// Waits until all groups have all their members and all proxies are ready; how long that took.
fn await_whole(nodes: &Nodes) -> Duration {
    let from = Instant::now();
    while let Some(trouble) = nodes.trouble() {
        assert!(
            from.elapsed() < WHOLE_MAX,
            "not whole after {WHOLE_MAX:?}: {trouble}"
        );
        pause(TICK);
    }
    from.elapsed()
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", Table(&self.failures));
        }
    }
}
