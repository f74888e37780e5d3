//! The fleet that a run starts: `mqtt-fleet cluster` as a child that ends with the run, however that ends.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadtest::scenario::Scenario;
use loadtest::{Target, Trust};
use rustix::process::{Pid, Signal, kill_process};

use super::bell::Bell;
use super::nodes::{self, Node};
use super::{RunFailure, restart};
use crate::exit::Exit;

/// More than the launcher gives itself.
const START_MAX: Duration = Duration::from_secs(90);
/// The launcher gives each of four roles 15 s to end in order, and as long again when they do not.
const STOP_MAX: Duration = Duration::from_secs(130);
/// Starts with other ports where somebody has one of them already.
const PORT_TRIES: u32 = 10;
/// Ports from here on: above those of well-known servers, and, with the 801 that a launcher uses, below those that the kernel
/// gives to outgoing connections.
const FIRST_PORT: u16 = 10_000;
const PORT_STEP: u16 = 23;
const PORT_STEPS: u16 = 900;
/// Lines of the launcher's log that say why it did not start.
const LINES_SHOWN: usize = 20;

/// A fleet that runs.
#[derive(Debug)]
pub(super) struct Fleet {
    launcher: Child,
    folder: PathBuf,
    bell: Arc<Bell>,
    /// Removed with the fleet.
    temporary: Option<tempfile::TempDir>,
}

impl Fleet {
    /// Starts the fleet of a scenario and waits until all of it is ready. To be called on the main thread: the launcher ends
    /// with the thread that started it.
    pub(super) fn start(
        scenario: &Scenario,
        data: Option<&Path>,
        bell: &Arc<Bell>,
    ) -> Result<Self, RunFailure> {
        let (home, temporary) = home(data)?;
        let folder = home.join("fleet");
        if folder.exists() {
            return Err(RunFailure::usage(format!(
                "{}: another run has left its fleet there; remove it, or take another folder with --data",
                folder.display()
            )));
        }
        let mut temporary = temporary;
        for attempt in 0..PORT_TRIES {
            let log = home.join("fleet.log");
            let launcher = launch(scenario, &folder, &log, base_port(attempt), bell)?;
            let mut fleet = Self {
                launcher,
                folder: folder.clone(),
                bell: Arc::clone(bell),
                temporary: temporary.take(),
            };
            match fleet.await_ready(&log) {
                Ok(Started::Ready) => return Ok(fleet),
                Ok(Started::PortTaken) => temporary = fleet.temporary.take(),
                Err(failure) => {
                    // Why it did not start says more than how that ended.
                    drop(fleet.stop());
                    return Err(failure);
                }
            }
        }
        let tried = format!("no free ports for the fleet after {PORT_TRIES} tries");
        Err(RunFailure::failed(tried))
    }

    fn await_ready(&mut self, log: &Path) -> Result<Started, RunFailure> {
        let manifest = self.manifest();
        let found = self.bell.wait(Instant::now() + START_MAX, |news| {
            (news.ended || news.stopped || manifest.exists()).then_some(news)
        });
        match found {
            Some(news) if news.stopped => Err(RunFailure::failed("stopped before it began")),
            Some(news) if news.ended => {
                let status = self.launcher.wait()?;
                if status.code() == Some(Exit::Address as i32) {
                    return Ok(Started::PortTaken);
                }
                let lines = last_lines(log)?;
                Err(RunFailure::failed(format!(
                    "the fleet did not start ({status}):\n{lines}"
                )))
            }
            Some(_) => Ok(Started::Ready),
            None => Err(RunFailure::failed(format!(
                "the fleet was not ready after {} s:\n{}",
                START_MAX.as_secs(),
                last_lines(log)?
            ))),
        }
    }

    /// It as what is driven.
    pub(super) fn target(&self) -> Result<Target, RunFailure> {
        let manifest = self.manifest();
        let nodes: Vec<Node> = nodes::read(&manifest)?;
        let tls_addresses = nodes::addresses(&nodes, |addresses| addresses.mqtts);
        let tls = if tls_addresses.is_empty() {
            None
        } else {
            let ca_pem = std::fs::read_to_string(self.folder.join("certs").join("ca.pem"))?;
            let name = "localhost".to_owned();
            Some(Trust { ca_pem, name })
        };
        let restart = restart::of_fleet(manifest.clone(), Arc::clone(&self.bell));
        Ok(Target {
            addresses: nodes::addresses(&nodes, |addresses| addresses.mqtt),
            tls_addresses,
            tls,
            about: format!("{}, started by this run", nodes::about(&nodes)),
            processes: Box::new(move || nodes::processes(&manifest)),
            restart: Some(restart),
        })
    }

