//! Memory and CPU over the run: before, steady, greatest, and what a phase made of them.

use super::observer::{Look, Seen};
use super::records::RoleUse;
use crate::outcome::{Point, Resources, RoleResources};

/// What the looks so far amount to.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Before the first device.
    before: Vec<RoleUse>,
    /// At the last look.
    latest: Vec<RoleUse>,
    /// Greatest memory by role, bytes.
    greatest: Vec<(String, u64)>,
    socket_bytes_max: u64,
    available_bytes_min: Option<u64>,
    /// The target's processes when the phase began.
    phase_base: Vec<Seen>,
    /// Whose memory has grown most since, and by which share.
    growth: Option<(String, f64)>,
}

impl Usage {
    /// A look, and its sums by role.
    pub(crate) fn look(&mut self, look: &Look, roles: Vec<RoleUse>) {
        for role in &roles {
            match self
                .greatest
                .iter_mut()
                .find(|(name, _)| *name == role.role)
            {
                None => self.greatest.push((role.role.clone(), role.rss_bytes)),
                Some((_, greatest)) => *greatest = (*greatest).max(role.rss_bytes),
            }
        }
        self.latest = roles;
        self.socket_bytes_max = self.socket_bytes_max.max(look.socket_bytes);
        let available = look.available_bytes;
        let least = self
            .available_bytes_min
            .map_or(available, |least| least.min(available));
        self.available_bytes_min = Some(least);
        self.grow(look);
    }

    /// The last look was the one before the first device.
    pub(crate) fn begin(&mut self) {
        self.before.clone_from(&self.latest);
    }

    /// A phase begins; what its processes have now is what growth counts from.
    pub(crate) fn begin_phase(&mut self, look: &Look) {
        self.phase_base.clone_from(&look.target);
        self.growth = None;
    }

    /// Greatest growth of a process of the target since the phase began, and whose.
    pub(crate) fn growth(&self) -> Option<(String, f64)> {
        self.growth.clone()
    }

    /// CPU of target and simulator so far, s.
    pub(crate) fn cpu_s(&self) -> [f64; 2] {
        let (simulator, target) = match self.latest.split_last() {
            None => return [0.0; 2],
            Some((simulator, target)) => (simulator.cpu_s, target.iter().map(|role| role.cpu_s)),
        };
        // The sum of nothing is -0.
        [target.sum::<f64>() + 0.0, simulator]
    }

    /// Memory by role at the last look.
    pub(crate) fn memory(&self) -> Vec<(String, u64)> {
        let memory = |role: &RoleUse| (role.role.clone(), role.rss_bytes);
        self.latest.iter().map(memory).collect()
    }

    /// Cores busy by role between this look and the last one, `secs` apart.
    pub(crate) fn busy(&self, roles: &[RoleUse], secs: f64) -> Vec<(String, f64)> {
        let cores = |role: &RoleUse| {
            let before = self.latest.iter().find(|known| known.role == role.role);
            let spent = role.cpu_s - before.map_or(0.0, |before| before.cpu_s);
            (role.role.clone(), spent.max(0.0) / secs)
        };
        roles.iter().map(cores).collect()
    }

    /// The whole run. `steady` are the rows of the longest steady phase, `devices` those that were connected then, and
    /// `simulator_cpu_s` what workers and controller say at the end.
    pub(crate) fn finish<'a>(
        &self,
        steady: impl Iterator<Item = &'a Point>,
        devices: u64,
        simulator_cpu_s: f64,
    ) -> Resources {
        let steady: Vec<_> = steady.collect();
        let last = self.latest.len().saturating_sub(1);
        let role = |(index, role): (usize, &RoleUse)| {
            let simulates = index == last;
            let cpu_s = if simulates {
                simulator_cpu_s
            } else {
                role.cpu_s
            };
            self.role(role, &steady, devices, cpu_s)
        };
        let roles: Vec<_> = self.latest.iter().enumerate().map(role).collect();
        let [target_cpu_s, _] = self.cpu_s();
        Resources {
            target_cpu_s: (roles.len() > 1).then_some(target_cpu_s),
            roles,
            simulator_cpu_s,
            socket_bytes_max: self.socket_bytes_max,
            available_bytes_min: self.available_bytes_min.unwrap_or_default(),
        }
    }

    fn role(&self, role: &RoleUse, steady: &[&Point], devices: u64, cpu_s: f64) -> RoleResources {
        let before = self.before.iter().find(|before| before.role == role.role);
        let before_bytes = before.map_or(0, |before| before.rss_bytes);
        let greatest = self.greatest.iter().find(|(name, _)| *name == role.role);
        let max_bytes = greatest.map_or(0, |&(_, bytes)| bytes);
        let steady_bytes = median(steady, &role.role).unwrap_or(max_bytes);
        let each = |bytes: f64| {
            if devices == 0 {
                0.0
            } else {
                bytes / devices as f64
            }
        };
        RoleResources {
            role: role.role.clone(),
            processes: role.processes,
            before_bytes,
            steady_bytes,
            max_bytes,
            per_device_bytes: each(steady_bytes as f64 - before_bytes as f64),
            per_device_whole_bytes: each(steady_bytes as f64),
            cpu_s,
        }
    }

    /// A process that was started anew meanwhile has nothing to grow from.
    fn grow(&mut self, look: &Look) {
        for (base, now) in pairs(&self.phase_base, &look.target) {
            let share = now.rss_bytes as f64 / base.rss_bytes as f64 - 1.0;
            if self.growth.as_ref().is_none_or(|(_, most)| share > *most) {
                self.growth = Some((now.name.clone(), share));
            }
        }
    }
}

