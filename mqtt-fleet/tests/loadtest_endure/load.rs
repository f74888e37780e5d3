//! A load simulator in a process of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How long the load simulator may say nothing, or take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run under way.
pub(crate) struct Load {
    child: Child,
    lines: Receiver<String>,
    delivered: u64,
    folder: tempfile::TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// What it wrote for people.
    pub(crate) summary: String,
    json: serde_json::Value,
}

impl Load {
    /// `mqtt-fleet loadtest` with these words and a JSON file.
    pub(crate) fn start(words: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"))
            .arg("loadtest")
            .args(words.split_whitespace())
            .args(["--report-every", "0.1", "--json"])
            .arg(folder.path().join("verdict.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = sync_channel(4_096);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return; // The test is over.
                }
            }
        });
        Self {
            child,
            lines,
            delivered: 0,
            folder,
        }
    }

    /// Waits until `more` messages have been delivered since the last time, while it still
    /// publishes. False once it does not.
    pub(crate) fn await_delivered(&mut self, more: u64) -> bool {
        let wanted = self.delivered + more;
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!("silent for {PATIENCE:?}"),
            };
            println!("{line}");
            if line.starts_with("waiting for") {
                return false;
            }
            let mut words = line.split(' ').rev().skip_while(|w| *w != "delivered");
            let delivered = words.nth(1).and_then(|number| number.parse().ok());
            self.delivered = delivered.unwrap_or(self.delivered);
            if line.starts_with("measuring") && self.delivered >= wanted {
                return true;
            }
        }
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> End {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => println!("{line}"),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("silent for {PATIENCE:?}"),
            }
        }
        let mut summary = String::new();
        let mut stdout = self.child.stdout.take().expect("piped");
        stdout.read_to_string(&mut summary).expect("text");
        let status = self.child.wait().expect("it has closed its output");
        println!("{summary}");
        let path = self.folder.path().join("verdict.json");
        let text = std::fs::read_to_string(path).expect("a verdict was written");
        End {
            status,
            summary,
            json: serde_json::from_str(&text).expect("JSON"),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl End {
    /// A whole number of the JSON, by its path (`e2e_us/p99`).
    pub(crate) fn count(&self, path: &str) -> u64 {
        let value = self.json.pointer(&format!("/{path}"));
        value
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_else(|| panic!("no number {path} in {}", self.json))
    }

    /// All these are 0, it says so, and the exit code is 0.
    pub(crate) fn assert_clean(&self) {
        for fault in FAULTS {
            assert_eq!(self.count(fault), 0, "{fault}: {}", self.summary);
        }
        assert!(self.summary.contains("verdict    passed"));
        assert!(self.status.success(), "{}", self.status);
        assert_eq!(self.count("acked"), self.count("sent"));
        assert!(self.count("sent") > 0);
    }

    /// The exit code is 1, and the verdict for people says `why`.
    pub(crate) fn assert_failed(&self, why: &str) {
        assert_eq!(self.status.code(), Some(1));
        let verdict = self.summary.lines().find(|l| l.contains("verdict"));
        let verdict = verdict.expect("a verdict");
        assert!(
            verdict.contains("FAILED") && verdict.contains(why),
            "{verdict}"
        );
    }
}

/// Counts that must be 0 where nothing is wrong; at `QoS` 1 `duplicated` too, since it counts
/// only repetitions that nothing made necessary.
const FAULTS: [&str; 7] = [
    "lost",
    "duplicated",
    "reordered",
    "session_lost",
    "unacked",
    "gave_up",
    "unrecorded",
];
