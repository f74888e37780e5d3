//! What a node keeps of the fleet: the last slot table and member list it knew.
//!
//! The text is versioned and ends with a check of itself, so a torn or damaged one is seen. A node writes it whole
//! into a new file and renames that, so a crash leaves the old or the new one.

use super::change::FILE_VERSION;
use super::{ClusterFile, FixedHash, GroupMembers, HostPort, Member, NodeName};
use crate::ring::GroupWeight;
use crate::slots::{GroupNo, SLOT_COUNT, SlotTable};
use std::fmt::Write as _;
use xxhash_rust::xxh3::xxh3_64;

/// Slots written on one line.
const SLOTS_A_LINE: usize = 64;

const FIRST_LINE: &str = "mqtt-fleet topology 2";
/// Of the version before, which knew no members with peers. Such a text is read too.
const FIRST_LINE_WITHOUT_PEERS: &str = "mqtt-fleet topology 1";

/// The fleet as a node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Name of the fleet.
    pub cluster_id: String,
    /// Hash of its fixed part.
    pub fixed: FixedHash,
    /// Which group has which slot.
    pub table: SlotTable,
    /// Counts the changes of `groups`.
    pub members_version: u64,
    /// Groups with members and addresses, by ascending number.
    pub groups: Vec<GroupMembers>,
}

/// Why a node cannot start with what it kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// It belongs to another fleet, or the fixed part was edited.
    #[error(
        "it belongs to fleet \"{kept_id}\" with fixed part {kept}, the cluster file is of fleet \"{id}\" with fixed \
         part {fixed}; the fixed part ([cluster] and [routing]) can never change: undo the change, or begin a new \
         fleet with an empty folder"
    )]
    OtherFleet {
        /// Kept: the fleet.
        kept_id: String,
        /// Kept: its fixed part.
        kept: FixedHash,
        /// In the cluster file: the fleet.
        id: String,
        /// In the cluster file: its fixed part.
        fixed: FixedHash,
    },
    /// The groups of the cluster file would give another table than the one in use.
    #[error(
        "by it {kept_groups} has the slots, by the cluster file {groups}: topics would lose the messages they have; \
         undo the change of the groups, or begin a new fleet with an empty folder"
    )]
    OtherSlots {
        /// Kept: groups with slots.
        kept_groups: String,
        /// In the cluster file: groups.
        groups: String,
    },
    /// A group has slots and no members.
    #[error("group {0} has slots, but nobody is in it")]
    NoMembers(u8),
}

/// Why a kept text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// Not made by this program, or by a newer one.
    #[error("it does not begin with \"{FIRST_LINE}\": it is of another version, or something else")]
    Version,
    /// Its check fails.
    #[error("it is damaged: its check does not fit its content")]
    Damaged,
    /// A line is not what it has to be.
    #[error("line {0} is not what it has to be")]
    Line(usize),
}

impl Topology {
    /// The topology a new fleet begins with.
    pub fn first(file: &ClusterFile) -> Self {
        Self {
            cluster_id: file.fixed.cluster_id.clone(),
            fixed: file.fixed.hash(),
            table: file.first_table(FILE_VERSION),
            members_version: FILE_VERSION,
            groups: file.groups.clone(),
        }
    }

    /// The topology to start with, from the cluster file and what was kept.
    ///
    /// What group 0's log has counts more than the file, which only seeds a new fleet. Until the node has heard of
    /// that, addresses are taken from the file, so that they can be edited there; slots never are.
    pub fn resume(file: &ClusterFile, kept: Option<Self>) -> Result<Self, TopologyError> {
        let first = Self::first(file);
        let Some(kept) = kept else {
            return Ok(first);
        };
        if kept.fixed != first.fixed || kept.cluster_id != first.cluster_id {
            return Err(TopologyError::OtherFleet {
                kept_id: kept.cluster_id,
                kept: kept.fixed,
                id: first.cluster_id,
                fixed: first.fixed,
            });
        }
        if kept.table.version() == FILE_VERSION && kept.table != first.table {
            return Err(TopologyError::OtherSlots {
                kept_groups: holders(&kept.table),
                groups: holders(&first.table),
            });
        }
        let groups = if kept.is_from_file() {
            first.groups
        } else {
            kept.groups.clone()
        };
        let topology = Self { groups, ..kept };
        if let Some(empty) = topology.group_without_members() {
            return Err(TopologyError::NoMembers(empty.0));
        }
        Ok(topology)
    }

    fn group_without_members(&self) -> Option<GroupNo> {
        let counts = self.table.slot_counts();
        let holders = (0..GroupNo::MAX).filter(|group| counts[usize::from(*group)] > 0);
        let known = |group: GroupNo| self.groups.iter().any(|g| g.weight.group == group);
        holders.map(GroupNo).find(|group| !known(*group))
    }

    /// The members of a group; none if there is no such group.
    pub fn members(&self, group: GroupNo) -> &[Member] {
        let found = self.groups.iter().find(|g| g.weight.group == group);
        found.map_or(&[], |group| &group.members)
    }

