//! Shared queues against a naive model: each message is completed by one member, once, whoever comes and goes.

use super::world::{Client, Got, World, message};
use crate::limits::{MachineLimits, ShareStrategy};
use proptest::prelude::*;
use protocol::QoS;
use std::collections::{BTreeMap, BTreeSet};

const MEMBERS: usize = 4;
const TOPICS: [&str; 3] = ["t/1", "t/2", "t/3"];

#[derive(Clone, Debug)]
enum Op {
    Connect {
        member: usize,
    },
    Disconnect {
        member: usize,
    },
    Publish {
        topic: usize,
        qos: QoS,
    },
    /// The member completes the oldest delivery it has open.
    Complete {
        member: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let qos = prop::sample::select(vec![QoS::AtLeastOnce, QoS::ExactlyOnce]);
    prop_oneof![
        2 => (0..MEMBERS).prop_map(|member| Op::Connect { member }),
        1 => (0..MEMBERS).prop_map(|member| Op::Disconnect { member }),
        6 => (0..TOPICS.len(), qos).prop_map(|(topic, qos)| Op::Publish { topic, qos }),
        6 => (0..MEMBERS).prop_map(|member| Op::Complete { member }),
    ]
}

struct Game {
    world: World,
    publisher: Client,
    members: Vec<Option<Client>>,
    open: Vec<Vec<Got>>,
    published: BTreeMap<u32, (usize, QoS)>,
    completed: BTreeSet<u32>,
    /// QoS 2 messages stay with who was first.
    holder: BTreeMap<u32, usize>,
    /// `$oshare`: the newest completed message a topic and QoS, as the rest of a member's QoS 2 stays behind.
    newest: BTreeMap<(usize, QoS), u32>,
    is_ordered: bool,
}

impl Game {
    fn new(limits: MachineLimits, filter: &str) -> Self {
        let mut world = World::with(limits);
        let publisher = world.connect("p");
        let members = (0..MEMBERS)
            .map(|n| {
                let member = world.connect(&n.to_string());
                world.subscribe(&member, filter, QoS::ExactlyOnce);
                Some(member)
            })
            .collect();
        Self {
            world,
            publisher,
            members,
            open: vec![Vec::new(); MEMBERS],
            published: BTreeMap::new(),
            completed: BTreeSet::new(),
            holder: BTreeMap::new(),
            newest: BTreeMap::new(),
            is_ordered: filter.starts_with("$oshare"),
        }
    }

    fn play(&mut self, op: &Op) {
        match *op {
            Op::Connect { member } if self.members[member].is_none() => {
                self.members[member] = Some(self.world.connect(&member.to_string()));
            }
            Op::Disconnect { member } => {
                if let Some(online) = self.members[member].take() {
                    self.world.disconnect(&online);
                    self.open[member].clear();
                }
            }
            Op::Publish { topic, qos } => {
                let number = self.published.len() as u32;
                self.published.insert(number, (topic, qos));
                let message = message(TOPICS[topic], &number.to_string());
                self.world
                    .publish_with(&self.publisher, message, qos, false, 1);
                self.world.release(&self.publisher, 1);
            }
            Op::Complete { member } => self.complete(member),
            Op::Connect { .. } => {}
        }
        self.look();
    }

    fn complete(&mut self, member: usize) {
        let Some(online) = self.members[member].clone() else {
            return;
        };
        if self.open[member].is_empty() {
            return;
        }
        let got = self.open[member].remove(0);
        self.world.complete(&online, &got);
        let number: u32 = got.payload.parse().expect("a number");
        assert!(self.completed.insert(number), "{number} is completed twice");
        let of = self.published[&number];
        let before = self.newest.insert(of, number);
        let in_order = before.is_none_or(|before| before < number);
        // QoS 2 of a member that is away waits for it, while later messages go to others.
        assert!(
            in_order || !self.is_ordered || got.qos == QoS::ExactlyOnce,
            "{number} {before:?}"
        );
    }

    fn look(&mut self) {
        for (n, online) in self.members.iter().enumerate() {
            let Some(online) = online else { continue };
            for got in self.world.got(online) {
                let number: u32 = got.payload.parse().expect("a number");
                assert!(!self.completed.contains(&number), "{number} comes again");
                if got.qos == QoS::ExactlyOnce {
                    assert_eq!(*self.holder.entry(number).or_insert(n), n, "{number}");
                }
                self.open[n].push(got);
            }
        }
    }

    fn finish(&mut self) {
        for member in 0..MEMBERS {
            self.play(&Op::Connect { member });
        }
        while self.open.iter().any(|open| !open.is_empty()) {
            for member in 0..MEMBERS {
                self.play(&Op::Complete { member });
            }
        }
        assert_eq!(self.completed.len(), self.published.len());
        assert_eq!(self.world.state.counters().entries, 0);
        assert_eq!(self.world.state.counters().messages, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 192 } else { 3_000 }))]

    #[test]
    fn each_message_is_completed_by_one_member_once(
        window_entries in 1..6_u16,
        strategy in 0..5_usize,
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let share_strategy = [
            ShareStrategy::RoundRobin,
            ShareStrategy::Sticky,
            ShareStrategy::LeastInFlight,
            ShareStrategy::HashByClient,
            ShareStrategy::RoundRobin,
        ][strategy];
        let filter = if strategy == 4 { "$oshare/g/t/+" } else { "$share/g/t/+" };
        let limits = MachineLimits { window_entries, share_strategy, ..MachineLimits::default() };
        let mut game = Game::new(limits, filter);
        for op in &ops {
            game.play(op);
        }
        game.finish();
    }
}
