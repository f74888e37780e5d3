//! Carries bytes between sockets and a crowd of devices, which decides what they mean.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::Error;
use crate::crew::Counts;
use crate::limits::{DIAL_AGAIN, EVENTS_PER_POLL, READ_BLOCK_BYTES, TICK};
use crate::link::{Fetched, Link, Stage};
use crate::plan::rotating_source;
use crate::progress::Progress;
use crate::tls::Tls;
use crate::traffic::Errors;
use crate::wire::{Packet, Scan, scan};

/// What a packet means for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on.
    Stay,
    /// Its handshake is over: another one may be dialed.
    Up,
    /// It ends as soon as everything is written, for good.
    Leave,
}

/// Devices without I/O. Each has one connection at a time, which is dialed until CONNACK accepts it.
pub(super) trait Crowd {
    /// How many devices there are.
    fn size(&self) -> usize;
    /// Appends CONNECT.
    fn greet(&self, device: usize, out: &mut Vec<u8>);
    /// Takes in a packet. An error ends the connection; it is dialed again if it was not up.
    fn hear(
        &mut self,
        device: usize,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Next, String>;
    /// Appends what is to be sent by itself, after what came and whenever the socket has taken everything.
    fn go_on(&mut self, device: usize, out: &mut Vec<u8>);
    /// Appends the end of a connection that has done its part.
    fn leave(&self, out: &mut Vec<u8>);
    /// Whether everything has happened.
    fn is_done(&self) -> bool;
    /// How long to listen for more after that.
    fn linger(&self) -> Duration;
    /// Messages that got further; while it stands still, patience runs out.
    fn progress(&self) -> u64;
    /// Messages sent and arrived.
    fn flow(&self) -> (u64, u64);
}

/// How a crowd's time ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything has happened.
    Done,
    /// It cannot any more, as told here.
    Broken(String),
}

/// Where connections go, and what has become of them so far.
pub(super) struct Station<'a> {
    pub(super) addrs: &'a [SocketAddr],
    pub(super) tls: Option<&'a Tls>,
    /// Connections on their way at once.
    pub(super) outstanding: usize,
    /// Time in which something has to get further.
    pub(super) patience: Duration,
    /// Connections dialed so far.
    pub(super) dialed: u64,
    /// Connections that CONNACK accepted.
    pub(super) connects: u64,
    /// Connections lost or refused, by kind.
    pub(super) errors: Errors,
}

impl Station<'_> {
    /// Connects the crowd and serves it to its end.
    pub(super) fn serve<C: Crowd>(
        &mut self,
        crowd: &mut C,
        progress: &mut Progress,
    ) -> Result<Ended, Error> {
        let poll = Poll::new().map_err(Error::system("cannot create a poll"))?;
        let mut shift = Shift {
            links: (0..crowd.size()).map(|_| Link::down()).collect(),
            waiting: (0..crowd.size() as u32).collect(),
            crowd,
            station: self,
            poll,
            block: vec![0; READ_BLOCK_BYTES],
            again: VecDeque::new(),
            dialing: 0,
            live: 0,
            broken: None,
        };
        shift.turns(progress)
    }
}

/// A crowd at a station.
struct Shift<'s, 'a, C> {
    station: &'s mut Station<'a>,
    crowd: &'s mut C,
    poll: Poll,
    links: Vec<Link>,
    block: Vec<u8>,
    /// To be dialed as soon as may be.
    waiting: VecDeque<u32>,
    /// To be dialed at that time, in its order.
    again: VecDeque<(Instant, u32)>,
    dialing: usize,
    live: u64,
    /// Why it cannot go on.
    broken: Option<String>,
}

