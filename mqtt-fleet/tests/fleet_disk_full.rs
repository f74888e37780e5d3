//! Full disks of members of a group of three: with a majority that has space the group goes on, without one new
//! messages are refused (MQTT 5) or held (MQTT 3.1.1), and service comes back with space. Nothing that was acknowledged
//! is lost.

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::broker::metric;
use common::ctl_group::rows;
use common::members::Members;
use common::small_disk::SmallDisk;
use common::tools::{await_that, pause};
use common::{Client, Connect, Got, Packet, Publish, wire};

/// Of each member's disk.
const SIZE: &str = "24m";
/// How long the group may take to notice something.
const NOTICED: Duration = Duration::from_secs(60);
/// A member stops within this time, whatever its disk is like.
const STOPS: Duration = Duration::from_secs(15);
const MESSAGE_BYTES: usize = 16 << 10;
const UNANSWERED_MAX: usize = 100;
/// Between two messages.
const EVERY: Duration = Duration::from_millis(10);
const QUOTA_EXCEEDED: u8 = 0x97;

struct Scene {
    // Unmounted before the fleet's folder goes.
    disks: Vec<SmallDisk>,
    fleet: Members,
    publisher: Client,
    unanswered: HashMap<u16, u32>,
    sent: u32,
    acked: Vec<u32>,
    refused: u32,
}

impl Scene {
    fn start() -> Self {
        let mut fleet = Members::plan(3, &["--config", "broker.toml"]);
        let small = "[data]\nsegment_mb = 1\n";
        std::fs::write(fleet.folder.path().join("broker.toml"), small).expect("a writable folder");
        let disks = (0..3).map(|n| SmallDisk::mount(&fleet.data(n), SIZE));
        let disks = disks.collect();
        fleet.start_all();
        fleet.leader();
        let mut subscriber = Connect::v5("sub").persistent().open_at(fleet.mqtt);
        subscriber.subscribe("t", 1);
        subscriber.disconnect();
        let publisher = Connect::v5("pub").keep_alive(0).open_at(fleet.mqtt);
        Self {
            disks,
            fleet,
            publisher,
            unanswered: HashMap::new(),
            sent: 0,
            acked: Vec::new(),
            refused: 0,
        }
    }

    /// Publishes once, and takes what has been answered. What is not answered must not fill the others' disks too.
    fn publish(&mut self) {
        self.take_answers(NOTICED, UNANSWERED_MAX);
        let text = format!("{:0>MESSAGE_BYTES$}", self.sent);
        let id = self.publisher.fresh_id();
        let message = Publish::new("t", 1, text).id(id);
        self.publisher
            .send(&wire::publish(self.publisher.version, &message));
        self.unanswered.insert(id, self.sent);
        self.sent += 1;
        // Figures are up to a second old: not much more is to be sent by then.
        pause(EVERY);
        self.take_answers(Duration::from_millis(1), 0);
    }

    /// Takes answers until no more than so many are missing, or for so long none comes.
    fn take_answers(&mut self, patience: Duration, missing: usize) {
        while self.unanswered.len() > missing {
            match self.publisher.next(patience) {
                Got::Packet(Packet::PubAck { id, code, .. }) => self.answered(id, code),
                Got::Silence => return,
                other => panic!("{other:?} after {} messages", self.sent),
            }
        }
    }

    fn answered(&mut self, id: u16, code: u8) {
        let number = self.unanswered.remove(&id).expect("it was sent");
        match code {
            0..0x80 => self.acked.push(number),
            QUOTA_EXCEEDED => self.refused += 1,
            other => panic!("message {number} is refused with {other:#x}"),
        }
    }

