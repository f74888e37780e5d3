//! From arguments to the devices of each thread.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::args::{LoadtestArgs, Scenario};
use crate::limits::{ONE_THREAD_RATE_MAX, PER_SOURCE_MAX, SOURCES_MAX};
use crate::tls::Tls;
use crate::traffic::{Pace, Shape, Spec};
use crate::wire::Version;

/// What a device is for. Numbers count within the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends as publisher number n.
    Publisher(u32),
    /// Receives as subscriber number n.
    Subscriber(u32),
    /// Subscribes and is silent.
    Silent,
}

/// One connection to be.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) client_id: Box<str>,
    pub(crate) role: Role,
    pub(crate) filter: Option<Box<str>>,
    pub(crate) addr: SocketAddr,
}

/// What becomes of a connection once it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It stays.
    Hold,
    /// It disconnects and begins again.
    Cycle,
    /// It stays until all are dropped at once at the start of the measured part.
    Storm,
}

impl Mode {
    fn of(scenario: Scenario) -> Self {
        match scenario {
            Scenario::Connect => Self::Cycle,
            Scenario::Storm => Self::Storm,
            _ => Self::Hold,
        }
    }
}

/// The share of one thread.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) devices: Vec<Device>,
    pub(crate) traffic: Spec,
    pub(crate) mode: Mode,
    pub(crate) version: Version,
    pub(crate) qos: u8,
    pub(crate) keep_alive_s: u16,
    pub(crate) outstanding: usize,
    pub(crate) storm_outstanding: usize,
    /// Number of this thread: each takes source addresses of its own.
    pub(crate) thread: usize,
    /// True where one source address has too few ports.
    pub(crate) many_sources: bool,
    /// What connections are encrypted with, if they are.
    pub(crate) tls: Option<Tls>,
}

/// Threads to use: one wherever publishers share a receiver, since windows are then plain counters
/// of one thread; otherwise at most two, because the broker needs the rest.
pub(crate) fn threads(args: &LoadtestArgs) -> usize {
    let together = matches!(
        args.scenario,
        Scenario::Fanin | Scenario::Fanout | Scenario::Share
    );
    if together {
        return 1;
    }
    let paced = args.scenario.publishes() || args.scenario == Scenario::Connect;
    let slow = paced && args.rate().is_some_and(|r| r <= ONE_THREAD_RATE_MAX);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let usual = if slow { 1 } else { cores.min(2) };
    let units = if args.scenario == Scenario::Connect {
        args.outstanding()
    } else {
        args.conns
    };
    args.threads.unwrap_or(usual).min(units)
}

/// One plan for each thread. `run` makes topics and client ids of this run its own.
pub(crate) fn plans(args: &LoadtestArgs, addrs: &[SocketAddr], run: &str) -> Vec<Plan> {
    let threads = threads(args);
    (0..threads)
        .map(|thread| plan(args, addrs, run, thread, threads))
        .collect()
}

fn plan(
    args: &LoadtestArgs,
    addrs: &[SocketAddr],
    run: &str,
    thread: usize,
    threads: usize,
) -> Plan {
    let addr = |index: usize| addrs[index % addrs.len()];
    let mut builder = Builder {
        run,
        devices: Vec::new(),
        topics: Vec::new(),
        subscribers: 0,
    };
    let mine = |total: usize| (0..total).filter(move |index| index % threads == thread);
    let (mut shape, mode) = (Shape::Pair, Mode::of(args.scenario));
    match args.scenario {
        Scenario::Pair => {
            for pair in mine(args.conns) {
                builder.subscriber(pair, &format!("load/{run}/{pair}"), addr(pair + 1));
                builder.publisher(pair, addr(pair));
            }
        }
        Scenario::Fanin => {
            shape = Shape::FanIn;
            builder.subscriber(0, &format!("load/{run}/#"), addr(0));
            (0..args.conns).for_each(|index| builder.publisher(index, addr(index + 1)));
        }
        Scenario::Fanout => {
            shape = Shape::FanOut;
            for index in 0..args.conns {
                builder.subscriber(index, &format!("load/{run}/0"), addr(index + 1));
            }
            builder.publisher(0, addr(0));
        }
        Scenario::Share => {
            shape = Shape::Share;
            for index in 0..args.subs {
                builder.subscriber(index, &format!("$share/g{run}/load/{run}/#"), addr(index));
            }
            (0..args.conns).for_each(|index| builder.publisher(index, addr(index + 1)));
        }
        Scenario::Endure | Scenario::Fight | Scenario::Backlog => {
            unreachable!("these make their own plans")
        }
        Scenario::Idle | Scenario::Connect | Scenario::Storm => {
            mine(args.connections()).for_each(|index| builder.silent(index, addr(index)));
        }
    }
    let pace = match args.rate() {
        Some(rate) => Pace::Rate {
            per_s: rate / threads as f64,
        },
        None => Pace::Window(args.window),
    };
    Plan {
        traffic: Spec {
            shape,
            version: args.version(),
            qos: args.qos(),
            size: args.size,
            pace,
            topics: builder.topics,
            subscribers: builder.subscribers,
        },
        devices: builder.devices,
        mode,
        version: args.version(),
        qos: args.qos(),
        keep_alive_s: args.keep_alive_s(),
        outstanding: args.outstanding().div_ceil(threads),
        storm_outstanding: args.storm_outstanding().div_ceil(threads),
        thread,
        many_sources: mode != Mode::Hold || args.connections() > PER_SOURCE_MAX,
        tls: None,
    }
}

