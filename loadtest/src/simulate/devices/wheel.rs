//! When each device is to be looked at: one timer each, on a grid of [`TICK_US`].
//!
//! A hashed wheel: each slot has a list of the devices of its ticks, threaded through one array. Setting, moving and
//! taking back cost the same few steps however many there are, and nothing is allocated.

use crate::limits::SIM_WHEEL_SLOTS;

/// Width of the grid, µs.
pub(super) const TICK_US: u64 = 10_000;

const NOBODY: u32 = u32::MAX;

/// Timers of the devices of a worker, by their number within it.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Where the grid begins.
    phase_us: u64,
    /// Everything up to this tick has been taken.
    passed: u64,
    /// First of each slot.
    heads: Box<[u32]>,
    /// One bit for each slot: it is not empty.
    filled: Box<[u64]>,
    links: Box<[Link]>,
    armed: usize,
}

/// 16 bytes for each device.
#[derive(Debug, Clone, Copy)]
struct Link {
    next: u32,
    before: u32,
    /// 0: not armed.
    tick: u64,
}

impl Wheel {
    /// Timers of so many devices, none armed. `phase_us` is below [`TICK_US`].
    pub(super) fn new(devices: usize, phase_us: u64) -> Self {
        let unarmed = Link {
            next: NOBODY,
            before: NOBODY,
            tick: 0,
        };
        Self {
            phase_us,
            passed: 0,
            heads: vec![NOBODY; SIM_WHEEL_SLOTS].into(),
            filled: vec![0; SIM_WHEEL_SLOTS / 64].into(),
            links: vec![unarmed; devices].into(),
            armed: 0,
        }
    }

    /// Arms a timer, whatever it was before; `None` takes it back. What has passed already is due at the next tick.
    pub(super) fn set(&mut self, index: usize, at_us: Option<u64>) {
        let tick = at_us.map_or(0, |us| self.tick(us).max(self.passed + 1));
        if self.links[index].tick == tick {
            return;
        }
        if self.links[index].tick > 0 {
            self.unlink(index);
        }
        if tick > 0 {
            self.link(index, tick);
        }
    }

    /// Appends the devices whose time has come, in no order; their timers are not armed any more.
    pub(super) fn expire(&mut self, now_us: u64, due: &mut Vec<u32>) {
        let now = now_us.saturating_sub(self.phase_us) / TICK_US;
        if self.armed == 0 || now <= self.passed {
            self.passed = self.passed.max(now);
            return;
        }
        let slots = (now - self.passed).min(SIM_WHEEL_SLOTS as u64);
        for tick in (now + 1 - slots)..=now {
            let slot = slot(tick);
            if self.filled[slot / 64] & (1 << (slot % 64)) == 0 {
                continue;
            }
            let mut at = self.heads[slot];
            while at != NOBODY {
                let Link { next, tick, .. } = self.links[at as usize];
                if tick <= now {
                    self.unlink(at as usize);
                    due.push(at);
                }
                at = next;
            }
        }
        self.passed = now;
    }

    /// When to call [`expire`](Self::expire) next: no timer is due before. `None`: none is armed.
    pub(super) fn next_us(&self) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        let first = slot(self.passed + 1);
        let words = self.filled.len();
        // The first word twice: its bits from `first` on, and in the end those before.
        for step in 0..=words {
            let word = (first / 64 + step) % words;
            let mut bits = self.filled[word];
            if step == 0 {
                bits &= u64::MAX << (first % 64);
            }
            if bits != 0 {
                let found = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (found + SIM_WHEEL_SLOTS - first) % SIM_WHEEL_SLOTS;
                return Some(self.time(self.passed + 1 + ahead as u64));
            }
        }
        None
    }

    fn tick(&self, us: u64) -> u64 {
        us.saturating_sub(self.phase_us).div_ceil(TICK_US)
    }

    fn time(&self, tick: u64) -> u64 {
        tick * TICK_US + self.phase_us
    }

    fn link(&mut self, index: usize, tick: u64) {
        let slot = slot(tick);
        let next = self.heads[slot];
        if next != NOBODY {
            self.links[next as usize].before = index as u32;
        }
        self.links[index] = Link {
            next,
            before: NOBODY,
            tick,
        };
        self.heads[slot] = index as u32;
        self.filled[slot / 64] |= 1 << (slot % 64);
        self.armed += 1;
    }

    fn unlink(&mut self, index: usize) {
        let Link { next, before, tick } = self.links[index];
        let slot = slot(tick);
        if next != NOBODY {
            self.links[next as usize].before = before;
        }
        if before == NOBODY {
            self.heads[slot] = next;
            if next == NOBODY {
                self.filled[slot / 64] &= !(1 << (slot % 64));
            }
        } else {
            self.links[before as usize].next = next;
        }
        self.links[index].tick = 0;
        self.armed -= 1;
    }
}

fn slot(tick: u64) -> usize {
    (tick % SIM_WHEEL_SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(wheel: &mut Wheel, now_us: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now_us, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn timers_come_on_the_grid_and_once() {
        let mut wheel = Wheel::new(4, 300);
        wheel.set(0, Some(25_000));
        wheel.set(1, Some(30_300));
        wheel.set(2, Some(30_301));
        assert_eq!(wheel.next_us(), Some(30_300));
        assert!(taken(&mut wheel, 30_299).is_empty());
        assert_eq!(taken(&mut wheel, 30_300), [0, 1]);
        assert_eq!(wheel.next_us(), Some(40_300));
        assert_eq!(taken(&mut wheel, 99_000), [2]);
        assert_eq!(
            (wheel.next_us(), taken(&mut wheel, 999_000)),
            (None, vec![])
        );
    }

    #[test]
    fn a_timer_can_be_moved_and_taken_back() {
        let mut wheel = Wheel::new(3, 0);
        wheel.set(0, Some(50_000));
        wheel.set(1, Some(50_000));
        wheel.set(2, Some(50_000));
        wheel.set(1, Some(20_000));
        wheel.set(0, None);
        assert_eq!(taken(&mut wheel, 20_000), [1]);
        assert_eq!(taken(&mut wheel, 1_000_000), [2]);
        wheel.set(0, Some(5));
        assert_eq!(
            wheel.next_us(),
            Some(1_010_000),
            "what has passed comes at once"
        );
    }

    #[test]
    fn it_agrees_with_a_sorted_list_over_many_turns_of_the_wheel() {
        let devices = 50;
        let mut wheel = Wheel::new(devices, 7);
        let mut list: Vec<Option<u64>> = vec![None; devices];
        let (mut random, mut now) = (12_345_u64, 0);
        for _ in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            let dice = random >> 33;
            let index = (dice % devices as u64) as usize;
            // Up to three turns of the wheel ahead.
            let ahead = (dice >> 8) % (3 * SIM_WHEEL_SLOTS as u64 * TICK_US);
            let at = (dice & 64 == 0).then_some(now + 1 + ahead);
            wheel.set(index, at);
            list[index] = at.map(|us| wheel.time(wheel.tick(us)));
            if dice & 128 == 0 {
                let next = list.iter().flatten().min();
                let found = wheel.next_us();
                assert!(found.is_none() == next.is_none() && found <= next.copied());
                now += (dice >> 5) % (40 * TICK_US);
                let due = taken(&mut wheel, now);
                let expected = (0..devices).filter(|at| list[*at].is_some_and(|us| us <= now));
                assert_eq!(due, expected.map(|at| at as u32).collect::<Vec<_>>());
                for at in due {
                    list[at as usize] = None;
                }
            }
        }
    }
}
