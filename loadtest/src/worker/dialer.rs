//! Connections coming and going.

use std::collections::VecDeque;
use std::time::Instant;

use mio::Token;

use super::{Why, Worker};
use crate::Error;
use crate::crew::Report;
use crate::limits::DIAL_TIMEOUT;
use crate::link::Stage;
use crate::plan::{self, Mode};
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
        }
    }

    /// The failed ones may try again.
    pub(super) fn retry(&mut self) {
        self.waiting.extend(self.failed.drain(..));
    }
}

impl Worker {
    /// Dials as many as may be on their way.
    pub(super) fn dial_waiting(&mut self) -> Result<(), Error> {
        while self.dialer.outstanding < self.dialer.outstanding_max {
            let Some(index) = self.dialer.waiting.pop_front() else {
                break;
            };
            self.dialer.outstanding += 1;
            self.dial(index as usize)?;
        }
        Ok(())
    }

    fn dial(&mut self, index: usize) -> Result<(), Error> {
        let device = &self.plan.devices[index];
        let from = plan::source(&self.plan, device.addr, self.dialer.dialed);
        self.dialer.dialed += 1;
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
