//! What a group says of the filters that it holds: a digest with the answer to a resume, and pages when asked.

use super::world::{Client, LINK, World, claim, options};
use crate::machine::Effects;
use cluster::filters::{FilterDigest, HeldFilter};
use cluster::frame::{Filters, FromGroup, ListFilters, ToGroup};
use cluster::ids::LinkNo;
use cluster::limits::{FILTER_BYTES, FILTER_PAGE_BYTES};
use protocol::{QoS, SubscribeOptions, TopicFilter};

const Q1: QoS = QoS::AtLeastOnce;

fn digest(filters: &[HeldFilter]) -> FilterDigest {
    let mut digest = FilterDigest::default();
    for held in filters {
        digest.add(held.filter.as_str(), held.options, held.subscription_id);
    }
    digest
}

fn ask(
    world: &mut World,
    client: &Client,
    number: u32,
    after: Option<TopicFilter>,
) -> Option<Filters> {
    let asked = ListFilters {
        actor: client.actor,
        number,
        after,
    };
    let mut out = Effects::default();
    world.state.list_filters(client.link, &asked, &mut out);
    // Asked again, it is answered again.
    let mut again = Effects::default();
    let frame = ToGroup::ListFilters(Box::new(asked));
    world.state.answer_again(client.link, 1, &frame, &mut again);
    let take = |out: &mut Effects| match out.of_link(client.link).pop() {
        Some(FromGroup::Filters(page)) => Some(*page),
        None => None,
        Some(other) => panic!("{other:?}"),
    };
    let page = take(&mut out);
    assert_eq!(take(&mut again), page);
    page
}

/// All pages.
fn list(world: &mut World, client: &Client) -> Vec<HeldFilter> {
    let mut all: Vec<HeldFilter> = Vec::new();
    for number in 1.. {
        let after = all.last().map(|held| held.filter.clone());
        let page = ask(world, client, number, after).expect("it owns the session");
        assert_eq!((page.handle, page.number), (client.handle, number));
        let bytes = |held: &HeldFilter| held.filter.as_str().len() + FILTER_BYTES;
        let bytes: usize = page.filters.iter().map(bytes).sum();
        assert!(bytes <= FILTER_PAGE_BYTES, "{bytes}");
        all.extend(page.filters);
        if !page.more {
            return all;
        }
    }
    unreachable!("pages end")
}

#[test]
fn a_resume_is_answered_with_the_digest_of_what_is_held() {
    let mut world = World::new();
    let (first, claimed) = world.connect_fully(claim("a"));
    assert_eq!(claimed.digest, FilterDigest::default());
    let every = SubscribeOptions::from_u8(0b10_1110).expect("valid");
    world.subscribe_with(&first, "b/#", every, 268_435_455);
    world.subscribe_with(&first, "$share/g/a", options(Q1), 7);
    world.subscribe_with(&first, "a", options(Q1), 0);
    let held = list(&mut world, &first);
    let texts: Vec<_> = held.iter().map(|held| held.filter.as_str()).collect();
    assert_eq!(texts, ["$share/g/a", "a", "b/#"]);
    assert_eq!(
        (held[2].options, held[2].subscription_id),
        (every, 268_435_455)
    );
    world.disconnect(&first);
    let (second, claimed) = world.connect_fully(claim("a"));
    assert_eq!(claimed.digest, digest(&held));
    world.unsubscribe(&second, "b/#");
    world.disconnect(&second);
    let (_, claimed) = world.connect_fully(claim("a"));
    assert_eq!(claimed.digest, digest(&held[..2]));
}

#[test]
fn a_guest_is_answered_with_the_digest_of_what_is_held() {
    let mut world = World::new();
    let guest = world.join(LINK, "g", (3, 3), Some(1)).expect("taken");
    let joined = |world: &World, client: &Client| {
        let Client { actor, handle, .. } = *client;
        let mut out = Effects::default();
        world.state.joined(actor.client, LINK, handle, &mut out);
        match out.of_link(LINK).pop() {
            Some(FromGroup::Joined(joined)) => joined.digest,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(joined(&world, &guest), FilterDigest::default());
    world.subscribe(&guest, "g/#", Q1);
    let held = list(&mut world, &guest);
    world.disconnect(&guest);
    let guest = world.join(LINK, "g", (4, 3), Some(1)).expect("taken");
    assert_eq!(joined(&world, &guest), digest(&held));
}

#[test]
fn many_filters_come_in_pages_whatever_changes_between_them() {
    let mut world = World::new();
    let client = world.connect("a");
    let filter = |n: usize| format!("{n:03}/{}", "x".repeat(1_000));
    for n in (0..200).rev() {
        world.subscribe(&client, &filter(n), Q1);
    }
    let all = list(&mut world, &client);
    assert_eq!(all.len(), 200);
    assert!(all.is_sorted_by_key(|held| held.filter.as_str().to_owned()));
    let page = ask(&mut world, &client, 1, None).expect("its own");
    assert!(
        page.more && page.filters.len() > 32,
        "{}",
        page.filters.len()
    );
    // The last one of the page goes, and one that was in it; one behind it comes.
    let last = page.filters.last().expect("some").filter.clone();
    world.unsubscribe(&client, last.as_str());
    world.unsubscribe(&client, &filter(0));
    world.subscribe(&client, "999", Q1);
    let mut rest = Vec::new();
    let mut after = Some(last);
    while after.is_some() {
        let page = ask(&mut world, &client, 2, after).expect("its own");
        rest.extend(page.filters);
        after = page
            .more
            .then(|| rest.last().map(|held| held.filter.clone()))
            .flatten();
    }
    assert_eq!(rest[..rest.len() - 1], all[page.filters.len()..]);
    assert_eq!(rest[rest.len() - 1].filter.as_str(), "999");
}

#[test]
fn only_the_owner_is_answered() {
    let mut world = World::new();
    world.link_up(LinkNo(1), 1);
    let before = world.connect("a");
    world.subscribe(&before, "a", Q1);
    let owner = world.connect("a");
    let pages = world.state.counters().filter_pages;
    assert_eq!(ask(&mut world, &before, 1, None), None, "fenced off");
    let elsewhere = Client {
        link: LinkNo(1),
        ..owner.clone()
    };
    assert_eq!(ask(&mut world, &elsewhere, 1, None), None);
    assert_eq!(world.state.counters().filter_pages, pages);
    assert_eq!(list(&mut world, &owner).len(), 1);
    world.disconnect(&owner);
    assert_eq!(ask(&mut world, &owner, 1, None), None, "it is gone");
}
