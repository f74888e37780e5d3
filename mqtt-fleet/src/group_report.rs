//! What a member of a group says of itself: `GET /group` of its admin port, which `ctl group status`, the launcher and
//! programs read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker::group::{GroupStatus, RunningGroup};
use broker::log::{LogError, ask_to_set_aside};
use broker::raft::{Member, MemberStatus, Outsider, Peer, Role, Stage};
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, NodeName};
use cluster::transport::LinkTls;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::config::Settings;
use crate::node::{Node, NodeError};
use crate::seat;
use crate::stop::Stopper;

/// What a member does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemberRole {
    /// It orders the group's entries and serves its clients.
    Leader,
    /// It wants to lead.
    Candidate,
    /// It has a vote and follows the leader.
    Follower,
    /// It follows the leader and has no vote.
    Learner,
    /// It starts, or waits for other members or to be added.
    Waiting,
    /// It takes no part: what it had is damaged or lost.
    Damaged,
    /// It does not answer. No member says that of itself.
    Unreachable,
}

/// A member's report. Indexes are those of entries in the group's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberReport {
    /// Number of its group.
    pub(crate) group: u8,
    /// Its name.
    pub(crate) member: String,
    /// What it does.
    pub(crate) role: MemberRole,
    /// The term it is in; `None`: it is alone in its group, and nobody votes.
    pub(crate) term: Option<u64>,
    /// Name of the leader, as far as it knows.
    pub(crate) leader: Option<String>,
    /// Since when that one leads, as far as it has seen, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) leader_since_ms: Option<u64>,
    /// Whether a majority has answered it lately; `None`: it does not lead.
    #[serde(default)]
    pub(crate) reaches_majority: Option<bool>,
    /// Index of its last entry.
    pub(crate) last_index: u64,
    /// Index of the last entry that it knows to be stored by a majority.
    #[serde(default)]
    pub(crate) commit_index: u64,
    /// Index of the last entry that its group has applied. Less than `snapshot_index` while it reads a snapshot.
    pub(crate) applied_index: u64,
    /// Index of its newest snapshot; 0: it has none.
    pub(crate) snapshot_index: u64,
    /// Who is in the group, as far as it knows.
    pub(crate) members: Vec<PeerReport>,
    /// Its disk; `None`: the system does not say.
    pub(crate) disk: Option<DiskReport>,
    /// Bytes of its log or snapshot that are not what they were, for which it takes no part.
    #[serde(default)]
    pub(crate) damage: Option<DamageReport>,
    /// What is wrong with it, in words; `fine` if nothing is.
    pub(crate) health: String,
}

/// Where a log or a snapshot is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DamageReport {
    /// The file.
    pub(crate) file: PathBuf,
    /// Where in it, in bytes from its start.
    pub(crate) offset: u64,
    /// What was expected there.
    pub(crate) what: String,
}

impl MemberReport {
    /// Whether it leads and can store something: a leader that reaches no majority serves nobody.
    pub(crate) fn serves(&self) -> bool {
        self.role == MemberRole::Leader && self.reaches_majority != Some(false)
    }

    /// What it does, as a figure: 4 only where it serves.
    pub(crate) fn role_number(&self) -> u64 {
        match self.role {
            MemberRole::Waiting | MemberRole::Damaged | MemberRole::Unreachable => 0,
            MemberRole::Learner => 1,
            MemberRole::Follower => 2,
            MemberRole::Leader if self.serves() => 4,
            MemberRole::Candidate | MemberRole::Leader => 3,
        }
    }

    /// Entries that the member farthest behind lacks, if this one leads. One of which it does not know may lack all.
    pub(crate) fn lag_max(&self) -> u64 {
        if self.role != MemberRole::Leader {
            return 0;
        }
        let lags = self.members.iter().map(|peer| peer.lag_entries);
        let lags = lags.map(|lag| lag.unwrap_or(self.last_index));
        lags.max().unwrap_or(0)
    }
}

