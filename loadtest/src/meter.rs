//! CPU time and memory of processes, from /proc.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;

/// Observes the broker's processes and this one.
#[derive(Debug)]
pub(crate) struct Meter {
    pids: Vec<u32>,
}

/// One look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// Nothing where no process id was given.
    pub(crate) broker: Option<Usage>,
    pub(crate) own: Cpu,
}

/// CPU time and memory of the broker's processes together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Cpu,
    pub(crate) rss_bytes: u64,
    /// The most that they have had since their start.
    pub(crate) peak_bytes: u64,
}

/// CPU time so far. The scheduler's figure is exact to the nanosecond but forgets threads that
/// ended; the other one counts them, in clock ticks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cpu {
    scheduler_ns: u64,
    ticks: u64,
    threads: Vec<(u32, u64)>,
}

/// /proc reports in ticks of `USER_HZ`, which is 100 on every Linux that is not a museum piece.
const TICK_NS: u64 = 10_000_000;

impl Meter {
    /// Fails if a process cannot be observed.
    pub(crate) fn new(pids: &[u32]) -> Result<Self, Error> {
        let meter = Self {
            pids: pids.to_vec(),
        };
        meter.sample()?;
        Ok(meter)
    }

    /// One look at all processes.
    pub(crate) fn sample(&self) -> Result<Sample, Error> {
        let own = cpu(Path::new("/proc/self")).map_err(Error::system("/proc/self"))?;
        let mut broker = None;
        for &pid in &self.pids {
            let failed = |source| Error::Pid { pid, source };
            let folder = PathBuf::from(format!("/proc/{pid}"));
            let usage = broker.get_or_insert_with(Usage::default);
            usage.cpu.add(cpu(&folder).map_err(failed)?);
            let status = fs::read_to_string(folder.join("status")).map_err(failed)?;
            usage.rss_bytes += status_bytes(&status, "VmRSS:").map_err(failed)?;
            usage.peak_bytes += status_bytes(&status, "VmHWM:").map_err(failed)?;
        }
        Ok(Sample { broker, own })
    }
}

impl Cpu {
    /// Seconds since `before`: the scheduler's figure if the same threads ran through.
    pub(crate) fn seconds_since(&self, before: &Self) -> f64 {
        let same = before.threads.iter().all(|(thread, _)| {
            self.threads
                .binary_search_by_key(thread, |(own, _)| *own)
                .is_ok()
        });
        let ns = if same && self.scheduler_ns > 0 {
            self.scheduler_ns.saturating_sub(before.scheduler_ns)
        } else {
            self.ticks.saturating_sub(before.ticks) * TICK_NS
        };
        ns as f64 / 1e9
    }

    fn add(&mut self, other: Self) {
        self.scheduler_ns += other.scheduler_ns;
        self.ticks += other.ticks;
        self.threads.extend(other.threads);
        self.threads.sort_unstable();
    }
}

fn cpu(folder: &Path) -> io::Result<Cpu> {
    let mut found = Cpu {
        ticks: ticks(&fs::read_to_string(folder.join("stat"))?)?,
        ..Cpu::default()
    };
    for entry in fs::read_dir(folder.join("task"))? {
        let entry = entry?;
        let Ok(thread) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // The thread may have ended since the folder was listed; kernels without the scheduler's
        // figures have no such file. Either way `ticks` remains.
        let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
            continue;
        };
        let ns = text
            .split_whitespace()
            .next()
            .and_then(|ns| ns.parse().ok())
            .unwrap_or(0);
        found.threads.push((thread, ns));
    }
    found.threads.sort_unstable();
    found.scheduler_ns = found.threads.iter().map(|(_, ns)| ns).sum();
    Ok(found)
}

/// utime and stime, fields 14 and 15 of /proc/PID/stat; the name before them may contain anything.
fn ticks(stat: &str) -> io::Result<u64> {
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok());
    match (next(), next()) {
        (Some(user), Some(system)) => Ok(user + system),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "unreadable stat",
        )),
    }
}

/// A line of /proc/PID/status.
fn status_bytes(status: &str, name: &str) -> io::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("no {name} in status"));
    Ok(kilobytes.ok_or_else(missing)? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_nasty_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 1 0 99 0 0";
        assert_eq!(ticks(stat).expect("well-formed"), 46);
        assert!(ticks("7 (a").is_err());
    }

    #[test]
    fn this_process_can_be_observed() {
        let meter = Meter::new(&[std::process::id()]).expect("it runs");
        let before = meter.sample().expect("it runs");
        let mut spent = 0_u64;
        let began = std::time::Instant::now();
        // The kernel counts in ticks of ten milliseconds.
        let after = loop {
            for _ in 0..1_000_000 {
                spent = std::hint::black_box(spent + 1);
            }
            let now = meter.sample().expect("it runs");
            if now.own.seconds_since(&before.own) > 0.0 {
                break now;
            }
            assert!(began.elapsed().as_secs() < 30, "no time was used");
        };
        let broker = after.broker.expect("one pid");
        assert!(broker.rss_bytes > 100_000 && broker.peak_bytes >= broker.rss_bytes);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Meter::new(&[u32::MAX - 1]).expect_err("no such process");
        assert!(error.to_string().contains("--pid 4294967294"), "{error}");
    }
}
