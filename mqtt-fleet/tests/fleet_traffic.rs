//! Devices at different proxies of a fleet are as if they were at one broker.

mod common;

use common::fleet::Fleet;
use common::{Connect, Publish};

const TAKEN_OVER: u8 = 0x8e;

#[test]
fn devices_at_different_proxies_are_as_if_at_one_broker() {
    let fleet = Fleet::start(2);
    messages_cross_at_every_qos(&fleet);
    retained_messages_are_those_of_the_fleet(&fleet);
    a_shared_subscription_has_members_everywhere(&fleet);
    a_client_that_comes_to_another_proxy_is_taken_over(&fleet);
    a_will_is_heard_elsewhere(&fleet);
    every_node_shows_its_figures(&fleet);
}

fn messages_cross_at_every_qos(fleet: &Fleet) {
    let listen = |proxy: u16| {
        let mut ear = Connect::v5(&format!("ear-{proxy}")).open_at(fleet.mqtt(proxy));
        ear.subscribe("cross/#", 2);
        ear
    };
    let mut ears = [listen(0), listen(1)];
    for proxy in 0..2 {
        let mut mouth = Connect::v311(&format!("mouth-{proxy}")).open_at(fleet.mqtt(proxy));
        for qos in 0..=2 {
            let text = format!("from {proxy} at {qos}");
            mouth.say(&format!("cross/{proxy}"), qos, &text);
            for ear in &mut ears {
                let message = ear.take();
                assert_eq!((message.text(), message.qos), (text.clone(), qos));
            }
        }
    }
    for ear in &mut ears {
        ear.assert_no_publish();
    }
}

fn retained_messages_are_those_of_the_fleet(fleet: &Fleet) {
    let mut mouth = Connect::v5("keeper").open_at(fleet.mqtt(0));
    mouth.publish(&Publish::new("kept/a", 1, "still here").retain());
    let mut ear = Connect::v5("latecomer").open_at(fleet.mqtt(1));
    ear.subscribe("kept/+", 1);
    let message = ear.take();
    assert_eq!(
        (message.text().as_str(), message.retain),
        ("still here", true)
    );
}

fn a_shared_subscription_has_members_everywhere(fleet: &Fleet) {
    let join = |proxy: u16| {
        let mut member = Connect::v5(&format!("member-{proxy}")).open_at(fleet.mqtt(proxy));
        member.subscribe("$share/crew/jobs/#", 1);
        member
    };
    let mut members = [join(0), join(1)];
    let mut mouth = Connect::v5("boss").open_at(fleet.mqtt(0));
    for n in 0..10 {
        mouth.say("jobs/x", 1, &n.to_string());
    }
    // Turn by turn: five each.
    let mut jobs: Vec<_> = members.iter_mut().flat_map(|m| m.take_texts(5)).collect();
    jobs.sort();
    assert!(jobs.into_iter().eq((0..10).map(|n| n.to_string())));
}

fn a_client_that_comes_to_another_proxy_is_taken_over(fleet: &Fleet) {
    let connect = Connect::v5("traveller").persistent();
    let mut first = connect.open_at(fleet.mqtt(0));
    first.subscribe("road/#", 1);
    let mut second = connect.open_at(fleet.mqtt(1));
    assert!(second.present, "its session goes with it");
    assert_eq!(first.expect_closed(), Some(TAKEN_OVER));
    Connect::v5("sign")
        .open_at(fleet.mqtt(0))
        .say("road/1", 1, "on");
    assert_eq!(second.take().text(), "on");
}

fn a_will_is_heard_elsewhere(fleet: &Fleet) {
    let mut ear = Connect::v5("heir").open_at(fleet.mqtt(1));
    ear.subscribe("wills/#", 1);
    let will = Publish::new("wills/a", 1, "gone");
    let testator = Connect::v5("testator").will(will).open_at(fleet.mqtt(0));
    testator.vanish();
    assert_eq!(ear.take().text(), "gone");
}

fn every_node_shows_its_figures(fleet: &Fleet) {
    let mut stays = Connect::v5("stays").open_at(fleet.mqtt(1));
    stays.ping();
    let open = fleet.metric("proxy-1", &["mqtt_fleet_proxy_connections_open"]);
    assert!(open >= 1.0, "{open}");
    let up = fleet.metric("proxy-1", &["mqtt_fleet_link_up"]);
    assert!((up - 1.0).abs() < f64::EPSILON, "one shard, one link: {up}");
    let links = fleet.metric("broker-0", &["mqtt_fleet_links_links_up"]);
    assert!((links - 2.0).abs() < f64::EPSILON, "two proxies: {links}");
    let skew = fleet.metric("proxy-0", &["mqtt_fleet_slot_skew_percent"]);
    assert!((skew - 100.0).abs() < f64::EPSILON, "one group: {skew}");
}
