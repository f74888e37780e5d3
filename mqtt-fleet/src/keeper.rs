//! Takes what the links of this process hear of the fleet: on the disk first, and then known to all of it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use broker::group::{ChangeError, GroupTopology, Reigns};
use cluster::topology::{Member, SharedTopology, Topology};

use crate::node::Node;

/// The running keeper.
#[must_use = "what is heard is kept while the keeper runs"]
pub(crate) struct Keeper {
    shared: Arc<SharedTopology>,
    thread: JoinHandle<()>,
    /// Asks the log at each beginning of a reign; ends with the group.
    asking: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts it. `log`: this process has a member of the group whose log has the topology, so what others know better
    /// goes there first, and whenever that member begins to lead, what the log has is asked for.
    pub(crate) fn start(
        shared: &Arc<SharedTopology>,
        node: &Node,
        log: Option<(GroupTopology, Reigns)>,
    ) -> io::Result<Self> {
        let (log, reigns) = log.unzip();
        let asking = reigns.zip(log.clone()).map(|(reigns, log)| {
            let shared = Arc::clone(shared);
            let thread = std::thread::Builder::new().name("reigns".into());
            thread.spawn(move || ask(reigns, &log, &shared))
        });
        let asking = asking.transpose()?;
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
            asking,
        })
    }

    /// Ends it, once it has taken what there is. The group has ended before.
    pub(crate) fn stop(self) {
        self.shared.close();
        for thread in self.asking.into_iter().chain([self.thread]) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Hears at the beginning of each reign what the log has, which gets what this node knows if that is newer.
fn ask(reigns: Reigns, log: &GroupTopology, shared: &SharedTopology) {
    for _reign in reigns {
        match log.learn(shared.newest().topology().clone()) {
            Ok(in_log) => shared.hear(Topology::clone(&in_log)),
            Err(error) => tracing::warn!(%error, "the log was not asked for the topology"),
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
            match log.learn(newest.clone()) {
                Ok(in_log) => newest = Topology::clone(&in_log),
                // The member that leads hears of it from those that link to it.
                Err(ChangeError::NotServing) => {}
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
