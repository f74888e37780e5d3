//! A shard with links to three groups, over real sockets.

mod support;

use cluster::frame::{DoneKind, Errand, ErrandKind, FromGroup};
use cluster::ids::Epoch;
use cluster::shard_key::{HomeKey, ShardKeyRules};
use cluster::slots::{GroupNo, SLOT_COUNT, SlotTable};
use cluster::topology::{FixedPart, Routing};
use mqtt_fleet_proxy::limits::ProxyLimits;
use protocol::{Connect, Packet, PacketId, QoS, ReasonCode, Version};
use std::time::{Duration, Instant};
use support::{Client, Server};

const GROUPS: [GroupNo; 3] = [GroupNo(0), GroupNo(2), GroupNo(7)];

fn routing() -> Routing {
    let fixed = FixedPart {
        cluster_id: "fleet".to_owned(),
        rules: ShardKeyRules::default(),
        home_key: HomeKey::ClientId,
    };
    let in_turn = |slot| GROUPS[usize::from(slot % 3)];
    let slots: Vec<_> = (0..SLOT_COUNT).map(in_turn).collect();
    Routing::new(&fixed, &SlotTable::new(1, slots).expect("one group a slot"))
}

fn start() -> Server {
    Server::start_groups(ProxyLimits::default(), routing())
}

/// The `n`th topic of the group with this index.
fn topic(group: usize, n: usize) -> String {
    let routing = routing();
    let topics = (0..).map(|n| format!("t/{n}"));
    let mut of_group = topics.filter(|topic| routing.group_of_topic(topic) == GROUPS[group]);
    of_group.nth(n).expect("there are topics without end")
}

/// A client id whose home is the group with this index.
fn client_id(group: usize, name: &str) -> String {
    let routing = routing();
    let mut ids = (0..).map(|n| format!("{name}-{n}"));
    ids.find(|id| routing.home_of(id) == GROUPS[group])
        .expect("there are ids without end")
}

/// Receives a PUBLISH and answers it to the end.
fn take(client: &mut Client) -> (String, QoS) {
    let publish = client.receive_publish();
    if let Some(packet_id) = publish.packet_id {
        let reason = ReasonCode::Success;
        let ack = protocol::Ack { packet_id, reason };
        if publish.qos == QoS::AtLeastOnce {
            client.send(&Packet::PubAck(ack));
        } else {
            client.send(&Packet::PubRec(ack));
            assert!(matches!(client.receive(), Packet::PubRel(_)));
            client.send(&Packet::PubComp(ack));
        }
    }
    (publish.message.topic().to_owned(), publish.qos)
}

/// Publishes and sees it through to the end.
fn put(client: &mut Client, topic: &str, qos: QoS, id: u16) {
    client.publish(topic, qos, id, b"x");
    match qos {
        QoS::AtMostOnce => {}
        QoS::AtLeastOnce => assert!(matches!(client.receive(), Packet::PubAck(_))),
        QoS::ExactlyOnce => {
            assert!(matches!(client.receive(), Packet::PubRec(_)));
            let (packet_id, reason) = (PacketId::new(id).expect("not 0"), ReasonCode::Success);
            client.send(&Packet::PubRel(protocol::Ack { packet_id, reason }));
            assert!(matches!(client.receive(), Packet::PubComp(_)));
        }
    }
}

#[test]
fn messages_cross_groups_at_every_qos() {
    let server = start();
    let mut everything = server.client(&client_id(1, "everything"));
    everything.subscribe("#", QoS::ExactlyOnce);
    let mut one_topic = server.client(&client_id(2, "one"));
    one_topic.subscribe(&topic(0, 0), QoS::ExactlyOnce);
    let mut sender = server.client(&client_id(0, "sender"));
    let mut id = 0;
    for group in 0..3 {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            id += u16::from(qos != QoS::AtMostOnce);
            let topic = topic(group, 0);
            put(
                &mut sender,
                &topic,
                qos,
                if qos == QoS::AtMostOnce { 0 } else { id },
            );
            assert_eq!(take(&mut everything), (topic.clone(), qos));
            if group == 0 {
                assert_eq!(take(&mut one_topic), (topic, qos));
            }
        }
    }
    for client in [&mut everything, &mut one_topic, &mut sender] {
        client.ping();
    }
    let groups = server.stop_all();
    assert_eq!(groups.iter().map(|group| group.acks).sum::<usize>(), 12);
    // Who was drained has left every group where it acted.
    let left: Vec<_> = groups.iter().map(|group| group.gone.len()).collect();
    assert_eq!(left, [3, 2, 3]);
}

