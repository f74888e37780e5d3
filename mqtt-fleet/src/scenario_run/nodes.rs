//! The nodes of a fleet as its `cluster.json` describes them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use loadtest::TargetProcess;
use serde::Deserialize;

/// A node.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    /// `redis`, `broker`, `proxy` or `haproxy`.
    pub(super) role: String,
    pub(super) pid: u32,
    pub(super) addresses: Addresses,
}

/// Where devices reach it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Addresses {
    pub(super) mqtt: Option<SocketAddr>,
    pub(super) mqtts: Option<SocketAddr>,
}

#[derive(Deserialize)]
struct Manifest {
    nodes: Vec<Node>,
}

/// Reads the file; it is written in one step, so it is never half there.
pub(super) fn read(path: &Path) -> io::Result<Vec<Node>> {
    let text = std::fs::read_to_string(path)?;
    let manifest: Manifest = serde_json::from_str(&text)?;
    Ok(manifest.nodes)
}

/// Where devices connect: the proxies, plain or with TLS.
pub(super) fn addresses(
    nodes: &[Node],
    which: impl Fn(&Addresses) -> Option<SocketAddr>,
) -> Vec<SocketAddr> {
    let proxies = nodes.iter().filter(|node| node.role == "proxy");
    proxies.filter_map(|node| which(&node.addresses)).collect()
}

/// The processes, by roles as reports name them. None while there is no file: a launcher takes it away when it ends.
pub(super) fn processes(path: &Path) -> Vec<TargetProcess> {
    let process = |node: Node| TargetProcess {
        role: match node.role.as_str() {
            "proxy" => "proxies".to_owned(),
            "broker" => "brokers".to_owned(),
            other => other.to_owned(),
        },
        name: node.name,
        pid: node.pid,
    };
    read(path).map_or_else(
        |_| Vec::new(),
        |nodes| nodes.into_iter().map(process).collect(),
    )
}

/// The fleet in words.
pub(super) fn about(nodes: &[Node]) -> String {
    let count = |role: &str| nodes.iter().filter(|node| node.role == role).count();
    let plural =
        |n: usize, one: &str, more: &str| format!("{n} {}", if n == 1 { one } else { more });
    let proxies = plural(count("proxy"), "proxy", "proxies");
    let groups = plural(count("broker"), "group", "groups");
    let redis = if count("redis") > 0 { ", Redis" } else { "" };
    format!("{proxies}, {groups}{redis}")
}
