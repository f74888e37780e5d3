//! Running `cargo test` and adding up what it says.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Outcome, say};

/// Runs `cargo test` with optimised code, shows its output, and ends with one line of totals.
///
/// `environment` is added to that of the tests; `args` are passed on, and without any the whole
/// workspace is tested. Test binaries run one after the other: the timing of the black-box tests
/// should not depend on which other file of tests happens to run.
pub(crate) fn test(root: &Path, environment: &[(String, OsString)], args: &[String]) -> Outcome {
    let started = Instant::now();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root)
        .args(["test", "--profile", "quick", "--no-fail-fast"]);
    if args.is_empty() {
        command.arg("--workspace");
    }
    command
        .args(args)
        .envs(environment.iter().cloned())
        .stdout(Stdio::piped());
    let line: Vec<_> = command
        .get_args()
        .map(|arg| arg.to_string_lossy())
        .collect();
    say(format_args!("cargo {}", line.join(" ")));
    let mut child = command
        .spawn()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    let stdout = child
        .stdout
        .take()
        .ok_or("the output of cargo is not readable")?;
    let mut totals = Totals::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.map_err(|error| format!("the output of cargo breaks off: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        totals.add(&line);
    }
    let status = child
        .wait()
        .map_err(|error| format!("cargo cannot be awaited: {error}"))?;
    for name in &totals.failures {
        println!("FAILED {name}");
    }
    if totals.ignored > 0 {
        println!("{} ignored", totals.ignored);
    }
    println!("all of it took {} s", started.elapsed().as_secs());
    println!("{} passed, {} failed", totals.passed, totals.failed);
    match (status.success(), totals.failed, totals.passed) {
        (true, 0, 1..) => Ok(()),
        (true, 0, 0) => Err("no test was run".into()),
        (_, 0, _) => Err("cargo test failed outside of the tests; see above".into()),
        (_, failed, _) => Err(format!("{failed} tests failed")),
    }
}

/// Builds a package of the workspace with optimised code and runs its program; what that prints is for the reader.
pub(crate) fn run(root: &Path, package: &str, args: &[String]) -> Outcome {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root)
        .args(["run", "--quiet", "--profile", "quick", "--package", package])
        .arg("--")
        .args(args);
    let status = command
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{package} has failed; see above"))
    }
}

/// Sums over all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Names of the failed tests.
    failures: Vec<String>,
}

impl Totals {
    /// Takes what a line of output says: a result of one test, or the summary of one binary.
    fn add(&mut self, line: &str) {
        if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|l| l.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
        let Some(summary) = line.strip_prefix("test result: ") else {
            return;
        };
        let figures = summary.split_once(". ").map_or("", |(_, figures)| figures);
        for figure in figures.split("; ") {
            let Some((count, what)) = figure.split_once(' ') else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_summed_over_binaries() {
        let mut totals = Totals::default();
        for line in [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 24 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; \
             finished in 0.13s",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; \
             finished in 0.06s",
        ] {
            totals.add(line);
        }
        let failures = vec!["a::c".to_owned()];
        assert_eq!(
            totals,
            Totals {
                passed: 36,
                failed: 1,
                ignored: 2,
                failures
            }
        );
    }
}
