//! Entries that take their time to the other members.

use super::THREE;
use super::fleet::Fleet;
use crate::raft::limits::SMALL_CALL_BYTES_MAX;
use std::time::Duration;

/// Openraft waits for an answer for 100 ms; a member that hears no leader for 750 ms may hold an election.
#[tokio::test]
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
