//! How long a leader may be sure that no other leads. Pure.
//!
//! A follower that hears its leader at a time t votes for no other until t + [`ELECTION_MAX`](super::limits::ELECTION_MAX), and t is not before the
//! leader has sent the call. So if a quorum has answered calls that were sent at or after t, no other leader can be
//! elected before t + [`ELECTION_MAX`](super::limits::ELECTION_MAX): it would need the vote of one of them. The one exception
//! is a leader that gives way, and has no lease any more when it does (`handover`).

use super::limits::{CALL, LEASE, SPACE_KNOWN};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What a member knows of the promises it has got.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease {
    own: u64,
    /// Each of these sets must have a majority: two while the membership changes.
    voters: Vec<BTreeSet<u64>>,
    term: u64,
    /// When the last answered call to each member was sent.
    heard: BTreeMap<u64, Instant>,
    /// Members whose disks are full, by what they last said, and when.
    full: BTreeMap<u64, Instant>,
}

impl Lease {
    /// It takes part, with this id.
    pub(super) fn born(&mut self, own: u64) {
        self.own = own;
    }

    /// The group votes like this from now on.
    pub(super) fn voters(&mut self, voters: Vec<BTreeSet<u64>>) {
        self.voters = voters;
    }

    /// Whether this member has a vote.
    pub(super) fn is_voter(&self, member: u64) -> bool {
        self.voters.iter().any(|voters| voters.contains(&member))
    }

    /// It leads in this term; what was promised in an earlier one is void.
    pub(super) fn begin(&mut self, term: u64) {
        self.term = term;
        self.heard.clear();
        self.full.clear();
    }

    /// A call in `term` that was sent at `sent` has been answered.
    pub(super) fn heard(&mut self, term: u64, member: u64, sent: Instant) {
        if term == self.term {
            let heard = self.heard.entry(member).or_insert(sent);
            *heard = sent.max(*heard);
        }
    }

    /// A member says `now` in `term` whether its disk is full, to this one as a leader or a candidate. Whether that is
    /// news.
    pub(super) fn space(&mut self, term: u64, member: u64, full: bool, now: Instant) -> bool {
        term >= self.term
            && if full {
                self.full.insert(member, now).is_none()
            } else {
                self.full.remove(&member).is_some()
            }
    }

    /// Another leads, and knows better who has space.
    pub(super) fn forget_space(&mut self) {
        self.full.clear();
    }

