//! rumqttc, the usual Rust client, works with this broker in MQTT 3.1.1 and 5.

mod common;

mod v311 {
    //! MQTT 3.1.1.

    use std::time::Duration;

    use rumqttc::{Client, Connection, Event, LastWill, MqttOptions, Packet, Publish, QoS};

    use crate::common::{Broker, PATIENCE};

    const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

    fn open(
        broker: &Broker,
        id: &str,
        clean: bool,
        will: Option<LastWill>,
    ) -> (Client, Connection) {
        let mut options = MqttOptions::new(id, "127.0.0.1", broker.addr.port());
        options
            .set_keep_alive(Duration::from_secs(30))
            .set_clean_session(clean);
        options.set_max_packet_size(300_000, 300_000);
        if let Some(will) = will {
            options.set_last_will(will);
        }
        Client::new(options, 100)
    }

    /// Drives the connection until `wanted` finds what it looks for.
    fn until<T>(
        connection: &mut Connection,
        what: &str,
        wanted: impl Fn(&Packet) -> Option<T>,
    ) -> T {
        loop {
            match connection.recv_timeout(PATIENCE) {
                Ok(Ok(Event::Incoming(packet))) => {
                    if let Some(found) = wanted(&packet) {
                        return found;
                    }
                }
                Ok(Ok(Event::Outgoing(_))) => {}
                other => panic!("awaits {what}: {other:?}"),
            }
        }
    }

    fn message(connection: &mut Connection) -> Publish {
        until(connection, "PUBLISH", |p| match p {
            Packet::Publish(p) => Some(p.clone()),
            _ => None,
        })
    }

    fn present(connection: &mut Connection) -> bool {
        until(connection, "CONNACK", |p| match p {
            Packet::ConnAck(ack) => Some(ack.session_present),
            _ => None,
        })
    }

    fn subscribe(client: &Client, connection: &mut Connection, filter: &str, qos: QoS) {
        client.subscribe(filter, qos).expect("the queue has room");
        until(connection, "SUBACK", |p| {
            matches!(p, Packet::SubAck(_)).then_some(())
        });
    }

