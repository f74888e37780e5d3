//! All devices of a worker, and what they act with.

use super::device::{Device, Stage, Texts, Turn};
use super::plan::Plan;
use super::tally::Tally;

/// The devices, without their sockets.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) plan: Plan,
    pub(super) tally: Tally,
    pub(super) devices: Box<[Device]>,
    /// The phase allows telemetry.
    pub(super) sending: bool,
    pub(super) standing: Standing,
    /// What the device that acted last has to say.
    pub(super) out: Vec<u8>,
    texts: Texts,
}

/// How many devices stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Connected.
    pub(super) up: usize,
    /// Between dial and last answer.
    pub(super) connecting: usize,
    /// Between the first DISCONNECT and the end.
    pub(super) leaving: usize,
    /// Gone for good.
    pub(super) gone: usize,
    /// Messages of telemetry that are not acknowledged.
    pub(super) open: usize,
}

impl Crowd {
    /// None of them was told to connect yet.
    pub(super) fn new(plan: Plan, tally: Tally) -> Self {
        let addresses = (0..plan.len()).map(|index| plan.first_address(plan.device(index)));
        Self {
            devices: addresses.map(Device::new).collect(),
            plan,
            tally,
            sending: true,
            standing: Standing::default(),
            out: Vec::new(),
            texts: Texts::default(),
        }
    }

    /// Lets device `index` act. `clogged`: its socket has enough to do. What it says stands in `out` then.
    pub(super) fn act<R>(
        &mut self,
        index: usize,
        now_us: u64,
        clogged: bool,
        act: impl FnOnce(&mut Device, &mut Turn<'_>) -> R,
    ) -> R {
        let device = &mut self.devices[index];
        let before = Standing::of(device);
        let mut turn = Turn {
            now_us,
            device: self.plan.device(index),
            plan: &self.plan,
            tally: &mut self.tally,
            out: &mut self.out,
            texts: &mut self.texts,
            sending: self.sending && !clogged,
        };
        let result = act(device, &mut turn);
        self.standing.change(before, Standing::of(device));
        result
    }

    /// When [`Device::due`] is to be asked next.
    pub(super) fn deadline_us(&self, index: usize, clogged: bool) -> Option<u64> {
        let sending = self.sending && !clogged;
        self.devices[index].deadline_us(sending, self.plan.device(index))
    }
}

impl Standing {
    fn of(device: &Device) -> Self {
        let is = |stages: &[Stage]| usize::from(stages.contains(&device.stage()));
        Self {
            up: is(&[Stage::Up]),
            connecting: is(&[Stage::Connecting, Stage::Subscribing]),
            leaving: usize::from(device.is_leaving()),
            gone: is(&[Stage::Gone]),
            open: device.open(),
        }
    }

    fn change(&mut self, before: Self, after: Self) {
        if before == after {
            return;
        }
        self.up = self.up + after.up - before.up;
        self.connecting = self.connecting + after.connecting - before.connecting;
        self.leaving = self.leaving + after.leaving - before.leaving;
        self.gone = self.gone + after.gone - before.gone;
        self.open = self.open + after.open - before.open;
    }
}
