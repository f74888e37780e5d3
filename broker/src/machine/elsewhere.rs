//! What a session has to do with other groups.
//!
//! A session has one home, which decides who owns the client id. Another group that the client publishes to or
//! subscribes at has a *guest* of it. The home gives such a group a rank, and with it packet ids, before it holds
//! anything; when the session ends, the home sees to it that every such guest ends too.

use super::effects::{Effects, LeaderEffect};
use super::errands::ErrandKey;
use super::state::State;
use cluster::frame::{FromGroup, Listed};
use cluster::ids::{Actor, ClientNo, Epoch, Rank};
use cluster::slots::GroupNo;

/// The other groups of a session, or the other group that is its home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// This is its home.
    Home(Places),
    /// Its home is another group.
    Guest(Guest),
}

/// A session at another group than its home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    /// The home's epoch of the newest connection. Compared between joins only: this group gives its own.
    pub(super) home_epoch: Epoch,
    /// `None`: the connection acts here, and nothing of the session is held.
    pub(super) rank: Option<Rank>,
}

/// Other groups that hold something of a session, or of one of the same client before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// In the order in which they came; each group once. Without a rank: of a session before.
    pub(super) groups: Vec<Listed>,
    /// Ranks given in this session; the next one is one more.
    pub(super) ranks: u8,
}

impl Elsewhere {
    /// The rank of this group in the session.
    pub(super) fn rank(elsewhere: Option<&Self>) -> Rank {
        match elsewhere {
            Some(Self::Guest(guest)) => guest.rank.unwrap_or(Rank::HOME),
            Some(Self::Home(_)) | None => Rank::HOME,
        }
    }
}

impl Places {
    /// The group's rank, given now if it has none; `None`: none is left.
    fn list(&mut self, group: GroupNo) -> Option<Rank> {
        let at = self.groups.iter().position(|at| at.group == group);
        if let Some(rank) = at.and_then(|at| self.groups[at].rank) {
            return Some(rank);
        }
        if self.ranks + 1 >= GroupNo::MAX {
            return None;
        }
        self.ranks += 1;
        let listed = Listed {
            group,
            rank: Some(Rank(self.ranks)),
        };
        match at {
            Some(at) => self.groups[at] = listed,
            None => self.groups.push(listed),
        }
        listed.rank
    }

    /// The same groups for the session after this one: to be fenced off, and no longer.
    fn of_session_before(self) -> Option<Self> {
        let groups: Vec<_> = self
            .groups
            .into_iter()
            .map(|at| Listed { rank: None, ..at })
            .collect();
        (!groups.is_empty()).then_some(Self { groups, ranks: 0 })
    }

    /// What the group held of sessions before is over. Whether any group is left.
    fn forget(&mut self, group: GroupNo) -> bool {
        self.groups
            .retain(|at| at.group != group || at.rank.is_some());
        !self.groups.is_empty()
    }

    /// Groups that have not said yet that they ended what they held of sessions before.
    fn of_ends(groups: impl Iterator<Item = GroupNo>) -> Option<Self> {
        let groups: Vec<_> = groups.map(|group| Listed { group, rank: None }).collect();
        (!groups.is_empty()).then_some(Self { groups, ranks: 0 })
    }

    fn rank_of(&self, group: GroupNo) -> Option<Rank> {
        self.groups.iter().find(|at| at.group == group)?.rank
    }
}

impl State {
    /// A group is to have state of a session: it gets its rank.
    pub(super) fn list(&mut self, actor: Actor, group: GroupNo, out: &mut Effects) {
        let Some(session) = self.fenced_mut(actor) else {
            return;
        };
        let connection = session.owner.connection();
        let rank = if session.guest().is_some() {
            // Only the home gives ranks.
            None
        } else {
            let elsewhere = session
                .elsewhere
                .get_or_insert_with(|| Box::new(Elsewhere::Home(Places::default())));
            match &mut **elsewhere {
                Elsewhere::Home(places) => places.list(group),
                Elsewhere::Guest(_) => None,
            }
        };
        self.counters.lists += 1;
        self.counters.lists_refused += u64::from(rank.is_none());
        if let Some((link, handle)) = connection {
            out.send(
                link,
                FromGroup::Listed {
                    handle,
                    group,
                    rank,
                },
            );
        }
    }

    /// The rank that a group has in a session of this home.
    pub(super) fn rank_of(&self, actor: Actor, group: GroupNo) -> Option<Rank> {
        let session = self.clients.get(actor.client)?;
        session.places()?.rank_of(group)
    }

    /// A session of this home is over: so is what other groups hold of it. They stay listed for a session that takes
    /// its place, to be fenced off until they have ended it.
    pub(super) fn end_elsewhere(&mut self, client: ClientNo, out: &mut Effects) {
        let session = self.clients.get_mut(client).expect("a session is emptied");
        if session.places().is_none() {
            return;
        }
        let Some(Elsewhere::Home(places)) = session.elsewhere.take().map(|places| *places) else {
            return;
        };
        let (id, start_epoch) = (session.id.clone(), session.start_epoch);
        let held: Vec<_> = places
            .groups
            .iter()
            .filter(|at| at.rank.is_some())
            .copied()
            .collect();
        session.elsewhere = places
            .of_session_before()
            .map(|places| Box::new(Elsewhere::Home(places)));
        for at in held {
            self.ends.insert((id.clone(), at.group), start_epoch);
            let key = ErrandKey::End(id.clone(), at.group);
            out.leader.push(LeaderEffect::ErrandDue(key));
        }
    }

    /// Where a new session of a client has to be fenced off, though none is there before it: an earlier one has ended, and
    /// a connection of it that its home has lost may still be at groups which have not heard of that (promise P5).
    pub(super) fn still_elsewhere(&self, client_id: &str) -> Option<Box<Elsewhere>> {
        if self.ends.is_empty() {
            return None;
        }
        let from = (Box::<str>::from(client_id), GroupNo(0));
        let ends = self.ends.range(from..).map(|(key, _)| key);
        let its_ends = ends.take_while(|(id, _)| **id == *client_id);
        let places = Places::of_ends(its_ends.map(|(_, group)| *group))?;
        Some(Box::new(Elsewhere::Home(places)))
    }

    /// The group holds nothing any more of sessions of this client that were over.
    pub(super) fn ended_there(&mut self, client_id: &str, group: GroupNo) {
        let found = self.clients.find(client_id);
        let Some(session) = found.and_then(|client| self.clients.get_mut(client)) else {
            return;
        };
        if let Some(Elsewhere::Home(places)) = session.elsewhere.as_deref_mut()
            && !places.forget(group)
            && places.ranks == 0
        {
            session.elsewhere = None;
        }
    }
}
