//! What is written into the fleet's folder before the start: the cluster file, the secret, and a configuration file
//! for each node. They are like those one writes by hand, so the nodes can also be started by hand.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cluster::shard_key::HomeKey;
use cluster::topology::{HostPort, Member};

use super::LaunchError;
use super::haproxy::{self, Front, Server};
use super::plan::{NodePlan, NodeRole, Plan, config_file, haproxy_file};
use crate::{dev_certs, node};

/// Folder of the certificates, in the fleet's.
const CERTIFICATES: &str = "certs";

/// Writes everything. A folder of an earlier fleet keeps its data and its secret; the files are written anew.
pub(super) fn write(plan: &Plan) -> Result<(), LaunchError> {
    for node in &plan.nodes {
        create(&plan.folder.join(&node.name))?;
    }
    write_secret(&plan.folder.join("secret"))?;
    if plan.tls || plan.link_tls {
        dev_certs::for_fleet(&plan.folder.join(CERTIFICATES)).map_err(LaunchError::Certificates)?;
    }
    let path = plan.folder.join("cluster.toml");
    check_fixed(plan, &path)?;
    check_addresses(plan)?;
    put(&path, &cluster_file(plan))?;
    for node in &plan.nodes {
        if let Some(text) = node_file(plan, node) {
            put(&config_file(&plan.folder, &node.name), &text)?;
        }
    }
    for node in plan.of(NodeRole::Haproxy) {
        put(&haproxy_file(&plan.folder), &haproxy_text(plan, node))?;
    }
    Ok(())
}

/// Makes the folder, and keeps other launchers out of it for as long as the value lives.
pub(super) fn lock(folder: &PathBuf) -> Result<File, LaunchError> {
    create(folder)?;
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|source| unwritable(&path, source))?;
    let locked = fs4::fs_std::FileExt::try_lock_exclusive(&file);
    if locked.map_err(|source| unwritable(&path, source))? {
        Ok(file)
    } else {
        let folder = folder.clone();
        Err(LaunchError::Locked { folder })
    }
}

/// The groups of a fleet cannot be changed by its launcher: their messages are where their topics were. Nor can the home key.
fn check_fixed(plan: &Plan, path: &Path) -> Result<(), LaunchError> {
    if !path.exists() {
        return Ok(());
    }
    let file = node::read_cluster_file(path).map_err(|errors| {
        let sentences: Vec<_> = errors.iter().map(ToString::to_string).collect();
        LaunchError::ClusterFile(sentences.join("; "))
    })?;
    let (groups, asked) = (file.groups.len(), usize::from(plan.groups));
    let had = match &file.fixed.home_key {
        HomeKey::ClientId => None,
        HomeKey::Topic(template) => Some(template.as_str().to_owned()),
    };
    let mut sizes = file.groups.iter().map(|group| group.members.len());
    let other_size = sizes.find(|members| *members != usize::from(plan.members));
    let file = path.to_owned();
    if had != plan.home_key {
        return Err(LaunchError::OtherHomeKey { file, had });
    }
    if groups != asked {
        return Err(LaunchError::OtherFleet {
            file,
            groups,
            asked,
        });
    }
    match other_size {
        Some(members) => Err(LaunchError::OtherMembers {
            file,
            members,
            asked: usize::from(plan.members),
        }),
        None => Ok(()),
    }
}

/// Nor can the addresses of its brokers: once it has run, they are in the log of group 0.
fn check_addresses(plan: &Plan) -> Result<(), LaunchError> {
    for broker in plan.of(NodeRole::Broker) {
        let path = node::kept_by_broker(&plan.folder.join(&broker.name));
        if !path.exists() {
            continue;
        }
        let kept = node::read_kept(&path).map_err(|error| LaunchError::Kept(error.to_string()))?;
        let planned = broker.addresses;
        let name = broker.name.parse().ok();
        let member = name.and_then(|name| kept.member(&name).map(|(_, member)| member.clone()));
        let Some(Member { name, link, peer }) = member.filter(|_| !kept.is_from_file()) else {
            continue;
        };
        let elsewhere = [(Some(link), planned.link), (peer, planned.peer)];
        let differ = |(kept, planned): &(Option<HostPort>, Option<SocketAddr>)| {
            let planned = planned.map(|address| address.to_string());
            kept.as_ref().map(HostPort::as_str) != planned.as_deref()
        };
        if let Some((Some(address), _)) = elsewhere.into_iter().find(differ) {
            let folder = plan.folder.clone();
            return Err(LaunchError::OtherAddress {
                folder,
                name,
                address,
            });
        }
    }
    Ok(())
}

fn cluster_file(plan: &Plan) -> String {
    let mut text = String::from(
        "# Written by mqtt-fleet cluster, at each start.\n[cluster]\nid = \"local\"\n\n[secret]\nfile = \"secret\"\n",
    );
    if let Some(home_key) = &plan.home_key {
        let home_key = toml::Value::String(home_key.clone());
        write!(text, "\n[routing]\nhome_key = {home_key}\n")
            .expect("writing to a String cannot fail");
    }
    let mut before = None;
    let mut put_line = |content: fmt::Arguments<'_>| {
        writeln!(text, "{content}").expect("writing to a String cannot fail");
    };
    for node in plan.of(NodeRole::Broker) {
        let (Some(group), Some(link)) = (node.group, node.addresses.link) else {
            unreachable!("brokers have a group and take links");
        };
        if before.replace(group) != Some(group) {
            put_line(format_args!("\n[[group]]\nnumber = {group}"));
        }
        let name = &node.name;
        put_line(format_args!(
            "[[group.member]]\nname = \"{name}\"\nlink = \"{link}\""
        ));
        if let Some(peer) = node.addresses.peer {
            put_line(format_args!("peer = \"{peer}\""));
        }
    }
    text
}

