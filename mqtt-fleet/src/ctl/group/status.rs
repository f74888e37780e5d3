//! How the groups of a fleet are, put together from what their members say.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::fleet::{self, Answer, Where};
use crate::ctl::members::Failed;
use crate::group_report::{DamageReport, DiskReport, MemberReport, MemberRole, PeerReport};

/// Columns of the table.
const COLUMNS: usize = 13;

/// All groups. Its JSON form is for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FleetStatus {
    groups: Vec<GroupStatus>,
    /// Admin ports of which nothing is known, with why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<Unknown>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct GroupStatus {
    group: u8,
    /// Name of the member that leads and reaches a majority, by its own word, or, if it was not asked, by that of the others.
    leader: Option<String>,
    /// Since when, by itself, in milliseconds since 1970.
    leader_since_ms: Option<u64>,
    /// The newest term; `None`: the only member votes with nobody.
    term: Option<u64>,
    members: Vec<MemberRow>,
}

/// A member; what is `None` nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct MemberRow {
    name: String,
    admin: Option<String>,
    peer: Option<String>,
    role: MemberRole,
    /// Whether it has a vote.
    votes: Option<bool>,
    term: Option<u64>,
    last_index: Option<u64>,
    commit_index: Option<u64>,
    applied_index: Option<u64>,
    snapshot_index: Option<u64>,
    /// Entries that it lacks, by the leader; while it reads a snapshot those that its group has not applied.
    lag_entries: Option<u64>,
    /// Bytes of these in the leader's log, if it still has them.
    lag_bytes: Option<u64>,
    disk: Option<DiskReport>,
    /// Where its log or a snapshot is damaged.
    damage: Option<DamageReport>,
    health: String,
}

/// What a member's files are like, as far as the member itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files<'s> {
    /// They are damaged, says the broker with this admin port.
    Damaged(&'s str),
    /// Nothing that is there is damaged.
    Sound,
    /// It does not answer, at an admin port that is known.
    Silent,
    /// Nobody was asked.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Unknown {
    admin: String,
    problem: String,
}

impl FleetStatus {
    /// Asks the brokers.
    pub(super) fn ask(asked: &Where) -> Result<Self, Failed> {
        Ok(Self::new(fleet::ask(asked.brokers()?)))
    }

    pub(super) fn new(answers: Vec<Answer>) -> Self {
        let mut groups: BTreeMap<u8, Vec<MemberRow>> = BTreeMap::new();
        let (mut reports, mut unknown) = (Vec::new(), Vec::new());
        for (broker, answer) in answers {
            let admin = broker.admin;
            match (answer, broker.known) {
                (Ok(report), _) => {
                    let row = MemberRow::of(&report, admin);
                    groups.entry(report.group).or_default().push(row);
                    reports.push(report);
                }
                (Err(problem), Some((name, group))) => {
                    let row = MemberRow::silent(name, Some(admin), problem);
                    groups.entry(group).or_default().push(row);
                }
                (Err(problem), None) => unknown.push(Unknown { admin, problem }),
            }
        }
        let not_asked = if unknown.is_empty() {
            "was not asked: say its admin port, too, with --admin"
        } else {
            "does not answer, or was not asked"
        };
        let group = |(group, rows)| GroupStatus::new(group, rows, &reports, not_asked);
        Self {
            groups: groups.into_iter().map(group).collect(),
            unknown,
        }
    }

    /// Admin port of the member that leads a group, if it answers.
    pub(super) fn leader_of(&self, group: u8) -> Option<&str> {
        let group = self.groups.iter().find(|it| it.group == group)?;
        group.asked_leader()?.admin.as_deref()
    }

    /// Why nobody can be asked who leads a group.
    pub(super) fn without_leader(&self, number: u8) -> String {
        let group = self.groups.iter().find(|it| it.group == number);
        group.map_or_else(
            || format!("no leader of group {number} answers"),
            GroupStatus::leader_line,
        )
    }

    /// The group that has a member of this name.
    pub(super) fn group_of(&self, name: &str) -> Option<u8> {
        let has = |it: &&GroupStatus| it.members.iter().any(|row| row.name == name);
        self.groups.iter().find(has).map(|it| it.group)
    }

    /// The rows of the members of this name.
    fn rows_of<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s MemberRow> {
        let rows = self.groups.iter().flat_map(|it| &it.members);
        rows.filter(move |row| row.name == name)
    }

