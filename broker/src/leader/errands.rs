//! What other groups have to do with this one: their clients' connections, and errands both ways.
//!
//! The machine holds an errand until it is done. The leader hands it to some link with a session, at once and then
//! every [`ERRANDS_AGAIN_MS`]; which proxy carries it makes no difference.

use super::{Leader, NOWHERE};
use crate::command::Command;
use crate::limits::{ERRANDS_AGAIN_MS, ERRANDS_NEW, ERRANDS_PER_TURN, ERRANDS_UNDER_WAY};
use crate::machine::{ErrandKey, OtherGroups};
use cluster::frame::{Errand, ErrandDone, ErrandKind, FromGroup, Publish, ToGroup};
use cluster::ids::{Actor, LinkNo};
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use protocol::Will;
use std::collections::VecDeque;
use std::sync::Arc;

/// Which group this one is among all, and what is whose.
#[derive(Clone, Debug)]
pub struct Routes {
    /// This group.
    pub own: GroupNo,
    /// All groups.
    pub routing: Arc<Routing>,
}

/// Errands on their way.
#[derive(Debug, Default)]
pub(super) struct Errands {
    /// `None`: this group is the only one.
    routes: Option<Routes>,
    /// Not sent yet.
    new: VecDeque<ErrandKey>,
    /// Where sending again has come to; `None`: to its end.
    again_from: Option<From>,
    /// When sending again begins anew, in group time.
    again_at_ms: Option<u64>,
    /// Errands that were not done before this time, in group time, are taken for lost.
    lost_at_ms: u64,
    /// Sent since the ones before were taken for lost, and how many errands had been done then.
    sent: u64,
    done_before: u64,
    /// As many as may be are under way.
    full: bool,
    /// The link after which the next errand is sent.
    last_link: Option<LinkNo>,
}

/// Where sending again goes on.
#[derive(Debug)]
enum From {
    Start,
    Behind(ErrandKey),
}

impl Errands {
    pub(super) fn other_groups(&self) -> OtherGroups {
        match &self.routes {
            Some(routes) if !routes.routing.is_one_group() => OtherGroups::Some,
            _ => OtherGroups::None,
        }
    }

    /// Whether a will with this topic is another group's to publish.
    fn is_elsewhere(&self, topic: &str) -> bool {
        let routes = self.routes.as_ref();
        routes.is_some_and(|routes| routes.routing.group_of_topic(topic) != routes.own)
    }

    fn push(&mut self, key: ErrandKey) {
        if self.routes.is_some() && self.new.len() < ERRANDS_NEW {
            self.new.push_back(key);
        }
    }

    /// All that is not done is sent soon.
    pub(super) fn hurry(&mut self) {
        if self.routes.is_some() {
            self.again_at_ms = Some(0);
        }
    }

    /// When something is to be sent next, in group time; 0: in the next turn.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        match self.due_ms() {
            Some(_) if self.full => Some(self.lost_at_ms),
            due => due,
        }
    }

    fn due_ms(&self) -> Option<u64> {
        if self.new.is_empty() && self.again_from.is_none() {
            self.again_at_ms
        } else {
            Some(0)
        }
    }

    /// How many may be sent in this turn, if so many have ever been done.
    fn budget(&mut self, done: u64, now_ms: u64) -> usize {
        if self.lost_at_ms <= now_ms {
            self.lost_at_ms = now_ms + ERRANDS_AGAIN_MS;
            self.sent = 0;
            self.done_before = done;
        }
        let under_way = self.sent.saturating_sub(done - self.done_before);
        let room = ERRANDS_UNDER_WAY.saturating_sub(under_way as usize);
        self.full = room == 0;
        room.min(ERRANDS_PER_TURN)
    }
}

impl Leader {
    /// There are other groups.
    pub fn route(&mut self, routes: Routes) {
        self.errands.routes = Some(routes);
        self.errands.hurry();
    }

    /// An errand of the machine's.
    pub(super) fn errand_due(&mut self, key: ErrandKey) {
        self.errands.push(key);
    }

    /// Whether a will that is due is another group's, which is asked for it then.
    pub(super) fn sends_will(&mut self, actor: Actor, will: &Will) -> bool {
        let elsewhere = self.errands.is_elsewhere(will.message.topic());
        if elsewhere {
            self.errands
                .push(ErrandKey::Will(actor.client, actor.epoch));
        }
        elsewhere
    }

