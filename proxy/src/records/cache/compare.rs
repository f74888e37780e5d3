//! A record against what the groups hold of its session.

use super::super::changing::to_options;
use super::super::{Held, Said};
use cluster::filters::{FilterDigest, HeldFilter};
use cluster::slots::GroupNo;
use cluster::topology::{FilterGroups, Routing};
use protocol::{SubscribeOptions, TopicFilter};
use session_store::{Filter, Record};
use std::collections::BTreeMap;

/// Filters of groups by their texts: one that several groups hold is there once.
pub(super) type HeldFilters = BTreeMap<Box<str>, Filter>;

/// Whether a group that has said what it holds holds something else than the record has of it.
pub(super) fn differs(record: &Record, held: &Held, routing: &Routing) -> bool {
    let Some(expected) = digests(record, routing) else {
        return true;
    };
    let is_other = |group: GroupNo, expected: FilterDigest| {
        let said = held.groups.iter().find(|(said, _)| *said == group);
        match said {
            Some((_, Said::Digest(digest))) => *digest != expected,
            Some((_, Said::Before | Said::Nothing)) => false,
            None => expected != FilterDigest::default(),
        }
    };
    let mut known = routing.groups().iter().zip(expected);
    let mut named = held.groups.iter().map(|(group, _)| *group);
    // A group that nothing is registered at, as far as this proxy knows, is to hold nothing.
    let is_unknown = |group: &GroupNo| !routing.groups().contains(group);
    known.any(|(group, expected)| is_other(*group, expected))
        || named.any(|group| is_unknown(&group) && is_other(group, FilterDigest::default()))
}

/// What each group of the routing, in its order, is to hold of a record. `None`: it has a filter that is none.
fn digests(record: &Record, routing: &Routing) -> Option<Vec<FilterDigest>> {
    let mut digests = vec![FilterDigest::default(); routing.groups().len()];
    for filter in &record.filters {
        let placed = routing.groups_of_filter(&TopicFilter::new(&filter.filter).ok()?);
        let options = SubscribeOptions::from_u8(filter.options.to_byte())?;
        let id = filter.subscription_id.unwrap_or(0);
        for (group, digest) in routing.groups().iter().zip(&mut digests) {
            if placed == FilterGroups::Every || placed == FilterGroups::One(*group) {
                digest.add(&filter.filter, options, id);
            }
        }
    }
    Some(digests)
}

/// The groups that are to be asked what they hold, the home last.
pub(super) fn to_ask(held: &Held) -> Vec<GroupNo> {
    let groups = held.groups.iter().rev();
    let holds = |said: Said| match said {
        Said::Digest(digest) => digest != FilterDigest::default(),
        Said::Before => true,
        Said::Nothing => false,
    };
    let asked = groups.filter(|(_, said)| holds(*said));
    asked.map(|(group, _)| *group).collect()
}

/// Takes in what one group holds. Where two groups differ about a filter the one that was asked first counts.
pub(super) fn take(filters: &mut HeldFilters, page: &[HeldFilter]) {
    for held in page {
        let text = held.filter.as_str();
        filters.entry(text.into()).or_insert_with(|| Filter {
            filter: text.to_owned(),
            options: to_options(held.options),
            subscription_id: (held.subscription_id > 0).then_some(held.subscription_id),
        });
    }
}

/// The record's filters become those that the groups hold. Those of groups that have said nothing stay: what they hold
/// is told later.
pub(super) fn rebuild(record: &mut Record, held: &Held, filters: HeldFilters, routing: &Routing) {
    let is_silent = |group: GroupNo| held.groups.contains(&(group, Said::Nothing));
    record.filters.retain(|filter| {
        let filter = TopicFilter::new(&filter.filter);
        let placed = filter.map(|filter| routing.groups_of_filter(&filter));
        matches!(placed, Ok(FilterGroups::One(group)) if is_silent(group))
    });
    let kept = record.filters.len();
    for (text, filter) in filters {
        let is_there = |there: &Filter| *there.filter == *text;
        if !record.filters[..kept].iter().any(is_there) {
            record.filters.push(filter);
        }
    }
}

/// Bytes of filters, about.
pub(super) fn weight(page: &[HeldFilter]) -> usize {
    let of = |held: &HeldFilter| 2 * held.filter.as_str().len() + size_of::<Filter>();
    page.iter().map(of).sum()
}
