//! The table of configuration keys.

use super::role::{BOTH_OF_THE_FLEET, DEVICE_SIDE, EVERYBODY, GROUP_SIDE, PROXY, Role};
use super::value::Kind;

/// One key of the configuration.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its TOML section.
    pub(crate) section: &'static str,
    /// Its name in the section.
    pub(crate) name: &'static str,
    /// What values it takes.
    pub(crate) kind: Kind,
    /// Its default, as one would type it.
    pub(crate) default: &'static str,
    /// What it does, in one phrase.
    pub(crate) about: &'static str,
    /// Which processes it is for; in the configuration of others it is an error.
    pub(crate) roles: &'static [Role],
}

impl Key {
    /// The same key for these processes only.
    const fn of(self, roles: &'static [Role]) -> Self {
        Self { roles, ..self }
    }

    /// Its default as a table for people shows it: nothing is `""` or `[]`.
    #[cfg(test)]
    pub(crate) fn shown_default(&self) -> &'static str {
        match (self.default, self.kind) {
            ("", Kind::Texts) => "[]",
            ("", _) => "\"\"",
            (default, _) => default,
        }
    }

    /// `section.name`, as error messages and `mqtt-fleet check` write it.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that sets this key.
    pub(crate) fn variable(&self) -> String {
        let section = self.section.to_ascii_uppercase();
        format!(
            "{ENVIRONMENT_PREFIX}{section}__{}",
            self.name.to_ascii_uppercase()
        )
    }
}

/// What every environment variable that sets a key starts with.
pub(crate) const ENVIRONMENT_PREFIX: &str = "MQTT_FLEET_";

/// Position of `section.name` in [`KEYS`].
pub(crate) fn position(section: &str, name: &str) -> Option<usize> {
    KEYS.iter()
        .position(|key| key.section == section && key.name == name)
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key {
        section,
        name,
        kind,
        default,
        about,
        roles: EVERYBODY,
    }
}

const fn whole(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max }
}