/// A member as another one knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerReport {
    /// Its name.
    pub(crate) name: String,
    /// Where it takes the calls of the others; `None`: there are none.
    pub(crate) peer: Option<String>,
    /// Whether it has a vote.
    pub(crate) votes: bool,
    /// Entries that it lacks; only a leader knows, once the member has answered it.
    pub(crate) lag_entries: Option<u64>,
    /// Bytes of these in the leader's log; `None`, too, if the leader has not all of them any more and sends a snapshot.
    #[serde(default)]
    pub(crate) lag_bytes: Option<u64>,
}

impl PeerReport {
    fn of(peer: &Peer) -> Self {
        // One that has not answered since this leader leads may have everything.
        let is_known = peer.matched != Some(0);
        Self {
            name: peer.name.to_string(),
            peer: Some(peer.address.to_string()),
            votes: peer.votes,
            lag_entries: peer.lag.filter(|_| is_known),
            lag_bytes: peer.lag_bytes.filter(|_| is_known),
        }
    }
}

/// The disk that a member's data folder is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskReport {
    /// Bytes of the files in the data folder.
    pub(crate) used_bytes: u64,
    /// Bytes that are free for it.
    pub(crate) free_bytes: u64,
    /// The log waits for space.
    pub(crate) full: bool,
}

/// The report that nothing is wrong with a member.
pub(crate) const FINE: &str = "fine";

/// Of a member without space.
const FULL: &str = "the disk is full: nothing more is stored until there is space";

/// Of a leader that too few of the others answer.
pub(crate) const ALONE: &str = "leads, and does not reach a majority";

/// Makes a broker's reports.
pub(crate) struct Reporter {
    /// Number of its group.
    pub(crate) group: u8,
    /// Its name.
    pub(crate) member: String,
    /// The data folder.
    data: PathBuf,
    /// The group in this process.
    read: Box<dyn Fn() -> GroupStatus + Send + Sync>,
    /// The member that agrees with others; `None`: it is alone in its group.
    agrees: Option<Member>,
    /// Set when its files are damaged.
    damage: OnceLock<DamageReport>,
    /// What it knows of the others.
    pub(crate) node: Node,
    pub(crate) tls: Option<Arc<LinkTls>>,
    /// Has the process begin anew.
    stopper: Stopper,
}

/// Why a member is not repaired.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRepair {
    /// There is nothing to repair.
    #[error("neither the log nor a snapshot of this member is known to be damaged")]
    Whole,
    /// What is damaged may be all there is.
    #[error(
        "none of the others ({others}) says that it leads the group, so what is damaged here may be all there is, and stays \
         where it is: start them, and ask again when one of them leads"
    )]
    Unled {
        /// The other members.
        others: String,
    },
    /// What it knows of the fleet cannot be read.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The disk does not take it.
    #[error(transparent)]
    Log(#[from] LogError),
}

fn names(members: &[(NodeName, HostPort)]) -> String {
    let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}

impl Reporter {
    /// That of a broker whose group runs; `agrees` is there if it has other members.
    pub(crate) fn new(
        node: &Node,
        settings: &Settings,
        stopper: &Stopper,
        group: &RunningGroup,
        agrees: Option<Member>,
    ) -> Self {
        Self {
            read: Box::new(group.status_reader()),
            agrees,
            ..Self::without_group(node, settings, stopper)
        }
    }

    /// That of a broker that cannot start, since its files are damaged.
    pub(crate) fn damaged(
        node: &Node,
        settings: &Settings,
        stopper: &Stopper,
        error: &LogError,
    ) -> Self {
        let reporter = Self::without_group(node, settings, stopper);
        reporter.is_damaged(error);
        reporter
    }

    fn without_group(node: &Node, settings: &Settings, stopper: &Stopper) -> Self {
        let (number, _) = node.seat.as_ref().expect("a broker has a seat");
        Self {
            group: number.0,
            member: node.name.to_string(),
            data: settings.data.clone(),
            read: Box::new(GroupStatus::default),
            agrees: None,
            damage: OnceLock::new(),
            node: node.clone(),
            tls: settings.link_tls.as_ref().map(|it| Arc::clone(&it.tls)),
            stopper: stopper.clone(),
        }
    }

