//! A load simulator in a process of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::fleet::{signal, without_settings};

/// How long the load simulator may say nothing, or take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds between two lines of progress.
const REPORT_EVERY: &str = "0.1";
/// A line of progress is at most so old.
const REPORT_MARGIN: Duration = Duration::from_millis(300);
/// While every connection is served within this time, all is well: well above a slow disk, well below what a device
/// waits before it connects again.
const SERVED_WITHIN: Duration = Duration::from_millis(500);

/// A run under way.
pub(crate) struct Load {
    child: Child,
    lines: Receiver<String>,
    delivered: u64,
    /// What it has said, for people.
    log: String,
    folder: tempfile::TempDir,
}

/// A line of progress of endure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Progress {
    /// It publishes, and everything counts.
    pub(crate) measures: bool,
    pub(crate) delivered: u64,
    /// Broken promises so far.
    pub(crate) faults: u64,
    /// The longest time any connection was without service since the line before.
    pub(crate) gap: Duration,
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
        without_settings(&mut command);
        let mut child = command
            .arg("loadtest")
            .args(words.split_whitespace())
            .args(["--report-every", REPORT_EVERY, "--json"])
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
            log: String::new(),
            folder,
        }
    }

    /// The next line; `None` once it has ended.
    fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.log += &line;
                self.log.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("silent for {PATIENCE:?}:\n{}", self.log),
        }
    }

    /// The next line of progress; `None` once it has ended.
    fn next_progress(&mut self) -> Option<Progress> {
        std::iter::from_fn(|| self.next_line()).find_map(|line| line.parse().ok())
    }

    /// Waits until `more` messages have been delivered since the last time, while it still
    /// publishes. False once it does not.
    pub(crate) fn await_delivered(&mut self, more: u64) -> bool {
        let wanted = self.delivered + more;
        while let Some(line) = self.next_line() {
            println!("{line}");
            if line.starts_with("waiting for") {
                return false;
            }
            let Ok(progress) = line.parse::<Progress>() else {
                continue;
            };
            self.delivered = progress.delivered;
            if progress.measures && self.delivered >= wanted {
                return true;
            }
        }
        false
    }

    /// Waits until it publishes.
    pub(crate) fn await_measuring(&mut self) {
        while !self.progress().measures {}
    }

    /// Takes in what it has said up to now.
    pub(crate) fn catch_up(&mut self) {
        while let Ok(line) = self.lines.try_recv() {
            self.log += &line;
            self.log.push('\n');
        }
    }

    /// The next line of progress of a run that must not be over, and in which no promise may be broken.
    fn progress(&mut self) -> Progress {
        let Some(progress) = self.next_progress() else {
            panic!("the load is over too early:\n{}", self.log);
        };
        assert_eq!(
            progress.faults, 0,
            "a promise is broken:\n{progress:?} in\n{}",
            self.log
        );
        progress
    }

    /// Watches it for so long.
    pub(crate) fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.progress();
        }
    }

    /// Waits until all connections are served as before something happened, which is over by now; for `patience`. The
    /// longest time one of them was without service since the last call of anything here.
    pub(crate) fn await_served(&mut self, patience: Duration) -> Duration {
        let over = Instant::now();
        let mut longest = Duration::ZERO;
        loop {
            let progress = self.progress();
            longest = longest.max(progress.gap);
            // Before that an open gap need not be long yet.
            let tells = over.elapsed() > SERVED_WITHIN + REPORT_MARGIN;
            if tells && progress.gap <= SERVED_WITHIN {
                return longest;
            }
            assert!(
                over.elapsed() < patience,
                "not served as before after {patience:?}:\n{}",
                self.log
            );
        }
    }

    /// Has it publish no more: it waits for what is under way, and judges.
    pub(crate) fn stop_publishing(&self) {
        signal(self.child.id(), "-TERM");
    }

    /// All it has said so far.
    pub(crate) fn log(&self) -> &str {
        &self.log
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> End {
        while let Some(line) = self.next_line() {
            println!("{line}");
        }
        self.take_end()
    }

    /// The same without a word.
    pub(crate) fn finish_quietly(&mut self) -> End {
        while self.next_line().is_some() {}
        self.take_end()
    }

    fn take_end(&mut self) -> End {
        let mut summary = String::new();
        let mut stdout = self.child.stdout.take().expect("piped");
        stdout.read_to_string(&mut summary).expect("text");
        let status = self.child.wait().expect("it has closed its output");
        // The first line has the addresses, and there may be many.
        let figures = summary.split_once('\n').map_or("", |(_, rest)| rest);
        println!("{figures}");
        let path = self.folder.path().join("verdict.json");
        let text = std::fs::read_to_string(path).expect("a verdict was written");
        End {
            status,
            summary,
            json: serde_json::from_str(&text).expect("JSON"),
        }
    }
}

impl FromStr for Progress {
    type Err = ();

    /// From `measuring: 40 connections (0/s), 212 sent, 211 delivered (498/s), 1 owed, 0 reconnects, 0 faults, longest
    /// gap 0.012 s`.
    fn from_str(line: &str) -> Result<Self, ()> {
        let (what, figures) = line.split_once(": ").ok_or(())?;
        let before = |word: &str| {
            let mut parts = figures.split(", ").filter_map(|part| part.split_once(' '));
            let (number, _) = parts.find(|(_, rest)| rest.starts_with(word)).ok_or(())?;
            number.parse().map_err(drop)
        };
        let gap = figures.rsplit_once("longest gap ").ok_or(())?.1;
        let gap = gap.strip_suffix(" s").ok_or(())?;
        Ok(Self {
            measures: what == "measuring",
            delivered: before("delivered")?,
            faults: before("faults")?,
            gap: Duration::from_secs_f64(gap.parse().map_err(drop)?),
        })
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
