//! From arguments to the devices of each thread.

use std::net::SocketAddr;
use std::time::Duration;

use super::device::{Device, Settings, Side};
use super::filters::Filters;
use super::publisher::Publisher;
use super::subscriber::Subscriber;
use crate::args::LoadtestArgs;
use crate::plan::threads;
use crate::tls::Tls;
use crate::wire::Template;

/// The share of one thread.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) settings: Settings,
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) tls: Option<Tls>,
    /// Pair p has its subscriber at 2p and its publisher at 2p + 1.
    pub(super) devices: Vec<Device>,
    /// Messages per second of all publishers here.
    pub(super) per_s: f64,
    /// Subscribers per second that leave and come back.
    pub(super) churn_per_s: f64,
    /// How long they stay away.
    pub(super) away: Duration,
    pub(super) drain: Duration,
}

/// One plan for each thread. `run` makes topics and client ids of this run its own.
pub(super) fn plans(
    args: &LoadtestArgs,
    addrs: &[SocketAddr],
    tls: Option<&Tls>,
    run: &str,
) -> Vec<Plan> {
    let threads = threads(args);
    let settings = Settings {
        version: args.version(),
        qos: args.qos(),
        keep_alive_s: args.keep_alive_s(),
        session_expiry_s: args.session_expiry,
        patience_ns: Duration::from_secs_f64(args.patience).as_nanos() as u64,
        addresses: addrs.len(),
    };
    let rate = args.rate().unwrap_or_default();
    let plan = |thread: usize| {
        let mine: Vec<usize> = (thread..args.conns).step_by(threads).collect();
        let devices = mine.iter().zip(0..);
        let devices = devices.flat_map(|(&pair, own)| devices_of(pair, own, args, &settings, run));
        Plan {
            devices: devices.collect(),
            settings: settings.clone(),
            addrs: addrs.to_vec(),
            tls: tls.cloned(),
            per_s: rate * mine.len() as f64 / args.conns as f64,
            churn_per_s: args.churn * mine.len() as f64 / args.conns as f64,
            away: Duration::from_secs_f64(args.away),
            drain: Duration::from_secs_f64(args.drain),
        }
    };
    (0..threads).map(plan).collect()
}

/// Subscriber and publisher of a pair; `own` is the pair's number within the thread.
fn devices_of(
    pair: usize,
    own: u32,
    args: &LoadtestArgs,
    settings: &Settings,
    run: &str,
) -> [Device; 2] {
    let filters = Filters::new(format!("{run}-{pair}"), args.wildcard, args.filters);
    let (version, qos) = (settings.version, settings.qos);
    let template = Template::new(version, qos, &filters.topic(), own, args.size);
    let publisher = Side::Publisher(Publisher::new(template, qos));
    let subscriber = Side::Subscriber(Subscriber::new(qos), filters);
    let device = |prefix: &str, side, at: usize| {
        let client_id = format!("endure-{run}-{prefix}{pair}").into_boxed_str();
        let number = (pair * 2 + at) as u64;
        let address = (pair + 1 - at) % settings.addresses;
        Device::new((client_id, own, side), number, address, 0)
    };
    [device("s", subscriber, 0), device("p", publisher, 1)]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadtestArgs,
    }

    #[test]
    fn pairs_are_spread_over_threads_and_addresses() {
        let line = "x endure --pairs 5 --threads 2 --rate 1000 --addr 127.0.0.1:1,127.0.0.1:2";
        let args = <Cli as clap::Parser>::parse_from(line.split_whitespace()).load;
        let addrs = args.resolve().expect("numeric addresses");
        let plans = plans(&args, &addrs, None, "r");
        let devices: Vec<usize> = plans.iter().map(|plan| plan.devices.len()).collect();
        assert_eq!(devices, [6, 4]);
        assert!((plans[0].per_s - 600.0).abs() < 1e-9);
        let mut ids = HashSet::new();
        for plan in &plans {
            for (own, pair) in plan.devices.chunks(2).enumerate() {
                let [subscriber, publisher] = pair else {
                    panic!("two ends")
                };
                assert!(matches!(subscriber.side, Side::Subscriber(..)));
                assert!(matches!(publisher.side, Side::Publisher(_)));
                assert_eq!((subscriber.pair, publisher.pair), (own as u32, own as u32));
                assert_ne!(subscriber.address(), publisher.address());
                ids.extend([&*subscriber.client_id, &*publisher.client_id]);
            }
        }
        assert_eq!(ids.len(), 10);
    }
}
