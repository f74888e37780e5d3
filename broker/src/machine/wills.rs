//! Wills that are due and not published yet. They are stored until they are, so that a leader change loses none.

use super::effects::{Effects, LeaderEffect};
use super::state::State;
use super::timers::TimerKind;
use cluster::frame::{Publish, StoredAt};
use cluster::ids::{ClientNo, Epoch};
use protocol::Will;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A will on its way into the log as a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DueWill {
    pub(super) will: Box<Will>,
    /// The client's number was given back since: it may be another client's now.
    pub(super) orphan: bool,
}

/// Due wills by client and the epoch of the connection that left them.
#[derive(Debug, Default)]
pub(super) struct DueWills {
    wills: BTreeMap<(ClientNo, Epoch), DueWill>,
    /// An epoch is given once, so it names its will without the client too.
    clients: BTreeMap<Epoch, ClientNo>,
}

impl DueWills {
    pub(super) fn insert(&mut self, client: ClientNo, epoch: Epoch, due: DueWill) {
        self.wills.insert((client, epoch), due);
        self.clients.insert(epoch, client);
    }

    pub(super) fn get(&self, client: ClientNo, epoch: Epoch) -> Option<&DueWill> {
        self.wills.get(&(client, epoch))
    }

    pub(super) fn remove(&mut self, client: ClientNo, epoch: Epoch) -> Option<DueWill> {
        let due = self.wills.remove(&(client, epoch))?;
        self.clients.remove(&epoch);
        Some(due)
    }

    pub(super) fn remove_epoch(&mut self, epoch: Epoch) -> Option<DueWill> {
        let client = *self.clients.get(&epoch)?;
        self.remove(client, epoch)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&(ClientNo, Epoch), &DueWill)> {
        self.wills.iter()
    }

    /// The first behind another one, or the first.
    pub(super) fn next(&self, after: Option<(ClientNo, Epoch)>) -> Option<(ClientNo, Epoch)> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.wills.range((after, Bound::Unbounded));
        rest.next().map(|(key, _)| *key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wills.is_empty()
    }
}

impl State {
    /// Asks the leader to publish a will.
    pub(super) fn will_is_due(
        &mut self,
        client: ClientNo,
        epoch: Epoch,
        will: Box<Will>,
        out: &mut Effects,
    ) {
        let orphan = false;
        let due = DueWill {
            will: will.clone(),
            orphan,
        };
        self.wills.insert(client, epoch, due);
        out.leader.push(LeaderEffect::WillDue {
            client,
            epoch,
            will,
        });
    }

    /// Asks again for all of them: the leader before may not have got to it.
    pub(super) fn wills_again(&self, out: &mut Effects) {
        for ((client, epoch), due) in self.wills.iter() {
            let (client, epoch, will) = (*client, *epoch, due.will.clone());
            out.leader.push(LeaderEffect::WillDue {
                client,
                epoch,
                will,
            });
        }
    }

    /// A client's number is given back.
    pub(super) fn orphan_wills(&mut self, client: ClientNo) {
        let all = (client, Epoch(0))..=(client, Epoch(u64::MAX));
        for (_, due) in self.wills.wills.range_mut(all) {
            due.orphan = true;
        }
    }

    pub(super) fn publish_will(
        &mut self,
        client: ClientNo,
        epoch: Epoch,
        publish: Publish,
        at: StoredAt,
        out: &mut Effects,
    ) {
        let Some(due) = self.wills.remove(client, epoch) else {
            return;
        };
        let publisher = (!due.orphan).then_some(client);
        self.counters.wills_published += 1;
        // A full group refuses it like any publish; there is nobody to tell, so the counters have to do.
        let _reason = self.store_and_deliver(publisher, publish, at, out);
    }

    /// The will delay is over.
    pub(super) fn will_delay_over(&mut self, client: ClientNo, out: &mut Effects) {
        let Some(session) = self.clients.get_mut(client) else {
            return;
        };
        let epoch = session.epoch;
        let Some(rare) = &mut session.rare else {
            return;
        };
        if rare.will_due_ms.take().is_none() {
            return;
        }
        if let Some(will) = rare.will.take() {
            self.will_is_due(client, epoch, will, out);
        }
    }

    /// A session goes on. Its will is published if the delay is over, though no `Tick` has come since; else it is
    /// not (MQTT-3.1.3-9).
    pub(super) fn end_will_delay(&mut self, client: ClientNo, out: &mut Effects) {
        let Some(session) = self.clients.get(client) else {
            return;
        };
        let epoch = session.epoch;
        let due_ms = session.rare.as_ref().and_then(|rare| rare.will_due_ms);
        let is_due = due_ms.is_some_and(|due_ms| due_ms <= self.time_ms);
        if let Some(will) = self.stop_will_delay(client)
            && is_due
        {
            self.will_is_due(client, epoch, will, out);
        }
    }

    /// Stops the will delay of a client; returns the will if it was running.
    pub(super) fn stop_will_delay(&mut self, client: ClientNo) -> Option<Box<Will>> {
        let rare = self.clients.get_mut(client)?.rare.as_mut()?;
        let due_ms = rare.will_due_ms.take()?;
        let will = rare.will.take();
        self.timers.cancel(due_ms, client, TimerKind::Will);
        will
    }
}
