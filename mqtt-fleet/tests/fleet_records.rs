//! A session's record in Redis follows the session from proxy to proxy, holds what the session has, and costs Redis
//! little. Whatever Redis loses of it comes back by itself (P7).

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use common::broker::{free_address, metric};
use common::fleet::{ByHand, Fleet, Process, redis};
use common::{Client, Connect, PATIENCE, Props, Value, prop};

/// A proxy looks every few seconds whether Redis has lost something, and machines are busy.
const A_WHILE: Duration = Duration::from_secs(40);

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
    let deadline = Instant::now() + A_WHILE;
    loop {
        let fields = record(address, client);
        if wanted(&fields) {
            return fields;
        }
        let now = Instant::now();
        assert!(now < deadline, "{client} still has {fields:?}");
    }
}

fn filters(fields: &Fields) -> Vec<String> {
    let values = fields
        .iter()
        .filter(|(name, _)| name.starts_with("filter:"));
    values.map(|(_, value)| value.clone()).collect()
}

/// What happened, oldest first, without the times between.
fn events(fields: &Fields) -> Vec<&str> {
    let history = fields.get("history").map_or("", String::as_str);
    history.split_ascii_whitespace().step_by(2).collect()
}

fn is_over(fields: &Fields) -> bool {
    events(fields).last().is_some_and(|last| *last != "+")
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
    assert_eq!(events(&second), ["+", "d00", "+"]);
    assert!(second["epoch"].len() >= first["epoch"].len() && second["epoch"] != first["epoch"]);
    assert!(!is_over(&second));
    wanderer.unsubscribe("fleet/news");
    wanderer.subscribe("fleet/alarms", 0);
    let third = await_record(redis, "wanderer", |fields| {
        filters(fields) == ["qos1 fleet/+/orders", "qos0 fleet/alarms"]
    });
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
        let (begun, commands_before) = (Instant::now(), commands(&fleet));
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
        // Each proxy looks every five seconds whether Redis has lost what it had.
        let looks = 2 * (begun.elapsed().as_secs() as usize / 5 + 1);
        println!("{life}: {each} commands");
        // One more where the script is new to a connection, or a SUBSCRIBE met the end of its second.
        let most = (2 + proxy) * DEVICES + DEVICES / 10 + looks;
        assert!(sent as usize <= most, "{life}: {each}");
        assert!(sent as usize >= 2 * DEVICES, "{life}: {each} is too good");
    }
}

const AWAY: &str = "session records cannot be written";

/// What it has written outlives a kill of the process.
const ON_DISK: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "no"];

fn start_redis(fleet: &ByHand, port: u16, more: &[&str]) -> Process {
    let mut command = Command::new("redis-server");
    let port = port.to_string();
    command.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]);
    command.args(more);
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
    let mut server = start_redis(&fleet, address.port(), &ON_DISK);
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

    let _server = start_redis(&fleet, address.port(), &ON_DISK);
    let node = await_record(address, "sleeper", |fields| {
        !is_over(fields) && !fields.is_empty()
    });
    assert_eq!(filters(&node), ["qos1 dreams/#"], "its filters were kept");
    assert_eq!(events(&node).len(), 3, "{node:?}");
    let talks = await_record(address, "talker", |fields| filters(fields).len() == 2);
    assert_eq!(filters(&talks), ["qos1 talk/1", "qos1 talk/2"]);
    await_record(address, "newcomer", |fields| filters(fields).len() == 1);
    let output = proxy.output();
    let away = output.lines().filter(|line| line.contains(AWAY)).count();
    assert_eq!(away, 1, "not a line for each client");
}

/// A proxy's counter; they are whole numbers.
fn counted(fleet: &Fleet, proxy: &str, name: &str) -> u64 {
    let figure = format!("{:.0}", fleet.metric(proxy, &[name]));
    figure.parse().expect("counters do not go below zero")
}

const REBUILT: &str = "session records are gone or differ";
const WIPED: &str = "Redis has lost what it had";

