//! How the member list changes while a fleet runs: group 0's log takes one change after the other, each a version.

use super::{GroupMembers, HostPort, MEMBERS_LISTED_MAX, Member, NodeName, Topology};
use crate::slots::GroupNo;

/// What a person changes in the member list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A member is reached elsewhere. What is `None` stays as it is.
    Move {
        /// Who.
        name: NodeName,
        /// Where it takes links from now on.
        link: Option<HostPort>,
        /// Where the others of its group reach it from now on.
        peer: Option<HostPort>,
    },
    /// A group has one more member.
    Add {
        /// The group.
        group: GroupNo,
        /// The new member.
        member: Member,
    },
    /// A group has one member less.
    Remove {
        /// Who.
        name: NodeName,
    },
    /// Another member takes a member's place.
    Replace {
        /// Who goes.
        name: NodeName,
        /// Who comes.
        by: Member,
    },
}

/// Why the member list stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// There is no such member.
    #[error("there is no member \"{name}\"; there are: {names}")]
    Unknown {
        /// What was asked for.
        name: NodeName,
        /// Those there are.
        names: String,
    },
    /// There is no such group.
    #[error("there is no group {}; there are: {groups}", group.0)]
    NoGroup {
        /// What was asked for.
        group: GroupNo,
        /// Those there are.
        groups: String,
    },
    /// Another member has the address.
    #[error("{address} is the address of \"{other}\"")]
    Taken {
        /// What was asked for.
        address: HostPort,
        /// Who is there.
        other: NodeName,
    },
    /// Links and peers need an address each.
    #[error(
        "{address} cannot be both where \"{name}\" takes links and where the others of its group reach it"
    )]
    OneForBoth {
        /// Who.
        name: NodeName,
        /// The address.
        address: HostPort,
    },
    /// Another member has the name.
    #[error("there is a member \"{name}\" already, in group {}", group.0)]
    Named {
        /// The name.
        name: NodeName,
        /// Where the other one is.
        group: GroupNo,
    },
    /// The members of a group must reach each other.
    #[error(
        "\"{name}\" of group {} has no address where the other members of its group reach it; say one with --peer",
        group.0
    )]
    NoPeer {
        /// Who.
        name: NodeName,
        /// Its group.
        group: GroupNo,
    },
    /// A group has nobody left.
    #[error("\"{name}\" is the last member of group {}, which has its messages", group.0)]
    Last {
        /// Who.
        name: NodeName,
        /// Its group.
        group: GroupNo,
    },
    /// A group has too many.
    #[error("group {} has {MEMBERS_LISTED_MAX} members, which is the most; remove or replace one", group.0)]
    Full {
        /// The group.
        group: GroupNo,
    },
}

impl Topology {
    /// Changes the member list, and counts that as a version. `false`: the list is so already, as when a change is
    /// asked for again because its answer was lost.
    pub fn change(&mut self, change: &MemberChange) -> Result<bool, MemberError> {
        if self.has(change) {
            return Ok(false);
        }
        let mut groups = self.groups.clone();
        match change {
            MemberChange::Move { name, link, peer } => {
                let (group, at) = self.place(name)?;
                let member = &mut groups[group].members[at];
                if let Some(link) = link {
                    member.link = link.clone();
                }
                member.peer = peer.clone().or(member.peer.take());
            }
            MemberChange::Add { group, member } => {
                self.name_is_free(&member.name)?;
                let found = groups.iter_mut().find(|it| it.weight.group == *group);
                let found = found.ok_or_else(|| self.no_group(*group))?;
                found.members.push(member.clone());
            }
            MemberChange::Remove { name } => {
                let (group, at) = self.place(name)?;
                if groups[group].members.len() == 1 {
                    let (name, group) = (name.clone(), groups[group].weight.group);
                    return Err(MemberError::Last { name, group });
                }
                groups[group].members.remove(at);
            }
            MemberChange::Replace { name, by } => {
                let (group, at) = self.place(name)?;
                if by.name != *name {
                    self.name_is_free(&by.name)?;
                }
                groups[group].members[at] = by.clone();
            }
        }
        groups.iter().try_for_each(check_group)?;
        check_addresses(&groups, change.subject())?;
        self.groups = groups;
        self.members_version += 1;
        Ok(true)
    }

