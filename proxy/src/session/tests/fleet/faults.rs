//! What goes wrong with groups and with the way to them.

use super::world::{Fleet, PROXIES};
use cluster::slots::GroupNo;

impl Fleet {
    /// A group's process is killed and started again.
    pub(super) fn crash(&mut self, group: usize) {
        self.cut_all(group);
        self.brokers[group].crash();
    }

    /// Another member leads the group, which has so many of the entries that were not stored by a majority.
    pub(super) fn fail_over(&mut self, group: usize, kept: usize) {
        self.cut_all(group);
        self.brokers[group].fail_over(kept);
    }

    fn cut_all(&mut self, group: usize) {
        for proxy in 0..PROXIES {
            self.cut(proxy, group);
        }
    }

    /// A proxy's link to a group takes no more, or does again.
    pub(super) fn fill(&mut self, proxy: usize, group: usize, full: bool) {
        let no = GroupNo(group as u8);
        self.proxies[proxy].frames.lane(no).full = full;
        self.go_on(proxy, no);
    }

    /// A proxy hears that a group can store nothing more, or can again.
    pub(super) fn refuse(&mut self, proxy: usize, group: usize, refuses: bool) {
        let no = GroupNo(group as u8);
        self.proxies[proxy].frames.lane(no).refuses = refuses;
        self.go_on(proxy, no);
    }

    /// Who waits for the group goes on, if it may.
    fn go_on(&mut self, proxy: usize, group: GroupNo) {
        let at = &mut self.proxies[proxy];
        if at.frames.is_link_full(group) {
            return;
        }
        for handle in std::mem::take(&mut at.frames.lane(group).waits.joins) {
            at.with(handle, |session, cx| session.join_late(group, cx));
        }
        if !at.frames.takes_publishes(group) {
            return;
        }
        for handle in std::mem::take(&mut at.frames.lane(group).waits.packets) {
            self.proxies[proxy].with(handle, |session, cx| session.go_on(group, cx));
            self.after(proxy, handle);
        }
    }
}
