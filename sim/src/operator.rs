//! Somebody who changes who is in the groups: one change of a group at a time, said again until it is made.

use crate::broker::Broker;
use crate::member::address_of;
use crate::outbox::Life;
use crate::queue::Event;
use crate::world::World;
use broker::raft::{Change, ChangeError};
use cluster::topology::MEMBERS_MAX;
use std::collections::BTreeSet;

/// Between two looks at a change that is not made yet.
const AGAIN_US: u64 = 300_000;
/// Between two changes, at most.
const WISH_US: u64 = 4_000_000;

/// A member loses its disk only if the group has so many: the others are a majority without it.
const REPLACED_FROM: usize = 3;

/// What is wished for one group.
#[derive(Debug)]
pub(crate) struct Operator {
    /// The members of the group, by their numbers.
    inside: BTreeSet<usize>,
    wish: Option<Wish>,
    /// The member that was asked last.
    asked: Option<Life>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// This one comes in, or comes back after the loss of its disk.
    Join(usize),
    /// The second one takes the first one's place.
    Replace(usize, usize),
    Leave(usize),
}

impl Operator {
    /// Of a group that begins with so many members.
    pub(crate) fn new(members: usize) -> Self {
        Self {
            inside: (0..members).collect(),
            wish: None,
            asked: None,
        }
    }

    pub(crate) fn is_inside(&self, member: usize) -> bool {
        self.inside.contains(&member)
    }

    /// Those that may go, or lose what they have: one of the `first` members, who know that the group exists, stays.
    fn dispensable(&self, first: usize) -> Vec<usize> {
        let stays = |gone: usize| self.inside.range(..first).any(|other| *other != gone);
        let inside = self.inside.iter().copied();
        inside.filter(|member| stays(*member)).collect()
    }
}

/// What a group's operator still waits for.
pub(crate) fn owed((group, operator): (usize, &Operator)) -> Option<String> {
    let wish = operator.wish?;
    Some(format!("group {group} is to {wish:?}"))
}

impl World {
    /// Looks after a group's members, as long as anything goes wrong and until the last change is made.
    pub(crate) fn operate(&mut self, group: usize) {
        let next = match self.operators[group].wish {
            None if self.env.calm_since.is_some() || self.env.plan.spares[group] == 0 => return,
            None => {
                self.wish(group);
                self.env.rng.skewed(AGAIN_US, WISH_US)
            }
            Some(wish) => {
                self.ask(group, wish);
                AGAIN_US
            }
        };
        self.env.after(next, Event::Operate { group });
    }

    /// Wishes another membership, if the group works.
    fn wish(&mut self, group: usize) {
        if self.leaders_of(group).next().is_none() {
            return;
        }
        let first = self.env.plan.groups[group];
        let mut all = 0..first + self.env.plan.spares[group];
        let operator = &self.operators[group];
        let size = operator.inside.len();
        let may_go = operator.dispensable(first);
        let outside = all.find(|member| !operator.inside.contains(member));
        let member = (!may_go.is_empty()).then(|| *self.env.rng.pick(&may_go));
        let wish = match (self.env.rng.below(5), member, outside) {
            (0, Some(member), _) => {
                self.env.judge.stored.voters(group, size - 1);
                Wish::Leave(member)
            }
            (1, Some(member), _) if size >= REPLACED_FROM => {
                self.env.judge.stored.lacks(group, 1);
                self.lose_disk(group, member);
                Wish::Join(member)
            }
            (2 | 3, Some(old), Some(new)) => {
                // Its machine may be gone for good.
                if size >= REPLACED_FROM && self.env.rng.chance(400) {
                    self.env.judge.stored.lacks(group, 1);
                    self.lose_disk(group, old);
                }
                Wish::Replace(old, new)
            }
            (_, _, Some(member)) if size < MEMBERS_MAX => Wish::Join(member),
            _ => return,
        };
        self.env
            .say(format_args!("operator: group {group} is to {wish:?}"));
        self.operators[group].wish = Some(wish);
        self.operators[group].asked = None;
    }

    /// A machine is set up anew.
    fn lose_disk(&mut self, group: usize, member: usize) {
        let broker = self.broker_of(group, member);
        self.crash(broker);
        self.brokers[broker].lose_disk(&mut self.env);
    }

    fn broker_of(&self, group: usize, member: usize) -> usize {
        let is_it = |broker: &Broker| (broker.group, broker.member) == (group, member);
        self.brokers
            .iter()
            .position(is_it)
            .expect("it is one of them")
    }

    fn leaders_of(&self, group: usize) -> impl Iterator<Item = usize> {
        let leads = move |broker: &&Broker| broker.group == group && broker.up && broker.leads();
        self.brokers.iter().filter(leads).map(|broker| broker.id)
    }

    /// Has a leader make the change, if none is at it.
    fn ask(&mut self, group: usize, wish: Wish) {
        let lives = |(broker, life): Life| {
            let broker = &self.brokers[broker];
            broker.up && broker.life == life
        };
        if self.operators[group].asked.is_some_and(lives) {
            return;
        }
        let leaders: Vec<usize> = self.leaders_of(group).collect();
        if leaders.is_empty() {
            return;
        }
        let name = |member: usize| self.env.names.members[group][member].clone();
        let change = match wish {
            Wish::Join(member) => Change::Add {
                address: address_of(&name(member)),
                name: name(member),
            },
            Wish::Replace(old, new) => Change::Replace {
                old: name(old),
                address: address_of(&name(new)),
                name: name(new),
            },
            Wish::Leave(member) => Change::Remove { name: name(member) },
        };
        let leader = *self.env.rng.pick(&leaders);
        self.operators[group].asked = self.brokers[leader].change(change);
    }

    /// A member that was asked for a change has an answer.
    pub(crate) fn changed(&mut self, life: Life, result: &Result<(), ChangeError>) {
        let group = self.brokers[life.0].group;
        let operator = &mut self.operators[group];
        if operator.asked != Some(life) {
            return;
        }
        operator.asked = None;
        let Some(wish) = operator.wish else { return };
        self.env.say(format_args!(
            "operator: group {group} is to {wish:?}: {result:?}"
        ));
        match (wish, result) {
            (_, Ok(())) | (Wish::Leave(_), Err(ChangeError::Unknown(_))) => self.done(group, wish),
            // It came in for a leader that was lost with that.
            (Wish::Join(member) | Wish::Replace(_, member), Err(ChangeError::InUse(_))) => {
                self.lose_disk(group, member);
            }
            _ => {}
        }
    }

    fn done(&mut self, group: usize, wish: Wish) {
        let operator = &mut self.operators[group];
        operator.wish = match wish {
            // As `ctl group replace` does, which does not know whether the old one has gone with that.
            Wish::Replace(old, _) => Some(Wish::Leave(old)),
            Wish::Join(_) | Wish::Leave(_) => None,
        };
        match wish {
            Wish::Join(member) => operator.inside.insert(member),
            Wish::Replace(old, new) => operator.inside.remove(&old) | operator.inside.insert(new),
            Wish::Leave(member) => operator.inside.remove(&member),
        };
        let voters = operator.inside.len();
        self.env.judge.stored.voters(group, voters);
        self.env.judge.stored.lacks(group, 0);
        if let Wish::Leave(member) = wish {
            self.lose_disk(group, member);
        }
    }
}
