//! Wall clocks that do not agree.

use super::THREE;
use super::fleet::Fleet;

/// Cuts off leaders until this member leads.
async fn have_lead(fleet: &Fleet, name: &str) {
    loop {
        let leader = fleet.elected().await;
        if leader == name {
            return;
        }
        fleet.isolate(leader, true);
        let other = |fleet: &Fleet| fleet.leader().filter(|found| *found != leader);
        fleet.until("another leader", other).await;
        fleet.isolate(leader, false);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_clock_is_ahead_goes_by_the_others() {
    let fleet = Fleet::started(&THREE).await;
    fleet.elected().await;
    fleet.put_forward("b", 10);
    have_lead(&fleet, "b").await;
    assert_eq!(fleet.hours_ahead("b"), 0);
    fleet.put_forward("a", 12);
    fleet.put_forward("c", 12);
    let hears = |fleet: &Fleet| (fleet.hours_ahead("b") == 12).then_some(());
    fleet.until("it hears of the others' clocks", hears).await;
    have_lead(&fleet, "a").await;
    let agree = |fleet: &Fleet| (fleet.hours_ahead("a") == 12).then_some(());
    fleet.until("two of three agree", agree).await;
}

#[tokio::test(start_paused = true)]
async fn an_only_member_goes_by_its_own_clock() {
    let fleet = Fleet::started(&["a"]).await;
    fleet.elected().await;
    fleet.put_forward("a", 10);
    assert_eq!(fleet.hours_ahead("a"), 10);
}