/// A group that takes nothing stops those who publish there, within its limit of bytes, and nobody else. Nothing that
/// was not dropped by the rule is lost when it goes on.
#[test]
fn a_group_that_stalls_stops_only_those_that_publish_there() {
    let server = start();
    let mut other = server.client(&client_id(0, "other"));
    other.subscribe(&topic(0, 0), QoS::AtLeastOnce);
    let mut receiver = server.client(&client_id(0, "receiver"));
    receiver.subscribe(&topic(1, 0), QoS::AtLeastOnce);
    let mut joined = server.client(&client_id(0, "joined"));
    put(&mut joined, &topic(1, 1), QoS::AtLeastOnce, 1);
    server.groups[1].hold(true);

    let stalled = topic(1, 0);
    let mut writers = Vec::new();
    for writer in 0..12 {
        let mut client = server.client(&client_id(0, &format!("writer-{writer}")));
        let stalled = stalled.clone();
        writers.push(std::thread::spawn(move || {
            for id in 1..=20 {
                client.publish(&stalled, QoS::AtLeastOnce, id, &vec![7; 100_000]);
            }
            for _ in 1..=20 {
                assert!(matches!(client.receive(), Packet::PubAck(_)));
            }
        }));
    }
    server.wait_for("a writer to stop", |counters| {
        counters.paused_connection.get() >= 12
    });
    joined.publish(&stalled, QoS::AtMostOnce, 0, b"into the bag or dropped");
    for id in 1..=100 {
        put(&mut joined, &topic(0, 0), QoS::AtLeastOnce, id);
        take(&mut other);
    }
    let limit = mqtt_fleet_proxy::link::TO_GROUP_BYTES_MAX;
    let bytes = server.groups[1].link.to_group.bytes();
    assert!(bytes <= limit + limit / 4, "{bytes}");
    assert_eq!(server.counters.paused_shard.get(), 0);
    server.groups[1].hold(false);
    let mut got = 0;
    while got < 12 * 20 {
        let publish = receiver.receive_publish();
        if let Some(packet_id) = publish.packet_id {
            got += 1;
            let reason = ReasonCode::Success;
            receiver.send(&Packet::PubAck(protocol::Ack { packet_id, reason }));
        }
    }
    for writer in writers {
        writer.join().expect("every publish is answered");
    }
    server.stop_all();
}

/// Promise P8: sessions that come and go while one of their groups is away add nothing to its link, once that is full. The
/// one that is still there when the group goes on is joined then.
#[test]
fn resumes_do_not_grow_the_link_of_a_group_that_is_away() {
    const SLEEPERS: usize = 300;
    let server = start();
    let lasting = |n: usize| Connect {
        clean_start: false,
        session_expiry_s: Some(3600),
        ..Connect::new(Version::V5, &client_id(0, &format!("sleeper-{n}")))
    };
    for n in 0..SLEEPERS {
        let mut sleeper = server.connect(lasting(n));
        sleeper.subscribe(&topic(1, 0), QoS::AtLeastOnce);
    }
    let link = &server.groups[1].link;
    server.wait_for("the sleepers to be gone", |counters| {
        counters.connections_open.get() == 0
    });
    let writer = |n| {
        let mut writer = server.client(&client_id(0, &format!("writer-{n}")));
        put(&mut writer, &topic(1, 1), QoS::AtLeastOnce, 9);
        writer
    };
    let mut writers: Vec<_> = (0..12).map(writer).collect();
    server.groups[1].hold(true);
    for writer in &mut writers {
        for id in 1..=8 {
            writer.publish(&topic(1, 1), QoS::AtLeastOnce, id, &vec![7; 100_000]);
        }
    }
    server.wait_for("the link to be full", |counters| {
        link.to_group.is_full() && counters.paused_connection.get() > 0
    });

    let bytes = link.to_group.bytes();
    let resume = |n| {
        let mut socket = server.socket();
        socket.version = Version::V5;
        socket.send(&Packet::Connect(Box::new(lasting(n))));
        socket
    };
    let mut resumed: Vec<_> = (0..SLEEPERS).map(resume).collect();
    for sleeper in &mut resumed {
        assert!(matches!(sleeper.receive(), Packet::ConnAck(_)));
    }
    let mut last = resumed.pop().expect("there are sleepers");
    drop(resumed);
    last.ping();
    assert_eq!(link.to_group.bytes(), bytes);
    server.groups[1].hold(false);
    for writer in &mut writers {
        for _ in 1..=8 {
            assert!(matches!(writer.receive(), Packet::PubAck(_)));
        }
    }
    last.ping();
    let groups = server.stop_all();
    assert_eq!(groups[1].joins.len(), SLEEPERS + writers.len() + 1);
}

