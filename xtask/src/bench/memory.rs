//! `cargo xtask bench --fleet-memory`: a second proxy costs what the first one does.

use super::bars::Bars;
use super::cluster::{Fleet, Node, Shape};
use super::load::Load;
use super::process::{cpu_s, rss_bytes};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Connections of each proxy, with one `QoS` 1 subscription each.
const CONNECTIONS: u32 = 15_000;
/// They are up within this time.
const CONNECT_MAX: Duration = Duration::from_secs(300);
/// How much more than twice the cost of one proxy that of two may be.
const TOLERANCE: f64 = 0.1;

/// What the processes of one kind cost.
#[derive(Clone, Copy)]
struct Cost {
    /// Growth of their memory by all connections.
    growth_bytes: f64,
    /// CPU time while nothing happens but keepalives.
    cpu_s: f64,
}

/// Measures a fleet with one proxy, then one with two.
pub(super) fn run(program: &Path, secs: u32) -> io::Result<()> {
    let (one, two) = (measure(program, 1, secs)?, measure(program, 2, secs)?);
    let mut bars = Bars::new();
    for (what, one, two) in [("proxies", one.0, two.0), ("broker", one.1, two.1)] {
        let each = |cost: Cost, proxies: u32| cost.growth_bytes / f64::from(CONNECTIONS * proxies);
        let seen = format!(
            "one {:.0} B, two {:.0} B: {:.2} x",
            each(one, 1),
            each(two, 2),
            two.growth_bytes / one.growth_bytes / 2.0
        );
        let holds = two.growth_bytes <= 2.0 * one.growth_bytes * (1.0 + TOLERANCE);
        bars.check(
            &format!("{what}: growth of memory per connection"),
            &seen,
            "<= 1.10 x",
            holds,
        )?;
        // The clock of /proc has hundredths of a second, of each process and at both ends.
        let grain = 0.04;
        let ratio = if one.cpu_s > grain {
            format!(": {:.2} x of twice one's", two.cpu_s / one.cpu_s / 2.0)
        } else {
            ", too little for a ratio".to_owned()
        };
        let seen = format!("one {:.2} s, two {:.2} s{ratio}", one.cpu_s, two.cpu_s);
        let holds = two.cpu_s <= 2.0 * one.cpu_s * (1.0 + TOLERANCE) + grain;
        bars.check(
            &format!("{what}: CPU in {secs} s of silence"),
            &seen,
            "<= 1.10 x",
            holds,
        )?;
    }
    bars.verdict()
}

/// What the proxies cost, and the broker.
fn measure(program: &Path, proxies: u16, secs: u32) -> io::Result<(Cost, Cost)> {
    let shape = Shape {
        proxies,
        groups: 1,
        shards: 1,
        durability: "fsync",
    };
    let fleet = Fleet::start(program, shape)?;
    let memory =
        |nodes: &[Node]| -> io::Result<f64> { nodes.iter().map(|node| rss_bytes(node.pid)).sum() };
    let cpu =
        |nodes: &[Node]| -> io::Result<f64> { nodes.iter().map(|node| cpu_s(node.pid)).sum() };
    let before = (memory(&fleet.proxies)?, memory(&fleet.brokers)?);
    let mut loads = Vec::new();
    for proxy in fleet.proxies.iter().filter_map(|proxy| proxy.mqtt) {
        let words = format!(
            "idle --conns {CONNECTIONS} --qos 1 --secs {} --addr {proxy}",
            secs + 900
        );
        loads.push(Load::start(program, &words)?);
    }
    for load in &mut loads {
        load.await_measuring(CONNECT_MAX)?;
    }
    fleet.await_quiet()?;
    let from = (cpu(&fleet.proxies)?, cpu(&fleet.brokers)?);
    let end = Instant::now() + Duration::from_secs(secs.into());
    while Instant::now() < end {
        loads.iter_mut().try_for_each(Load::check_running)?;
        std::thread::park_timeout(Duration::from_millis(500));
    }
    let to = (cpu(&fleet.proxies)?, cpu(&fleet.brokers)?);
    let after = (memory(&fleet.proxies)?, memory(&fleet.brokers)?);
    let open = fleet.of_proxies("mqtt_fleet_proxy_connections_open")?;
    let expected = f64::from(u32::from(proxies) * CONNECTIONS);
    if (open - expected).abs() > 0.5 {
        return Err(io::Error::other(format!(
            "{open:.0} connections are open instead of {expected:.0}"
        )));
    }
    let cost = |growth_bytes: f64, cpu_s: f64| Cost {
        growth_bytes,
        cpu_s,
    };
    Ok((
        cost(after.0 - before.0, to.0 - from.0),
        cost(after.1 - before.1, to.1 - from.1),
    ))
}
