//! CPU time and memory of processes that run, from /proc.

use std::fs;
use std::io;

/// /proc reports CPU time in ticks of `USER_HZ`, 100 on Linux.
const TICKS_PER_S: f64 = 100.0;

/// Seconds of CPU that a process has used so far.
pub(super) fn cpu_s(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the process stands in parentheses and may have any characters.
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.filter_map(|field| field.parse().ok()).collect();
    match ticks[..] {
        [user, system] => Ok((user + system) / TICKS_PER_S),
        _ => Err(io::Error::other(format!("/proc/{pid}/stat: {stat:?}"))),
    }
}

/// Bytes of a process in memory.
pub(super) fn rss_bytes(pid: u32) -> io::Result<f64> {
    status_bytes(pid, "VmRSS:")
}

/// The most that these have been since its start.
pub(super) fn peak_rss_bytes(pid: u32) -> io::Result<f64> {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, name: &str) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no {name}")))
}