impl<C: Crowd> Shift<'_, '_, C> {
    fn turns(&mut self, progress: &mut Progress) -> Result<Ended, Error> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let (mut seen, mut moved, mut done) = (0, Instant::now(), None);
        loop {
            self.dial();
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(Error::system("poll failed")(error));
                }
                _ => {}
            }
            events.iter().for_each(|event| self.on_event(event));
            progress.show(self.counts(), Duration::ZERO);
            if let Some(why) = self.broken.take() {
                return Ok(Ended::Broken(why));
            }
            let now = Instant::now();
            let further = self.crowd.progress() + self.station.connects;
            if further != seen {
                (seen, moved) = (further, now);
            }
            if self.crowd.is_done() {
                let since = *done.get_or_insert(now);
                if now - since >= self.crowd.linger() && self.dialing == 0 {
                    self.leave();
                    return Ok(Ended::Done);
                }
            } else if now - moved >= self.station.patience {
                return Ok(Ended::Broken(self.stuck()));
            }
        }
    }

    fn counts(&self) -> Counts {
        let (sent, delivered) = self.crowd.flow();
        Counts {
            live: self.live,
            connects: self.station.connects,
            sent,
            delivered,
            ..Counts::default()
        }
    }

    fn stuck(&self) -> String {
        let seconds = self.station.patience.as_secs_f64();
        let kinds = self.station.errors.iter();
        let kinds = kinds.map(|(kind, count)| format!("; {count} x {kind}"));
        let kinds: Vec<String> = kinds.collect();
        let kinds = kinds.concat();
        format!("nothing got further for {seconds} s (--patience){kinds}")
    }

    fn dial(&mut self) {
        let now = Instant::now();
        while self.again.front().is_some_and(|(at, _)| *at <= now) {
            let due = self.again.pop_front();
            self.waiting.extend(due.map(|(_, device)| device));
        }
        while self.dialing < self.station.outstanding {
            let Some(device) = self.waiting.pop_front() else {
                break;
            };
            self.dialing += 1;
            let device = device as usize;
            match self.dial_one(device) {
                // On loopback the connection often stands already.
                Ok(()) => self.write(device),
                Err(error) => self.lose(device, error.to_string()),
            }
        }
    }

    fn dial_one(&mut self, device: usize) -> io::Result<()> {
        let station = &mut *self.station;
        let addr = station.addrs[device % station.addrs.len()];
        let link = &mut self.links[device];
        let tls = station.tls.map(|tls| tls.client(addr)).transpose()?;
        link.seal(tls);
        let from = rotating_source(addr, 0, station.dialed);
        station.dialed += 1;
        link.dial(addr, from, self.poll.registry(), Token(device))?;
        self.crowd.greet(device, &mut link.out);
        Ok(())
    }

    fn on_event(&mut self, event: &Event) {
        let Token(device) = event.token();
        if event.is_writable() {
            self.write(device);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(device, event.is_read_closed());
        }
    }

    /// Reads until a read came back short: readiness is edge-triggered, and a short read has emptied the socket. Only a
    /// close is not seen by a short read.
    fn read(&mut self, device: usize, closing: bool) {
        loop {
            let mut block = std::mem::take(&mut self.block);
            let fetched = self.links[device].fetch(&mut block);
            let heard = match &fetched {
                Ok(Fetched::Bytes { len, .. }) => self.hear(device, &block[..*len]),
                _ => Ok(()),
            };
            self.block = block;
            if let Err(wrong) = heard {
                return self.lose(device, wrong);
            }
            match fetched {
                Ok(Fetched::Bytes { more, .. }) if more || closing => {}
                Ok(Fetched::Closed) => return self.lose(device, "closed by the broker".to_owned()),
                Err(error) => return self.lose(device, error.to_string()),
                Ok(_) => break,
            }
        }
        self.write(device);
    }

    fn hear(&mut self, device: usize, bytes: &[u8]) -> Result<(), String> {
        let mut at = 0;
        loop {
            let packet = match scan(&bytes[at..]) {
                Scan::Packet(packet) => packet,
                Scan::Incomplete => break,
                Scan::Malformed(wrong) => return Err(wrong.to_owned()),
            };
            let link = &mut self.links[device];
            match self.crowd.hear(device, &packet, &mut link.out)? {
                Next::Stay => {}
                Next::Up => self.is_up(device, Stage::Live),
                Next::Leave => self.is_up(device, Stage::Leaving),
            }
            at += packet.len;
        }
        self.links[device].hold(&bytes[at..]);
        Ok(())
    }

    /// Its handshake is over, once.
    fn is_up(&mut self, device: usize, stage: Stage) {
        debug_assert_eq!(self.links[device].stage, Stage::Connecting);
        self.links[device].stage = stage;
        self.dialing -= 1;
        self.live += u64::from(stage == Stage::Live);
        self.station.connects += 1;
    }

    fn write(&mut self, device: usize) {
        let link = &mut self.links[device];
        if link.stage == Stage::Live {
            self.crowd.go_on(device, &mut link.out);
        }
        match link.flush() {
            Ok(true) if link.stage == Stage::Leaving => link.close(),
            Ok(_) => {} // What is left waits for writability.
            Err(error) => self.lose(device, error.to_string()),
        }
    }

    /// A connection is over. Before it was up that happens where a broker is not there yet.
    fn lose(&mut self, device: usize, why: String) {
        let stage = self.links[device].stage;
        self.links[device].close();
        if stage == Stage::Leaving {
            return;
        }
        if stage == Stage::Live {
            self.live -= 1;
            self.broken
                .get_or_insert_with(|| format!("a connection was lost: {why}"));
        } else {
            self.dialing -= 1;
            let at = Instant::now() + DIAL_AGAIN;
            self.again.push_back((at, device as u32));
        }
        *self.station.errors.entry(why).or_default() += 1;
    }

    fn leave(&mut self) {
        let live = self
            .links
            .iter_mut()
            .filter(|link| link.stage == Stage::Live);
        for link in live {
            self.crowd.leave(&mut link.out);
            if let Err(error) = link.flush() {
                *self.station.errors.entry(error.to_string()).or_default() += 1;
            }
        }
    }
}