    /// Whether too few members for a majority have space, by what they have said lately.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        let has_space = |id: &&u64| {
            let said = self.full.get(id);
            said.is_none_or(|said| now.saturating_duration_since(*said) > SPACE_KNOWN)
        };
        let lacks =
            |voters: &BTreeSet<u64>| voters.iter().filter(has_space).count() <= voters.len() / 2;
        self.voters.iter().any(lacks)
    }

    /// When the last call to this member was sent that it has answered in this reign.
    pub(super) fn heard_at(&self, member: u64) -> Option<Instant> {
        self.heard.get(&member).copied()
    }

    /// Whether a majority of each set, this one counted in, has answered a call of this reign lately.
    pub(super) fn reaches_majority(&self, now: Instant) -> bool {
        let is_recent = |set| {
            let contact = self.contact(set, now);
            contact.is_some_and(|at| now.saturating_duration_since(at) < CALL)
        };
        !self.voters.is_empty() && self.voters.iter().all(is_recent)
    }

    /// Until when no other can lead; `None`: too few have answered yet.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        let contacts = self.voters.iter().map(|set| self.contact(set, now));
        let oldest = contacts.min()??;
        Some(oldest + LEASE)
    }

    /// The newest time at or after which a majority of these has been called.
    fn contact(&self, voters: &BTreeSet<u64>, now: Instant) -> Option<Instant> {
        let time = |id: &u64| {
            if *id == self.own {
                Some(now)
            } else {
                self.heard.get(id).copied()
            }
        };
        let mut times: Vec<_> = voters.iter().map(time).collect();
        times.sort_unstable_by(|one, other| other.cmp(one));
        times.get(voters.len() / 2).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn lease(sets: &[&[u64]]) -> Lease {
        let mut lease = Lease::default();
        lease.born(1);
        lease.voters(
            sets.iter()
                .map(|ids| ids.iter().copied().collect())
                .collect(),
        );
        lease.begin(5);
        lease
    }

    #[test]
    fn a_majority_of_three_is_the_leader_and_the_one_it_called_last() {
        let start = Instant::now();
        let now = start + ms(100);
        let mut lease = lease(&[&[1, 2, 3]]);
        assert_eq!(lease.until(now), None, "nobody has answered");
        lease.heard(5, 2, start);
        assert_eq!(lease.until(now), Some(start + ms(400)));
        lease.heard(5, 3, start + ms(50));
        assert_eq!(lease.until(now), Some(start + ms(450)));
        lease.heard(5, 3, start + ms(20));
        assert_eq!(
            lease.until(now),
            Some(start + ms(450)),
            "a late answer takes nothing back"
        );
    }

    #[test]
    fn who_votes_in_one_of_the_sets_has_a_vote() {
        let lease = lease(&[&[1, 2], &[2, 3]]);
        let votes: Vec<_> = (0..5).filter(|id| lease.is_voter(*id)).collect();
        assert_eq!(votes, [1, 2, 3]);
    }

    #[test]
    fn it_is_full_when_a_majority_is() {
        let now = Instant::now();
        let mut lease = lease(&[&[1, 2, 3]]);
        assert!(lease.space(5, 2, true, now), "news");
        assert!(!lease.space(5, 2, true, now));
        assert!(!lease.is_full(now), "two of three have space");
        lease.space(4, 3, true, now);
        assert!(!lease.is_full(now), "that was another reign");
        lease.space(5, 3, true, now);
        assert!(lease.is_full(now));
        assert!(lease.space(5, 2, false, now), "news again");
        assert!(!lease.is_full(now));
        assert!(lease.space(6, 2, true, now), "to a candidate");
        assert!(lease.is_full(now));
        lease.forget_space();
        assert!(!lease.is_full(now), "another leads");
    }

    #[test]
    fn what_was_said_of_space_counts_for_a_while() {
        let now = Instant::now();
        let mut lease = lease(&[&[1, 2, 3]]);
        lease.space(5, 2, true, now);
        lease.space(5, 3, true, now);
        assert!(lease.is_full(now + SPACE_KNOWN));
        assert!(
            !lease.is_full(now + SPACE_KNOWN + ms(1)),
            "it may have some"
        );
        lease.space(5, 2, true, now + ms(500));
        lease.space(5, 3, true, now + ms(500));
        assert!(lease.is_full(now + SPACE_KNOWN + ms(500)), "said again");
    }

    #[test]
    fn a_majority_is_reached_as_long_as_it_has_answered_lately() {
        let start = Instant::now();
        let mut lease = lease(&[&[1, 2, 3], &[1, 3, 4]]);
        assert!(!lease.reaches_majority(start), "nobody has answered");
        lease.heard(5, 2, start);
        assert!(!lease.reaches_majority(start), "nobody of the other set");
        lease.heard(5, 4, start + ms(10));
        assert!(lease.reaches_majority(start + LEASE + ms(100)));
        assert!(!lease.reaches_majority(start + CALL));
        assert!(!Lease::default().reaches_majority(start), "no group");
    }

    #[test]
    fn of_five_the_third_newest_counts() {
        let start = Instant::now();
        let mut lease = lease(&[&[1, 2, 3, 4, 5]]);
        lease.heard(5, 2, start + ms(30));
        assert_eq!(lease.until(start), None);
        lease.heard(5, 3, start + ms(10));
        lease.heard(5, 4, start);
        assert_eq!(lease.until(start + ms(40)), Some(start + ms(410)));
    }

    #[test]
    fn an_only_voter_is_always_sure() {
        let now = Instant::now();
        assert_eq!(lease(&[&[1]]).until(now), Some(now + ms(400)));
        assert_eq!(lease(&[]).until(now), None, "no membership, no leader");
    }

    #[test]
    fn a_group_that_changes_has_to_answer_in_both_forms() {
        let start = Instant::now();
        let mut lease = lease(&[&[1, 2, 3], &[1, 4, 5]]);
        lease.heard(5, 2, start + ms(90));
        assert_eq!(lease.until(start), None);
        lease.heard(5, 4, start + ms(10));
        assert_eq!(lease.until(start + ms(100)), Some(start + ms(410)));
    }

    #[test]
    fn a_leader_that_is_no_voter_needs_the_others() {
        let start = Instant::now();
        let mut lease = lease(&[&[2, 3, 4]]);
        lease.heard(5, 2, start + ms(9));
        assert_eq!(lease.until(start), None);
        lease.heard(5, 3, start);
        assert_eq!(lease.until(start), Some(start + ms(400)));
    }

    #[test]
    fn what_was_promised_to_an_earlier_reign_is_void() {
        let start = Instant::now();
        let mut lease = lease(&[&[1, 2, 3]]);
        lease.heard(5, 2, start);
        lease.begin(6);
        lease.heard(5, 3, start + ms(1));
        assert_eq!(lease.until(start + ms(2)), None);
    }
}
