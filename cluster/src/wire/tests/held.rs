//! What groups hold, and what is asked of it.

use super::*;
use crate::filters::{FilterDigest, HeldFilter};
use crate::frame::{Filters, ListFilters};

pub(super) fn digest() -> impl Strategy<Value = FilterDigest> {
    number(64).prop_map(FilterDigest)
}

pub(super) fn list_filters() -> impl Strategy<Value = Box<ListFilters>> {
    (actor(), small(), prop::option::of(filter())).prop_map(|(actor, number, after)| {
        Box::new(ListFilters {
            actor,
            number,
            after,
        })
    })
}

pub(super) fn filters() -> impl Strategy<Value = Box<Filters>> {
    let held = (filter(), options(), small());
    let held = held.prop_map(|(filter, options, subscription_id)| HeldFilter {
        filter,
        options,
        subscription_id,
    });
    let page = (vec(held, 0..5), any::<bool>());
    (handle(), small(), page).prop_map(|(handle, number, (filters, more))| {
        let more = more && !filters.is_empty();
        Box::new(Filters {
            handle,
            number,
            filters,
            more,
        })
    })
}
