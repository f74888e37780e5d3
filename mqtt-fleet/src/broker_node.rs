//! A broker of a fleet: one group, and the links of proxies to it. Devices do not connect here.
//!
//! Order of the start: addresses are reserved, the admin port answers ("starting"), the data are opened and
//! replayed, and only then the link port opens.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use broker::group::RunningGroup;
use broker::link_server::LinkServer;
use cluster::link::GroupIdentity;
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, Member, Routing, SharedTopology, Topology};

use crate::admin::{Admin, Fleet, Health, Phase};
use crate::banner;
use crate::config::Settings;
use crate::engine::{on_failure, open_group, wait_until_serving};
use crate::figures::{self, Figures};
use crate::group_report::Reporter;
use crate::keeper::Keeper;
use crate::listen::Place;
use crate::metrics::{self, Metrics};
use crate::node::{Node, NodeError};
use crate::reload;
use crate::standalone::{RunError, admin_place, begin, end, first_fault};
use crate::store::Store;

/// The group whose log has the topology of the fleet.
pub(crate) const TOPOLOGY_GROUP: GroupNo = GroupNo(0);

/// Runs the broker until a signal stops it (`Ok`) or it cannot go on.
pub(crate) fn run(settings: &Settings, node: &Node) -> Result<(), RunError> {
    let (stopper, reasons) = begin(settings)?;
    let known = node.topology()?;
    let (group_no, member) = node.place(&known)?;
    let admin = admin_place(settings).reserve(1)?;
    let links = link_place(settings, member)?.reserve(1)?;
    let (address, admin_address) = (links.address(), admin.address());
    say_if_elsewhere(&member.link, address);
    reload::watch(settings)?;

    let figures = Figures::default();
    let link_figures = figures::Later::default();
    let mut metrics = Metrics::default();
    metrics::add_process(&mut metrics);
    figures.add_group(&mut metrics);
    figures::add_link_server(&mut metrics, link_figures.clone());
    let fleet = figures::Later::default();
    figures::add_fleet(&mut metrics, fleet.clone());
    let reporter = figures::Later::default();
    let health = Arc::new(Health::starting());
    let _admin = Admin::start(
        admin.open()?.swap_remove(0),
        format!("links of proxies on {address}"),
        Arc::clone(&health),
        metrics.publish(),
        Some(fleet.clone()),
        Some(reporter.clone()),
    )?;

    // The table stays empty: proxies keep the records of sessions.
    let (store, journal) = Store::new();
    let mut open = open_group(settings, store.live())?;
    journal.open(&open);
    let routing = Routing::new(&node.file.fixed, &known.table);
    open.route(group_no, Arc::new(routing));
    let waker = open.waker();
    let group = open.start(Vec::new(), on_failure(&stopper))?;
    reporter.set(Arc::new(Reporter::new(node, settings, &group, None)));
    wait_until_serving(&group).map_err(|error| first_fault(&reasons).unwrap_or(error))?;
    figures.read_from(&group);
    let topology = agreed(node, &group, known.clone())?;
    let shared = SharedTopology::new(topology);
    let log = (group_no == TOPOLOGY_GROUP).then(|| group.topology());
    let keeper = Keeper::start(&shared, node, log.clone())?;
    fleet.set(Fleet {
        shared: Arc::clone(&shared),
        log,
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
    link_figures.set(server.counters());
    health.enter(Phase::Ready);
    banner::show_text(&format!(
        "mqtt-fleet {} broker {} of fleet {}\n  group         {}\n  links on      {address}\n  admin         \
         http://{admin_address}/\n",
        env!("CARGO_PKG_VERSION"),
        node.name,
        node.file.fixed.cluster_id,
        group_no.0,
    ));

    end(&reasons, &health, || {
        server.stop()?;
        keeper.stop();
        Ok(group.stop()?)
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
        None => resolve(&member.link)?,
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

fn resolve(link: &HostPort) -> Result<SocketAddr, NodeError> {
    let unknown = |source| NodeError::Unknown {
        address: link.clone(),
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
