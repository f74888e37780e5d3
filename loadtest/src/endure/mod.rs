//! The scenario that proves promises across crashes: sessions outlive their connections, and come
//! back at the next address.
//!
//! | file           | what it holds                                                          |
//! |----------------|------------------------------------------------------------------------|
//! | `plan`         | from arguments to the devices of each thread                           |
//! | `device`       | one device without I/O: addresses, back-off, handshake, keepalive      |
//! | `filters`      | what a subscriber asks for                                             |
//! | `publisher`    | its half of a session: open messages, sent again until they are done   |
//! | `subscriber`   | its half of a session: `QoS` 2 packet ids                              |
//! | `ledger`       | the oracle: what was promised, and what came                           |
//! | `arena`        | the oracle of a client id that several clients fight for               |
//! | `availability` | how long a connection was without service                              |
//! | `timers`       | when each device is to be looked at                                    |
//! | `worker`       | the poll loop that carries bytes between sockets and devices           |
//!
//! Invariant: nothing here forgets a promise because a connection ended.

mod arena;
mod availability;
mod backoff;
mod device;
mod filters;
mod ledger;
mod log;
mod plan;
mod publisher;
mod ranges;
mod subscriber;
mod tally;
mod timers;
mod worker;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::Error;
use crate::args::LoadtestArgs;
use crate::conduct::{Run, run_name};
use crate::crew::{Crew, Phase};
use crate::meter::Meter;
use crate::progress::Progress;
use crate::report::Verdict;
use crate::signals::stop_on_signal;
use crate::tls::Tls;
use worker::Worker;

pub(crate) use tally::Tally;

/// Runs the scenario to its end.
pub(crate) fn run(
    args: &LoadtestArgs,
    addrs: &[SocketAddr],
    tls: Option<&Tls>,
) -> Result<Verdict, Error> {
    let plans = plan::plans(args, addrs, tls, &run_name());
    let mut run = Run {
        crew: Crew::start(plans, Worker::new)?,
        meter: Meter::new(&[])?,
        progress: Progress::new("connecting", args.report_every(), true),
    };
    let began = std::time::Instant::now();
    run.until(None, |crew| crew.heard.ready == crew.size())?;
    let from = run.mark()?;
    let setup = from.at - began;
    run.progress.step("measuring");
    // The first one ends the publishing before its time, and what was found out by then is judged.
    let enough = stop_on_signal()?;
    run.crew.enter(Phase::Measure)?;
    run.until(Some(args.measured()), |crew| {
        crew.heard.deserted == crew.size() || enough.load(Ordering::Relaxed)
    })?;
    let to = run.mark()?;
    run.progress.step("waiting for what was acknowledged");
    run.crew.enter(Phase::Stop)?;
    run.until(None, |crew| crew.heard.endured.len() == crew.size())?;
    let end = run.crew.counts();
    run.progress.finish();
    let mut verdict = Verdict::default();
    verdict.describe(args);
    verdict.measure(args, &from, &to);
    verdict.connects = from.counts.connects;
    verdict.connects_per_s = from.counts.connects as f64 / setup.as_secs_f64();
    verdict.sent = end.sent;
    tally::sum(&mut verdict, std::mem::take(&mut run.crew.heard.endured));
    verdict.judge();
    Ok(verdict)
}