struct Builder<'a> {
    run: &'a str,
    devices: Vec<Device>,
    topics: Vec<String>,
    subscribers: usize,
}

impl Builder<'_> {
    fn publisher(&mut self, index: usize, addr: SocketAddr) {
        let role = Role::Publisher(self.topics.len() as u32);
        self.topics.push(format!("load/{}/{index}", self.run));
        self.device("p", index, role, None, addr);
    }

    fn subscriber(&mut self, index: usize, filter: &str, addr: SocketAddr) {
        let role = Role::Subscriber(self.subscribers as u32);
        self.subscribers += 1;
        self.device("s", index, role, Some(filter), addr);
    }

    fn silent(&mut self, index: usize, addr: SocketAddr) {
        let filter = format!("load/{}/{index}", self.run);
        self.device("i", index, Role::Silent, Some(&filter), addr);
    }

    fn device(
        &mut self,
        prefix: &str,
        index: usize,
        role: Role,
        filter: Option<&str>,
        addr: SocketAddr,
    ) {
        let client_id = format!("load-{}-{prefix}{index}", self.run).into_boxed_str();
        self.devices.push(Device {
            client_id,
            role,
            filter: filter.map(Box::from),
            addr,
        });
    }
}

/// The source address of connection number `dialed` of a thread: none (the system's choice) unless
/// the broker is on loopback and the ports of one address may run out.
pub(crate) fn source(plan: &Plan, addr: SocketAddr, dialed: u64) -> Option<SocketAddr> {
    plan.many_sources
        .then(|| rotating_source(addr, plan.thread, dialed))
        .flatten()
}

/// The same where the ports of one address may run out.
pub(crate) fn rotating_source(addr: SocketAddr, thread: usize, dialed: u64) -> Option<SocketAddr> {
    let loopback = matches!(addr.ip(), IpAddr::V4(ip) if ip.is_loopback());
    if !loopback {
        return None;
    }
    // Half of the addresses for each of two threads, so that they do not search the same ports.
    let turn = (dialed / PER_SOURCE_MAX as u64) as usize * 2 + thread;
    let last = u8::try_from(2 + turn % SOURCES_MAX).expect("sources stay below 253");
    Some(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))
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

    fn planned(line: &str) -> Vec<Plan> {
        let args = <Cli as clap::Parser>::parse_from(line.split_whitespace()).load;
        let addrs = args.resolve().expect("numeric addresses");
        plans(&args, &addrs, "r")
    }

    #[test]
    fn every_pair_is_whole_within_one_thread_and_spread_over_the_brokers() {
        let addrs = "127.0.0.1:1,127.0.0.1:2";
        let plans = planned(&format!("x pair --pairs 5 --threads 2 --addr {addrs}"));
        assert_eq!(
            plans
                .iter()
                .map(|plan| plan.devices.len())
                .collect::<Vec<_>>(),
            [6, 4]
        );
        for plan in &plans {
            for pair in plan.devices.chunks(2) {
                let (subscriber, publisher) = (&pair[0], &pair[1]);
                let Role::Publisher(number) = publisher.role else {
                    panic!("a publisher")
                };
                assert_eq!(subscriber.role, Role::Subscriber(number));
                let topic = plan.traffic.topics[number as usize].as_str();
                assert_eq!(subscriber.filter.as_deref(), Some(topic));
                assert_ne!(subscriber.addr, publisher.addr);
            }
        }
        let ids = plans
            .iter()
            .flat_map(|plan| &plan.devices)
            .map(|device| &device.client_id);
        assert_eq!(ids.collect::<HashSet<_>>().len(), 10);
    }

    #[test]
    fn publishers_that_share_receivers_share_a_thread() {
        for (line, topics, subscribers) in [
            ("fanin --conns 9", 9, 1),
            ("fanout --conns 9", 1, 9),
            ("share --conns 9", 9, 4),
        ] {
            let plans = planned(&format!("x {line} --threads 2"));
            assert_eq!(plans.len(), 1, "{line}");
            let spec = &plans[0].traffic;
            assert_eq!(
                (spec.topics.len(), spec.subscribers),
                (topics, subscribers),
                "{line}"
            );
            assert_eq!(plans[0].devices.len(), topics + subscribers, "{line}");
        }
    }

    #[test]
    fn many_connections_take_many_source_addresses_on_loopback_only() {
        let plans = planned("x idle --conns 24000 --threads 2");
        let addr = plans[0].devices[0].addr;
        let mut sources = HashSet::new();
        for plan in &plans {
            for dialed in (0..plan.devices.len() as u64).step_by(PER_SOURCE_MAX) {
                sources.insert(source(plan, addr, dialed).expect("a source"));
            }
        }
        assert_eq!(sources.len(), 4, "two addresses for each thread");
        let elsewhere = "192.0.2.1:1883".parse().expect("an address");
        assert_eq!(source(&plans[0], elsewhere, 0), None);
        let few = planned("x idle --conns 50 --threads 2");
        assert_eq!(source(&few[0], addr, 0), None);
    }
}
