//! What all devices of a worker have in common: the scenario, made ready.

use std::net::SocketAddr;
use std::ops::Range;

use crate::Error;
use crate::account::{self, Promise};
use crate::control::message::Assignment;
use crate::scenario::{
    NextAddress, PayloadSize, Population, Protocol, Reconnect, Scenario, Telemetry,
};
use crate::simulate::devices::chance;
use crate::simulate::devices::wheel::TICK_US;
use crate::simulate::dice::payload_len;
use crate::simulate::names;
use crate::wire::Version;

/// The scenario as one worker sees it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) scenario: Scenario,
    pub(super) run: u32,
    pub(super) kinds: Vec<Kind>,
    /// `QoS` at which commands have to arrive, in their order.
    pub(super) command_qos: Vec<u8>,
    /// Devices of this worker.
    pub(super) share: Range<u32>,
    /// Where the grid of this worker's timers begins: processes of one machine should not all wake at once.
    pub(super) phase_us: u64,
    targets: Vec<SocketAddr>,
    tls_targets: Vec<SocketAddr>,
}

/// What follows from a population.
#[derive(Debug)]
pub(super) struct Kind {
    /// Who is owed its telemetry.
    pub(super) promise: Promise,
    /// Somebody sends commands to it.
    pub(super) commanded: bool,
}

impl Plan {
    /// From the assignment.
    pub(super) fn new(assignment: Assignment) -> Self {
        let scenario = assignment.scenario;
        let kind = |(index, population)| Kind {
            promise: account::of_telemetry(&scenario, population),
            commanded: scenario
                .commands
                .iter()
                .any(|commands| commands.population == index),
        };
        let kinds = scenario.populations.iter().enumerate().map(kind).collect();
        let commands = scenario.commands.iter();
        let command_qos = commands.map(|one| account::of_commands(&scenario, one).qos);
        Self {
            kinds,
            command_qos: command_qos.collect(),
            run: assignment.run,
            phase_us: u64::from(assignment.worker) * TICK_US / assignment.shares.len() as u64,
            share: assignment.shares[usize::from(assignment.worker)].clone(),
            targets: assignment.targets,
            tls_targets: assignment.tls_targets,
            scenario,
        }
    }

    /// Whether there is somewhere to connect to. `trust`: it is known whom to trust there.
    pub(super) fn check(&self, trust: bool) -> Result<(), Error> {
        for population in &self.scenario.populations {
            let name = &population.name;
            let with = if population.tls { " with TLS" } else { "" };
            if self.targets(population).is_empty() {
                let why = format!("population \"{name}\" has no target{with}");
                return Err(Error::Arguments(why));
            }
            if population.tls && !trust {
                let why = format!("population \"{name}\" has TLS, but nothing says whom to trust");
                return Err(Error::Arguments(why));
            }
        }
        Ok(())
    }

    /// How many devices this worker has.
    pub(super) fn len(&self) -> usize {
        self.share.len()
    }

    /// Number of device `index` of this worker.
    pub(super) fn device(&self, index: usize) -> u32 {
        self.share.start + index as u32
    }

    /// Its population, and what follows from it.
    #[inline]
    pub(super) fn population(&self, device: u32) -> (&Population, &Kind) {
        let index = self.scenario.population_of(device);
        (&self.scenario.populations[index], &self.kinds[index])
    }

    /// Where devices of a population connect.
    pub(super) fn targets(&self, population: &Population) -> &[SocketAddr] {
        if population.tls {
            &self.tls_targets
        } else {
            &self.targets
        }
    }

    /// Which of its targets a device tries first.
    pub(super) fn first_address(&self, device: u32) -> u16 {
        let (population, _) = self.population(device);
        let count = self.targets(population).len().max(1);
        (device as usize % count) as u16
    }

    /// Which one it tries after a loss.
    pub(super) fn next_address(&self, device: u32, address: u16, dice: u64) -> u16 {
        let (population, _) = self.population(device);
        let count = self.targets(population).len().max(1) as u64;
        let next = match population.reconnect.address {
            NextAddress::Same => u64::from(address),
            NextAddress::Next => u64::from(address) + 1,
            NextAddress::Random => dice,
        };
        (next % count) as u16
    }

    /// The time on the grid of the timers that is nearest: what is due then can leave then.
    pub(super) fn on_grid(&self, us: u64) -> u64 {
        let ticks = (us.saturating_sub(self.phase_us) + TICK_US / 2) / TICK_US;
        ticks * TICK_US + self.phase_us
    }

    /// When the next message is due: on the grid, unless it is too coarse for the interval.
    pub(super) fn after(&self, due_us: u64, interval_us: u64) -> u64 {
        let next_us = due_us + interval_us;
        if interval_us < 2 * TICK_US {
            next_us
        } else {
            self.on_grid(next_us)
        }
    }

    /// Writes its client id.
    pub(super) fn client_id(&self, device: u32, into: &mut String) {
        names::client_id(&self.scenario, self.run, device, into);
    }

