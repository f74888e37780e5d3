//! The second layer: what the configuration means. Everything here is checked; units are last in
//! the names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigError;
use super::typed::Typed;

/// A configuration that makes sense.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `[listen]`
    pub(crate) listen: Listen,
    /// `[data]`
    pub(crate) data: Data,
    /// `[limits]`
    pub(crate) limits: Limits,
    /// `[shards] count`, with 0 replaced by the number of processors.
    pub(crate) shards: usize,
    /// `[log]`
    pub(crate) log: Log,
    /// `[drain] deadline_s`
    pub(crate) drain_deadline: Duration,
}

/// Where the process listens. Beyond loopback only with leave: checked here.
#[derive(Clone, Debug)]
pub(crate) struct Listen {
    pub(crate) mqtt: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Where and how messages are kept.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) dir: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u32,
    pub(crate) cache_bytes: usize,
}

/// What an acknowledgement outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Power loss: acknowledged after fdatasync.
    Fsync,
    /// A crash of this process: acknowledged after the operating system has the write.
    Os,
    /// Nothing: kept in memory.
    Memory,
}

/// What happens to a message for a session whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueFull {
    /// The oldest waiting message that was never sent goes.
    DropOldest,
    /// The new message is not queued for this session.
    DropNewest,
    /// The publisher is refused (MQTT 5: 0x97) or held back (MQTT 3).
    Refuse,
}

/// What bounds every table and queue; one field per key of `[limits]`, explained there.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_packet_bytes: usize,
    pub(crate) max_connections: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) queue_messages: u32,
    pub(crate) queue_bytes: u64,
    pub(crate) queue_full: QueueFull,
    pub(crate) retained_messages: usize,
    pub(crate) retained_bytes: u64,
    pub(crate) filters_per_session: usize,
    pub(crate) topic_levels: usize,
    pub(crate) topic_bytes: usize,
    pub(crate) client_id_bytes: usize,
    pub(crate) receive_maximum: u16,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) keep_alive_max_s: u16,
    pub(crate) session_expiry_max_s: u32,
    pub(crate) v3_session_expiry_s: u32,
    pub(crate) qos2_ids: u16,
}

/// What is logged.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub(crate) level: &'static str,
    pub(crate) format: LogFormat,
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
    pub(super) fn from_typed(typed: &Typed) -> Result<Self, Vec<ConfigError>> {
        let errors = conflicts(typed);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            listen: Listen {
                mqtt: typed.address("listen", "mqtt"),
                admin: typed.address("listen", "admin"),
            },
            data: data(typed),
            limits: limits(typed),
            shards: match typed.whole("shards", "count") {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                count => count,
            },
            log: Log {
                level: typed.choice("log", "level"),
                format: match typed.choice("log", "format") {
                    "json" => LogFormat::Json,
                    _ => LogFormat::Text,
                },
            },
            drain_deadline: Duration::from_secs(typed.whole("drain", "deadline_s")),
        })
    }
}

fn data(typed: &Typed) -> Data {
    Data {
        dir: typed.path("data", "dir"),
        durability: match typed.choice("data", "durability") {
            "os" => Durability::Os,
            "memory" => Durability::Memory,
            _ => Durability::Fsync,
        },
        segment_bytes: typed.whole::<u32>("data", "segment_mb") * MIB as u32,
        cache_bytes: typed.whole::<usize>("data", "cache_mb") * MIB,
    }
}

fn limits(typed: &Typed) -> Limits {
    let seconds = |name| Duration::from_secs(typed.whole("limits", name));
    Limits {
        max_packet_bytes: typed.whole("limits", "max_packet_bytes"),
        max_connections: typed.whole("limits", "max_connections"),
        connect_timeout: seconds("connect_timeout_s"),
        queue_messages: typed.whole("limits", "queue_messages"),
        queue_bytes: typed.whole("limits", "queue_bytes"),
        queue_full: match typed.choice("limits", "queue_full") {
            "drop_newest" => QueueFull::DropNewest,
            "refuse" => QueueFull::Refuse,
            _ => QueueFull::DropOldest,
        },
        retained_messages: typed.whole("limits", "retained_messages"),
        retained_bytes: typed.whole("limits", "retained_bytes"),
        filters_per_session: typed.whole("limits", "filters_per_session"),
        topic_levels: typed.whole("limits", "topic_levels"),
        topic_bytes: typed.whole("limits", "topic_bytes"),
        client_id_bytes: typed.whole("limits", "client_id_bytes"),
        receive_maximum: typed.whole("limits", "receive_maximum"),
        topic_alias_maximum: typed.whole("limits", "topic_alias_maximum"),
        keep_alive_max_s: typed.whole("limits", "keep_alive_max_s"),
        session_expiry_max_s: typed.whole("limits", "session_expiry_max_s"),
        v3_session_expiry_s: typed.whole("limits", "v3_session_expiry_s"),
        qos2_ids: typed.whole("limits", "qos2_ids"),
    }
}

/// Values that are fine alone and wrong together.
fn conflicts(typed: &Typed) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut conflict = |section, name, problem| {
        let origin = typed.origin(section, name).clone();
        errors.push(ConfigError::Conflict { origin, problem });
    };
    let mqtt = typed.address("listen", "mqtt");
    if !mqtt.ip().is_loopback() && !typed.switch("listen", "allow_anonymous") {
        conflict(
            "listen",
            "mqtt",
            format!(
                "listen.mqtt = \"{mqtt}\" can be reached from other machines, and clients are not \
             authenticated; if that is meant, say --allow-anonymous (or listen.allow_anonymous = \
             true), else listen on 127.0.0.1"
            ),
        );
    }
    if mqtt.port() != 0 && mqtt == typed.address("listen", "admin") {
        conflict(
            "listen",
            "admin",
            format!("listen.admin and listen.mqtt are both \"{mqtt}\"; they need different ports"),
        );
    }
    let largest_packet: u64 = typed.whole("limits", "max_packet_bytes");
    if typed.whole::<u64>("limits", "queue_bytes") < largest_packet {
        conflict(
            "limits",
            "queue_bytes",
            format!(
                "limits.queue_bytes must be at least limits.max_packet_bytes ({largest_packet}), \
             or a message of the largest size could never be queued"
            ),
        );
    }
    errors
}
