//! What is typed, and what it means.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::Error;
use crate::limits::{
    BACKLOG_PUBLISHERS, CONNECTIONS_MAX, CONTENDERS, FILTERS_MAX, OUTSTANDING, PAYLOAD_BYTES_MAX,
    RUN_BYTES_MAX, STAMP_BYTES, STORM_OUTSTANDING, WINDOW_MAX,
};
use crate::tls::Tls;
use crate::wire::Version;

/// What the devices do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Publisher i to subscriber i, each pair on a topic of its own.
    Pair,
    /// Many publishers to one subscriber with a wildcard filter.
    Fanin,
    /// One publisher to many subscribers on one topic.
    Fanout,
    /// Many publishers to one shared subscription with several subscribers.
    Share,
    /// Connections with one subscription each that then stay silent.
    Idle,
    /// Connections that subscribe, disconnect and begin again.
    Connect,
    /// Connections that are all dropped at once and come back.
    Storm,
    /// Pairs with sessions that outlive their connections and come back at the next address, while
    /// brokers are killed.
    Endure,
    /// Client ids that three clients each fight for, and a publisher to each client id.
    Fight,
    /// Sessions that subscribe and leave, publishers that fill their queues, and the sessions again
    /// to take everything.
    Backlog,
}

/// What is run of a backlog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One after the other.
    #[default]
    Both,
    /// Sessions subscribe and leave, publishers fill their queues.
    Fill,
    /// The sessions come back and take everything.
    Drain,
}

/// Arguments of the load simulator.
#[derive(Debug, Clone, Args)]
pub struct LoadtestArgs {
    /// What the devices do
    #[arg(value_enum, value_name = "LOAD")]
    pub scenario: Scenario,
    /// Brokers; devices are spread over them, the two ends of a pair on different ones (endure:
    /// a device whose connection is lost goes on to the next one)
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:1883")]
    pub addr: Vec<String>,
    /// Process id of a broker whose CPU time and memory are measured (repeatable)
    #[arg(long)]
    pub pid: Vec<u32>,
    /// Connections; pair and endure: pairs; fight: client ids; fanin and share: publishers; fanout: subscribers;
    /// backlog: sessions
    #[arg(long, visible_aliases = ["pairs", "ids"], default_value_t = 100)]
    pub conns: usize,
    /// Subscribers of the shared subscription (share)
    #[arg(long, default_value_t = 4)]
    pub subs: usize,
    /// `QoS` of publishers and subscriptions
    #[arg(
        long,
        help = "QoS of publishers and subscriptions [default: 0; idle, connect, storm, endure, fight and backlog: 1]",
        value_parser = clap::value_parser!(u8).range(0..=2)
    )]
    pub qos: Option<u8>,
    /// Payload bytes (at least 20)
    #[arg(long, default_value_t = 64)]
    pub size: usize,
    /// Closed loop: messages a publisher may have under way
    #[arg(long, default_value_t = 16)]
    pub window: u32,
    /// Open loop instead: messages per second of all publishers together [endure: always, default
    /// 1000]; connect: connections per second instead of as many as the broker takes
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10.0)]
    pub secs: f64,
    /// Seconds before the measured part, with the same load
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// MQTT version [default: 3.1.1; endure and backlog: 5]
    #[arg(long, visible_alias = "protocol", value_parser = ["3.1.1", "5"])]
    pub mqtt: Option<String>,
    /// Seconds of the keepalive [default: 60; endure: 10]
    #[arg(long)]
    pub keepalive: Option<u16>,
    /// Connections that may be on their way at once [default: 80; after a storm: 1000; backlog: 200]
    #[arg(long)]
    pub outstanding: Option<usize>,
    /// Threads of the generator [default: 2, or 1 where one is enough]
    #[arg(long)]
    pub threads: Option<usize>,
    /// endure, backlog: seconds the broker keeps a session without a connection (MQTT 5; in 3.1.1 the
    /// broker decides)
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..))]
    pub session_expiry: u32,
    /// endure: seconds without a connection after which a device gives up; backlog: seconds in which
    /// something has to get further
    #[arg(long, default_value_t = 60.0)]
    pub patience: f64,
    /// endure: seconds to wait, after the last publish, for what was acknowledged
    #[arg(long, default_value_t = 60.0)]
    pub drain: f64,
    /// endure, backlog: filters of each subscriber, of which one matches
    #[arg(long, default_value_t = 1)]
    pub filters: usize,
    /// endure: filters with a wildcard that hides which of a fleet's groups they belong to, so that
    /// every group knows every filter
    #[arg(long)]
    pub wildcard: bool,
    /// endure: subscribers per second that disconnect in good order, to come back at the next
    /// address
    #[arg(long, default_value_t = 0.0)]
    pub churn: f64,
    /// endure: seconds for which they stay away; fight: seconds for which a client that was taken over
    /// rests, on average
    #[arg(long, default_value_t = 0.5)]
    pub away: f64,
    /// backlog: messages that all queues together hold
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
    /// backlog: the part to run; whatever was stored has to outlive what happens between the two
    #[arg(long, value_enum, default_value_t = Part::Both, requires_ifs = [("fill", "run"), ("drain", "run")])]
    pub part: Part,
    /// backlog: name of the run; both parts need the same, and the same --conns, --messages and --size
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub run: Option<String>,
    /// Encrypt with TLS, and trust the certificates in this PEM file only
    #[arg(long)]
    pub tls_ca: Option<PathBuf>,
    /// Certificate chain of the devices, a PEM file
    #[arg(long, requires_all = ["tls_ca", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// Private key to --tls-cert, a PEM file
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Seconds between two lines of progress where stderr is no terminal
    #[arg(long, default_value_t = 2.0)]
    pub report_every: f64,
    /// Write the result as JSON to this file
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Messages per second of endure, unless asked otherwise.
const ENDURE_RATE: f64 = 1_000.0;

