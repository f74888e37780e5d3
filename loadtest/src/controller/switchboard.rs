//! The control connections of all workers, and what travels from one worker to another.
//!
//! Rule: a worker reads whatever it has to send, so what is written to it leaves as long as it runs at all. Receipts and
//! presence for a worker with much waiting are put aside, one message of each sender, and the sender is not read until
//! that message has gone on. Its own row grows meanwhile, up to its limit. Nobody waits for a sender, so there is no circle,
//! and what the controller keeps is bounded: `CONTROL_BACKLOG_BYTES` and one message of each sender for each worker.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use crate::Error;
use crate::control::line::Line;
use crate::control::message::{FromWorker, ToWorker};
use crate::limits::EVENTS_PER_POLL;

/// Wakes the controller from another thread.
const WAKE: Token = Token(usize::MAX);

/// All control connections.
pub(crate) struct Switchboard {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    seats: Vec<Seat>,
}

/// One worker.
struct Seat {
    /// `None` after its last message.
    line: Option<Line>,
    /// A message of this worker that its receiver has no room for.
    parked: Option<(u16, ToWorker)>,
}

/// What came of a message.
enum Passed {
    /// It was for the controller.
    Here(FromWorker),
    /// It is on its way.
    On,
    /// Its receiver has no room.
    Parked,
}

impl Switchboard {
    /// Worker n is line n.
    pub(crate) fn new(lines: Vec<Line>) -> Result<Self, Error> {
        let failed = Error::system("cannot wait for control connections");
        let poll = Poll::new().map_err(failed)?;
        let failed = Error::system("cannot be woken");
        let waker = Waker::new(poll.registry(), WAKE).map_err(failed)?;
        for (index, line) in lines.iter().enumerate() {
            line.register(poll.registry(), Token(index))?;
        }
        let seat = |line| Seat {
            line: Some(line),
            parked: None,
        };
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            waker: Arc::new(waker),
            seats: lines.into_iter().map(seat).collect(),
        })
    }

    /// What wakes [`wait`](Self::wait).
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Waits for `limit` at most, and hands over all that has come for the controller, with the worker's number.
    pub(crate) fn wait(
        &mut self,
        limit: Duration,
        heard: &mut Vec<(u16, FromWorker)>,
    ) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(limit)) {
            // A signal; whoever waits looks.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(Error::system("cannot wait for control connections"))?,
        }
        let woken = self.events.iter().map(Event::token);
        let woken: Vec<_> = woken.filter(|&token| token != WAKE).collect();
        for Token(index) in woken {
            self.flush(index)?;
            self.pump(index, heard)?;
        }
        self.unpark(heard)
    }

    /// Tells one worker.
    pub(crate) fn tell(&mut self, worker: u16, message: &ToWorker) -> Result<(), Failure> {
        let seat = &mut self.seats[usize::from(worker)];
        let Some(line) = &mut seat.line else {
            return Ok(());
        };
        line.send(message)
            .map_err(|error| Failure::of(worker, error))
    }

    /// Tells all workers that have not ended.
    pub(crate) fn tell_all(&mut self, message: &ToWorker) -> Result<(), Failure> {
        (0..self.seats.len()).try_for_each(|index| self.tell(number(index), message))
    }

    /// Everything that a worker has said and that nobody has read, as far as it can be had: why it ended may be among it.
    pub(crate) fn last_words(&mut self, worker: u16) -> Vec<FromWorker> {
        let seat = &mut self.seats[usize::from(worker)];
        let Some(mut line) = seat.line.take() else {
            return Vec::new();
        };
        std::iter::from_fn(|| line.take().ok().flatten()).collect()
    }

    fn flush(&mut self, index: usize) -> Result<(), Failure> {
        let Some(line) = &mut self.seats[index].line else {
            return Ok(());
        };
        line.flush()
            .map_err(|error| Failure::of(number(index), error))
    }

    /// Reads a worker until there is no more, or one of its messages has to wait.
    fn pump(&mut self, index: usize, heard: &mut Vec<(u16, FromWorker)>) -> Result<(), Failure> {
        while self.seats[index].parked.is_none() {
            let Some(line) = &mut self.seats[index].line else {
                return Ok(());
            };
            let taken = line
                .take()
                .map_err(|error| Failure::of(number(index), error))?;
            let Some(message) = taken else {
                return Ok(());
            };
            let last = matches!(message, FromWorker::Final(_));
            if let Passed::Here(message) = self.pass(index, message)? {
                heard.push((number(index), message));
            }
            if last {
                self.seats[index].line = None;
            }
        }
        Ok(())
    }

    /// Sends on what is for another worker.
    fn pass(&mut self, index: usize, message: FromWorker) -> Result<Passed, Failure> {
        let (to, message) = match message {
            FromWorker::Receipts { of, receipts } => (of, ToWorker::Receipts(receipts)),
            FromWorker::Presence(presence) => (0, ToWorker::Presence(presence)),
            here => return Ok(Passed::Here(here)),
        };
        if usize::from(to) >= self.seats.len() {
            let what = format!("has receipts for worker {to}, which does not exist");
            return Err(self.protest(index, what));
        }
        if self.is_crowded(to) {
            self.seats[index].parked = Some((to, message));
            return Ok(Passed::Parked);
        }
        // A worker that has said all has closed its accounts: what comes for it now is too late to count.
        self.tell(to, &message)?;
        Ok(Passed::On)
    }

    /// Lets messages go on that now have room, and reads on where they came from.
    fn unpark(&mut self, heard: &mut Vec<(u16, FromWorker)>) -> Result<(), Failure> {
        for index in 0..self.seats.len() {
            let free = |seat: &Seat| seat.parked.as_ref().map(|&(to, _)| to);
            let Some(to) = free(&self.seats[index]) else {
                continue;
            };
            if self.is_crowded(to) {
                continue;
            }
            if let Some((to, message)) = self.seats[index].parked.take() {
                self.tell(to, &message)?;
            }
            self.pump(index, heard)?;
        }
        Ok(())
    }

    fn is_crowded(&self, worker: u16) -> bool {
        let line = &self.seats[usize::from(worker)].line;
        line.as_ref().is_some_and(Line::is_crowded)
    }

    fn protest(&self, index: usize, what: String) -> Failure {
        let line = self.seats[index].line.as_ref();
        let who = line.map_or_else(|| format!("worker {index}"), |line| line.name().to_owned());
        Failure::of(number(index), Error::Control { who, what })
    }
}

