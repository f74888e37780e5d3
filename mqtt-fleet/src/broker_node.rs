//! A broker of a fleet: one group, and the links of proxies to it. Devices do not connect here.
//!
//! Order of the start: addresses are reserved, the admin port answers ("starting"), the data are opened and
//! replayed, and only then the link port opens.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use broker::group::RunningGroup;
use broker::link_server::{LinkServer, LinkServerCounters};
use cluster::link::GroupIdentity;
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, Member, Routing, SharedTopology, Topology};

use crate::admin::{Admin, Fleet, Health, Phase};
use crate::banner;
use crate::config::Settings;
use crate::engine::{on_failure, wait_until_serving};
use crate::figures::{self, Figures};
use crate::group_report::Reporter;
use crate::keeper::Keeper;
use crate::listen::{Place, Reserved};
use crate::metrics::{self, Metrics};
use crate::node::{Node, NodeError};
use crate::reload;
use crate::seat::{self, Seat};
use crate::standalone::{RunError, admin_place, begin, end, first_fault};

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
    let routing = Arc::new(Routing::new(&node.file.fixed, &known.table));
    let mut seat = Seat::take(settings, node, &known, calls)?;
    seat.open.route(group_no, routing);
    let waker = seat.open.waker();
    let group = seat.open.start(Vec::new(), on_failure(&stopper))?;
    shown.figures.read_from(&group);
    let reporter = Reporter::new(node, settings, &group, seat.member.clone());
    shown.reporter.set(Arc::new(reporter));
    let is_keeper = group_no == TOPOLOGY_GROUP;
    let topology = if seat.member.is_some() {
        node.say(&known);
        known.clone()
    } else {
        wait_until_serving(&group).map_err(|error| first_fault(&reasons).unwrap_or(error))?;
        agreed(node, &group, known.clone())?
    };
    let shared = SharedTopology::new(topology);
    let log = is_keeper.then(|| (group.topology(), group.reigns()));
    let keeper = Keeper::start(&shared, node, log)?;
    shown.fleet.set(Fleet {
        shared: Arc::clone(&shared),
        log: is_keeper.then(|| group.topology()),
    });
    let listener = links.open()?.swap_remove(0);
    let server = LinkServer::start(
        listener,
        identity(node, group_no),
        &shared,
        settings.link_tls.as_ref().map(|it| Arc::clone(&it.tls)),
        group.links(),
        waker,
    )?;
    shown.links.set(server.counters());
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

    end(&reasons, &shown.health, || {
        server.stop()?;
        let result = group.stop();
        keeper.stop();
        if let Some(member) = seat.member {
            member.stop();
        }
        Ok(result?)
    })
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
