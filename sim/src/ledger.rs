//! What devices have been promised, and what they got: the memory of the oracle.

use crate::net::ConnId;
use cluster::ids::Epoch;
use protocol::QoS;
use std::collections::{BTreeMap, BTreeSet};

/// A message that a device sent, or left as a will.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) device: usize,
    /// The connection that it was first sent over.
    pub(crate) conn: ConnId,
    pub(crate) topic: usize,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) kind: Kind,
    /// PUBACK or PUBREC.
    pub(crate) acked_at: Option<u64>,
    /// Whom it was promised to, if it is acknowledged.
    pub(crate) to: Vec<Target>,
    /// The shared subscription that it goes to.
    pub(crate) shared: Option<Shared>,
}

/// A shared subscription when a message was sent.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) filter: usize,
    /// Devices that were members for sure, with their sessions, and have not unsubscribed since.
    pub(crate) members: Vec<(usize, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Publish,
    /// Sent over a connection that the device had left behind.
    Stale,
    Will(Fate),
}

/// Whether a will has to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The connection is as it should be.
    Open,
    /// It ended without DISCONNECT.
    Due,
    /// It ended, and nobody can say how for the group.
    Unclear,
    /// It ended with DISCONNECT, which this life of the proxy has taken.
    Dropped { proxy: usize, life: u32 },
}

/// A receiver that a message was promised to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) device: usize,
    pub(crate) session: u32,
    /// Its filters that match, with the QoS that it can rely on.
    pub(crate) filters: Vec<(usize, QoS)>,
    pub(crate) got: bool,
}

impl Target {
    /// The QoS of its delivery at least; `None`: nothing is promised any more.
    pub(crate) fn granted(&self) -> Option<QoS> {
        self.filters.iter().map(|(_, qos)| *qos).max()
    }
}

/// A message that a device got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    pub(crate) number: u32,
    pub(crate) session: u32,
    pub(crate) conn: ConnId,
    /// The QoS of the delivery.
    pub(crate) qos: QoS,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
}

/// What is known of a device's session at the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// There is none.
    None,
    /// There may be one.
    Maybe,
    /// There is one, and it has a connection unless this says how that was lost.
    Some { left: Option<Left> },
}

/// How a session lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Until then its connection worked at least.
    pub(crate) at: u64,
    /// When the device gave up a CONNECT without an answer last. If that was taken, the session's time began anew, or
    /// another session began.
    pub(crate) tried_at: Option<u64>,
}

/// Groups count in milliseconds, and leaders take over each other's time: a session may be over so much earlier.
const EARLY_US: u64 = 1_000_000;

/// What a device can rely on.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// Counts its sessions.
    pub(crate) session: u32,
    pub(crate) known: Known,
    pub(crate) expiry_s: Option<u32>,
    /// Filters with the QoS that SUBACK granted.
    pub(crate) granted: BTreeMap<usize, QoS>,
    /// Since when each of them is granted with this QoS at least.
    pub(crate) since: BTreeMap<usize, u64>,
    /// Filters that the session may have beside those, or with another QoS: a SUBSCRIBE or UNSUBSCRIBE had no answer, or
    /// was refused.
    pub(crate) unsure: BTreeSet<usize>,
    /// The session has asked for a shared subscription, and may have left one.
    pub(crate) shares: bool,
    pub(crate) unshares: bool,
    pub(crate) got: Vec<Receipt>,
    /// The newest connection that had CONNACK: its epoch, and how many messages there had been.
    pub(crate) newest: (Epoch, u32),
}

impl Standing {
    /// Whether there is a session, and it cannot have expired by then. `exact`: nothing keeps the group from knowing the
    /// time and who is connected.
    pub(crate) fn is_alive(&self, now: u64, exact: bool) -> bool {
        match (self.known, self.expiry_s) {
            (Known::None | Known::Maybe, _) | (_, None) => false,
            (Known::Some { .. }, Some(u32::MAX)) => true,
            // A device gives its connection up long before it expires.
            (Known::Some { left: None }, _) => exact,
            (Known::Some { left: Some(left) }, Some(expiry_s)) => {
                exact && now + EARLY_US < left.at + u64::from(expiry_s) * 1_000_000
            }
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) sent: Vec<Sent>,
    pub(crate) devices: Vec<Standing>,
    /// For each topic, the filters that match it and are not shared; by number.
    pub(crate) matching: Vec<Vec<usize>>,
    /// For each topic, the shared subscription that it goes to.
    pub(crate) shared_by: Vec<Option<usize>>,
    /// A session has ended that shared: QoS 2 messages that it was sent ended with it.
    pub(crate) sharer_ended: bool,
    /// A session has ended that had left a shared subscription: what it was sent from there was its own, at any QoS.
    pub(crate) own_ended: bool,
    /// When each connection had its CONNACK, and its epoch.
    pub(crate) conns: BTreeMap<ConnId, (u64, Epoch)>,
}

impl Ledger {
    /// A device subscribes, and the filter's QoS may be this from now on, or what it was.
    pub(crate) fn may_grant(&mut self, device: usize, filter: usize, qos: QoS) {
        self.devices[device].unsure.insert(filter);
        self.devices[device].shares |= self.shared_by.contains(&Some(filter));
        if let Some(granted) = self.devices[device].granted.get_mut(&filter) {
            *granted = qos.min(*granted);
        }
        for (_, granted) in self.promised(device).filter(|(of, _)| *of == filter) {
            *granted = qos.min(*granted);
        }
    }

