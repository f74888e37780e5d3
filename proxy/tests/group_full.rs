//! Devices of a group that can store nothing more, over sockets from end to end: who can be told is told, the others wait,
//! and all goes on when there is space.

mod fleet_common;
mod link_common;
mod support;

use broker::group::LinkRefused;
use broker::log::Durability;
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use cluster::wire::{Refusal, Refused};
use fleet_common::{RunningShard, connect_to};
use link_common::member::Refuser;
use link_common::node::Node;
use link_common::shard_end::config;
use link_common::wire::Wire;
use link_common::{PATIENCE, await_true};
use mqtt_fleet_proxy::link::ShardPoll;
use mqtt_fleet_proxy::link_client::{LinkClient, RunningLinkClient};
use protocol::{
    Connect, Packet, PacketId, QoS, ReasonCode, Subscribe, SubscribeOptions, TopicFilter, Version,
};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use support::Client;

struct Fleet {
    node: Node,
    refuser: Refuser,
    wire: Wire,
    links: RunningLinkClient,
    shard: RunningShard,
}

impl Fleet {
    fn start() -> Self {
        let node = Node::start(Path::new(""), Durability::Memory);
        let full = Refused::new(Refusal::Full, "no space");
        let wire = Wire::to(node.address());
        let poll = ShardPoll::new().expect("descriptors are left");
        let mut client = LinkClient::new(config(wire.address())).expect("descriptors are left");
        let link = client.link(poll.waker()).expect("descriptors are left");
        let links = client.start().expect("a thread is free");
        let routing = Arc::new(Routing::one_group(GroupNo(0)));
        Self {
            node,
            refuser: Refuser::start("broker-0", full),
            wire,
            links,
            shard: RunningShard::start(poll, vec![(GroupNo(0), link)], &routing),
        }
    }

    fn connect(&self, version: Version, id: &str) -> Client {
        connect_to(self.shard.address, Connect::new(version, id)).0
    }

    /// Until there is space, its links are refused; or it only says so.
    fn fill(&self, refuses: bool) {
        if refuses {
            self.wire.lead_to(self.refuser.address());
            self.node.end_links(LinkRefused::Full);
        }
        self.node.set_full(true);
        let counters = Arc::clone(&self.links.counters()[0]);
        await_true("it is full", || counters.group_full.get() == 1);
    }

    fn has_space(&self) {
        self.node.set_full(false);
        self.wire.lead_to(self.node.address());
    }

    fn stop(self) {
        self.shard.stop();
        self.links.stop(PATIENCE).expect("the poll works");
        self.node.stop();
    }
}

fn subscribe(client: &mut Client, filter: &str) -> ReasonCode {
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        ..SubscribeOptions::default()
    };
    client.send(&Packet::Subscribe(Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        filters: vec![(TopicFilter::new(filter).expect("valid"), options)],
    }));
    match client.receive() {
        Packet::SubAck(ack) => ack.reasons[0],
        other => panic!("{other:?}"),
    }
}

fn answer(client: &mut Client, id: u16) -> ReasonCode {
    match client.receive() {
        Packet::PubAck(ack) if ack.packet_id.get() == id => ack.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn devices_of_a_group_that_says_it_is_full_are_told_or_wait() {
    devices_are_told_or_wait(false);
}

#[test]
fn devices_of_a_group_that_refuses_links_since_it_is_full_are_told_or_wait() {
    devices_are_told_or_wait(true);
}

fn devices_are_told_or_wait(refuses: bool) {
    let fleet = Fleet::start();
    let mut receiver = fleet.connect(Version::V5, "receiver");
    assert_eq!(subscribe(&mut receiver, "t/#"), ReasonCode::GrantedQoS1);
    let mut new = fleet.connect(Version::V5, "new");
    let mut old = fleet.connect(Version::V311, "old");
    for client in [&mut new, &mut old] {
        client.publish("t/1", QoS::AtLeastOnce, 1, b"before");
        assert_eq!(answer(client, 1), ReasonCode::Success);
        assert_eq!(receiver.receive_publish().message.payload(), b"before");
    }
    fleet.fill(refuses);
    // The shard has had a turn since.
    new.ping();

    let quota = ReasonCode::QuotaExceeded;
    new.publish("t/1", QoS::AtLeastOnce, 2, b"refused");
    assert_eq!(answer(&mut new, 2), quota);
    assert_eq!(subscribe(&mut new, "x"), quota);
    let mut late = Client::new(TcpStream::connect(fleet.shard.address).expect("it listens"));
    late.version = Version::V5;
    late.send(&Packet::Connect(Box::new(Connect::new(
        Version::V5,
        "late",
    ))));
    let connack = late.receive();
    assert!(
        matches!(&connack, Packet::ConnAck(ack) if ack.reason == quota),
        "{connack:?}"
    );
    old.publish("t/1", QoS::AtLeastOnce, 2, b"waits");
    old.send(&Packet::PingReq);
    // By then the shard has read what came before.
    new.ping();

    fleet.has_space();
    assert_eq!(receiver.receive_publish().message.payload(), b"waits");
    let answers = [old.receive(), old.receive()];
    let puback = |packet: &Packet| matches!(packet, Packet::PubAck(_));
    assert!(answers.iter().any(puback), "{answers:?}");
    assert!(answers.contains(&Packet::PingResp), "{answers:?}");
    new.publish("t/1", QoS::AtLeastOnce, 3, b"after");
    assert_eq!(answer(&mut new, 3), ReasonCode::Success);
    assert_eq!(receiver.receive_publish().message.payload(), b"after");
    fleet.stop();
}