fn pairs<'a>(base: &'a [Seen], now: &'a [Seen]) -> impl Iterator<Item = (&'a Seen, &'a Seen)> {
    let same =
        |a: &Seen, b: &Seen| (&a.role, &a.name, a.generation) == (&b.role, &b.name, b.generation);
    // Processes keep their places, so that this is one step for each.
    let pairs = base.iter().zip(now);
    pairs.filter(move |(base, now)| same(base, now) && base.rss_bytes > 0)
}

/// The middle one of what a role had in these rows.
fn median(rows: &[&Point], role: &str) -> Option<u64> {
    let of_role = |row: &&Point| {
        let found = row.memory.iter().find(|(name, _)| name == role);
        found.map(|&(_, bytes)| bytes)
    };
    let mut bytes: Vec<_> = rows.iter().filter_map(of_role).collect();
    bytes.sort_unstable();
    bytes.get(bytes.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, rss_bytes: u64, generation: u32) -> Seen {
        Seen {
            role: "proxies".to_owned(),
            name: name.to_owned(),
            rss_bytes,
            cpu_s: 0.0,
            generation,
        }
    }

    fn look(proxies: [(u64, u32); 2]) -> Look {
        let [one, two] = proxies;
        Look {
            target: vec![seen("proxy-1", one.0, one.1), seen("proxy-2", two.0, two.1)],
            socket_bytes: one.0,
            available_bytes: 1_000 - one.0,
            ..Look::default()
        }
    }

    fn roles(proxies: u64, simulator: u64, cpu_s: f64) -> Vec<RoleUse> {
        let role = |role: &str, rss_bytes| RoleUse {
            role: role.to_owned(),
            processes: 2,
            rss_bytes,
            cpu_s,
        };
        vec![role("proxies", proxies), role("simulator", simulator)]
    }

    fn row(proxies: u64) -> Point {
        Point {
            memory: vec![("proxies".to_owned(), proxies)],
            ..Point::default()
        }
    }

    #[test]
    fn growth_is_that_of_the_process_that_grew_most_in_the_phase() {
        let mut usage = Usage::default();
        let base = look([(100, 0), (200, 0)]);
        usage.look(&base, roles(300, 0, 0.0));
        assert_eq!(usage.growth(), None, "no phase yet");
        usage.begin_phase(&base);
        usage.look(&look([(110, 0), (210, 0)]), roles(320, 0, 0.0));
        usage.look(&look([(105, 0), (300, 1)]), roles(405, 0, 0.0));
        let (name, share) = usage.growth().expect("a phase is on");
        assert_eq!(name, "proxy-1", "the other one was started anew");
        assert!((share - 0.1).abs() < 1e-9);
        usage.begin_phase(&look([(105, 0), (300, 1)]));
        assert_eq!(usage.growth(), None);
    }

    #[test]
    fn memory_is_before_steady_and_at_most() {
        let mut usage = Usage::default();
        usage.look(&look([(100, 0), (0, 0)]), roles(100, 50, 1.0));
        usage.begin();
        usage.look(&look([(900, 0), (0, 0)]), roles(900, 60, 3.0));
        usage.look(&look([(500, 0), (0, 0)]), roles(500, 70, 4.0));
        let rows = [row(480), row(520), row(500)];
        let resources = usage.finish(rows.iter(), 40, 4.5);
        let proxies = &resources.roles[0];
        let bytes = (
            proxies.before_bytes,
            proxies.steady_bytes,
            proxies.max_bytes,
        );
        assert_eq!(bytes, (100, 500, 900));
        assert!((proxies.per_device_bytes - 10.0).abs() < 1e-9);
        assert!((proxies.per_device_whole_bytes - 12.5).abs() < 1e-9);
        let simulator = &resources.roles[1];
        assert_eq!(simulator.steady_bytes, 70, "no row has it: the greatest");
        assert!((simulator.cpu_s - 4.5).abs() < 1e-9);
        assert_eq!(resources.target_cpu_s, Some(4.0));
        assert_eq!(
            (resources.socket_bytes_max, resources.available_bytes_min),
            (900, 100)
        );
    }

    #[test]
    fn without_known_processes_the_target_has_no_figure() {
        let mut usage = Usage::default();
        usage.look(&Look::default(), roles(0, 9, 2.0).split_off(1));
        let resources = usage.finish([].into_iter(), 0, 2.0);
        assert_eq!(resources.target_cpu_s, None);
        assert_eq!(resources.roles.len(), 1);
    }

    #[test]
    fn busy_cores_are_counted_between_looks() {
        let mut usage = Usage::default();
        usage.look(&Look::default(), roles(1, 1, 2.0));
        let busy = usage.busy(&roles(1, 1, 3.0), 2.0);
        assert_eq!(busy[0], ("proxies".to_owned(), 0.5));
    }
}
