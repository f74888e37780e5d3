//! The newest topology that a node knows, between the threads of its process: links tell other nodes of it and hear
//! of newer ones, and a keeper puts those on the disk, if that takes them, before anybody sees them.

use super::{Topology, TopologyVersion};
use crate::mailbag::Wake;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A topology in the form in which it is told to other nodes.
#[derive(Debug, PartialEq, Eq)]
pub struct Announcement {
    topology: Topology,
    text: Bytes,
    slots: u64,
}

/// The fleet as this process knows it, for all who ask: links hear of newer versions, and its keeper takes them over.
pub struct SharedTopology {
    newest: Mutex<Arc<Announcement>>,
    /// Counts the changes of `newest`.
    changes: AtomicU64,
    watchers: Mutex<Vec<Wake>>,
    heard: Mutex<Heard>,
    news: Condvar,
}

/// What links have heard and the keeper has not taken. One is enough: a newer one takes its place.
#[derive(Default)]
struct Heard {
    topology: Option<Topology>,
    closed: bool,
}

/// Sees each change of a [`SharedTopology`].
pub struct TopologyWatch {
    shared: Arc<SharedTopology>,
    seen: u64,
}

impl Announcement {
    /// A topology to be told.
    pub fn new(topology: Topology) -> Self {
        Self {
            text: topology.write().into(),
            slots: topology.table.hash(),
            topology,
        }
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Its version.
    pub fn version(&self) -> TopologyVersion {
        self.topology.version()
    }

    /// Its text ([`Topology::write`]).
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// Hash of which group has which slot ([`SlotTable::hash`](crate::slots::SlotTable::hash)).
    pub fn slots(&self) -> u64 {
        self.slots
    }
}

impl SharedTopology {
    /// A node that knows this.
    pub fn new(topology: Topology) -> Arc<Self> {
        Arc::new(Self {
            newest: Mutex::new(Arc::new(Announcement::new(topology))),
            changes: AtomicU64::new(0),
            watchers: Mutex::default(),
            heard: Mutex::default(),
            news: Condvar::new(),
        })
    }

    /// What the node knows now.
    pub fn newest(&self) -> Arc<Announcement> {
        Arc::clone(&lock(&self.newest))
    }

    /// What the node knows now, and from now on each change. `wake` is called after each.
    pub fn watch(self: &Arc<Self>, wake: Wake) -> (TopologyWatch, Arc<Announcement>) {
        lock(&self.watchers).push(wake);
        let watch = TopologyWatch {
            seen: self.changes.load(Ordering::Acquire),
            shared: Arc::clone(self),
        };
        let newest = self.newest();
        (watch, newest)
    }

    /// Another node has told of this one.
    pub fn hear(&self, topology: Topology) {
        if topology.version() <= self.newest().version() {
            return;
        }
        let mut heard = lock(&self.heard);
        let held = heard.topology.as_ref().map(Topology::version);
        if held.is_none_or(|held| topology.version() > held) {
            heard.topology = Some(topology);
            self.news.notify_one();
        }
    }

    /// For the keeper: waits for the next topology that was heard of. `None`: no more will come.
    pub fn next_heard(&self) -> Option<Topology> {
        let waits = |heard: &mut Heard| heard.topology.is_none() && !heard.closed;
        let heard = self.news.wait_while(lock(&self.heard), waits);
        heard
            .unwrap_or_else(PoisonError::into_inner)
            .topology
            .take()
    }

    /// Ends the keeper's wait, once it has taken what there is.
    pub fn close(&self) {
        lock(&self.heard).closed = true;
        self.news.notify_all();
    }

    /// For the keeper, once it has tried to keep this: from now on the node knows it.
    pub fn publish(&self, topology: Topology) {
        *lock(&self.newest) = Arc::new(Announcement::new(topology));
        self.changes.fetch_add(1, Ordering::AcqRel);
        lock(&self.watchers).iter().for_each(|wake| wake());
    }
}

impl TopologyWatch {
    /// What the node knows now, if that has changed since this was last asked.
    pub fn news(&mut self) -> Option<Arc<Announcement>> {
        let changes = self.shared.changes.load(Ordering::Acquire);
        if changes == self.seen {
            return None;
        }
        self.seen = changes;
        Some(self.shared.newest())
    }

    /// Another node has told of this one.
    pub fn hear(&self, topology: Topology) {
        self.shared.hear(topology);
    }
}

/// A panic of a thread that holds one of these leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for SharedTopology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SharedTopology")
            .field(&self.newest().version())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::{GroupNo, SlotTable};
    use crate::topology::FixedHash;
    use std::sync::mpsc::sync_channel;

    fn version(members: u64) -> Topology {
        Topology {
            cluster_id: "plant".to_owned(),
            fixed: FixedHash([0; 16]),
            table: SlotTable::of_one_group(1, GroupNo(0)),
            members_version: members,
            groups: Vec::new(),
        }
    }

    #[test]
    fn watchers_see_each_change_once() {
        let shared = SharedTopology::new(version(1));
        let (tell, told) = sync_channel(8);
        let wake = Box::new(move || tell.send(()).expect("the test waits"));
        let (mut watch, first) = shared.watch(wake);
        assert_eq!(first.topology(), &version(1));
        assert_eq!(watch.news(), None);
        shared.publish(version(2));
        shared.publish(version(3));
        assert_eq!(told.try_iter().count(), 2);
        let news = watch.news().expect("changed");
        assert_eq!(news.version().members, 3);
        assert_eq!(
            Topology::read(std::str::from_utf8(news.text()).expect("text")),
            Ok(version(3))
        );
        assert_eq!(watch.news(), None);
    }

    #[test]
    fn the_keeper_gets_the_newest_of_what_is_news() {
        let shared = SharedTopology::new(version(3));
        shared.hear(version(3));
        shared.hear(version(2));
        let keeper = Arc::clone(&shared);
        let kept = std::thread::spawn(move || {
            std::iter::from_fn(|| keeper.next_heard()).collect::<Vec<_>>()
        });
        shared.hear(version(5));
        shared.hear(version(4));
        shared.close();
        let kept = kept.join().expect("it ends");
        let versions: Vec<_> = kept
            .iter()
            .map(|topology| topology.members_version)
            .collect();
        // The keeper may have taken the first before the second came.
        assert!(versions == [5] || versions == [5, 4], "{versions:?}");
    }
}
