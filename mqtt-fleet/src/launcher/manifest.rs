//! `cluster.json`: which nodes run, for programs.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::plan::{Addresses, NodePlan, NodeRole};
use crate::node;

#[derive(Serialize)]
struct Manifest<'a> {
    nodes: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    role: NodeRole,
    group: Option<u8>,
    pid: u32,
    leader: bool,
    addresses: Addresses,
}

/// Replaces the file in one step. `nodes` are those that run, with their process ids.
pub(super) fn write<'a>(
    path: &Path,
    nodes: impl Iterator<Item = (&'a NodePlan, u32)>,
) -> io::Result<()> {
    let entry = |(node, pid): (&'a NodePlan, u32)| Entry {
        name: &node.name,
        role: node.role,
        group: node.group,
        pid,
        // The only member of a group leads it as soon as it is ready.
        leader: node.role == NodeRole::Broker,
        addresses: node.addresses,
    };
    let manifest = Manifest {
        nodes: nodes.map(entry).collect(),
    };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    node::write_whole(path, &text)
}

/// Takes the file away: nothing of what it says holds any more.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
