//! Where members take calls.
//!
//! Two sources say so: the fleet's topology, as far as this process has heard of it, and the group's own log, in which each
//! member has an address beside its id. Whichever has changed last counts. A leader that knows better than the log writes
//! it there, as its followers may hear of it in no other way.

use super::carry::Snapshots;
use super::config::{Membership, Node, Raft};
use super::journal::Journal;
use super::limits::{CALL, CALL_AGAIN};
use super::network::Peers;
use super::replica::Replica;
use cluster::topology::{HostPort, NodeName};
use openraft::{ChangeMembers, ServerState};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// The members' addresses by their names, as the process knows them now. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Addresses(Arc<watch::Sender<Known>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    members: BTreeMap<Box<str>, Box<str>>,
    /// The process has heard of a topology since its start. What it starts with may be older than the log.
    is_news: bool,
}

impl Known {
    fn of(members: &[(NodeName, HostPort)], is_news: bool) -> Self {
        let named = |(name, at): &(NodeName, HostPort)| (name.as_str().into(), at.as_str().into());
        let members = members.iter().map(named).collect();
        Self { members, is_news }
    }
}

impl Addresses {
    /// The topology that the process starts with says this.
    pub(super) fn new(members: &[(NodeName, HostPort)]) -> Self {
        let (known, _) = watch::channel(Known::of(members, false));
        Self(Arc::new(known))
    }

    /// The topology says this now.
    pub(super) fn are(&self, members: &[(NodeName, HostPort)]) {
        let now = Known::of(members, true);
        self.0.send_if_modified(|known| {
            let is_other = *known != now;
            *known = now;
            is_other
        });
    }

    /// The member has come to this address.
    pub(super) fn is_at(&self, node: &Node) {
        self.0.send_if_modified(|known| {
            let members = &mut known.members;
            let before = members.insert(node.name.clone(), node.address.clone());
            before.as_ref() != Some(&node.address)
        });
    }

    /// The log gives members other addresses than it did before. If there was nothing, it is a history that begins.
    fn changed_in_log(&self, before: &Membership, now: &Membership) {
        if before.nodes().next().is_none() {
            return;
        }
        let is_news = |(id, node): &(&u64, &Node)| before.get_node(id) != Some(*node);
        for (_, node) in now.nodes().filter(is_news) {
            self.is_at(node);
        }
    }

    /// Where a member is, of which the log says this.
    pub(super) fn of(&self, node: &Node) -> Node {
        let known = self.0.borrow();
        let address = known.members.get(&node.name).unwrap_or(&node.address);
        Node {
            name: node.name.clone(),
            address: address.clone(),
        }
    }

    /// The members that are elsewhere than the log says.
    fn elsewhere(&self, membership: &Membership) -> BTreeMap<u64, Node> {
        let nodes = membership
            .nodes()
            .map(|(id, node)| (*id, node, self.of(node)));
        let elsewhere = nodes.filter(|(_, logged, now)| **logged != *now);
        elsewhere.map(|(id, _, now)| (id, now)).collect()
    }
}

impl<J: Journal, P: Peers, S: Snapshots> Replica<J, P, S> {
    /// By the fleet's topology, as it is now, members take calls here. A member that is not named is where the log says.
    pub fn set_addresses(&self, members: &[(NodeName, HostPort)]) {
        self.addresses().are(members);
    }

    /// Follows what the log says of addresses and, as the leader, has it say what is known.
    pub(super) async fn agree_on_addresses(self, raft: Raft) {
        let addresses = self.addresses().clone();
        let (mut known, mut metrics) = (addresses.0.subscribe(), raft.server_metrics());
        let (mut before, mut has_led) = (None, false);
        loop {
            known.mark_unchanged();
            let (leads, membership) = {
                let now = metrics.borrow_and_update();
                let leads = now.state == ServerState::Leader;
                (leads, now.membership_config.membership().clone())
            };
            // A leader's own entries are no news to it, and may be behind what it has heard meanwhile.
            if let Some(before) = before.filter(|_| !(leads && has_led)) {
                addresses.changed_in_log(&before, &membership);
            }
            let elsewhere = addresses.elsewhere(&membership);
            let is_behind = leads && known.borrow().is_news && !elsewhere.is_empty();
            let waits = is_behind && !self.log_addresses(&raft, &membership, elsewhere).await;
            (before, has_led) = (Some(membership), leads);
            tokio::select! {
                biased;
                changed = metrics.changed() => if changed.is_err() {
                    return;
                },
                Ok(()) = known.changed() => {}
                () = tokio::time::sleep(CALL_AGAIN), if waits => {}
            }
        }
    }

    /// Whether the log says so now. It does not while the members change, or without a majority.
    async fn log_addresses(
        &self,
        raft: &Raft,
        membership: &Membership,
        nodes: BTreeMap<u64, Node>,
    ) -> bool {
        let Some(_change) = self.begin_change() else {
            return false;
        };
        if membership.get_joint_config().len() > 1 {
            return false;
        }
        // A call says which member it is for, so that none is taken for another at a wrong address.
        let changed = raft.change_membership(ChangeMembers::SetNodes(nodes), false);
        match tokio::time::timeout(CALL, changed).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the log does not take the addresses of members yet");
                false
            }
            Err(_) => false,
        }
    }
}
