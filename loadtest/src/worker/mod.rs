//! One thread: its poll loop carries bytes between sockets and [`Traffic`].
//!
//! A turn is one poll, one read for each readable link, one write for each link that has something
//! to say. No allocation and no clock look-up happens per message.

mod dialer;
mod hear;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use self::dialer::Dialer;
use crate::Error;
use crate::crew::{Labour, Phase, Post, Report};
use crate::limits::{
    DIAL_TIMEOUT, DRAIN_MAX, DRAIN_QUIET, EVENTS_PER_POLL, READ_BLOCK_BYTES, STALL, TICK,
};
use crate::link::{Fetched, Link, Stage};
use crate::pacer::Pacer;
use crate::plan::{Mode, Plan, Role};
use crate::traffic::{Pace, Tally, Traffic};
use crate::wire;

const WAKER: Token = Token(usize::MAX);
const PACER: Token = Token(usize::MAX - 1);

/// The wait for stragglers.
#[derive(Debug)]
struct Drain {
    end: Instant,
    quiet_end: Instant,
    progress: u64,
}

impl Drain {
    fn begin(now: Instant, progress: u64) -> Self {
        Self {
            end: now + DRAIN_MAX,
            quiet_end: now + DRAIN_QUIET,
            progress,
        }
    }

    fn is_over(&mut self, now: Instant, progress: u64) -> bool {
        if progress != self.progress {
            self.progress = progress;
            self.quiet_end = now + DRAIN_QUIET;
        }
        now >= self.end.min(self.quiet_end)
    }
}

/// Why a link came to its end.
#[derive(Debug)]
enum Why {
    /// A system call said so.
    Io(io::Error),
    /// The broker did something it should not, or closed.
    Broker(String),
    /// No answer in time.
    Silent,
}

impl Labour for Worker {
    fn work(mut self) -> Report {
        match self.turns() {
            Ok(()) => Report::Finished(Box::new(self.finish())),
            Err(error) => Report::Failed(error),
        }
    }
}

/// One thread of the generator.
pub(crate) struct Worker {
    plan: Plan,
    post: Post,
    poll: Poll,
    links: Vec<Link>,
    /// Link of each publisher.
    publishers: Vec<u32>,
    traffic: Traffic,
    dialer: Dialer,
    block: Vec<u8>,
    dirty: Vec<u32>,
    pacer: Option<Pacer>,
    phase: Phase,
    tick: u32,
    live: usize,
    connects: u64,
    ready: bool,
    storm_began: Option<Instant>,
    drain: Option<Drain>,
}

impl Worker {
    /// A worker and what wakes it.
    pub(crate) fn new(plan: Plan, post: Post) -> Result<(Self, Arc<Waker>), Error> {
        let poll = Poll::new().map_err(Error::system("cannot create a poll"))?;
        let waker = Waker::new(poll.registry(), WAKER);
        let waker = Arc::new(waker.map_err(Error::system("cannot create a waker"))?);
        let mut publishers = vec![0; plan.traffic.topics.len()];
        for (index, device) in plan.devices.iter().enumerate() {
            if let Role::Publisher(publisher) = device.role {
                publishers[publisher as usize] = index as u32;
            }
        }
        let worker = Self {
            links: plan.devices.iter().map(|_| Link::down()).collect(),
            traffic: Traffic::new(&plan.traffic),
            dialer: Dialer::new(plan.devices.len(), plan.outstanding),
            plan,
            post,
            poll,
            publishers,
            block: vec![0; READ_BLOCK_BYTES],
            dirty: Vec::new(),
            pacer: None,
            phase: Phase::Setup,
            tick: 0,
            live: 0,
            connects: 0,
            ready: false,
            storm_began: None,
            drain: None,
        };
        Ok((worker, waker))
    }