    /// Where the others of its group reach a member.
    pub(super) fn peer_of(&self, name: &str) -> Option<&str> {
        let mut rows = self.rows_of(name);
        rows.find_map(|row| row.peer.as_deref())
    }

    /// Whether a member says that it takes part, and has a vote.
    pub(super) fn is_well(&self, name: &str) -> bool {
        self.rows_of(name).any(|row| {
            let takes_part = matches!(
                row.role,
                MemberRole::Leader | MemberRole::Follower | MemberRole::Candidate
            );
            takes_part && row.votes == Some(true)
        })
    }

    /// What is known of a member's files.
    pub(super) fn files_of(&self, name: &str) -> Files<'_> {
        let mut rows = self.rows_of(name);
        match rows.find_map(|row| Some((row.admin.as_deref()?, row))) {
            None => Files::Unknown,
            Some((admin, row)) if row.damage.is_some() => Files::Damaged(admin),
            Some((_, row)) if row.role == MemberRole::Unreachable => Files::Silent,
            Some(_) => Files::Sound,
        }
    }

    /// Whether there is a leader in each group, and each that was asked for is known.
    pub(super) fn all_have_leaders(&self) -> bool {
        self.unknown.is_empty() && self.groups.iter().all(|group| group.leader.is_some())
    }
}

impl GroupStatus {
    /// What `reports` say of a group; `members` are rows of those that were asked, `not_asked` is the health of the others.
    fn new(
        group: u8,
        mut members: Vec<MemberRow>,
        reports: &[MemberReport],
        not_asked: &str,
    ) -> Self {
        let own = || reports.iter().filter(|report| report.group == group);
        // One that was deposed and has not heard of it yet has an earlier term.
        let leaders = own().filter(|report| report.role == MemberRole::Leader);
        let leader = leaders.max_by_key(|report| report.term);
        let serves = leader.filter(|leader| leader.serves());
        // The leader knows best who is in the group; without one, who has heard of the newest entries does.
        let best = leader.or_else(|| own().max_by_key(|report| (report.term, report.last_index)));
        for peer in best.map_or(&[][..], |best| &best.members) {
            if !members.iter().any(|row| row.name == peer.name) {
                let problem = not_asked.to_owned();
                members.push(MemberRow::silent(peer.name.clone(), None, problem));
            }
        }
        for row in &mut members {
            let known =
                best.and_then(|best| best.members.iter().find(|peer| peer.name == row.name));
            row.complete(known, leader);
        }
        let term = own().filter_map(|report| report.term).max();
        let by_others = own().filter(|report| report.term == term);
        let was_not_asked = |name: &&String| {
            let row = members.iter().find(|row| row.name == **name);
            row.is_some_and(|row| row.admin.is_none())
        };
        let named = by_others.filter_map(|report| report.leader.as_ref());
        let named = named.filter(was_not_asked).max().cloned();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            group,
            leader: serves.map(|leader| leader.member.clone()).or(named),
            leader_since_ms: serves.and_then(|leader| leader.leader_since_ms),
            term,
            members,
        }
    }
}

impl MemberRow {
    fn of(report: &MemberReport, admin: String) -> Self {
        // What is damaged is not read.
        let known = |index: u64| report.damage.is_none().then_some(index);
        Self {
            name: report.member.clone(),
            admin: Some(admin),
            peer: None,
            role: report.role,
            votes: None,
            term: report.term,
            last_index: known(report.last_index),
            commit_index: known(report.commit_index),
            applied_index: known(report.applied_index),
            snapshot_index: known(report.snapshot_index),
            lag_entries: None,
            lag_bytes: None,
            disk: report.disk,
            damage: report.damage.clone(),
            health: report.health.clone(),
        }
    }

    fn silent(name: String, admin: Option<String>, problem: String) -> Self {
        Self {
            name,
            admin,
            peer: None,
            role: MemberRole::Unreachable,
            votes: None,
            term: None,
            last_index: None,
            commit_index: None,
            applied_index: None,
            snapshot_index: None,
            lag_entries: None,
            lag_bytes: None,
            disk: None,
            damage: None,
            health: problem,
        }
    }

