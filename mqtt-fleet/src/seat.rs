//! A broker's seat in its group: alone, or as one of several members.

use std::sync::Arc;

use broker::OpenGroup;
use broker::consensus::Consensus;
use broker::log::{Durability, WhenFull};
use broker::raft::{self, DiskMoved, Found, Member, Recovered, StartError};
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, NodeName, SharedTopology, Topology};

use crate::broker_node::resolve;
use crate::config::Settings;
use crate::engine::{group_options, open_group};
use crate::listen::{Place, Reserved};
use crate::node::{Node, NodeError};
use crate::standalone::RunError;
use crate::store::Store;

/// A group that is opened and does not run yet.
pub(crate) struct Seat {
    /// The group.
    pub(crate) open: OpenGroup,
    /// What it agrees with others by; `None`: there are no others, and never will be.
    pub(crate) member: Option<Member>,
}

/// Where the calls of the other members are taken; `None` for a broker whose group has none.
pub(crate) fn reserve(
    settings: &Settings,
    node: &Node,
    known: &Topology,
) -> Result<Option<Reserved>, RunError> {
    let (_, member) = node.place(known)?;
    let Some(peer) = &member.peer else {
        return Ok(None);
    };
    let address = match settings.peer {
        Some(address) => address,
        None => resolve(peer, "takes the calls of its group", "--peer (listen.peer)")?,
    };
    let place = Place {
        address,
        key: "listen.peer",
        flag: "--peer",
    };
    Ok(Some(place.reserve(1)?))
}

impl Seat {
    /// Opens the data folder. With a place for calls the broker is one of several members.
    pub(crate) fn take(
        settings: &Settings,
        node: &Node,
        known: &Topology,
        calls: Option<Reserved>,
    ) -> Result<Self, RunError> {
        let Some(calls) = calls else {
            // The table stays empty: proxies keep the records of sessions.
            let (store, journal) = Store::new();
            let open = open_group(settings, store.live())?;
            journal.open(&open);
            return Ok(Self { open, member: None });
        };
        if settings.log.durability == Durability::Memory {
            return Err(NodeError::ForgetfulMember.into());
        }
        let (group, own) = node.place(known)?;
        let peer = own.peer.as_ref().expect("calls are taken there");
        let sole = |index| raft::sole_position(&own.name, peer, index);
        let options = raft::Options {
            name: node.name.clone(),
            group,
            members: peers(known, group).collect(),
            listener: calls.open()?.swap_remove(0),
            secret: node.secret.bytes().into(),
            tls: settings.link_tls.as_ref().map(|it| Arc::clone(&it.tls)),
        };
        let moved = DiskMoved::default();
        let stored = moved.clone();
        let mut member = None;
        let mut group_options = group_options(settings);
        // The others go on without this member, and it comes back when there is space.
        group_options.log.when_full = WhenFull::Wait;
        let open = OpenGroup::open_member(
            group_options,
            sole,
            Box::new(move || stored.tell()),
            |joining| {
                let mut recovered = Recovered::at(joining.position);
                for record in joining.records {
                    recovered.record(&record?).map_err(StartError::from)?;
                }
                let found = Found {
                    log: joining.log,
                    files: joining.files,
                    moved,
                    recovered,
                };
                let waker = joining.waker;
                let started = Member::start(options, found, move || waker.nudge());
                let (started, handle) = started?;
                member = Some(started);
                Ok::<_, RunError>(Box::new(handle) as Box<dyn Consensus>)
            },
        )?;
        Ok(Self { open, member })
    }
}

/// Has a member know where the others of its group are, by each topology that the process hears of.
pub(crate) fn follow(member: &Member, group: GroupNo, shared: &Arc<SharedTopology>) {
    let (member, known) = (member.clone(), Arc::downgrade(shared));
    let tell = move || {
        if let Some(known) = known.upgrade() {
            let members: Vec<_> = peers(known.newest().topology(), group).collect();
            member.set_addresses(&members);
        }
    };
    // Each change is told as a whole, so that none needs to be asked for.
    let _watch = shared.watch(Box::new(tell));
}

/// The members of a group with an address for calls.
pub(crate) fn peers(
    known: &Topology,
    group: GroupNo,
) -> impl Iterator<Item = (NodeName, HostPort)> {
    let members = known.members(group).iter();
    members.filter_map(|member| Some((member.name.clone(), member.peer.clone()?)))
}
