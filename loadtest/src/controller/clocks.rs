//! Which worker knows run time: those of this machine at once, the others by exchanges, again and again.

use super::clock::{Exchange, between};
use crate::control::message::ToWorker;
use crate::limits::CLOCK_EVERY_US;

/// The clocks of all workers.
#[derive(Debug)]
pub(crate) struct Clocks {
    workers: Vec<Clock>,
    /// Own clock at run time 0, µs.
    began_us: u64,
    /// When the next exchange is due.
    next_us: Option<u64>,
}

#[derive(Debug)]
struct Clock {
    remote: bool,
    exchange: Exchange,
    /// Greatest error of an exchange.
    error_us: u64,
    /// Knows run time.
    set: bool,
    /// Knows what to do.
    ready: bool,
    /// Both have been said.
    settled: bool,
}

impl Clocks {
    /// Nobody knows run time; `remote` are those on other machines.
    pub(crate) fn new(remote: &[bool], began_us: u64) -> Self {
        let clock = |&remote: &bool| Clock {
            remote,
            exchange: Exchange::new(),
            error_us: 0,
            set: false,
            ready: false,
            settled: false,
        };
        Self {
            workers: remote.iter().map(clock).collect(),
            began_us,
            next_us: None,
        }
    }

    /// What every worker is told first.
    pub(crate) fn begin(&mut self, now_us: u64) -> Vec<(u16, ToWorker)> {
        let us = -self.began_us.cast_signed();
        let mut messages = Vec::new();
        for (worker, clock) in (0..).zip(&mut self.workers) {
            clock.set = !clock.remote;
            if clock.set {
                messages.push((worker, ToWorker::Offset { us }));
            }
        }
        messages.extend(self.ask(now_us));
        messages
    }

    /// Asks again, where that is due.
    pub(crate) fn due(&mut self, now_us: u64) -> Vec<(u16, ToWorker)> {
        if self.next_us.is_none_or(|next_us| now_us < next_us) {
            return Vec::new();
        }
        self.ask(now_us)
    }

    /// When [`due`](Self::due) has something.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.next_us
    }

    /// A worker has answered: the next question, or its offset.
    pub(crate) fn answered(
        &mut self,
        worker: u16,
        now_us: u64,
        sent_us: u64,
        own_us: u64,
    ) -> ToWorker {
        let clock = &mut self.workers[usize::from(worker)];
        let Some(reading) = clock.exchange.answered(now_us, sent_us, own_us) else {
            return ToWorker::Clock { sent_us: now_us };
        };
        clock.set = true;
        clock.error_us = clock.error_us.max(reading.error_us);
        let us = reading.offset_us;
        ToWorker::Offset { us }
    }

    /// A worker knows what to do.
    pub(crate) fn ready(&mut self, worker: u16) {
        self.workers[usize::from(worker)].ready = true;
    }

    /// True once for each worker: when it knows run time and what to do.
    pub(crate) fn take_settled(&mut self, worker: u16) -> bool {
        let clock = &mut self.workers[usize::from(worker)];
        let newly = clock.set && clock.ready && !clock.settled;
        clock.settled |= newly;
        newly
    }

    /// How far off the time between two machines may have been, µs.
    pub(crate) fn error_us(&self) -> u64 {
        between(self.workers.iter().map(|clock| clock.error_us))
    }

    fn ask(&mut self, now_us: u64) -> Vec<(u16, ToWorker)> {
        let mut messages = Vec::new();
        for (worker, clock) in (0..).zip(&mut self.workers) {
            if clock.remote {
                clock.exchange = Exchange::new();
                messages.push((worker, ToWorker::Clock { sent_us: now_us }));
            }
        }
        self.next_us = (!messages.is_empty()).then_some(now_us + CLOCK_EVERY_US);
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CLOCK_ROUNDS;

    #[test]
    fn a_worker_of_this_machine_needs_no_exchange() {
        let mut clocks = Clocks::new(&[false], 5_000);
        assert_eq!(clocks.begin(10), [(0, ToWorker::Offset { us: -5_000 })]);
        assert!(!clocks.take_settled(0), "it is not ready");
        clocks.ready(0);
        assert!(clocks.take_settled(0));
        assert!(!clocks.take_settled(0), "once");
        assert_eq!((clocks.deadline(), clocks.error_us()), (None, 0));
    }

    #[test]
    fn a_worker_elsewhere_is_asked_now_and_each_minute() {
        let mut clocks = Clocks::new(&[false, true], 5_000);
        let first = clocks.begin(10);
        assert_eq!(first[1], (1, ToWorker::Clock { sent_us: 10 }));
        clocks.ready(1);
        assert!(!clocks.take_settled(1), "it does not know the time");
        let mut now_us = 10;
        let mut answer = first[1].1.clone();
        for _ in 0..CLOCK_ROUNDS {
            assert_eq!(answer, ToWorker::Clock { sent_us: now_us });
            now_us += 100;
            answer = clocks.answered(1, now_us, now_us - 100, now_us + 950);
        }
        assert_eq!(answer, ToWorker::Offset { us: -1_000 });
        assert!(clocks.take_settled(1));
        assert_eq!(clocks.error_us(), 50);
        let next_us = 10 + CLOCK_EVERY_US;
        assert_eq!(clocks.deadline(), Some(next_us));
        assert_eq!(clocks.due(next_us - 1), []);
        let again = [(1, ToWorker::Clock { sent_us: next_us })];
        assert_eq!(clocks.due(next_us), again);
        assert_eq!(clocks.due(next_us + 1), []);
    }
}
