//! Replicas agree: same entries, same snapshot and effects, also across snapshot and restore.

use super::world::{Client, World, claim, id, message, options, will};
use crate::command::{Command, Entry};
use crate::limits::{MachineLimits, QueueFull, ShareStrategy};
use crate::machine::{Effects, SnapshotError, State};
use cluster::frame::{AckKind, Claim, WillFate};
use cluster::ids::LinkNo;
use proptest::prelude::*;
use protocol::{QoS, RetainHandling, SubscribeOptions};
use std::collections::BTreeMap;

const CLIENTS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Their home is another group; behind the clients.
const GUESTS: [&str; 2] = ["y", "z"];
const TOPICS: [&str; 4] = ["t/1", "t/2", "u", "$x/y"];
const FILTERS: [&str; 8] = [
    "t/1",
    "t/+",
    "#",
    "$share/g/t/+",
    "$share/g/t/1",
    "$oshare/g/#",
    "$queue/u",
    "$x/#",
];

#[derive(Clone, Debug)]
enum Op {
    Connect {
        client: usize,
        link: u16,
        clean_start: bool,
        expiry_s: u32,
        will_delay_s: Option<u32>,
    },
    Disconnect {
        client: usize,
        fate: WillFate,
    },
    Subscribe {
        client: usize,
        filter: usize,
        options: SubscribeOptions,
        id: u32,
    },
    Unsubscribe {
        client: usize,
        filter: usize,
    },
    Publish {
        client: usize,
        topic: usize,
        qos: QoS,
        retain: bool,
        empty: bool,
        expiry_s: Option<u32>,
    },
    Release {
        client: usize,
        packet_id: u16,
    },
    Ack {
        client: usize,
        packet_id: u16,
        kind: AckKind,
    },
    Complete {
        client: usize,
    },
    Pass {
        seconds: u64,
    },
    LinkDown {
        link: u16,
    },
    LeaderStart,
    List {
        client: usize,
        group: u8,
    },
    Join {
        guest: usize,
        link: u16,
        epoch: u64,
        start: u64,
        rank: Option<u8>,
    },
    End {
        guest: usize,
        start: u64,
    },
    ForeignWill {
        epoch: u64,
    },
    ErrandDone,
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn subscribe_options() -> impl Strategy<Value = SubscribeOptions> {
    let handling = [
        RetainHandling::Send,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ]
    .to_vec();
    (
        qos(),
        any::<bool>(),
        any::<bool>(),
        prop::sample::select(handling),
    )
        .prop_map(
            |(qos, no_local, retain_as_published, retain_handling)| SubscribeOptions {
                qos,
                no_local,
                retain_as_published,
                retain_handling,
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS.len() + GUESTS.len();
    let guest = 0..GUESTS.len();
    let fates = [WillFate::Dropped, WillFate::Published, WillFate::Kept].to_vec();
    let kinds = [
        AckKind::Ack,
        AckKind::Received,
        AckKind::Refused,
        AckKind::Complete,
    ]
    .to_vec();
    let expiry = prop::sample::select(vec![0, 5, 1_000, u32::MAX]);
    prop_oneof![
        6 => (client.clone(), 0..2_u16, prop::bool::weighted(0.2), expiry, prop::option::of(0..10_u32))
            .prop_map(|(client, link, clean_start, expiry_s, will_delay_s)| {
                let client = client % CLIENTS.len();
                Op::Connect { client, link, clean_start, expiry_s, will_delay_s }
            }),
        2 => (client.clone(), prop::sample::select(fates))
            .prop_map(|(client, fate)| Op::Disconnect { client, fate }),
        6 => (client.clone(), 0..FILTERS.len(), subscribe_options(), 0..3_u32)
            .prop_map(|(client, filter, options, id)| Op::Subscribe { client, filter, options, id }),
        1 => (client.clone(), 0..FILTERS.len())
            .prop_map(|(client, filter)| Op::Unsubscribe { client, filter }),
        16 => (
            (client.clone(), 0..TOPICS.len(), qos()),
            (prop::bool::weighted(0.3), prop::bool::weighted(0.1), prop::option::weighted(0.2, 1..9_u32)),
        )
            .prop_map(|((client, topic, qos), (retain, empty, expiry_s))| {
                Op::Publish { client, topic, qos, retain, empty, expiry_s }
            }),
        2 => (client.clone(), 1..6_u16).prop_map(|(client, packet_id)| Op::Release { client, packet_id }),
        2 => (client.clone(), 1..30_u16, prop::sample::select(kinds))
            .prop_map(|(client, packet_id, kind)| Op::Ack { client, packet_id, kind }),
        6 => client.clone().prop_map(|client| Op::Complete { client }),
        2 => (client, 1..4_u8).prop_map(|(client, group)| Op::List { client, group }),
        4 => (guest.clone(), 0..2_u16, 1..20_u64, 1..9_u64, prop::option::weighted(0.7, 1..3_u8))
            .prop_map(|(guest, link, epoch, start, rank)| Op::Join { guest, link, epoch, start, rank }),
        1 => (guest, 1..9_u64).prop_map(|(guest, start)| Op::End { guest, start }),
        1 => (1..4_u64).prop_map(|epoch| Op::ForeignWill { epoch }),
        1 => Just(Op::ErrandDone),
        2 => (0..8_u64).prop_map(|seconds| Op::Pass { seconds }),
        1 => (0..2_u16).prop_map(|link| Op::LinkDown { link }),
        1 => Just(Op::LeaderStart),
    ]
}

/// Runs the ops through a world; what they mean for clients that are not connected is nothing.
struct Run {
    world: World,
    clients: BTreeMap<usize, Client>,
    incarnation: u64,
    count: u32,
}

impl Run {
    fn new(limits: MachineLimits) -> Self {
        let mut world = World::with(limits);
        world.link_up(LinkNo(1), 100);
        Self {
            world,
            clients: BTreeMap::new(),
            incarnation: 100,
            count: 0,
        }
    }

    fn links_again(&mut self, links: &[u16]) {
        for link in links {
            self.incarnation += 1;
            self.world.link_up(LinkNo(*link), self.incarnation);
            self.clients.retain(|_, client| client.link.0 != *link);
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Connect {
                client,
                link,
                clean_start,
                expiry_s,
                will_delay_s,
            } => {
                let claim = Claim {
                    clean_start: *clean_start,
                    expiry_s: *expiry_s,
                    will: will_delay_s.map(|delay_s| Box::new(will("t/1", delay_s))),
                    ..claim(CLIENTS[*client])
                };
                let connected = self.world.connect_with(LinkNo(*link), claim);
                self.clients.insert(*client, connected);
            }
            Op::LinkDown { link } => {
                self.world.enter(vec![Command::LinkDown {
                    link: LinkNo(*link),
                }]);
                self.links_again(&[*link]);
            }
            Op::LeaderStart => {
                self.world.enter(vec![Command::LeaderStart]);
                self.links_again(&[0, 1]);
            }
            Op::Pass { seconds } => self.world.pass_s(*seconds),
            Op::Join {
                guest,
                link,
                epoch,
                start,
                rank,
            } => {
                let epochs = (*epoch, *start);
                let link = LinkNo(*link);
                if let Some(joined) = self.world.join(link, GUESTS[*guest], epochs, *rank) {
                    self.clients.insert(CLIENTS.len() + guest, joined);
                }
            }
            Op::End { guest, start } => {
                if self.world.end(GUESTS[*guest], *start) {
                    self.clients.remove(&(CLIENTS.len() + guest));
                }
            }
            Op::ForeignWill { epoch } => self.world.foreign_will("t/1", *epoch),
            Op::ErrandDone => self.world.errand_done(),
            Op::Disconnect { client, .. }
            | Op::Subscribe { client, .. }
            | Op::Unsubscribe { client, .. }
            | Op::Publish { client, .. }
            | Op::Release { client, .. }
            | Op::Ack { client, .. }
            | Op::List { client, .. }
            | Op::Complete { client } => {
                if let Some(connected) = self.clients.get(client).cloned() {
                    self.run_for(*client, &connected, op);
                }
            }
        }
    }

    fn run_for(&mut self, number: usize, client: &Client, op: &Op) {
        let world = &mut self.world;
        match op {
            Op::Disconnect { fate, .. } => {
                world.disconnect_with(client, *fate);
                self.clients.remove(&number);
            }
            Op::Subscribe {
                filter,
                options,
                id,
                ..
            } => {
                let no_local = options.no_local && !FILTERS[*filter].contains("/g/");
                let options = SubscribeOptions {
                    no_local,
                    ..*options
                };
                world.subscribe_with(client, FILTERS[*filter], options, *id);
            }
            Op::Unsubscribe { filter, .. } => drop(world.unsubscribe(client, FILTERS[*filter])),
            Op::Publish {
                topic,
                qos,
                retain,
                empty,
                expiry_s,
                ..
            } => {
                self.count += 1;
                let payload = if *empty {
                    String::new()
                } else {
                    self.count.to_string()
                };
                let message = message(TOPICS[*topic], &payload).with_expiry_s(*expiry_s);
                let packet_id = 1 + (self.count % 5) as u16;
                world.publish_with(client, message, *qos, *retain, packet_id);
            }
            Op::Release { packet_id, .. } => drop(world.release(client, *packet_id)),
            Op::Ack {
                packet_id, kind, ..
            } => world.ack(client, id(*packet_id), *kind),
            Op::Complete { .. } => {
                for got in world.got(client) {
                    world.complete(client, &got);
                }
            }
            Op::List { group, .. } => drop(world.list(client, *group)),
            _ => unreachable!("not for a client"),
        }
    }
}

/// The snapshot after all entries and the effects of each. With `restart`, the state is written and read again
/// after that many.
fn replay(
    entries: &[Entry],
    limits: &MachineLimits,
    restart: Option<usize>,
) -> (Vec<u8>, Vec<String>) {
    let mut state = State::new(limits.clone());
    let mut effects = Vec::new();
    for (n, entry) in entries.iter().enumerate() {
        if restart == Some(n) {
            state = restored(&mut state, limits);
        }
        let mut out = Effects::default();
        for command in entry.commands.clone() {
            state.apply(entry.index, entry.time_ms, command, &mut out);
        }
        effects.push(format!("{out:?}"));
    }
    (state.snapshot(), effects)
}

fn restored(state: &mut State, limits: &MachineLimits) -> State {
    let written = state.snapshot();
    let mut restored = State::restore(&mut &written[..], limits.clone()).expect("just written");
    assert_eq!(restored.snapshot(), written);
    assert_eq!(gauges(&restored), gauges(state));
    restored
}

fn gauges(state: &State) -> [u64; 11] {
    let c = state.counters();
    [
        c.sessions,
        c.attached,
        c.subscriptions,
        c.shared_queues,
        c.messages,
        c.message_bytes,
        c.entries,
        c.retained_messages,
        c.retained_bytes,
        c.guests,
        c.ends_pending,
    ]
}

fn limits() -> impl Strategy<Value = MachineLimits> {
    let strategies = [
        ShareStrategy::RoundRobin,
        ShareStrategy::Sticky,
        ShareStrategy::LeastInFlight,
        ShareStrategy::HashByClient,
    ];
    let rules = [
        QueueFull::DropOldest,
        QueueFull::DropNewest,
        QueueFull::Refuse,
    ];
    (
        1..20_u16,
        1..10_usize,
        prop::sample::select(strategies.to_vec()),
        prop::sample::select(rules.to_vec()),
    )
        .prop_map(
            |(window_entries, queue_messages, share_strategy, queue_full)| MachineLimits {
                window_entries,
                queue_messages,
                shared_messages: queue_messages,
                queue_full,
                share_strategy,
                filters_per_session: 4,
                qos2_ids: 3,
                ..MachineLimits::default()
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 192 } else { 3_000 }))]

    #[test]
    fn replicas_and_restored_replicas_agree(
        limits in limits(),
        ops in prop::collection::vec(op(), 1..120),
        restart in any::<prop::sample::Index>(),
    ) {
        let mut run = Run::new(limits.clone());
        for op in &ops {
            run.run(op);
        }
        let entries = std::mem::take(&mut run.world.entries);
        let (snapshot, effects) = replay(&entries, &limits, None);
        prop_assert!(run.world.snapshot() == snapshot, "a leader and a replica differ");
        let restart = Some(restart.index(entries.len()));
        let (after, effects_after) = replay(&entries, &limits, restart);
        prop_assert_eq!(effects_after, effects);
        prop_assert!(after == snapshot, "a restored replica differs");
    }

    /// A snapshot that is written a little at a time while the machine goes on is the one of the moment at which it
    /// was begun, and nobody notices it.
    #[test]
    fn a_snapshot_is_of_the_moment_it_was_begun(
        limits in limits(),
        before in prop::collection::vec(op(), 1..120),
        after in prop::collection::vec((op(), 0..400_usize), 1..60),
    ) {
        let mut run = Run::new(limits.clone());
        for op in &before {
            run.run(op);
        }
        let at_once = run.world.snapshot();
        let (mut written, mut whole) = (Vec::new(), false);
        run.world.state.begin_snapshot();
        for (op, slice) in &after {
            let full = written.len() + slice;
            whole = whole || run.world.state.put_snapshot(&mut written, full);
            run.run(op);
        }
        while !whole {
            let full = written.len() + 40;
            whole = run.world.state.put_snapshot(&mut written, full);
        }
        prop_assert!(written == at_once, "what came later is in it");
        prop_assert_eq!(run.world.state.snapshot_backlog(), 0);
        let (snapshot, _) = replay(&run.world.entries, &limits, None);
        prop_assert!(run.world.snapshot() == snapshot, "it has left a trace");
    }

    /// All sessions end, and nothing is left but what is retained.
    #[test]
    fn nothing_leaks(limits in limits(), ops in prop::collection::vec(op(), 1..120)) {
        let mut run = Run::new(limits.clone());
        for op in &ops {
            run.run(op);
        }
        run.world.pass_s(20);
        for client in CLIENTS {
            let end = Claim { clean_start: true, expiry_s: 0, ..claim(client) };
            let client = run.world.connect_with(LinkNo(0), end);
            run.world.disconnect(&client);
        }
        run.world.pass_s(0);
        for guest in GUESTS {
            run.world.end(guest, 1_000);
        }
        while run.world.state.next_errand(None).is_some() {
            run.world.errand_done();
        }
        let counters = run.world.state.counters();
        let left = [counters.sessions, counters.attached, counters.subscriptions, counters.shared_queues, counters.entries];
        prop_assert_eq!(left, [0; 5]);
        prop_assert_eq!([counters.guests, counters.ends_pending], [0; 2]);
        prop_assert_eq!(counters.messages, counters.retained_messages);
        prop_assert_eq!(run.world.state.live_segments().is_empty(), counters.messages == 0);
    }

    /// A damaged snapshot gives an error or a state, never a panic and no large allocation.
    #[test]
    fn damaged_snapshots_are_refused_in_order(
        ops in prop::collection::vec(op(), 1..60),
        at in any::<prop::sample::Index>(),
        flip in 1..255_u8,
    ) {
        let mut run = Run::new(MachineLimits::default());
        for op in &ops {
            run.run(op);
        }
        let mut bytes = run.world.snapshot();
        let at = at.index(bytes.len());
        prop_assert!(State::restore(&mut &bytes[..at], MachineLimits::default()).is_err());
        bytes[at] ^= flip;
        if let Ok(state) = State::restore(&mut &bytes[..], MachineLimits::default()) {
            state.counters();
        }
    }
}

#[test]
fn a_snapshot_of_another_release_is_named() {
    let mut bytes = World::new().snapshot();
    bytes[4] = 9;
    let error = State::restore(&mut &bytes[..], MachineLimits::default()).err();
    assert!(
        matches!(error, Some(SnapshotError::Version(9))),
        "{error:?}"
    );
    bytes[0] = b'X';
    let error = State::restore(&mut &bytes[..], MachineLimits::default()).err();
    assert!(
        matches!(error, Some(SnapshotError::Damaged(_))),
        "{error:?}"
    );
    let mut bytes = World::new().snapshot();
    bytes.push(0);
    assert!(State::restore(&mut &bytes[..], MachineLimits::default()).is_err());
}

#[test]
fn options_survive_a_snapshot() {
    let mut world = World::new();
    let a = world.connect("a");
    let rap = SubscribeOptions {
        retain_as_published: true,
        ..options(QoS::AtLeastOnce)
    };
    world.subscribe_with(&a, "t", rap, 77);
    world.state = restored(&mut world.state, &MachineLimits::default());
    world.publish_with(&a, message("t", "x"), QoS::AtLeastOnce, true, 1);
    let got = world.got(&a);
    assert_eq!((got[0].retain, &got[0].ids[..]), (true, &[77][..]));
}