    /// Payload bytes of a message of its telemetry: always the same for the same message.
    pub(super) fn payload_len(&self, device: u32, seq: u32, size: PayloadSize) -> usize {
        let dice = chance::draw(self.scenario.seed, device, PAYLOADS | u64::from(seq));
        payload_len(size, dice)
    }
}

/// Keeps chances of payloads apart from all others.
const PAYLOADS: u64 = 1 << 63;

/// Version on the wire.
pub(super) fn version(population: &Population) -> Version {
    match population.protocol {
        Protocol::V311 => Version::V4,
        Protocol::V5 => Version::V5,
    }
}

/// Whether sessions outlive their connections.
pub(super) fn is_persistent(population: &Population) -> bool {
    let lasts = population.protocol == Protocol::V311 || population.session_expiry_s > 0;
    !population.clean && lasts
}

/// A time between two messages, µs.
pub(super) fn interval_us(telemetry: &Telemetry, dice: u64) -> u64 {
    let factor = 1.0 + telemetry.jitter * (2.0 * chance::share(dice) - 1.0);
    let us = telemetry.interval_ms as f64 * 1_000.0 * factor;
    #[allow(clippy::cast_sign_loss, reason = "the factor is 0 to 2")]
    let us = us as u64;
    us.max(1_000)
}

/// A wait before the next try, after so many failures in a row, µs.
pub(super) fn wait_us(reconnect: &Reconnect, failures: u8, dice: u64) -> u64 {
    let doubled = reconnect.first_ms.saturating_mul(1 << failures.min(30));
    let longest_us = doubled.min(reconnect.longest_ms) * 1_000;
    dice % (longest_us + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::devices::fixture;

    #[test]
    fn waits_have_full_jitter_and_double_up_to_the_longest() {
        let reconnect = Reconnect {
            first_ms: 100,
            longest_ms: 1_500,
            address: NextAddress::Same,
        };
        for (failures, longest_us) in [(0, 100_000), (1, 200_000), (3, 800_000), (9, 1_500_000)] {
            let waits = (0..5_000).map(|n| wait_us(&reconnect, failures, chance::draw(1, 2, n)));
            let (least, most) = waits.fold((u64::MAX, 0), |(a, b), w| (a.min(w), b.max(w)));
            assert!(least < longest_us / 100 && most > longest_us / 100 * 99 && most <= longest_us);
        }
    }

    #[test]
    fn payloads_have_the_sizes_asked_for_and_keep_them() {
        let plan = fixture::plan(|_| {});
        let size = PayloadSize::Even(100, 199);
        let len = |device, seq| plan.payload_len(device, seq, size);
        let lens = |device| -> Vec<usize> { (0..20_000).map(|seq| len(device, seq)).collect() };
        let (some, others) = (lens(3), lens(4));
        assert_eq!(
            (some.iter().min(), some.iter().max()),
            (Some(&100), Some(&199))
        );
        assert!(some == lens(3) && some != others);
    }

    #[test]
    fn intervals_lie_evenly_around_their_mean() {
        let mut plan = fixture::plan(|_| {});
        let telemetry = plan.scenario.populations[0]
            .telemetry
            .as_mut()
            .expect("some");
        (telemetry.interval_ms, telemetry.jitter) = (1_000, 0.2);
        let one = |n| interval_us(telemetry, chance::draw(9, 1, n));
        let drawn: Vec<u64> = (0..20_000).map(one).collect();
        assert!(drawn.iter().all(|us| (800_000..=1_200_000).contains(us)));
        let mean = drawn.iter().sum::<u64>() / drawn.len() as u64;
        assert!((995_000..1_005_000).contains(&mean), "{mean}");
    }

    #[test]
    fn the_grid_keeps_the_mean_of_intervals() {
        let plan = fixture::plan(|_| {});
        for interval_us in [1_000, 7_777, 20_001, 123_456] {
            let mut at_us = 5_000_000;
            for n in 0..2_000 {
                let jitter = chance::draw(2, 3, n) % (interval_us / 2 + 1);
                let next_us = plan.after(at_us, interval_us * 3 / 4 + jitter);
                assert!(next_us > at_us);
                at_us = next_us;
            }
            let mean = (at_us - 5_000_000) / 2_000;
            assert!(
                mean.abs_diff(interval_us) <= interval_us / 30,
                "{mean} for {interval_us}"
            );
        }
    }

    #[test]
    fn addresses_follow_the_rule() {
        let mut plan = fixture::plan(|_| {});
        assert_eq!((plan.first_address(5), plan.first_address(6)), (2, 0));
        let mut next = |rule| {
            plan.scenario.populations[0].reconnect.address = rule;
            plan.next_address(5, 2, 7)
        };
        assert_eq!(next(NextAddress::Same), 2);
        assert_eq!(next(NextAddress::Next), 0);
        assert_eq!(next(NextAddress::Random), 1);
    }
}
