//! `cargo xtask failover`: the test of groups of three members whose leaders are killed, whose members are cut from each
//! other, and that are killed as a whole, in networks of its own as those of `cargo xtask partition`.

use std::path::Path;

use serde_json::json;

use crate::Outcome;
use crate::partition::{self, TrafficArgs};

/// Options of `cargo xtask failover`.
#[derive(Debug, clap::Args)]
pub(crate) struct FailoverArgs {
    /// Leaders that are killed with -9, the groups in turn; one takes some seconds
    #[arg(long, default_value_t = 100)]
    kills: u32,
    /// Cuts of the network between members of a group, of seven kinds in turn; one takes about ten seconds
    #[arg(long, default_value_t = 50)]
    partitions: u32,
    /// How often all nodes are killed with -9 at once
    #[arg(long, default_value_t = 20)]
    fleet_kills: u32,
    #[command(flatten)]
    traffic: TrafficArgs,
    #[arg(
        long,
        value_name = "S",
        help = "The run fails if after 1 of 100 kills the next PUBACK takes longer",
        default_value_t = 2.0
    )]
    gap_max: f64,
}

/// Runs the test with these settings.
pub(crate) fn run(root: &Path, args: &FailoverArgs) -> Outcome {
    let settings = json!({
        "kills": args.kills,
        "partitions": args.partitions,
        "fleet_kills": args.fleet_kills,
        "gap_max": args.gap_max,
    });
    let settings = args.traffic.with(settings);
    partition::in_namespaces(root, "fleet_replicas", ("MQTT_FLEET_FAILOVER", &settings))
}
