//! Connections coming and going.

use std::collections::VecDeque;
use std::time::Instant;

use mio::Token;

use super::{Why, Worker};
use crate::Error;
use crate::crew::Report;
use crate::limits::DIAL_TIMEOUT;
use crate::link::Stage;
use crate::pacer::Pacer;
use crate::plan::{self, Mode};
use crate::traffic::{Pace, Schedule};
use crate::wire;

/// Who is to be connected, and how many may be on their way.
#[derive(Debug)]
pub(super) struct Dialer {
    waiting: VecDeque<u32>,
    /// Failed after the set-up: dialed again with the next tick, not at once.
    failed: Vec<u32>,
    outstanding: usize,
    outstanding_max: usize,
    dialed: u64,
    /// Open loop: when each may be dialed.
    schedule: Option<Schedule>,
}

impl Dialer {
    /// All of `devices` are to be connected.
    pub(super) fn new(devices: usize, outstanding_max: usize) -> Self {
        let waiting = (0..devices as u32).collect();
        Self {
            waiting,
            failed: Vec::new(),
            outstanding: 0,
            outstanding_max,
            dialed: 0,
            schedule: None,
        }
    }

    /// From `now_ns` on so many are dialed per second, one after the other, as far as `outstanding_max` allows.
    fn pace(&mut self, per_s: f64, now_ns: u64) {
        self.schedule = Some(Schedule::new(per_s, 1, now_ns));
    }

    /// The next one that may be dialed, and how many were before it.
    fn next(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        if let Some(schedule) = &mut self.schedule {
            schedule.advance(now_ns);
        }
        let due = self.schedule.as_ref().map_or(u64::MAX, Schedule::due);
        if self.outstanding >= self.outstanding_max || self.dialed >= due {
            return None;
        }
        let index = self.waiting.pop_front()?;
        self.outstanding += 1;
        self.dialed += 1;
        Some((index, self.dialed - 1))
    }

    /// The failed ones may try again.
    pub(super) fn retry(&mut self) {
        self.waiting.extend(self.failed.drain(..));
    }
}

impl Worker {
    /// Connections that come and go do so at a rate, if one is asked for.
    pub(super) fn pace_dialing(&mut self) -> Result<(), Error> {
        let Pace::Rate { per_s } = self.plan.traffic.pace else {
            return Ok(());
        };
        if self.plan.mode == Mode::Cycle {
            self.dialer.pace(per_s, self.now_ns());
            self.pacer = Some(Pacer::new(
                Pace::step(per_s),
                self.poll.registry(),
                super::PACER,
            )?);
        }
        Ok(())
    }

    /// Dials as many as may be on their way.
    pub(super) fn dial_waiting(&mut self) -> Result<(), Error> {
        while let Some((index, number)) = self.dialer.next(self.now_ns()) {
            self.dial(index as usize, number)?;
        }
        Ok(())
    }

    fn dial(&mut self, index: usize, number: u64) -> Result<(), Error> {
        let device = &self.plan.devices[index];
        let from = plan::source(&self.plan, device.addr, number);
        let link = &mut self.links[index];
        link.stage = Stage::Connecting;
        link.touched = self.tick;
        wire::connect(
            &mut link.out,
            self.plan.version,
            &device.client_id,
            self.plan.keep_alive_s,
            wire::Keep::No,
        );
        let sealed = self.plan.tls.as_ref();
        let sealed = sealed.map(|tls| tls.client(device.addr)).transpose();
        let dialed = sealed.and_then(|tls| {
            link.seal(tls);
            link.dial(device.addr, from, self.poll.registry(), Token(index))
        });
        match dialed {
            // On loopback the connection often stands already.
            Ok(()) => self.write(index),
            Err(error) => self.lose(index, Why::Io(error)),
        }
    }

