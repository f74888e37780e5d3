//! A session's record in Redis follows the session from proxy to proxy, holds what the session has, and costs Redis
//! little. Redis absent or wiped costs the record nothing that comes back by itself.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use common::broker::{free_address, metric};
use common::fleet::{ByHand, Fleet, Process, redis};
use common::{Client, Connect, PATIENCE};

/// The fields of a record, by name.
type Fields = BTreeMap<String, String>;

/// What `redis-cli HGETALL` shows of a client; nothing where there is no record.
fn record(address: SocketAddr, client: &str) -> Fields {
    let key = format!("mqtt-fleet:session:{{{client}}}");
    let text = redis(address, &["HGETALL", &key]);
    let mut lines = text.trim_end_matches('\n').lines().map(str::to_owned);
    let mut fields = Fields::new();
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        fields.insert(name, value);
    }
    // What is left of a deleted record for a while is none.
    if fields.contains_key("deleted") {
        fields.clear();
    }
    fields
}

/// Reads a record again and again until it is as wanted: Redis does not say when.
fn await_record(address: SocketAddr, client: &str, wanted: impl Fn(&Fields) -> bool) -> Fields {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let fields = record(address, client);
        if wanted(&fields) {
            return fields;
        }
        let now = Instant::now();
        assert!(now < deadline, "{client} still has {fields:?}");
    }
}

/// What a record says of filters, or of events, without their times.
fn of_kind(fields: &Fields, kind: &str) -> Vec<String> {
    let values = fields.iter().filter(|(name, _)| name.starts_with(kind));
    let values = values.map(|(_, value)| value.as_str());
    match kind {
        "event:" => values
            .map(|value| value.split_once(' ').expect("a time first").1.to_owned())
            .collect(),
        _ => values.map(str::to_owned).collect(),
    }
}

fn filters(fields: &Fields) -> Vec<String> {
    of_kind(fields, "filter:")
}

fn is_over(fields: &Fields) -> bool {
    fields.contains_key("disconnected")
}

fn at(node: &str) -> impl Fn(&Fields) -> bool {
    move |fields| fields.get("node").is_some_and(|at| at == node)
}

#[test]
fn a_record_follows_its_session_from_proxy_to_proxy() {
    let fleet = Fleet::start(2);
    let redis = fleet.node("redis").addresses["redis"];
    let connect = Connect::v5("wanderer").persistent();
    let mut wanderer = connect.open_at(fleet.mqtt(0));
    wanderer.subscribe("fleet/+/orders", 1);
    wanderer.subscribe("fleet/news", 2);
    let first = await_record(redis, "wanderer", |fields| filters(fields).len() == 2);
    assert_eq!(first["node"], "proxy-0");
    assert_eq!((&*first["version"], &*first["protocol"]), ("1", "5"));
    assert_eq!(first["expiry_s"], "3600");
    assert!(first["address"].starts_with("127.0.0.1:"), "{first:?}");
    assert_eq!(filters(&first), ["qos1 fleet/+/orders", "qos2 fleet/news"]);
    assert!(!is_over(&first));
    wanderer.disconnect();
    await_record(redis, "wanderer", is_over);

    let mut wanderer = connect.open_at(fleet.mqtt(1));
    assert!(wanderer.present);
    let second = await_record(redis, "wanderer", at("proxy-1"));
    assert_eq!(filters(&second), filters(&first), "nobody subscribed again");
    let history = ["connected", "left 0x00", "connected"];
    assert_eq!(of_kind(&second, "event:"), history);
    assert!(second["epoch"].len() >= first["epoch"].len() && second["epoch"] != first["epoch"]);
    assert!(!is_over(&second));
    wanderer.unsubscribe("fleet/news");
    wanderer.subscribe("fleet/alarms", 0);
    let third = await_record(redis, "wanderer", |fields| {
        filters(fields) != filters(&second)
    });
    assert_eq!(
        filters(&third),
        ["qos1 fleet/+/orders", "qos0 fleet/alarms"]
    );
    // A takeover is a resume too.
    let mut elsewhere = connect.open_at(fleet.mqtt(0));
    assert_eq!(wanderer.expect_closed(), Some(0x8E));
    let fourth = await_record(redis, "wanderer", at("proxy-0"));
    assert_eq!(filters(&fourth), filters(&third));
    elsewhere.ping();
    elsewhere.disconnect();

    // The session's end takes the record with it.
    Connect::v5("wanderer").open_at(fleet.mqtt(1)).disconnect();
    await_record(redis, "wanderer", Fields::is_empty);
}

