//! One client id that several clients fight for: what each may still receive.
//!
//! A connection is *superseded* once another one, whose CONNECT was sent after this one's CONNACK had
//! come, has its own CONNACK. Nothing published from then on may reach it. Where two handshakes
//! overlap in time, nobody outside can tell which is the newer one, and neither supersedes the other.

use super::ledger::Ledger;

/// What a CONNACK meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// There had to be a session, and there was none.
    pub(crate) session_lost: bool,
    /// The session has no subscription yet.
    pub(crate) subscribe: bool,
}

/// What happened to one client id.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    contenders: Vec<Contender>,
    /// CONNECTs and CONNACKs so far.
    moment: u64,
    claims: u64,
    /// The moment since when there must be a session.
    held_since: Option<u64>,
    pub(crate) subscribed: bool,
    pub(crate) sums: Bouts,
}

/// What a fight adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bouts {
    /// Connections superseded while they were still open.
    pub(crate) superseded: u64,
    /// Messages that reached a connection and were published after it had been superseded.
    pub(crate) stale: u64,
    /// Messages out of order on one connection.
    pub(crate) reordered: u64,
}

/// The connection of one of the clients.
#[derive(Debug, Clone, Copy, Default)]
struct Contender {
    connect_at: u64,
    connack_at: Option<u64>,
    /// It may not get messages from this number on.
    barred_from: Option<u64>,
    /// The highest message it got.
    last: Option<u64>,
}

impl Arena {
    /// Nobody is connected; `contenders` will be.
    pub(crate) fn new(contenders: usize) -> Self {
        Self {
            contenders: vec![Contender::default(); contenders],
            ..Self::default()
        }
    }

    /// This one sends CONNECT.
    pub(crate) fn connecting(&mut self, own: usize) {
        self.moment += 1;
        self.claims += 1;
        self.contenders[own] = Contender {
            connect_at: self.moment,
            ..Contender::default()
        };
    }

    /// This one has its CONNACK; the next message to be published is number `next`. An error: a
    /// broker must not send it.
    pub(crate) fn connack(
        &mut self,
        own: usize,
        session_present: bool,
        next: u64,
    ) -> Result<Claimed, &'static str> {
        if session_present && self.claims == 1 {
            return Err("session present for a client that never connected");
        }
        self.moment += 1;
        let connect_at = self.contenders[own].connect_at;
        let held = self.held_since.is_some_and(|since| since < connect_at);
        if !session_present {
            self.subscribed = false;
            self.held_since = Some(self.moment);
        }
        self.held_since.get_or_insert(self.moment);
        for other in &mut self.contenders {
            let older = other.connack_at.is_some_and(|at| at < connect_at);
            if older && other.barred_from.is_none() {
                other.barred_from = Some(next);
                self.sums.superseded += 1;
            }
        }
        self.contenders[own].connack_at = Some(self.moment);
        Ok(Claimed {
            session_lost: held && !session_present,
            subscribe: !self.subscribed,
        })
    }

    /// This one's connection is gone.
    pub(crate) fn lost(&mut self, own: usize) {
        self.contenders[own].connack_at = None;
    }

    /// Message `number` reached this one's connection.
    pub(crate) fn arrived(&mut self, own: usize, number: u64, ledger: &Ledger) {
        let contender = &mut self.contenders[own];
        let barred = contender.barred_from.is_some_and(|from| number >= from);
        self.sums.stale += u64::from(barred);
        let behind = contender.last.is_some_and(|last| number <= last);
        // What its publisher sent twice may come twice, the second time wherever that was.
        self.sums.reordered += u64::from(behind && !ledger.was_sent_again(number));
        contender.last = contender.last.max(Some(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(arena: &mut Arena, own: usize, present: bool, next: u64) -> Claimed {
        arena.connecting(own);
        arena.connack(own, present, next).expect("allowed")
    }

    #[test]
    fn what_is_published_after_the_newer_connack_may_not_reach_the_older_connection() {
        let (mut arena, ledger) = (Arena::new(3), Ledger::new(1));
        connected(&mut arena, 0, false, 0);
        arena.arrived(0, 4, &ledger);
        arena.connecting(1);
        arena.arrived(0, 5, &ledger);
        arena.connack(1, true, 7).expect("allowed");
        arena.arrived(0, 6, &ledger);
        assert_eq!((arena.sums.stale, arena.sums.superseded), (0, 1));
        arena.arrived(0, 7, &ledger);
        assert_eq!(arena.sums.stale, 1);
        arena.arrived(1, 7, &ledger);
        assert_eq!(arena.sums.stale, 1, "the newer one may");
        connected(&mut arena, 2, true, 9);
        arena.arrived(0, 8, &ledger);
        arena.arrived(1, 8, &ledger);
        assert_eq!(arena.sums.stale, 2, "the first newer one counts");
        arena.arrived(1, 9, &ledger);
        assert_eq!(arena.sums.stale, 3);
    }

    #[test]
    fn overlapping_handshakes_supersede_nobody() {
        let (mut arena, ledger) = (Arena::new(2), Ledger::new(1));
        arena.connecting(0);
        arena.connecting(1);
        arena.connack(1, false, 0).expect("allowed");
        arena.connack(0, true, 3).expect("allowed");
        arena.arrived(0, 5, &ledger);
        arena.arrived(1, 5, &ledger);
        assert_eq!(arena.sums, Bouts::default());
    }

    #[test]
    fn a_closed_connection_is_not_superseded_and_a_new_one_begins_anew() {
        let (mut arena, ledger) = (Arena::new(2), Ledger::new(1));
        connected(&mut arena, 0, false, 0);
        arena.lost(0);
        connected(&mut arena, 1, true, 5);
        assert_eq!(arena.sums.superseded, 0);
        connected(&mut arena, 0, true, 6);
        arena.arrived(0, 8, &ledger);
        assert_eq!((arena.sums.superseded, arena.sums.stale), (1, 0));
    }

    #[test]
    fn the_session_is_there_from_the_first_connack_on() {
        let mut arena = Arena::new(2);
        arena.connecting(0);
        assert!(arena.connack(0, true, 0).is_err(), "nobody was there");
        let mut arena = Arena::new(2);
        let first = connected(&mut arena, 0, false, 0);
        assert_eq!((first.session_lost, first.subscribe), (false, true));
        arena.subscribed = true;
        let second = connected(&mut arena, 1, true, 0);
        assert_eq!((second.session_lost, second.subscribe), (false, false));
        let third = connected(&mut arena, 0, false, 0);
        assert_eq!((third.session_lost, third.subscribe), (true, true));
    }

    #[test]
    fn order_is_judged_on_each_connection() {
        let (mut arena, mut ledger) = (Arena::new(2), Ledger::new(1));
        connected(&mut arena, 0, false, 0);
        for number in [0, 1, 3] {
            arena.arrived(0, number, &ledger);
        }
        connected(&mut arena, 1, true, 4);
        arena.arrived(1, 1, &ledger);
        arena.arrived(1, 2, &ledger);
        assert_eq!(arena.sums.reordered, 0);
        arena.arrived(1, 2, &ledger);
        assert_eq!(arena.sums.reordered, 1);
        arena.arrived(1, 1, &ledger);
        assert_eq!(arena.sums.reordered, 2);
        ledger.resent(1);
        arena.arrived(1, 1, &ledger);
        assert_eq!(arena.sums.reordered, 2, "it was sent twice");
    }
}
