//! One node of a fleet: its name, its cluster file, the secret, and what it keeps of the fleet on disk.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use broker::group::ChangeError;
use cluster::slots::GroupNo;
use cluster::topology::{
    ClusterFile, FileError, HostPort, KeptError, Member, NodeName, Secret, SecretError,
    SecretSource, SlotSkew, Topology, TopologyError, TopologyVersion,
};

use crate::config::{ConfigError, Origin, Role, Typed};

/// Name of the file in a broker's data folder.
const KEPT_BY_BROKERS: &str = "topology";

/// What is wrong with a file of the fleet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The cluster file says something wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be read.
    #[error("cannot read {what} {}: {source}", path.display())]
    Unreadable {
        /// "the cluster file", ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no secret, or a bad one.
    #[error("the secret in {place}: {problem}")]
    Secret {
        /// The file or variable.
        place: String,
        /// What is wrong.
        problem: SecretProblem,
    },
    /// What the node kept cannot be read.
    #[error("{}: {source}; it holds what this node last knew of the fleet: restore it, or remove it if no slot was ever moved and no member replaced", path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeptError,
    },
    /// What the node kept does not go with the cluster file.
    #[error("{} does not go with the cluster file: {source}", path.display())]
    Topology {
        /// The file the node keeps.
        path: PathBuf,
        /// Why.
        source: TopologyError,
    },
    /// What the node knows does not go with group 0's log.
    #[error("the topology in the log of group 0: {0}")]
    Log(#[from] ChangeError),
    /// By the topology this broker is not where the cluster file has it.
    #[error(
        "by the fleet's topology (version {version}) there is no \"{name}\" in group {}; there are: {members}; the names \
         of members cannot change",
        group.0
    )]
    NoMember {
        /// Which topology.
        version: TopologyVersion,
        /// The broker's name.
        name: NodeName,
        /// Its group, by the cluster file.
        group: GroupNo,
        /// Who is in it.
        members: String,
    },
    /// What the node knows cannot be kept.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A member would forget what it has promised the others.
    #[error(
        "a group with other members keeps its log on disk: data.durability = \"memory\" is for a group of one without a \
         peer address"
    )]
    ForgetfulMember,
    /// The address of a broker means nothing here.
    #[error(
        "{address}, where the others expect this broker, is not known here: {source}; say where it {what} with {flag}"
    )]
    Unknown {
        /// The address.
        address: HostPort,
        /// What it does there.
        what: &'static str,
        /// Flag and configuration key that say where.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// What is wrong with a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretProblem {
    /// The variable is not set.
    #[error("the variable is not set")]
    Unset,
    /// It is too short.
    #[error(transparent)]
    Bad(#[from] SecretError),
}

/// What a node knows of itself and its fleet.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: NodeName,
    /// The cluster file.
    pub(crate) file: ClusterFile,
    /// The secret of the fleet.
    pub(crate) secret: Secret,
    /// A broker's place in the cluster file.
    pub(crate) seat: Option<(GroupNo, Member)>,
    /// Where it keeps the topology.
    kept: PathBuf,
    /// A proxy goes on where it cannot keep the topology; a broker does not.
    must_keep: bool,
}

impl Node {
    /// Reads what the configuration names. All mistakes are returned.
    pub(crate) fn load(role: Role, typed: &Typed) -> Result<Self, Vec<ConfigError>> {
        let path = typed.path_or_none("cluster", "file").ok_or_else(|| {
            let problem =
                format!("a {role} needs the cluster file: give --cluster FILE (cluster.file)");
            vec![conflict(typed, "cluster", "file", problem)]
        })?;
        let named = typed.text("node", "name");
        let name = named.parse::<NodeName>().map_err(|expected| {
            let problem = format!("node.name = \"{named}\": expected {expected}; give --name NAME");
            vec![conflict(typed, "node", "name", problem)]
        })?;
        let file = read_cluster_file(&path).map_err(|errors| {
            errors
                .into_iter()
                .map(ConfigError::from)
                .collect::<Vec<_>>()
        })?;
        let seat = match role {
            Role::Broker => Some(seat(typed, &file, &path, &name)?),
            _ => None,
        };
        let secret = read_secret(&file.secret).map_err(|error| vec![error.into()])?;
        let kept = match role {
            Role::Broker => kept_by_broker(&typed.path("data", "dir")),
            _ => typed
                .path("cluster", "cache")
                .join(format!("{name}.topology")),
        };
        Ok(Self {
            name,
            file,
            secret,
            seat,
            kept,
            must_keep: role == Role::Broker,
        })
    }

