//! A broker: a real group with a link server.

use super::{PATIENCE, SECRET, known};
use broker::group::{GroupStatus, LinkRefused, RunningGroup};
use broker::limits::MachineLimits;
use broker::link_server::{LinkServer, LinkServerCounters};
use broker::log::{Durability, LogOptions};
use broker::{GroupOptions, OpenGroup};
use cluster::link::GroupIdentity;
use cluster::slots::GroupNo;
use cluster::topology::{Routing, SharedTopology};
use cluster::transport::LinkTls;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

pub(crate) struct Node {
    group: RunningGroup,
    server: LinkServer,
    /// What the node knows of the fleet; nobody takes what it hears but a test.
    pub(crate) topology: Arc<SharedTopology>,
}

pub(crate) fn identity() -> GroupIdentity {
    GroupIdentity {
        group: 0,
        name: "broker-a".into(),
        secret: Arc::from(SECRET),
    }
}

impl Node {
    pub(crate) fn start(data: &Path, durability: Durability) -> Self {
        Self::start_as(data, durability, identity())
    }

    pub(crate) fn start_as(data: &Path, durability: Durability, identity: GroupIdentity) -> Self {
        Self::start_routed(data, durability, identity, None)
    }

    /// One that takes links with TLS only, or without.
    pub(crate) fn start_tls(
        data: &Path,
        durability: Durability,
        tls: Option<Arc<LinkTls>>,
    ) -> Self {
        Self::start_any(data, durability, identity(), None, tls)
    }

    /// One of several groups.
    pub(crate) fn start_routed(
        data: &Path,
        durability: Durability,
        identity: GroupIdentity,
        route: Option<(GroupNo, Arc<Routing>)>,
    ) -> Self {
        Self::start_any(data, durability, identity, route, None)
    }

    fn start_any(
        data: &Path,
        durability: Durability,
        identity: GroupIdentity,
        route: Option<(GroupNo, Arc<Routing>)>,
        tls: Option<Arc<LinkTls>>,
    ) -> Self {
        let options = GroupOptions {
            data: data.to_path_buf(),
            log: LogOptions {
                durability,
                ..LogOptions::default()
            },
            limits: MachineLimits::default(),
            snapshot_bytes: 64 << 20,
        };
        let mut open = OpenGroup::open(options, Box::new(())).expect("the folder is whole");
        if let Some((own, routing)) = route {
            open.route(own, routing);
        }
        let waker = open.waker();
        let failed = |error: &_| panic!("the log failed: {error}");
        let group = open
            .start(Vec::new(), Box::new(failed))
            .expect("a thread is free");
        assert!(group.wait_until_serving(PATIENCE));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let topology = SharedTopology::new(known(1, &[]));
        let server = LinkServer::start(listener, identity, &topology, tls, group.links(), waker);
        Self {
            group,
            topology,
            server: server.expect("a thread is free"),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(crate) fn counters(&self) -> Arc<LinkServerCounters> {
        self.server.counters()
    }

    pub(crate) fn status(&self) -> GroupStatus {
        self.group.status()
    }

    /// Sends all proxies away.
    pub(crate) fn end_links(&self, why: LinkRefused) {
        self.group.links().end_all(why);
    }

    /// The group says that it can store nothing more, or can again.
    pub(crate) fn set_full(&self, full: bool) {
        self.group.links().set_full(full);
    }

    pub(crate) fn stop(self) {
        self.server.stop().expect("the poll works");
        self.group.stop().expect("everything is stored");
    }
}
