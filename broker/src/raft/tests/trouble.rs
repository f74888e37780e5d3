//! Members that are stopped, cut off and started again by chance.

use super::fleet::Fleet;
use crate::raft::seed;
use rand_core::RngCore as _;
use std::time::Duration;

const THREE: [&str; 3] = ["a", "b", "c"];

fn chance(below: u64) -> u64 {
    super::super::config::random().next_u64() % below
}

/// One thing that goes wrong, or right again.
async fn trouble(fleet: &mut Fleet, down: &mut Option<&'static str>) {
    let name = THREE[chance(3) as usize];
    match chance(6) {
        0 => fleet.isolate(name, true),
        1 => fleet.cut(name, THREE[chance(3) as usize], true),
        2 | 3 => {
            for name in THREE {
                fleet.isolate(name, false);
            }
        }
        4 => {
            if let Some(name) = down.take() {
                fleet.start(name).await;
            } else {
                fleet.stop(name).await;
                *down = Some(name);
            }
        }
        _ => {
            if *down != Some(name) {
                fleet.snapshot(name);
            }
        }
    }
}

/// Proposes some numbers, over a time in which some elections begin and others end.
async fn propose(fleet: &Fleet, number: &mut u64) {
    let mut pause = tokio::time::interval(Duration::from_millis(1 + chance(120)));
    for _ in 0..4 {
        pause.tick().await;
        if let Some(leader) = fleet.leader() {
            fleet.propose(leader, &number.to_string());
            *number += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_what_was_agreed_on_stays() {
    for run in 0..3 {
        seed(run);
        let mut fleet = Fleet::started(&THREE).await;
        fleet.elected().await;
        let (mut down, mut number) = (None, 0);
        for _ in 0..25 {
            trouble(&mut fleet, &mut down).await;
            propose(&fleet, &mut number).await;
        }
        for name in THREE {
            fleet.isolate(name, false);
        }
        if let Some(name) = down {
            fleet.start(name).await;
        }
        let leader = fleet.elected().await;
        fleet.propose(leader, "the end");
        fleet.all_saw("the end").await;
        let agreed = fleet.agreed();
        for name in THREE {
            assert_eq!(fleet.texts(name), agreed, "{name} in run {run}");
        }
        let mut numbers: Vec<u64> = agreed.iter().filter_map(|text| text.parse().ok()).collect();
        let before = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), before, "nothing came twice");
        assert!(numbers.is_sorted(), "nothing overtook");
    }
}
