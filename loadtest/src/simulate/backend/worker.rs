//! The loop of the back end: orders of the controller, phases, the figures of each second.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::books::Books;
use super::client::Client;
use super::consumer::{Inbox, Receiver};
use super::lines::{Lines, Role};
use super::plan::Plan;
use super::sender::Sender;
use crate::Error;
use crate::control::desk::Desk;
use crate::control::message::{Assignment, BACKEND_UP, FromWorker, ToWorker};
use crate::limits::{
    BACKEND_LEAVE_MAX, BACKEND_STEP, BACKEND_TICK, CONTROL_STALL_MAX, EVENTS_PER_POLL,
};
use crate::scenario::{Consumer, PhaseKind};
use crate::simulate::dice::Dice;
use crate::simulate::usage::{self, Usage};
use crate::window::Window;

/// The control connection's readiness.
const CONTROL: Token = Token(usize::MAX);

/// Works to the end of the run. What makes it impossible is told to the controller as well.
pub(crate) fn run(desk: Desk, assignment: Assignment) -> Result<(), Error> {
    let mut backend = Backend::new(desk, assignment)?;
    let worked = backend.work();
    if let Err(error) = &worked {
        backend.desk.send(&FromWorker::Failed(error.to_string()))?;
    }
    backend.empty_the_desk()?;
    worked
}

struct Backend {
    desk: Desk,
    poll: Poll,
    targets: Vec<SocketAddr>,
    lines: Lines,
    usage: Usage,
    /// A phase whose end this worker is to tell, and whether it is a drain.
    phase: Option<(u16, bool)>,
    told_up: bool,
    sample_us: u64,
    tick_us: u64,
    /// Goodbye was said; the brokers are waited for until then.
    leaving_until_us: Option<u64>,
}

impl Backend {
    fn new(desk: Desk, assignment: Assignment) -> Result<Self, Error> {
        let poll = Poll::new().map_err(Error::system("cannot wait for sockets"))?;
        desk.register(poll.registry(), CONTROL)?;
        let targets = assignment.targets.clone();
        if targets.is_empty() {
            let what = "the back end has no address to connect to: it speaks plain TCP";
            return Err(Error::Arguments(what.to_owned()));
        }
        Ok(Self {
            desk,
            poll,
            targets,
            lines: lines(assignment),
            usage: Usage::new()?,
            phase: None,
            told_up: false,
            sample_us: 0,
            tick_us: 0,
            leaving_until_us: None,
        })
    }

    fn work(&mut self) -> Result<(), Error> {
        let process = std::process::id();
        self.desk.send(&FromWorker::Ready { process })?;
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        loop {
            self.desk.flush()?;
            self.wait(&mut events)?;
            let now_us = self.desk.now_us();
            for event in &events {
                if event.token() == CONTROL {
                    self.orders()?;
                } else {
                    let ended = event.is_read_closed() || event.is_error();
                    self.lines.ready(event.token().0, ended, now_us)?;
                }
            }
            if self.turn()? {
                return Ok(());
            }
        }
    }

