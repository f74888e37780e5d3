//! Session records of the fleet: whatever happens to them and around them, some time after a resume they say what the
//! groups hold.

use super::world::{DEVICES, EVERYTHING, Fleet, GROUPS, PROXIES};
use super::{Op, op, play};
use proptest::prelude::*;
use session_store::{Filter, FilterOptions};
use std::collections::BTreeSet;

/// A filter that nobody has subscribed to.
const NONSENSE: &str = "never/asked/for";

#[derive(Clone, Copy, Debug)]
enum Step {
    Fleet(Op),
    /// The record of a device is lost, or one of its filters is, or it has one too many.
    Lose(usize),
    LoseFilter(usize),
    Add(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let device = || 0..DEVICES;
    prop_oneof![
        20 => op().prop_map(Step::Fleet),
        1 => device().prop_map(Step::Lose),
        1 => device().prop_map(Step::LoseFilter),
        1 => device().prop_map(Step::Add),
    ]
}

fn damage(fleet: &mut Fleet, step: Step) {
    let stored = fleet.stored.clone().expect("a fleet with records");
    let mut stored = stored.borrow_mut();
    let record = |device: usize| &fleet.ids[device];
    match step {
        Step::Fleet(_) => {}
        Step::Lose(device) => drop(stored.remove(record(device))),
        Step::LoseFilter(device) => {
            if let Some(record) = stored.get_mut(record(device)) {
                record.filters.pop();
            }
        }
        Step::Add(device) => {
            if let Some(record) = stored.get_mut(record(device)) {
                record.filters.push(Filter {
                    filter: NONSENSE.to_owned(),
                    options: FilterOptions::default(),
                    subscription_id: None,
                });
            }
        }
    }
}

impl Fleet {
    /// Everybody resumes a session, and then all records must be right.
    fn check_records(&mut self) {
        self.settle();
        for device in 0..DEVICES {
            self.come_back(device);
        }
        self.settle();
        for device in 0..DEVICES {
            self.disconnect(device);
        }
        self.settle();
        for device in 0..DEVICES {
            self.connect(device, device % PROXIES, false, u32::MAX);
        }
        self.settle();
        let stored = self.stored.clone().expect("a fleet with records");
        let stored = stored.borrow();
        let (mut least, mut most) = (0, 0);
        for (device, id) in self.devices.iter().zip(&self.ids) {
            assert!(device.connected, "{id}");
            let filters = &stored[id].filters;
            let texts: BTreeSet<&str> = filters.iter().map(|it| it.filter.as_str()).collect();
            assert_eq!(texts.len(), filters.len(), "{id}: {filters:?}");
            assert!(!texts.contains(NONSENSE), "{id}: {filters:?}");
            for filter in device.granted.keys() {
                let text = self.topics.get(*filter).map_or("#", String::as_str);
                assert!(texts.contains(text), "{id}: {filters:?} without {text}");
            }
            // A SUBSCRIBE that was refused since a group was away may have left something at others.
            let at = |text: &&str| if *text == "#" { GROUPS } else { 1 };
            least += texts.len();
            most += texts.iter().map(at).sum::<usize>();
        }
        let counters = self.brokers.iter().map(|it| it.leader.state().counters());
        let held: u64 = counters.map(|counters| counters.subscriptions).sum();
        let possible = least as u64..=most as u64;
        assert!(
            possible.contains(&held),
            "{held} are held, {possible:?} known"
        );
    }
}

#[test]
fn a_record_is_built_again_from_what_real_groups_hold() {
    let mut fleet = Fleet::with_records();
    fleet.connect(0, 0, false, u32::MAX);
    fleet.flow();
    for filter in 0..=EVERYTHING {
        fleet.subscribe(0, filter, super::Q1);
        fleet.flow();
    }
    assert_eq!(fleet.devices[0].granted.len(), GROUPS + 1);
    fleet.disconnect(0);
    fleet.settle();
    damage(&mut fleet, Step::Lose(0));
    fleet.check_records();
    assert!(fleet.records_rebuilt() > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 500 } else { 4_000 }))]

    #[test]
    fn records_say_what_the_groups_hold(steps in prop::collection::vec(step(), 1..150)) {
        let mut fleet = Fleet::with_records();
        for step in steps {
            match step {
                Step::Fleet(op) => play(&mut fleet, op),
                step => damage(&mut fleet, step),
            }
        }
        fleet.check_records();
    }
}