    /// The fleet as this node last knew it, or as the cluster file begins it. Nothing is written.
    pub(crate) fn topology(&self) -> Result<Topology, NodeError> {
        let path = &self.kept;
        let kept = if path.exists() {
            Some(read_kept(path)?)
        } else {
            None
        };
        Topology::resume(&self.file, kept).map_err(|source| NodeError::Topology {
            path: path.clone(),
            source,
        })
    }

    /// A broker's group and where the others expect the broker.
    pub(crate) fn place<'t>(
        &self,
        topology: &'t Topology,
    ) -> Result<(GroupNo, &'t Member), NodeError> {
        let (group, _) = self.seat.as_ref().expect("a broker has a seat");
        let found = topology.member(&self.name);
        found
            .filter(|(at, _)| at == group)
            .ok_or_else(|| NodeError::NoMember {
                version: topology.version(),
                name: self.name.clone(),
                group: *group,
                members: names(topology.members(*group)),
            })
    }

    /// Keeps what the node knows on disk. A proxy may run where it can write nothing; a broker may not.
    pub(crate) fn keep(&self, topology: &Topology) -> Result<(), NodeError> {
        match keep(&self.kept, topology) {
            Err(error) if !self.must_keep => {
                tracing::warn!(%error, "the next start goes by what was known before");
                Ok(())
            }
            result => result,
        }
    }

    /// Says in the log of the process what the node starts with, and where the cluster file says otherwise.
    pub(crate) fn say(&self, topology: &Topology) {
        tracing::info!(
            fleet = %self.file.fixed.cluster_id,
            node = %self.name,
            fixed_part = %topology.fixed,
            slot_table = topology.table.version(),
            members = topology.members_version,
            "the fleet"
        );
        warn_of_skew(topology);
        warn_of_even_groups(&self.file);
        let differences = differences(&self.file, topology);
        if !topology.is_from_file() && !differences.is_empty() {
            tracing::info!(
                differences,
                "the cluster file only began the fleet, its groups do not count any more; addresses are changed with \
                 mqtt-fleet ctl move-member"
            );
        }
    }
}

impl fmt::Display for Node {
    /// For `mqtt-fleet check`: comments, so that the whole output stays a valid file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fixed = &self.file.fixed;
        let groups = self.file.groups.len();
        writeln!(f, "# node {} of fleet {}", self.name, fixed.cluster_id)?;
        writeln!(
            f,
            "# fixed part {}, {groups} group(s) to begin with",
            fixed.hash()
        )?;
        if let Some((group, member)) = &self.seat {
            writeln!(
                f,
                "# member of group {}, links on {} by the cluster file",
                group.0, member.link
            )?;
        }
        writeln!(f)
    }
}

/// The group of a broker and its place there.
fn seat(
    typed: &Typed,
    file: &ClusterFile,
    path: &Path,
    name: &NodeName,
) -> Result<(GroupNo, Member), Vec<ConfigError>> {
    let refuse = |problem| vec![conflict(typed, "node", "name", problem)];
    let (group, member) = file.member(name).ok_or_else(|| {
        let names: Vec<_> = file
            .groups
            .iter()
            .flat_map(|group| &group.members)
            .collect();
        let names: Vec<_> = names.iter().map(|member| member.name.as_str()).collect();
        let (path, names) = (path.display(), names.join(", "));
        refuse(format!(
            "node.name = \"{name}\" is no member of a group in {path}; there are: {names}"
        ))
    })?;
    Ok((group, member.clone()))
}

fn conflict(typed: &Typed, section: &str, name: &str, problem: String) -> ConfigError {
    ConfigError::Conflict {
        origin: typed.origin(section, name).clone(),
        problem,
    }
}

