//! Kicks of earlier owners that their proxies have not confirmed yet, and the claims that wait for them.
//!
//! A claim over a claim that was never attached waits for the kicks of both: the second claimant must not be
//! served while the connection of the first owner may still be open (promise P5).

use cluster::ids::{Actor, ClientNo, Handle, LinkNo};
use std::collections::{BTreeMap, BTreeSet};

/// A claim over a live owner is answered at the latest after this long, in milliseconds of group time.
pub const KICK_WAIT_MS: u64 = 2_000;

/// No link has this number: stands for the link of a connection that is not known.
const NO_LINK: LinkNo = LinkNo(u16::MAX);

/// A connection of a link.
type Connection = (LinkNo, Handle);

/// Open kicks. There is at most one for each connection of a proxy, which bounds the table.
#[derive(Debug, Default)]
pub(super) struct Kicks {
    open: BTreeMap<Connection, Kick>,
    /// By deadline.
    due: BTreeSet<(u64, Connection)>,
    waiting: BTreeMap<ClientNo, Waiting>,
}

#[derive(Debug)]
struct Kick {
    client: ClientNo,
    deadline_ms: u64,
}

/// The newest claim of a client.
#[derive(Debug)]
struct Waiting {
    claimant: Actor,
    /// Open kicks of the client's earlier connections.
    kicks: u32,
}

impl Kicks {
    /// `old` has been told to close at `now_ms`; `claimant` waits for that, in place of every earlier claimant of
    /// the client.
    pub(super) fn wait(&mut self, claimant: Actor, old: Connection, now_ms: u64) {
        // No proxy has one connection claim twice; if one did, the earlier claim is fenced off anyway.
        self.done(old);
        let client = claimant.client;
        let deadline_ms = now_ms + KICK_WAIT_MS;
        self.open.insert(
            old,
            Kick {
                client,
                deadline_ms,
            },
        );
        self.due.insert((deadline_ms, old));
        let waiting = self
            .waiting
            .entry(client)
            .or_insert(Waiting { claimant, kicks: 0 });
        waiting.claimant = claimant;
        waiting.kicks += 1;
    }

    /// `claimant` waits as long as for a kick, though nobody knows whose connection might have to be closed.
    pub(super) fn wait_for_unknown(&mut self, claimant: Actor, now_ms: u64) {
        let nobody = Handle {
            index: claimant.client.0,
            generation: 0,
        };
        self.wait(claimant, (NO_LINK, nobody), now_ms);
    }

    /// `claimant` has nothing to wait for but the kicks of still earlier owners, if there are any: whether it may
    /// be attached now.
    pub(super) fn is_free(&mut self, claimant: Actor) -> bool {
        match self.waiting.get_mut(&claimant.client) {
            Some(waiting) => {
                waiting.claimant = claimant;
                false
            }
            None => true,
        }
    }

    /// The connection is closed, or its time is over: who may be attached now, if anybody.
    pub(super) fn done(&mut self, connection: Connection) -> Option<Actor> {
        let kick = self.open.remove(&connection)?;
        self.due.remove(&(kick.deadline_ms, connection));
        let waiting = self
            .waiting
            .get_mut(&kick.client)
            .expect("an open kick has a claimant");
        waiting.kicks -= 1;
        if waiting.kicks > 0 {
            return None;
        }
        self.waiting.remove(&kick.client).map(|w| w.claimant)
    }

    /// A connection whose time is over at `now_ms`.
    pub(super) fn overdue(&self, now_ms: u64) -> Option<Connection> {
        let (deadline_ms, connection) = self.due.first()?;
        (*deadline_ms <= now_ms).then_some(*connection)
    }

    /// When the next one's time is over.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.due.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// The open kicks of a link.
    pub(super) fn of_link(&self, link: LinkNo) -> Vec<Connection> {
        let low = Handle {
            index: 0,
            generation: 0,
        };
        let from_link = self.open.range((link, low)..);
        from_link
            .map(|(connection, _)| *connection)
            .take_while(|(at, _)| *at == link)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::ids::Epoch;

    fn actor(epoch: u64) -> Actor {
        Actor {
            client: ClientNo(7),
            epoch: Epoch(epoch),
        }
    }

    fn connection(index: u32) -> Connection {
        let generation = 0;
        (LinkNo((index % 2) as u16), Handle { index, generation })
    }

    #[test]
    fn a_claim_over_a_claim_waits_for_both_connections() {
        for order in [[0, 1], [1, 0]] {
            let mut kicks = Kicks::default();
            kicks.wait(actor(2), connection(0), 0);
            kicks.wait(actor(3), connection(1), 5);
            assert_eq!(kicks.done(connection(order[0])), None);
            assert_eq!(kicks.done(connection(order[1])), Some(actor(3)));
            assert_eq!(kicks.done(connection(order[1])), None, "only once");
            assert!(kicks.is_free(actor(4)));
        }
    }

    #[test]
    fn a_claimant_whose_predecessor_cannot_be_kicked_still_waits_for_earlier_owners() {
        let mut kicks = Kicks::default();
        kicks.wait(actor(2), connection(0), 0);
        assert!(!kicks.is_free(actor(3)));
        assert_eq!(kicks.done(connection(0)), Some(actor(3)));
    }

    #[test]
    fn time_is_up_in_the_order_of_the_kicks() {
        let mut kicks = Kicks::default();
        kicks.wait(actor(2), connection(9), 10);
        kicks.wait(actor(3), connection(1), 20);
        assert_eq!(kicks.next_deadline_ms(), Some(10 + KICK_WAIT_MS));
        assert_eq!(kicks.overdue(9 + KICK_WAIT_MS), None);
        assert_eq!(kicks.overdue(10 + KICK_WAIT_MS), Some(connection(9)));
        assert_eq!(kicks.done(connection(9)), None);
        assert_eq!(kicks.overdue(20 + KICK_WAIT_MS), Some(connection(1)));
    }

    #[test]
    fn a_lost_link_names_its_own_kicks_only() {
        let mut kicks = Kicks::default();
        for index in 0..4 {
            kicks.wait(actor(2), connection(index), 0);
        }
        let lost = kicks.of_link(LinkNo(0));
        assert_eq!(lost, [connection(0), connection(2)]);
    }
}