    fn acknowledged(connection: &mut Connection, qos: QoS) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => until(connection, "PUBACK", |p| {
                matches!(p, Packet::PubAck(_)).then_some(())
            }),
            QoS::ExactlyOnce => {
                until(connection, "PUBCOMP", |p| {
                    matches!(p, Packet::PubComp(_)).then_some(())
                });
            }
        }
    }

    #[test]
    fn publish_and_subscribe_at_each_qos() {
        let broker = Broker::start();
        let (client, mut connection) = open(&broker, "both", true, None);
        for qos in ALL {
            subscribe(&client, &mut connection, "t/+", qos);
            client
                .publish("t/a", qos, false, "hello")
                .expect("the queue has room");
            let got = message(&mut connection);
            assert_eq!((got.payload.as_ref(), got.qos), (b"hello".as_ref(), qos));
        }
        client
            .publish("t/large", QoS::AtLeastOnce, false, vec![7; 200_000])
            .expect("room");
        assert_eq!(message(&mut connection).payload.len(), 200_000);
    }

    #[test]
    fn retained_messages() {
        let broker = Broker::start();
        let (publisher, mut publishing) = open(&broker, "pub", true, None);
        for qos in ALL {
            publisher.publish("r", qos, true, "kept").expect("room");
            acknowledged(&mut publishing, qos);
        }
        let (client, mut connection) = open(&broker, "sub", true, None);
        client.subscribe("r", QoS::ExactlyOnce).expect("room");
        let got = message(&mut connection);
        assert!(got.retain);
        assert_eq!(got.qos, QoS::ExactlyOnce);
    }

    #[test]
    fn wills() {
        let broker = Broker::start();
        let (watcher, mut watching) = open(&broker, "watcher", true, None);
        subscribe(&watcher, &mut watching, "will", QoS::ExactlyOnce);
        for qos in ALL {
            let will = LastWill::new("will", "gone", qos, false);
            let (client, mut connection) = open(&broker, "mortal", true, Some(will));
            present(&mut connection);
            // Dropping the event loop breaks the connection without DISCONNECT.
            drop((client, connection));
            assert_eq!(message(&mut watching).qos, qos);
        }
    }

    #[test]
    fn persistent_sessions() {
        let broker = Broker::start();
        let (client, mut connection) = open(&broker, "keeps", false, None);
        assert!(!present(&mut connection));
        subscribe(&client, &mut connection, "q", QoS::ExactlyOnce);
        drop((client, connection));
        let (publisher, mut publishing) = open(&broker, "pub", true, None);
        for (qos, text) in [(QoS::AtLeastOnce, "one"), (QoS::ExactlyOnce, "two")] {
            publisher.publish("q", qos, false, text).expect("room");
            acknowledged(&mut publishing, qos);
        }
        let (_client, mut connection) = open(&broker, "keeps", false, None);
        assert!(present(&mut connection));
        assert_eq!(message(&mut connection).payload, "one");
        assert_eq!(message(&mut connection).payload, "two");
    }

    #[test]
    fn shared_subscriptions() {
        let broker = Broker::start();
        let mut members: Vec<(Client, Connection)> =
            ["a", "b"].map(|id| open(&broker, id, true, None)).into();
        for (client, connection) in &mut members {
            subscribe(client, connection, "$share/g/jobs", QoS::AtLeastOnce);
        }
        let (publisher, mut publishing) = open(&broker, "pub", true, None);
        for i in 0..20 {
            publisher
                .publish("jobs", QoS::AtLeastOnce, false, i.to_string())
                .expect("room");
            acknowledged(&mut publishing, QoS::AtLeastOnce);
        }
        // Round robin: each has half, so each can be read to its tenth.
        let mut all: Vec<u32> = members
            .iter_mut()
            .flat_map(|(_, connection)| (0..10).map(|_| message(connection)).collect::<Vec<_>>())
            .map(|p| {
                String::from_utf8_lossy(&p.payload)
                    .parse()
                    .expect("a number")
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    }
}

mod v5 {
    //! MQTT 5.

    use std::time::Duration;

    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{
        ConnectProperties, LastWill, Packet, Publish, PublishProperties,
    };
    use rumqttc::v5::{Client, Connection, Event, MqttOptions};

    use crate::common::{Broker, PATIENCE};

    const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

    fn open(
        broker: &Broker,
        id: &str,
        expiry_s: u32,
        will: Option<LastWill>,
    ) -> (Client, Connection) {
        let mut options = MqttOptions::new(id, "127.0.0.1", broker.addr.port());
        options
            .set_keep_alive(Duration::from_secs(30))
            .set_clean_start(expiry_s == 0);
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(expiry_s);
        options.set_connect_properties(properties);
        if let Some(will) = will {
            options.set_last_will(will);
        }
        Client::new(options, 100)
    }

    fn until<T>(
        connection: &mut Connection,
        what: &str,
        wanted: impl Fn(&Packet) -> Option<T>,
    ) -> T {
        loop {
            match connection.recv_timeout(PATIENCE) {
                Ok(Ok(Event::Incoming(packet))) => {
                    if let Some(found) = wanted(&packet) {
                        return found;
                    }
                }
                Ok(Ok(Event::Outgoing(_))) => {}
                other => panic!("awaits {what}: {other:?}"),
            }
        }
    }

    fn message(connection: &mut Connection) -> Publish {
        until(connection, "PUBLISH", |p| match p {
            Packet::Publish(p) => Some(p.clone()),
            _ => None,
        })
    }

    fn subscribe(client: &Client, connection: &mut Connection, filter: &str, qos: QoS) {
        client.subscribe(filter, qos).expect("the queue has room");
        until(connection, "SUBACK", |p| {
            matches!(p, Packet::SubAck(_)).then_some(())
        });
    }

    fn acknowledged(connection: &mut Connection) {
        until(connection, "PUBACK", |p| {
            matches!(p, Packet::PubAck(_)).then_some(())
        });
    }

    #[test]
    fn publish_and_subscribe_at_each_qos_with_properties() {
        let broker = Broker::start();
        let (client, mut connection) = open(&broker, "both", 0, None);
        for qos in ALL {
            subscribe(&client, &mut connection, "t/+", qos);
            let properties = PublishProperties {
                user_properties: vec![("k".into(), "v".into())],
                content_type: Some("text".into()),
                ..PublishProperties::default()
            };
            client
                .publish_with_properties("t/a", qos, false, "hello", properties)
                .expect("room");
            let got = message(&mut connection);
            assert_eq!((got.payload.as_ref(), got.qos), (b"hello".as_ref(), qos));
            let properties = got.properties.expect("sent with properties");
            assert_eq!(
                properties.user_properties,
                [("k".to_owned(), "v".to_owned())]
            );
            assert_eq!(properties.content_type.as_deref(), Some("text"));
        }
    }

    #[test]
    fn retained_messages() {
        let broker = Broker::start();
        let (publisher, mut publishing) = open(&broker, "pub", 0, None);
        publisher
            .publish("r", QoS::AtLeastOnce, true, "kept")
            .expect("room");
        acknowledged(&mut publishing);
        let (client, mut connection) = open(&broker, "sub", 0, None);
        client.subscribe("r", QoS::AtLeastOnce).expect("room");
        let got = message(&mut connection);
        assert!(got.retain);
        assert_eq!(got.payload, "kept");
    }

    #[test]
    fn wills() {
        let broker = Broker::start();
        let (watcher, mut watching) = open(&broker, "watcher", 0, None);
        subscribe(&watcher, &mut watching, "will", QoS::ExactlyOnce);
        for qos in ALL {
            let will = LastWill::new("will", "gone", qos, false, None);
            let (client, mut connection) = open(&broker, "mortal", 0, Some(will));
            until(&mut connection, "CONNACK", |p| {
                matches!(p, Packet::ConnAck(_)).then_some(())
            });
            drop((client, connection));
            assert_eq!(message(&mut watching).qos, qos);
        }
    }

    #[test]
    fn persistent_sessions() {
        let broker = Broker::start();
        let (client, mut connection) = open(&broker, "keeps", 600, None);
        subscribe(&client, &mut connection, "q", QoS::AtLeastOnce);
        drop((client, connection));
        let (publisher, mut publishing) = open(&broker, "pub", 0, None);
        for text in ["one", "two"] {
            publisher
                .publish("q", QoS::AtLeastOnce, false, text)
                .expect("room");
            acknowledged(&mut publishing);
        }
        let (_client, mut connection) = open(&broker, "keeps", 600, None);
        let present = until(&mut connection, "CONNACK", |p| match p {
            Packet::ConnAck(ack) => Some(ack.session_present),
            _ => None,
        });
        assert!(present);
        assert_eq!(message(&mut connection).payload, "one");
        assert_eq!(message(&mut connection).payload, "two");
    }

    #[test]
    fn shared_subscriptions() {
        let broker = Broker::start();
        let mut members: Vec<(Client, Connection)> =
            ["a", "b"].map(|id| open(&broker, id, 0, None)).into();
        for (client, connection) in &mut members {
            subscribe(client, connection, "$share/g/jobs", QoS::AtLeastOnce);
        }
        let (publisher, mut publishing) = open(&broker, "pub", 0, None);
        for i in 0..20 {
            publisher
                .publish("jobs", QoS::AtLeastOnce, false, i.to_string())
                .expect("room");
            acknowledged(&mut publishing);
        }
        let mut all: Vec<u32> = members
            .iter_mut()
            .flat_map(|(_, connection)| (0..10).map(|_| message(connection)).collect::<Vec<_>>())
            .map(|p| {
                String::from_utf8_lossy(&p.payload)
                    .parse()
                    .expect("a number")
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    }
}
