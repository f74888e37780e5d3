//! A group that one proxy does not reach and the other one does, for longer than a proxy's lease of 15 s: what the two
//! proxies believe of a client id differs, and it has one owner all the same.
//!
//! Clients come to the cut proxy in three parties, each with homes at both groups. Nobody here computes where a home is: the
//! wills tell, since a group publishes the wills of its sessions when the lease of their proxy has run out.
//!
//! | party | what it does |
//! |---|---|
//! | early | connects again through the other proxy as soon as the network is cut |
//! | late  | connects again through the other proxy when the lease has run out |
//! | stays | does nothing; it alone has wills |

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::{Client, Connect, Got, Packet, Publish, wire};
use crate::net::Host;
use crate::nodes::{GROUPS, PROXIES};
use crate::scene::{Lossy, Scene, Way};

/// Clients of a party: with so many each group is home of some, for the client ids are what they are.
const PARTY: usize = 8;
/// Topics in each phase, of both groups.
const TOPICS: usize = 6;
/// The group takes the proxy for gone 15 s after it has lost the link, which it notices after 2 s of silence at most;
/// the rest is for a slow machine.
const LEASE_OVER_MAX: Duration = Duration::from_secs(25);
/// A lease is not over before: the link was lost when the last heartbeat had come.
const LEASE_OVER_MIN: Duration = Duration::from_secs(15);
/// All wills of a group are published at once; this long after the last one no other comes.
const QUIET: Duration = Duration::from_secs(2);
/// A CONNACK takes so long at most: the group waits 2 s for a proxy it does not reach, and the rest is for a slow
/// machine.
const CONNACK_MAX: Duration = Duration::from_secs(5);

/// The clients, as they are before the cut.
struct Parties {
    early: Vec<Client>,
    late: Vec<Client>,
    stays: Vec<Client>,
}

/// What is the same in all parts of a round.
struct Area {
    round: u32,
    cut: SocketAddr,
    whole: SocketAddr,
}

/// Cuts one group from one proxy, both chosen at random.
pub(crate) fn run(scene: &mut Scene, round: u32) {
    let (proxy, group) = (scene.roll(PROXIES), scene.roll(GROUPS));
    let area = Area {
        round,
        cut: scene.nodes.proxies[proxy].mqtt(),
        whole: scene.nodes.proxies[(proxy + 1) % PROXIES].mqtt(),
    };
    let hosts = [&scene.nodes.proxies[proxy], &scene.nodes.groups[group]];
    let [proxy, group] = hosts.map(|node| node.host.clone());
    judge(scene, &area, proxy, group);
}

fn judge(scene: &mut Scene, area: &Area, proxy: Host, group: Host) {
    let mut mouth = area.connect("mouth").open_at(area.whole);
    let mut witness = area.connect("witness").open_at(area.whole);
    witness.subscribe(&format!("wills-{}/#", area.round), 1);
    let mut parties = area.gather();
    area.say(&mut mouth, "before");
    for client in parties.each_mut() {
        hears(client, &["before"]);
    }
    scene.rest();

    let lossy = Lossy::begin(proxy, group, Way::Both);
    let (mut early, early_wait) = area.take_over("early");
    assert!(lossy.lasts() < LEASE_OVER_MIN, "the machine is too slow");
    area.say(&mut mouth, "early");
    for client in &mut early {
        hears(client, &["early"]);
    }
    let wills = wills(scene, &mut witness, &lossy);
    let over = lossy.lasts();
    let (mut late, late_wait) = area.take_over("late");
    area.say(&mut mouth, "late");
    for client in &mut late {
        hears(client, &["early", "late"]);
    }
    for client in &mut early {
        hears(client, &["late"]);
    }
    scene.heal(lossy, "lease, one proxy".to_owned());

    area.say(&mut mouth, "after");
    let mut owners = early;
    owners.extend(late);
    for owner in &mut owners {
        hears(owner, &["after"]);
        owner.assert_no_publish();
    }
    ends_without(parties.early, &["early", "late", "after"]);
    ends_without(parties.late, &["late", "after"]);
    let detached = wills.len();
    area.stayers_have_all(parties.stays, &wills);
    println!(
        "lease: wills of {detached} of {PARTY} sessions when it had run out, after {:.1} s at most; {} taken over \
         while it ran in {:.2} s at most, {} afterwards in {:.2} s",
        over.as_secs_f64(),
        PARTY,
        early_wait.as_secs_f64(),
        PARTY,
        late_wait.as_secs_f64()
    );
}

impl Parties {
    fn each_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        let Self { early, late, stays } = self;
        early.iter_mut().chain(late).chain(stays)
    }
}

impl Area {
    fn client_id(&self, name: &str) -> String {
        format!("{name}-{}", self.round)
    }

    fn connect(&self, name: &str) -> Connect {
        Connect::v5(&self.client_id(name)).persistent()
    }

    /// The `n`th client of a party.
    fn member(&self, party: &str, n: usize) -> Connect {
        self.connect(&format!("{party}-{n}"))
    }

