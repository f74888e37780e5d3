//! The fleet, the load on it, and what is cut when.

use std::time::{Duration, Instant};

use crate::common::Dice;
use crate::common::tools::pause;
use crate::lease;
use crate::load::{Gaps, Load};
use crate::net::Host;
use crate::nodes::{GROUPS, Nodes, PROXIES};
use crate::settings::Settings;
use crate::table::{Cut, Table};

/// How long a cut lasts: well longer than the 2 s after which a silent link counts as lost, and to beyond the lease.
const CUT_S: std::ops::RangeInclusive<u64> = 5..=20;
/// After the end of a cut all links and Redis are there again within this time: a link tries again every 2 s at
/// most, and gives a try up after as long.
const HEALED_MAX: Duration = Duration::from_secs(15);
/// Every device is served as before within this time: a device has been told by then that its session is gone
/// from its proxy, or has waited 5 s in vain for the group, and has connected again.
const SERVED_MAX: Duration = Duration::from_secs(20);
/// While no device waits longer than this, all is well.
const SERVED_WITHIN: Duration = Duration::from_millis(500);
/// Between two cuts all is well for so long.
const PAUSE: Duration = Duration::from_secs(2);
/// Between two looks.
const TICK: Duration = Duration::from_millis(100);

/// Whom a proxy is cut from.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Group(usize),
    Redis,
}

/// What is lost between a proxy and its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Both,
    FromProxy,
    ToProxy,
}

/// All that runs.
pub(crate) struct Scene {
    settings: Settings,
    pub(crate) nodes: Nodes,
    /// At `QoS` 1, and at `QoS` 2.
    loads: Vec<Load>,
    dice: Dice,
    cuts: Vec<Cut>,
    folder: tempfile::TempDir,
}

/// Packets between two hosts are lost from its making until [`Lossy::heal`].
pub(crate) struct Lossy {
    proxy: Host,
    peer: Host,
    since: Instant,
    lost_before: u64,
}

impl Scene {
    /// Starts everything, and waits until messages flow.
    pub(crate) fn start(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nodes = Nodes::start(folder.path());
        let addresses: Vec<_> = nodes.proxies.iter().map(|p| p.mqtt().to_string()).collect();
        let start = |qos| {
            let Settings { pairs, rate, .. } = settings;
            Load::start(folder.path(), &addresses.join(","), qos, pairs, rate)
        };
        let loads = vec![start(1), start(2)];
        let mut scene = Self {
            dice: Dice::seeded(settings.seed),
            settings,
            nodes,
            loads,
            cuts: Vec::new(),
            folder,
        };
        scene.await_well(Instant::now());
        scene
    }

    /// Makes each kind of cut once in each round, and waits each time until all is well again.
    pub(crate) fn cut_all_in_turn(&mut self) {
        let rounds = self.settings.rounds;
        for round in 1..=rounds {
            println!("round {round}/{rounds}");
            for way in [Way::Both, Way::FromProxy, Way::ToProxy] {
                let group = self.roll(GROUPS);
                self.cut(Peer::Group(group), way);
                self.cut(Peer::Redis, way);
            }
            lease::run(self, round);
        }
    }

    fn cut(&mut self, peer: Peer, way: Way) {
        let proxy = self.roll(PROXIES);
        let (kind, peer) = match peer {
            Peer::Group(group) => ("group", &self.nodes.groups[group].host),
            Peer::Redis => ("redis", &self.nodes.redis.host),
        };
        let kind = match way {
            Way::Both => format!("proxy <-x-> {kind}"),
            Way::FromProxy => format!("proxy --x-> {kind}"),
            Way::ToProxy => format!("proxy <-x-- {kind}"),
        };
        let (proxy, peer) = (self.nodes.proxies[proxy].host.clone(), peer.clone());
        let millis = 1_000 * (CUT_S.end() - CUT_S.start());
        let time = 1_000 * CUT_S.start() + self.dice.below(millis + 1);
        self.rest();
        let lossy = Lossy::begin(proxy, peer, way);
        self.pass(Duration::from_millis(time));
        let trouble = self.nodes.trouble();
        assert!(trouble.is_some(), "{kind}: nobody notices that it is cut");
        self.heal(lossy, kind);
    }

    /// A time in which all is well.
    pub(crate) fn rest(&mut self) {
        self.pass(PAUSE);
    }

    /// Ends a cut, and waits until all is well.
    pub(crate) fn heal(&mut self, lossy: Lossy, kind: String) {
        let (proxy, peer) = (lossy.proxy.name.clone(), lossy.peer.name.clone());
        let (lasted, packets_lost) = lossy.heal();
        assert!(packets_lost > 0, "{kind}: nothing was lost");
        let (healed, served, gap) = self.await_well(Instant::now());
        let cut = Cut {
            kind,
            proxy,
            peer,
            lasted,
            packets_lost,
            gap,
            healed,
            served,
        };
        println!("{cut}");
        self.cuts.push(cut);
    }

    /// Waits until all links are up and all devices served: how long each took since `from`, and the longest time that
    /// one device was without service since the last call.
    fn await_well(&mut self, from: Instant) -> (Duration, Duration, Duration) {
        let mut trouble = self.nodes.trouble();
        while let Some(what) = trouble {
            assert!(from.elapsed() < HEALED_MAX, "not healed: {what}");
            pause(TICK);
            trouble = self.nodes.trouble();
        }
        let healed = from.elapsed();
        let mut longest = Duration::ZERO;
        for load in &mut self.loads {
            // These may be about the time before; the next ones are not.
            longest = longest.max(load.gaps().map_or(Duration::ZERO, |gaps| gaps.longest));
        }
        let mut served = [false, false];
        while served != [true, true] {
            pause(TICK);
            for (load, served) in self.loads.iter_mut().zip(&mut served) {
                if let Some(Gaps {
                    longest: gap,
                    newest,
                }) = load.gaps()
                {
                    longest = longest.max(gap);
                    *served = newest <= SERVED_WITHIN;
                }
            }
            assert!(
                from.elapsed() < SERVED_MAX,
                "not served as before: {longest:?}"
            );
        }
        (healed, from.elapsed(), longest)
    }

    /// Ends everything; nothing is broken.
    pub(crate) fn finish(mut self) {
        println!("{}", Table(&self.cuts));
        for load in self.loads.drain(..) {
            load.finish(self.folder.path());
        }
        for node in self.nodes.proxies.iter_mut().chain(&mut self.nodes.groups) {
            node.terminate();
        }
    }

    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.dice.below(below as u64) as usize
    }

    /// Lets time pass, in which no promise may be broken.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            pause(left.min(Duration::from_secs(1)));
            for load in &mut self.loads {
                load.check();
            }
        }
    }
}

impl Lossy {
    /// From now on packets are lost.
    pub(crate) fn begin(proxy: Host, peer: Host, way: Way) -> Self {
        let lost_before = proxy.lost() + peer.lost();
        if way != Way::ToProxy {
            peer.lose_from(&proxy);
        }
        if way != Way::FromProxy {
            proxy.lose_from(&peer);
        }
        Self {
            proxy,
            peer,
            since: Instant::now(),
            lost_before,
        }
    }

    /// How long it lasts already.
    pub(crate) fn lasts(&self) -> Duration {
        self.since.elapsed()
    }

    /// Nothing is lost any more. How long it lasted, and how many packets were lost.
    fn heal(self) -> (Duration, u64) {
        self.proxy.lose_nothing();
        self.peer.lose_nothing();
        let lost = self.proxy.lost() + self.peer.lost();
        (self.since.elapsed(), lost - self.lost_before)
    }
}
