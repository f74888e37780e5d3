//! `cargo xtask partition`: the test of a fleet whose network is cut, in a network of its own.
//!
//! The test runs in namespaces of the kernel: networks, mounts and processes of its own. Whatever it makes there (a bridge,
//! hosts, rules, files, nodes) goes when its first process ends, however that happens; nothing outside is touched.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{Outcome, clients, say};

/// The namespaces; killed when whoever waits for them is.
const NAMESPACES: [&str; 6] = [
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];
/// For everyone but root: to be root among them.
const AS_ROOT: [&str; 2] = ["--user", "--map-root-user"];
/// The first process in them, a shell: it makes a folder for names of networks and for the fleet, in memory, so that both
/// go with it. `|| exit 1` keeps it from becoming the test: Ctrl-C ends every process but the first one, which
/// the kernel keeps from it, and then the shell ends.
const FURNISH: &str = "mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/netns /run/fleet && \
                       ip link set lo up && \"$@\" || exit 1";
/// `cargo` with this and a name builds and runs a test.
pub(crate) const TEST: [&str; 6] = ["test", "--profile", "quick", "-p", "mqtt-fleet", "--test"];

/// Options of `cargo xtask partition`.
#[derive(Debug, clap::Args)]
pub(crate) struct PartitionArgs {
    /// How often each kind of cut is made; a round takes about two minutes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    traffic: TrafficArgs,
}

/// Runs the test with these settings.
pub(crate) fn run(root: &Path, args: &PartitionArgs) -> Outcome {
    let settings = json!({
        "rounds": args.rounds,
    });
    let settings = args.traffic.with(settings);
    in_namespaces(root, "fleet_partition", ("MQTT_FLEET_PARTITION", &settings))
}

/// What all runs in networks of their own have to be told.
#[derive(Debug, clap::Args)]
pub(crate) struct TrafficArgs {
    /// Who is cut from whom and how long follows from it [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, help = "Pairs of a publisher and a subscriber, at each of QoS 1 and 2", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    #[arg(long, help = "Messages per second, at each of QoS 1 and 2", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

impl TrafficArgs {
    /// These settings of a run, and its own.
    pub(crate) fn with(&self, mut settings: Value) -> Value {
        let seed = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map(|now| now.as_secs()).unwrap_or_default()
        };
        settings["seed"] = self.seed.unwrap_or_else(seed).into();
        settings["pairs"] = self.pairs.into();
        settings["rate"] = self.rate.into();
        settings
    }
}

/// Builds a test here, and runs it in namespaces, with its settings in a variable.
pub(crate) fn in_namespaces(
    root: &Path,
    test: &str,
    (variable, settings): (&str, &Value),
) -> Outcome {
    if !cfg!(target_os = "linux") {
        return Err("networks of our own need Linux".to_owned());
    }
    clients::provide_programs(&["redis-server", "ip", "nft", "nsenter", "unshare"])?;
    let namespaces = namespaces()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(&cargo);
    build.current_dir(root).args(TEST).args([test, "--no-run"]);
    succeed(&mut build, "the test cannot be built; see above")?;
    let mut run = namespaces;
    run.current_dir(root)
        .args(["sh", "-c", FURNISH, "sh"])
        .arg(&cargo)
        .args(TEST)
        .arg(test)
        // There is no network to ask, and nothing left to build.
        .args(["--offline", "--", "--ignored", "--nocapture"])
        .env(variable, settings.to_string())
        .env("TMPDIR", "/run/fleet");
    succeed(&mut run, "the test failed; see above")
}

/// `unshare` with what this user needs, if the user may.
fn namespaces() -> Result<Command, String> {
    for more in [&[][..], &AS_ROOT] {
        let mut probe = unshare(more);
        probe.args(["sh", "-c", FURNISH, "sh", "true"]);
        probe.stdout(Stdio::null()).stderr(Stdio::null());
        let status = probe.status();
        let status = status.map_err(|error| format!("unshare cannot be run: {error}"))?;
        if status.success() {
            return Ok(unshare(more));
        }
    }
    Err(
        "networks of our own need root (sudo -E cargo xtask ...), or a kernel that lets users make namespaces"
            .to_owned(),
    )
}

fn unshare(more: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(more).args(NAMESPACES).arg("--");
    command
}

/// Runs a command, which must succeed.
pub(crate) fn succeed(command: &mut Command, or_else: &str) -> Outcome {
    let program = command.get_program().to_string_lossy();
    let words: Vec<_> = command
        .get_args()
        .map(|arg| arg.to_string_lossy())
        .collect();
    say(format_args!("{program} {}", words.join(" ")));
    let status = command.status();
    let status = status.map_err(|error| format!("it cannot be run: {error}"))?;
    status.success().then_some(()).ok_or(or_else.to_owned())
}