const DEVICES: usize = 100;

/// Commands that proxies sent to Redis: those that are no part of a script.
fn commands(fleet: &Fleet) -> u64 {
    let stats = fleet.redis(&["INFO", "commandstats"]);
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let sent = ["evalsha", "eval", "hgetall"].contains(&name);
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        Some(if sent { calls } else { 0 })
    };
    stats.lines().filter_map(calls).sum()
}

fn await_writes(fleet: &Fleet, proxy: &str, writes: f64) {
    let deadline = Instant::now() + PATIENCE;
    while fleet.metric(proxy, &["mqtt_fleet_store_saves"]) < writes {
        assert!(
            Instant::now() < deadline,
            "{proxy} has not written {writes}"
        );
    }
}

#[test]
fn a_devices_life_is_at_most_three_commands() {
    let fleet = Fleet::start(2);
    let connect = |n: usize| Connect::v5(&format!("device-{n}")).persistent();
    // Until scripts are known and ticket keys, if any, are there.
    connect(DEVICES).open_at(fleet.mqtt(0)).disconnect();
    await_writes(&fleet, "proxy-0", 1.0);
    fleet.redis(&["CONFIG", "RESETSTAT"]);
    for (proxy, life) in ["a new session", "a resumed one"].iter().enumerate() {
        let name = format!("proxy-{proxy}");
        let before = fleet.metric(&name, &["mqtt_fleet_store_saves"]);
        let commands_before = commands(&fleet);
        let devices: Vec<Client> = (0..DEVICES)
            .map(|n| {
                let mut device = connect(n).open_at(fleet.mqtt(proxy as u16));
                assert_eq!(device.present, proxy == 1);
                device.subscribe(&format!("devices/{n}/commands"), 1);
                device
            })
            .collect();
        await_writes(&fleet, &name, before + DEVICES as f64);
        for device in devices {
            device.disconnect();
        }
        await_writes(&fleet, &name, before + 2.0 * DEVICES as f64);
        let sent = commands(&fleet) - commands_before;
        let each = sent as f64 / DEVICES as f64;
        println!("{life}: {each} commands");
        // One more where the script is new to a connection, or a SUBSCRIBE met the end of its second.
        let most = (2 + proxy) * DEVICES + DEVICES / 10;
        assert!(sent as usize <= most && each <= 3.1, "{life}: {each}");
        assert!(sent as usize >= 2 * DEVICES, "{life}: {each} is too good");
    }
}

const AWAY: &str = "session records cannot be written";

fn start_redis(fleet: &ByHand, port: u16) -> Process {
    let mut command = Command::new("redis-server");
    let port = port.to_string();
    command.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    let server = Process::run("redis-server", fleet.folder.path(), command);
    server.await_line("Ready to accept connections");
    server
}

