//! What this group asks of others: to end guests of sessions that are over, and to publish wills with topics of
//! theirs. Each is stored until the other group has said that it is done.

use super::state::State;
use cluster::frame::{DoneKind, Errand, ErrandDone, ErrandKind};
use cluster::ids::{ClientNo, Epoch};
use cluster::slots::GroupNo;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Sessions that are over and that other groups may hold something of: the start of the newest one by client and
/// group. An end covers all sessions that began earlier.
pub(super) type Ends = BTreeMap<(Box<str>, GroupNo), Epoch>;

/// Names an errand of this group; in the order in which they are sent again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrandKey {
    /// A session's end at a group.
    End(Box<str>, GroupNo),
    /// A will, by the client and the epoch of the connection that left it.
    Will(ClientNo, Epoch),
}

impl State {
    /// The errand, if it is not done. `group_of_topic` says where a will has to go.
    pub fn errand(
        &self,
        own: GroupNo,
        key: &ErrandKey,
        group_of_topic: impl Fn(&str) -> GroupNo,
    ) -> Option<Errand> {
        let (to, what) = match key {
            ErrandKey::End(client_id, group) => {
                let client_id = client_id.clone();
                let start_epoch = *self.ends.get(&(client_id.clone(), *group))?;
                let what = ErrandKind::End {
                    client_id,
                    start_epoch,
                };
                (*group, what)
            }
            ErrandKey::Will(client, epoch) => {
                let due = self.wills.get(*client, *epoch)?;
                let to = group_of_topic(due.will.message.topic());
                let (epoch, will) = (*epoch, due.will.clone());
                (to, ErrandKind::Will { epoch, will })
            }
        };
        (to != own).then_some(Errand {
            from: own,
            to,
            what,
        })
    }

    /// The first errand behind `key`, or the first of all. Wills of this group's own topics are among them.
    pub fn next_errand(&self, key: Option<&ErrandKey>) -> Option<ErrandKey> {
        let end_after = match key {
            None => Some(Bound::Unbounded),
            Some(ErrandKey::End(id, group)) => Some(Bound::Excluded((id.clone(), *group))),
            Some(ErrandKey::Will(..)) => None,
        };
        if let Some(after) = end_after
            && let Some(((id, group), _)) = self.ends.range((after, Bound::Unbounded)).next()
        {
            return Some(ErrandKey::End(id.clone(), *group));
        }
        let after = match key {
            Some(ErrandKey::Will(client, epoch)) => Some((*client, *epoch)),
            _ => None,
        };
        let (client, epoch) = self.wills.next(after)?;
        Some(ErrandKey::Will(client, epoch))
    }

    /// Whether anything is asked of other groups, or some will is due.
    pub fn has_errands(&self) -> bool {
        !self.ends.is_empty() || !self.wills.is_empty()
    }

    /// Errands were handed to links, so many of them not for the first time.
    pub fn count_errands(&mut self, sent: u64, again: u64) {
        self.counters.errands_sent += sent;
        self.counters.errands_repeated += again;
    }

    /// As if so many sessions were over that a group may hold.
    #[cfg(test)]
    pub(crate) fn forge_ends(&mut self, count: u64, group: GroupNo) {
        for n in 0..count {
            self.ends
                .insert((format!("client {n}").into(), group), Epoch(n));
        }
    }

    /// Errands that other groups have done.
    pub fn errands_done(&self) -> u64 {
        self.counters.errands_done
    }

    /// An errand is done.
    pub(super) fn errand_done(&mut self, done: ErrandDone) {
        let known = match done.what {
            DoneKind::End {
                client_id,
                start_epoch,
            } => {
                let key = (client_id, done.to);
                let is_it = self.ends.get(&key).is_some_and(|it| *it <= start_epoch);
                if is_it {
                    self.ends.remove(&key);
                    self.ended_there(&key.0, done.to);
                }
                is_it
            }
            DoneKind::Will { epoch } => self.wills.remove_epoch(epoch).is_some(),
        };
        self.counters.errands_done += u64::from(known);
    }
}
