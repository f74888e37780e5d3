//! What the indexes of the group machine cost: nanoseconds an operation, bytes an entry.
//!
//! `cargo bench --bench index [NAME]` runs the figures whose name contains NAME. The keys of each figure
//! are visited in a scattered order, so that a large table is not in the cache when it is read.

use cluster::ids::ClientNo;
use mqtt_fleet_broker::machine::retained::{PageLimits, Retained, RetainedEntry};
use mqtt_fleet_broker::machine::subscriptions::{
    Options, Subscriber, SubscriberKey, Subscriptions,
};
use std::hint::black_box;
use std::time::Instant;

const MILLION: u32 = 1_000_000;
const LOOKUPS: u32 = 2_000_000;

fn main() {
    let wanted = std::env::args()
        .skip(1)
        .find(|arg| !arg.starts_with("--"))
        .unwrap_or_default();
    let figures: [(&str, fn()); 7] = [
        ("exact", exact),
        ("exact-beside-wildcards", exact_beside_wildcards),
        ("wildcards", wildcards),
        ("fan-out", fan_out),
        ("busy-topic", busy_topic),
        ("retained", retained),
        ("retained-pages", retained_pages),
    ];
    for (name, figure) in figures {
        if name.contains(&wanted) {
            figure();
        }
    }
}

/// Prints one figure: the time of `count` operations.
fn measure(what: &str, count: u32, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    let nanos = start.elapsed().as_nanos() as f64 / f64::from(count);
    println!("{what:<58} {nanos:>10.1} ns");
}

/// Prints how much resident memory `build` left behind, for each of `count` entries.
fn measure_bytes<T>(what: &str, count: u32, build: impl FnOnce() -> T) -> T {
    let before = resident_bytes();
    let table = build();
    let bytes = (resident_bytes() - before) as f64 / f64::from(count);
    println!("{what:<58} {bytes:>10.1} bytes");
    table
}

/// Resident memory of the process; 0 where the system does not tell.
fn resident_bytes() -> i64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else {
        return 0;
    };
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<i64>().ok());
    pages.map_or(0, |pages| pages * 4096)
}

fn client(number: u32) -> Subscriber {
    let options = Options::default();
    Subscriber::Client {
        client: ClientNo(number),
        options,
        subscription_id: 0,
    }
}

/// 20 bytes, as `devices/0000042/cmd` plus one.
fn topic(number: u32) -> String {
    format!("devices/{number:08}/cmd")
}

/// Every number below `count` once, scattered.
fn scattered(count: u32) -> impl Iterator<Item = u32> {
    // Odd and prime to the powers of ten that are used here.
    (0..count).map(move |n| (u64::from(n) * 7_368_787 % u64::from(count)) as u32)
}

fn topics(count: u32) -> Vec<String> {
    scattered(count).map(topic).collect()
}

fn match_all(subscriptions: &Subscriptions, topics: &[String], rounds: u32) -> u32 {
    let mut found = 0;
    for _ in 0..rounds {
        for topic in topics {
            subscriptions.for_each_match(topic.as_bytes(), |subscriber| {
                found += u32::from(matches!(black_box(subscriber), Subscriber::Client { .. }));
            });
        }
    }
    found
}

fn exact() {
    for count in [1_000, 100_000, MILLION] {
        let topics = topics(count);
        let subscriptions = measure_bytes(&format!("exact, {count}: each"), count, || {
            let mut subscriptions = Subscriptions::new();
            for (number, topic) in topics.iter().enumerate() {
                subscriptions.insert(topic, client(number as u32));
            }
            subscriptions
        });
        let rounds = LOOKUPS / count;
        measure(&format!("exact, {count}: match"), LOOKUPS, || {
            assert_eq!(match_all(&subscriptions, &topics, rounds), LOOKUPS);
        });
        change_all(&format!("exact, {count}"), subscriptions, &topics);
    }
}

/// Removes everything and puts it back.
fn change_all(what: &str, mut subscriptions: Subscriptions, filters: &[String]) {
    measure(
        &format!("{what}: remove and insert"),
        filters.len() as u32,
        || {
            for (number, filter) in filters.iter().enumerate() {
                let key = SubscriberKey::Client(ClientNo(number as u32));
                let removed = subscriptions.remove(filter, key).expect("was inserted");
                subscriptions.insert(filter, removed);
            }
        },
    );
}

fn exact_beside_wildcards() {
    let topics = topics(1_000);
    let mut subscriptions = Subscriptions::new();
    for (number, topic) in topics.iter().enumerate() {
        subscriptions.insert(topic, client(number as u32));
    }
    subscriptions.insert("alarms/#", client(0));
    subscriptions.insert("+/telemetry", client(0));
    measure(
        "exact, 1000, beside alarms/# and +/telemetry: match",
        LOOKUPS,
        || {
            assert_eq!(match_all(&subscriptions, &topics, LOOKUPS / 1_000), LOOKUPS);
        },
    );
}