    /// CONNECT and SUBSCRIBE of a link are answered.
    pub(super) fn up(&mut self, index: usize) {
        self.dialer.outstanding -= 1;
        self.connects += 1;
        let link = &mut self.links[index];
        if self.plan.mode == Mode::Cycle {
            link.stage = Stage::Leaving;
            wire::disconnect(&mut link.out);
        } else {
            link.stage = Stage::Live;
            self.live += 1;
        }
        let complete = self.live == self.links.len() || self.plan.mode == Mode::Cycle;
        if complete && !self.ready {
            self.ready = true;
            self.report(Report::Ready);
        } else if complete && let Some(began) = self.storm_began.take() {
            self.report(Report::Back(began.elapsed()));
        }
    }

    /// A link came to its end. While setting up, that ends the run.
    pub(super) fn lose(&mut self, index: usize, why: Why) -> Result<(), Error> {
        let stage = self.links[index].stage;
        self.links[index].close();
        match stage {
            Stage::Down => return Ok(()),
            Stage::Leaving if !matches!(why, Why::Silent) => {
                self.dialer.waiting.push_back(index as u32);
                return Ok(());
            }
            Stage::Leaving => {}
            Stage::Live => self.live -= 1,
            Stage::Connecting | Stage::Subscribing => self.dialer.outstanding -= 1,
        }
        if !self.ready {
            return Err(self.setup_error(index, stage, why));
        }
        let kind = match why {
            Why::Broker(what) => what,
            Why::Io(error) => format!("{}: {error}", doing(stage)),
            Why::Silent => format!("{}: no answer", doing(stage)),
        };
        self.traffic.error(&kind);
        if self.plan.mode != Mode::Hold {
            self.dialer.failed.push(index as u32);
        } else if self.live == 0 {
            self.report(Report::Deserted);
        }
        Ok(())
    }

    /// The storm: every socket is dropped in one go, and all come back.
    pub(super) fn drop_all(&mut self) {
        self.storm_began = Some(Instant::now());
        self.links.iter_mut().for_each(crate::link::Link::close);
        self.live = 0;
        let dialed = self.dialer.dialed;
        self.dialer = Dialer::new(self.links.len(), self.plan.storm_outstanding);
        self.dialer.dialed = dialed; // The ports of the old sockets rest a while.
    }

    fn setup_error(&self, index: usize, stage: Stage, why: Why) -> Error {
        let device = &self.plan.devices[index];
        let (addr, name) = (device.addr, device.client_id.to_string());
        match why {
            Why::Io(source) if stage == Stage::Connecting => Error::Connect { addr, source },
            Why::Io(source) => Error::Handshake {
                addr,
                device: name,
                what: source.to_string(),
            },
            Why::Broker(what) => Error::Handshake {
                addr,
                device: name,
                what,
            },
            Why::Silent => Error::Silent {
                addr,
                device: name,
                seconds: DIAL_TIMEOUT.as_secs(),
            },
        }
    }
}

fn doing(stage: Stage) -> &'static str {
    match stage {
        Stage::Connecting => "connecting",
        Stage::Subscribing => "subscribing",
        Stage::Leaving => "disconnecting",
        Stage::Down | Stage::Live => "connection lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_at_the_rate_asked_for() {
        let mut dialer = Dialer::new(10, 3);
        dialer.pace(100.0, 0);
        let mut come = |ms: u64| {
            let came = std::iter::from_fn(|| dialer.next(ms * 1_000_000)).count();
            (came, dialer.outstanding)
        };
        assert_eq!(come(0), (0, 0), "none is due");
        assert_eq!(come(10), (1, 1));
        assert_eq!(come(10), (0, 1));
        assert_eq!(come(20), (1, 2));
        assert_eq!(come(100), (1, 3), "no more may be on their way");
    }

    #[test]
    fn without_a_rate_only_those_on_their_way_count() {
        let mut dialer = Dialer::new(10, 3);
        assert_eq!(std::iter::from_fn(|| dialer.next(0)).count(), 3);
    }
}
