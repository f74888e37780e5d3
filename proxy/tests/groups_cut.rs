//! Sessions at three groups over TCP, of whose links one is cut, or stands still for longer than a lease.

mod fleet_common;
mod link_common;
mod support;

use broker::log::Durability;
use cluster::link::GroupIdentity;
use cluster::slots::GroupNo;
use cluster::topology::SharedTopology;
use fleet_common::{GROUPS, RunningShard, client_id, connect_to, routing, topic};
use link_common::node::Node;
use link_common::wire::Wire;
use link_common::{PATIENCE, SECRET, known};
use mqtt_fleet_proxy::link::ShardPoll;
use mqtt_fleet_proxy::link_client::{LinkClient, LinkClientConfig, RunningLinkClient};
use protocol::{
    Ack, Connect, Packet, PacketId, QoS, ReasonCode, Subscribe, SubscribeOptions, TopicFilter,
    Version,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use support::Client;

struct Fleet {
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    clients: Vec<RunningLinkClient>,
    shard: RunningShard,
}

impl Fleet {
    fn start() -> Self {
        let routing = Arc::new(routing());
        let node = |group: &GroupNo| {
            let identity = GroupIdentity {
                group: u32::from(group.0),
                name: "broker".into(),
                secret: Arc::from(SECRET),
            };
            let route = Some((*group, Arc::clone(&routing)));
            Node::start_routed(Path::new(""), Durability::Memory, identity, route)
        };
        let nodes: Vec<_> = GROUPS.iter().map(node).collect();
        let wires: Vec<_> = nodes.iter().map(|node| Wire::to(node.address())).collect();
        let poll = ShardPoll::new().expect("descriptors are left");
        let (mut links, mut clients) = (Vec::new(), Vec::new());
        for (group, wire) in GROUPS.into_iter().zip(&wires) {
            let config = LinkClientConfig {
                topology: SharedTopology::new(known(1, &[(group, wire.address())])),
                group,
                name: "proxy".into(),
                node: 1 << 31,
                incarnation: 7,
                secret: Arc::from(SECRET),
                tls: None,
            };
            let mut client = LinkClient::new(config).expect("descriptors are left");
            let link = client.link(poll.waker()).expect("descriptors are left");
            links.push((group, link));
            clients.push(client.start().expect("a thread is free"));
        }
        let shard = RunningShard::start(poll, links, &routing);
        Self {
            nodes,
            wires,
            clients,
            shard,
        }
    }

    fn connect(&self, id: &str) -> Client {
        let connect = Connect {
            session_expiry_s: Some(3600),
            ..Connect::new(Version::V5, id)
        };
        connect_to(self.shard.address, connect).0
    }

    /// Waits until so many connections are attached at a group, by its figures, which may be a second old.
    fn wait_for_attached(&self, group: usize, attached: u64) {
        let start = Instant::now();
        while self.nodes[group].status().counters.attached != attached {
            assert!(start.elapsed() < PATIENCE, "waited for {attached} in vain");
            std::thread::yield_now();
        }
    }

    fn stop(self) {
        self.shard.stop();
        for client in self.clients {
            client.stop(PATIENCE).expect("the poll works");
        }
        for node in self.nodes {
            node.stop();
        }
    }
}

fn subscribe(client: &mut Client, filter: &str) {
    let options = SubscribeOptions {
        qos: QoS::ExactlyOnce,
        ..SubscribeOptions::default()
    };
    client.send(&Packet::Subscribe(Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        filters: vec![(TopicFilter::new(filter).expect("valid"), options)],
    }));
    let suback = client.receive();
    let granted = [ReasonCode::GrantedQoS2];
    assert!(
        matches!(&suback, Packet::SubAck(ack) if ack.reasons == granted),
        "{suback:?}"
    );
}

/// The payload of the next PUBLISH, which is answered, as is what comes before.
fn take(client: &mut Client) -> Vec<u8> {
    loop {
        if let Some(payload) = take_one(client) {
            return payload;
        }
    }
}

fn take_one(client: &mut Client) -> Option<Vec<u8>> {
    let reason = ReasonCode::Success;
    match client.receive() {
        Packet::Publish(publish) => {
            let packet_id = publish.packet_id.expect("QoS 1 or 2");
            let ack = Ack { packet_id, reason };
            client.send(&match publish.qos {
                QoS::ExactlyOnce => Packet::PubRec(ack),
                _ => Packet::PubAck(ack),
            });
            Some(publish.message.payload().to_vec())
        }
        Packet::PubRel(Ack { packet_id, .. }) => {
            client.send(&Packet::PubComp(Ack { packet_id, reason }));
            None
        }
        other => panic!("{other:?}"),
    }
}

