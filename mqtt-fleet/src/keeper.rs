//! Takes what the links of this process hear of the fleet: on the disk first, and then known to all of it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use broker::group::GroupTopology;
use cluster::topology::{Member, SharedTopology, Topology};

use crate::node::Node;

/// The running keeper.
#[must_use = "what is heard is kept while the keeper runs"]
pub(crate) struct Keeper {
    shared: Arc<SharedTopology>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts it. `log`: this process has the group whose log has the topology, so what others know better goes there
    /// first.
    pub(crate) fn start(
        shared: &Arc<SharedTopology>,
        node: &Node,
        log: Option<GroupTopology>,
    ) -> io::Result<Self> {
        let taking = Taking {
            shared: Arc::clone(shared),
            node: node.clone(),
            log,
        };
        let thread = std::thread::Builder::new()
            .name("topology".into())
            .spawn(move || taking.run())?;
        Ok(Self {
            shared: Arc::clone(shared),
            thread,
        })
    }

    /// Ends it, once it has taken what there is.
    pub(crate) fn stop(self) {
        self.shared.close();
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// What its thread owns.
struct Taking {
    shared: Arc<SharedTopology>,
    node: Node,
    log: Option<GroupTopology>,
}

impl Taking {
    fn run(self) {
        while let Some(heard) = self.shared.next_heard() {
            self.take(&heard);
        }
    }

    fn take(&self, heard: &Topology) {
        let known = self.shared.newest();
        let mut newest = known.topology().clone();
        match newest.take_newer(heard) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(version = %heard.version(), %error, "another node tells of a fleet that is not taken");
                return;
            }
        }
        if let Some(log) = &self.log {
            match log.learn(newest) {
                Ok(in_log) => newest = Topology::clone(&in_log),
                Err(error) => {
                    tracing::error!(version = %heard.version(), %error, "the log does not take what another node knows");
                    return;
                }
            }
        }
        // Who cannot keep it hears of it again after the next start.
        if let Err(error) = self.node.keep(&newest) {
            tracing::error!(%error, "the next start goes by what was known before");
        }
        tracing::info!(
            version = %newest.version(),
            before = %known.version(),
            moved = moved(known.topology(), &newest),
            "the fleet has changed"
        );
        self.shared.publish(newest);
    }
}

/// Members that are elsewhere now, for a sentence.
fn moved(before: &Topology, now: &Topology) -> String {
    let members = now.groups.iter().flat_map(|group| &group.members);
    let elsewhere = |member: &&Member| {
        let earlier = before.member(&member.name);
        earlier.is_none_or(|(_, earlier)| earlier != *member)
    };
    let texts = members.filter(elsewhere);
    let texts: Vec<_> = texts
        .map(|member| format!("{} to {}", member.name, member.link))
        .collect();
    texts.join(", ")
}
