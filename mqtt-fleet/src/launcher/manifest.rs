//! `cluster.json`: which nodes run, for programs.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::leaders::Leaders;
use super::plan::{Addresses, NodePlan, NodeRole, log_file};
use crate::node;

#[derive(Serialize)]
struct Manifest<'a> {
    nodes: Vec<Entry<'a>>,
    groups: Vec<Together<'a>>,
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

/// A group, with all members, whether they run or not.
#[derive(Serialize)]
struct Together<'a> {
    group: u8,
    /// Who leads; `None`: nobody did when the file was written.
    leader: Option<&'a str>,
    members: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct Member<'a> {
    name: &'a str,
    link: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    /// `None`: it does not run.
    pid: Option<u32>,
    /// Where its lines go.
    log: PathBuf,
}

/// Replaces the file in one step. `nodes` are all, with the process ids of those that run; `leaders` lead their groups.
pub(super) fn write(
    path: &Path,
    nodes: &[(&NodePlan, Option<u32>)],
    leaders: &Leaders,
) -> io::Result<()> {
    let leads = |node: &NodePlan| {
        let leader = node.group.and_then(|group| leaders.of(group));
        leader == Some(node.name.as_str())
    };
    let running = nodes.iter().filter_map(|(node, pid)| {
        Some(Entry {
            name: &node.name,
            role: node.role,
            group: node.group,
            pid: (*pid)?,
            leader: leads(node),
            addresses: node.addresses,
        })
    });
    let folder = path.parent().unwrap_or(Path::new(""));
    let manifest = Manifest {
        nodes: running.collect(),
        groups: groups(folder, nodes, leaders),
    };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    node::write_whole(path, &text)
}

fn groups<'a>(
    folder: &Path,
    nodes: &[(&'a NodePlan, Option<u32>)],
    leaders: &'a Leaders,
) -> Vec<Together<'a>> {
    let mut groups: Vec<Together<'a>> = Vec::new();
    for (node, pid) in nodes {
        let Some(number) = node.group else {
            continue;
        };
        if groups.last().is_none_or(|group| group.group != number) {
            groups.push(Together {
                group: number,
                leader: leaders.of(number),
                members: Vec::new(),
            });
        }
        let group = groups.last_mut().expect("pushed if there was none");
        group.members.push(Member {
            name: &node.name,
            link: node.addresses.link,
            peer: node.addresses.peer,
            admin: node.addresses.admin,
            pid: *pid,
            log: log_file(folder, &node.name),
        });
    }
    groups
}

/// Takes the file away: nothing of what it says holds any more.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