#[test]
fn a_wiped_redis_gets_the_records_of_connected_clients_again() {
    let fleet = Fleet::start(2);
    let redis = fleet.node("redis").addresses["redis"];
    let connect = |n: usize| Connect::v5(&format!("talker-{n}")).persistent();
    let mut talkers: Vec<_> = (0..20)
        .map(|n| {
            let mut talker = connect(n).open_at(fleet.mqtt((n % 2) as u16));
            talker.subscribe(&format!("talk/{n}"), 1);
            talker
        })
        .collect();
    let id = |n: usize| format!("talker-{n}");
    let before: Vec<_> = (0..20)
        .map(|n| await_record(redis, &id(n), |fields| filters(fields).len() == 1))
        .collect();
    assert_eq!(fleet.redis(&["FLUSHALL"]).trim(), "OK");
    talkers[0].say("talk/0", 1, "still subscribed");
    assert_eq!(talkers[0].take().text(), "still subscribed");
    // None of them does anything.
    for (n, before) in before.iter().enumerate() {
        let mut back = await_record(redis, &id(n), |fields| !fields.is_empty());
        assert_ne!(back["write"], before["write"]);
        back.insert("write".to_owned(), before["write"].clone());
        assert_eq!(back, *before, "the same record");
    }
    for proxy in ["proxy-0", "proxy-1"] {
        assert_eq!(counted(&fleet, proxy, "mqtt_fleet_store_wipes"), 1);
        let again = counted(&fleet, proxy, "mqtt_fleet_proxy_store_records_rewritten");
        assert_eq!(again, 10, "{proxy}");
    }
    // The other proxy's mark is no wipe, and one is found after another.
    assert_eq!(fleet.redis(&["FLUSHALL"]).trim(), "OK");
    await_record(redis, "talker-19", |fields| {
        filters(fields) == ["qos1 talk/19"]
    });
    fleet.launcher.await_lines(WIPED, 3);
    let output = fleet.launcher.output();
    let wiped = output.lines().filter(|line| line.contains(WIPED)).count();
    assert!(wiped <= 4, "{wiped} lines of two proxies");
    for (n, talker) in talkers.into_iter().enumerate() {
        talker.disconnect();
        await_record(redis, &id(n), is_over);
    }
}

/// Enough filters that each of three groups has some of them.
const PLACES: usize = 8;

/// What the record of such a client has to say of its filters.
fn all_filters() -> Vec<String> {
    let own = (0..PLACES).map(|n| format!("qos1,no-local,id7 places/{n}/x"));
    let mut all: Vec<_> = own.collect();
    all.push("qos2,retain-as-published,retain-handling2,id9 #".to_owned());
    all.push("qos1 $share/group/places/3/+".to_owned());
    all.push("qos0 +/x".to_owned());
    all.sort();
    all
}

fn subscribe_everywhere(client: &mut Client) {
    let id = |id: u32| Props::new().with(prop::SUBSCRIPTION_ID, Value::Var(id));
    for n in 0..PLACES {
        let code = client.try_subscribe(&format!("places/{n}/x"), 0b101, &id(7));
        assert_eq!(code, 1);
    }
    assert_eq!(client.try_subscribe("#", 0b10_1010, &id(9)), 2);
    client.subscribe("$share/group/places/3/+", 1);
    client.subscribe("+/x", 0);
}

fn sorted_filters(fields: &Fields) -> Vec<String> {
    let mut all = filters(fields);
    all.sort();
    all
}

