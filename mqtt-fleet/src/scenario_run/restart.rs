//! How nodes are restarted in the course of a run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadtest::scenario::RestartNodes;
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
    Box::new(move |nodes, number| match nodes {
        RestartNodes::Hook(words) => hook(words, number),
        RestartNodes::Proxies => node(&manifest, &bell, "proxy", number),
        RestartNodes::Brokers => node(&manifest, &bell, "broker", number),
        RestartNodes::Redis => node(&manifest, &bell, "redis", number),
    })
}

/// For a target that only programs of the scenario's can restart.
pub(super) fn by_hook() -> RestartHook {
    Box::new(|nodes, number| match nodes {
        RestartNodes::Hook(words) => hook(words, number),
        _ => Err(Error::Target(
            "its nodes are not this run's to restart".to_owned(),
        )),
    })
}

/// Runs the program, once.
fn hook(words: &[String], number: usize) -> Result<bool, Error> {
    let Some((program, rest)) = words.split_first().filter(|_| number == 0) else {
        return Ok(false);
    };
    let failed = |what: String| Error::Target(format!("the hook {program} {what}"));
    let status = Command::new(program).args(rest).status();
    let status = status.map_err(|error| failed(format!("cannot be run: {error}")))?;
    if status.success() {
        return Ok(true);
    }
    Err(failed(format!("failed ({status})")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_runs_once_and_says_when_it_fails() {
        let mut restart = by_hook();
        let run =
            |words: &[&str]| RestartNodes::Hook(words.iter().map(ToString::to_string).collect());
        let good = run(&["true"]);
        assert!(restart(&good, 0).expect("it ran"));
        assert!(!restart(&good, 1).expect("nothing to do"));
        let said = |error: Error| error.to_string();
        let bad = restart(&run(&["false"]), 0).map_err(said);
        assert!(bad.is_err_and(|said| said.contains("the hook false failed")));
        let none = restart(&run(&["/no/such/program"]), 0).map_err(said);
        assert!(none.is_err_and(|said| said.contains("/no/such/program cannot be run")));
        assert!(restart(&RestartNodes::Proxies, 0).is_err());
    }
}
