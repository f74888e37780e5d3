//! Who is cut from whom within a group, and in which direction.

use std::time::{Duration, Instant};

use crate::net::Host;

/// A way in which packets between members are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// What is said of it.
    pub(crate) name: &'static str,
    /// What one end sends is lost, and what the other end does.
    ways: (bool, bool),
    ends: Ends,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ends {
    LeaderAndOne,
    LeaderAndBoth,
    FollowerAndBoth,
}

/// All kinds, in the order in which they are made.
pub(crate) const KINDS: [Kind; 7] = [
    kind("leader <-x-> both", (true, true), Ends::LeaderAndBoth),
    kind("leader <-x-> follower", (true, true), Ends::LeaderAndOne),
    kind("leader --x-> both", (true, false), Ends::LeaderAndBoth),
    kind("leader --x-> follower", (true, false), Ends::LeaderAndOne),
    kind("leader <-x-- both", (false, true), Ends::LeaderAndBoth),
    kind("leader <-x-- follower", (false, true), Ends::LeaderAndOne),
    kind("follower <-x-> both", (true, true), Ends::FollowerAndBoth),
];

const fn kind(name: &'static str, ways: (bool, bool), ends: Ends) -> Kind {
    Kind { name, ways, ends }
}

/// Packets are lost from its making until [`Cut::heal`].
pub(crate) struct Cut {
    hosts: Vec<Host>,
    pub(crate) since: Instant,
    lost_before: u64,
}

impl Cut {
    /// From now on packets are lost. The leader comes first in `members`.
    pub(crate) fn begin(kind: Kind, members: &[Host]) -> Self {
        let pairs: &[(usize, usize)] = match kind.ends {
            Ends::LeaderAndOne => &[(0, 1)],
            Ends::LeaderAndBoth => &[(0, 1), (0, 2)],
            Ends::FollowerAndBoth => &[(0, 1), (1, 2)],
        };
        let lost_before = members.iter().map(Host::lost).sum();
        let since = Instant::now();
        for (one, other) in pairs
            .iter()
            .map(|(one, other)| (&members[*one], &members[*other]))
        {
            if kind.ways.0 {
                other.lose_from(one);
            }
            if kind.ways.1 {
                one.lose_from(other);
            }
        }
        Self {
            hosts: members.to_vec(),
            since,
            lost_before,
        }
    }

    /// Nothing is lost any more. How long it lasted, and how many packets were lost.
    pub(crate) fn heal(self) -> (Duration, u64) {
        self.hosts.iter().for_each(Host::lose_nothing);
        let lost: u64 = self.hosts.iter().map(Host::lost).sum();
        (self.since.elapsed(), lost - self.lost_before)
    }
}