/// Reads and checks a cluster file.
pub(crate) fn read_cluster_file(path: &Path) -> Result<ClusterFile, Vec<NodeError>> {
    let text = std::fs::read_to_string(path).map_err(|source| {
        vec![NodeError::Unreadable {
            what: "the cluster file",
            path: path.to_owned(),
            source,
        }]
    })?;
    let parsed = ClusterFile::parse(path, &text);
    parsed.map_err(|errors| errors.into_iter().map(NodeError::File).collect())
}

/// Where a broker with this data folder keeps the topology.
pub(crate) fn kept_by_broker(data: &Path) -> PathBuf {
    data.join(KEPT_BY_BROKERS)
}

/// Reads what a node kept.
pub(crate) fn read_kept(path: &Path) -> Result<Topology, NodeError> {
    let text = std::fs::read_to_string(path).map_err(|source| NodeError::Unreadable {
        what: "what this node last knew of the fleet,",
        path: path.to_owned(),
        source,
    })?;
    Topology::read(&text).map_err(|source| NodeError::Kept {
        path: path.to_owned(),
        source,
    })
}

fn read_secret(source: &SecretSource) -> Result<Secret, NodeError> {
    let (place, content) = match source {
        SecretSource::File(path) => {
            let content = std::fs::read(path).map_err(|source| NodeError::Unreadable {
                what: "the secret of the fleet,",
                path: path.clone(),
                source,
            })?;
            (path.display().to_string(), content)
        }
        SecretSource::Variable(name) => {
            let place = format!("environment variable {name}");
            let Some(content) = std::env::var_os(name) else {
                let problem = SecretProblem::Unset;
                return Err(NodeError::Secret { place, problem });
            };
            (place, content.into_encoded_bytes())
        }
    };
    Secret::new(&content).map_err(|error| NodeError::Secret {
        place,
        problem: error.into(),
    })
}

/// Replaces the file in one step, if it is another: after a crash it is the old or the new one.
fn keep(path: &Path, topology: &Topology) -> Result<(), NodeError> {
    let text = topology.write();
    if std::fs::read(path).is_ok_and(|kept| kept == text.as_bytes()) {
        return Ok(());
    }
    write_whole(path, text.as_bytes()).map_err(|source| NodeError::Unwritable {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file in one step, folder included, and waits until it is on the disk.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);
    let mut file = std::fs::File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    std::fs::File::open(folder)?.sync_all()
}

/// Members that are elsewhere than the cluster file has them, for a sentence.
fn differences(file: &ClusterFile, topology: &Topology) -> String {
    let mut text = String::new();
    for Member { name, link, .. } in file.groups.iter().flat_map(|group| &group.members) {
        let gap = if text.is_empty() { "" } else { ", " };
        let said = match topology.member(name) {
            Some((_, member)) if member.link == *link => continue,
            Some((_, member)) => {
                write!(text, "{gap}{name} is at {} and not at {link}", member.link)
            }
            None => write!(text, "{gap}there is no {name}"),
        };
        said.expect("writing to a String cannot fail");
    }
    text
}

/// For a sentence.
fn names(members: &[Member]) -> String {
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    names.join(", ")
}

/// A cluster file in which a broker stands that is to be added to its group is for that one.
fn warn_of_even_groups(file: &ClusterFile) {
    for group in &file.groups {
        let members = group.members.len();
        if members.is_multiple_of(2) {
            tracing::warn!(
                group = group.weight.group.0,
                members,
                "by the cluster file the group has an even number of members: it bears no more failures than with one fewer, \
                 and no group begins so; right only in the file of a broker that is to be added"
            );
        }
    }
}

fn warn_of_skew(topology: &Topology) {
    if let Some(skew) = SlotSkew::of(&topology.table, &topology.groups)
        && skew.is_large()
    {
        tracing::warn!(
            group = skew.group.0,
            slots = skew.slots,
            times_its_share = format_args!("{:.2}", skew.ratio),
            "the slots lie unevenly on the groups"
        );
    }
}

impl From<NodeError> for ConfigError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::File(error) => Self::Conflict {
                origin: Origin::File {
                    path: error.path,
                    line: error.line,
                },
                problem: error.problem,
            },
            other => Self::Fleet(other),
        }
    }
}

#[cfg(test)]
mod tests;
