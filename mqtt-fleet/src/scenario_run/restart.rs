//! How nodes are restarted in the course of a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadtest::scenario::FleetNodes;
use loadtest::{Error, RestartHook};
use rustix::process::{Pid, Signal, kill_process};

use super::bell::Bell;
use super::nodes::{self, Node};

/// A node drains for at most 10 s, and a broker reads its log when it comes back.
const BACK_MAX: Duration = Duration::from_secs(120);

/// How often the file of a fleet is read whose launcher cannot be heard.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// For a fleet with a launcher: each node is asked to end, and the launcher brings it back.
pub(super) fn of_fleet(manifest: PathBuf, bell: Arc<Bell>) -> RestartHook {
    Box::new(move |nodes, number| {
        let role = match nodes {
            FleetNodes::Proxies => "proxy",
            FleetNodes::Brokers => "broker",
            FleetNodes::Redis => "redis",
        };
        node(&manifest, &bell, role, number)
    })
}

fn node(manifest: &Path, bell: &Bell, role: &str, number: usize) -> Result<bool, Error> {
    let failed = |what: String| Error::Target(format!("a restart: {what}"));
    let nodes = nodes::read(manifest)
        .map_err(|error| failed(format!("{}: {error}", manifest.display())))?;
    let Some(node) = nodes.iter().filter(|node| node.role == role).nth(number) else {
        return Ok(false);
    };
    let pid = i32::try_from(node.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed(format!("{} has no process id", node.name)))?;
    kill_process(pid, Signal::TERM)
        .map_err(|error| failed(format!("{} cannot be signalled: {error}", node.name)))?;
    let is_new = |other: &Node| other.name == node.name && other.pid != node.pid;
    let deadline = Instant::now() + BACK_MAX;
    while Instant::now() < deadline {
        // The end of a launcher or a wish to stop ends the waiting too; what comes of it is seen elsewhere.
        let back = bell.wait(Instant::now() + LOOK_EVERY, |news| {
            let is_back = nodes::read(manifest).is_ok_and(|nodes| nodes.iter().any(is_new));
            (is_back || news.ended || news.stopped).then_some(())
        });
        if back.is_some() {
            return Ok(true);
        }
    }
    Err(failed(format!(
        "{} did not come back in {} s; was its launcher told to --respawn?",
        node.name,
        BACK_MAX.as_secs()
    )))
}
