//! How connections and sessions end.

use super::effects::{Effects, LeaderEffect};
use super::mailbox::{Progress, TAKEN};
use super::session::Owner;
use super::state::State;
use super::subscriptions::SubscriberKey;
use super::timers::TimerKind;
use crate::limits::TIMERS_PER_TICK;
use cluster::frame::{Disconnect, WillFate};
use cluster::ids::{Actor, ClientNo, Epoch, LinkNo};

/// When something that is due at once is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// In this command.
    Now,
    /// By a following `Tick`: many connections end with one command, and a command stays short.
    Tick,
}

impl State {
    /// One connection ended.
    pub(super) fn disconnect(&mut self, gone: &Disconnect, out: &mut Effects) {
        let Some(session) = self.fenced_mut(gone.actor) else {
            return;
        };
        if session.owner == Owner::None {
            // Its link's end, or an earlier frame, has said so already.
            return;
        }
        if let Some(expiry_s) = gone.expiry_s {
            session.expiry_s = expiry_s;
        }
        self.detach(gone.actor.client, gone.will, When::Now, out);
    }

    /// A link is gone: each of its connections counts as lost.
    pub(super) fn link_down(&mut self, link: LinkNo, out: &mut Effects) {
        if !self.producers.down(link, self.time_ms) {
            return;
        }
        let on_link = |owner: Owner| owner.connection().is_some_and(|(at, _)| at == link);
        let lost: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, s)| on_link(s.owner))
            .map(|(c, _)| c)
            .collect();
        // First all, so that no shared message goes from one lost connection to another.
        for client in &lost {
            self.lose_owner(*client);
        }
        for client in lost {
            self.detached(client, WillFate::Published, When::Tick, out);
        }
    }

    /// A new reign: claims count from a new first epoch. The proxies come back with their connections, so sessions
    /// stay as they are; what the leader before had under way for them is asked for again.
    pub(super) fn leader_start(&mut self, out: &mut Effects) {
        self.reign += 1;
        self.epoch = Epoch::first_of(self.reign);
        self.volatile.unlogged_ids.clear();
        self.wills_again(out);
        for (client, session) in self.clients.iter() {
            let actor = Actor {
                client,
                epoch: session.epoch,
            };
            if matches!(session.owner, Owner::Claimed { .. }) {
                out.leader.push(LeaderEffect::ClaimOpen { actor });
            }
            if session.rare.as_ref().is_some_and(|rare| rare.page_asked) {
                out.leader.push(LeaderEffect::PagesLeft { actor });
            }
        }
    }

    fn detach(&mut self, client: ClientNo, fate: WillFate, when: When, out: &mut Effects) {
        self.lose_owner(client);
        self.detached(client, fate, when, out);
    }

    pub(super) fn lose_owner(&mut self, client: ClientNo) {
        let session = self.clients.get_mut(client).expect("a session is detached");
        if session.attached().is_some() {
            self.counters.attached -= 1;
        } else if let Some(rare) = &mut session.rare {
            // CONNACK never left: the connection that had this will never was.
            rare.will = None;
        }
        if let Some(rare) = &mut session.rare {
            // Whoever was asked may be gone, and the next Attach asks anew.
            rare.page_asked = false;
        }
        session.owner = Owner::None;
    }

    /// What follows for a session that nobody owns any more.
    fn detached(&mut self, client: ClientNo, fate: WillFate, when: When, out: &mut Effects) {
        let session = self.clients.get(client).expect("a session is detached");
        if session.guest().is_some() {
            return self.guest_detached(client, out);
        }
        self.leave_behind(client, out);
        let now_ms = self.time_ms;
        let session = self.clients.get_mut(client).expect("a session is detached");
        let (epoch, expiry_s) = (session.epoch, session.expiry_s);
        let due_ms = session.rare.as_mut().and_then(|rare| {
            if fate == WillFate::Dropped {
                rare.will = None;
            }
            let delay_s = rare.will.as_ref()?.delay_s;
            let due_ms = now_ms.saturating_add(u64::from(delay_s) * 1000);
            rare.will_due_ms = (fate == WillFate::Published).then_some(due_ms);
            rare.will_due_ms
        });
        if let Some(due_ms) = due_ms {
            self.timers.set(due_ms, client, TimerKind::Will);
        }
        session.expires_at_ms = match expiry_s {
            u32::MAX => u64::MAX,
            seconds => now_ms + u64::from(seconds) * 1000,
        };
        session.shrink();
        let expires_at_ms = session.expires_at_ms;
        if when == When::Now && expires_at_ms <= now_ms {
            self.end_session(client, out);
            return;
        }
        if expires_at_ms != u64::MAX {
            self.timers.set(expires_at_ms, client, TimerKind::Expiry);
        }
        if when == When::Now
            && due_ms.is_some_and(|due_ms| due_ms <= now_ms)
            && let Some(will) = self.stop_will_delay(client)
        {
            self.will_is_due(client, epoch, will, out);
        }
    }

    /// What no session keeps for its next connection.
    pub(super) fn leave_behind(&mut self, client: ClientNo, out: &mut Effects) {
        self.drop_qos0_cursors(client);
        self.take_back(client, out);
        self.forget_unlogged_ids(client);
    }

    pub(super) fn forget_unlogged_ids(&mut self, client: ClientNo) {
        let ids = &mut self.volatile.unlogged_ids;
        if ids.is_empty() {
            return;
        }
        let first = (client, Epoch(0), protocol::PacketId::MIN);
        let last = (client, Epoch(u64::MAX), protocol::PacketId::MAX);
        let open: Vec<_> = ids.range(first..=last).copied().collect();
        for id in open {
            ids.remove(&id);
        }
    }

    /// The session is over: nothing of it is left.
    fn end_session(&mut self, client: ClientNo, out: &mut Effects) {
        self.empty_session(client, out);
        self.orphan_wills(client);
        self.clients.remove(client);
        self.counters.sessions_ended += 1;
    }

    /// Takes everything from a session: what it still has to publish is due, what it was owed is dropped.
    pub(super) fn empty_session(&mut self, client: ClientNo, out: &mut Effects) {
        if let Some(will) = self.stop_will_delay(client) {
            let epoch = self
                .clients
                .get(client)
                .expect("a session is emptied")
                .epoch;
            self.will_is_due(client, epoch, will, out);
        }
        self.leave_all_queues(client, out);
        let session = self.clients.get_mut(client).expect("a session is emptied");
        let filters = std::mem::take(&mut session.filters);
        let mailbox = session.mailbox.take();
        session.rare = None;
        let expires_at_ms = match session.guest() {
            // A guest has no timers.
            Some(_) => u64::MAX,
            None => std::mem::take(&mut session.expires_at_ms),
        };
        self.timers.cancel(expires_at_ms, client, TimerKind::Expiry);
        for filter in filters.iter().filter(|filter| !filter.is_shared()) {
            self.subscriptions
                .remove(filter.text, SubscriberKey::Client(client));
            self.counters.subscriptions -= 1;
        }
        for entry in mailbox.into_iter().flat_map(|mailbox| mailbox.entries) {
            if entry.message == TAKEN {
                continue;
            }
            self.messages.release(entry.message, out);
            self.counters.entries -= 1;
            if entry.progress != Progress::Done {
                self.counters.dropped_session_end += 1;
            }
        }
        self.end_elsewhere(client, out);
    }

    /// Does what is due, at most [`TIMERS_PER_TICK`] things; the rest stays due.
    pub(super) fn tick(&mut self, out: &mut Effects) {
        self.producers.forget_due(self.time_ms);
        self.ended.forget_due(self.time_ms);
        self.wills_done.forget_due(self.time_ms);
        let mut budget = TIMERS_PER_TICK;
        while budget > 0
            && let Some((client, kind)) = self.timers.pop_due(self.time_ms)
        {
            budget -= 1;
            match kind {
                TimerKind::Will => self.will_delay_over(client, out),
                TimerKind::Expiry => {
                    self.counters.sessions_expired += 1;
                    self.end_session(client, out);
                }
            }
        }
        self.expire_retained(budget, out);
    }
}
