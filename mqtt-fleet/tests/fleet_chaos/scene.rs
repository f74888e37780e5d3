//! The fleet with HAProxy in front of it, the load on it, and who is killed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::census::Census;
use crate::common::Dice;
use crate::common::fleet::{Fleet, FleetNode};
use crate::common::load::Load;
use crate::settings::{Kind, Settings};
use crate::table::{Kill, Table};
use crate::travels::Travels;

/// After a kill all connections are served again within this time, or the run fails: the longest wait of a device
/// between two tries, a lease of a proxy, and a slow machine's part.
const SERVED_MAX: Duration = Duration::from_secs(40);
/// Counts agree within this time: errands between groups go out again every few seconds.
const AGREED_MAX: Duration = Duration::from_secs(30);
/// Orders of the addresses in the list that devices go through.
const ORDERS: usize = 6;
/// The load's own limit; it is told when to stop.
const LOAD_SECS: u32 = 900_000;

/// All that runs. When a test fails its logs are kept.
pub(crate) struct Scene {
    settings: Settings,
    fleet: Fleet,
    /// At `QoS` 1, and at `QoS` 2.
    loads: [Load; 2],
    dice: Dice,
    kills: Vec<Kill>,
    travels: Travels,
}

impl Scene {
    /// Starts everything, and waits until messages flow.
    pub(crate) fn start(settings: Settings) -> Self {
        let (groups, proxies) = (settings.groups.to_string(), settings.proxies.to_string());
        let size = ["--proxies", &proxies, "--groups", &groups];
        let rest = [
            "--respawn",
            "--haproxy",
            "--durability",
            &settings.durability,
        ];
        let tls: &[&str] = if settings.tls { &["--tls"] } else { &[] };
        let fleet = Fleet::start_with(&[&size[..], &rest, tls].concat());
        let mut dice = Dice::seeded(settings.seed);
        let loads = [1, 2].map(|qos| {
            let addresses = addresses(&settings, &fleet.nodes(), &mut dice);
            Load::start(&load(&settings, &fleet, &addresses, qos))
        });
        let mut scene = Self {
            dice,
            settings,
            fleet,
            loads,
            kills: Vec::new(),
            travels: Travels::default(),
        };
        for load in &mut scene.loads {
            load.await_measuring();
        }
        scene
    }

    /// Kills one of each kind in each round, and waits each time until all is well again.
    pub(crate) fn kill_all_in_turn(&mut self) {
        let pause = Duration::from_secs_f64(self.settings.secs_between);
        let rounds = self.settings.rounds;
        for round in 1..=rounds {
            for kind in self.settings.kill.clone() {
                self.loads[0].watch(pause);
                let kill = self.kill(kind, round % 2 == 1);
                println!("round {round:>3}/{rounds}  {kill}");
                self.kills.push(kill);
            }
        }
    }

    fn kill(&mut self, kind: Kind, wipe: bool) -> Kill {
        for load in &mut self.loads {
            load.catch_up();
        }
        let wiped = kind == Kind::Redis && wipe;
        let name = self.pick(kind);
        let from = Instant::now();
        let killed = self.fleet.kill9(&name);
        self.fleet.await_back(&killed);
        let back = from.elapsed();
        if wiped {
            assert_eq!(self.fleet.redis(&["FLUSHALL"]).trim(), "OK");
        }
        let gaps = self.loads.each_mut();
        let gaps = gaps.map(|load| load.await_served(SERVED_MAX));
        self.travels.look(&self.fleet);
        Kill {
            kind,
            name,
            back,
            gap: gaps.into_iter().max().unwrap_or_default(),
            wiped,
        }
    }

    /// One of the nodes of this kind, at random.
    fn pick(&mut self, kind: Kind) -> String {
        let nodes = self.fleet.nodes();
        let of_kind: Vec<_> = nodes.iter().filter(|n| n.role == kind.name()).collect();
        let chosen = self.dice.below(of_kind.len() as u64) as usize;
        of_kind[chosen].name.clone()
    }

