//! The threads, and what they and the main thread say to each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Error;
use crate::endure;
use crate::limits::REPORTS_MAX;
use crate::traffic::Tally;

/// What the threads are to do. Phases follow each other in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connect and subscribe.
    Setup,
    /// Publish, nothing counts yet.
    Warmup,
    /// Publish, everything counts.
    Measure,
    /// Publish nothing, wait for what is under way, then finish.
    Stop,
    /// Finish at once.
    Quit,
}

const PHASES: [Phase; 5] = [
    Phase::Setup,
    Phase::Warmup,
    Phase::Measure,
    Phase::Stop,
    Phase::Quit,
];

/// What a thread tells the main thread.
#[derive(Debug)]
pub(crate) enum Report {
    /// Its devices are up (cycling: the first one is).
    Ready,
    /// After a storm all its devices are up again.
    Back(Duration),
    /// All its devices are gone.
    Deserted,
    /// It is done.
    Finished(Box<Tally>),
    /// The same of a thread whose sessions outlive their connections.
    Endured(Box<endure::Tally>),
    /// The run cannot go on.
    Failed(Error),
}

/// Counters of one thread, each written by that thread alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Gauge {
    pub(crate) live: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) delivered: AtomicU64,
    /// endure: connections that came back.
    pub(crate) reconnects: AtomicU64,
    /// endure: acknowledged messages that have not arrived yet.
    pub(crate) owed: AtomicU64,
    /// endure: broken promises so far.
    pub(crate) faults: AtomicU64,
    /// endure: the longest time without service that ended, or was open, since the main thread looked; it takes the
    /// figure away.
    pub(crate) gap_ns: AtomicU64,
}

/// Sums of the counters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) live: u64,
    pub(crate) connects: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) reconnects: u64,
    pub(crate) owed: u64,
    pub(crate) faults: u64,
}

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    phase: AtomicU8,
    /// Zero of every time stamp.
    pub(crate) epoch: Instant,
}

impl Shared {
    /// The phase to be in.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Acquire))]
    }
}

/// What ties a thread to the main thread.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) shared: Arc<Shared>,
    pub(crate) gauge: Arc<Gauge>,
    reports: SyncSender<Report>,
}

impl Post {
    /// Tells the main thread.
    pub(crate) fn report(&self, report: Report) {
        // A main thread that already gave up does not listen any more.
        drop(self.reports.send(report));
    }
}

/// What a thread does.
pub(crate) trait Labour: Send + 'static {
    /// Works to the end of the last phase; gives the last report.
    fn work(self) -> Report;
}

/// What the threads have reported so far.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) ready: usize,
    pub(crate) back: usize,
    pub(crate) back_after: Duration,
    pub(crate) deserted: usize,
    pub(crate) tallies: Vec<Tally>,
    pub(crate) endured: Vec<endure::Tally>,
}

/// The running threads. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Crew {
    shared: Arc<Shared>,
    gauges: Vec<Arc<Gauge>>,
    wakers: Vec<Arc<mio::Waker>>,
    threads: Vec<JoinHandle<()>>,
    reports: Receiver<Report>,
    pub(crate) heard: Heard,
}

impl Crew {
    /// Starts one thread for each plan; `hire` makes a worker of it, and what wakes it.
    pub(crate) fn start<P, W: Labour>(
        plans: Vec<P>,
        hire: impl Fn(P, Post) -> Result<(W, Arc<mio::Waker>), Error>,
    ) -> Result<Self, Error> {
        let (sender, reports) = sync_channel(REPORTS_MAX);
        let phase = AtomicU8::new(Phase::Setup as u8);
        let shared = Arc::new(Shared {
            phase,
            epoch: Instant::now(),
        });
        let mut crew = Self {
            shared,
            gauges: Vec::new(),
            wakers: Vec::new(),
            threads: Vec::new(),
            reports,
            heard: Heard::default(),
        };
        for plan in plans {
            let gauge = Arc::new(Gauge::default());
            crew.gauges.push(Arc::clone(&gauge));
            let (shared, reports) = (Arc::clone(&crew.shared), sender.clone());
            let post = Post {
                shared,
                gauge,
                reports: reports.clone(),
            };
            let (worker, waker) = hire(plan, post)?;
            crew.wakers.push(waker);
            crew.employ(worker, reports)?;
        }
        Ok(crew)
    }

    /// How many threads there are.
    pub(crate) fn size(&self) -> usize {
        self.gauges.len()
    }

    /// All threads go on to `phase`.
    pub(crate) fn enter(&self, phase: Phase) -> Result<(), Error> {
        self.shared.phase.store(phase as u8, Ordering::Release);
        let wake = |waker: &Arc<mio::Waker>| waker.wake();
        self.wakers
            .iter()
            .try_for_each(wake)
            .map_err(Error::system("cannot wake a thread"))
    }

    /// Counters of all threads.
    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for gauge in &self.gauges {
            sum.live += gauge.live.load(Ordering::Relaxed);
            sum.connects += gauge.connects.load(Ordering::Relaxed);
            sum.sent += gauge.sent.load(Ordering::Relaxed);
            sum.delivered += gauge.delivered.load(Ordering::Relaxed);
            sum.reconnects += gauge.reconnects.load(Ordering::Relaxed);
            sum.owed += gauge.owed.load(Ordering::Relaxed);
            sum.faults += gauge.faults.load(Ordering::Relaxed);
        }
        sum
    }

    /// The longest time without service that ended, or was open, since the last call.
    pub(crate) fn take_longest_gap(&self) -> Duration {
        let gaps = self.gauges.iter().map(|gauge| &gauge.gap_ns);
        let longest = gaps.map(|gap| gap.swap(0, Ordering::Relaxed)).max();
        Duration::from_nanos(longest.unwrap_or(0))
    }

    /// Takes in the next report, for at most `patience`.
    pub(crate) fn listen(&mut self, patience: Duration) -> Result<(), Error> {
        match self.reports.recv_timeout(patience) {
            Ok(Report::Ready) => self.heard.ready += 1,
            Ok(Report::Back(after)) => {
                self.heard.back += 1;
                self.heard.back_after = self.heard.back_after.max(after);
            }
            Ok(Report::Deserted) => self.heard.deserted += 1,
            Ok(Report::Finished(tally)) => self.heard.tallies.push(*tally),
            Ok(Report::Endured(tally)) => self.heard.endured.push(*tally),
            Ok(Report::Failed(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Thread),
        }
        Ok(())
    }

    fn employ(&mut self, worker: impl Labour, reports: SyncSender<Report>) -> Result<(), Error> {
        let thread = std::thread::Builder::new()
            .name(format!("load-{}", self.threads.len()))
            .spawn(move || {
                let last = worker.work();
                // A main thread that already gave up does not listen any more.
                drop(reports.send(last));
            })
            .map_err(Error::system("cannot start a thread"))?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Err(error) = self.enter(Phase::Quit) {
            eprintln!("load test: {error}");
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("load test: {}", Error::Thread);
            }
        }
    }
}
