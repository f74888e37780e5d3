//! Which messages each member of each group has stored, found in the bytes of its disk and nowhere else.

use std::collections::BTreeSet;

/// Stands before a message's number in its payload.
const MARK: [u8; 6] = *b"\x01sim:\x02";

/// A payload that carries a number, and is as long as asked if that is longer.
pub(crate) fn payload(number: u32, bytes: usize) -> Vec<u8> {
    let mut payload = MARK.to_vec();
    payload.extend_from_slice(&number.to_le_bytes());
    payload.resize(bytes.max(payload.len()), b'.');
    payload
}

/// The number that a payload carries.
pub(crate) fn number_in(payload: &[u8]) -> Option<u32> {
    let rest = payload.strip_prefix(&MARK)?;
    Some(u32::from_le_bytes(rest.get(..4)?.try_into().ok()?))
}

/// All numbers in some bytes.
pub(crate) fn numbers_in(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let starts = (0..bytes.len().saturating_sub(MARK.len() + 3)).filter(|at| bytes[*at] == MARK[0]);
    starts.filter_map(|at| number_in(&bytes[at..]))
}

/// What is known of each group.
#[derive(Debug)]
pub(crate) struct Stored(Vec<Group>);

#[derive(Debug)]
struct Group {
    /// By member, also of those that are not in the group now.
    members: Vec<BTreeSet<u32>>,
    /// So many have a vote at least.
    voters: usize,
    /// Of those so many have lost what they had stored, and have not been replaced yet.
    lacks: usize,
}

impl Stored {
    /// `members`: how many may come to be in each group; `voters`: how many it begins with.
    pub(crate) fn new(members: &[usize], voters: &[usize]) -> Self {
        let group = |(members, voters): (&usize, &usize)| Group {
            members: vec![BTreeSet::new(); *members],
            voters: *voters,
            lacks: 0,
        };
        Self(members.iter().zip(voters).map(group).collect())
    }

    /// So many members of the group have a vote from now on, at least.
    pub(crate) fn voters(&mut self, group: usize, voters: usize) {
        self.0[group].voters = voters;
    }

    /// So many of them have an empty disk.
    pub(crate) fn lacks(&mut self, group: usize, lacks: usize) {
        self.0[group].lacks = lacks;
    }

    /// A member's disk has these bytes for good.
    pub(crate) fn stores(&mut self, (group, member): (usize, usize), bytes: &[u8]) {
        self.0[group].members[member].extend(numbers_in(bytes));
    }

    /// A member's disk has nothing any more.
    pub(crate) fn forgets(&mut self, (group, member): (usize, usize)) {
        self.0[group].members[member].clear();
    }

    /// How many members of the group have a message, or may have had it until they lost their disk, and how many of them
    /// have a vote.
    pub(crate) fn members_with(&self, group: usize, number: u32) -> (usize, usize) {
        let group = &self.0[group];
        let have = group.members.iter().filter(|it| it.contains(&number));
        (have.count() + group.lacks, group.voters)
    }
}
