//! `cargo xtask chaos`: the test of a fleet under kill -9, for long.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use serde_json::json;

use crate::{Outcome, cargo, clients};

/// What is killed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// One of the proxies, at random
    Proxy,
    /// One of the brokers, at random
    Broker,
    /// Redis, which is also wiped in every other round
    Redis,
    /// The load balancer
    Haproxy,
}

/// Options of `cargo xtask chaos`.
#[derive(Debug, clap::Args)]
pub(crate) struct ChaosArgs {
    /// How often each kind is killed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Broker groups
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    groups: u16,
    /// Proxies
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=30))]
    proxies: u16,
    /// Devices speak TLS
    #[arg(long)]
    tls: bool,
    /// Devices also know the proxies' own addresses, not only that of `HAProxy`
    #[arg(
        long,
        help = "Devices also know the proxies' own addresses, not only that of HAProxy"
    )]
    direct: bool,
    /// What an acknowledged message outlives; with `memory` the run has to fail
    #[arg(long, help = "What an acknowledged message outlives; with memory the run has to fail", default_value = "fsync", value_parser = ["fsync", "os", "memory"])]
    durability: String,
    /// What is killed, in this order
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["proxy", "broker", "redis", "haproxy"])]
    kill: Vec<Kind>,
    /// Seconds between two kills in which all is well
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    secs_between: f64,
    /// Which proxies and brokers are killed follows from it [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Pairs of a publisher and a subscriber, at each of `QoS` 1 and 2
    #[arg(long, help = "Pairs of a publisher and a subscriber, at each of QoS 1 and 2", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages per second, at each of `QoS` 1 and 2
    #[arg(long, help = "Messages per second, at each of QoS 1 and 2", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Where the logs go if it fails [default: target/chaos]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the test with these settings.
pub(crate) fn run(root: &Path, args: &ChaosArgs) -> Outcome {
    if !(0.0..=3_600.0).contains(&args.secs_between) {
        return Err("--secs-between must be 0 to 3600".to_owned());
    }
    clients::provide_programs(&["redis-server", "redis-cli", "haproxy"])?;
    let settings = ("MQTT_FLEET_CHAOS".to_owned(), settings(root, args)?.into());
    let words = [
        "-p",
        "mqtt-fleet",
        "--test",
        "fleet_chaos",
        "--",
        "--nocapture",
    ];
    cargo::test(root, &[settings], &words.map(str::to_owned))
}

/// As the test reads them.
fn settings(root: &Path, args: &ChaosArgs) -> Result<String, String> {
    let default = || root.join("target").join("chaos");
    let out = args.out.clone().unwrap_or_else(default);
    // The test runs in another folder.
    let out = std::path::absolute(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = args.seed.or(now.ok().map(|now| now.as_secs()));
    let kinds = args.kill.iter().filter_map(ValueEnum::to_possible_value);
    let kill: Vec<_> = kinds.map(|kind| kind.get_name().to_owned()).collect();
    let settings = json!({
        "rounds": args.rounds,
        "groups": args.groups,
        "proxies": args.proxies,
        "tls": args.tls,
        "direct": args.direct,
        "durability": args.durability,
        "kill": kill,
        "secs_between": args.secs_between,
        "seed": seed.unwrap_or_default(),
        "pairs": args.pairs,
        "rate": args.rate,
        "out": out,
    });
    Ok(settings.to_string())
}
