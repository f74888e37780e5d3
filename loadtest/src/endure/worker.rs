//! One thread: its poll loop carries bytes between sockets and devices.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use super::arena::Arena;
use super::device::{Device, Heard, Order, Pair, Side, Turn};
use super::ledger::Ledger;
use super::log::{Log, Loss};
use super::plan::Plan;
use super::publisher::Due;
use super::tally::Tally;
use super::timers::Timers;
use crate::Error;
use crate::crew::{Labour, Phase, Post, Report};
use crate::limits::{EVENTS_PER_POLL, LATE, LINGER, READ_BLOCK_BYTES, REST, TICK};
use crate::link::{Fetched, Link};
use crate::pacer::Pacer;
use crate::traffic::{Pace, Schedule};
use crate::wire::{self, Scan};

const WAKER: Token = Token(usize::MAX);
const PACER: Token = Token(usize::MAX - 1);

/// One thread of the generator.
pub(crate) struct Worker {
    plan: Plan,
    post: Post,
    poll: Poll,
    links: Vec<Link>,
    /// One for each pair.
    pairs: Vec<Pair>,
    log: Log,
    timers: Timers,
    block: Vec<u8>,
    pacer: Option<Pacer>,
    schedule: Option<Schedule>,
    churn: Option<Schedule>,
    publishing: bool,
    /// Publishers (by pair) that may have something to send, and whether one is among them.
    eager: Vec<u32>,
    is_eager: Vec<bool>,
    phase: Phase,
    now_ns: u64,
    /// When the drain began, and since when everything has been settled.
    drain_ns: Option<u64>,
    settled_ns: Option<u64>,
    sent: u64,
    late: u64,
    /// Devices that connect from the start.
    to_come_up: u64,
    ready: bool,
    deserted: bool,
}

impl Labour for Worker {
    fn work(mut self) -> Report {
        match self.turns() {
            Ok(()) => Report::Endured(Box::new(self.finish())),
            Err(error) => Report::Failed(error),
        }
    }
}

impl Worker {
    /// A worker and what wakes it.
    pub(crate) fn new(plan: Plan, post: Post) -> Result<(Self, Arc<Waker>), Error> {
        let poll = Poll::new().map_err(Error::system("cannot create a poll"))?;
        let waker = Waker::new(poll.registry(), WAKER);
        let waker = Arc::new(waker.map_err(Error::system("cannot create a waker"))?);
        let (devices, pairs) = (plan.devices.len(), plan.devices.len() / plan.width);
        let pair = || Pair {
            ledger: Ledger::new(plan.settings.qos),
            arena: Arena::new(plan.width - 1),
        };
        let mut timers = Timers::new(devices);
        for (index, device) in plan.devices.iter().enumerate() {
            timers.set(index, device.deadline_ns(&plan.settings));
        }
        let worker = Self {
            links: (0..devices).map(|_| Link::down()).collect(),
            pairs: (0..pairs).map(|_| pair()).collect(),
            to_come_up: plan
                .devices
                .iter()
                .filter(|d| d.deadline_ns(&plan.settings) != Some(u64::MAX))
                .count() as u64,
            plan,
            post,
            poll,
            log: Log::new(),
            timers,
            block: vec![0; READ_BLOCK_BYTES],
            pacer: None,
            schedule: None,
            churn: None,
            publishing: false,
            eager: Vec::new(),
            is_eager: vec![false; pairs],
            phase: Phase::Setup,
            now_ns: 0,
            drain_ns: None,
            settled_ns: None,
            sent: 0,
            late: 0,
            ready: false,
            deserted: false,
        };
        Ok((worker, waker))
    }