    fn turns(&mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        self.pace_dialing()?;
        while !self.is_over() {
            self.dial_waiting()?;
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(Error::system("poll failed")(error));
                }
                _ => {}
            }
            for event in &events {
                self.on_event(event)?;
            }
            self.follow_phase()?;
            self.on_time()?;
            self.publish()?;
            self.write_dirty()?;
            self.show();
        }
        Ok(())
    }

    fn is_over(&mut self) -> bool {
        match self.phase {
            Phase::Quit => true,
            Phase::Stop => {
                let progress = self.traffic.progress();
                let over = |drain: &mut Drain| drain.is_over(Instant::now(), progress);
                self.traffic.settled() || self.drain.as_mut().is_none_or(over)
            }
            _ => false,
        }
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        self.post.shared.epoch.elapsed().as_nanos() as u64
    }

    #[inline]
    fn on_event(&mut self, event: &Event) -> Result<(), Error> {
        let Token(index) = event.token();
        if index >= self.links.len() {
            // Waker or pacer: the turn itself is the answer.
            return self.pacer.as_ref().map_or(Ok(()), Pacer::rearm);
        }
        if event.is_writable() && self.links[index].has_unsent() {
            self.write(index)?;
            if let Role::Publisher(publisher) = self.plan.devices[index].role {
                self.traffic.unblocked(publisher);
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed())?;
        }
        Ok(())
    }

    /// Reads until a read came back short: readiness is edge-triggered, and a short read has
    /// emptied the socket. Only a close is not seen by a short read.
    fn read(&mut self, index: usize, closing: bool) -> Result<(), Error> {
        loop {
            let mut block = std::mem::take(&mut self.block);
            let fetched = self.links[index].fetch(&mut block);
            let heard = match &fetched {
                Ok(Fetched::Bytes { len, .. }) => self.hear(index, &block[..*len]),
                _ => Ok(()),
            };
            self.block = block;
            if let Err(wrong) = heard {
                return self.lose(index, Why::Broker(wrong));
            }
            match fetched {
                Ok(Fetched::Bytes { more, .. }) if more || closing => {}
                Ok(Fetched::Closed) => {
                    return self.lose(index, Why::Broker("closed by the broker".to_owned()));
                }
                Err(error) => return self.lose(index, Why::Io(error)),
                Ok(_) => break,
            }
        }
        if !self.links[index].has_unsent() {
            return Ok(());
        }
        // A publisher's answers leave together with its next messages.
        if matches!(self.plan.devices[index].role, Role::Publisher(_)) {
            self.mark_dirty(index);
            return Ok(());
        }
        self.write(index)
    }

    fn write(&mut self, index: usize) -> Result<(), Error> {
        let link = &mut self.links[index];
        if !link.has_unsent() {
            return Ok(());
        }
        link.touched = self.tick;
        match link.flush() {
            Ok(_) => Ok(()), // What is left waits for writability.
            Err(error) => self.lose(index, Why::Io(error)),
        }
    }

    fn mark_dirty(&mut self, index: usize) {
        if !self.links[index].dirty {
            self.links[index].dirty = true;
            self.dirty.push(index as u32);
        }
    }

    /// Every publisher that may send does so, in one write.
    fn publish(&mut self) -> Result<(), Error> {
        if self.pacer.is_some() {
            self.traffic.advance(self.now_ns());
        }
        while let Some(publisher) = self.traffic.next_ready() {
            let index = self.publishers[publisher as usize] as usize;
            if self.links[index].stage != Stage::Live {
                continue;
            }
            let now_ns = self.now_ns();
            self.traffic
                .fill(publisher, &mut self.links[index].out, now_ns);
            self.write(index)?;
        }
        Ok(())
    }

    fn write_dirty(&mut self) -> Result<(), Error> {
        while let Some(index) = self.dirty.pop() {
            self.links[index as usize].dirty = false;
            self.write(index as usize)?;
        }
        Ok(())
    }

    fn follow_phase(&mut self) -> Result<(), Error> {
        let phase = self.post.shared.phase();
        if phase == self.phase {
            return Ok(());
        }
        if phase >= Phase::Warmup && self.phase < Phase::Warmup {
            self.start_publishing()?;
        }
        if phase == Phase::Measure {
            self.traffic.measure();
            if self.plan.mode == Mode::Storm {
                self.drop_all();
            }
        }
        if phase >= Phase::Stop {
            self.traffic.stop();
            self.drain = Some(Drain::begin(Instant::now(), self.traffic.progress()));
        }
        self.phase = phase;
        Ok(())
    }

    fn start_publishing(&mut self) -> Result<(), Error> {
        if self.publishers.is_empty() {
            return Ok(());
        }
        self.traffic.start(self.now_ns());
        if let Pace::Rate { per_s } = self.plan.traffic.pace {
            self.pacer = Some(Pacer::new(Pace::step(per_s), self.poll.registry(), PACER)?);
        }
        Ok(())
    }

    fn on_time(&mut self) -> Result<(), Error> {
        let tick = (self.post.shared.epoch.elapsed().as_millis() / TICK.as_millis()) as u32;
        if tick == self.tick {
            return Ok(());
        }
        let second = |tick: u32| tick / ticks(Duration::from_secs(1));
        let (new_second, stall) = (
            second(tick) != second(self.tick),
            tick / ticks(STALL) != self.tick / ticks(STALL),
        );
        self.tick = tick;
        self.dialer.retry();
        if stall && matches!(self.plan.traffic.pace, Pace::Window(_)) {
            self.traffic.write_off_stalled();
        }
        if new_second {
            self.look_after_links()
        } else {
            Ok(())
        }
    }

    /// Once a second: late answers and keepalives.
    fn look_after_links(&mut self) -> Result<(), Error> {
        let keep_alive = Duration::from_secs(u64::from(self.plan.keep_alive_s));
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            let age = self.tick.saturating_sub(link.touched);
            match link.stage {
                Stage::Live if !keep_alive.is_zero() && age * 2 >= ticks(keep_alive) => {
                    wire::pingreq(&mut link.out);
                    self.write(index)?;
                }
                Stage::Live | Stage::Down => {}
                _ if age >= ticks(DIAL_TIMEOUT) => self.lose(index, Why::Silent)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn show(&self) {
        self.post
            .gauge
            .live
            .store(self.live as u64, Ordering::Relaxed);
        self.post
            .gauge
            .connects
            .store(self.connects, Ordering::Relaxed);
        self.post
            .gauge
            .sent
            .store(self.traffic.sent(), Ordering::Relaxed);
        self.post
            .gauge
            .delivered
            .store(self.traffic.delivered(), Ordering::Relaxed);
    }

    fn report(&self, report: Report) {
        self.show();
        self.post.report(report);
    }

    /// Says goodbye, so that the broker is as it was before, and counts.
    fn finish(mut self) -> Tally {
        for link in self
            .links
            .iter_mut()
            .filter(|link| link.stage == Stage::Live)
        {
            wire::disconnect(&mut link.out);
            if link.flush().is_err() {
                self.traffic.error("closed by the broker");
            }
        }
        self.show();
        self.traffic.finish()
    }
}

fn ticks(time: Duration) -> u32 {
    (time.as_millis() / TICK.as_millis()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_ends_when_nothing_comes_any_more_or_too_much_does() {
        let now = Instant::now();
        let just = Duration::from_millis(1);
        let (nearly, quiet) = (DRAIN_QUIET.saturating_sub(just), DRAIN_QUIET);
        let mut drain = Drain::begin(now, 7);
        assert!(!drain.is_over(now + nearly, 7));
        assert!(!drain.is_over(now + nearly, 8), "one came");
        assert!(!drain.is_over(now + quiet + just, 8));
        assert!(drain.is_over(now + quiet * 2, 8));
        let mut drain = Drain::begin(now, 0);
        let mut passed = Duration::ZERO;
        while !drain.is_over(now + passed, passed.as_millis() as u64) {
            passed += Duration::from_secs(1);
        }
        assert_eq!(passed, DRAIN_MAX);
    }
}
