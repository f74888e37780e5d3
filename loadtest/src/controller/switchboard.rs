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
    use std::thread::JoinHandle;
    use std::time::Instant;

    use super::*;
    use crate::control::channel::Channel;
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

    type Worker = Channel<FromWorker, ToWorker>;

    /// A worker that floods another one while it reads what comes; done when it has sent and got so many.
    fn flood(socket: UnixStream, of: u16) -> JoinHandle<Result<(Vec<u32>, Worker), Error>> {
        std::thread::spawn(move || {
            let mut channel = Worker::new("the controller".to_owned(), socket.into());
            channel.open()?;
            let mut poll = Poll::new().expect("a poll");
            channel.register(poll.registry(), Token(0))?;
            let mut events = Events::with_capacity(4);
            let (mut sent, mut got) = (0, Vec::new());
            while sent < FLOOD || got.len() < FLOOD as usize || channel.unsent_bytes() > 0 {
                // Like a worker: it sends with a limit, and reads always.
                while sent < FLOOD && channel.unsent_bytes() < 1024 * 1024 {
                    let receipts = receipts(sent);
                    channel.send(&FromWorker::Receipts { of, receipts })?;
                    sent += 1;
                }
                channel.flush()?;
                while let Some(ToWorker::Receipts(receipts)) = channel.take()? {
                    got.push(receipts[0].seq);
                }
                let limit = Some(Duration::from_millis(20));
                poll.poll(&mut events, limit).expect("a poll");
            }
            Ok((got, channel))
        })
    }

    /// Messages of 5,000 receipts: eight MiB from each.
    const FLOOD: u32 = 200;

    fn receipts(seq: u32) -> Vec<Receipt> {
        let stream = Stream {
            kind: 1,
            device: 1_000_000,
        };
        let seen = Seen::First;
        vec![Receipt { stream, seq, seen }; 5_000]
    }

    #[test]
    fn workers_that_flood_each_other_get_everything_in_order() {
        let (lines, sockets): (Vec<_>, Vec<_>) = ["worker 0", "worker 1", "worker 2"]
            .map(worker)
            .into_iter()
            .unzip();
        let mut switchboard = Switchboard::new(lines).expect("a switchboard");
        let threads: Vec<_> = sockets.into_iter().zip([1, 2, 0]).collect();
        let threads: Vec<_> = threads
            .into_iter()
            .map(|(socket, of)| flood(socket, of))
            .collect();
        serve(&mut switchboard, || {
            threads.iter().all(JoinHandle::is_finished)
        });
        for thread in threads {
            let done = thread.join().expect("no panic");
            let (got, _) = done.expect("nobody was too slow");
            assert_eq!(got, (0..FLOOD).collect::<Vec<_>>());
        }
    }

    /// Until that is so; it must not take long.
    fn serve(switchboard: &mut Switchboard, done: impl Fn() -> bool) {
        let began = Instant::now();
        let mut heard = Vec::new();
        while !done() {
            assert!(began.elapsed().as_secs() < 100, "somebody waits for ever");
            let waited = switchboard.wait(Duration::from_millis(20), &mut heard);
            waited.expect("nobody has failed");
        }
    }

    #[test]
    fn a_worker_that_does_not_read_holds_up_those_who_send_to_it_and_nobody_else() {
        let (zero, to_zero) = worker("worker 0");
        let (one, to_one) = worker("worker 1");
        let (two, to_two) = worker("worker 2");
        let mut switchboard = Switchboard::new(vec![zero, one, two]).expect("a switchboard");
        let mut heard = Vec::new();
        let of = 0;
        to_one.set_nonblocking(true).expect("a socket");
        // Until worker 1 is not read any more, because of what waits for worker 0.
        let body = {
            let receipts = receipts(0);
            postcard::to_stdvec(&FromWorker::Receipts { of, receipts }).expect("it can be written")
        };
        let mut bytes = u32::try_from(body.len())
            .expect("short")
            .to_be_bytes()
            .to_vec();
        bytes.extend(body);
        let mut written = 0;
        while switchboard.seats[1].parked.is_none() {
            let from = written % bytes.len();
            written += io::Write::write(&mut &to_one, &bytes[from..]).expect("it is read");
            let waited = switchboard.wait(Duration::ZERO, &mut heard);
            waited.expect("nobody has failed");
            assert!(written < 64 * 1024 * 1024, "it has to be held up");
        }
        say(&to_two, &FromWorker::Ready { process: 2 });
        let waited = switchboard.wait(Duration::from_secs(5), &mut heard);
        waited.expect("nobody has failed");
        assert_eq!(heard, [(2, FromWorker::Ready { process: 2 })]);
        // Worker 0 reads, and everything goes on: whole messages, without the byte that says for whom they are.
        let mut expected = written / bytes.len() * (bytes.len() - 1);
        let reader = std::thread::spawn(move || {
            let mut sink = vec![0; 64 * 1024];
            while expected > 0 {
                let len = io::Read::read(&mut &to_zero, &mut sink).expect("it comes");
                expected = expected.checked_sub(len).expect("no more than was sent");
            }
            to_zero
        });
        serve(&mut switchboard, || reader.is_finished());
        drop(reader.join().expect("everything has come"));
    }
}