    /// Its files are damaged: from here on it takes no part.
    pub(crate) fn is_damaged(&self, error: &LogError) {
        if let LogError::Damaged { file, offset, what } = error {
            let what = (*what).to_owned();
            let (file, offset) = (file.clone(), *offset);
            // The first damage has ended it.
            let _first = self
                .damage
                .get_or_init(|| DamageReport { file, offset, what });
        }
    }

    /// Has the damaged files set aside and the process begin anew, with an empty folder, if another member leads the
    /// group: then the others have what this one had. Waits for the disk, and for the others. On a runtime of tokio, but
    /// not on a thread that drives it.
    pub(crate) fn repair(&self) -> Result<(), NoRepair> {
        if self.damage.get().is_none() {
            return Err(NoRepair::Whole);
        }
        let known = self.node.topology()?;
        let group = GroupNo(self.group);
        let others = seat::peers(&known, group).filter(|(name, _)| *name != self.node.name);
        let others: Vec<_> = others.collect();
        let outsider = Outsider::new(group, self.node.secret.bytes().into(), self.tls.clone());
        let asked = outsider.leader_among(others.iter().cloned());
        let leader = Handle::current().block_on(asked);
        let leader = leader.ok_or_else(|| NoRepair::Unled {
            others: names(&others),
        })?;
        tracing::info!(%leader, "another member leads the group: what is damaged here is set aside");
        ask_to_set_aside(&self.data)?;
        self.stopper.again();
        Ok(())
    }

    /// The member that agrees with others, if there are any.
    pub(crate) fn agrees(&self) -> Option<&Member> {
        self.agrees.as_ref()
    }

    /// Snapshots of other members that began to come in and did not become whole.
    pub(crate) fn snapshots_cut_short(&self) -> u64 {
        let status = self.agrees.as_ref().map(Member::status);
        status.map_or(0, |status| status.snapshots_cut_short)
    }

    /// How the member is now. Looks at the disk, so it may take a moment.
    pub(crate) fn report(&self) -> MemberReport {
        let full = (self.read)().log_full;
        MemberReport {
            disk: disk(&self.data, full),
            ..self.reported(Member::detailed_status)
        }
    }

    /// The same without the disk: costs nothing.
    pub(crate) fn standing(&self) -> MemberReport {
        self.reported(Member::status)
    }

    fn reported(&self, ask: fn(&Member) -> MemberStatus) -> MemberReport {
        if let Some(damage) = self.damage.get() {
            return self.of_damaged(damage);
        }
        let status = self.agrees.as_ref().map(ask);
        // Asked later, so that it has applied what its own newest snapshot covers.
        let group = (self.read)();
        let mut report = match &status {
            Some(status) => self.of_several(status, group.applied),
            None => self.alone(&group),
        };
        // What else such a member says follows from that: it was deposed for it, or hears nobody. What has failed stays so.
        let has_failed = status
            .as_ref()
            .is_some_and(|status| status.failure.is_some());
        if group.log_full && report.role != MemberRole::Damaged && !has_failed {
            FULL.clone_into(&mut report.health);
        }
        report
    }

    fn of_damaged(&self, damage: &DamageReport) -> MemberReport {
        let DamageReport { file, offset, what } = damage;
        let file = file.display();
        MemberReport {
            group: self.group,
            member: self.member.clone(),
            role: MemberRole::Damaged,
            term: None,
            leader: None,
            leader_since_ms: None,
            reaches_majority: None,
            last_index: 0,
            commit_index: 0,
            applied_index: 0,
            snapshot_index: 0,
            members: Vec::new(),
            disk: None,
            damage: Some(damage.clone()),
            health: format!("{file} is damaged at byte {offset}: {what} (ctl group repair)"),
        }
    }