fn wildcards() {
    for count in [1_000, MILLION] {
        let filters: Vec<_> = scattered(count)
            .map(|n| format!("devices/{n:08}/#"))
            .collect();
        let subscriptions = measure_bytes(&format!("devices/<id>/#, {count}: each"), count, || {
            let mut subscriptions = Subscriptions::new();
            for (number, filter) in filters.iter().enumerate() {
                subscriptions.insert(filter, client(number as u32));
            }
            subscriptions
        });
        let topics = topics(count);
        let rounds = LOOKUPS / count;
        measure(&format!("devices/<id>/#, {count}: match"), LOOKUPS, || {
            assert_eq!(match_all(&subscriptions, &topics, rounds), LOOKUPS);
        });
        change_all(&format!("devices/<id>/#, {count}"), subscriptions, &filters);
    }
}

fn fan_out() {
    for count in [10, 1_000, 100_000] {
        let mut subscriptions = Subscriptions::new();
        for number in scattered(count) {
            subscriptions.insert("news/all", client(number));
        }
        let rounds = 10_000_000 / count;
        measure(
            &format!("fan-out to {count}: each subscriber"),
            rounds * count,
            || {
                let found = match_all(&subscriptions, &["news/all".into()], rounds);
                assert_eq!(found, rounds * count);
            },
        );
        subscriptions.insert("news/#", client(0));
        let mut out = Vec::new();
        measure(
            &format!("fan-out to {count}, overlapping: collect each"),
            rounds * count,
            || {
                for _ in 0..rounds {
                    subscriptions.collect(b"news/all", &mut out);
                    assert_eq!(black_box(&out).len() as u32, count + 1);
                }
            },
        );
    }
}

fn busy_topic() {
    let mut subscriptions = Subscriptions::new();
    for number in 0..100_000 {
        subscriptions.insert("news/all", client(number));
    }
    measure(
        "remove and insert beside 100,000 on one topic",
        100_000,
        || {
            for number in scattered(100_000) {
                let key = SubscriberKey::Client(ClientNo(number));
                let removed = subscriptions.remove("news/all", key).expect("was inserted");
                subscriptions.insert("news/all", removed);
            }
        },
    );
    measure("remove all of 100,000 from one topic", 100_000, || {
        for number in scattered(100_000) {
            let key = SubscriberKey::Client(ClientNo(number));
            assert!(subscriptions.remove("news/all", key).is_some());
        }
    });
}

fn entry(message: u32) -> RetainedEntry {
    RetainedEntry {
        message,
        index: u64::from(message),
    }
}

fn retain_all(topics: &[String]) -> Retained {
    let mut retained = Retained::new();
    for (number, topic) in topics.iter().enumerate() {
        retained.set(topic, entry(number as u32));
    }
    retained
}

fn retained() {
    for count in [1_000, MILLION] {
        let topics = topics(count);
        let what = format!("retained, {count}: each");
        let mut retained = measure_bytes(&what, count, || retain_all(&topics));
        let rounds = LOOKUPS / count;
        measure(&format!("retained, {count}: replace"), LOOKUPS, || {
            for _ in 0..rounds {
                for topic in &topics {
                    assert!(retained.set(topic, entry(7)).is_some());
                }
            }
        });
    }
}

fn retained_pages() {
    let mut topics = Vec::new();
    for device in 0..MILLION / 10 {
        for kind in ["a", "b", "c", "d", "e", "f", "g", "h", "status", "temp"] {
            topics.push(format!("devices/{device:06}/{kind}"));
        }
    }
    let retained = retain_all(&topics);
    let mut out = Vec::new();
    for filter in ["#", "devices/+/status", "+/+/temp", "devices/+/nothing"] {
        let start = Instant::now();
        let (mut pages, mut cursor) = (0, None);
        out.clear();
        loop {
            cursor = retained.page(filter, cursor.as_ref(), PageLimits::default(), &mut out);
            pages += 1;
            if cursor.is_none() {
                break;
            }
        }
        let micros = start.elapsed().as_micros() as f64 / f64::from(pages);
        let what = format!(
            "{filter} of 1,000,000 retained: {} matches, a page",
            out.len()
        );
        println!("{what:<58} {micros:>10.1} us");
    }
    measure("devices/<id>/# of 1,000,000 retained", 100_000, || {
        for device in scattered(100_000) {
            out.clear();
            let filter = format!("devices/{device:06}/#");
            let rest = retained.page(&filter, None, PageLimits::default(), &mut out);
            assert!(rest.is_none() && out.len() == 10);
        }
    });
}
