//! A broker of a fleet: one group, and the links of proxies to it. Devices do not connect here.
//!
//! Order of the start: addresses are reserved, the admin port answers ("starting"), the data are opened and
//! replayed, and only then the link port opens.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use broker::group::RunningGroup;
use broker::link_server::{LinkServer, LinkServerCounters};
use broker::log::set_aside_if_asked;
use broker::raft;
use cluster::link::GroupIdentity;
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, Member, Routing, SharedTopology, Topology};

use crate::admin::{Admin, Fleet, Health, Phase};
use crate::banner;
use crate::config::Settings;
use crate::damaged;
use crate::engine::{on_failure, wait_until_serving};
use crate::figures::{self, Figures};
use crate::group_report::Reporter;
use crate::keeper::Keeper;
use crate::listen::{Place, Reserved};
use crate::metrics::{self, Metrics};
use crate::node::{Node, NodeError};
use crate::reload;
use crate::seat::{self, Seat};
use crate::standalone::{RunError, admin_place, begin, end_for, first_fault, next};
use crate::stop::{Stop, Stopper};

/// The group whose log has the topology of the fleet.
pub(crate) const TOPOLOGY_GROUP: GroupNo = GroupNo(0);

/// Runs the broker until a signal stops it (`Ok`) or it cannot go on.
pub(crate) fn run(settings: &Settings, node: &Node) -> Result<(), RunError> {
    let (stopper, reasons) = begin(settings)?;
    let known = node.topology()?;
    let (group_no, member) = node.place(&known)?;
    let admin = admin_place(settings).reserve(1)?;
    let links = link_place(settings, member)?.reserve(1)?;
    let calls = seat::reserve(settings, node, &known)?;
    let (address, admin_address) = (links.address(), admin.address());
    let calls_on = calls
        .as_ref()
        .map(|calls| format!("  members on    {}\n", calls.address()));
    say_if_elsewhere(&member.link, address);
    reload::watch(settings)?;

    let shown = show(admin, address)?;
    if let Some(aside) = set_aside_if_asked(&settings.data)? {
        tracing::warn!(to = %aside.display(), "the damaged log and snapshots are set aside");
    }
    // Who else has what this member has.
    let has_others = calls.is_some() && known.members(group_no).len() > 1;
    let seat = match Seat::take(settings, node, &known, calls) {
        Err(RunError::Log { error }) if damaged::is_mended_by_others(&error, has_others) => {
            let reporter = Reporter::damaged(node, settings, &stopper, &error);
            shown.reporter.set(Arc::new(reporter));
            return damaged::wait(&error, &reasons, &shown.health);
        }
        taken => taken?,
    };
    let starting = Starting {
        settings,
        node,
        known: &known,
        group: group_no,
        stopper: &stopper,
        reasons: &reasons,
        shown: &shown,
    };
    let parts = starting.start(seat, links)?;
    shown.health.enter(Phase::Ready);
    banner::show_text(&format!(
        "mqtt-fleet {} broker {} of fleet {}\n  group         {}\n  links on      {address}\n{}  admin         \
         http://{admin_address}/\n",
        env!("CARGO_PKG_VERSION"),
        node.name,
        node.file.fixed.cluster_id,
        group_no.0,
        calls_on.unwrap_or_default(),
    ));

    match next(&reasons) {
        Stop::Fault(RunError::Log { error })
            if damaged::is_mended_by_others(&error, has_others) =>
        {
            parts.reporter.is_damaged(&error);
            parts.give_up()?;
            damaged::wait(&error, &reasons, &shown.health)
        }
        reason => end_for(reason, &shown.health, || parts.stop()),
    }
}

/// What a start goes by once the data folder is taken.
struct Starting<'s> {
    settings: &'s Settings,
    node: &'s Node,
    known: &'s Topology,
    group: GroupNo,
    stopper: &'s Stopper,
    reasons: &'s Receiver<Stop>,
    shown: &'s Shown,
}

impl Starting<'_> {
    /// Starts the group and all around it, and takes links.
    fn start(&self, mut seat: Seat, links: Reserved) -> Result<Parts, RunError> {
        let Self {
            settings,
            node,
            known,
            shown,
            ..
        } = self;
        let routing = Arc::new(Routing::new(&node.file.fixed, &known.table));
        seat.open.route(self.group, routing);
        let waker = seat.open.waker();
        let group = seat.open.start(Vec::new(), on_failure(self.stopper))?;
        shown.figures.read_from(&group);
        let reporter = Reporter::new(node, settings, self.stopper, &group, seat.member.clone());
        let reporter = Arc::new(reporter);
        shown.reporter.set(Arc::clone(&reporter));
        let is_keeper = self.group == TOPOLOGY_GROUP;
        let topology = if seat.member.is_some() {
            node.say(known);
            Topology::clone(known)
        } else {
            wait_until_serving(&group)
                .map_err(|error| first_fault(self.reasons).unwrap_or(error))?;
            agreed(node, &group, Topology::clone(known))?
        };
        let shared = SharedTopology::new(topology);
        if let Some(member) = &seat.member {
            seat::follow(member, self.group, &shared);
        }
        let log = is_keeper.then(|| (group.topology(), group.reigns()));
        let keeper = Keeper::start(&shared, node, log)?;
        shown.fleet.set(Fleet {
            shared: Arc::clone(&shared),
            log: is_keeper.then(|| group.topology()),
        });
        let listener = links.open()?.swap_remove(0);
        let server = LinkServer::start(
            listener,
            identity(node, self.group),
            &shared,
            settings.link_tls.as_ref().map(|it| Arc::clone(&it.tls)),
            group.links(),
            waker,
        )?;
        shown.links.set(server.counters());
        Ok(Parts {
            server,
            group,
            keeper,
            member: seat.member,
            reporter,
        })
    }
}

