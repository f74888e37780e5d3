//! `endure` on both proxies: devices that reconnect at the other one, and the oracle of what they were promised.

use std::path::Path;
use std::time::Duration;

use crate::common::fleet::{Process, signal};
use crate::common::load::Progress;

/// The load's own limit; it is told when to stop.
const LOAD_SECS: u32 = 900_000;
/// Counts that must be 0, at `QoS` 1 too (there `duplicated` are only repetitions that nothing made necessary).
const FAULTS: [&str; 8] = [
    "lost",
    "duplicated",
    "reordered",
    "session_lost",
    "unacked",
    "gave_up",
    "unrecorded",
    "violations",
];

/// A run under way.
pub(crate) struct Load {
    process: Process,
    qos: u8,
    /// Bytes of its output that were looked at.
    seen: usize,
}

impl Load {
    /// Starts it, and waits until it publishes.
    pub(crate) fn start(folder: &Path, addresses: &str, qos: u8, pairs: u32, rate: u32) -> Self {
        let churn = f64::from(pairs) / 10.0;
        let words = format!(
            "loadtest endure --addr {addresses} --qos {qos} --pairs {pairs} --rate {rate} --secs {LOAD_SECS} \
             --patience 120 --wildcard --filters 3 --churn {churn} --away 0.5 --report-every 0.1 --json {}",
            verdict(qos)
        );
        let words: Vec<_> = words.split(' ').collect();
        let load = Self {
            process: Process::start(&format!("endure at QoS {qos}"), folder, &words),
            qos,
            seen: 0,
        };
        load.process.await_line("measuring: ");
        load
    }

    /// By the newest line, no promise is broken.
    pub(crate) fn check(&self) {
        let output = self.process.output();
        let newest = output.lines().rev().find_map(|line| line.parse().ok());
        let newest: Progress = newest.expect("it has begun");
        assert_eq!(newest.faults, 0, "a promise is broken: {newest:?}");
    }

    /// The longest time that a connection was without service, by the lines since the last call, and by the newest one;
    /// `None` where there was no line.
    pub(crate) fn gaps(&mut self) -> Option<Gaps> {
        let output = self.process.output();
        let fresh = &output[self.seen..];
        self.seen = output.len();
        let lines: Vec<Progress> = fresh.lines().filter_map(|line| line.parse().ok()).collect();
        let newest = lines.last()?;
        assert_eq!(newest.faults, 0, "a promise is broken: {newest:?}");
        Some(Gaps {
            longest: lines.iter().map(|line| line.gap).max()?,
            newest: newest.gap,
        })
    }

    /// Has it publish no more, and waits for its verdict: no promise is broken.
    pub(crate) fn finish(mut self, folder: &Path) {
        signal(self.process.pid(), "-TERM");
        let status = self.process.await_exit();
        let output = self.process.output();
        let (_, summary) = output
            .split_once("endure x ")
            .unwrap_or_else(|| panic!("no summary in\n{output}"));
        println!("endure x {summary}");
        let text = std::fs::read_to_string(folder.join(verdict(self.qos))).expect("it was written");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for fault in FAULTS {
            assert!(is_none(&json[fault]), "{fault}: {}", json[fault]);
        }
        assert!(json["sent"].as_u64() > Some(0), "{json}");
        assert_eq!(json["acked"], json["sent"]);
        assert!(status.success(), "{status}");
    }
}

/// How long connections were without service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gaps {
    pub(crate) longest: Duration,
    pub(crate) newest: Duration,
}

fn verdict(qos: u8) -> String {
    format!("verdict-{qos}.json")
}

/// 0, or nothing of any kind.
fn is_none(count: &serde_json::Value) -> bool {
    count.as_u64() == Some(0) || count.as_object().is_some_and(serde_json::Map::is_empty)
}
