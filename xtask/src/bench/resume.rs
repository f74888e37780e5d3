//! `cargo xtask bench --fleet-resume`: sessions with many filters and many messages come back quickly, while others
//! connect.

use super::Broker;
use super::bars::Bars;
use super::cluster::{Fleet, Shape};
use super::disk::DiskProbe;
use super::load::{Load, figure};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Filters of each session.
const FILTERS: u32 = 100;
/// Messages that wait for it when it comes back: those of the time it was away.
const QUEUED: u32 = 1_000;
const AWAY_S: u32 = 10;
/// Sessions, and how many of them leave each second: each is there for a while before its turn comes again.
const SESSIONS: u32 = 60;
const LEAVES_PER_S: u32 = 4;
/// Connects beside.
const CONNECTS_PER_S: u32 = 1_000;
/// CONNACK within this time, or three times what the disk takes.
const CONNACK_MAX: Duration = Duration::from_millis(30);
/// All sessions are made within this time.
const START_MAX: Duration = Duration::from_secs(120);

/// A standalone broker, a fleet of one group, and one of three.
pub(super) fn run(program: &Path, secs: u32) -> io::Result<()> {
    let mut bars = Bars::new();
    let broker = Broker::mqtt_fleet(program, "fsync")?;
    let addr = broker.addr.to_string();
    measure(
        program,
        &mut bars,
        "standalone",
        &addr,
        broker.data.path(),
        secs,
    )?;
    drop(broker);
    for count in [1, 3] {
        let shape = Shape {
            proxies: count,
            groups: count,
            shards: 1,
            durability: "fsync",
        };
        let fleet = Fleet::start(program, shape)?;
        let name = format!("proxies {count}, groups {count}");
        let addresses = fleet.addresses();
        measure(program, &mut bars, &name, &addresses, fleet.folder(), secs)?;
    }
    bars.verdict()
}

fn measure(
    program: &Path,
    bars: &mut Bars,
    name: &str,
    addr: &str,
    folder: &Path,
    secs: u32,
) -> io::Result<()> {
    let rate = QUEUED / AWAY_S * SESSIONS;
    let mut sessions = Load::start(
        program,
        &format!(
            "endure --pairs {SESSIONS} --filters {FILTERS} --rate {rate} --churn {LEAVES_PER_S} --away {AWAY_S} \
             --qos 1 --secs {secs} --addr {addr}"
        ),
    )?;
    sessions.await_measuring(START_MAX)?;
    let disk = DiskProbe::start(folder)?;
    // The last ones come back when they have been away.
    let others = Load::start(
        program,
        &format!(
            "connect --rate {CONNECTS_PER_S} --secs {} --addr {addr}",
            secs + AWAY_S
        ),
    )?;
    let sessions = sessions.finish()?;
    let others = others.finish()?;
    let disk = disk.finish()?;

    let connects = figure(&others, "/connects_per_s")?;
    let lowest = f64::from(CONNECTS_PER_S) * 0.95;
    bars.check(
        &format!("{name}: connects a second beside"),
        &format!("{connects:.0}"),
        &format!(">= {lowest:.0}"),
        connects >= lowest,
    )?;
    let us = |path: &str| figure(&sessions, path).map(|us| us / 1e3);
    let (p50, p99, max) = (
        us("/resume_us/p50")?,
        us("/resume_us/p99")?,
        us("/resume_us/max")?,
    );
    // Only then have so many messages come for each while it was away.
    let (sent, offered) = (figure(&sessions, "/sent")?, f64::from(rate * secs));
    bars.check(
        &format!("{name}: messages sent"),
        &format!("{sent:.0}"),
        &format!(">= {:.0}", offered * 0.99),
        sent >= offered * 0.99,
    )?;
    let resumes = figure(&sessions, "/resumes")?;
    let few = f64::from(LEAVES_PER_S * secs) * 0.6;
    bars.check(
        &format!("{name}: resumes"),
        &format!("{resumes:.0}"),
        &format!(">= {few:.0}"),
        resumes >= few,
    )?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Bars::note(
        &format!("{name}: the disk's own fdatasync"),
        &format!(
            "p50 {:.2} ms, p99 {:.2} ms ({} writes)",
            ms(disk.p50),
            ms(disk.p99),
            disk.writes
        ),
    )?;
    let bar = ms(CONNACK_MAX.max(disk.p99 * 3));
    bars.check(
        &format!("{name}: CONNACK"),
        &format!("p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"),
        &format!("p99 < {bar:.0} ms"),
        p99 < bar,
    )
}
