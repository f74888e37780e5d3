//! The members of a group in a cluster file.

use crate::topology::reader::{Reader, Table};
use crate::topology::{GroupMembers, HostPort, MEMBERS_MAX, Member, NodeName};

/// Reads the members of one group; `earlier` are the groups above it. Complete only if the reader stays clean.
pub(super) fn read(
    reader: &mut Reader<'_>,
    group: &Table<'_>,
    earlier: &[GroupMembers],
) -> Vec<Member> {
    let tables = reader.tables(group, "member");
    check_count(reader, group, tables.len());
    let mut members: Vec<Member> = Vec::new();
    for table in &tables {
        reader.only(table, &["name", "link", "peer"]);
        let name = reader.required::<NodeName>(table, "name");
        let link = reader.required::<HostPort>(table, "link");
        let peer = reader.optional::<HostPort>(table, "peer");
        if table.get("peer").is_none() && tables.len() > 1 {
            let count = tables.len();
            let problem = format!(
                "group.member.peer is missing: the group has {count} members, and each needs an address where the \
                 others reach it"
            );
            reader.complain(&table.span, problem);
        }
        let (Some(name), Some(link)) = (name, link) else {
            continue;
        };
        let member = Member { name, link, peer };
        let others = earlier.iter().flat_map(|group| &group.members);
        if let Some(problem) = twice(&member, others.chain(&members)) {
            reader.complain(&table.span, format!("group.member.{problem}"));
        }
        members.push(member);
    }
    members
}

/// An even number bears no more failures than one fewer, and no group begins with one. But in the file of a broker that
/// is to be added to a group it stands beside the others.
fn check_count(reader: &mut Reader<'_>, group: &Table<'_>, count: usize) {
    if count == 0 {
        let problem = "group.member is missing: give each broker of the group as [[group.member]]";
        reader.complain(&group.span, problem);
    } else if count > MEMBERS_MAX {
        let problem = format!(
            "group.member: the group has {count} members; a group begins with 1, 3 or 5, of which none, one or two may \
             fail at the same time"
        );
        reader.complain(&group.span, problem);
    }
}

/// What of a member is another's already.
fn twice<'m>(member: &Member, mut others: impl Iterator<Item = &'m Member>) -> Option<String> {
    if member.peer.as_ref() == Some(&member.link) {
        return Some(format!("peer = \"{}\": it is its link too", member.link));
    }
    let taken = |other: &Member, address: &HostPort| other.addresses().any(|it| it == address);
    let what = others.find_map(|other| {
        if other.name == member.name {
            return Some(format!("name = \"{}\"", member.name));
        }
        if taken(other, &member.link) {
            return Some(format!("link = \"{}\"", member.link));
        }
        let peer = member.peer.as_ref().filter(|peer| taken(other, peer))?;
        Some(format!("peer = \"{peer}\""))
    })?;
    Some(format!("{what}: another member has it already"))
}