impl LoadtestArgs {
    /// `QoS` in effect.
    pub(crate) fn qos(&self) -> u8 {
        let endures = self.scenario.endures();
        self.qos.unwrap_or(u8::from(
            endures || self.is_backlog() || !self.scenario.publishes(),
        ))
    }

    /// Version in effect.
    pub(crate) fn version(&self) -> Version {
        match self.mqtt.as_deref() {
            Some("5") => Version::V5,
            None if self.scenario.endures() || self.is_backlog() => Version::V5,
            _ => Version::V4,
        }
    }

    /// Keepalive in effect, in seconds.
    pub(crate) fn keep_alive_s(&self) -> u16 {
        let endures = self.scenario.endures();
        self.keepalive.unwrap_or(if endures { 10 } else { 60 })
    }

    /// Open loop: the rate in effect.
    pub(crate) fn rate(&self) -> Option<f64> {
        let endures = self.scenario.endures();
        self.rate.or(endures.then_some(ENDURE_RATE))
    }

    /// Time between two lines of progress.
    pub(crate) fn report_every(&self) -> Duration {
        Duration::from_secs_f64(self.report_every)
    }

    /// What connections are encrypted with, if they are.
    pub(crate) fn tls(&self, addrs: &[SocketAddr]) -> Result<Option<Tls>, Error> {
        let Some(ca) = &self.tls_ca else {
            return Ok(None);
        };
        let own = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        let addrs = self.addr.iter().cloned().zip(addrs.iter().copied());
        Tls::new(ca, own, addrs).map(Some)
    }

