//! One session, and the table of all.

use super::elsewhere::{Elsewhere, Guest, Places};
use super::filters::FilterList;
use super::mailbox::Mailbox;
use super::retain::PendingRetained;
use super::table::Table;
use cluster::ids::{ClientNo, Epoch, Handle, LinkNo};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use protocol::Will;
use std::hash::{BuildHasher, Hasher};

/// Who has a session's client id now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody is connected.
    None,
    /// Claimed, and not attached yet. `contested`: an earlier owner has to go first.
    Claimed {
        link: LinkNo,
        handle: Handle,
        contested: bool,
    },
    /// Connected: deliveries go there.
    Attached { link: LinkNo, handle: Handle },
}

impl Owner {
    pub(super) fn connection(self) -> Option<(LinkNo, Handle)> {
        match self {
            Owner::None => None,
            Owner::Claimed { link, handle, .. } | Owner::Attached { link, handle } => {
                Some((link, handle))
            }
        }
    }
}

/// A session. There may be millions of idle ones: what few have is in boxes.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: Box<str>,
    /// The epoch of the newest claim; frames of any other are refused.
    pub(super) epoch: Epoch,
    /// The epoch in which the session began.
    pub(super) start_epoch: Epoch,
    pub(super) owner: Owner,
    /// Session Expiry Interval in seconds, `u32::MAX` means never.
    pub(super) expiry_s: u32,
    /// When the session ends, in group time; 0 while it is owned, `u64::MAX` for never.
    pub(super) expires_at_ms: u64,
    /// Session Present of the newest claim.
    pub(super) resumed: bool,
    pub(super) filters: FilterList,
    pub(super) mailbox: Option<Box<Mailbox>>,
    pub(super) rare: Option<Box<Rare>>,
    /// Other groups that have to do with it. Few sessions have any, so it is not in `Rare`, which comes and goes.
    pub(super) elsewhere: Option<Box<Elsewhere>>,
}

/// What few sessions have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) will: Option<Box<Will>>,
    /// When the will is due, in group time; `None` while connected or when it is not to be published.
    pub(super) will_due_ms: Option<u64>,
    /// Open packet ids of QoS 2 publishes from this client, sorted.
    pub(super) qos2_ids: Vec<u16>,
    /// Retained messages still to send.
    pub(super) cursors: Vec<PendingRetained>,
    /// Whether the leader was asked for the next page and has not come with it.
    pub(super) page_asked: bool,
    /// Numbers of the shared queues this session is a member of, sorted.
    pub(super) shared: Vec<u32>,
}

impl Session {
    pub(super) fn attached(&self) -> Option<(LinkNo, Handle)> {
        match self.owner {
            Owner::Attached { link, handle } => Some((link, handle)),
            Owner::None | Owner::Claimed { .. } => None,
        }
    }

    pub(super) fn mailbox_mut(&mut self) -> &mut Mailbox {
        let elsewhere = &self.elsewhere;
        let of_rank = || Box::new(Mailbox::of_rank(Elsewhere::rank(elsewhere.as_deref())));
        self.mailbox.get_or_insert_with(of_rank)
    }

    /// What it is here if its home is another group.
    pub(super) fn guest(&self) -> Option<&Guest> {
        match self.elsewhere.as_deref() {
            Some(Elsewhere::Guest(guest)) => Some(guest),
            Some(Elsewhere::Home(_)) | None => None,
        }
    }

    pub(super) fn guest_mut(&mut self) -> Option<&mut Guest> {
        match self.elsewhere.as_deref_mut() {
            Some(Elsewhere::Guest(guest)) => Some(guest),
            Some(Elsewhere::Home(_)) | None => None,
        }
    }

    /// The other groups it is at, if this is its home.
    pub(super) fn places(&self) -> Option<&Places> {
        match self.elsewhere.as_deref() {
            Some(Elsewhere::Home(places)) => Some(places),
            Some(Elsewhere::Guest(_)) | None => None,
        }
    }

    /// Whether the connection only acts here: the group may hold nothing of the session.
    pub(super) fn holds_nothing(&self) -> bool {
        self.guest().is_some_and(|guest| guest.rank.is_none())
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn cursors(&self) -> &[PendingRetained] {
        self.rare.as_ref().map_or(&[], |rare| &rare.cursors)
    }

    pub(super) fn shared(&self) -> &[u32] {
        self.rare.as_ref().map_or(&[], |rare| &rare.shared)
    }

    /// Gives memory back that an idle session does not need.
    pub(super) fn shrink(&mut self) {
        let attached = self.attached().is_some();
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.shrink(attached);
        }
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }
}

impl Rare {
    pub(super) fn is_empty(&self) -> bool {
        self.will.is_none()
            && self.qos2_ids.is_empty()
            && self.cursors.is_empty()
            && !self.page_asked
            && self.shared.is_empty()
    }
}

/// All sessions by client number, and the numbers by client id.
///
/// The hash seed is random against crafted collisions; the table is only looked up, so replicas agree.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) table: Table<Session>,
    names: HashTable<u32>,
    hash: RandomState,
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&self, client: ClientNo) -> Option<&Session> {
        self.table.get(client.0)
    }

    pub(super) fn get_mut(&mut self, client: ClientNo) -> Option<&mut Session> {
        self.table.get_mut(client.0)
    }

    pub(super) fn find(&self, id: &str) -> Option<ClientNo> {
        let is_it = |n: &u32| self.table.get(*n).is_some_and(|s| *s.id == *id);
        self.names
            .find(hash_id(&self.hash, id), is_it)
            .map(|n| ClientNo(*n))
    }

    /// Takes a new session in; its id must not be there.
    pub(super) fn insert(&mut self, session: Session) -> ClientNo {
        let hash = hash_id(&self.hash, &session.id);
        let place = self.table.insert(session);
        self.name(hash, place);
        ClientNo(place)
    }

    fn name(&mut self, hash: u64, place: u32) {
        let Self {
            table,
            names,
            hash: state,
        } = self;
        names.insert_unique(hash, place, |n| {
            let session = table.get(*n).expect("only sessions are named");
            hash_id(state, &session.id)
        });
    }

    pub(super) fn remove(&mut self, client: ClientNo) {
        let Some(session) = self.table.remove(client.0) else {
            return;
        };
        let hash = hash_id(&self.hash, &session.id);
        if let Ok(named) = self.names.find_entry(hash, |n| *n == client.0) {
            named.remove();
        }
    }

    /// Sessions in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ClientNo, &Session)> {
        let numbered = self.table.iter();
        numbered.map(|(number, session)| (ClientNo(number), session))
    }

    /// Names the sessions of a table; `None` if two have the same id.
    pub(super) fn of_table(table: Table<Session>) -> Option<Self> {
        let mut clients = Self {
            table,
            ..Self::default()
        };
        for place in 0..clients.table.places() as u32 {
            let Some(session) = clients.table.get(place) else {
                continue;
            };
            if clients.find(&session.id).is_some() {
                return None;
            }
            let hash = hash_id(&clients.hash, &session.id);
            clients.name(hash, place);
        }
        Some(clients)
    }
}

fn hash_id(state: &RandomState, id: &str) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(id.as_bytes());
    hasher.finish()
}