/// The configuration file of a node of ours.
fn node_file(plan: &Plan, node: &NodePlan) -> Option<String> {
    let name = &node.name;
    let admin = node.addresses.admin?;
    let own = quoted(&plan.folder.join(name));
    let cluster = quoted(&plan.folder.join("cluster.toml"));
    let mut text =
        format!("# Written by mqtt-fleet cluster, at each start.\n[node]\nname = \"{name}\"\n\n");
    let rest = match node.role {
        NodeRole::Broker => format!(
            "[cluster]\nfile = {cluster}\n\n[listen]\nadmin = \"{admin}\"\n\n[data]\ndir = {own}\ndurability = \
             \"{}\"\n",
            plan.durability
        ),
        NodeRole::Proxy => format!(
            "[cluster]\nfile = {cluster}\ncache = {own}\n\n[listen]\nadmin = \"{admin}\"\n{}\n{}[shards]\ncount = \
             {}\n\n[redis]\nurls = [\"redis://{}\"]\n",
            addresses([
                ("mqtt", node.addresses.mqtt),
                ("balancer", node.addresses.behind)
            ]),
            tls(plan, node),
            plan.shards,
            plan.redis
        ),
        NodeRole::Redis | NodeRole::Haproxy => return None,
    };
    text += &rest;
    if plan.link_tls {
        text += &link_tls(&plan.folder.join(CERTIFICATES));
    }
    Some(text)
}

/// A line for each address there is.
fn addresses(named: [(&str, Option<SocketAddr>); 2]) -> String {
    let line = |(name, address)| Some(format!("{name} = \"{}\"\n", address?));
    named.into_iter().filter_map(line).collect()
}

/// What a proxy needs for devices with TLS.
fn tls(plan: &Plan, node: &NodePlan) -> String {
    if !plan.tls {
        return String::new();
    }
    let certificates = plan.folder.join(CERTIFICATES);
    let [certificate, key] =
        ["server.pem", "server.key"].map(|name| quoted(&certificates.join(name)));
    let [listen, balancer] = [node.addresses.mqtts, node.addresses.behind_tls];
    format!(
        "[tls]\n{}certificate = {certificate}\nkey = {key}\n\n",
        addresses([("listen", listen), ("balancer", balancer)])
    )
}

/// `HAProxy`'s configuration: all proxies behind each of its ports.
fn haproxy_text(plan: &Plan, node: &NodePlan) -> String {
    type Behind = fn(&NodePlan) -> Option<SocketAddr>;
    let ports: [(_, _, Behind); 2] = [
        (false, node.addresses.mqtt, |proxy| proxy.addresses.behind),
        (true, node.addresses.mqtts, |proxy| {
            proxy.addresses.behind_tls
        }),
    ];
    let fronts = ports.into_iter().filter_map(|(tls, bind, behind)| {
        let server = |proxy: &NodePlan| {
            Some(Server {
                name: proxy.name.clone(),
                address: behind(proxy)?,
                admin_port: proxy.addresses.admin?.port(),
            })
        };
        let servers = plan.of(NodeRole::Proxy).filter_map(server).collect();
        Some(Front {
            bind: bind?,
            tls,
            servers,
        })
    });
    let fronts: Vec<_> = fronts.collect();
    let Some(figures) = node.addresses.admin else {
        unreachable!("HAProxy has a port for its figures");
    };
    format!(
        "# Written by mqtt-fleet cluster, at each start; deploy/haproxy has the same with other addresses.\n{}",
        haproxy::configuration(&fronts, figures)
    )
}

fn link_tls(certificates: &Path) -> String {
    let [ca, certificate, key] =
        ["ca.pem", "fleet.pem", "fleet.key"].map(|name| quoted(&certificates.join(name)));
    format!("\n[link_tls]\nca = {ca}\ncertificate = {certificate}\nkey = {key}\n")
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// 32 random bytes as hexadecimal digits, readable by their owner only. One that is there stays.
fn write_secret(path: &Path) -> Result<(), LaunchError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    if path.exists() {
        return Ok(());
    }
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut digits = String::new();
    for byte in bytes {
        write!(digits, "{byte:02x}").expect("writing to a String cannot fail");
    }
    digits.push('\n');
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(digits.as_bytes()));
    written.map_err(|source| unwritable(path, source))
}

fn create(folder: &PathBuf) -> Result<(), LaunchError> {
    std::fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))
}

fn put(path: &Path, text: &str) -> Result<(), LaunchError> {
    node::write_whole(path, text.as_bytes()).map_err(|source| unwritable(path, source))
}

fn unwritable(path: &Path, source: std::io::Error) -> LaunchError {
    LaunchError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
