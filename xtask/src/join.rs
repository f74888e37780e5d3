//! `cargo xtask join`: a member with an empty folder joins a group that holds much, and what that costs publishers.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::{Outcome, partition};

/// Options of `cargo xtask join`.
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// Sessions that are away
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// Subscriptions of each
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    filters: u32,
    /// Messages that wait for all of them together
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 128)]
    size: u32,
    #[arg(long, help = "Messages per second at QoS 1 whose latency is measured", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Seconds of the measurement before the join
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    baseline: u32,
    #[arg(
        long,
        value_name = "N",
        help = "The run fails if p99 during the join is so many times that before, or more",
        default_value_t = 3.0
    )]
    ratio_max: f64,
    /// How often all of that is done
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// Runs the test with these settings.
pub(crate) fn run(root: &Path, args: &JoinArgs) -> Outcome {
    let settings = json!({
        "sessions": args.sessions,
        "filters": args.filters,
        "messages": args.messages,
        "size": args.size,
        "rate": args.rate,
        "baseline": args.baseline,
        "ratio_max": args.ratio_max,
    });
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for _ in 0..args.runs {
        let mut run = Command::new(&cargo);
        run.current_dir(root)
            .args(partition::TEST)
            .args(["fleet_join", "--", "--nocapture"])
            .env("MQTT_FLEET_JOIN", settings.to_string());
        partition::succeed(&mut run, "the test failed; see above")?;
    }
    Ok(())
}