    /// Length of the measured part.
    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.secs)
    }

    /// Length of the part before.
    pub(crate) fn warming(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }

    /// Connections on their way at once while all goes well.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.unwrap_or(OUTSTANDING)
    }

    /// Connections on their way at once after a storm.
    pub(crate) fn storm_outstanding(&self) -> usize {
        self.outstanding.unwrap_or(STORM_OUTSTANDING)
    }

    /// Connections open at once.
    pub(crate) fn connections(&self) -> usize {
        match self.scenario {
            Scenario::Pair | Scenario::Endure => self.conns.saturating_mul(2),
            Scenario::Fight => self.conns.saturating_mul(CONTENDERS + 1),
            Scenario::Fanin | Scenario::Fanout => self.conns.saturating_add(1),
            Scenario::Share => self.conns.saturating_add(self.subs),
            Scenario::Idle | Scenario::Storm => self.conns,
            Scenario::Connect => self.outstanding(),
            Scenario::Backlog => self.conns.saturating_add(BACKLOG_PUBLISHERS),
        }
    }

    fn is_backlog(&self) -> bool {
        self.scenario == Scenario::Backlog
    }

    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |what: String| Err(Error::Arguments(what));
        if self.conns == 0 || self.subs == 0 || self.outstanding() == 0 {
            return refuse("--conns, --subs and --outstanding must be at least 1".to_owned());
        }
        if self.connections() > CONNECTIONS_MAX {
            return refuse(format!("at most {CONNECTIONS_MAX} connections in one run"));
        }
        if !(STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(&self.size) {
            return refuse(format!(
                "--size must be {STAMP_BYTES} to {PAYLOAD_BYTES_MAX} bytes"
            ));
        }
        if !(1..=WINDOW_MAX).contains(&self.window) {
            return refuse(format!("--window must be 1 to {WINDOW_MAX}"));
        }
        if self.rate.is_some_and(|rate| !(0.01..=1e9).contains(&rate)) {
            return refuse("--rate must be 0.01 to 1000000000 per second".to_owned());
        }
        if !(0.01..=1e6).contains(&self.secs) || !(0.0..=1e6).contains(&self.warmup) {
            return refuse("--secs must be above 0, --warmup 0 or more, both below 1e6".to_owned());
        }
        if self
            .threads
            .is_some_and(|threads| !(1..=64).contains(&threads))
        {
            return refuse("--threads must be 1 to 64".to_owned());
        }
        if !(0.05..=1e6).contains(&self.report_every) {
            return refuse("--report-every must be 0.05 to 1e6 seconds".to_owned());
        }
        if self.scenario.endures() {
            return self.check_endurance();
        }
        if self.is_backlog() {
            return self.check_backlog();
        }
        Ok(())
    }

    fn check_backlog(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::Arguments(what.to_owned()));
        if self.qos() != 1 || self.rate.is_some() {
            return refuse(
                "backlog is about --qos 1, and takes no --rate: it publishes in a closed loop",
            );
        }
        if !(1.0..=1e6).contains(&self.patience) {
            return refuse("--patience must be 1 or more, below 1e6");
        }
        self.check_filters()?;
        if self
            .run
            .as_ref()
            .is_some_and(|run| run.len() > RUN_BYTES_MAX || !is_plain(run))
        {
            return Err(Error::Arguments(format!(
                "--run must be letters, digits, `-` and `_`, at most {RUN_BYTES_MAX}: it is part of topics and client ids"
            )));
        }
        Ok(())
    }

    fn check_endurance(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::Arguments(what.to_owned()));
        if self.qos() == 0 {
            return refuse("endure needs --qos 1 or 2: QoS 0 promises nothing across a crash");
        }
        if self.scenario == Scenario::Fight && (self.qos() != 1 || self.churn > 0.0) {
            return refuse("fight is about --qos 1, and takes no --churn");
        }
        if !(1.0..=1e6).contains(&self.patience) || !(0.0..=1e6).contains(&self.drain) {
            return refuse("--patience must be 1 or more, --drain 0 or more, both below 1e6");
        }
        self.check_filters()?;
        if !(0.0..=1e6).contains(&self.churn) || !(0.0..=1e6).contains(&self.away) {
            return refuse("--churn and --away must be 0 to 1e6");
        }
        if !self.pid.is_empty() {
            return refuse("endure takes no --pid: the processes it drives come and go");
        }
        Ok(())
    }

    fn check_filters(&self) -> Result<(), Error> {
        if (1..=FILTERS_MAX).contains(&self.filters) {
            return Ok(());
        }
        let text = format!("--filters must be 1 to {FILTERS_MAX}");
        Err(Error::Arguments(text))
    }

    /// The addresses behind `--addr`.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
        let one = |addr: &String| {
            let failed = |source| Error::Resolve {
                addr: addr.clone(),
                source,
            };
            let mut found = addr.to_socket_addrs().map_err(failed)?;
            found
                .next()
                .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
        };
        self.addr.iter().map(one).collect()
    }
}

/// Without wildcards, levels and what else means something in a topic.
fn is_plain(run: &str) -> bool {
    run.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl Scenario {
    /// True where messages flow.
    pub(crate) fn publishes(self) -> bool {
        matches!(
            self,
            Self::Pair
                | Self::Fanin
                | Self::Fanout
                | Self::Share
                | Self::Endure
                | Self::Fight
                | Self::Backlog
        )
    }

    /// True where sessions outlive their connections.
    pub(crate) fn endures(self) -> bool {
        matches!(self, Self::Endure | Self::Fight)
    }

    /// The scenario as typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Fanin => "fanin",
            Self::Fanout => "fanout",
            Self::Share => "share",
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Storm => "storm",
            Self::Endure => "endure",
            Self::Fight => "fight",
            Self::Backlog => "backlog",
        }
    }
}
