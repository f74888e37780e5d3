//! Connections beyond the limit of descriptors are refused with a log line and a counter; existing ones live on.

mod common;

use common::{Broker, Client, Connect, Got, Options, PATIENCE, Packet, Version};

/// Connects without asserting that it works: whether CONNACK came.
fn try_connect(broker: &Broker, id: &str) -> Option<Client> {
    Connect::v5(id).keep_alive(0).dial(broker.addr)
}

#[test]
fn connections_beyond_the_limit_are_refused_and_the_others_live_on() {
    let broker = Broker::start_with(Options {
        nofile: Some(200),
        ..Options::default()
    });
    let mut alive: Vec<Client> = Vec::new();
    let mut refused = 0;
    for i in 0..300 {
        match try_connect(&broker, &format!("c{i}")) {
            Some(client) => alive.push(client),
            None => refused += 1,
        }
    }
    assert!(
        alive.len() >= 100,
        "only {} of 200 descriptors are used",
        alive.len()
    );
    assert!(refused >= 100, "{refused} refused");
    for client in &mut alive {
        client.ping();
    }
    assert!(
        broker.metric(&["refused"]) >= f64::from(refused),
        "{refused} refusals are counted"
    );
    let line = broker.await_line("descriptor");
    assert!(!line.is_empty());

    // Room again: newcomers are welcome.
    for client in alive.drain(..20) {
        client.disconnect();
    }
    let mut newcomers: Vec<Client> = (0..10)
        .map(|i| try_connect(&broker, &format!("new{i}")).expect("there is room"))
        .collect();
    for client in newcomers.iter_mut().chain(&mut alive) {
        client.ping();
    }
}

#[test]
fn connections_beyond_the_configured_number_are_refused() {
    let broker = Broker::start_with(Options {
        config: "[limits]\nmax_connections = 10\n".into(),
        ..Options::default()
    });
    let mut alive: Vec<Client> = (0..10)
        .map(|i| Connect::v5(&format!("c{i}")).open(&broker))
        .collect();
    let mut extra = Client::raw(broker.addr, Version::V5);
    // The broker may close before it has read anything.
    let _ = extra.try_send(&Connect::v5("extra").encode());
    match extra.next(PATIENCE) {
        Got::Closed => {}
        Got::Packet(Packet::ConnAck { code, .. }) => assert_eq!(code, 0x97, "quota exceeded"),
        other => panic!("connection 11 of 10 got {other:?}"),
    }
    for client in &mut alive {
        client.ping();
    }
    assert!(broker.metric(&["refused"]) >= 1.0);
    alive.pop().expect("ten").disconnect();
    Connect::v5("next").open(&broker).ping();
}
