//! P9 in a fleet: `kill -9` of a broker is invisible to connected devices but for the time it takes; what they publish
//! meanwhile is acknowledged when the broker is back, and P2, P3 and P4 hold.

mod common;

use common::fleet::Fleet;
use common::wire;
use common::{Client, Connect, Publish};

/// Each so many messages are on their way when the broker dies; below the receive maximum.
const MESSAGES: u16 = 200;

#[test]
fn a_killed_broker_is_invisible_to_connected_devices() {
    let fleet = Fleet::start(2);
    let mut ears: Vec<_> = [1, 2].map(|qos| listen(&fleet, qos)).into();
    let mut quiet = Connect::v311("quiet").open_at(fleet.mqtt(0));
    let mut mouth = Connect::v5("mouth").persistent().open_at(fleet.mqtt(1));
    let mut said = 0;
    for round in 0..2 {
        send(&mut mouth, 1, &mut said);
        // Some are acknowledged by now, some are not.
        mouth.await_puback(1 + MESSAGES / 4);
        let killed = fleet.kill9("broker-0");
        send(&mut mouth, 2, &mut said);
        fleet.await_back(&killed);
        for id in 1..=MESSAGES {
            if id != 1 + MESSAGES / 4 {
                assert_eq!(mouth.await_puback(id), 0);
            }
            assert_eq!(mouth.await_pubrec(MESSAGES + id), 0);
        }
        for id in MESSAGES + 1..=2 * MESSAGES {
            assert_eq!(mouth.release(id), 0);
        }
        for (ear, qos) in ears.iter_mut().zip(1..) {
            let first = round * usize::from(MESSAGES);
            let all = (first..first + usize::from(MESSAGES)).map(|n| n.to_string());
            assert!(
                ear.take_texts(MESSAGES.into()).into_iter().eq(all),
                "QoS {qos}"
            );
            ear.assert_no_publish();
        }
        quiet.ping();
    }
    new_things_work(&fleet, &mut quiet);
}

fn listen(fleet: &Fleet, qos: u8) -> Client {
    let connect = Connect::v5(&format!("ear-{qos}")).persistent();
    let mut ear = connect.open_at(fleet.mqtt(0));
    ear.subscribe(&format!("at/{qos}"), qos);
    ear
}

/// Sends messages of one `QoS` without waiting for answers. Both kinds of a round have the same numbers, but packet ids
/// of their own.
fn send(mouth: &mut Client, qos: u8, said: &mut u16) {
    let first = if qos == 1 { *said } else { *said - MESSAGES };
    let ids = u16::from(qos - 1) * MESSAGES;
    for n in 0..MESSAGES {
        let text = (first + n).to_string();
        let message = Publish::new(&format!("at/{qos}"), qos, text).id(ids + n + 1);
        mouth.send(&wire::publish(mouth.version, &message));
    }
    if qos == 1 {
        *said += MESSAGES;
    }
}

/// After it all: subscriptions, and sessions that come and go.
fn new_things_work(fleet: &Fleet, client: &mut Client) {
    client.subscribe("new/#", 1);
    let mut other = Connect::v5("other").open_at(fleet.mqtt(1));
    other.say("new/a", 1, "works");
    assert_eq!(client.take().text(), "works");
    let losses = fleet.metric("proxy-0", &["mqtt_fleet_link_losses"]);
    assert!(losses >= 2.0, "the link was lost each time: {losses}");
}
