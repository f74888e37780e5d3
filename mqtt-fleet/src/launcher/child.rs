//! A running process and its output.

use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use rustix::process::{Pid, Signal, kill_process};

use super::plan::NodePlan;
use super::supervise::Event;

/// A line longer than this is shown in pieces.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// How many outputs of nodes may still bring lines. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs(Arc<AtomicUsize>);

impl Outputs {
    /// All that was written is among the events.
    pub(super) fn are_read(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// A process of the fleet.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
}

impl Running {
    /// Starts a node; its lines arrive as events of `number`.
    ///
    /// To be called on the main thread: what ties a child to us is tied to the thread that made it.
    pub(super) fn start(
        number: usize,
        plan: &NodePlan,
        events: &SyncSender<Event>,
        outputs: &Outputs,
    ) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["guard", "--parent", &std::process::id().to_string(), "--"])
            .args(&plan.command)
            // Ctrl-C is for us; the nodes are stopped in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Settings of whoever calls us: each node has its own in its file.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("MQTT_FLEET_") {
                command.env_remove(variable);
            }
        }
        let mut child = command.spawn()?;
        if let Some(stdout) = child.stdout.take() {
            forward(number, stdout, events.clone(), outputs)?;
        }
        if let Some(stderr) = child.stderr.take() {
            forward(number, stderr, events.clone(), outputs)?;
        }
        Ok(Self { child })
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends a signal. One that has ended and was not looked at yet takes it without effect.
    pub(super) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(pid = self.child.id(), %error, "cannot be signalled");
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

fn forward(
    number: usize,
    from: impl Read + Send + 'static,
    events: SyncSender<Event>,
    outputs: &Outputs,
) -> io::Result<()> {
    outputs.0.fetch_add(1, Ordering::Relaxed);
    let open = outputs.clone();
    let body = move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = (&mut from)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
        {
            let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            line.clear();
            // Nobody listens any more: the launcher is on its way out.
            if events.send(Event::Line(number, text)).is_err() {
                return;
            }
        }
        open.0.fetch_sub(1, Ordering::Release);
        // For who waits for that; nobody may.
        let _launcher_has_gone = events.send(Event::Silent);
    };
    let reader = std::thread::Builder::new()
        .name("output".to_owned())
        .spawn(body);
    reader.map(drop).inspect_err(|_| {
        outputs.0.fetch_sub(1, Ordering::Release);
    })
}
