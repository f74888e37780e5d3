//! Load simulators that run beside each other.

use serde_json::Value;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Lines it may be ahead of the reader; it writes one a second.
const LINES_MAX: usize = 4_096;

/// `mqtt-fleet loadtest` in a process of its own; it ends with the value.
pub(super) struct Load {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    json: tempfile::NamedTempFile,
}

impl Load {
    /// Starts it with these words behind `loadtest`.
    pub(super) fn start(program: &Path, words: &str) -> io::Result<Self> {
        let json = tempfile::NamedTempFile::new()?;
        let mut child = Command::new(program)
            .arg("loadtest")
            .args(words.split_whitespace())
            .args(["--report-every", "1", "--json"])
            .arg(json.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return; // Nobody wants to know any more.
                }
            }
        });
        Ok(Self {
            child,
            lines,
            said: Vec::new(),
            json,
        })
    }

    /// Waits until all its connections are up and it measures.
    pub(super) fn await_measuring(&mut self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                return Err(self.failed("does not come to measure"));
            };
            let measures = line.starts_with("measuring");
            self.said.push(line);
            if measures {
                return Ok(());
            }
        }
    }

    /// Fails if it has ended, which it does early only because connections were lost.
    pub(super) fn check_running(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(_) => Err(self.failed("ended too early")),
        }
    }

    /// Waits for its end: its report, of a run in which no promise was broken.
    pub(super) fn finish(self) -> io::Result<Value> {
        let report = self.judged()?;
        let failures = report["failures"].as_array();
        if failures.is_some_and(Vec::is_empty) {
            return Ok(report);
        }
        Err(io::Error::other(format!(
            "the load test failed: {}",
            report["failures"]
        )))
    }

    /// Waits for its end: its report, whatever it says.
    pub(super) fn judged(mut self) -> io::Result<Value> {
        self.said.extend(self.lines.iter());
        self.child.wait()?;
        let text = std::fs::read_to_string(self.json.path())?;
        serde_json::from_str(&text)
            .map_err(|error| self.failed(&format!("has no report ({error})")))
    }

    fn failed(&mut self, what: &str) -> io::Error {
        self.said.extend(self.lines.try_iter());
        let from = self.said.len().saturating_sub(5);
        let last = self.said[from..].join("\n");
        io::Error::other(format!("the load test {what}:\n{last}"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A figure of a report, by its path (`/resume_us/p99`).
pub(super) fn figure(report: &Value, path: &str) -> io::Result<f64> {
    let figure = report.pointer(path).and_then(Value::as_f64);
    figure.ok_or_else(|| io::Error::other(format!("the report has no {path}")))
}