/// Every key there is, section by section. The tests parse every default, and compare the table in
/// README.md with this one.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key("listen", "mqtt", Kind::Address, "127.0.0.1:1883", "address of the MQTT port").of(DEVICE_SIDE),
    key("listen", "admin", Kind::Address, "127.0.0.1:9883", "address of the admin port (metrics, health)"),
    key("listen", "allow_anonymous", Kind::Switch, "false", "accept clients without authentication from beyond this machine").of(DEVICE_SIDE),
    key("listen", "proxy_protocol", Kind::Switch, "false", "connections to the MQTT port come from a load balancer and begin with a PROXY protocol header (version 2); others are refused").of(DEVICE_SIDE),
    key("listen", "balancer", Kind::AddressOrNone, "", "address of a further MQTT port, for a load balancer: its connections begin with a PROXY protocol header (version 2), others are refused; \"\" = none").of(DEVICE_SIDE),
    key("listen", "link", Kind::AddressOrNone, "", "address where this broker takes links; \"\" = the one the cluster file gives it").of(&[Role::Broker]),
    key("listen", "peer", Kind::AddressOrNone, "", "address where this broker takes the calls of the other members of its group; \"\" = the one the cluster file gives it").of(&[Role::Broker]),

    key("tls", "listen", Kind::AddressOrNone, "", "address of the MQTT port with TLS; \"\" = none").of(DEVICE_SIDE),
    key("tls", "certificate", Kind::PathOrNone, "", "PEM file: the server's certificate, then those between it and the CA").of(DEVICE_SIDE),
    key("tls", "key", Kind::PathOrNone, "", "PEM file: the certificate's private key").of(DEVICE_SIDE),
    key("tls", "client_ca", Kind::PathOrNone, "", "PEM file: the CAs whose client certificates are accepted").of(DEVICE_SIDE),
    key("tls", "client_certificates", Kind::Choice(&["none", "optional", "required"]), "none", "whether clients must have a certificate; optional = a wrong one is refused, none at all is fine").of(DEVICE_SIDE),
    key("tls", "ticket_key_file", Kind::PathOrNone, "", "keys of session tickets, one of 64 hexadecimal digits a line, the newest first; the same on every proxy lets devices resume on any; \"\" = those that a proxy finds in Redis, or random ones of this process").of(DEVICE_SIDE),
    key("tls", "proxy_protocol", Kind::Switch, "false", "the same as listen.proxy_protocol for the TLS port").of(DEVICE_SIDE),
    key("tls", "balancer", Kind::AddressOrNone, "", "the same as listen.balancer with TLS; \"\" = none").of(DEVICE_SIDE),

    key("node", "name", Kind::Text, "", "name of this node; a broker's stands in the cluster file").of(BOTH_OF_THE_FLEET),

    key("cluster", "file", Kind::PathOrNone, "", "the cluster file, the same for every node of the fleet").of(BOTH_OF_THE_FLEET),
    key("cluster", "cache", Kind::Path, "./topology", "folder where a proxy keeps the slot table and members it last knew; without it the proxy goes by the cluster file until it hears of newer ones").of(PROXY),

    key("link_tls", "ca", Kind::PathOrNone, "", "PEM file: the CAs of this fleet's nodes; with it, links between proxies and brokers are with mutual TLS, and no others are taken or made; \"\" = without TLS").of(BOTH_OF_THE_FLEET),
    key("link_tls", "certificate", Kind::PathOrNone, "", "PEM file: this node's certificate, then those between it and the CA; a broker's is for the host of its link in the cluster file").of(BOTH_OF_THE_FLEET),
    key("link_tls", "key", Kind::PathOrNone, "", "PEM file: the certificate's private key").of(BOTH_OF_THE_FLEET),

    key("redis", "urls", Kind::Texts, "", "Redis for session records: \"redis://HOST:PORT\", with TLS \"rediss://HOST:PORT\"; several for sentinels or a cluster; [] = no records are kept").of(PROXY),
    key("redis", "mode", Kind::Choice(&["single", "sentinel", "cluster"]), "single", "what redis.urls are: one server, sentinels, or nodes of a Redis Cluster").of(PROXY),
    key("redis", "master_name", Kind::Text, "", "name of the master that the sentinels watch").of(PROXY),
    key("redis", "user", Kind::Text, "", "user to log in as; \"\" = Redis' default user").of(PROXY),
    key("redis", "password", Kind::Secret, "", "password to log in with").of(PROXY),
    key("redis", "sentinel_user", Kind::Text, "", "user to log in to sentinels as").of(PROXY),
    key("redis", "sentinel_password", Kind::Secret, "", "password to log in to sentinels with").of(PROXY),
    key("redis", "ca_file", Kind::PathOrNone, "", "PEM file: the CAs trusted for rediss://; \"\" = those the system trusts").of(PROXY),
    key("redis", "connect_timeout_ms", whole(1, 60_000), "2000", "longest time to open a connection to Redis").of(PROXY),
    key("redis", "response_timeout_ms", whole(1, 60_000), "1000", "longest time until Redis answers; after it Redis counts as away").of(PROXY),
    key("redis", "waiting_entries_max", whole(1, 100_000_000), "100000", "records that may wait while Redis is away; further ones are left out and counted").of(PROXY),
    key("redis", "waiting_bytes_max", whole(1, 64 * GIB), "33554432", "bytes of records that may wait").of(PROXY),

    key("data", "dir", Kind::Path, "./data", "folder of the log").of(GROUP_SIDE),
    key("data", "durability", Kind::Choice(&["fsync", "os", "memory"]), "fsync", "what an acknowledgement outlives: fsync = power loss, os = a crash of this process, memory = nothing").of(GROUP_SIDE),
    key("data", "segment_mb", whole(1, 1024), "32", "size of one log file, MiB").of(GROUP_SIDE),
    key("data", "cache_mb", whole(1, 65_536), "16", "memory for recently written log records, MiB").of(GROUP_SIDE),

    key("limits", "max_packet_bytes", whole(KIB, 256 * MIB), "1048576", "largest MQTT packet a client may send").of(DEVICE_SIDE),
    key("limits", "max_connections", whole(1, 10_000_000), "1000000", "connections at the same time; further ones are refused").of(DEVICE_SIDE),
    key("limits", "connect_timeout_s", whole(1, 3_600), "10", "time from the TCP connection to a complete CONNECT").of(DEVICE_SIDE),
    key("limits", "socket_bytes", whole(64 * KIB, GIB), "1048576", "bytes waiting for one socket; above it QoS 0 messages to it are dropped").of(DEVICE_SIDE),
    key("limits", "sessions", whole(1, 100_000_000), "4000000", "sessions, connected or not; further clients are refused").of(GROUP_SIDE),
    key("limits", "queue_messages", whole(1, 100_000_000), "100000", "messages waiting for one session").of(GROUP_SIDE),
    key("limits", "queue_bytes", whole(KIB, 64 * GIB), "67108864", "bytes waiting for one session").of(GROUP_SIDE),
    key("limits", "queue_full", Kind::Choice(&["drop_oldest", "drop_newest", "refuse"]), "drop_oldest", "what happens to a message for a session whose queue is full").of(GROUP_SIDE),
    key("limits", "retained_messages", whole(0, 100_000_000), "1000000", "retained messages").of(GROUP_SIDE),
    key("limits", "retained_bytes", whole(0, 64 * GIB), "1073741824", "bytes of retained messages").of(GROUP_SIDE),
    key("limits", "shared_messages", whole(1, 100_000_000), "100000", "messages waiting for one shared subscription; queue_full says what happens at the limit").of(GROUP_SIDE),
    key("limits", "shared_bytes", whole(KIB, 64 * GIB), "67108864", "bytes waiting for one shared subscription").of(GROUP_SIDE),
    key("limits", "group_messages", whole(1, 1_000_000_000), "8000000", "messages kept altogether; at the limit publishes are refused").of(GROUP_SIDE),
    key("limits", "group_bytes", whole(MIB, 64 * 1024 * GIB), "17179869184", "bytes of messages kept altogether").of(GROUP_SIDE),
    key("limits", "group_entries", whole(1, 1_000_000_000), "32000000", "places in all queues together: a message for ten sessions takes ten").of(GROUP_SIDE),
    key("limits", "filters_per_session", whole(1, 1_000_000), "1000", "topic filters one session may hold").of(GROUP_SIDE),
    key("limits", "topic_levels", whole(1, 1_000), "32", "levels of a topic or topic filter").of(DEVICE_SIDE),
    key("limits", "topic_bytes", whole(16, 65_535), "4096", "bytes of a topic or topic filter").of(DEVICE_SIDE),
    key("limits", "client_id_bytes", whole(23, 65_535), "256", "bytes of a client id").of(DEVICE_SIDE),
    key("limits", "receive_maximum", whole(1, 65_535), "1024", "QoS 1 and 2 messages of one client that may wait for their acknowledgement").of(DEVICE_SIDE),
    key("limits", "topic_alias_maximum", whole(0, 65_535), "64", "topic aliases one client may set").of(DEVICE_SIDE),
    key("limits", "keep_alive_max_s", whole(0, 65_535), "0", "longest keep alive, of which MQTT 5 clients are told; 0 = as the client asks").of(DEVICE_SIDE),
    key("limits", "session_expiry_max_s", whole(0, 4_294_967_295), "4294967295", "longest session expiry; 4294967295 = as the client asks, also never").of(DEVICE_SIDE),
    key("limits", "v3_session_expiry_s", whole(1, 4_294_967_295), "604800", "session expiry of MQTT 3 clients with clean session 0").of(DEVICE_SIDE),
    key("limits", "qos2_ids", whole(1, 65_535), "1024", "QoS 2 packet ids one client may hold open").of(GROUP_SIDE),

    key("shards", "count", whole(0, 256), "0", "threads that serve connections; 0 = one per processor").of(DEVICE_SIDE),

    key("shared", "strategy", Kind::Choice(&["round_robin", "sticky", "least_in_flight", "hash_by_client"]), "round_robin", "whose turn it is in a shared subscription").of(GROUP_SIDE),

    key("log", "level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), "info", "what goes to standard error"),
    key("log", "format", Kind::Choice(&["text", "json"]), "text", "form of a log line"),

    key("drain", "deadline_s", whole(0, 3_600), "10", "time to finish what is under way after a stop signal").of(DEVICE_SIDE),
];
