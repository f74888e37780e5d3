//! SUBSCRIBE, UNSUBSCRIBE and PUBREL whose answer takes the answers of groups, where there are several.
//!
//! A request is answered once each of its groups has. A SUBSCRIBE is answered earlier if a group takes too long: the
//! filters there have failed, and the request stays here, told, until the late answer can be recognised by it.

use cluster::slots::GroupNo;
use protocol::{PacketId, ReasonCode, TopicFilter};

/// The requests of one connection, the oldest first. Bounded: no more is read from a client with too many.
#[derive(Debug, Default)]
pub(super) struct Requests {
    list: Vec<Request>,
}

/// Which packet it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SUBSCRIBE.
    Subscribe,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// PUBREL.
    Release,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) packet_id: PacketId,
    /// The filters, for what has to be undone.
    pub(super) filters: Vec<TopicFilter>,
    /// What the groups have said so far, one code a filter (PUBREL: one).
    pub(super) reasons: Vec<ReasonCode>,
    /// The groups that have not answered.
    pub(super) parts: Vec<Part>,
    /// When the client is told that it has failed; `u32::MAX`: never.
    pub(super) due_s: u32,
    /// The client has its answer, or awaits none.
    pub(super) told: bool,
}

/// What one group is asked.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) group: GroupNo,
    /// Which of the request's filters.
    pub(super) filters: Vec<usize>,
}

/// What an answer of a group came to.
#[derive(Debug)]
pub(super) enum Settled {
    /// No request waits for it.
    Unknown,
    /// Other groups have not answered.
    Partly,
    /// All groups have.
    Wholly(Request),
}

impl Request {
    pub(super) fn new(kind: Kind, packet_id: PacketId, filters: Vec<TopicFilter>) -> Self {
        // What holds if nobody says otherwise.
        let (codes, nothing) = match kind {
            Kind::Subscribe => (filters.len(), ReasonCode::Success),
            Kind::Unsubscribe => (filters.len(), ReasonCode::NoSubscriptionExisted),
            Kind::Release => (1, ReasonCode::PacketIdentifierNotFound),
        };
        Self {
            kind,
            packet_id,
            filters,
            reasons: vec![nothing; codes],
            parts: Vec::new(),
            due_s: u32::MAX,
            told: false,
        }
    }

    /// One more filter is a group's.
    pub(super) fn ask(&mut self, group: GroupNo, filter: usize) {
        match self.parts.iter_mut().find(|part| part.group == group) {
            Some(part) => part.filters.push(filter),
            None => self.parts.push(Part {
                group,
                filters: vec![filter],
            }),
        }
    }

    /// What one more group says of a filter.
    pub(super) fn combine(&mut self, filter: usize, reason: ReasonCode) {
        if let Some(so_far) = self.reasons.get_mut(filter) {
            *so_far = match self.kind {
                // A failure counts more than what was granted elsewhere, and all grant the same.
                Kind::Subscribe => reason.max(*so_far),
                Kind::Unsubscribe if reason.is_error() || so_far.is_error() => reason.max(*so_far),
                Kind::Unsubscribe | Kind::Release => reason.min(*so_far),
            };
        }
    }

    /// The filters of a part.
    pub(super) fn filters_of(&self, part: &Part) -> Vec<TopicFilter> {
        let filter = |&at: &usize| self.filters[at].clone();
        part.filters.iter().map(filter).collect()
    }
}

impl Requests {
    pub(super) fn push(&mut self, request: Request) {
        self.list.push(request);
    }

    /// A group has answered. Groups answer in the order they were asked, so the oldest request counts.
    pub(super) fn settle(
        &mut self,
        kind: Kind,
        packet_id: PacketId,
        group: GroupNo,
        reasons: &[ReasonCode],
    ) -> Settled {
        let part_of = |request: &Request| {
            let is_it = request.kind == kind && request.packet_id == packet_id;
            let part = request.parts.iter().position(|part| part.group == group);
            part.filter(|_| is_it)
        };
        let mut all = self.list.iter().enumerate();
        let found = all.find_map(|(at, request)| Some((at, part_of(request)?)));
        let Some((at, part)) = found else {
            return Settled::Unknown;
        };
        let request = &mut self.list[at];
        let part = request.parts.swap_remove(part);
        for (filter, reason) in part.filters.iter().zip(reasons) {
            request.combine(*filter, *reason);
        }
        if request.parts.is_empty() {
            Settled::Wholly(self.list.remove(at))
        } else {
            Settled::Partly
        }
    }

    /// Takes out the first request whose client has waited too long.
    pub(super) fn take_due(&mut self, now_s: u32) -> Option<Request> {
        let due = |request: &Request| !request.told && request.due_s <= now_s;
        let at = self.list.iter().position(due)?;
        Some(self.list.remove(at))
    }

    /// When the next client's wait ends.
    pub(super) fn due_s(&self) -> u32 {
        let untold = self.list.iter().filter(|request| !request.told);
        untold
            .map(|request| request.due_s)
            .min()
            .unwrap_or(u32::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
