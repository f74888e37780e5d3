//! The machine against a naive model: what each client is owed, as plain lists.

use super::world::{Client, Got, World, claim, message, options};
use crate::limits::MachineLimits;
use cluster::frame::{AckKind, Claim, FromGroup};
use proptest::prelude::*;
use protocol::{PacketId, QoS, ReasonCode, filter_matches};
use std::collections::{BTreeMap, VecDeque};

const CLIENTS: usize = 4;
const TOPICS: [&str; 3] = ["a", "a/b", "c"];
const FILTERS: [&str; 5] = ["a", "a/#", "+", "c", "#"];
const WINDOW: u16 = 3;

#[derive(Clone, Debug)]
enum Op {
    Connect {
        client: usize,
        clean_start: bool,
    },
    Disconnect {
        client: usize,
    },
    Crash,
    Subscribe {
        client: usize,
        filter: usize,
        qos: QoS,
    },
    Unsubscribe {
        client: usize,
        filter: usize,
    },
    Publish {
        client: usize,
        topic: usize,
        qos: QoS,
    },
    /// The nth publish of QoS 2 that was not released, sent again.
    PublishAgain {
        client: usize,
    },
    Release {
        client: usize,
    },
    /// One step with the nth unfinished delivery of a client.
    Answer {
        client: usize,
        nth: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    let qos = || prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    prop_oneof![
        4 => (client.clone(), prop::bool::weighted(0.1))
            .prop_map(|(client, clean_start)| Op::Connect { client, clean_start }),
        2 => client.clone().prop_map(|client| Op::Disconnect { client }),
        1 => Just(Op::Crash),
        4 => (client.clone(), 0..FILTERS.len(), qos())
            .prop_map(|(client, filter, qos)| Op::Subscribe { client, filter, qos }),
        1 => (client.clone(), 0..FILTERS.len())
            .prop_map(|(client, filter)| Op::Unsubscribe { client, filter }),
        12 => (client.clone(), 0..TOPICS.len(), qos())
            .prop_map(|(client, topic, qos)| Op::Publish { client, topic, qos }),
        2 => client.clone().prop_map(|client| Op::PublishAgain { client }),
        2 => client.clone().prop_map(|client| Op::Release { client }),
        12 => (client, 0..4_usize).prop_map(|(client, nth)| Op::Answer { client, nth }),
    ]
}

/// What is known of one client.
#[derive(Default)]
struct Model {
    exists: bool,
    online: Option<Client>,
    filters: BTreeMap<usize, QoS>,
    /// Owed and never seen, oldest first.
    owed: VecDeque<(String, QoS)>,
    /// Seen and not finished, oldest first; whether PUBREC was sent.
    open: Vec<(Got, bool)>,
    /// QoS 0 that is to be there now.
    now: Vec<String>,
    /// QoS 2 publishes not released: packet id, topic and payload; whether somebody got it.
    unreleased: VecDeque<(u16, usize, String, bool)>,
    next_id: u16,
}

impl Model {
    fn granted(&self, topic: &str) -> Option<QoS> {
        let matching = self
            .filters
            .iter()
            .filter(|(filter, _)| filter_matches(FILTERS[**filter], topic));
        matching.map(|(_, qos)| *qos).max()
    }

    fn forget(&mut self) {
        *self = Self {
            next_id: self.next_id,
            ..Self::default()
        };
    }
}

struct Game {
    world: World,
    models: Vec<Model>,
    count: u32,
    incarnation: u64,
}

impl Game {
    fn new() -> Self {
        let limits = MachineLimits {
            window_entries: WINDOW,
            ..MachineLimits::default()
        };
        let models = (0..CLIENTS).map(|_| Model::default()).collect();
        Self {
            world: World::with(limits),
            models,
            count: 0,
            incarnation: 50,
        }
    }

    fn play(&mut self, op: &Op) {
        match *op {
            Op::Connect {
                client,
                clean_start,
            } => self.connect(client, clean_start),
            Op::Crash => {
                self.world.enter(vec![crate::command::Command::LeaderStart]);
                self.incarnation += 1;
                self.world.link_up(super::world::LINK, self.incarnation);
                self.models.iter_mut().for_each(|model| model.online = None);
            }
            Op::Disconnect { client } => {
                if let Some(online) = self.models[client].online.take() {
                    self.world.disconnect(&online);
                }
            }
            Op::Subscribe {
                client,
                filter,
                qos,
            } => {
                let Some(online) = self.models[client].online.clone() else {
                    return;
                };
                let reason = self
                    .world
                    .subscribe_with(&online, FILTERS[filter], options(qos), 0);
                assert_eq!(reason.as_u8(), qos as u8);
                self.models[client].filters.insert(filter, qos);
            }
            Op::Unsubscribe { client, filter } => {
                let Some(online) = self.models[client].online.clone() else {
                    return;
                };
                let held = self.models[client].filters.remove(&filter).is_some();
                let reason = self.world.unsubscribe(&online, FILTERS[filter]);
                assert_eq!(reason == ReasonCode::Success, held);
            }
            Op::Publish { client, topic, qos } => self.publish(client, topic, qos),
            Op::PublishAgain { client } => {
                let Some(online) = self.models[client].online.clone() else {
                    return;
                };
                // One that nobody got was not stored: coming again, it may be somebody's first.
                let mut unreleased = self.models[client].unreleased.iter();
                let got = unreleased.find(|(.., matched)| *matched).cloned();
                let Some((id, topic, payload, _)) = got else {
                    return;
                };
                let again = message(TOPICS[topic], &payload);
                self.world
                    .publish_with(&online, again, QoS::ExactlyOnce, false, id);
            }
            Op::Release { client } => {
                let Some(online) = self.models[client].online.clone() else {
                    return;
                };
                let Some((id, ..)) = self.models[client].unreleased.pop_front() else {
                    return;
                };
                self.world.release(&online, id);
            }
            Op::Answer { client, nth } => self.answer(client, nth),
        }
        self.check();
    }