/// Why the switchboard cannot go on.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Whose fault it is, where it is a worker's.
    pub(crate) worker: Option<u16>,
    /// What happened.
    pub(crate) error: Error,
}

impl Failure {
    fn of(worker: u16, error: Error) -> Self {
        Self {
            worker: Some(worker),
            error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            worker: None,
            error,
        }
    }
}

fn number(index: usize) -> u16 {
    u16::try_from(index).expect("there are WORKERS_MAX at most")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::control::message::{Receipt, Sample, Seen, Stream};

    /// The switchboard's end and the worker's.
    fn worker(name: &str) -> (Line, UnixStream) {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        let line = Line::open(name.to_owned(), here.into()).expect("a line");
        (line, there)
    }

    fn say(socket: &UnixStream, message: &FromWorker) {
        let body = postcard::to_stdvec(message).expect("it can be written");
        let length = u32::try_from(body.len()).expect("short enough");
        let bytes = [&length.to_be_bytes()[..], &body].concat();
        io::Write::write_all(&mut &*socket, &bytes).expect("written");
    }

    #[test]
    fn what_comes_for_a_worker_that_has_just_ended_is_no_failure() {
        let (zero, to_zero) = worker("worker 0");
        let (one, to_one) = worker("worker 1");
        let mut switchboard = Switchboard::new(vec![zero, one]).expect("a switchboard");
        let stream = Stream { kind: 0, device: 1 };
        let seen = Seen::First;
        let receipts = vec![Receipt {
            stream,
            seq: 1,
            seen,
        }];
        say(&to_zero, &FromWorker::Receipts { of: 1, receipts });
        say(&to_one, &FromWorker::Final(Box::default()));
        drop(to_one);
        let mut heard = Vec::new();
        let waited = switchboard.wait(Duration::from_secs(5), &mut heard);
        waited.expect("nobody has failed");
        assert_eq!(heard, [(1, FromWorker::Final(Box::<Sample>::default()))]);
    }
}
