//! What may be asked of a group's members by one that takes no part itself.

use super::config::Node;
use super::network;
use super::peers::{Credentials, TcpPeers};
use super::wire::{Answer, Call, Request};
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, NodeName};
use cluster::transport::LinkTls;
use std::sync::Arc;
use tokio::task::JoinSet;

/// One that knows the fleet's secret and takes no part in a group.
#[derive(Clone, Debug)]
pub struct Outsider(TcpPeers);

impl Outsider {
    /// For this group; `tls` if its members show each other certificates.
    pub fn new(group: GroupNo, secret: Arc<[u8]>, tls: Option<Arc<LinkTls>>) -> Self {
        let credentials = Credentials { group, secret, tls };
        Self(TcpPeers::new(Arc::new(credentials)))
    }

    /// The one of these members that leads the group and is sure of it: what was acknowledged is with it and a
    /// majority. `None`: nobody says so within a few seconds. Has to be called on a runtime of tokio.
    pub async fn leader_among(
        &self,
        members: impl IntoIterator<Item = (NodeName, HostPort)>,
    ) -> Option<NodeName> {
        let mut answers = JoinSet::new();
        for (name, address) in members {
            let peers = self.0.clone();
            answers.spawn(async move {
                let node = Node::at(&name, &address);
                let call = Call {
                    to: 0,
                    request: Request::Leads,
                };
                (name, network::call(&peers, &node, &call).await)
            });
        }
        while let Some(answer) = answers.join_next().await {
            match answer {
                Ok((name, Ok(Answer::Leads))) => return Some(name),
                Ok((_, Ok(_))) => {}
                Ok((name, Err(error))) => {
                    tracing::info!(member = %name, %error, "cannot be asked whether it leads");
                }
                Err(error) => tracing::error!(%error, "the question who leads was cut off"),
            }
        }
        None
    }
}
