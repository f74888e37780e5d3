//! Entries that take their time to the other members.

use super::THREE;
use super::fleet::{Fleet, PATIENCE};
use super::newcomers::learn;
use crate::raft::limits::{CALL_ENTRY_BYTES, EASE_ENTRY_BYTES, SMALL_CALL_BYTES_MAX};
use std::time::Duration;

/// Openraft waits for an answer for 100 ms; a member that hears no leader for 750 ms may hold an election.
#[tokio::test(start_paused = true)]
async fn an_entry_that_takes_long_to_carry_is_agreed_on_with_one_copy_on_the_way() {
    for takes in [150, 300, 1_100] {
        let fleet = Fleet::started(&THREE).await;
        let leader = fleet.elected().await;
        fleet.propose(leader, "small");
        fleet.all_saw("small").await;
        let term = fleet.seen(leader, |seen| seen.term);
        fleet.net.switch().large_takes = Duration::from_millis(takes);
        let large = "x".repeat(3 * SMALL_CALL_BYTES_MAX + 4 * 1_024 * (takes as usize));
        fleet.propose(leader, &large);
        fleet.propose(leader, "behind it");
        for name in THREE {
            fleet.saw(name, "behind it").await;
            assert_eq!(fleet.texts(name), ["small", &large, "behind it"], "{name}");
            let held = fleet.seen(name, |seen| seen.term);
            assert_eq!(held, term, "no election in {takes} ms");
        }
        assert_eq!(fleet.net.switch().large_at_once, 1, "{takes} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_without_a_vote_catches_up_in_calls_that_do_not_hold_up_others() {
    let mut fleet = Fleet::started(&["a"]).await;
    fleet.elected().await;
    for number in 0..200 {
        fleet.propose("a", &format!("{number} {}", "x".repeat(8_000)));
    }
    fleet.propose("a", "last");
    fleet.saw("a", "last").await;
    fleet.start("d").await;
    let leader = fleet.members["a"].replica.clone();
    leader
        .change(learn("d"), PATIENCE)
        .await
        .expect("it learns");
    fleet.saw("d", "last").await;
    let calls = std::mem::take(&mut fleet.net.switch().large_bytes);
    let is_small = |bytes: &&usize| **bytes < EASE_ENTRY_BYTES + SMALL_CALL_BYTES_MAX;
    // The first shows how much it lacks. The last few entries are what any member may lack.
    assert!(calls[0] > CALL_ENTRY_BYTES / 2, "{calls:?}");
    let small = calls[1..].iter().filter(is_small).count();
    assert!(small >= calls.len() - 2 && small > 4, "{calls:?}");
}