    fn wait(&mut self, events: &mut Events) -> Result<(), Error> {
        let sending = self.lines.senders.iter().any(Sender::is_active);
        let patience = match self.desk.now_us() {
            0 => None,
            _ if sending => Some(BACKEND_STEP),
            _ => Some(BACKEND_TICK),
        };
        match self.poll.poll(events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(Error::system("cannot wait for sockets")(error))
            }
            _ => Ok(()),
        }
    }

    /// What the clock asks for; true at the end of the run.
    fn turn(&mut self) -> Result<bool, Error> {
        let now_us = self.desk.now_us();
        if now_us == 0 {
            return Ok(false);
        }
        if now_us >= self.tick_us {
            self.tick_us = now_us + BACKEND_TICK.as_micros() as u64;
            let ticked = self.lines.tick(now_us, self.poll.registry(), &self.targets);
            ticked?;
        }
        self.lines.send_due(now_us)?;
        for message in self.lines.books.outgoing() {
            self.desk.send(&message)?;
        }
        if now_us >= self.sample_us {
            self.sample_us = now_us + Duration::from_secs(1).as_micros() as u64;
            self.sample()?;
        }
        self.tell_progress()?;
        if self
            .leaving_until_us
            .is_some_and(|until| now_us >= until || self.lines.all_closed())
        {
            self.close()?;
            return Ok(true);
        }
        Ok(false)
    }

    fn orders(&mut self) -> Result<(), Error> {
        while let Some(order) = self.desk.take()? {
            let now_us = self.desk.now_us();
            match order {
                ToWorker::Phase { index, at_us } => self.begin(index, at_us)?,
                ToWorker::PhaseEnd { .. } => self.lines.stop_sending(now_us),
                ToWorker::Receipts(receipts) => self.lines.received(&receipts, now_us),
                ToWorker::Presence(presence) => self.lines.presence(&presence, now_us),
                ToWorker::Finish => {
                    let until_us = now_us + BACKEND_LEAVE_MAX.as_micros() as u64;
                    self.leaving_until_us = Some(until_us);
                    self.lines.stop_sending(now_us);
                    self.lines.leave(now_us)?;
                }
                ToWorker::Begin(_) | ToWorker::Clock { .. } | ToWorker::Offset { .. } => {
                    return Err(Error::Control {
                        who: "the controller".to_owned(),
                        what: "gave a second assignment".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: u16, at_us: u64) -> Result<(), Error> {
        let Some(phase) = self.lines.plan.scenario.phases.get(usize::from(index)) else {
            return Err(Error::Control {
                who: "the controller".to_owned(),
                what: format!("began phase {index}, which the scenario does not have"),
            });
        };
        let drain = phase.what == PhaseKind::Drain;
        let told = match phase.what {
            PhaseKind::Ramp { .. } | PhaseKind::Storm { .. } | PhaseKind::Drain => true,
            PhaseKind::Steady { .. } | PhaseKind::Restart { .. } => false,
        };
        self.phase = told.then_some((index, drain));
        for sender in &mut self.lines.senders {
            sender.end(at_us);
            if !drain {
                sender.begin(phase.commands, at_us);
            }
        }
        Ok(())
    }

    /// Says what has come to its end.
    fn tell_progress(&mut self) -> Result<(), Error> {
        if !self.told_up && self.lines.all_up() {
            self.told_up = true;
            self.done(BACKEND_UP)?;
        }
        match self.phase {
            Some((index, drain)) if self.lines.all_up() && (!drain || self.lines.is_quiet()) => {
                self.phase = None;
                self.done(index)
            }
            _ => Ok(()),
        }
    }

    fn done(&mut self, index: u16) -> Result<(), Error> {
        self.sample()?;
        self.desk.send(&FromWorker::PhaseDone { index })
    }

    fn sample(&mut self) -> Result<(), Error> {
        let sample = self.figures()?;
        self.desk.send(&FromWorker::Sample(Box::new(sample)))
    }

    /// Sends everything but the figures, and gives these.
    fn figures(&mut self) -> Result<crate::control::message::Sample, Error> {
        let now_us = self.desk.now_us();
        let books = &mut self.lines.books;
        books.ledger.settle(now_us, &mut books.findings);
        books.counts.not_sent = self.lines.senders.iter().map(Sender::skipped).sum();
        for message in books.report() {
            self.desk.send(&message)?;
        }
        Ok(crate::control::message::Sample {
            connecting: self.lines.down(),
            cpu_us: usage::cpu_us(),
            rss_bytes: self.usage.rss_bytes()?,
            ..self.lines.books.sample(now_us)
        })
    }

    /// The run is over: what is still owed is lost.
    fn close(&mut self) -> Result<(), Error> {
        let books = &mut self.lines.books;
        let closed = books.ledger.close(&mut books.findings);
        books.counts.unacknowledged += closed.unacknowledged;
        let last = self.figures()?;
        self.desk.send(&FromWorker::Final(Box::new(last)))
    }

    /// Everything said reaches the controller.
    fn empty_the_desk(&mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        self.desk.flush()?;
        while self.desk.unsent_bytes() > 0 {
            let waited = self.poll.poll(&mut events, Some(CONTROL_STALL_MAX));
            waited.map_err(Error::system("cannot wait for sockets"))?;
            self.desk.flush()?;
        }
        Ok(())
    }
}

/// All connections that the scenario has the back end make.
fn lines(assignment: Assignment) -> Lines {
    let books = Books::new(&assignment.shares);
    let addresses = assignment.targets.len();
    let plan = Plan {
        scenario: assignment.scenario,
        run: assignment.run,
    };
    let (mut clients, mut roles, mut receivers) = (Vec::new(), Vec::new(), Vec::new());
    let mut add = |id: String, filter, role| {
        let number = clients.len();
        let dice = Dice::new(plan.scenario.seed, u64::from(u32::MAX) + number as u64);
        clients.push(Client::new(id, filter, (number, addresses), dice));
        roles.push(role);
    };
    for consumer in &plan.scenario.consumers {
        for number in 0..consumer.connections {
            if number == 0 || consumer.share.is_none() {
                receivers.push(Receiver::new(receivers.len(), consumer, &plan));
            }
            let (receiver, inbox) = (receivers.len() - 1, Inbox::default());
            let filter = (filter(consumer, plan.run), consumer.qos);
            let id = format!("{:x}-{}-{number}", plan.run, consumer.name);
            add(id, Some(filter), Role::Consumer { receiver, inbox });
        }
    }
    let mut senders = Vec::new();
    for (index, commands) in plan.scenario.commands.iter().enumerate() {
        let sender = Sender::new(&plan.scenario, index, commands);
        for lane in 0..sender.lanes() {
            let role = Role::Sender {
                commands: index,
                lane,
                window: Window::new(commands.qos),
            };
            add(
                format!("{:x}-{}-{lane}", plan.run, commands.name),
                None,
                role,
            );
        }
        senders.push(sender);
    }
    Lines::new(plan, (clients, roles), receivers, senders, books)
}

/// What a consumer subscribes to. A share is of one run: two runs on the same brokers must not take each other's messages.
fn filter(consumer: &Consumer, run: u32) -> String {
    match &consumer.share {
        Some(share) => format!("$share/{share}{run:x}/{}", consumer.filter),
        None => consumer.filter.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Message, Promise};
    use crate::control::message::{FindingKind, Receipt, Seen, Stream};
    use crate::wire::{Scan, scan};

    /// One connection, which sends commands to three devices.
    fn sender() -> Lines {
        lines(Assignment {
            scenario: crate::controller::samples::scenario(3),
            run: 7,
            worker: 0,
            targets: vec![([127, 0, 0, 1], 1).into()],
            tls_targets: Vec::new(),
            tls: None,
            shares: vec![0..0, 0..3],
        })
    }

    #[test]
    fn commands_at_qos_0_may_be_overtaken_after_a_reconnect() {
        let mut lines = sender();
        let poll = Poll::new().expect("epoll");
        let stream = Stream { kind: 1, device: 2 };
        for seq in 0..2 {
            let promise = Promise {
                receivers: 1,
                qos: 0,
            };
            let message = Message {
                stream,
                seq,
                qos: 0,
                due_us: 1,
                promise,
            };
            lines.books.ledger.sent(&message, 1).expect("room");
            if seq == 0 {
                lines.clients[0].dialed(1, &mut Vec::new());
                let never_us = 3_600_000_000;
                let targets = [([127, 0, 0, 1], 1).into()];
                let ticked = lines.tick(never_us, poll.registry(), &targets);
                ticked.expect("it loses the connection, for want of an answer");
            }
        }
        let reordered = |lines: &Lines| {
            let counts = lines.books.findings.counts();
            counts[FindingKind::Reordered as usize]
        };
        for (seq, found) in [(0, 0), (1, 1)] {
            let seen = Seen::Behind { qos: 0 };
            lines.received(&[Receipt { stream, seq, seen }], 2);
            assert_eq!(reordered(&lines), found);
        }
    }

    #[test]
    fn connections_without_a_connack_are_on_their_way() {
        let mut lines = sender();
        assert_eq!((lines.down(), lines.all_up()), (1, false));
        let mut out = Vec::new();
        lines.clients[0].dialed(1, &mut out);
        assert_eq!(lines.down(), 1);
        let Scan::Packet(connack) = scan(&[0x20, 3, 0, 0, 0]) else {
            panic!("a CONNACK")
        };
        let heard = lines.clients[0].hear(&connack, 2, &mut out);
        assert!(heard.is_ok());
        assert_eq!((lines.down(), lines.all_up()), (0, true));
    }
}
