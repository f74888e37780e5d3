//! What a member says of itself.

use super::Replica;
use crate::raft::carry::Snapshots;
use crate::raft::journal::Journal;
use crate::raft::network::Peers;
use crate::raft::status::{MemberStatus, Role};
use tokio::time::Instant;

impl<J: Journal, P: Peers, S: Snapshots> Replica<J, P, S> {
    /// What is known of the member and its group.
    pub fn status(&self) -> MemberStatus {
        let stage = self.shared.stage();
        let running = self.shared.running.get();
        let metrics = running.map(|running| running.raft.metrics().borrow().clone());
        let inbox = &self.shared.store.inbox;
        let failure = inbox.failure();
        let name = &self.shared.settings.name;
        let mut status = MemberStatus {
            snapshots_cut_short: self.shared.receiver.cut_short(),
            unreadable: inbox.unreadable().map(|damage| damage.to_string()),
            leads_for: self.shared.reign.lasts(Instant::now()),
            ..MemberStatus::new(name, stage, metrics.as_ref(), failure)
        };
        if status.role == Role::Leader && !inbox.has_won(status.term) {
            status.deposed();
        }
        if status.role != Role::Leader && inbox.lacks_leader() {
            status.without_leader();
        }
        if status.role == Role::Leader {
            let now = Instant::now().into_std();
            let reaches = inbox.change_lease(|lease| lease.reaches_majority(now));
            status.reaches_majority = Some(reaches);
        } else if !inbox.hears_leader(Instant::now()) {
            // Openraft goes by the last election, however long that leader has been silent.
            status.leader = None;
        }
        status.with_committed(self.shared.store.committed())
    }

    /// The same, with the bytes that members lack, for which this one's log is gone through from there.
    pub fn detailed_status(&self) -> MemberStatus {
        let mut status = self.status();
        for peer in &mut status.members {
            let matched = peer.matched;
            peer.lag_bytes = matched.and_then(|matched| self.shared.store.bytes_behind(matched));
        }
        status
    }
}
