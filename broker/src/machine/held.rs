//! What a group says of the filters that it holds of a session, to the proxy that keeps the session's record.

use super::effects::Effects;
use super::filters::{FilterList, HeldFilter as Held};
use super::session::Session;
use super::state::State;
use cluster::filters::{FilterDigest, HeldFilter};
use cluster::frame::{Filters, FromGroup, ListFilters};
use cluster::ids::LinkNo;
use cluster::limits::{FILTER_BYTES, FILTER_PAGE_BYTES};

impl Session {
    /// Computed where it is asked for: a session that is not resumed has nothing to compare, and pays nothing.
    pub(super) fn filter_digest(&self) -> FilterDigest {
        let mut digest = FilterDigest::default();
        for held in self.filters.iter() {
            digest.add(held.text, held.options, held.subscription_id);
        }
        digest
    }
}

impl State {
    /// A page of the filters that are held of a session, for the connection that acts for it on this link. Others get
    /// no answer: they own nothing here any more, and hear of that otherwise.
    ///
    /// Changes nothing that a replica must agree on.
    pub fn list_filters(&mut self, link: LinkNo, asked: &ListFilters, out: &mut Effects) {
        let Some(session) = self.fenced(asked.actor) else {
            return;
        };
        let Some((_, handle)) = session.attached().filter(|(at, _)| *at == link) else {
            return;
        };
        let after = asked.after.as_ref().map(protocol::TopicFilter::as_str);
        let (filters, more) = page(&session.filters, after);
        self.counters.filter_pages += 1;
        let filters = Filters {
            handle,
            number: asked.number,
            filters,
            more,
        };
        out.send(link, FromGroup::Filters(Box::new(filters)));
    }
}

/// The filters behind `after`, in the order of their texts, as many as a page holds; and whether there are more.
fn page(list: &FilterList, after: Option<&str>) -> (Vec<HeldFilter>, bool) {
    let behind = |held: &Held<'_>| after.is_none_or(|after| held.text > after);
    let mut behind: Vec<_> = list.iter().filter(behind).collect();
    behind.sort_unstable_by_key(|held| held.text);
    let mut bytes = 0;
    let fits = |held: &&Held<'_>| {
        let is_first = bytes == 0;
        bytes += held.text.len() + FILTER_BYTES;
        is_first || bytes <= FILTER_PAGE_BYTES
    };
    let page: Vec<_> = behind.iter().take_while(fits).map(to_wire).collect();
    let more = page.len() < behind.len();
    (page, more)
}

fn to_wire(held: &Held<'_>) -> HeldFilter {
    HeldFilter {
        filter: held.to_filter(),
        options: held.options,
        subscription_id: held.subscription_id,
    }
}