    /// All come to the proxy that will be cut, and subscribe to topics of both groups.
    fn gather(&self) -> Parties {
        let come = |connect: Connect, n: usize| {
            let mut client = connect.open_at(self.cut);
            client.subscribe(&format!("lease-{}/#", self.round), 1 + (n % 2) as u8);
            client
        };
        let party = |name| (0..PARTY).map(|n| come(self.member(name, n), n)).collect();
        let with_will = |n| {
            let connect = self.member("stays", n);
            let topic = format!("wills-{}/{}", self.round, connect.client_id);
            come(connect.will(Publish::new(&topic, 1, "gone")), n)
        };
        Parties {
            early: party("early"),
            late: party("late"),
            stays: (0..PARTY).map(with_will).collect(),
        }
    }

    /// A party connects through the proxy that reaches both groups, all at once. The longest wait for a CONNACK.
    fn take_over(&self, party: &str) -> (Vec<Client>, Duration) {
        let come = |n| {
            let connect = self.member(party, n);
            move || {
                let from = Instant::now();
                let client = connect.open_at(self.whole);
                assert!(client.present, "the session of {} is found", client.id);
                (client, from.elapsed())
            }
        };
        let come: Vec<_> = (0..PARTY).map(come).collect();
        let (clients, waits): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
            let threads: Vec<_> = come.into_iter().map(|come| scope.spawn(come)).collect();
            let come = threads
                .into_iter()
                .map(|thread| thread.join().expect("it connects"));
            come.unzip()
        });
        let longest: Duration = waits.into_iter().max().unwrap_or_default();
        assert!(longest < CONNACK_MAX, "a CONNACK came after {longest:?}");
        (clients, longest)
    }

    /// Publishes on topics of both groups; the payload is the phase.
    fn say(&self, mouth: &mut Client, phase: &str) {
        for n in 0..TOPICS {
            let topic = format!("lease-{}/{n}", self.round);
            mouth.say(&topic, 1 + (n % 2) as u8, phase);
        }
    }

    /// Those whose lease ran out are told so, and find everything when they come again; the others have never been
    /// gone.
    fn stayers_have_all(&self, stays: Vec<Client>, wills: &BTreeSet<String>) {
        for (n, mut client) in stays.into_iter().enumerate() {
            if wills.contains(&client.id) {
                assert_eq!(client.expect_closed(), Some(0x8e), "{} is told", client.id);
                client = self.member("stays", n).open_at(self.cut);
                assert!(client.present, "the session of {} is found", client.id);
            }
            hears(&mut client, &["early", "late", "after"]);
            client.assert_no_publish();
        }
    }
}

/// Client ids whose wills are published when the lease has run out: those with their home at the cut group.
fn wills(scene: &mut Scene, witness: &mut Client, lossy: &Lossy) -> BTreeSet<String> {
    let mut gone = BTreeSet::new();
    loop {
        let wait = if gone.is_empty() {
            LEASE_OVER_MAX.saturating_sub(lossy.lasts())
        } else {
            QUIET
        };
        let Some(will) = next_publish(witness, wait) else {
            break;
        };
        assert!(lossy.lasts() >= LEASE_OVER_MIN, "{} too early", will.topic);
        let (_, client_id) = will.topic.split_once('/').expect("two levels");
        assert!(
            gone.insert(client_id.to_owned()),
            "{client_id} had one will"
        );
    }
    scene.pass(Duration::ZERO);
    let some = 1..PARTY;
    assert!(some.contains(&gone.len()), "homes at both groups: {gone:?}");
    gone
}

/// The next PUBLISH within this time, acknowledged.
fn next_publish(client: &mut Client, wait: Duration) -> Option<Publish> {
    let end = Instant::now() + wait;
    loop {
        match client.next(end.saturating_duration_since(Instant::now())) {
            Got::Packet(Packet::Publish(publish)) => {
                assert_eq!(publish.qos, 1, "as subscribed");
                client.send(&wire::ack(wire::PUBACK, publish.id));
                return Some(publish);
            }
            Got::Packet(_) => {}
            Got::Silence => return None,
            Got::Closed => panic!("{} is closed", client.id),
        }
    }
}

/// Takes each topic's messages of these phases: every one once, in this order.
fn hears(client: &mut Client, phases: &[&str]) {
    let mut heard = vec![Vec::new(); TOPICS];
    for _ in 0..TOPICS * phases.len() {
        let message = client.take();
        let (_, topic) = message.topic.split_once('/').expect("two levels");
        heard[topic.parse::<usize>().expect("a number")].push(message.text());
    }
    for (topic, heard) in heard.iter().enumerate() {
        assert_eq!(heard, phases, "{} on topic {topic}", client.id);
    }
}

/// These connections were taken over: they are closed, and none had anything that was published afterwards.
fn ends_without(clients: Vec<Client>, phases: &[&str]) {
    for mut client in clients {
        let mut code = None;
        loop {
            match client.next(CONNACK_MAX) {
                Got::Closed => break,
                Got::Silence => panic!("{} is still connected", client.id),
                Got::Packet(Packet::Publish(publish)) => {
                    let text = publish.text();
                    assert!(!phases.contains(&text.as_str()), "{} had {text}", client.id);
                }
                Got::Packet(Packet::Disconnect { code: reason, .. }) => code = Some(reason),
                Got::Packet(_) => {}
            }
        }
        assert_eq!(code, Some(0x8e), "{} is told", client.id);
    }
}
