//! The load that fills the queues of sessions that are away, and sees whether everything comes when they are back.
//!
//! | file      | what it holds                                                       |
//! |-----------|---------------------------------------------------------------------|
//! | `book`    | who there is, what is owed to whom, the payloads                    |
//! | `fill`    | sessions that subscribe and leave, and the publishers               |
//! | `drain`   | the sessions that come back, and the oracle                         |
//! | `station` | the poll loop that carries bytes between sockets and these          |
//! | `report`  | what came of it                                                     |
//!
//! Invariant: the parts share arguments and nothing else, so the broker and this program may be gone between them.

mod book;
mod drain;
mod fill;
mod report;
mod station;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Error;
use crate::args::{LoadtestArgs, Part};
use crate::conduct::run_name;
use crate::limits::BACKLOG_OUTSTANDING;
use crate::meter::{Meter, Sample};
use crate::progress::Progress;
use crate::report::Verdict;
use crate::tls::Tls;
use crate::traffic::Errors;
use crate::wire::{self, Connack, Keep, Packet, Version};
use book::Book;
use drain::Drainers;
use fill::{Arrivals, Fillers};
pub use report::Backlog;
use station::{Ended, Station};

/// What all devices ask a broker for.
#[derive(Debug, Clone, Copy)]
struct Terms {
    version: Version,
    /// How long a session outlives its connection, in seconds (MQTT 5).
    expiry_s: u32,
}

impl Terms {
    fn keep(self) -> Keep {
        Keep::Seconds(self.expiry_s)
    }

    /// Appends CONNECT, without a keepalive: nothing here is silent for long, and what hangs, patience ends.
    fn connect(self, out: &mut Vec<u8>, client_id: &str, keep: Keep) {
        wire::connect(out, self.version, client_id, 0, keep);
    }
}

/// Reads a CONNACK that accepts.
fn accepted(packet: &Packet<'_>, version: Version) -> Result<Connack, String> {
    let connack = wire::connack(packet.body, version)?;
    match connack.code {
        0 => Ok(connack),
        code => Err(format!("CONNACK 0x{code:02x}")),
    }
}

/// Runs the parts that are asked for.
pub(crate) fn run(
    args: &LoadtestArgs,
    addrs: &[SocketAddr],
    tls: Option<&Tls>,
) -> Result<Verdict, Error> {
    let run = args.run.clone().unwrap_or_else(run_name);
    let book = Book::new(&run, args.conns as u32, args.messages, args.size);
    let mut load = Load {
        terms: Terms {
            version: args.version(),
            expiry_s: args.session_expiry,
        },
        station: Station {
            addrs,
            tls,
            outstanding: args.outstanding.unwrap_or(BACKLOG_OUTSTANDING),
            patience: Duration::from_secs_f64(args.patience),
            dialed: 0,
            connects: 0,
            errors: Errors::new(),
        },
        meter: Meter::new(&args.pid)?,
        progress: Progress::new("subscribing", args.report_every(), false),
        found: Backlog {
            run,
            messages: args.messages,
            ..Backlog::default()
        },
    };
    let mut verdict = Verdict::default();
    verdict.describe(args);
    let (began, before) = (Instant::now(), load.meter.sample()?);
    if args.part != Part::Drain {
        load.fill(&book, args, &mut verdict)?;
    }
    if args.part != Part::Fill && load.found.broken.is_none() {
        load.drain(&book, &mut verdict)?;
    }
    let after = load.meter.sample()?;
    load.progress.finish();
    verdict.secs = began.elapsed().as_secs_f64();
    verdict.connects = load.station.connects;
    verdict.connects_per_s = verdict.connects as f64 / verdict.secs;
    verdict.errors = load.station.errors;
    cost(&mut verdict, &mut load.found, &before, &after);
    verdict.backlog = Some(load.found);
    verdict.judge();
    Ok(verdict)
}

fn cost(verdict: &mut Verdict, found: &mut Backlog, before: &Sample, after: &Sample) {
    verdict.loadtest_cpu_s = after.own.seconds_since(&before.own);
    if let (Some(before), Some(after)) = (&before.broker, &after.broker) {
        verdict.broker_cpu_s = Some(after.cpu.seconds_since(&before.cpu));
        verdict.broker_rss_bytes = Some(after.rss_bytes);
        found.broker_peak_rss_bytes = Some(after.peak_bytes);
    }
}

/// A run under way.
struct Load<'a> {
    terms: Terms,
    station: Station<'a>,
    meter: Meter,
    progress: Progress,
    found: Backlog,
}

impl Load<'_> {
    fn fill(
        &mut self,
        book: &Book,
        args: &LoadtestArgs,
        verdict: &mut Verdict,
    ) -> Result<(), Error> {
        let mut arrivals = Arrivals::new(book, self.terms, args.filters);
        let ended = self.station.serve(&mut arrivals, &mut self.progress)?;
        self.took_place(ended);
        let began = Instant::now();
        if self.found.broken.is_none() {
            self.progress.step("filling");
            let mut fillers = Fillers::new(book, self.terms, args.window);
            let ended = self.station.serve(&mut fillers, &mut self.progress)?;
            self.took_place(ended);
            verdict.sent = fillers.sent();
            self.found.acked = fillers.acked();
        }
        self.found.fill_s = Some(began.elapsed().as_secs_f64());
        Ok(())
    }

    fn drain(&mut self, book: &Book, verdict: &mut Verdict) -> Result<(), Error> {
        self.progress.step("draining");
        let began = Instant::now();
        let mut drainers = Drainers::new(book, self.terms);
        let ended = self.station.serve(&mut drainers, &mut self.progress)?;
        let seconds = drainers.last().unwrap_or_else(Instant::now) - began;
        self.took_place(ended);
        self.found.drain_s = Some(seconds.as_secs_f64());
        drainers.tell(&mut self.found);
        verdict.delivered = drainers.arrived();
        verdict.delivered_per_s = verdict.delivered as f64 / seconds.as_secs_f64().max(0.001);
        verdict.lost = drainers.lost();
        verdict.reordered = drainers.reordered();
        verdict.duplicated = drainers.duplicated();
        Ok(())
    }

    fn took_place(&mut self, ended: Ended) {
        if let Ended::Broken(why) = ended {
            self.found.broken = Some(why);
        }
    }
}