    /// SUBACK grants a filter.
    pub(crate) fn grant(&mut self, now: u64, device: usize, filter: usize, qos: QoS) {
        let standing = &mut self.devices[device];
        standing.unsure.remove(&filter);
        let before = standing.granted.insert(filter, qos);
        if before.is_none_or(|before| before < qos) {
            standing.since.insert(filter, now);
        }
    }

    /// A device unsubscribes: what it has not got need not come any more.
    pub(crate) fn withdraw(&mut self, device: usize, filter: usize) {
        self.devices[device].granted.remove(&filter);
        self.devices[device].since.remove(&filter);
        self.devices[device].unsure.insert(filter);
        self.devices[device].unshares |= self.shared_by.contains(&Some(filter));
        for sent in &mut self.sent {
            if let Some(shared) = sent.shared.as_mut().filter(|it| it.filter == filter) {
                shared.members.retain(|(member, _)| *member != device);
            }
            for target in sent.to.iter_mut().filter(|to| to.device == device) {
                target.filters.retain(|(of, _)| *of != filter);
            }
        }
    }

    /// UNSUBACK.
    pub(crate) fn withdrawn(&mut self, device: usize, filter: usize) {
        self.devices[device].unsure.remove(&filter);
    }

    fn promised(&mut self, device: usize) -> impl Iterator<Item = &mut (usize, QoS)> {
        let targets = self.sent.iter_mut().flat_map(|sent| &mut sent.to);
        let own = targets.filter(move |to| to.device == device);
        own.flat_map(|to| &mut to.filters)
    }

    /// Who has relied since then on getting a message of this topic.
    pub(crate) fn targets(&self, topic: usize, since: u64) -> Vec<Target> {
        let devices = self.devices.iter().enumerate();
        let of = |(device, standing): (usize, &Standing)| {
            let filters = self.matching[topic].iter();
            let granted = filters.filter_map(|filter| {
                let qos = standing.granted.get(filter)?;
                (standing.since[filter] <= since).then_some(())?;
                Some((*filter, *qos))
            });
            let filters: Vec<_> = granted.collect();
            (!filters.is_empty()).then_some(Target {
                device,
                session: standing.session,
                filters,
                got: false,
            })
        };
        devices.filter_map(of).collect()
    }

    /// The shared subscription that a message of this topic goes to, with those who have relied on it since then.
    pub(crate) fn shared(&self, topic: usize, since: u64) -> Option<Shared> {
        let filter = self.shared_by[topic]?;
        let relies =
            |standing: &Standing| standing.since.get(&filter).is_some_and(|at| *at <= since);
        let devices = self.devices.iter().enumerate();
        let members = devices.filter(|(_, standing)| relies(standing));
        Some(Shared {
            filter,
            members: members
                .map(|(device, standing)| (device, standing.session))
                .collect(),
        })
    }

    /// The device's session is over, for all that the device knows, or will be with its next CONNECT.
    pub(crate) fn end_session(&mut self, device: usize) {
        let standing = &mut self.devices[device];
        standing.session += 1;
        standing.granted.clear();
        standing.since.clear();
        standing.unsure.clear();
        self.sharer_ended |= std::mem::take(&mut standing.shares);
        self.own_ended |= std::mem::take(&mut standing.unshares);
    }

    /// The session that is there may be another one than the device relied on.
    pub(crate) fn doubt_session(&mut self, device: usize) {
        let standing = &mut self.devices[device];
        let granted = standing.granted.keys().copied();
        let mut unsure = std::mem::take(&mut standing.unsure);
        unsure.extend(granted);
        self.end_session(device);
        self.devices[device].unsure = unsure;
    }

    /// Whom a message is promised to now: those whose session goes on, with the QoS of the delivery.
    pub(crate) fn owed<'a>(&'a self, sent: &'a Sent) -> impl Iterator<Item = (&'a Target, QoS)> {
        let to = sent.to.iter();
        let lives = to.filter(|to| self.devices[to.device].session == to.session);
        lives.filter_map(|to| Some((to, to.granted()?.min(sent.qos))))
    }
}