#[test]
fn whatever_is_wrong_with_a_record_is_mended_when_its_session_is_resumed() {
    let fleet = Fleet::start_with(&["--respawn", "--proxies", "2", "--groups", "3"]);
    let redis = fleet.node("redis").addresses["redis"];
    let connect = Connect::v5("sleeper").persistent();
    let mut sleeper = connect.open_at(fleet.mqtt(0));
    subscribe_everywhere(&mut sleeper);
    let right = |fields: &Fields| sorted_filters(fields) == all_filters();
    await_record(redis, "sleeper", right);
    sleeper.disconnect();
    let key = "mqtt-fleet:session:{sleeper}";
    let nonsense = format!("filter:{}", all_filters().len() + 1);
    let damages: [&[&str]; 6] = [
        &["FLUSHALL"],
        &["HDEL", key, "filter:1"],
        &["HDEL", key, "filter:11"],
        &["HSET", key, &nonsense, "qos1 never/subscribed"],
        &["HSET", key, "filter:2", "qos2 places/1/x"],
        &["HSET", key, "filter:3", "no filter at all"],
    ];
    let rebuilt = |proxy: &str| counted(&fleet, proxy, "store_records_rebuilt");
    for (n, damage) in damages.into_iter().enumerate() {
        await_record(redis, "sleeper", |fields| right(fields) && is_over(fields));
        fleet.redis(damage);
        assert!(!right(&record(redis, "sleeper")), "{damage:?}");
        let proxy = (n + 1) % 2;
        let name = format!("proxy-{proxy}");
        let before = rebuilt(&name);
        let sleeper = connect.open_at(fleet.mqtt(proxy as u16));
        assert!(sleeper.present);
        let back = await_record(redis, "sleeper", |fields| {
            right(fields) && at(&name)(fields)
        });
        assert!(!is_over(&back), "{damage:?}");
        assert_eq!(rebuilt(&name), before + 1, "{damage:?}");
        sleeper.disconnect();
    }
    // What is right is left alone.
    await_record(redis, "sleeper", |fields| right(fields) && is_over(fields));
    let before = rebuilt("proxy-0");
    let mut sleeper = connect.open_at(fleet.mqtt(0));
    await_record(redis, "sleeper", |fields| {
        right(fields) && at("proxy-0")(fields)
    });
    assert_eq!(rebuilt("proxy-0"), before);
    // A change that is made while the groups are asked joins what they say.
    fleet.redis(&["DEL", key]);
    let mut elsewhere = connect.open_at(fleet.mqtt(1));
    assert_eq!(sleeper.expect_closed(), Some(0x8E));
    elsewhere.subscribe("news", 1);
    elsewhere.unsubscribe("places/0/x");
    let mut changed = all_filters();
    changed.retain(|filter| !filter.ends_with("places/0/x"));
    changed.push("qos1 news".to_owned());
    changed.sort();
    await_record(redis, "sleeper", |fields| sorted_filters(fields) == changed);
    let output = fleet.launcher.output();
    let lines = output.lines().filter(|line| line.contains(REBUILT)).count();
    assert_eq!(lines, 2, "one of each proxy, not one of each rebuild");
}

#[test]
fn a_redis_that_comes_back_empty_gets_all_records_again() {
    let fleet = ByHand::new();
    let address = free_address();
    let config = format!("[redis]\nurls = [\"redis://{address}\"]\n");
    fleet.write("proxy.toml", &config);
    let mut server = start_redis(&fleet, address.port(), &[]);
    let broker = fleet.broker();
    broker.await_line("links on");
    let proxy = fleet.proxy("cluster.toml", &["--config", "proxy.toml"]);
    proxy.await_line("session records are kept in Redis");
    let [sleeper, talker] = ["sleeper", "talker"].map(|id| Connect::v5(id).persistent());
    let mut early = sleeper.open_at(fleet.mqtt);
    early.subscribe("dreams/#", 1);
    early.subscribe("$share/night/+", 2);
    early.disconnect();
    let mut talking = talker.open_at(fleet.mqtt);
    talking.subscribe("talk/1", 1);
    let expected = ["qos1 dreams/#", "qos2 $share/night/+"];
    await_record(address, "sleeper", |fields| {
        is_over(fields) && filters(fields) == expected
    });
    await_record(address, "talker", |fields| {
        filters(fields) == ["qos1 talk/1"]
    });

    server.kill9();
    // Served at once, without Redis.
    let woken = sleeper.open_at(fleet.mqtt);
    assert!(woken.present);
    proxy.await_line(AWAY);
    let _server = start_redis(&fleet, address.port(), &[]);
    let back = await_record(address, "sleeper", |fields| filters(fields).len() == 2);
    assert_eq!(sorted_filters(&back), expected);
    assert!(!is_over(&back));
    await_record(address, "talker", |fields| {
        filters(fields) == ["qos1 talk/1"]
    });
    assert_eq!(
        proxy
            .output()
            .lines()
            .filter(|line| line.contains(WIPED))
            .count(),
        1
    );
    talking.ping();
    woken.disconnect();
    await_record(address, "sleeper", |fields| {
        is_over(fields) && filters(fields).len() == 2
    });
}
