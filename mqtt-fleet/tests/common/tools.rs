//! Programs of others that the tests run: they must be there, and they must end in time.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long a client program may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at what gives no notice.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Lets time pass: nobody sends.
pub(crate) fn pause(time: Duration) {
    let (_never, tick) = sync_channel::<()>(0);
    let _ = tick.recv_timeout(time);
}

/// Waits until `is_so`, for what gives no notice; `complaint` is what is wrong when it never is.
pub(crate) fn await_that(mut is_so: impl FnMut() -> bool, complaint: impl Fn() -> String) {
    await_some(PATIENCE, || is_so().then_some(()), complaint);
}

/// Waits until `look` sees something, which is returned.
pub(crate) fn await_some<T>(
    patience: Duration,
    mut look: impl FnMut() -> Option<T>,
    complaint: impl Fn() -> String,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "{}", complaint());
        pause(LOOK_EVERY);
    }
}

/// A started program whose lines are read as they come.
pub(crate) struct Tool {
    name: String,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Tool {
    /// Starts `command`; fails with `how_to_get` when it is not installed.
    pub(crate) fn start(command: &mut Command, how_to_get: &str) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name} cannot be run ({e}): {how_to_get}"));
        let (tx, lines) = sync_channel(4096);
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for from in outputs {
            let tx = tx.clone();
            std::thread::spawn(move || forward(from, &tx));
        }
        Self {
            name,
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// The next line of output.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen.push(line.clone());
                line
            }
            Err(e) => panic!(
                "{} says nothing more ({e}), so far: {:#?}",
                self.name, self.seen
            ),
        }
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn await_line(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for the end; panics unless it succeeded. All its lines not read before.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!(
                        "{} does not end; so far: {:#?} {rest:#?}",
                        self.name, self.seen
                    )
                }
            }
        }
        let status = self.child.wait().expect("it has closed its output");
        assert!(
            status.success(),
            "{} failed ({status}): {:#?} {rest:#?}",
            self.name,
            self.seen
        );
        rest
    }

    /// Kills it without ceremony, so that the broker sees a broken connection.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a killed process ends");
    }
}

/// Sends lines on until there are no more, or nobody waits for them.
fn forward(from: impl Read, to: &SyncSender<String>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        if to.send(line).is_err() {
            return;
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder with the client scripts.
pub(crate) fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// HAProxy's program: Debian has it in a folder that the path of ordinary users lacks.
pub(crate) fn haproxy() -> PathBuf {
    let debian = PathBuf::from("/usr/sbin/haproxy");
    if debian.is_file() {
        debian
    } else {
        PathBuf::from("haproxy")
    }
}