    /// Adds what others know of the member.
    fn complete(&mut self, known: Option<&PeerReport>, leader: Option<&MemberReport>) {
        self.votes = known.map(|peer| peer.votes);
        self.peer = known.and_then(|peer| peer.peer.clone());
        self.lag_entries = known.and_then(|peer| peer.lag_entries);
        self.lag_bytes = known.and_then(|peer| peer.lag_bytes);
        if let (Some(leader), Some(applied)) = (leader, self.applied_index)
            && self.snapshot_index.is_some_and(|index| applied < index)
        {
            // The leader counts what the member has stored.
            let lacks = leader.last_index.saturating_sub(applied);
            self.lag_entries = self.lag_entries.max(Some(lacks));
        }
        // One that waits for the others says so itself: nobody can know it before they have met.
        let takes_part = !matches!(
            self.role,
            MemberRole::Unreachable | MemberRole::Damaged | MemberRole::Waiting
        );
        if known.is_none() && takes_part {
            "not in the group".clone_into(&mut self.health);
        }
        let deposed = |leader: &MemberReport| leader.member != self.name;
        if self.role == MemberRole::Leader && leader.is_some_and(deposed) {
            self.role = MemberRole::Follower;
            "was deposed and has not heard of it yet".clone_into(&mut self.health);
        }
    }
}

impl fmt::Display for FleetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [
            "group",
            "member",
            "role",
            "term",
            "last",
            "commit",
            "applied",
            "snapshot",
            "lag",
            "lag bytes",
            "disk",
            "free",
            "health",
        ]
        .map(str::to_owned);
        let groups = self.groups.iter();
        let rows = groups.flat_map(|group| group.members.iter().map(|row| row.cells(group.group)));
        let table: Vec<_> = std::iter::once(header).chain(rows).collect();
        let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; COLUMNS] = std::array::from_fn(width);
        for row in &table {
            let cells = row.iter().zip(widths);
            let line = cells.map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", line.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        for group in &self.groups {
            group.write_leader(f)?;
        }
        for Unknown { admin, problem } in &self.unknown {
            writeln!(f, "{admin}: {problem}")?;
        }
        Ok(())
    }
}

impl GroupStatus {
    fn write_leader(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.leader_since_ms, self.asked_leader()) {
            (Some(since), Some(MemberRow { name, .. })) => {
                writeln!(f, "group {}: {name} leads since {}", self.group, utc(since))
            }
            (None, Some(_)) => Ok(()),
            (_, None) => writeln!(f, "{}", self.leader_line()),
        }
    }

    /// The leader, if it was asked itself.
    fn asked_leader(&self) -> Option<&MemberRow> {
        let leads = |row: &&MemberRow| Some(&row.name) == self.leader.as_ref();
        let row = self.members.iter().find(leads)?;
        row.admin.is_some().then_some(row)
    }

    /// Why no leader was asked.
    fn leader_line(&self) -> String {
        let number = self.group;
        if let Some(name) = &self.leader {
            return format!(
                "group {number}: {name} leads, say the others, and was not asked: say its admin port, too, with --admin HOST:PORT"
            );
        }
        let mut members = self.members.iter();
        match members.find(|row| row.role == MemberRole::Leader) {
            Some(MemberRow { name, health, .. }) => {
                format!("group {number} has no leader that serves: {name} {health}")
            }
            None => format!("group {number} has no leader"),
        }
    }
}

impl MemberRow {
    fn cells(&self, group: u8) -> [String; COLUMNS] {
        let number =
            |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let bytes = |read: fn(&DiskReport) -> u64| {
            let bytes = self.disk.as_ref().map(read);
            bytes.map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20))
        };
        let free = match &self.disk {
            Some(disk) if disk.full => "full".to_owned(),
            _ => bytes(|disk| disk.free_bytes),
        };
        [
            group.to_string(),
            self.name.clone(),
            role(self.role).to_owned(),
            number(self.term),
            number(self.last_index),
            number(self.commit_index),
            number(self.applied_index),
            number(self.snapshot_index),
            number(self.lag_entries),
            number(self.lag_bytes),
            bytes(|disk| disk.used_bytes),
            free,
            self.health.clone(),
        ]
    }
}

/// A time as people read it: `2026-01-31 23:59:59 UTC`.
fn utc(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let (mut year, mut left) = (1970, days);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < len {
            break;
        }
        left -= len;
        month += 1;
    }
    (year, month, left + 1)
}

fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Leader => "leader",
        MemberRole::Candidate => "candidate",
        MemberRole::Follower => "follower",
        MemberRole::Learner => "learner",
        MemberRole::Waiting => "waiting",
        MemberRole::Damaged => "damaged",
        MemberRole::Unreachable => "unreachable",
    }
}

#[cfg(test)]
mod tests;
