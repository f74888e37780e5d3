//! `cargo xtask bench --fleet-idle`: devices that do nothing cost nothing behind the proxies.
//!
//! Two equal fleets beside each other for the same time, one with devices, one without: what differs is theirs.

use super::bars::Bars;
use super::cluster::{Fleet, RedisTraffic, Shape};
use super::load::Load;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

const DEVICES: u32 = 10_000;
/// Their keep alive; they send a PINGREQ every half of it.
const KEEP_ALIVE_S: u32 = 30;
/// They are connected within this time.
const CONNECT_MAX: Duration = Duration::from_secs(180);
const SHAPE: Shape = Shape {
    proxies: 2,
    groups: 2,
    shards: 1,
    durability: "fsync",
};
/// How much more or less it may be with devices, as a part of what it is without.
const TOLERANCE: f64 = 0.01;

/// What has passed so far.
struct Traffic {
    link_bytes: f64,
    redis: RedisTraffic,
    /// Packets of devices.
    packets: f64,
}

impl Traffic {
    fn of(fleet: &Fleet) -> io::Result<Self> {
        Ok(Self {
            link_bytes: fleet.link_bytes()?,
            redis: fleet.redis_traffic()?,
            packets: fleet.of_proxies("mqtt_fleet_proxy_packets_in_total")?,
        })
    }

    /// What has passed since `before`, without the questions asked for these figures.
    fn since(&self, before: &Self) -> [(&'static str, f64); 4] {
        // Asked twice; the first question is in the first figures, its answer is not.
        let asked = "INFO stats\r\n".len() as f64;
        let redis = &self.redis;
        [
            ("bytes on links", self.link_bytes - before.link_bytes),
            (
                "bytes to Redis",
                redis.bytes_in - before.redis.bytes_in - asked,
            ),
            (
                "bytes from Redis",
                redis.bytes_out - before.redis.bytes_out - before.redis.answer,
            ),
            (
                "commands of Redis",
                redis.commands - before.redis.commands - 1.0,
            ),
        ]
    }
}

/// Measures for `secs` seconds.
pub(super) fn run(program: &Path, secs: u32) -> io::Result<()> {
    let (empty, full) = (Fleet::start(program, SHAPE)?, Fleet::start(program, SHAPE)?);
    // It must outlive the measurement, and ends with it.
    let words = format!(
        "idle --conns {DEVICES} --keepalive {KEEP_ALIVE_S} --secs {} --addr {}",
        secs + 600,
        full.addresses()
    );
    let mut load = Load::start(program, &words)?;
    load.await_measuring(CONNECT_MAX)?;
    full.await_quiet()?;
    empty.await_quiet()?;
    let before = (Traffic::of(&empty)?, Traffic::of(&full)?);
    let end = Instant::now() + Duration::from_secs(secs.into());
    while Instant::now() < end {
        load.check_running()?;
        std::thread::park_timeout(Duration::from_millis(500));
    }
    let after = (Traffic::of(&empty)?, Traffic::of(&full)?);
    let open = full.of_proxies("mqtt_fleet_proxy_connections_open")?;

    let mut bars = Bars::new();
    bars.check(
        "devices connected at the end",
        &format!("{open:.0}"),
        &DEVICES.to_string(),
        (open - f64::from(DEVICES)).abs() < 0.5,
    )?;
    let pings = after.1.packets - before.1.packets;
    let expected = f64::from(DEVICES) * (f64::from(secs) / f64::from(KEEP_ALIVE_S / 2)).floor();
    bars.check(
        &format!("PINGREQs in {secs} s"),
        &format!("{pings:.0}"),
        &format!("at least {:.0}", expected * 0.9),
        pings >= expected * 0.9,
    )?;
    let (without, with) = (after.0.since(&before.0), after.1.since(&before.1));
    for ((what, none), (_, all)) in without.into_iter().zip(with) {
        bars.check(
            &format!("{what} in {secs} s"),
            &format!("{all:.0} with devices, {none:.0} without"),
            "within 1 %",
            (all - none).abs() <= none * TOLERANCE,
        )?;
    }
    bars.verdict()
}