/// What runs.
struct Parts {
    server: LinkServer,
    group: RunningGroup,
    keeper: Keeper,
    member: Option<raft::Member>,
    reporter: Arc<Reporter>,
}

impl Parts {
    /// Ends in order, and stores what is left. If this member leads, another one does first.
    fn stop(self) -> Result<(), RunError> {
        if let Some(member) = &self.member {
            member.hand_over();
        }
        self.server.stop()?;
        let result = self.group.stop();
        self.keeper.stop();
        if let Some(member) = self.member {
            member.stop();
        }
        Ok(result?)
    }

    /// Ends when the log has failed: the vote goes first.
    fn give_up(self) -> Result<(), RunError> {
        if let Some(member) = self.member {
            member.stop();
        }
        self.server.stop()?;
        if let Err(error) = self.group.stop() {
            tracing::debug!(%error, "the group has ended");
        }
        self.keeper.stop();
        Ok(())
    }
}

/// What others may see of this process.
struct Shown {
    figures: Figures,
    links: figures::Later<Arc<LinkServerCounters>>,
    fleet: figures::Later<Fleet>,
    reporter: figures::Later<Arc<Reporter>>,
    health: Arc<Health>,
    _admin: Admin,
}

/// Opens the admin port.
fn show(admin: Reserved, links: SocketAddr) -> Result<Shown, RunError> {
    let figures = Figures::default();
    let link_figures = figures::Later::default();
    let mut metrics = Metrics::default();
    metrics::add_process(&mut metrics);
    figures.add_group(&mut metrics);
    figures::add_link_server(&mut metrics, link_figures.clone());
    let fleet = figures::Later::default();
    figures::add_fleet(&mut metrics, fleet.clone());
    let reporter = figures::Later::default();
    figures::add_member(&mut metrics, reporter.clone());
    let health = Arc::new(Health::starting());
    let admin = Admin::start(
        admin.open()?.swap_remove(0),
        format!("links of proxies on {links}"),
        Arc::clone(&health),
        metrics.publish(),
        Some(fleet.clone()),
        Some(reporter.clone()),
    )?;
    Ok(Shown {
        figures,
        links: link_figures,
        fleet,
        reporter,
        health,
        _admin: admin,
    })
}

/// The topology to begin with, kept on disk: that of group 0's log, which gets its first from what this node knows.
/// Brokers of other groups hear of it later.
fn agreed(node: &Node, group: &RunningGroup, known: Topology) -> Result<Topology, RunError> {
    let (group_no, _) = node.place(&known)?;
    let topology = if group_no == TOPOLOGY_GROUP {
        let in_log = group.topology().learn(known).map_err(NodeError::from)?;
        Topology::clone(&in_log)
    } else {
        known
    };
    node.place(&topology)?;
    node.keep(&topology)?;
    node.say(&topology);
    Ok(topology)
}

fn identity(node: &Node, group: GroupNo) -> GroupIdentity {
    GroupIdentity {
        group: u32::from(group.0),
        name: node.name.as_str().into(),
        secret: node.secret.bytes().into(),
    }
}

/// Where links are taken: where the configuration says, or where the others expect this broker.
fn link_place(settings: &Settings, member: &Member) -> Result<Place, NodeError> {
    let address = match settings.link {
        Some(address) => address,
        None => resolve(&member.link, "takes links", "--link (listen.link)")?,
    };
    Ok(Place {
        address,
        key: "listen.link",
        flag: "--link",
    })
}

fn say_if_elsewhere(expected: &HostPort, address: SocketAddr) {
    if !leads_to(expected, address) {
        tracing::info!(
            %expected,
            links = %address,
            "the fleet expects this broker elsewhere; if that does not lead here, say so with mqtt-fleet ctl move-member"
        );
    }
}

/// Whether others who look there may find who listens here. Names may stand for any address.
fn leads_to(expected: &HostPort, address: SocketAddr) -> bool {
    match expected.as_str().parse::<SocketAddr>() {
        Ok(expected) if address.ip().is_unspecified() => expected.port() == address.port(),
        Ok(expected) => expected == address,
        Err(_) => expected.as_str().ends_with(&format!(":{}", address.port())),
    }
}

pub(crate) fn resolve(
    link: &HostPort,
    what: &'static str,
    flag: &'static str,
) -> Result<SocketAddr, NodeError> {
    let unknown = |source| NodeError::Unknown {
        address: link.clone(),
        what,
        flag,
        source,
    };
    let mut addresses = link.as_str().to_socket_addrs().map_err(unknown)?;
    let none = || unknown(std::io::ErrorKind::NotFound.into());
    addresses.next().ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_lead_here_is_seen() {
        for (expected, address, leads) in [
            ("10.0.0.1:7", "10.0.0.1:7", true),
            ("10.0.0.1:7", "10.0.0.2:7", false),
            ("10.0.0.1:7", "10.0.0.1:8", false),
            ("10.0.0.1:7", "0.0.0.0:7", true),
            ("10.0.0.1:7", "[::]:8", false),
            ("broker:7", "10.0.0.2:7", true),
            ("broker:17", "10.0.0.2:7", false),
        ] {
            let link = expected.parse().expect("an address");
            let address = address.parse().expect("an address");
            assert_eq!(leads_to(&link, address), leads, "{expected} {address}");
        }
    }
}