    /// Publishes until it is so.
    fn publish_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + NOTICED;
        while !is_so(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: not in {NOTICED:?}; of {} sent {} acknowledged, {} refused",
                self.sent,
                self.acked.len(),
                self.refused
            );
            self.publish();
        }
    }

    fn is_full(&self, n: usize) -> bool {
        self.fleet.metric(n, &["mqtt_fleet_group_log_full"]) > 0.0
    }

    /// Whether the proxy has been told that the group can store nothing more.
    fn group_is_full(&self) -> bool {
        metric(self.fleet.proxy_admin, &["mqtt_fleet_link_group_full"]) > 0.0
    }

    fn others(&self, of: usize) -> Vec<usize> {
        (0..self.disks.len()).filter(|n| *n != of).collect()
    }

    /// All that is unanswered is acknowledged.
    fn settle(&mut self) {
        self.take_answers(NOTICED, 0);
        assert!(self.unanswered.is_empty(), "{:?}", self.unanswered);
    }

    /// Whoever comes back for its messages gets all that were acknowledged, in order.
    fn judge(&self) {
        let mut subscriber = Connect::v5("sub").resume().open_at(self.fleet.mqtt);
        assert!(subscriber.present, "the session is there");
        let mut came = Vec::new();
        let last = *self.acked.last().expect("some were");
        while came.last() != Some(&last) {
            let number: u32 = subscriber.take().text().parse().expect("a number");
            came.push(number);
        }
        came.dedup();
        assert!(came.is_sorted(), "order is kept");
        let missing = self.acked.iter().filter(|number| !came.contains(number));
        assert_eq!(missing.count(), 0, "of {} acknowledged", self.acked.len());
    }
}

#[test]
fn a_group_goes_on_without_a_leader_whose_disk_is_full() {
    let mut scene = Scene::start();
    let first = scene.fleet.leader();
    scene.disks[first].put_ballast();
    scene.publish_until("the leader's disk is full", |scene| scene.is_full(first));
    let steps_down = |scene: &Scene| {
        let leads = |n: &usize| scene.fleet.metric(*n, &["mqtt_fleet_group_leads"]) > 0.0;
        !leads(&first) && scene.others(first).iter().any(leads)
    };
    scene.publish_until("another one leads", steps_down);
    let before = scene.acked.len();
    scene.publish_until("publishes go on", |scene| scene.acked.len() >= before + 50);
    scene.settle();
    assert_eq!(scene.refused, 0, "two of three have space");
    await_that(
        || scene.is_full(first),
        || "it has no more space".to_owned(),
    );
    let rows = rows(&scene.fleet.admins()).expect("a group");
    let health = rows[first]["health"].as_str().unwrap_or_default();
    assert!(
        health.starts_with("the disk is full: "),
        "{:?}",
        rows[first]
    );

    // Its core waits to store who leads now.
    let mut process = scene.fleet.all[first].process.take().expect("it runs");
    let asked = Instant::now();
    process.terminate();
    assert!(asked.elapsed() < STOPS, "it took {:?}", asked.elapsed());
    scene.disks[first].drop_ballast();
    scene.fleet.start_member(first);
    scene.fleet.await_even();
    scene.publish();
    scene.settle();
    scene.judge();
}

#[test]
fn a_group_without_space_refuses_or_holds_messages_and_comes_back() {
    let mut scene = Scene::start();
    let mut old = Connect::v311("old").keep_alive(0).open_at(scene.fleet.mqtt);
    old.say("old", 1, "taken");
    let mut asker = Connect::v5("asker").keep_alive(0).open_at(scene.fleet.mqtt);
    let leader = scene.fleet.leader();
    let [full, _] = scene.others(leader)[..] else {
        panic!("three members")
    };
    scene.disks[full].put_ballast();
    scene.publish_until("a follower's disk is full", |scene| scene.is_full(full));
    scene.disks[leader].put_ballast();
    scene.publish_until("the group is full", Scene::group_is_full);
    // One that waits for no answer: those that do get theirs in order.
    for _ in 0..10 {
        let code = asker.publish(&Publish::new("asked", 1, "?"));
        assert_eq!(code, QUOTA_EXCEEDED);
        pause(Duration::from_millis(100));
    }

    let id = old.fresh_id();
    let held = Publish::new("old", 1, "held").id(id);
    old.send(&wire::publish(old.version, &held));
    assert_eq!(old.next(Duration::from_secs(5)), Got::Silence, "it is held");

    scene.disks[full].drop_ballast();
    await_that(|| !scene.is_full(full), || "it has space".to_owned());
    let answer = old.next(NOTICED);
    assert!(
        matches!(answer, Got::Packet(Packet::PubAck { id: of, .. }) if of == id),
        "{answer:?}"
    );
    let before = scene.acked.len();
    scene.publish_until("publishes go on", |scene| scene.acked.len() >= before + 50);
    scene.settle();
    asker.say("asked", 1, "!");
    scene.disks[leader].drop_ballast();
    scene.fleet.await_even();
    scene.publish();
    scene.settle();
    scene.judge();
}
