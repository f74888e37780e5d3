//! What a seed makes: how large the world is, who is in it, and what may go wrong there.

use crate::redis::RedisPlan;
use crate::rng::Rng;
use protocol::Version;

const SECOND: u64 = 1_000_000;

/// A world before anything has happened in it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Members that each group begins with.
    pub(crate) groups: Vec<usize>,
    /// Brokers that may join each group. Of groups with some, members also leave, and lose their disks.
    pub(crate) spares: Vec<usize>,
    pub(crate) proxies: usize,
    pub(crate) devices: Vec<DevicePlan>,
    /// For so long things happen and go wrong, in microseconds.
    pub(crate) active_us: u64,
    /// From one end of a connection to the other, in microseconds.
    pub(crate) latency_us: (u64, u64),
    /// A sync of a disk, in microseconds.
    pub(crate) sync_us: (u64, u64),
    /// How often each kind of fault comes, in comparison.
    pub(crate) weights: Weights,
    /// Between two faults, in microseconds.
    pub(crate) fault_us: (u64, u64),
    /// Members crash while their groups come into being; if members also stop as planned, some stop then.
    pub(crate) hard_births: bool,
    /// Nodes may be away from each other for longer than a proxy's lease.
    pub(crate) long_outages: bool,
    /// Wall clocks are set.
    pub(crate) clock_jumps: bool,
    /// Groups of one member are those of a broker that stands alone, without openraft.
    pub(crate) alone: bool,
    /// Each member writes a snapshot whenever it has applied so many entries more.
    pub(crate) snapshot_entries: Option<u64>,
    /// So many entries stay behind a snapshot.
    pub(crate) kept_entries: u64,
    /// So many of a thousand calls between members are lost, and as many answers.
    pub(crate) calls_lost: u64,
    /// So many of a thousand calls come twice.
    pub(crate) calls_doubled: u64,
    pub(crate) redis: RedisPlan,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct DevicePlan {
    pub(crate) version: Version,
    /// `None`: its sessions end with their connections. In seconds; `u32::MAX`: never.
    pub(crate) expiry_s: Option<u32>,
    pub(crate) has_will: bool,
    /// Connects again without closing the connection that it has.
    pub(crate) takes_over: bool,
    /// The longest it takes to answer a delivery, in microseconds.
    pub(crate) answer_us: u64,
}

/// See [`crate::faults::Fault`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weights {
    pub(crate) cut: u64,
    pub(crate) cut_device: u64,
    pub(crate) partition: u64,
    pub(crate) isolate: u64,
    pub(crate) crash: u64,
    pub(crate) kill_proxy: u64,
    pub(crate) slow_disk: u64,
    pub(crate) pause: u64,
    pub(crate) clock: u64,
    pub(crate) slow_net: u64,
    pub(crate) crash_all: u64,
    pub(crate) crash_leader: u64,
    pub(crate) crash_group: u64,
    pub(crate) crash_majority: u64,
    pub(crate) split: u64,
    /// Members stop as planned: any, one that leads others, all of a group, and all of a group one after the other.
    pub(crate) stop: u64,
    pub(crate) stop_leader: u64,
    pub(crate) stop_group: u64,
    pub(crate) roll: u64,
}

impl Plan {
    pub(crate) fn of_seed(rng: &mut Rng) -> Self {
        // Chance of its own: worlds with none of this stay what they are.
        let mut rare = Rng::new(rng.clone().next());
        let mut plan = Self::usual(rng);
        if rare.chance(250) {
            plan.let_members_change(&mut rare);
        }
        if rare.chance(250) {
            plan.need_snapshots(&mut rare);
        }
        if rare.chance(350) {
            plan.stop_members(&mut rare);
        }
        plan
    }

    /// Groups are larger, and more brokers may join them.
    fn let_members_change(&mut self, rng: &mut Rng) {
        for (members, spares) in self.groups.iter_mut().zip(&mut self.spares) {
            if *members > 1 && rng.chance(200) {
                *members = 5;
            }
            let is_alone = self.alone && *members == 1;
            *spares = if is_alone { 0 } else { rng.below(3) };
        }
    }