/// The waits have an end: CONNECT's for the home, SUBSCRIBE's for a group.
#[test]
fn nobody_waits_for_ever_for_a_group_that_is_away() {
    let server = start();
    let mut client = server.client(&client_id(0, "client"));
    server.groups[1].hold(true);
    let start = Instant::now();
    let filters = [
        (topic(0, 0), QoS::AtLeastOnce),
        (topic(1, 0), QoS::AtLeastOnce),
    ];
    client.send(&Packet::Subscribe(protocol::Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        filters: filters
            .iter()
            .map(|(topic, qos)| {
                let filter = protocol::TopicFilter::new(topic).expect("valid");
                let options = protocol::SubscribeOptions {
                    qos: *qos,
                    ..Default::default()
                };
                (filter, options)
            })
            .collect(),
    }));
    let mut nobody = server.socket();
    nobody.version = Version::V5;
    let connect = Connect::new(Version::V5, &client_id(1, "away"));
    nobody.send(&Packet::Connect(Box::new(connect)));
    let Packet::ConnAck(connack) = nobody.receive() else {
        panic!("CONNACK")
    };
    assert_eq!(connack.reason, ReasonCode::ServerUnavailable);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
    client.ping();
    let Packet::SubAck(suback) = client.receive() else {
        panic!("SUBACK")
    };
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(10), "{waited:?}");
    let failed = ReasonCode::UnspecifiedError;
    assert_eq!(suback.reasons, [ReasonCode::GrantedQoS1, failed]);
    server.groups[1].hold(false);
    // What the group answers to this stands behind what came too late.
    client.publish(&topic(1, 0), QoS::AtLeastOnce, 2, b"x");
    assert!(matches!(client.receive(), Packet::PubAck(_)));
    // The claim that came too late is given back.
    let groups = server.stop_all();
    assert_eq!(groups[1].gone.len(), 2, "of the claim and of the join");
}

#[test]
fn each_link_resumes_the_connections_that_act_at_its_group() {
    let server = start();
    let mut at_home = server.client(&client_id(0, "home"));
    let mut guest = server.client(&client_id(0, "guest"));
    guest.subscribe(&topic(2, 0), QoS::AtLeastOnce);
    put(&mut at_home, &topic(0, 0), QoS::AtLeastOnce, 1);
    for group in &server.groups {
        let resume = vec![FromGroup::Resume];
        group.link.to_shard.send(&mut { resume }, 64);
    }
    at_home.ping();
    guest.ping();
    let groups = server.stop_all();
    let listed = groups.iter().map(|group| {
        let [resume] = &group.resumed[..] else {
            panic!("one answer, not {:?}", group.resumed)
        };
        resume.sessions.len()
    });
    assert_eq!(listed.collect::<Vec<_>>(), [2, 0, 1]);
    assert_eq!(groups[2].joins.len(), 1);
}

#[test]
fn errands_are_carried_and_word_of_them_is_brought_back() {
    let server = start();
    let end = |to| Errand {
        from: GROUPS[1],
        to,
        what: ErrandKind::End {
            client_id: "gone".into(),
            start_epoch: Epoch(4),
        },
    };
    let errands = [GROUPS[2], GroupNo(60)].map(|to| FromGroup::Errand(Box::new(end(to))));
    let link = &server.groups[1].link;
    link.to_shard.send(&mut errands.to_vec(), 128);
    server.wait_for("word of the errand", |counters| {
        counters.errands_carried.get() == 2 && counters.errands_dropped.get() == 1
    });
    let groups = server.stop_all();
    assert_eq!(groups[2].errands, [end(GROUPS[2])]);
    let [done] = &groups[1].errands_done[..] else {
        panic!("{:?}", groups[1].errands_done)
    };
    assert!(matches!(&done.what, DoneKind::End { client_id, .. } if &**client_id == "gone"));
}