    /// Whether a change would change nothing.
    fn has(&self, change: &MemberChange) -> bool {
        let member = |name: &NodeName| self.member(name).map(|(_, member)| member);
        match change {
            MemberChange::Move { name, link, peer } => member(name).is_some_and(|held| {
                let link = link.as_ref().is_none_or(|link| *link == held.link);
                link && (peer.is_none() || *peer == held.peer)
            }),
            MemberChange::Add { group, member } => {
                self.member(&member.name) == Some((*group, member))
            }
            MemberChange::Remove { .. } => false,
            MemberChange::Replace { name, by } => {
                member(&by.name) == Some(by) && (*name == by.name || member(name).is_none())
            }
        }
    }

    /// Where a member is in the list: its group, and its place in that.
    fn place(&self, name: &NodeName) -> Result<(usize, usize), MemberError> {
        let mut groups = self.groups.iter().enumerate();
        let place = groups.find_map(|(at, group)| {
            let found = group.members.iter().position(|it| it.name == *name)?;
            Some((at, found))
        });
        place.ok_or_else(|| {
            let members = self.groups.iter().flat_map(|group| &group.members);
            let names: Vec<_> = members.map(|member| member.name.as_str()).collect();
            let (name, names) = (name.clone(), names.join(", "));
            MemberError::Unknown { name, names }
        })
    }

    fn name_is_free(&self, name: &NodeName) -> Result<(), MemberError> {
        match self.member(name) {
            None => Ok(()),
            Some((group, _)) => {
                let name = name.clone();
                Err(MemberError::Named { name, group })
            }
        }
    }

    fn no_group(&self, group: GroupNo) -> MemberError {
        let numbers = self.groups.iter().map(|it| it.weight.group.0.to_string());
        let groups = numbers.collect::<Vec<_>>().join(", ");
        MemberError::NoGroup { group, groups }
    }
}

impl MemberChange {
    /// Whose addresses are new; `None`: nobody's.
    fn subject(&self) -> Option<&NodeName> {
        match self {
            Self::Move { name, .. } => Some(name),
            Self::Add { member, .. } | Self::Replace { by: member, .. } => Some(&member.name),
            Self::Remove { .. } => None,
        }
    }
}

fn check_group(held: &GroupMembers) -> Result<(), MemberError> {
    let group = held.weight.group;
    if held.members.len() > MEMBERS_LISTED_MAX {
        return Err(MemberError::Full { group });
    }
    let alone = held.members.len() == 1;
    match held.members.iter().find(|member| member.peer.is_none()) {
        Some(member) if !alone => {
            let name = member.name.clone();
            Err(MemberError::NoPeer { name, group })
        }
        _ => Ok(()),
    }
}

/// Whether nobody else has the addresses of the member whose addresses are new.
fn check_addresses(groups: &[GroupMembers], subject: Option<&NodeName>) -> Result<(), MemberError> {
    let members = || groups.iter().flat_map(|group| &group.members);
    let Some(member) = members().find(|member| Some(&member.name) == subject) else {
        return Ok(());
    };
    if member.peer.as_ref() == Some(&member.link) {
        let (name, address) = (member.name.clone(), member.link.clone());
        return Err(MemberError::OneForBoth { name, address });
    }
    for other in members().filter(|other| other.name != member.name) {
        let taken = |address: &&HostPort| other.addresses().any(|it| it == *address);
        if let Some(address) = member.addresses().find(taken) {
            let (address, other) = (address.clone(), other.name.clone());
            return Err(MemberError::Taken { address, other });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
