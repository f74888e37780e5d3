//! Sessions whose home is another group: what a connection of theirs may do here, and how they end.
//!
//! A guest has no expiry, no will and no timer: its home has them, and says when the session is over.

use super::effects::Effects;
use super::elsewhere::{Elsewhere, Guest};
use super::filters::FilterList;
use super::session::{Owner, Session};
use super::state::State;
use cluster::frame::{DoneKind, ErrandDone, FromGroup, Join, Joined, Publish, StoredAt};
use cluster::ids::{ClientNo, Epoch, Handle, LinkNo};
use cluster::slots::GroupNo;
use protocol::ReasonCode;

/// What a join finds.
enum Found {
    /// No session.
    Nothing,
    /// A guest of the same session, or one of an earlier session.
    Guest(ClientNo),
    /// Something that the connection must not act beside.
    Newer,
}

impl State {
    /// A connection whose session has another home acts here from now on. An older one that did is fenced off at
    /// once: its home closes it.
    pub(super) fn join(&mut self, join: &Join, out: &mut Effects) {
        let link = self.context.link();
        let handle = join.handle;
        self.counters.joins += 1;
        let client = match self.find_for(join, link) {
            Found::Newer => {
                self.counters.joins_refused += 1;
                return kick(link, handle, ReasonCode::SessionTakenOver, out);
            }
            Found::Guest(client) => {
                self.fence_older(client, join, out);
                client
            }
            Found::Nothing if self.clients.len() >= self.limits.sessions => {
                self.counters.refused_sessions += 1;
                return kick(link, handle, ReasonCode::QuotaExceeded, out);
            }
            Found::Nothing => self.new_guest(join),
        };
        self.take_guest(client, join, link, out);
    }

    fn find_for(&self, join: &Join, link: LinkNo) -> Found {
        let ended = self.ended.get(&*join.client_id);
        if ended.is_some_and(|ended| join.start_epoch <= ended) {
            return Found::Newer;
        }
        let Some(client) = self.clients.find(&join.client_id) else {
            return Found::Nothing;
        };
        let session = self.clients.get(client).expect("found by its id");
        let Some(guest) = session.guest() else {
            // This is its home.
            return Found::Newer;
        };
        let same = guest.home_epoch == join.epoch;
        let another = session
            .attached()
            .is_some_and(|it| it != (link, join.handle));
        let newer = session.start_epoch > join.start_epoch
            || guest.home_epoch > join.epoch
            // A connection has one handle.
            || same && another;
        if newer {
            Found::Newer
        } else {
            Found::Guest(client)
        }
    }

    /// An older connection has nothing more from here, and an earlier session is over.
    fn fence_older(&mut self, client: ClientNo, join: &Join, out: &mut Effects) {
        let session = self.clients.get(client).expect("found");
        let guest = session.guest().expect("found as one");
        let is_later_session = session.start_epoch < join.start_epoch;
        if guest.home_epoch < join.epoch && session.owner != Owner::None {
            self.lose_owner(client);
            self.leave_behind(client, out);
        }
        if is_later_session {
            self.empty_session(client, out);
            let session = self.clients.get_mut(client).expect("only emptied");
            session.guest_mut().expect("found as one").rank = None;
        }
    }

    fn new_guest(&mut self, join: &Join) -> ClientNo {
        self.counters.guests += 1;
        // The first join that is taken gives it all the rest.
        self.clients.insert(Session {
            id: join.client_id.clone(),
            epoch: Epoch::default(),
            start_epoch: Epoch::default(),
            owner: Owner::None,
            expiry_s: u32::MAX,
            expires_at_ms: u64::MAX,
            resumed: false,
            filters: FilterList::default(),
            mailbox: None,
            rare: None,
            elsewhere: Some(Box::new(Elsewhere::Guest(Guest {
                home_epoch: Epoch::default(),
                rank: None,
            }))),
        })
    }