    fn connect(&mut self, client: usize, clean_start: bool) {
        let claim = Claim {
            clean_start,
            ..claim(&format!("client {client}"))
        };
        let online = self.world.connect_with(super::world::LINK, claim);
        let model = &mut self.models[client];
        assert_eq!(online.session_present, model.exists && !clean_start);
        if clean_start {
            model.forget();
        }
        model.exists = true;
        model.online = Some(online.clone());
        // What was open comes again, in order and with its packet ids, before anything new.
        let releases = self
            .world
            .take(&online, |frame| matches!(frame, FromGroup::Release { .. }));
        let releases: Vec<PacketId> = releases
            .into_iter()
            .map(|frame| match frame {
                FromGroup::Release { packet_id, .. } => packet_id,
                _ => unreachable!("taken by kind"),
            })
            .collect();
        let received = model.open.iter().filter(|(_, received)| *received);
        let expected: Vec<_> = received
            .map(|(got, _)| got.packet_id.expect("QoS 2"))
            .collect();
        assert_eq!(releases, expected);
        let (again, new): (Vec<_>, Vec<_>) =
            self.world.got(&online).into_iter().partition(|g| g.dup);
        let unreceived = model.open.iter().filter(|(_, received)| !*received);
        let expected: Vec<_> = unreceived
            .map(|(got, _)| Got {
                dup: true,
                ..got.clone()
            })
            .collect();
        assert_eq!(again, expected);
        see(model, new);
    }

    fn publish(&mut self, client: usize, topic: usize, qos: QoS) {
        let Some(online) = self.models[client].online.clone() else {
            return;
        };
        if self.models[client].unreleased.len() > 50 {
            return;
        }
        self.count += 1;
        let payload = self.count.to_string();
        let mut packet_id = 1;
        if qos == QoS::ExactlyOnce {
            let model = &mut self.models[client];
            model.next_id = model.next_id % 100 + 1;
            packet_id = model.next_id;
        }
        let mut matched = false;
        for model in &mut self.models {
            let Some(granted) = model.granted(TOPICS[topic]) else {
                continue;
            };
            matched = true;
            match granted.min(qos) {
                QoS::AtMostOnce if model.online.is_some() => model.now.push(payload.clone()),
                QoS::AtMostOnce => {}
                qos => model.owed.push_back((payload.clone(), qos)),
            }
        }
        if qos == QoS::ExactlyOnce {
            self.models[client]
                .unreleased
                .push_back((packet_id, topic, payload.clone(), matched));
        }
        let message = message(TOPICS[topic], &payload);
        let reason = self
            .world
            .publish_with(&online, message, qos, false, packet_id);
        let expected = if matched {
            ReasonCode::Success
        } else {
            ReasonCode::NoMatchingSubscribers
        };
        assert_eq!(reason, (qos > QoS::AtMostOnce).then_some(expected));
    }

    fn answer(&mut self, client: usize, nth: usize) {
        let model = &mut self.models[client];
        let Some(online) = model.online.clone() else {
            return;
        };
        let Some((got, received)) = model.open.get(nth).cloned() else {
            return;
        };
        let packet_id = got.packet_id.expect("open deliveries have one");
        let kind = match (got.qos, received) {
            (QoS::AtLeastOnce, _) => AckKind::Ack,
            (_, false) => AckKind::Received,
            (_, true) => AckKind::Complete,
        };
        if kind == AckKind::Received {
            model.open[nth].1 = true;
        } else {
            model.open.remove(nth);
        }
        self.world.ack(&online, packet_id, kind);
        let release = self
            .world
            .take(&online, |frame| matches!(frame, FromGroup::Release { .. }));
        assert_eq!(release.len(), usize::from(kind == AckKind::Received));
    }

    /// After each step: everybody has seen exactly what it should.
    fn check(&mut self) {
        for model in &mut self.models {
            if let Some(online) = &model.online {
                let got = self.world.got(online);
                assert!(got.iter().all(|got| !got.dup));
                see(model, got);
            }
            assert_eq!(
                model.now,
                Vec::<String>::new(),
                "QoS 0 is delivered at once"
            );
        }
    }

    /// Everybody comes back and answers everything: nothing is owed any more.
    fn finish(&mut self) {
        for client in 0..CLIENTS {
            if self.models[client].online.is_none() {
                self.connect(client, false);
            }
            while !self.models[client].open.is_empty() {
                self.answer(client, 0);
                self.check();
            }
            assert_eq!(
                self.models[client].owed,
                [],
                "acknowledged and not delivered"
            );
        }
        assert_eq!(self.world.state.counters().entries, 0);
        assert_eq!(self.world.state.counters().messages, 0);
    }
}

/// New deliveries: in the order owed, within the window, with packet ids that are not in use.
fn see(model: &mut Model, got: Vec<Got>) {
    for got in got {
        if got.qos == QoS::AtMostOnce {
            assert_eq!(model.now.remove(0), got.payload);
            continue;
        }
        assert_eq!(model.owed.pop_front(), Some((got.payload.clone(), got.qos)));
        assert!(
            model
                .open
                .iter()
                .all(|(open, _)| open.packet_id != got.packet_id)
        );
        model.open.push((got, false));
        assert!(model.open.len() <= usize::from(WINDOW));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 256 } else { 4_000 }))]

    #[test]
    fn everybody_gets_what_it_is_owed_in_order_and_once(ops in prop::collection::vec(op(), 1..150)) {
        let mut game = Game::new();
        for op in &ops {
            game.play(op);
        }
        game.finish();
    }
}
