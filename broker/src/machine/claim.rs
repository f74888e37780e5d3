//! CONNECT: who owns a client id, and what its session is.

use super::effects::{Effects, LeaderEffect};
use super::filters::FilterList;
use super::session::{Owner, Session};
use super::state::State;
use super::timers::TimerKind;
use cluster::frame::{Claim, Claimed, FromGroup};
use cluster::ids::{Actor, ClientNo, Handle, LinkNo};
use protocol::{ReasonCode, Will};

impl State {
    /// Takes ownership at once: from here on every older epoch of the client is fenced off. The answer leaves with
    /// the `Attach`, which over a live owner comes when that owner's connection is closed.
    pub(super) fn claim(&mut self, claim: Claim, out: &mut Effects) {
        let link = self.context.link();
        let handle = claim.handle;
        self.counters.claims += 1;
        let found = self.find_at_home(&claim.client_id, out);
        if found.is_none() && self.clients.len() >= self.limits.sessions {
            self.counters.refused_sessions += 1;
            let reason = ReasonCode::QuotaExceeded;
            out.send(link, FromGroup::ClaimRefused { handle, reason });
            return;
        }
        self.epoch = self.epoch.next();
        let Some(client) = found else {
            let owner = Owner::Claimed {
                link,
                handle,
                contested: false,
            };
            let mut session = self.new_session(&claim, owner);
            session.elsewhere = self.still_elsewhere(&claim.client_id);
            let client = self.clients.insert(session);
            self.set_will(client, claim.will);
            self.context.set_claimed(Actor {
                client,
                epoch: self.epoch,
            });
            return;
        };
        self.claim_again(client, claim, out);
    }

    /// The session of a client. What a guest held, when another group was the client's home, is over.
    fn find_at_home(&mut self, client_id: &str, out: &mut Effects) -> Option<ClientNo> {
        let client = self.clients.find(client_id)?;
        let session = self.clients.get(client).expect("found by its id");
        if session.guest().is_none() {
            return Some(client);
        }
        self.remove_guest(client, out);
        None
    }

    fn new_session(&self, claim: &Claim, owner: Owner) -> Session {
        Session {
            id: claim.client_id.clone(),
            epoch: self.epoch,
            start_epoch: self.epoch,
            owner,
            expiry_s: claim.expiry_s,
            expires_at_ms: 0,
            resumed: false,
            filters: FilterList::default(),
            mailbox: None,
            rare: None,
            elsewhere: None,
        }
    }

    /// A claim of a client id that has a session.
    fn claim_again(&mut self, client: ClientNo, claim: Claim, out: &mut Effects) {
        let (link, handle, epoch) = (self.context.link(), claim.handle, self.epoch);
        let actor = Actor { client, epoch };
        let session = self.clients.get(client).expect("found by its id");
        let old = session.owner.connection();
        // A session of expiry 0 ends with its connection, and this claim ends that connection (MQTT5 3.1.2.11.2).
        let over = match old {
            Some(_) => session.expiry_s == 0,
            None => session.expires_at_ms <= self.time_ms,
        };
        let resumed = !claim.clean_start && !over;
        if let Some(old) = old {
            self.counters.takeovers += 1;
            self.supersede(client, resumed, out);
            out.leader.push(LeaderEffect::KickThenAttach { actor, old });
        }
        if resumed {
            self.end_will_delay(client, out);
        } else {
            self.empty_session(client, out);
            self.counters.sessions_ended += 1;
        }
        let session = self.clients.get_mut(client).expect("only emptied");
        let expires_at_ms = std::mem::take(&mut session.expires_at_ms);
        session.epoch = epoch;
        session.owner = Owner::Claimed {
            link,
            handle,
            contested: old.is_some(),
        };
        session.expiry_s = claim.expiry_s;
        session.resumed = resumed;
        if !resumed {
            session.start_epoch = epoch;
        }
        self.timers.cancel(expires_at_ms, client, TimerKind::Expiry);
        self.set_will(client, claim.will);
        self.context.set_claimed(actor);
    }

    /// The connection that owned the session is over. Its will without delay, or with the session ending, is due;
    /// one with a delay is not when the session goes on (MQTT-3.1.3-9).
    fn supersede(&mut self, client: ClientNo, session_goes_on: bool, out: &mut Effects) {
        let session = self.clients.get_mut(client).expect("it is owned");
        let (epoch, was_attached) = (session.epoch, session.attached().is_some());
        session.owner = Owner::None;
        let will = session.rare.as_mut().and_then(|rare| {
            rare.page_asked = false;
            rare.will.take()
        });
        self.forget_unlogged_ids(client);
        if was_attached {
            self.counters.attached -= 1;
            self.drop_qos0_cursors(client);
            self.take_back(client, out);
        }
        if let Some(will) =
            will.filter(|will| was_attached && !(session_goes_on && will.delay_s > 0))
        {
            self.will_is_due(client, epoch, will, out);
        }
    }

    /// The will of the new connection; a will that is left of an older one is not to be published any more.
    fn set_will(&mut self, client: ClientNo, will: Option<Box<Will>>) {
        let session = self.clients.get_mut(client).expect("just claimed");
        if let Some(mut will) = will {
            // Kept for long: not as a slice of the block it was read into.
            will.message = will.message.to_compact();
            session.rare_mut().will = Some(will);
        } else if let Some(rare) = &mut session.rare {
            rare.will = None;
        }
        session.shrink();
    }

    /// Deliveries to the owner may start.
    pub(super) fn attach(&mut self, actor: Option<Actor>, if_free: bool, out: &mut Effects) {
        let claimed = self.context.take_claimed();
        let Some(actor) = actor.or(claimed) else {
            return;
        };
        let Some(session) = self.fenced_mut(actor) else {
            return;
        };
        let Owner::Claimed {
            link,
            handle,
            contested,
        } = session.owner
        else {
            return;
        };
        if contested && if_free {
            return;
        }
        session.owner = Owner::Attached { link, handle };
        self.counters.attached += 1;
        self.answer_claim(actor, link, handle, out);
        self.pump(actor.client, out);
    }

    /// The answer to a claim, and what was sent to an earlier connection of the session.
    pub(super) fn answer_claim(
        &mut self,
        actor: Actor,
        link: LinkNo,
        handle: Handle,
        out: &mut Effects,
    ) {
        let session = self.clients.get(actor.client).expect("it is owned");
        let claimed = Claimed {
            handle,
            client: actor.client,
            epoch: actor.epoch,
            session_present: session.resumed,
            start_epoch: session.start_epoch,
            groups: session
                .places()
                .map(|places| places.groups.as_slice().into())
                .unwrap_or_default(),
            digest: session.filter_digest(),
        };
        out.send(link, FromGroup::Claimed(Box::new(claimed)));
        self.send_again(actor.client, out);
    }
}
