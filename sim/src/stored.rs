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

/// By group, then member.
#[derive(Debug)]
pub(crate) struct Stored(Vec<Vec<BTreeSet<u32>>>);

impl Stored {
    pub(crate) fn new(groups: &[usize]) -> Self {
        let members = |members: &usize| vec![BTreeSet::new(); *members];
        Self(groups.iter().map(members).collect())
    }

    /// A member's disk has these bytes for good.
    pub(crate) fn stores(&mut self, (group, member): (usize, usize), bytes: &[u8]) {
        self.0[group][member].extend(numbers_in(bytes));
    }

    /// A member's disk has nothing any more.
    pub(crate) fn forgets(&mut self, (group, member): (usize, usize)) {
        self.0[group][member].clear();
    }

    /// How many members of the group have a message, and how many there are.
    pub(crate) fn members_with(&self, group: usize, number: u32) -> (usize, usize) {
        let members = &self.0[group];
        let have = members.iter().filter(|it| it.contains(&number)).count();
        (have, members.len())
    }
}