    fn turns(&mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut looked_ns = 0;
        while self.phase != Phase::Quit {
            match self.poll.poll(&mut events, Some(self.patience())) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(Error::system("poll failed")(error));
                }
                _ => {}
            }
            self.now_ns = self.post.shared.epoch.elapsed().as_nanos() as u64;
            for event in &events {
                self.on_event(event)?;
            }
            self.follow_phase()?;
            while let Some(index) = self.timers.pop(self.now_ns) {
                self.attend(index)?;
            }
            self.send_away();
            self.publish();
            if self.now_ns.saturating_sub(looked_ns) >= TICK.as_nanos() as u64 {
                looked_ns = self.now_ns;
                self.show();
                if self.is_over() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// How long a poll may wait.
    fn patience(&self) -> Duration {
        let until = self.timers.first().map_or(TICK, |at| {
            Duration::from_nanos(at.saturating_sub(self.now_ns))
        });
        until.min(TICK)
    }

    fn on_event(&mut self, event: &Event) -> Result<(), Error> {
        let Token(index) = event.token();
        if index >= self.links.len() {
            // Waker or pacer: the turn itself is the answer.
            return self.pacer.as_ref().map_or(Ok(()), Pacer::rearm);
        }
        if event.is_writable() && self.links[index].has_unsent() {
            self.write(index);
            self.rouse(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed());
        }
        Ok(())
    }

    /// Reads until a read came back short: readiness is edge-triggered. Only a close is not seen
    /// by a short read.
    fn read(&mut self, index: usize, closing: bool) {
        loop {
            let mut block = std::mem::take(&mut self.block);
            let fetched = self.links[index].fetch(&mut block);
            let heard = match &fetched {
                Ok(Fetched::Bytes { len, .. }) => self.hear(index, &block[..*len]),
                _ => Ok(()),
            };
            self.block = block;
            if let Err(loss) = heard {
                return self.lose(index, loss);
            }
            match fetched {
                Ok(Fetched::Bytes { more, .. }) if more || closing => {}
                Ok(Fetched::Closed) => return self.lose(index, Loss::Closed),
                Err(error) => return self.lose(index, Loss::Error(error.to_string())),
                Ok(_) => break,
            }
        }
        self.write(index);
    }

    /// Takes in the bytes of one read; keeps the start of an unfinished packet.
    fn hear(&mut self, index: usize, bytes: &[u8]) -> Result<(), Loss> {
        let device = &mut self.plan.devices[index];
        let link = &mut self.links[index];
        let pair = &mut self.pairs[index / self.plan.width];
        device.heard(self.now_ns);
        let mut turn = Turn {
            now_ns: self.now_ns,
            settings: &self.plan.settings,
            pair,
            log: &mut self.log,
            out: &mut link.out,
        };
        let (mut at, mut acked, mut up) = (0, false, false);
        loop {
            let packet = match wire::scan(&bytes[at..]) {
                Scan::Packet(packet) => packet,
                Scan::Incomplete => break,
                Scan::Malformed(wrong) => return Err(Loss::Fault(wrong.to_owned())),
            };
            at += packet.len;
            match device.hear(&packet, &mut turn)? {
                Heard::Acked => acked = true,
                Heard::Up => up = true,
                Heard::Little | Heard::Message => {}
            }
        }
        link.hold(&bytes[at..]);
        if up {
            self.came_up();
        }
        if acked || up {
            self.rouse(index);
        }
        let pair = index / self.plan.width;
        if acked && self.pairs[pair].ledger.owed() > 0 {
            self.plan.devices[pair * self.plan.width].owed(self.now_ns);
        }
        self.rearm(index);
        Ok(())
    }

    fn came_up(&mut self) {
        let came_up_ever = self.log.connects - self.log.reconnects;
        if !self.ready && came_up_ever == self.to_come_up {
            self.ready = true;
            self.show();
            self.post.report(Report::Ready);
        }
    }

    fn write(&mut self, index: usize) {
        let link = &mut self.links[index];
        if !link.has_unsent() {
            return;
        }
        self.plan.devices[index].said(self.now_ns);
        if let Err(error) = link.flush() {
            self.lose(index, Loss::Error(error.to_string()));
        }
    }

    fn lose(&mut self, index: usize, loss: Loss) {
        self.links[index].close();
        let device = &mut self.plan.devices[index];
        if let Some(own) = device.contender() {
            self.pairs[index / self.plan.width].arena.lost(own);
        }
        device.lost(loss, &self.plan.settings, self.now_ns, &mut self.log);
        self.rearm(index);
    }

    fn rearm(&mut self, index: usize) {
        let deadline = self.plan.devices[index].deadline_ns(&self.plan.settings);
        // A later deadline is found out when the earlier one has passed.
        let armed = self.timers.armed(index);
        if armed.is_none_or(|at| deadline.is_none_or(|deadline| deadline < at)) {
            self.timers.set(index, deadline);
        }
    }

    /// Does what is due for a device.
    fn attend(&mut self, index: usize) -> Result<(), Error> {
        if self.is_superfluous(index) {
            self.plan.devices[index].rest(self.now_ns + REST.as_nanos() as u64);
            self.rearm(index);
            return Ok(());
        }
        let out = &mut self.links[index].out;
        let order = self.plan.devices[index].due(&self.plan.settings, self.now_ns, out);
        match order {
            None => {}
            Some(Order::Dial(address)) => self.dial(index, address),
            Some(Order::Lose(loss)) => self.lose(index, loss),
            Some(Order::Write) => self.write(index),
            Some(Order::GiveUp) => {
                self.links[index].close();
                self.gave_up(index)?;
            }
        }
        self.rearm(index);
        Ok(())
    }

    fn dial(&mut self, index: usize, address: usize) {
        let addr = self.plan.addrs[address];
        let link = &mut self.links[index];
        link.close(); // A broker need not have closed after a goodbye.
        let sealed = self.plan.tls.as_ref();
        let sealed = sealed.map(|tls| tls.client(addr)).transpose();
        let dialed = sealed.and_then(|tls| {
            link.seal(tls);
            link.dial(addr, None, self.poll.registry(), Token(index))
        });
        self.plan.devices[index].dialed(&self.plan.settings, self.now_ns, &mut link.out);
        if let Some(own) = self.plan.devices[index].contender() {
            self.pairs[index / self.plan.width].arena.connecting(own);
        }
        match dialed {
            // On loopback the connection often stands already.
            Ok(()) => self.write(index),
            Err(error) => self.lose(index, Loss::Error(error.to_string())),
        }
    }

    /// While setting up, one device that never gets through ends the run: nothing was shown.
    fn gave_up(&mut self, index: usize) -> Result<(), Error> {
        if !self.ready {
            let seen = self.log.errors.iter().chain(&self.log.violations);
            let refused = self.log.connect_refused.iter();
            let seen = seen.map(|(kind, count)| format!("{count} x {kind}"));
            let seen = seen.chain(refused.map(|(code, count)| format!("{count} x CONNACK {code}")));
            return Err(Error::GaveUp {
                addrs: self.plan.addrs.clone(),
                device: self.plan.devices[index].client_id.to_string(),
                seconds: self.plan.settings.patience_ns as f64 / 1e9,
                what: seen.collect::<Vec<_>>().join(", "),
            });
        }
        if !self.deserted && self.plan.devices.iter().all(Device::gave_up) {
            self.deserted = true;
            self.post.report(Report::Deserted);
        }
        Ok(())
    }

    /// The publisher of this device's pair may have something to send.
    fn rouse(&mut self, index: usize) {
        let pair = index / self.plan.width;
        if !self.is_eager[pair] {
            self.is_eager[pair] = true;
            self.eager.push(pair as u32);
        }
    }

    /// Subscribers whose turn it is leave, to come back at the next address.
    fn send_away(&mut self) {
        let Some(churn) = self.churn.as_mut().filter(|_| self.publishing) else {
            return;
        };
        let (pairs, away_ns) = (self.pairs.len() as u64, self.plan.away.as_nanos() as u64);
        let (from, to) = churn.advance(self.now_ns);
        for turn in from..to.min(from + pairs) {
            let index = (turn % pairs) as usize * self.plan.width;
            let (device, out) = (&mut self.plan.devices[index], &mut self.links[index].out);
            let settings = &self.plan.settings;
            if device.leave(self.now_ns + away_ns, settings, self.now_ns, out) {
                self.log.churned += 1;
                self.write(index);
                self.rearm(index);
            }
        }
    }

    /// Every publisher that may send does so, in one write.
    fn publish(&mut self) {
        if let Some(schedule) = self.schedule.as_mut().filter(|_| self.publishing) {
            let pairs = self.pairs.len() as u64;
            let (from, to) = schedule.advance(self.now_ns);
            for message in from..to.min(from + pairs) {
                self.rouse((message % pairs) as usize * self.plan.width);
            }
        }
        while let Some(pair) = self.eager.pop() {
            self.is_eager[pair as usize] = false;
            self.fill(pair);
        }
    }

    fn fill(&mut self, pair: u32) {
        let index = pair as usize * self.plan.width + self.plan.width - 1;
        let device = &mut self.plan.devices[index];
        let (up, link) = (device.is_up(), &mut self.links[index]);
        let Side::Publisher(publisher) = &mut device.side else {
            return;
        };
        if !up {
            return;
        }
        let before = link.out.len();
        let schedule = self.schedule.as_ref();
        // Nothing new once it is over.
        let below = schedule.filter(|_| self.publishing).map(|s| s.due_of(pair));
        let (next, now_ns) = (publisher.next(), self.now_ns);
        let due = Due {
            below: below.unwrap_or(next),
            intended_ns: |number| schedule.map_or(now_ns, |s| s.intended_ns(pair, number)),
            now_ns,
            late_ns: LATE.as_nanos() as u64,
        };
        let ledger = &mut self.pairs[pair as usize].ledger;
        let sent = publisher.fill(&due, ledger, &mut link.out);
        ledger.sent(publisher.next());
        self.sent += sent.fresh;
        self.late += sent.late;
        if link.out.len() > before {
            device.gaps.wait(self.now_ns);
            self.write(index);
        }
    }

    fn follow_phase(&mut self) -> Result<(), Error> {
        let phase = self.post.shared.phase();
        if phase == self.phase {
            return Ok(());
        }
        if phase == Phase::Measure {
            self.start()?;
        }
        if phase >= Phase::Stop {
            self.publishing = false;
            self.drain_ns = Some(self.now_ns);
        }
        self.phase = phase;
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        let (per_s, pairs) = (self.plan.per_s, self.pairs.len() as u64);
        self.schedule = Some(Schedule::new(per_s, pairs, self.now_ns));
        self.publishing = true;
        let mut step = Pace::step(per_s);
        let churn_per_s = self.plan.churn_per_s;
        if churn_per_s > 0.0 {
            self.churn = Some(Schedule::new(churn_per_s, pairs, self.now_ns));
            step = step.min(Pace::step(churn_per_s));
        }
        self.pacer = Some(Pacer::new(step, self.poll.registry(), PACER)?);
        for device in &mut self.plan.devices {
            device.gaps.start(self.now_ns);
        }
        // Those that take part from here on come one after the other.
        let away_ns = self.plan.away.as_nanos() as u64;
        for index in 0..self.plan.devices.len() {
            let device = &mut self.plan.devices[index];
            if let (Some(own), true) = (device.contender(), device.rests()) {
                device.rest(self.now_ns + away_ns * own as u64);
                self.rearm(index);
            }
        }
        Ok(())
    }

    fn is_over(&mut self) -> bool {
        let Some(drain_ns) = self.drain_ns else {
            return false;
        };
        if self.settled() {
            let since = *self.settled_ns.get_or_insert(self.now_ns);
            if self.now_ns - since >= LINGER.as_nanos() as u64 {
                return true;
            }
        } else {
            self.settled_ns = None;
        }
        self.now_ns - drain_ns >= self.plan.drain.as_nanos() as u64
    }

    /// True once everything sent is acknowledged, has arrived, and is acknowledged there.
    fn settled(&self) -> bool {
        self.pairs.iter().all(|pair| pair.ledger.owed() == 0)
            && self.has_one_owner_each()
            && self.plan.devices.iter().all(|device| match &device.side {
                Side::Publisher(publisher) => !publisher.waits(),
                Side::Subscriber(subscriber, _) => subscriber.unreleased() == 0,
                Side::Contender(..) => true,
            })
    }

    /// True of a contender that would disturb the last owner.
    fn is_superfluous(&self, index: usize) -> bool {
        let device = &self.plan.devices[index];
        if device.contender().is_none() || !device.rests() || self.phase < Phase::Stop {
            return false;
        }
        let first = index - index % self.plan.width;
        let all = &self.plan.devices[first..first + self.plan.width - 1];
        all.iter().any(|other| !other.rests() && !other.gave_up())
    }

    /// True once the fight is over: of those with one client id one is up, the others rest.
    fn has_one_owner_each(&self) -> bool {
        let mut pairs = self.plan.devices.chunks(self.plan.width);
        pairs.all(|pair| {
            let contenders = || pair.iter().filter(|device| device.contender().is_some());
            let up = contenders().filter(|device| device.is_up()).count();
            let resting = contenders().filter(|device| device.rests()).count();
            contenders().count() == 0 || (up == 1 && up + resting == contenders().count())
        })
    }

    fn show(&mut self) {
        let (mut delivered, mut owed, mut faults) = (0, 0, self.log.session_lost);
        for Pair { ledger, arena } in &self.pairs {
            delivered += ledger.delivered();
            owed += ledger.owed();
            faults += ledger.faults() + arena.sums.stale + arena.sums.reordered;
        }
        let (mut live, mut gap_ns) = (0, 0);
        for device in &mut self.plan.devices {
            live += u64::from(device.is_up());
            if device.contender().is_none() {
                gap_ns = gap_ns.max(device.gaps.take_recent_ns(self.now_ns));
            }
        }
        let gauge = &self.post.gauge;
        gauge.gap_ns.fetch_max(gap_ns, Ordering::Relaxed);
        for (figure, value) in [
            (&gauge.live, live),
            (&gauge.connects, self.log.connects),
            (&gauge.sent, self.sent),
            (&gauge.delivered, delivered),
            (&gauge.reconnects, self.log.reconnects),
            (&gauge.owed, owed),
            (&gauge.faults, faults),
        ] {
            figure.store(value, Ordering::Relaxed);
        }
    }

    /// Says goodbye, so that the broker is as it was before, and counts.
    fn finish(mut self) -> Tally {
        self.show();
        let due = self.schedule.as_ref().map_or(0, Schedule::due);
        let (mut unacked, mut gave_up) = (0, 0);
        for (device, link) in self.plan.devices.iter().zip(&mut self.links) {
            gave_up += u64::from(device.gave_up());
            if let Side::Publisher(publisher) = &device.side {
                unacked += publisher.unacked();
            }
            if device.is_up() {
                wire::end_session(&mut link.out, self.plan.settings.version);
                if link.flush().is_err() {
                    self.log.loss(Loss::Closed);
                }
            }
        }
        let devices = self.plan.devices.iter();
        let gaps = devices.filter(|device| device.contender().is_none());
        Tally {
            ledgers: self.pairs.iter().map(|pair| pair.ledger.sums()).collect(),
            bouts: self.pairs.iter().map(|pair| pair.arena.sums).collect(),
            gaps_ns: gaps.map(|d| d.gaps.longest_ns(self.now_ns)).collect(),
            unsent: due.saturating_sub(self.sent),
            late: self.late,
            unacked,
            gave_up,
            log: self.log,
        }
    }
}