    /// Members that lag need snapshots of others soon.
    fn need_snapshots(&mut self, rng: &mut Rng) {
        self.snapshot_entries = Some(rng.range(5, 10));
        self.kept_entries = rng.range(0, 5);
        self.calls_lost = rng.range(5, 150);
    }

    /// Members stop as planned, beside what else goes wrong, or nothing else does.
    fn stop_members(&mut self, rng: &mut Rng) {
        if rng.chance(250) {
            self.weights = Weights::default();
            self.calls_lost = 0;
        }
        self.weights.stop = rng.range(1, 8);
        self.weights.stop_leader = rng.range(0, 12);
        self.weights.stop_group = rng.range(0, 2);
        self.weights.roll = rng.range(0, 8);
    }

    /// Brokers of each group, those that may join it included.
    pub(crate) fn brokers(&self) -> Vec<usize> {
        let groups = self.groups.iter().zip(&self.spares);
        groups.map(|(members, spares)| members + spares).collect()
    }

    fn usual(rng: &mut Rng) -> Self {
        let groups = 1 + rng.below(3);
        let is_replicated = rng.chance(700);
        let mut members = vec![1; groups];
        for members in &mut members {
            if is_replicated && rng.chance(600) {
                *members = 3;
            }
        }
        let proxies = 1 + rng.below(3);
        let devices = 2 + rng.below(4);
        let fast_net = rng.chance(700);
        let fast_disk = rng.chance(600);
        let calm = rng.chance(50);
        let gap_us = *rng.pick(&[SECOND / 2, SECOND, 2 * SECOND, 4 * SECOND]);
        Self {
            spares: vec![0; groups],
            groups: members,
            proxies,
            devices: (0..devices).map(|_| DevicePlan::any(rng)).collect(),
            active_us: rng.range(8, 30) * SECOND,
            latency_us: if fast_net {
                (100, 3_000)
            } else {
                (1_000, 80_000)
            },
            sync_us: if fast_disk {
                (50, 4_000)
            } else {
                (2_000, 300_000)
            },
            weights: Weights::any(rng),
            fault_us: if calm {
                (SECOND * 1_000, SECOND * 1_001)
            } else {
                (gap_us / 4, gap_us * 2)
            },
            hard_births: rng.chance(300),
            long_outages: rng.chance(150),
            clock_jumps: rng.chance(200),
            alone: rng.chance(700),
            snapshot_entries: *rng.pick(&[None, Some(10), Some(30), Some(100)]),
            kept_entries: *rng.pick(&[0, 5, 30]),
            calls_lost: *rng.pick(&[0, 0, 5, 50]),
            calls_doubled: *rng.pick(&[0, 0, 20]),
            redis: RedisPlan::any(rng),
        }
    }
}

impl DevicePlan {
    fn any(rng: &mut Rng) -> Self {
        let version = *rng.pick(&[Version::V5, Version::V5, Version::V311]);
        let expiries: &[Option<u32>] = match version {
            Version::V5 => &[None, Some(u32::MAX), Some(u32::MAX), Some(25)],
            // By the configuration of the proxy, days.
            _ => &[None, Some(u32::MAX), Some(u32::MAX)],
        };
        Self {
            version,
            expiry_s: *rng.pick(expiries),
            has_will: rng.chance(400),
            takes_over: rng.chance(500),
            answer_us: *rng.pick(&[1_000, 50_000, 1_500_000]),
        }
    }
}

impl Weights {
    /// Each world has its own mixture, so that some have much of one thing.
    fn any(rng: &mut Rng) -> Self {
        let mut weight = |usual: u64| match rng.below(4) {
            0 => 0,
            1 => usual * 4,
            _ => usual,
        };
        Self {
            cut: weight(10) + 1,
            cut_device: weight(6),
            partition: weight(8),
            isolate: weight(4),
            crash: weight(8),
            kill_proxy: weight(4),
            slow_disk: weight(4),
            pause: weight(3),
            clock: weight(3),
            slow_net: weight(4),
            crash_all: weight(1),
            crash_leader: weight(6),
            crash_group: weight(1),
            crash_majority: weight(2),
            split: weight(6),
            ..Self::default()
        }
    }
}
