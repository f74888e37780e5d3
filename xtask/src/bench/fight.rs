//! `cargo xtask bench --fleet-fight`: after a fight over client ids nothing is left of it anywhere.
//!
//! Other devices stay connected all the while, so that there is something to count that must not vanish either.

use super::bars::Bars;
use super::cluster::{Fleet, Shape};
use super::load::{Load, figure};
use serde_json::Value;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Client ids that are fought over.
const IDS: u32 = 1_000;
/// Devices that stay.
const BYSTANDERS: u32 = 500;
/// They are connected within this time.
const CONNECT_MAX: Duration = Duration::from_secs(60);
/// After this time every end of a session has reached every group, and Redis.
const SETTLE_MAX: Duration = Duration::from_secs(60);
const SHAPE: Shape = Shape {
    proxies: 3,
    groups: 3,
    shards: 1,
    durability: "fsync",
};

/// What the parts of a fleet say there is.
#[derive(Debug, PartialEq)]
struct Census {
    /// At the proxies.
    connections: f64,
    /// Sessions at their homes.
    sessions: f64,
    /// Sessions and guests with a connection.
    attached: f64,
    /// What other groups hold of sessions.
    guests: f64,
    /// Sessions that are over, and that another group was not heard to have ended.
    ends_pending: f64,
    /// Subscriptions at all groups.
    subscriptions: f64,
    /// Messages at all groups.
    messages: f64,
    /// Frames kept by the proxies until they are stored, and records not yet written.
    under_way: f64,
    /// Session records in Redis.
    records: f64,
}

impl Census {
    fn take(fleet: &Fleet) -> io::Result<Self> {
        let guests = fleet.of_brokers("mqtt_fleet_group_guests")?;
        Ok(Self {
            connections: fleet.of_proxies("mqtt_fleet_proxy_connections_open")?,
            sessions: fleet.of_brokers("mqtt_fleet_group_sessions ")? - guests,
            attached: fleet.of_brokers("mqtt_fleet_group_attached ")?,
            guests,
            ends_pending: fleet.of_brokers("mqtt_fleet_group_ends_pending")?,
            subscriptions: fleet.of_brokers("mqtt_fleet_group_subscriptions ")?,
            messages: fleet.of_brokers("mqtt_fleet_group_messages ")?,
            under_way: fleet.of_proxies("mqtt_fleet_link_kept_frames")?
                + fleet.of_proxies("mqtt_fleet_store_writes_waiting")?,
            records: fleet.records()?,
        })
    }

    /// Takes it until it is `wanted`, or for as long as things may take to settle: the last one.
    fn settle(fleet: &Fleet, wanted: impl Fn(&Self) -> bool) -> io::Result<Self> {
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let census = Self::take(fleet)?;
            if wanted(&census) || Instant::now() > deadline {
                return Ok(census);
            }
            std::thread::park_timeout(Duration::from_millis(250));
        }
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections at the proxies; {} sessions at their homes, {} attached, {} guests, {} ends pending, {} \
             subscriptions, {} messages at the groups; {} frames and records under way; {} records in Redis",
            self.connections,
            self.sessions,
            self.attached,
            self.guests,
            self.ends_pending,
            self.subscriptions,
            self.messages,
            self.under_way,
            self.records
        )
    }
}

/// Fights for `secs` seconds and counts.
pub(super) fn run(program: &Path, secs: u32) -> io::Result<()> {
    let fleet = Fleet::start(program, SHAPE)?;
    let addr = fleet.addresses();
    let mut bystanders = Load::start(
        program,
        &format!(
            "idle --conns {BYSTANDERS} --secs {} --addr {addr}",
            secs + 900
        ),
    )?;
    bystanders.await_measuring(CONNECT_MAX)?;
    fleet.await_quiet()?;
    let before = Census::take(&fleet)?;
    let fight = Load::start(
        program,
        &format!("fight --ids {IDS} --secs {secs} --addr {addr}"),
    )?;
    let fight = fight.judged()?;
    let after = Census::settle(&fleet, |census| *census == before)?;
    bystanders.check_running()?;
    drop(bystanders);
    let empty = |census: &Census| {
        let Census {
            connections,
            sessions,
            attached,
            guests,
            ends_pending,
            subscriptions,
            messages,
            under_way,
            records,
        } = census;
        let all = [connections, sessions, attached, guests, ends_pending];
        let more = [subscriptions, messages, under_way, records];
        all.into_iter().chain(more).all(|count| *count < 0.5)
    };
    let end = Census::settle(&fleet, empty)?;

    let mut bars = Bars::new();
    judge(&mut bars, &fight)?;
    let all = f64::from(BYSTANDERS);
    let attached = before.attached - before.guests;
    let off = [
        before.sessions,
        attached,
        before.records,
        before.connections,
    ];
    let whole = off.iter().all(|count| (count - all).abs() < 0.5);
    let bar = format!("{BYSTANDERS} of all, guests besides");
    bars.check("before the fight", &before.to_string(), &bar, whole)?;
    let same = after == before;
    bars.check("after the fight", &after.to_string(), "as before", same)?;
    bars.check("when all have left", &end.to_string(), "all 0", empty(&end))?;
    bars.verdict()
}

/// What the load test itself found.
fn judge(bars: &mut Bars, fight: &Value) -> io::Result<()> {
    for (what, path) in [
        ("messages lost", "/lost"),
        ("stale messages", "/stale"),
        ("sessions lost", "/session_lost"),
    ] {
        let count = figure(fight, path)?;
        bars.check(what, &count.to_string(), "0", count < 0.5)?;
    }
    let failures = &fight["failures"];
    let none = failures.as_array().is_some_and(Vec::is_empty);
    bars.check("all failures", &failures.to_string(), "none", none)?;
    for (what, path) in [
        ("clients taken over", "/taken_over"),
        ("messages acknowledged", "/acked"),
    ] {
        let count = figure(fight, path)?;
        bars.check(what, &count.to_string(), "> 0", count > 0.5)?;
    }
    Ok(())
}