    fn alone(&self, group: &GroupStatus) -> MemberReport {
        let serving = group.serving;
        MemberReport {
            group: self.group,
            member: self.member.clone(),
            role: if serving {
                MemberRole::Leader
            } else {
                MemberRole::Waiting
            },
            term: None,
            leader: serving.then(|| self.member.clone()),
            leader_since_ms: None,
            reaches_majority: serving.then_some(true),
            last_index: group.applied,
            commit_index: group.applied,
            applied_index: group.applied,
            snapshot_index: 0,
            members: vec![PeerReport {
                name: self.member.clone(),
                peer: None,
                votes: true,
                lag_entries: serving.then_some(0),
                lag_bytes: serving.then_some(0),
            }],
            disk: None,
            damage: None,
            health: FINE.to_owned(),
        }
    }

    fn of_several(&self, status: &MemberStatus, applied: u64) -> MemberReport {
        MemberReport {
            group: self.group,
            member: self.member.clone(),
            role: role(status),
            term: Some(status.term),
            leader: status.leader.as_deref().map(str::to_owned),
            leader_since_ms: status.leads_for.and_then(since),
            reaches_majority: status.reaches_majority,
            last_index: status.last,
            commit_index: status.committed,
            applied_index: applied,
            snapshot_index: status.snapshot,
            members: status.members.iter().map(PeerReport::of).collect(),
            disk: None,
            damage: None,
            health: health(status, applied),
        }
    }
}

/// When it was so long ago, in milliseconds since 1970; `None`: before that, by a clock that is wrong.
fn since(ago: Duration) -> Option<u64> {
    let then = SystemTime::now().checked_sub(ago)?;
    let since = then.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

fn role(status: &MemberStatus) -> MemberRole {
    match (&status.stage, status.role) {
        (Stage::Lost { .. } | Stage::Failed { .. }, _) => MemberRole::Damaged,
        (Stage::TakesPart, Role::Leader) => MemberRole::Leader,
        (Stage::TakesPart, Role::Candidate) => MemberRole::Candidate,
        (Stage::TakesPart, Role::Follower) => MemberRole::Follower,
        (Stage::TakesPart, Role::Learner) => MemberRole::Learner,
        (Stage::TakesPart, Role::None) | (Stage::Starting | Stage::Waiting, _) => {
            MemberRole::Waiting
        }
    }
}

fn health(status: &MemberStatus, applied: u64) -> String {
    if let Some(failure) = &status.failure {
        return failure.clone();
    }
    match &status.stage {
        Stage::Starting => "reads its folder".to_owned(),
        Stage::Waiting => "waits for the other members of its group".to_owned(),
        Stage::Lost { by } => format!(
            "its folder is empty but {by} knows of the group: what it had is lost (ctl group repair), or it is new (ctl group add, replace)"
        ),
        Stage::Failed { why } => why.clone(),
        Stage::TakesPart if applied < status.snapshot => {
            "reads the snapshot that it has been sent".to_owned()
        }
        Stage::TakesPart if status.reaches_majority == Some(false) => ALONE.to_owned(),
        Stage::TakesPart if status.leader.is_none() => "knows no leader".to_owned(),
        Stage::TakesPart => status.unreadable.as_ref().map_or_else(
            || FINE.to_owned(),
            |damage| {
                format!(
                    "{damage}: it cannot bring another member up to date (restart it, so that another leads)"
                )
            },
        ),
    }
}

fn disk(data: &Path, full: bool) -> Option<DiskReport> {
    let free_bytes = fs4::available_space(data).ok()?;
    Some(DiskReport {
        used_bytes: bytes_in(data).ok()?,
        free_bytes,
        full,
    })
}

/// Bytes of the files in a folder and those below it. Files that go away meanwhile do not count.
fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let counted = match entry.metadata() {
            Ok(about) if about.is_dir() => bytes_in(&entry.path()),
            Ok(about) => Ok(about.len()),
            Err(error) => Err(error),
        };
        match counted {
            Ok(counted) => bytes += counted,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
