//! The members of the group: what they are called, where they are, and who is taken for the leader.

use super::addresses::{Addresses, Place};
use cluster::link::GroupView;
use cluster::topology::{Member, NodeName};

/// What the links of a client have in common.
pub(super) struct Members {
    list: Vec<Member>,
    addresses: Addresses,
    pub(super) view: GroupView,
}

impl Members {
    /// No members yet. `found` is called after each look-up of names.
    pub(super) fn new(found: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            list: Vec::new(),
            addresses: Addresses::new(found),
            view: GroupView::default(),
        }
    }

    /// From now on these.
    pub(super) fn set(&mut self, members: &[Member]) {
        self.list = members.to_vec();
        self.view
            .set_members(members.iter().map(|member| member.name.clone()));
        let links = members.iter().map(|member| member.link.to_string());
        self.addresses.set(links.collect());
    }

    /// Looks the names of hosts up again, soon.
    pub(super) fn refresh(&mut self) {
        self.addresses.refresh();
    }

    /// An address of this member; see [`Addresses::of`].
    pub(super) fn place(&self, name: &NodeName, turn: usize) -> Option<Place> {
        let member = self.list.iter().find(|member| member.name == *name)?;
        self.addresses.of(member.link.as_str(), turn)
    }
}
