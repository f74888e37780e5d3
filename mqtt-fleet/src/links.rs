//! The links of a proxy: a client for each group, which carries the links of all shards to it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use cluster::slots::GroupNo;
use cluster::topology::{Routing, SharedTopology};
use proxy::link::ShardPoll;
use proxy::link_client::{LinkClient, LinkClientConfig, LinkCounters, RunningLinkClient};

use crate::config::Settings;
use crate::node::Node;
use crate::shards::{Prepared, incarnation};
use crate::standalone::RunError;
use crate::stop::Stop;

/// How often a proxy that starts looks at its links.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it says that it still waits for them.
const REMIND_EVERY: Duration = Duration::from_secs(10);
/// So long a proxy that starts waits for all groups; from then on one is enough, and clients of the others are refused
/// until theirs is there.
const ALL_GROUPS_WAIT: Duration = Duration::from_secs(5);

/// The running clients, one for each group.
pub(crate) struct Links(Vec<(GroupNo, RunningLinkClient)>);

impl Links {
    /// Prepares the shards with a link to each group of `routing`; the links begin to connect.
    pub(crate) fn start(
        settings: &Settings,
        node: &Node,
        topology: &Arc<SharedTopology>,
        routing: &Routing,
    ) -> io::Result<(Vec<Prepared>, Self)> {
        let incarnation = incarnation();
        let client = |group: &GroupNo| {
            let client = LinkClient::new(LinkClientConfig {
                topology: Arc::clone(topology),
                group: *group,
                name: node.name.as_str().into(),
                node: node.name.number(),
                incarnation,
                secret: node.secret.bytes().into(),
                tls: settings.link_tls.as_ref().map(|it| Arc::clone(&it.tls)),
            })?;
            Ok((*group, client))
        };
        let clients = routing.groups().iter().map(client);
        let mut clients = clients.collect::<io::Result<Vec<_>>>()?;
        let prepared = (0..settings.shards).map(|_| {
            let poll = ShardPoll::new()?;
            let links = clients.iter_mut().map(|(group, client)| {
                let link = client.link(poll.waker())?;
                Ok((*group, link))
            });
            let links = links.collect::<io::Result<_>>()?;
            Ok(Prepared { poll, links })
        });
        let prepared = prepared.collect::<io::Result<_>>()?;
        let running = clients
            .into_iter()
            .map(|(group, client)| Ok((group, client.start()?)));
        Ok((prepared, Self(running.collect::<io::Result<_>>()?)))
    }

    /// What each link counts.
    pub(crate) fn counters(&self) -> Vec<Arc<LinkCounters>> {
        let each = self.0.iter().flat_map(|(_, client)| client.counters());
        each.cloned().collect()
    }

    /// Waits until every shard has its link to every group, or after a while to one; `false` when a signal comes first.
    pub(crate) fn await_up(&self, reasons: &Receiver<Stop>) -> Result<bool, RunError> {
        let enough_at = Instant::now() + ALL_GROUPS_WAIT;
        let mut reminder = Instant::now() + REMIND_EVERY;
        loop {
            let missing: Vec<u8> = self.missing().collect();
            let now = Instant::now();
            if missing.is_empty() {
                return Ok(true);
            }
            if missing.len() < self.0.len() && now >= enough_at {
                tracing::warn!(groups = ?missing, "no link to these groups yet; going on without");
                return Ok(true);
            }
            if now >= reminder {
                reminder += REMIND_EVERY;
                tracing::warn!(groups = ?missing, "still no link; devices are let in when there is one");
            }
            match reasons.recv_timeout(LOOK_EVERY) {
                Ok(Stop::Signal | Stop::Again) | Err(RecvTimeoutError::Disconnected) => {
                    return Ok(false);
                }
                Ok(Stop::Fault(fault)) => return Err(fault),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The groups to which not every shard has its link.
    fn missing(&self) -> impl Iterator<Item = u8> {
        let lacking = self
            .0
            .iter()
            .filter(|(_, client)| client.up() < client.counters().len());
        lacking.map(|(group, _)| group.0)
    }

    /// Waits until the groups have stored what the shards have brought, altogether at most `limit`.
    pub(crate) fn stop(self, limit: Duration) -> io::Result<()> {
        let until = Instant::now() + limit;
        for (_, client) in self.0 {
            client.stop(until.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }
}
