//! A fleet of several groups: each has a part of the topics, and devices see one broker.

mod common;

use common::fleet::Fleet;
use common::{Client, Connect, Publish};

/// Enough first two levels that each of three groups has some.
const KEYS: usize = 24;

#[test]
fn devices_see_one_broker_behind_several_groups() {
    let fleet = Fleet::start_with(&["--respawn", "--proxies", "2", "--groups", "3"]);
    let brokers = fleet
        .nodes()
        .into_iter()
        .filter(|node| node.role == "broker");
    let groups: Vec<_> = brokers.map(|node| node.group).collect();
    assert_eq!(groups, [Some(0), Some(1), Some(2)]);
    for qos in 0..=2 {
        topics_of_all_groups_reach_one_filter(&fleet, qos);
    }
    who_leaves_after_a_publish_is_heard(&fleet);
    retained_messages_come_from_all_groups(&fleet);
    a_session_resumes_with_what_all_groups_hold(&fleet);
    a_killed_group_is_waited_for(&fleet);
}

fn say_everywhere(mouth: &mut Client, area: &str, qos: u8) {
    for n in 0..KEYS {
        mouth.say(&format!("{area}/{n}/x"), qos, &n.to_string());
    }
}

/// Between topics of different groups there is no order.
fn hears_all(ear: &mut Client) {
    let mut heard = ear.take_texts(KEYS);
    heard.sort_by_key(|text| text.parse::<usize>().expect("a number"));
    assert!(heard.into_iter().eq((0..KEYS).map(|n| n.to_string())));
}

fn topics_of_all_groups_reach_one_filter(fleet: &Fleet, qos: u8) {
    let area = format!("area-{qos}");
    let mut ear = Connect::v5(&format!("ear-{qos}")).open_at(fleet.mqtt(0));
    ear.subscribe(&format!("{area}/#"), qos);
    let mut mouth = Connect::v311(&format!("mouth-{qos}")).open_at(fleet.mqtt(1));
    say_everywhere(&mut mouth, &area, qos);
    hears_all(&mut ear);
    ear.assert_no_publish();
}

/// As `mosquitto_pub` does: CONNECT, one PUBLISH at QoS 0, DISCONNECT.
fn who_leaves_after_a_publish_is_heard(fleet: &Fleet) {
    let mut ear = Connect::v5("patient").open_at(fleet.mqtt(0));
    ear.subscribe("brief/#", 0);
    for n in 0..KEYS {
        let mut mouth = Connect::v311(&format!("brief-{n}")).open_at(fleet.mqtt(1));
        mouth.say(&format!("brief/{n}/x"), 0, &n.to_string());
        mouth.disconnect();
    }
    hears_all(&mut ear);
}

fn retained_messages_come_from_all_groups(fleet: &Fleet) {
    let mut mouth = Connect::v5("keeper").open_at(fleet.mqtt(0));
    for n in 0..KEYS {
        let message = Publish::new(&format!("kept/{n}/x"), 1, n.to_string()).retain();
        assert!(mouth.publish(&message) < 0x80);
    }
    let mut ear = Connect::v5("latecomer").open_at(fleet.mqtt(1));
    ear.subscribe("kept/+/x", 1);
    hears_all(&mut ear);
}

fn a_session_resumes_with_what_all_groups_hold(fleet: &Fleet) {
    let connect = Connect::v5("sleeper").persistent();
    let mut sleeper = connect.open_at(fleet.mqtt(0));
    sleeper.subscribe("dreams/#", 2);
    sleeper.disconnect();
    let mut mouth = Connect::v5("sandman").open_at(fleet.mqtt(0));
    say_everywhere(&mut mouth, "dreams", 2);
    let mut sleeper = connect.open_at(fleet.mqtt(1));
    assert!(sleeper.present);
    hears_all(&mut sleeper);
    sleeper.assert_no_publish();
}

/// Each group in turn, with messages to all of them meanwhile.
fn a_killed_group_is_waited_for(fleet: &Fleet) {
    let mut ear = Connect::v5("patient").persistent().open_at(fleet.mqtt(0));
    ear.subscribe("patience/#", 1);
    let mut mouth = Connect::v5("speaker").persistent().open_at(fleet.mqtt(1));
    for group in 0..3 {
        let killed = fleet.kill9(&format!("broker-{group}"));
        say_everywhere(&mut mouth, "patience", 1);
        hears_all(&mut ear);
        fleet.await_back(&killed);
    }
    ear.assert_no_publish();
}