    /// The guest is the connection's, which gets what it has not had.
    fn take_guest(&mut self, client: ClientNo, join: &Join, link: LinkNo, out: &mut Effects) {
        let session = self.clients.get_mut(client).expect("found or new");
        let had_it = session.attached().is_some();
        session.start_epoch = join.start_epoch;
        let guest = session.guest_mut().expect("found or new");
        let is_new = guest.home_epoch < join.epoch;
        guest.home_epoch = join.epoch;
        if guest.rank.is_none() {
            guest.rank = join.rank;
            // A mailbox of the new rank is made when there is something for it: without a rank nothing was held.
            session.mailbox = None;
        }
        if is_new {
            self.epoch = self.epoch.next();
            session.epoch = self.epoch;
        }
        let handle = join.handle;
        session.owner = Owner::Attached { link, handle };
        self.counters.attached += u64::from(!had_it);
        self.joined(client, link, handle, out);
        if !had_it {
            self.send_again(client, out);
            self.pump(client, out);
        }
    }

    /// The answer to a join.
    pub(super) fn joined(&self, client: ClientNo, link: LinkNo, handle: Handle, out: &mut Effects) {
        let session = self.clients.get(client).expect("it has joined");
        let joined = Joined {
            handle,
            client,
            epoch: session.epoch,
            digest: session.filter_digest(),
        };
        out.send(link, FromGroup::Joined(Box::new(joined)));
    }

    /// A connection that acted as a guest is gone. What the session holds here waits for the next one.
    pub(super) fn guest_detached(&mut self, client: ClientNo, out: &mut Effects) {
        self.leave_behind(client, out);
        let session = self.clients.get_mut(client).expect("it was attached");
        if session.holds_nothing() {
            self.remove_guest(client, out);
        } else {
            session.shrink();
        }
    }

    /// Nothing is left of a guest.
    pub(super) fn remove_guest(&mut self, client: ClientNo, out: &mut Effects) {
        let session = self.clients.get(client).expect("a guest is removed");
        if session.owner != Owner::None {
            self.lose_owner(client);
            self.forget_unlogged_ids(client);
        }
        self.empty_session(client, out);
        self.clients.remove(client);
        self.counters.guests -= 1;
    }

    /// The home says that a session is over.
    pub(super) fn end_guest(
        &mut self,
        client_id: Box<str>,
        start_epoch: Epoch,
        done: (GroupNo, GroupNo),
        out: &mut Effects,
    ) {
        self.counters.ends_applied += 1;
        if let Some(client) = self.clients.find(&client_id) {
            let session = self.clients.get(client).expect("found by its id");
            if session.guest().is_some() && session.start_epoch <= start_epoch {
                if let Some((link, handle)) = session.attached() {
                    // Its proxy may not know yet that the session is over, as when its link to the home is cut.
                    kick(link, handle, ReasonCode::SessionTakenOver, out);
                }
                self.remove_guest(client, out);
            }
        }
        let ended = self.ended.get(&*client_id).unwrap_or_default();
        let newest = ended.max(start_epoch);
        let dropped = self.ended.remember(client_id.clone(), newest, self.time_ms);
        self.counters.memories_dropped += u64::from(dropped);
        let what = DoneKind::End {
            client_id,
            start_epoch,
        };
        self.errand_is_done(done, what, out);
    }

    /// The will of a client whose home is another group; once.
    pub(super) fn publish_foreign_will(
        &mut self,
        done: (GroupNo, GroupNo),
        publish: Publish,
        at: StoredAt,
        out: &mut Effects,
    ) {
        let epoch = publish.actor.epoch;
        let name = (done.0, epoch);
        if self.wills_done.get(&name).is_none() {
            let dropped = self.wills_done.remember(name, (), self.time_ms);
            self.counters.memories_dropped += u64::from(dropped);
            self.counters.wills_published += 1;
            // A full group refuses it like any publish; there is nobody to tell, so the counters have to do.
            let _reason = self.store_and_deliver(None, publish, at, out);
        }
        self.errand_is_done(done, DoneKind::Will { epoch }, out);
    }

    fn errand_is_done(&self, (from, to): (GroupNo, GroupNo), what: DoneKind, out: &mut Effects) {
        let done = ErrandDone { from, to, what };
        out.send(self.context.link(), FromGroup::ErrandDone(Box::new(done)));
    }
}

fn kick(link: LinkNo, handle: Handle, reason: ReasonCode, out: &mut Effects) {
    out.send(link, FromGroup::Kick { handle, reason });
}
