//! The second layer: what the configuration means, as the parts of the broker take it. Everything
//! here is checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::limits::{MachineLimits, QueueFull, ShareStrategy};
use broker::log::{Durability, LogOptions};
use proxy::limits::ProxyLimits;
use proxy::tls::TlsAcceptor;
use session_store::RedisConfig;

use super::error::ConfigError;
use super::link_tls::LinkCertificates;
use super::ports::{self, DevicePort};
use super::role::Role;
use super::typed::Typed;
use super::{redis, tls};

/// A configuration that makes sense.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The ports for devices, that of `listen.mqtt` first; a broker of a fleet has none.
    pub(crate) ports: Vec<DevicePort>,
    /// What connections with TLS are accepted with: the files, loaded. `None`: no port has TLS.
    pub(crate) tls: Option<Arc<TlsAcceptor>>,
    /// What links of the fleet are made with; `None`: they are without TLS.
    pub(crate) link_tls: Option<LinkCertificates>,
    /// Where a proxy keeps session records, if anywhere.
    pub(crate) redis: Option<RedisConfig>,
    /// Where a broker takes links, if not where the cluster file says.
    pub(crate) link: Option<SocketAddr>,
    /// Where a broker takes the calls of the other members of its group, if not where the cluster file says.
    pub(crate) peer: Option<SocketAddr>,
    /// The admin port.
    pub(crate) admin: SocketAddr,
    /// Folder of the log and the snapshots.
    pub(crate) data: PathBuf,
    /// `[data]`, the rest.
    pub(crate) log: LogOptions,
    /// Limits of the shards; `max_connections` counts all of them together.
    pub(crate) proxy: ProxyLimits,
    /// Limits of the group.
    pub(crate) machine: MachineLimits,
    /// Number of shards, at least 1: 0 was replaced by the number of processors.
    pub(crate) shards: usize,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub(crate) log_level: &'static str,
    /// Form of a log line.
    pub(crate) log_format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

const MIB: usize = 1 << 20;

impl Settings {
    /// Gives what was typed its meaning; refuses values that are wrong together.
    pub(super) fn from_typed(role: Role, typed: &Typed) -> Result<Self, Vec<ConfigError>> {
        let conflict = queue_conflict(typed).filter(|_| role == Role::Standalone);
        if let Some(conflict) = conflict {
            return Err(vec![conflict]);
        }
        let ports = match role {
            Role::Broker => Vec::new(),
            Role::Standalone | Role::Proxy => ports::from_typed(typed)?,
        };
        let shards = match typed.whole("shards", "count") {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let drain = Duration::from_secs(typed.whole("drain", "deadline_s"));
        Ok(Self {
            tls: tls::acceptor(typed, &ports)?,
            ports,
            link_tls: match role {
                Role::Standalone => None,
                Role::Broker | Role::Proxy => LinkCertificates::from_typed(typed)?,
            },
            redis: match role {
                Role::Standalone | Role::Broker => None,
                Role::Proxy => redis::from_typed(typed)?,
            },
            link: typed.address_or_none("listen", "link"),
            peer: typed.address_or_none("listen", "peer"),
            admin: typed.address("listen", "admin"),
            data: typed.path("data", "dir"),
            log: log(typed),
            proxy: proxy(typed, drain),
            machine: machine(typed),
            shards,
            log_level: typed.choice("log", "level"),
            log_format: match typed.choice("log", "format") {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
        })
    }
}

fn log(typed: &Typed) -> LogOptions {
    LogOptions {
        durability: match typed.choice("data", "durability") {
            "os" => Durability::Os,
            "memory" => Durability::Memory,
            _ => Durability::Fsync,
        },
        segment_bytes: typed.whole::<u32>("data", "segment_mb") * MIB as u32,
        cache_bytes: typed.whole::<usize>("data", "cache_mb") * MIB,
        ..LogOptions::default()
    }
}

fn proxy(typed: &Typed, drain: Duration) -> ProxyLimits {
    ProxyLimits {
        connections_max: typed.whole("limits", "max_connections"),
        connect_timeout_s: typed.whole("limits", "connect_timeout_s"),
        packet_bytes_max: typed.whole("limits", "max_packet_bytes"),
        receive_maximum: typed.whole("limits", "receive_maximum"),
        topic_alias_max: typed.whole("limits", "topic_alias_maximum"),
        client_id_bytes_max: typed.whole("limits", "client_id_bytes"),
        topic_bytes_max: typed.whole("limits", "topic_bytes"),
        topic_levels_max: typed.whole("limits", "topic_levels"),
        keep_alive_s_max: typed.whole("limits", "keep_alive_max_s"),
        session_expiry_s_max: typed.whole("limits", "session_expiry_max_s"),
        v3_session_expiry_s: typed.whole("limits", "v3_session_expiry_s"),
        out_bytes_max: typed.whole("limits", "socket_bytes"),
        drain,
        ..ProxyLimits::default()
    }
}

fn machine(typed: &Typed) -> MachineLimits {
    MachineLimits {
        sessions: typed.whole("limits", "sessions"),
        queue_messages: typed.whole("limits", "queue_messages"),
        queue_bytes: typed.whole("limits", "queue_bytes"),
        queue_full: match typed.choice("limits", "queue_full") {
            "drop_newest" => QueueFull::DropNewest,
            "refuse" => QueueFull::Refuse,
            _ => QueueFull::DropOldest,
        },
        filters_per_session: typed.whole("limits", "filters_per_session"),
        qos2_ids: typed.whole("limits", "qos2_ids"),
        retained_messages: typed.whole("limits", "retained_messages"),
        retained_bytes: typed.whole("limits", "retained_bytes"),
        group_messages: typed.whole("limits", "group_messages"),
        group_bytes: typed.whole("limits", "group_bytes"),
        group_entries: typed.whole("limits", "group_entries"),
        shared_messages: typed.whole("limits", "shared_messages"),
        shared_bytes: typed.whole("limits", "shared_bytes"),
        share_strategy: match typed.choice("shared", "strategy") {
            "sticky" => ShareStrategy::Sticky,
            "least_in_flight" => ShareStrategy::LeastInFlight,
            "hash_by_client" => ShareStrategy::HashByClient,
            _ => ShareStrategy::RoundRobin,
        },
        ..MachineLimits::default()
    }
}

/// In a fleet the two limits are those of different processes.
fn queue_conflict(typed: &Typed) -> Option<ConfigError> {
    let largest_packet: u64 = typed.whole("limits", "max_packet_bytes");
    let too_small = typed.whole::<u64>("limits", "queue_bytes") < largest_packet;
    too_small.then(|| ConfigError::Conflict {
        origin: typed.origin("limits", "queue_bytes").clone(),
        problem: format!(
            "limits.queue_bytes must be at least limits.max_packet_bytes ({largest_packet}), \
             or a message of the largest size could never be queued"
        ),
    })
}
