//! From arguments to the devices of each thread.

use std::net::SocketAddr;
use std::time::Duration;

use super::device::{Device, Settings, Side};
use super::filters::Filters;
use super::publisher::Publisher;
use super::subscriber::Subscriber;
use crate::args::{LoadtestArgs, Scenario};
use crate::limits::CONTENDERS;
use crate::plan::threads;
use crate::tls::Tls;
use crate::wire::Template;

/// The share of one thread.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) settings: Settings,
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) tls: Option<Tls>,
    /// Devices of one pair: its subscriber (or the contenders), and last its publisher.
    pub(super) width: usize,
    /// Pair after pair.
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
        away_ns: Duration::from_secs_f64(args.away).as_nanos() as u64,
    };
    let rate = args.rate().unwrap_or_default();
    let plan = |thread: usize| {
        let mine: Vec<usize> = (thread..args.conns).step_by(threads).collect();
        let devices = mine.iter().zip(0..);
        let devices = devices.flat_map(|(&pair, own)| devices_of(pair, own, args, &settings, run));
        Plan {
            width: width(args),
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

/// Subscriber, or contenders, and publisher of a pair; `own` is the pair's number within the thread.
fn devices_of(
    pair: usize,
    own: u32,
    args: &LoadtestArgs,
    settings: &Settings,
    run: &str,
) -> Vec<Device> {
    let filters = || Filters::new(format!("{run}-{pair}"), args.wildcard, args.filters);
    let (version, qos, width) = (settings.version, settings.qos, width(args));
    let template = Template::new(version, qos, &filters().topic(), own, args.size);
    let device = |prefix: &str, side, at: usize| {
        let client_id = format!("endure-{run}-{prefix}{pair}").into_boxed_str();
        let number = (pair * width + at) as u64;
        let address = (pair + width - 1 - at) % settings.addresses;
        Device::new((client_id, own, side), number, address, 0)
    };
    let mut devices = Vec::with_capacity(width);
    if args.scenario == Scenario::Fight {
        let contender = |at| device("c", Side::Contender(at, filters()), at);
        devices.extend((0..CONTENDERS).map(contender));
        // The first one makes the session; the others come when it is there.
        let others = devices.iter_mut().skip(1);
        others.for_each(|device| device.rest(u64::MAX));
    } else {
        let subscriber = Side::Subscriber(Subscriber::new(qos), filters());
        devices.push(device("s", subscriber, 0));
    }
    let publisher = Side::Publisher(Publisher::new(template, qos));
    devices.push(device("p", publisher, width - 1));
    devices
}

/// Devices of a pair.
fn width(args: &LoadtestArgs) -> usize {
    match args.scenario {
        Scenario::Fight => CONTENDERS + 1,
        _ => 2,
    }
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

    #[test]
    fn contenders_share_a_client_id_and_start_at_different_addresses() {
        let addrs = "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3";
        let line = format!("x fight --ids 4 --threads 2 --addr {addrs}");
        let args = <Cli as clap::Parser>::parse_from(line.split_whitespace()).load;
        let addrs = args.resolve().expect("numeric addresses");
        for plan in plans(&args, &addrs, None, "r") {
            assert_eq!((plan.width, plan.devices.len()), (4, 8));
            for pair in plan.devices.chunks(plan.width) {
                let ids: HashSet<_> = pair[..3].iter().map(|d| &d.client_id).collect();
                let starts: HashSet<_> = pair[..3].iter().map(Device::address).collect();
                assert_eq!((ids.len(), starts.len()), (1, 3));
                let resting = |d: &Device| d.deadline_ns(&plan.settings) == Some(u64::MAX);
                let rest: Vec<bool> = pair.iter().map(resting).collect();
                assert_eq!(rest, [false, true, true, false]);
                assert!(matches!(pair[3].side, Side::Publisher(_)));
            }
        }
    }
}
