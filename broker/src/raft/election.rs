//! When a member holds an election. Pure.
//!
//! Openraft would draw one waiting time per process and look at it in steps of its heartbeat. Two members that drew alike
//! would then split the votes for ever. Here each wait is drawn anew, to the millisecond.
//!
//! Invariant: a member does not vote for itself before [`ELECTION_MAX`] after it has last heard a leader; the leader's
//! lease counts on that.

use super::limits::{ELECTION_DRAW_MAX, ELECTION_DRAW_MIN, ELECTION_MAX};
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
}

impl Election {
    /// A member that starts, and may have made promises up to then.
    pub(super) fn new(promised_until: Instant, random: &mut impl RngCore) -> Self {
        Self {
            promised_until,
            due: promised_until + draw(random),
            is_behind: false,
            held: 0,
        }
    }

    /// When it is to be held, unless something comes between.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A leader was heard, or this member leads.
    pub(super) fn heard(&mut self, now: Instant, random: &mut impl RngCore) {
        let held = self.held;
        *self = Self {
            held,
            ..Self::new(now + ELECTION_MAX, random)
        };
    }

    /// How many elections were held.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// A leader was heard, by a call that came when so many elections had been held. `false`: another one was held since,
    /// so this member promises that leader nothing.
    pub(super) fn heard_since(
        &mut self,
        held: u64,
        now: Instant,
        random: &mut impl RngCore,
    ) -> bool {
        if self.held != held {
            return false;
        }
        self.heard(now, random);
        true
    }

    /// This member has voted for another, which needs time to win; or it cannot lead now.
    pub(super) fn put_off(&mut self, now: Instant, random: &mut impl RngCore) {
        self.due = self.promised_until.max(now) + draw(random);
    }

    /// Another member has entries that this one lacks.
    pub(super) fn is_behind(&mut self) {
        self.is_behind = true;
    }

    /// Whether the election is held now; the next one is later.
    pub(super) fn hold(&mut self, now: Instant, random: &mut impl RngCore) -> bool {
        if now < self.due {
            return false;
        }
        self.held += 1;
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
        assert!(!election.heard_since(before, due, &mut random()));
        assert_eq!(election.due(), next, "it goes on");
        assert!(election.heard_since(election.held(), due, &mut random()));
        assert!(election.due() >= due + ELECTION_MAX);
        assert!(
            election.heard_since(before + 1, due, &mut random()),
            "still"
        );
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