    /// Ends the load; nothing is broken, and nothing is left behind.
    pub(crate) fn finish(mut self) {
        let sessions = u64::from(self.settings.pairs) * 2 * self.loads.len() as u64;
        // Wiped records too: those of connected clients are written again, those of others when they come back.
        self.await_census("while messages flow", |census| {
            census.sessions == sessions && census.records == sessions
        });
        for load in &self.loads {
            load.stop_publishing();
        }
        let ends = self.loads.each_mut().map(Load::finish_quietly);
        println!("{}", Table(&self.kills));
        println!("{}", self.travels);
        for end in &ends {
            end.assert_clean();
        }
        if self.settings.proxies > 1 {
            self.travels.assert_some();
        }
        // Their clients have ended all sessions.
        self.await_census("after the end", |census| *census == Census::EMPTY);
        let status = self.fleet.launcher.terminate();
        assert!(status.success(), "the fleet ended with {status}");
    }

    /// Waits until the counts are as wanted.
    fn await_census(&mut self, when: &str, wanted: impl Fn(&Census) -> bool) {
        let deadline = Instant::now() + AGREED_MAX;
        loop {
            let census = Census::take(&self.fleet);
            if wanted(&census) {
                println!("{when}: {census}");
                return;
            }
            assert!(Instant::now() < deadline, "{when}: {census}");
        }
    }

    /// Writes what everybody has said.
    fn keep_logs(&self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let output = self.fleet.launcher.output();
        fs::write(folder.join("fleet.log"), &output)?;
        for node in self.fleet.names() {
            let of_node = |line: &&str| {
                let name = line.split_once(" | ").map(|(name, _)| name.trim_end());
                name == Some(node.as_str())
            };
            let lines: Vec<_> = output.lines().filter(of_node).collect();
            fs::write(folder.join(format!("{node}.log")), lines.join("\n") + "\n")?;
        }
        for (load, name) in self.loads.iter().zip(["qos1.log", "qos2.log"]) {
            fs::write(folder.join(name), load.log())?;
        }
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        println!("{}", Table(&self.kills));
        let Some(folder) = &self.settings.out else {
            return;
        };
        match self.keep_logs(folder) {
            Ok(()) => println!("the logs of all nodes are in {}", folder.display()),
            Err(error) => println!("no logs in {}: {error}", folder.display()),
        }
    }
}

/// Where devices connect, in the order in which each of them goes from one address to the next: `HAProxy`; or all proxies
/// and `HAProxy`, several times in different orders. In one order all devices would meet at one place after some kills.
fn addresses(settings: &Settings, nodes: &[FleetNode], dice: &mut Dice) -> Vec<SocketAddr> {
    let what = if settings.tls { "mqtts" } else { "mqtt" };
    let is_known =
        |node: &&FleetNode| node.role == "haproxy" || (settings.direct && node.role == "proxy");
    let known = nodes.iter().filter(is_known);
    let mut each: Vec<_> = known.map(|node| node.addresses[what]).collect();
    if each.len() == 1 {
        return each;
    }
    let mut all = Vec::new();
    for _ in 0..ORDERS {
        for n in (1..each.len()).rev() {
            each.swap(n, dice.below(n as u64 + 1) as usize);
        }
        if all.last() == each.first() {
            each.reverse();
        }
        all.extend_from_slice(&each);
    }
    all
}

/// The words of a load.
fn load(settings: &Settings, fleet: &Fleet, addresses: &[SocketAddr], qos: u8) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let Settings { pairs, rate, .. } = settings;
    let churn = f64::from(*pairs) / 10.0;
    let ca = fleet.folder.join("certs/ca.pem");
    let tls = if settings.tls {
        format!(" --tls-ca {}", ca.display())
    } else {
        String::new()
    };
    format!(
        "endure --addr {} --qos {qos} --pairs {pairs} --rate {rate} --secs {LOAD_SECS} --wildcard --filters 3 --churn \
         {churn} --away 0.5{tls}",
        addresses.join(",")
    )
}