/// Publishes at QoS 1, or 2 where the id is even, and sees it through to the end.
fn put(client: &mut Client, topic: &str, id: u16) {
    let exact = id.is_multiple_of(2);
    let qos = if exact {
        QoS::ExactlyOnce
    } else {
        QoS::AtLeastOnce
    };
    client.publish(topic, qos, id, &id.to_be_bytes());
    let answer = client.receive();
    let (Packet::PubAck(ack) | Packet::PubRec(ack)) = answer else {
        panic!("{answer:?}")
    };
    let reason = ReasonCode::Success;
    assert_eq!((ack.packet_id.get(), ack.reason), (id, reason));
    if exact {
        client.send(&Packet::PubRel(ack));
        let complete = client.receive();
        assert!(
            matches!(&complete, Packet::PubComp(it) if *it == ack),
            "{complete:?}"
        );
    }
}

/// The connection answers, and what waits for an answer gets it.
fn ping(client: &mut Client) {
    client.send(&Packet::PingReq);
    loop {
        match client.receive() {
            Packet::PingResp => return,
            Packet::PubRel(Ack { packet_id, reason }) => {
                client.send(&Packet::PubComp(Ack { packet_id, reason }));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Nothing acknowledged is lost or repeated at QoS 1 or 2 (promises P2 and P3), and the connections stay, while the links of two groups are cut again and
/// again: that of the subscriber's home, and one where it is a guest.
#[test]
fn cut_links_lose_and_repeat_nothing() {
    const MESSAGES: u16 = 600;
    let fleet = Fleet::start();
    let mut receiver = fleet.connect(&client_id("receiver", 1));
    subscribe(&mut receiver, "#");
    let topics: Vec<_> = (0..3).map(|group| topic("t", group)).collect();
    let mut sender = fleet.connect(&client_id("sender", 0));
    for wire in &fleet.wires[1..] {
        wire.cut_every(Some(500));
    }
    let sending = std::thread::spawn(move || {
        for id in 1..=MESSAGES {
            put(&mut sender, &topics[usize::from(id % 3)], id);
        }
        sender
    });
    let mut got = BTreeSet::new();
    while got.len() < usize::from(MESSAGES) {
        let payload = take(&mut receiver);
        assert!(got.insert(payload.clone()), "{payload:?} came twice");
    }
    let mut sender = sending.join().expect("every publish is answered");
    let cuts: Vec<_> = fleet.wires.iter().map(Wire::cuts).collect();
    assert!(cuts[1] > 3 && cuts[2] > 3, "{cuts:?}");
    for wire in &fleet.wires {
        wire.cut_every(None);
    }
    ping(&mut sender);
    ping(&mut receiver);
    fleet.stop();
}

/// A group that was away for longer than a lease has let go of its guests. They come back by themselves; only who waits
/// for an answer that was forgotten is told, by the end of its connection.
#[test]
fn a_group_that_was_away_for_a_lease_is_joined_again() {
    let fleet = Fleet::start();
    let topics: Vec<_> = (0..3).map(|group| topic("t", group)).collect();
    let mut receiver = fleet.connect(&client_id("receiver", 0));
    subscribe(&mut receiver, "#");
    let mut sender = fleet.connect(&client_id("sender", 0));
    put(&mut sender, &topics[2], 1);
    assert_eq!(take(&mut receiver), [0, 1]);
    let mut waits = fleet.connect(&client_id("waits", 1));
    put(&mut waits, &topics[2], 1);
    assert_eq!(take(&mut receiver), [0, 1]);
    fleet.wait_for_attached(2, 3);

    fleet.wires[2].pause(true);
    waits.publish(&topics[2], QoS::AtLeastOnce, 2, &[0, 2]);
    // The others are not touched by it.
    put(&mut sender, &topics[0], 3);
    put(&mut sender, &topics[1], 4);
    assert_eq!(take(&mut receiver), [0, 3]);
    assert_eq!(take(&mut receiver), [0, 4]);
    fleet.wait_for_attached(2, 0);
    fleet.wires[2].cut();
    fleet.wires[2].pause(false);

    let end = waits.receive_or_end();
    assert!(
        matches!(&end, Some(Packet::Disconnect(it)) if it.reason == ReasonCode::ServerBusy),
        "{end:?}"
    );
    let mut waits = fleet.connect(&client_id("waits", 1));
    put(&mut waits, &topics[2], 2);
    put(&mut sender, &topics[2], 5);
    let got: BTreeSet<_> = [take(&mut receiver), take(&mut receiver)].into();
    assert_eq!(got, [vec![0, 2], vec![0, 5]].into(), "each once");
    for client in [&mut receiver, &mut sender, &mut waits] {
        ping(client);
    }
    fleet.stop();
}
