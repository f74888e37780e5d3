//! `cargo xtask bench --fleet`: what it costs that proxy and broker are processes of their own.
//!
//! The unit is the standalone broker in the same run. A fleet here is one proxy and one group, with as many shards
//! as the standalone broker has.

use super::cluster::{Fleet, Shape};
use super::{Broker, Row, median, report_of, shown};
use std::io::{self, Write as _};
use std::path::Path;

/// Payload of the rows' messages.
const PAYLOAD_BYTES: f64 = 64.0;
/// Bytes of the shortest of their topics: `load/`, a process id and a time in hexadecimal digits, and the number of
/// the pair.
const TOPIC_BYTES: f64 = 22.0;

/// Runs the rows for standalone and for a fleet, in turn.
pub(super) fn run(program: &Path, rows: &[Row], runs: usize, secs: u32) -> io::Result<()> {
    println!(
        "| what | unit | standalone | proxy + group | ratio | bar |\n|---|---|---|---|---|---|"
    );
    let mut links = Vec::new();
    for row in rows {
        let (mut alone, mut apart) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let broker = Broker::mqtt_fleet(program, row.durability)?;
            let pids = [broker.child.id()];
            alone.push(report_of(program, row, secs, &broker.addr.to_string(), &pids)?.1);
            drop(broker);
            let fleet = Fleet::start(
                program,
                Shape {
                    proxies: 1,
                    groups: 1,
                    shards: std::thread::available_parallelism()?.get(),
                    durability: row.durability,
                },
            )?;
            let before = Traffic::of(&fleet)?;
            let (_, figure) = report_of(program, row, secs, &fleet.addresses(), &fleet.pids())?;
            let after = Traffic::of(&fleet)?;
            apart.push(figure);
            links.push((
                row.name,
                after.bytes - before.bytes,
                after.messages - before.messages,
            ));
        }
        let (alone, apart) = (median(&mut alone), median(&mut apart));
        println!(
            "| {} | {} | {} | {} | {:.2} x | >= 0.6 x |",
            row.name,
            row.unit,
            shown(alone),
            shown(apart),
            apart / alone
        );
        io::stdout().flush()?;
    }
    println!(
        "\n| what | messages that crossed a link | bytes on it for each | bar |\n|---|---|---|---|"
    );
    for (name, bytes, messages) in &links {
        // Acknowledgements, heartbeats and the connects at the beginning are counted with the messages.
        let bar = PAYLOAD_BYTES + TOPIC_BYTES + 48.0;
        println!(
            "| {name} | {messages:.0} | {:.1} | <= {bar:.0} |",
            bytes / messages
        );
    }
    Ok(())
}

/// What has passed a proxy so far.
struct Traffic {
    /// On its links, both directions.
    bytes: f64,
    /// To a group or from one.
    messages: f64,
}

impl Traffic {
    /// What the proxy's metrics say.
    fn of(fleet: &Fleet) -> io::Result<Self> {
        Ok(Self {
            bytes: fleet.link_bytes()?,
            messages: fleet.of_proxies("mqtt_fleet_proxy_publishes_in_qos")?
                + fleet.of_proxies("mqtt_fleet_proxy_publishes_out_qos")?,
        })
    }
}