#[test]
fn a_record_that_redis_has_survives_that_redis_is_away() {
    let fleet = ByHand::new();
    let address = free_address();
    let config = format!("[redis]\nurls = [\"redis://{address}\"]\n");
    fleet.write("proxy.toml", &config);
    let mut server = start_redis(&fleet, address.port());
    let broker = fleet.broker();
    broker.await_line("links on");
    let proxy = fleet.proxy("cluster.toml", &["--config", "proxy.toml"]);
    proxy.await_line("session records are kept in Redis");

    let [sleeper, talker, newcomer] = ["sleeper", "talker", "newcomer"].map(Connect::v5);
    let [sleeper, talker] = [sleeper, talker].map(Connect::persistent);
    let mut early = sleeper.open_at(fleet.mqtt);
    early.subscribe("dreams/#", 1);
    early.disconnect();
    let mut talker = talker.open_at(fleet.mqtt);
    talker.subscribe("talk/1", 1);
    await_record(address, "sleeper", is_over);
    await_record(address, "talker", |fields| filters(fields).len() == 1);

    server.kill9();
    talker.subscribe("talk/2", 1);
    talker.say("talk/1", 1, "on");
    assert_eq!(talker.take().text(), "on");
    let mut woken = sleeper.open_at(fleet.mqtt);
    assert!(woken.present, "nobody waits for Redis");
    talker.say("dreams/1", 1, "of Redis");
    assert_eq!(woken.take().text(), "of Redis");
    let mut newcomer = newcomer.open_at(fleet.mqtt);
    newcomer.subscribe("news", 0);
    proxy.await_line(AWAY);
    // Its load has failed: the record is in Redis, and Redis is away.
    let deadline = Instant::now() + PATIENCE;
    while metric(fleet.proxy_admin, &["mqtt_fleet_store_loads_late"]) < 1.0 {
        assert!(Instant::now() < deadline, "no load is late");
    }

    let _server = start_redis(&fleet, address.port());
    let node = await_record(address, "sleeper", |fields| {
        !is_over(fields) && !fields.is_empty()
    });
    assert_eq!(filters(&node), ["qos1 dreams/#"], "its filters were kept");
    assert_eq!(of_kind(&node, "event:").len(), 3, "{node:?}");
    let talks = await_record(address, "talker", |fields| filters(fields).len() == 2);
    assert_eq!(filters(&talks), ["qos1 talk/1", "qos1 talk/2"]);
    await_record(address, "newcomer", |fields| filters(fields).len() == 1);
    let output = proxy.output();
    let away = output.lines().filter(|line| line.contains(AWAY)).count();
    assert_eq!(away, 1, "not a line for each client");
}

#[test]
fn a_wiped_record_is_back_with_its_client() {
    let fleet = Fleet::start(2);
    let redis = fleet.node("redis").addresses["redis"];
    let connect = Connect::v5("sleeper").persistent();
    let mut sleeper = connect.open_at(fleet.mqtt(0));
    sleeper.subscribe("dreams/#", 1);
    sleeper.disconnect();
    let mut talker = Connect::v5("talker").persistent().open_at(fleet.mqtt(1));
    talker.subscribe("talk/1", 1);
    await_record(redis, "sleeper", is_over);
    await_record(redis, "talker", |fields| filters(fields).len() == 1);
    talker.say("dreams/1", 1, "queued");

    assert_eq!(fleet.redis(&["FLUSHALL"]).trim(), "OK");
    talker.say("talk/1", 1, "still subscribed");
    assert_eq!(talker.take().text(), "still subscribed");
    assert!(record(redis, "talker").is_empty(), "nothing has changed");
    talker.subscribe("talk/2", 1);
    let back = await_record(redis, "talker", |fields| !fields.is_empty());
    let both = ["qos1 talk/1", "qos1 talk/2"];
    assert_eq!(
        filters(&back),
        both,
        "as long as it is connected it is known"
    );

    let mut sleeper = connect.open_at(fleet.mqtt(1));
    assert!(sleeper.present, "the home of the session is its group");
    assert_eq!(sleeper.take().text(), "queued");
    let back = await_record(redis, "sleeper", at("proxy-1"));
    assert!(filters(&back).is_empty(), "until it subscribes again");
    let missing = fleet.metric("proxy-1", &["mqtt_fleet_proxy_store_records_missing"]);
    assert!(
        (missing - 1.0).abs() < f64::EPSILON,
        "{missing} are missing"
    );
    sleeper.subscribe("dreams/#", 1);
    await_record(redis, "sleeper", |fields| {
        filters(fields) == ["qos1 dreams/#"]
    });
}
