//! When a member holds an election. Pure.
//!
//! Openraft would draw one waiting time per process and look at it in steps of its heartbeat. Two members that drew alike
//! would then split the votes for ever. Here each wait is drawn anew, to the millisecond.
//!
//! Invariant: a member does not vote for itself before [`ELECTION_MAX`] after it has last heard a leader, unless that leader
//! has given way and asked for it (`handover`); the leader's lease counts on that.

use super::limits::{ELECTION_DRAW_MAX, ELECTION_DRAW_MIN, ELECTION_MAX, LEADER_UNKNOWN};
use rand_core::RngCore;
use std::time::Duration;
use tokio::time::Instant;

/// A member's next election.
#[derive(Clone, Copy, Debug)]
pub(super) struct Election {
    /// It votes for nobody before.
    promised_until: Instant,
    due: Instant,
    /// Another has entries that this one lacks: it should be elected instead.
    is_behind: bool,
    /// Elections that were held.
    held: u64,
    /// The term of the leader that was heard last.
    leader_term: Option<u64>,
    /// The leader of this term has given way, and asked this member to lead.
    asked_in: Option<u64>,
    /// It was due in vain, and no leader was heard since.
    is_lost: bool,
}

impl Election {
    /// A member that starts, and may have made promises up to then.
    pub(super) fn new(promised_until: Instant, random: &mut impl RngCore) -> Self {
        Self {
            promised_until,
            due: promised_until + draw(random),
            is_behind: false,
            held: 0,
            leader_term: None,
            asked_in: None,
            is_lost: false,
        }
    }

    /// When it is to be held, unless something comes between.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether it has heard a leader so lately that it votes for nobody.
    pub(super) fn has_promised(&self, now: Instant) -> bool {
        now < self.promised_until
    }

    /// Whether it is to be held now, if a majority would vote for this member.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// A leader was heard.
    pub(super) fn heard(&mut self, now: Instant, random: &mut impl RngCore) {
        self.promised_until = now + ELECTION_MAX;
        self.is_behind = false;
        self.is_lost = false;
        self.put_off(now, random);
    }

    /// Whether it has heard a leader lately, as far as people want to know.
    pub(super) fn has_heard(&self, now: Instant) -> bool {
        now < self.promised_until + LEADER_UNKNOWN
    }

    /// How many elections were held.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// The leader of `term` was heard, by a call that came when so many elections had been held. `false`: another one was
    /// held since, so this member promises that leader nothing.
    pub(super) fn heard_since(
        &mut self,
        held: u64,
        term: u64,
        now: Instant,
        random: &mut impl RngCore,
    ) -> bool {
        if self.held != held {
            return false;
        }
        self.heard(now, random);
        self.leader_term = self.leader_term.max(Some(term));
        true
    }

    /// The leader of `term` has given way and asks this member to lead: the election is held now. `false`: it is not, as
    /// that is not the leader that was heard last, or has asked before.
    pub(super) fn asked(&mut self, term: u64, now: Instant, random: &mut impl RngCore) -> bool {
        if self.leader_term != Some(term) || self.asked_in == Some(term) {
            return false;
        }
        self.asked_in = Some(term);
        self.promised_until = now;
        self.due = now;
        self.hold(now, random)
    }

    /// Whether the leader before a reign of this term has given way, and has told this member so.
    pub(super) fn is_given_way_to(&self, term: u64) -> bool {
        self.asked_in.is_some_and(|asked| asked + 1 == term)
    }

    /// This member has voted for another, which needs time to win; or it leads, or cannot lead now; or a leader sends it a
    /// snapshot, and nothing else meanwhile.
    pub(super) fn put_off(&mut self, now: Instant, random: &mut impl RngCore) {
        self.due = self.promised_until.max(now) + draw(random);
    }

    /// Too few would have voted for this member.
    pub(super) fn lost(&mut self, now: Instant, random: &mut impl RngCore) {
        self.is_lost = true;
        self.put_off(now, random);
    }

    /// Whether it has been due in vain since a leader was heard.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Another member has entries that this one lacks.
    pub(super) fn is_behind(&mut self) {
        self.is_behind = true;
    }

    /// Whether the election is held now; the next one is later.
    pub(super) fn hold(&mut self, now: Instant, random: &mut impl RngCore) -> bool {
        if !self.is_due(now) {
            return false;
        }
        self.held += 1;
        self.is_lost = false;
        self.due = now + draw(random);
        if self.is_behind {
            self.due += ELECTION_DRAW_MAX;
            self.is_behind = false;
        }
        true
    }
}

fn draw(random: &mut impl RngCore) -> Duration {
    let spread = (ELECTION_DRAW_MAX.as_millis() - ELECTION_DRAW_MIN.as_millis()) as u64;
    ELECTION_DRAW_MIN + Duration::from_millis(random.next_u64() % spread)
}

