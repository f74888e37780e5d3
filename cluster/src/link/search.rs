//! Which member of its group a link tries next, and when.
//!
//! A *round* tries each member at most once, the one that is taken for the leader first. Who does not lead or cannot be
//! reached makes for the next member at once; after a round there is a wait. So members that name each other as the
//! leader cost one try each a round.

use super::LinkError;
use crate::limits::{MEMBER_SILENT, QUICK_ROUNDS};
use crate::topology::NodeName;
use crate::wire::Refusal;
use std::io::ErrorKind;
use std::time::Instant;

/// What the links of a node to one group know of its members together.
#[derive(Debug, Default)]
pub struct GroupView {
    members: Vec<Seat>,
    leader: Option<NodeName>,
}

#[derive(Debug)]
struct Seat {
    name: NodeName,
    /// It has not answered, and is left out until then.
    silent_until: Option<Instant>,
}

/// When a link that is down tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Another member is to be tried.
    AtOnce,
    /// After a short wait: the group is about to have a leader.
    Soon,
    /// After a wait that doubles each time.
    Later,
    /// After the longest wait: somebody has to change something.
    Longest,
}

/// One link's search for the leader. Lasts as long as the link.
#[derive(Debug, Default)]
pub struct Search {
    /// In this round.
    tried: Vec<NodeName>,
    /// Rounds since the last link session.
    rounds: u32,
    /// Something in this round may go better by itself.
    may_change: bool,
    /// There is a link session.
    in_session: bool,
    /// Who had the last link session.
    last: Option<NodeName>,
}

/// What a failure says of the member it came from.
enum Verdict<'a> {
    /// It leads, and will not have the link now.
    Leads,
    /// It names the leader.
    Names(&'a NodeName),
    /// It does not lead, or cannot be reached.
    Lost,
}

impl GroupView {
    /// The group has these members from now on.
    pub fn set_members(&mut self, names: impl Iterator<Item = NodeName>) {
        let mut before = std::mem::take(&mut self.members);
        self.members.extend(names.map(|name| {
            let at = before.iter().position(|seat| seat.name == name);
            let seat = at.map(|at| before.swap_remove(at));
            seat.unwrap_or(Seat {
                name,
                silent_until: None,
            })
        }));
        let members = &self.members;
        self.leader
            .take_if(|leader| members.iter().all(|seat| seat.name != *leader));
    }

    /// The member that is taken for the leader.
    pub fn leader(&self) -> Option<&NodeName> {
        self.leader.as_ref()
    }

    fn seat(&mut self, name: &NodeName) -> Option<&mut Seat> {
        self.members.iter_mut().find(|seat| seat.name == *name)
    }

    fn lead_by(&mut self, name: &NodeName) {
        if self.seat(name).is_some() {
            self.leader = Some(name.clone());
        }
    }

    /// Those that are worth a try: all that are not silent, or all.
    fn reachable(&self, now: Instant) -> impl Iterator<Item = &NodeName> {
        let speaks = move |seat: &&Seat| seat.silent_until.is_none_or(|until| until <= now);
        let all = !self.members.iter().any(|seat| speaks(&seat));
        let seats = self.members.iter();
        seats
            .filter(move |seat| all || speaks(seat))
            .map(|seat| &seat.name)
    }
}

impl Search {
    /// The member to try now, which counts as tried; `None`: the group has none.
    pub fn next(&mut self, now: Instant, view: &GroupView) -> Option<NodeName> {
        let mut next = self.untried(now, view);
        if next.is_none() {
            self.tried.clear();
            next = self.untried(now, view);
        }
        self.tried.extend(next.clone());
        next
    }

    /// The member has welcomed the link. Whether another one had the last link session.
    pub fn welcomed(&mut self, member: &NodeName, view: &mut GroupView) -> bool {
        view.lead_by(member);
        if let Some(seat) = view.seat(member) {
            seat.silent_until = None;
        }
        // If the session is lost, it is the last to be tried.
        self.tried = vec![member.clone()];
        self.rounds = 0;
        self.may_change = false;
        self.in_session = true;
        let before = self.last.replace(member.clone());
        before.is_some_and(|before| before != *member)
    }

    /// There is no connection any more, or none could be made, with this member; `None`: there was none to try.
    pub fn failed(
        &mut self,
        now: Instant,
        member: Option<&NodeName>,
        why: &LinkError,
        view: &mut GroupView,
    ) -> Again {
        let was_in_session = std::mem::take(&mut self.in_session);
        self.may_change |= !why.needs_a_person();
        if let Some(member) = member {
            match verdict(why) {
                Verdict::Leads => {
                    view.lead_by(member);
                    self.end_round();
                    return Again::Later;
                }
                Verdict::Names(leader) if leader != member => view.lead_by(leader),
                Verdict::Names(_) | Verdict::Lost => {
                    view.leader.take_if(|leader| leader == member);
                }
            }
            if is_silence(why, was_in_session)
                && let Some(seat) = view.seat(member)
            {
                seat.silent_until = Some(now + MEMBER_SILENT);
            }
        }
        if self.untried(now, view).is_some() {
            return Again::AtOnce;
        }
        let may_change = self.may_change;
        self.end_round();
        if !may_change {
            Again::Longest
        } else if view.members.len() > 1 && self.rounds <= QUICK_ROUNDS {
            Again::Soon
        } else {
            Again::Later
        }
    }

    fn end_round(&mut self) {
        self.tried.clear();
        self.rounds = self.rounds.saturating_add(1);
        self.may_change = false;
    }

    fn untried(&self, now: Instant, view: &GroupView) -> Option<NodeName> {
        let untried = |name: &&NodeName| !self.tried.contains(name);
        let is_leader = |name: &&NodeName| view.leader() == Some(name);
        let leader = view.reachable(now).filter(untried).find(is_leader);
        let next = leader.or_else(|| view.reachable(now).find(untried));
        next.cloned()
    }
}

fn verdict(why: &LinkError) -> Verdict<'_> {
    let LinkError::Refused(refused) = why else {
        return Verdict::Lost;
    };
    match (refused.refusal, &refused.leader) {
        (Refusal::Full | Refusal::TooManyLinks | Refusal::Superseded, _) => Verdict::Leads,
        (Refusal::NotLeader, Some(leader)) => Verdict::Names(leader),
        _ => Verdict::Lost,
    }
}

/// Whether the member was waited for in vain, which takes long.
fn is_silence(why: &LinkError, in_session: bool) -> bool {
    match why {
        LinkError::Io(ErrorKind::TimedOut) => true,
        LinkError::Silent | LinkError::HandshakeTooLong => !in_session,
        _ => false,
    }
}