    /// The text to keep.
    pub fn write(&self) -> String {
        let mut text = format!(
            "{FIRST_LINE}\ncluster {}\nfixed {}\n",
            self.cluster_id, self.fixed
        );
        let mut line = |content: std::fmt::Arguments<'_>| {
            text.write_fmt(content)
                .expect("writing to a String cannot fail");
        };
        line(format_args!("table {}\n", self.table.version()));
        for slots in self.table.groups().chunks(SLOTS_A_LINE) {
            line(format_args!("slots "));
            for group in slots {
                line(format_args!("{:02x}", group.0));
            }
            line(format_args!("\n"));
        }
        line(format_args!("members {}\n", self.members_version));
        for GroupMembers { weight, members } in &self.groups {
            line(format_args!("group {} {}\n", weight.group.0, weight.weight));
            for member in members {
                line(format_args!("member {} {}", member.name, member.link));
                match &member.peer {
                    Some(peer) => line(format_args!(" {peer}\n")),
                    None => line(format_args!("\n")),
                }
            }
        }
        let check = xxh3_64(text.as_bytes());
        writeln!(text, "check {check:016x}").expect("writing to a String cannot fail");
        text
    }

    /// Reads what [`Topology::write`] wrote, also what it wrote before there were peers.
    pub fn read(text: &str) -> Result<Self, KeptError> {
        let known = [FIRST_LINE, FIRST_LINE_WITHOUT_PEERS].map(Some);
        if !known.contains(&text.lines().next()) {
            return Err(KeptError::Version);
        }
        let content = text.strip_suffix('\n').and_then(|text| {
            let (content, check) = text.rsplit_once("\ncheck ")?;
            let content = &text[..=content.len()];
            let fits = format!("{:016x}", xxh3_64(content.as_bytes())) == check;
            fits.then_some(content)
        });
        let mut lines = Lines {
            lines: content.ok_or(KeptError::Damaged)?.lines(),
            number: 0,
        };
        lines.next();
        lines.topology()
    }
}

/// The groups that hold slots, for a sentence.
fn holders(table: &SlotTable) -> String {
    let counts = table.slot_counts();
    let groups = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let names: Vec<_> = groups.map(|(group, _)| format!("group {group}")).collect();
    names.join(", ")
}

struct Lines<'t> {
    lines: std::str::Lines<'t>,
    number: usize,
}

impl<'t> Lines<'t> {
    fn next(&mut self) -> Option<&'t str> {
        self.number += 1;
        self.lines.next()
    }

    /// The rest of the next line, which begins with `word`.
    fn after(&mut self, word: &str) -> Result<&'t str, KeptError> {
        let line = self.next().and_then(|line| line.strip_prefix(word));
        let rest = line.and_then(|line| line.strip_prefix(' '));
        rest.ok_or(KeptError::Line(self.number))
    }

    fn parsed<T: std::str::FromStr>(&self, text: &str) -> Result<T, KeptError> {
        text.parse().map_err(|_| KeptError::Line(self.number))
    }

    fn topology(&mut self) -> Result<Topology, KeptError> {
        let id = self.after("cluster")?;
        let cluster_id = self.parsed::<NodeName>(id)?.as_str().to_owned();
        let fixed = self.after("fixed")?;
        let fixed = self.parsed(fixed)?;
        let version = self.after("table")?;
        let version = self.parsed(version)?;
        let table = self.table(version)?;
        let members_version = self.after("members")?;
        let members_version = self.parsed(members_version)?;
        let groups = self.groups()?;
        Ok(Topology {
            cluster_id,
            fixed,
            table,
            members_version,
            groups,
        })
    }

    fn table(&mut self, version: u64) -> Result<SlotTable, KeptError> {
        let mut groups = Vec::with_capacity(usize::from(SLOT_COUNT));
        while groups.len() < usize::from(SLOT_COUNT) {
            let digits = self.after("slots")?.as_bytes();
            if digits.len() != 2 * SLOTS_A_LINE {
                return Err(KeptError::Line(self.number));
            }
            for pair in digits.chunks(2) {
                let number = std::str::from_utf8(pair).ok();
                let number = number.and_then(|pair| u8::from_str_radix(pair, 16).ok());
                groups.push(GroupNo(number.ok_or(KeptError::Line(self.number))?));
            }
        }
        SlotTable::new(version, groups).ok_or(KeptError::Line(self.number))
    }

    fn groups(&mut self) -> Result<Vec<GroupMembers>, KeptError> {
        let mut groups: Vec<GroupMembers> = Vec::new();
        while let Some(line) = self.next() {
            let words: Vec<_> = line.split(' ').collect();
            match (words.as_slice(), groups.last_mut()) {
                (["group", number, weight], _) => {
                    let weight = GroupWeight {
                        group: GroupNo(self.parsed(number)?),
                        weight: self.parsed(weight)?,
                    };
                    groups.push(GroupMembers {
                        weight,
                        members: Vec::new(),
                    });
                }
                (["member", name, link, peer @ ..], Some(group)) if peer.len() <= 1 => {
                    let peer = peer.first().map(|peer| self.parsed::<HostPort>(peer));
                    group.members.push(Member {
                        name: self.parsed::<NodeName>(name)?,
                        link: self.parsed::<HostPort>(link)?,
                        peer: peer.transpose()?,
                    });
                }
                _ => return Err(KeptError::Line(self.number)),
            }
        }
        Ok(groups)
    }
}

#[cfg(test)]
mod tests;