    /// Ends it in good order, and removes what is temporary.
    pub(super) fn stop(mut self) -> Result<(), RunFailure> {
        if self.launcher.try_wait()?.is_none() {
            self.signal(Signal::TERM);
        }
        let deadline = Instant::now() + STOP_MAX;
        let ended = self.bell.wait(deadline, |news| news.ended.then_some(()));
        if ended.is_none() {
            self.signal(Signal::KILL);
        }
        let status = self.launcher.wait()?;
        if let Some(temporary) = self.temporary.take() {
            temporary.close()?;
        }
        if status.success() {
            return Ok(());
        }
        Err(RunFailure::failed(format!(
            "the fleet did not end well ({status})"
        )))
    }

    fn manifest(&self) -> PathBuf {
        self.folder.join("cluster.json")
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(Pid::from_child(&self.launcher), signal) {
            tracing::warn!(pid = self.launcher.id(), %error, "the launcher cannot be signalled");
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // One that has ended and was waited for makes both calls do nothing. Its nodes end with it.
        let ended = self.launcher.kill().and_then(|()| self.launcher.wait());
        if let Err(error) = ended {
            tracing::warn!(%error, "the fleet may still run");
        }
    }
}

enum Started {
    Ready,
    PortTaken,
}

/// The folder of the fleet's, and what removes it.
fn home(data: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), RunFailure> {
    if let Some(data) = data {
        std::fs::create_dir_all(data)?;
        return Ok((data.to_owned(), None));
    }
    let temporary = tempfile::Builder::new().prefix("mqtt-fleet-").tempdir()?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

fn launch(
    scenario: &Scenario,
    folder: &Path,
    log: &Path,
    base_port: u16,
    bell: &Arc<Bell>,
) -> Result<Child, RunFailure> {
    bell.ring(|news| news.ended = false);
    let own = std::env::current_exe()?;
    let mut command = Command::new(&own);
    command
        .args(["guard", "--parent", &std::process::id().to_string(), "--"])
        .arg(&own)
        .args(["cluster", "--respawn", "--data"])
        .arg(folder)
        .args(words(scenario, base_port))
        // Ctrl-C is for the run, which ends the fleet when it is done with it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log)?);
    let mut launcher = command.spawn()?;
    let output = launcher.stdout.take().expect("it was asked for");
    let bell = Arc::clone(bell);
    // The launcher prints its table whenever something has changed.
    let body = move || {
        for line in BufReader::new(output).lines() {
            if line.is_err() {
                break;
            }
            bell.ring(|_| {});
        }
        bell.ring(|news| news.ended = true);
    };
    let name = "launcher".to_owned();
    std::thread::Builder::new().name(name).spawn(body)?;
    Ok(launcher)
}

fn words(scenario: &Scenario, base_port: u16) -> Vec<String> {
    let fleet = &scenario.fleet;
    let mut words = Vec::new();
    for (flag, value) in [
        ("--proxies", fleet.proxies.to_string()),
        ("--groups", fleet.groups.to_string()),
        ("--shards", fleet.shards.to_string()),
        ("--durability", fleet.durability.clone()),
        ("--base-port", base_port.to_string()),
    ] {
        words.extend([flag.to_owned(), value]);
    }
    if let Some(home_key) = &fleet.home_key {
        words.extend(["--home-key".to_owned(), home_key.clone()]);
    }
    if scenario.populations.iter().any(|population| population.tls) {
        words.push("--tls".to_owned());
    }
    words
}

/// Another one for each process and attempt.
fn base_port(attempt: u32) -> u16 {
    let mixed = std::process::id()
        .wrapping_mul(7_919)
        .wrapping_add(attempt * 61);
    FIRST_PORT + (mixed % u32::from(PORT_STEPS)) as u16 * PORT_STEP
}

fn last_lines(log: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(log)?;
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_below_those_of_outgoing_connections() {
        let highest = FIRST_PORT + (PORT_STEPS - 1) * PORT_STEP + 801;
        assert!(highest < 32_768, "{highest}");
        let ports: std::collections::HashSet<_> = (0..PORT_TRIES).map(base_port).collect();
        assert_eq!(ports.len(), PORT_TRIES as usize);
    }
}
