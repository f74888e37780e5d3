//! SUBSCRIBE, UNSUBSCRIBE and PUBREL whose answer takes the answers of groups, where there are several.
//!
//! A request is answered once each of its groups has. A SUBSCRIBE is answered earlier if a group takes too long: the
//! filters there have failed, and the request stays here, told, until the late answer can be recognised by it.
//!
//! A filter that failed at one group is taken back wherever the SUBSCRIBE made a subscription, and nowhere else: one that
//! was there before stays, with the newer options.

use cluster::frame::FilterOutcome;
use cluster::slots::GroupNo;
use hashbrown::HashSet;
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
    /// Subscriptions that exist because of this SUBSCRIBE: group and filter. What there was before it is not among them.
    made: Vec<(GroupNo, usize)>,
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
pub(super) struct Settled {
    /// What is to be removed again: subscriptions that a refused SUBSCRIBE has made, by group.
    pub(super) refused: Vec<(GroupNo, Vec<TopicFilter>)>,
    /// The request, if it was the last answer.
    pub(super) whole: Option<Request>,
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
            made: Vec::new(),
        }
    }

    /// The groups that have not answered never will, as far as the client is concerned.
    pub(super) fn give_up(&mut self) {
        self.told = true;
        let late = std::mem::take(&mut self.parts);
        self.fail(&late, ReasonCode::UnspecifiedError);
        self.parts = late;
    }

    /// What is asked in these parts has failed.
    pub(super) fn fail(&mut self, parts: &[Part], reason: ReasonCode) {
        for filter in parts.iter().flat_map(|part| &part.filters) {
            self.combine(*filter, reason);
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

    /// Whether what a group holds of the request's filters is still this request's to decide.
    fn decides_at(&self, group: GroupNo) -> bool {
        let is_asked = self.parts.iter().any(|part| part.group == group);
        self.kind != Kind::Release && (is_asked || !self.told)
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

    /// The oldest request that waits for such an answer, and its part. Groups answer in the order they were asked.
    fn find(&self, kind: Kind, packet_id: PacketId, group: GroupNo) -> Option<(usize, usize)> {
        let part_of = |request: &Request| {
            let is_it = request.kind == kind && request.packet_id == packet_id;
            let part = request.parts.iter().position(|part| part.group == group);
            part.filter(|_| is_it)
        };
        let mut all = self.list.iter().enumerate();
        all.find_map(|(at, request)| Some((at, part_of(request)?)))
    }

    /// A group says which filters of a SUBSCRIBE are new to it; [`Requests::settle`] follows.
    pub(super) fn note_made(
        &mut self,
        packet_id: PacketId,
        group: GroupNo,
        outcomes: &[FilterOutcome],
    ) {
        let Some((at, part)) = self.find(Kind::Subscribe, packet_id, group) else {
            return;
        };
        let request = &mut self.list[at];
        let filters = request.parts[part].filters.iter().zip(outcomes);
        let made = filters.filter(|(_, outcome)| outcome.is_new && !outcome.reason.is_error());
        request
            .made
            .extend(made.map(|(filter, _)| (group, *filter)));
    }

    /// A group has answered. `None`: no request waits for it.
    pub(super) fn settle(
        &mut self,
        kind: Kind,
        packet_id: PacketId,
        group: GroupNo,
        reasons: &[ReasonCode],
    ) -> Option<Settled> {
        let (at, part) = self.find(kind, packet_id, group)?;
        let request = &mut self.list[at];
        let part = request.parts.swap_remove(part);
        for (filter, reason) in part.filters.iter().zip(reasons) {
            request.combine(*filter, *reason);
        }
        let decided = request.told || request.parts.is_empty();
        let refused = if decided {
            self.take_refused(at)
        } else {
            Vec::new()
        };
        Some(Settled {
            refused,
            whole: self.remove_if_answered(at),
        })
    }

    /// What a SUBSCRIBE has made of the filters that it was refused. Where a later request names such a filter, that one
    /// decides: a SUBSCRIBE takes over what was made, an UNSUBSCRIBE removes it.
    pub(super) fn take_refused(&mut self, at: usize) -> Vec<(GroupNo, Vec<TopicFilter>)> {
        let (until, later) = self.list.split_at_mut(at + 1);
        let request = &mut until[at];
        let mut made = std::mem::take(&mut request.made);
        made.retain(|(_, filter)| request.reasons[*filter].is_error());
        made.sort_unstable();
        let by_group = made.chunk_by(|(one, _), (other, _)| one == other);
        let mut refused = Vec::new();
        for made in by_group {
            let group = made[0].0;
            let texts: Vec<_> = made.iter().map(|(_, at)| &request.filters[*at]).collect();
            let left = hand_down(group, texts, later);
            if !left.is_empty() {
                refused.push((group, left));
            }
        }
        refused
    }

    /// Takes the request out if every group has answered.
    pub(super) fn remove_if_answered(&mut self, at: usize) -> Option<Request> {
        let answered = self.list[at].parts.is_empty();
        answered.then(|| self.list.remove(at))
    }

    pub(super) fn get_mut(&mut self, at: usize) -> &mut Request {
        &mut self.list[at]
    }

    /// The first request whose client has waited too long.
    pub(super) fn due(&self, now_s: u32) -> Option<usize> {
        let due = |request: &Request| !request.told && request.due_s <= now_s;
        self.list.iter().position(due)
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

/// Gives subscriptions at a group to the first of the later requests that names them; returns those that none does.
fn hand_down(group: GroupNo, made: Vec<&TopicFilter>, later: &mut [Request]) -> Vec<TopicFilter> {
    let mut left: HashSet<&str, foldhash::fast::RandomState> =
        made.iter().map(|filter| filter.as_str()).collect();
    for request in later.iter_mut().filter(|later| later.decides_at(group)) {
        for (at, filter) in request.filters.iter().enumerate() {
            if left.remove(filter.as_str()) && request.kind == Kind::Subscribe {
                request.made.push((group, at));
            }
        }
    }
    let made = made.into_iter();
    made.filter(|filter| left.contains(filter.as_str()))
        .cloned()
        .collect()
}