#[cfg(test)]
mod tests {
    use super::super::config::{random, seed};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_has_heard_a_leader_keeps_its_promise_and_then_waits_a_little() {
        seed(1);
        let start = Instant::now();
        let mut election = Election::new(start, &mut random());
        for at in 0..100 {
            let now = start + MS * at;
            election.heard(now, &mut random());
            let after = election.due() - (now + ELECTION_MAX);
            assert!((ELECTION_DRAW_MIN..ELECTION_DRAW_MAX).contains(&after));
            election.put_off(now, &mut random());
            assert!(
                election.due() >= now + ELECTION_MAX,
                "a vote ends no promise"
            );
            assert!(!election.hold(now + ELECTION_MAX, &mut random()));
        }
    }

    #[test]
    fn each_wait_is_another_and_longer_for_who_is_behind() {
        seed(2);
        let mut now = Instant::now();
        let mut election = Election::new(now, &mut random());
        let mut waits = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let wait = election.due() - now;
            waits.insert(wait);
            now = election.due();
            assert!(election.hold(now, &mut random()));
            assert!(!election.hold(now, &mut random()), "one at a time");
        }
        assert!(waits.len() > 10, "{waits:?}");
        election.is_behind();
        now = election.due();
        assert!(election.hold(now, &mut random()));
        assert!(election.due() - now >= ELECTION_DRAW_MIN + ELECTION_DRAW_MAX);
    }

    #[test]
    fn who_holds_an_election_promises_nothing_to_who_called_before() {
        seed(4);
        let start = Instant::now();
        let mut election = Election::new(start, &mut random());
        let before = election.held();
        let due = election.due();
        assert!(election.hold(due, &mut random()));
        let next = election.due();
        assert!(!election.heard_since(before, 1, due, &mut random()));
        assert_eq!(election.due(), next, "it goes on");
        assert!(election.heard_since(election.held(), 1, due, &mut random()));
        assert!(election.due() >= due + ELECTION_MAX);
        assert!(
            election.heard_since(before + 1, 1, due, &mut random()),
            "still"
        );
    }

    #[test]
    fn who_is_asked_to_lead_by_the_leader_it_heard_last_does_so_at_once_and_once() {
        seed(5);
        let now = Instant::now();
        let mut election = Election::new(now, &mut random());
        assert!(!election.asked(7, now, &mut random()), "none was heard");
        assert!(election.heard_since(0, 7, now, &mut random()));
        assert!(!election.asked(6, now, &mut random()), "an earlier one");
        assert!(!election.asked(8, now, &mut random()), "it was not heard");
        assert!(!election.is_given_way_to(8));
        assert!(election.asked(7, now, &mut random()));
        assert_eq!(election.held(), 1);
        assert!(election.due() > now, "the next one is later");
        let given_way = [7, 8, 9].map(|term| election.is_given_way_to(term));
        assert_eq!(given_way, [false, true, false]);
        assert!(!election.asked(7, now, &mut random()), "the same call");
        assert!(!election.heard_since(0, 7, now, &mut random()));
    }

    #[test]
    fn who_has_promised_a_later_leader_something_is_not_asked_by_an_earlier_one() {
        seed(6);
        let now = Instant::now();
        let mut election = Election::new(now, &mut random());
        for term in [7, 8, 7] {
            assert!(election.heard_since(0, term, now, &mut random()));
        }
        assert!(!election.asked(7, now, &mut random()));
        assert!(election.due() >= now + ELECTION_MAX);
        election.heard(now, &mut random());
        assert!(election.asked(8, now, &mut random()), "that is remembered");
    }

    #[test]
    fn an_election_that_would_be_lost_is_held_later_and_promises_nothing_until_a_leader_is_heard() {
        seed(5);
        let start = Instant::now();
        let mut election = Election::new(start, &mut random());
        let due = election.due();
        assert!(election.has_promised(start - MS) && !election.has_promised(start));
        assert!(!election.is_due(due - MS) && election.is_due(due));
        election.lost(due, &mut random());
        assert!(!election.hold(due, &mut random()));
        assert_eq!(election.held(), 0);
        assert!(election.is_lost() && !election.has_promised(due));
        assert!(election.due() >= due + ELECTION_DRAW_MIN);
        let mut other = election;
        election.heard(due, &mut random());
        assert!(!election.is_lost() && election.has_promised(due));
        assert!(other.hold(other.due(), &mut random()) && !other.is_lost());
    }

    #[test]
    fn two_members_that_meet_once_part_soon() {
        seed(3);
        let start = Instant::now();
        // Both hold elections at the same moment; a vote takes some milliseconds.
        let mut meetings = 0;
        for _ in 0..1_000 {
            let due = || Election::new(start, &mut random()).due();
            let (one, other) = (due(), due());
            let apart = one.max(other) - one.min(other);
            meetings += u32::from(apart < MS * 15);
        }
        assert!(meetings < 200, "{meetings} of 1000 draws are too close");
    }
}
