//! The two queues as both threads see them.

use super::super::config::random;
use super::*;
use crate::consensus::Entry;
use crate::log::Location;
use std::time::Duration;

fn event() -> Event {
    Event::Follow { leader: None }
}

#[test]
fn a_leader_has_the_promises_of_the_others_for_longer_than_it_counts_on_them() {
    let inbox = Inbox::new(Box::new(|| ()));
    inbox.born(1);
    inbox.change_lease(|lease| lease.voters(vec![BTreeSet::from([1, 2, 3])]));
    let start = tokio::time::Instant::now();
    inbox.takes_part(Election::new(start, &mut random()));
    assert!(!inbox.reigns(start) && !inbox.knows_leader(start));
    inbox.vote_changed(&Vote::new_committed(5, 1));
    assert!(!inbox.reigns(start), "nobody has answered");
    inbox.change_lease(|lease| lease.heard(5, 2, start.into_std()));
    for (millis, reigns) in [(0, true), (400, true), (599, true), (600, false)] {
        let now = start + Duration::from_millis(millis);
        assert_eq!(inbox.reigns(now), reigns, "after {millis} ms");
        assert_eq!(inbox.knows_leader(now), reigns, "after {millis} ms");
    }
    inbox.vote_changed(&Vote::new_committed(6, 2));
    assert!(!inbox.reigns(start));
    inbox.change_election(|election| election.heard(start, &mut random()));
    assert!(inbox.knows_leader(start + Duration::from_millis(599)));
    assert!(!inbox.knows_leader(start + ELECTION_MAX));
}

/// As when a member that was started again reads a long log.
#[tokio::test]
async fn an_event_without_room_comes_when_another_one_is_taken() {
    let inbox = Arc::new(Inbox::new(Box::new(|| ())));
    for _ in 0..INBOX_EVENTS_MAX {
        inbox.hand_over(event()).await;
    }
    let late = Arc::clone(&inbox);
    let late = tokio::spawn(async move { late.hand_over(event()).await });
    tokio::task::yield_now().await;
    assert!(!late.is_finished(), "there is no room");
    assert!(inbox.next().is_some());
    let comes = tokio::time::timeout(Duration::from_secs(10), late).await;
    comes.expect("there is room").expect("no panic");
}

fn entry(term: u64) -> Event {
    let (index, payload) = (term, Payload::Blank);
    let at = Location {
        segment: 1,
        offset: 0,
    };
    Event::Entry(Entry {
        term,
        index,
        at,
        payload,
    })
}

#[tokio::test]
async fn a_leader_gives_way_when_its_group_knows_and_parts_when_another_leads() {
    let inbox = Arc::new(Inbox::new(Box::new(|| ())));
    inbox.born(1);
    let now = Instant::now();
    inbox.change_lease(|lease| lease.voters(vec![BTreeSet::from([1])]));
    inbox.vote_changed(&Vote::new_committed(3, 1));
    inbox.hand_over(entry(3)).await;
    assert!(matches!(inbox.next(), Some(Event::Entry(_))));
    assert!(matches!(inbox.next(), Some(Event::Lead { term: 3 })));
    assert!(inbox.leads_until(3, now).is_some() && inbox.reigns(now.into()));
    inbox.propose(3, vec![1]);

    assert!(!inbox.give_way(2), "it leads in another");
    assert!(inbox.give_way(3));
    assert!(!inbox.reigns(now.into()) && !inbox.give_way(3));
    let waits = Arc::clone(&inbox);
    let waits = tokio::spawn(async move { waits.is_unsure().await });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished(), "the group may be sending");
    assert_eq!(inbox.leads_until(3, now), None);
    let comes = tokio::time::timeout(Duration::from_secs(10), waits).await;
    comes.expect("the group knows").expect("no panic");

    inbox.vote_changed(&Vote::new_committed(3, 1));
    assert!(!inbox.reigns(now.into()), "never again in that term");
    let other: NodeName = "other".parse().expect("a name");
    inbox.follows(4, other.clone());
    inbox.hand_over(entry(3)).await;
    assert!(matches!(inbox.next(), Some(Event::Entry(_))));
    assert!(inbox.next().is_none(), "the links stay");
    inbox.hand_over(entry(4)).await;
    let told = inbox.next();
    assert!(
        matches!(&told, Some(Event::Follow { leader: Some(leader) }) if *leader == other),
        "{told:?}"
    );
    assert!(matches!(inbox.next(), Some(Event::Entry(_))));
    assert!(inbox.lock().proposals.is_empty());
    inbox.part();
    assert!(inbox.next().is_none(), "it was told");
}

#[tokio::test]
async fn who_waits_until_nothing_is_sent_is_woken_by_the_last() {
    let inbox = Arc::new(Inbox::new(Box::new(|| ())));
    assert_eq!(inbox.nothing_is_sent().await, BTreeSet::new());
    let (first, second) = (inbox.sends(), inbox.sends());
    let waits = Arc::clone(&inbox);
    let waits = tokio::spawn(async move { waits.nothing_is_sent().await });
    drop(first);
    tokio::task::yield_now().await;
    assert!(!waits.is_finished(), "one is still on its way");
    second.arrived(7);
    let comes = tokio::time::timeout(Duration::from_secs(10), waits).await;
    let served = comes.expect("nothing is sent").expect("no panic");
    assert_eq!(served, BTreeSet::from([7]));
}