    /// Whether the frame has come to the right group.
    pub(super) fn is_for_here(&self, frame: &ToGroup) -> bool {
        let routes = self.errands.routes.as_ref();
        match frame {
            ToGroup::Errand(errand) => routes.is_some_and(|routes| errand.to == routes.own),
            ToGroup::ErrandDone(done) => routes.is_some_and(|routes| done.from == routes.own),
            ToGroup::List { group, .. } => routes.is_some_and(|routes| {
                *group != routes.own && routes.routing.groups().contains(group)
            }),
            ToGroup::Join(_) => routes.is_some(),
            _ => true,
        }
    }

    /// A frame that only a fleet of several groups has.
    pub(super) fn of_other_groups(&mut self, link: LinkNo, frame: ToGroup) {
        if !self.is_for_here(&frame) {
            self.links.out_of_turn += 1;
            return;
        }
        match frame {
            ToGroup::List { actor, group } => {
                self.propose(link, Command::List { actor, group }, true);
            }
            ToGroup::Join(join) => self.propose(link, Command::Join(join), true),
            ToGroup::Errand(errand) => self.propose(link, to_command(*errand), true),
            ToGroup::ErrandDone(done) => self.take_errand_done(link, done),
            _ => unreachable!("asked for these frames only"),
        }
    }

    /// Nobody waits for it, so it may wait for company.
    fn take_errand_done(&mut self, link: LinkNo, done: Box<ErrandDone>) {
        self.propose(link, Command::ErrandDone(done), false);
    }

    /// Sends what is due, some of it a turn.
    pub(super) fn send_errands(&mut self) {
        if self.errands.due_ms().is_none_or(|at| at > self.now_ms) {
            return;
        }
        let mut links = self.live_links();
        if links.is_empty() {
            // The next link that comes up makes for a new try.
            self.errands.new.clear();
            self.errands.again_from = None;
            self.errands.again_at_ms = None;
            return;
        }
        let after = links.partition_point(|link| Some(*link) <= self.errands.last_link);
        let count = links.len();
        links.rotate_left(after % count);
        let done = self.state.errands_done();
        let mut budget = self.errands.budget(done, self.now_ms);
        let mut turn = links.iter().cycle();
        let mut sent = 0;
        while budget > 0
            && let Some(key) = self.errands.new.pop_front()
        {
            budget -= 1;
            let link = *turn.next().expect("there is a link");
            sent += u64::from(self.send_errand(link, &key));
        }
        let mut again = 0;
        while budget > 0
            && let Some(key) = self.next_again()
        {
            budget -= 1;
            let link = *turn.next().expect("there is a link");
            again += u64::from(self.send_errand(link, &key));
        }
        self.errands.sent += sent + again;
        self.state.count_errands(sent + again, again);
    }

    /// The next errand to be sent again. Behind the last one the wait begins anew, while there are any.
    fn next_again(&mut self) -> Option<ErrandKey> {
        let errands = &mut self.errands;
        if errands.again_from.is_none() && errands.again_at_ms.is_some_and(|at| at <= self.now_ms) {
            errands.again_from = Some(From::Start);
            errands.again_at_ms = None;
        }
        let after = match errands.again_from.as_ref()? {
            From::Start => None,
            From::Behind(key) => Some(key),
        };
        let next = self.state.next_errand(after);
        errands.again_from = next.clone().map(From::Behind);
        if next.is_none() && self.state.has_errands() {
            errands.again_at_ms = Some(self.now_ms + ERRANDS_AGAIN_MS);
        }
        next
    }

    fn send_errand(&mut self, link: LinkNo, key: &ErrandKey) -> bool {
        let Some(routes) = &self.errands.routes else {
            return false;
        };
        let group_of_topic = |topic: &str| routes.routing.group_of_topic(topic);
        let Some(errand) = self.state.errand(routes.own, key, group_of_topic) else {
            return false;
        };
        self.out.send(link, FromGroup::Errand(Box::new(errand)));
        self.errands.last_link = Some(link);
        // It is asked for again.
        if self.errands.again_at_ms.is_none() && self.errands.again_from.is_none() {
            self.errands.again_at_ms = Some(self.now_ms + ERRANDS_AGAIN_MS);
        }
        true
    }
}

fn to_command(errand: Errand) -> Command {
    let Errand { from, to, what } = errand;
    match what {
        ErrandKind::End {
            client_id,
            start_epoch,
        } => Command::End {
            from,
            to,
            client_id,
            start_epoch,
        },
        ErrandKind::Will { epoch, will } => {
            // Its client is unknown here.
            let actor = Actor {
                epoch,
                ..Actor::NOBODY
            };
            let publish = Publish {
                actor,
                packet_id: None,
                qos: will.qos,
                retain: will.retain,
                message: will.message,
            };
            Command::ForeignWill {
                from,
                to,
                publish,
                at: NOWHERE,
            }
        }
    }
}
