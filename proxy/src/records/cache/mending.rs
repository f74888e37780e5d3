//! Records that differ from what the groups hold, until those have said what that is.
//!
//! What happened to a client is taken into its record in order. Where groups have said what they hold (when a session was
//! resumed, or a group came late) the record is compared with that. If it differs it is saved as it is, the groups
//! are asked, and what happens meanwhile waits, to join the record that is built from their answers. What they say may
//! have some of that already; taking it in again changes nothing.

use super::super::limits::{
    MENDED_CLIENT_BYTES_MAX, QUESTIONS_IN_ORDER, QUESTIONS_OPEN_MAX, REBUILDS_QUIET_MS,
    UNLOADED_BYTES_MAX, UNLOADED_MAX,
};
use super::super::{FilterQuestion, Held, Listed, What};
use super::compare::{self, HeldFilters};
use super::unloaded::{Unloaded, Waiting};
use super::{Cache, apply};
use crate::counters::ProxyCounters;
use cluster::slots::GroupNo;
use protocol::TopicFilter;
use session_store::{Record, StoreError};

/// A record that differs.
#[derive(Debug)]
pub(super) struct Mending {
    /// With all that happened until the groups were asked.
    record: Record,
    /// Who said what, when it was found to differ.
    held: Box<Held>,
    /// That of the connection that asks.
    pub(super) epoch: u64,
    /// Groups that have not said everything. The last one is asked.
    to_ask: Vec<GroupNo>,
    /// The last one's next filters are those behind this one.
    after: Option<TopicFilter>,
    /// The number of the last question, and whether it has no answer.
    question: u32,
    pub(super) is_open: bool,
    filters: HeldFilters,
    /// Of the record's filters and these.
    pub(super) bytes: usize,
    /// Tells it from the client's earlier ones.
    serial: u64,
}

impl Cache {
    /// Takes what has waited into a client's record, up to where groups have to be asked, or to its end. `differs`: the
    /// record is known to, and was not mended yet.
    pub(super) fn fold(
        &mut self,
        now_ms: u64,
        client_id: &str,
        changes: Vec<Waiting>,
        mut record: Option<Record>,
        mut differs: bool,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let mut over = None;
        let mut changes = changes.into_iter();
        while let Some(Waiting { at_ms, epoch, what }) = changes.next() {
            if record.as_ref().is_some_and(|record| record.epoch > epoch) {
                continue;
            }
            if matches!(what, What::Connected(_)) {
                // All groups say anew what they hold.
                differs = false;
                record.get_or_insert_with(|| Record::blank(client_id));
            }
            let Some(record) = &mut record else { continue };
            apply(record, &self.node, at_ms, epoch, &what);
            over = Some(what.ends_connection());
            let Some(held) = what.held() else { continue };
            differs |= compare::differs(record, held, &self.routing);
            if differs && !changes.as_slice().iter().any(|next| is_turn(&next.what)) {
                let mending = self.begin(record.clone(), held, epoch);
                let rest = changes.collect();
                // Should the groups never answer, this much is written.
                let so_far = Some(record.clone());
                self.keep(now_ms, client_id, so_far, Some(false), counters)?;
                return self.mend(now_ms, client_id, mending, rest, counters);
            }
        }
        self.keep(now_ms, client_id, record, over, counters)
    }

    fn begin(&mut self, record: Record, held: &Held, epoch: u64) -> Mending {
        self.last_mending += 1;
        Mending {
            bytes: record.filters.iter().map(|it| it.filter.len() + 64).sum(),
            record,
            held: Box::new(held.clone()),
            epoch,
            to_ask: compare::to_ask(held),
            after: None,
            question: 0,
            is_open: false,
            filters: HeldFilters::new(),
            serial: self.last_mending,
        }
    }

    /// A known record differs from what a group says that came late.
    pub(super) fn mend_known(
        &mut self,
        now_ms: u64,
        record: Record,
        held: &Held,
        epoch: u64,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let client_id: Box<str> = record.client_id.as_str().into();
        let mending = self.begin(record, held, epoch);
        self.mend(now_ms, &client_id, mending, Vec::new(), counters)
    }

    fn mend(
        &mut self,
        now_ms: u64,
        client_id: &str,
        mending: Mending,
        changes: Vec<Waiting>,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        if mending.to_ask.is_empty() {
            return self.mended(now_ms, client_id, mending, changes, counters);
        }
        let serial = mending.serial;
        self.insert_unloaded(client_id, Unloaded::mending(client_id, mending, changes));
        self.mendings += 1;
        self.mending_order.push_back((serial, client_id.into()));
        self.to_list.push_back(client_id.into());
        self.tidy_mendings();
        self.bound_mendings(now_ms, counters)
    }

    /// The groups have said everything.
    fn mended(
        &mut self,
        now_ms: u64,
        client_id: &str,
        mending: Mending,
        changes: Vec<Waiting>,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let Mending {
            mut record,
            held,
            filters,
            ..
        } = mending;
        compare::rebuild(&mut record, &held, filters, &self.routing);
        counters.store_records_rebuilt.increment();
        let in_burst = |last_ms: u64| now_ms.saturating_sub(last_ms) < REBUILDS_QUIET_MS;
        if !self.rebuilt_ms.is_some_and(in_burst) {
            tracing::info!(
                client = client_id,
                "session records are gone or differ from what the groups hold: their filters are built again from that"
            );
        }
        self.rebuilt_ms = Some(now_ms);
        self.keep(
            now_ms,
            client_id,
            Some(record.clone()),
            Some(false),
            counters,
        )?;
        if changes.is_empty() {
            return Ok(());
        }
        self.fold(now_ms, client_id, changes, Some(record), false, counters)
    }

    /// The next question for a group, if there may be one more now.
    pub(in crate::records) fn next_question(&mut self) -> Option<FilterQuestion> {
        while self.questions_open < QUESTIONS_OPEN_MAX
            && let Some(client_id) = self.to_list.pop_front()
        {
            let unloaded = self.unloaded.get_mut(&client_id);
            let Some(mending) = unloaded.and_then(|unloaded| unloaded.mending.as_deref_mut())
            else {
                continue;
            };
            let Some(group) = mending.to_ask.last().filter(|_| !mending.is_open) else {
                continue;
            };
            self.last_question = self.last_question.wrapping_add(1);
            self.questions_open += 1;
            mending.is_open = true;
            mending.question = self.last_question;
            return Some(FilterQuestion {
                handle: mending.held.handle,
                group: *group,
                number: mending.question,
                after: mending.after.clone(),
            });
        }
        None
    }

    /// A group has answered.
    pub(super) fn page(
        &mut self,
        now_ms: u64,
        client_id: &str,
        page: &Listed,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let unloaded = self.unloaded.get_mut(client_id);
        let asked = unloaded.and_then(|unloaded| {
            let mending = unloaded.mending.as_deref_mut()?;
            let is_it = mending.is_open && mending.question == page.number;
            is_it.then_some((mending, &mut unloaded.bytes))
        });
        let Some((mending, bytes)) = asked else {
            counters.answers_stale.increment();
            return Ok(());
        };
        mending.is_open = false;
        self.questions_open -= 1;
        compare::take(&mut mending.filters, &page.filters);
        let weight = compare::weight(&page.filters);
        mending.bytes += weight;
        *bytes += weight;
        self.unloaded_bytes += weight;
        let last = page.filters.last().filter(|_| page.more);
        mending.after = last.map(|held| held.filter.clone());
        if mending.after.is_none() {
            mending.to_ask.pop();
        }
        if mending.bytes > MENDED_CLIENT_BYTES_MAX {
            return self.give_up_mending(now_ms, client_id, counters);
        }
        if !mending.to_ask.is_empty() {
            self.to_list.push_back(client_id.into());
            return self.bound_mendings(now_ms, counters);
        }
        match self.take_mending(client_id) {
            Some((mending, changes)) => self.mended(now_ms, client_id, mending, changes, counters),
            None => Ok(()),
        }
    }

    /// Something has happened to a client whose record is being mended. Where that is another turn of its connection,
    /// or groups say anew what they hold, it begins again from there.
    pub(super) fn turn_mending(
        &mut self,
        now_ms: u64,
        client_id: &str,
        what: &What,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        if !is_turn(what) {
            return Ok(());
        }
        let Some((mending, changes)) = self.take_mending(client_id) else {
            return Ok(());
        };
        self.fold(
            now_ms,
            client_id,
            changes,
            Some(mending.record),
            true,
            counters,
        )
    }

    /// The record stays as it is until the session is resumed again.
    pub(super) fn give_up_mending(
        &mut self,
        now_ms: u64,
        client_id: &str,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let Some((mending, changes)) = self.take_mending(client_id) else {
            return Ok(());
        };
        counters.store_rebuilds_given_up.increment();
        if changes.is_empty() {
            return Ok(());
        }
        let record = Some(mending.record);
        self.fold(now_ms, client_id, changes, record, false, counters)
    }

    fn take_mending(&mut self, client_id: &str) -> Option<(Mending, Vec<Waiting>)> {
        self.unloaded.get(client_id)?.mending.as_ref()?;
        let unloaded = self.drop_unloaded(client_id)?;
        Some((*unloaded.mending?, unloaded.changes))
    }

    /// At the limits the one that has waited longest is given up.
    pub(super) fn bound_mendings(
        &mut self,
        now_ms: u64,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        while self.unloaded.len() > UNLOADED_MAX || self.unloaded_bytes > UNLOADED_BYTES_MAX {
            let Some((serial, client_id)) = self.mending_order.pop_front() else {
                break;
            };
            if self.is_mending(serial, &client_id) {
                self.give_up_mending(now_ms, &client_id, counters)?;
            }
        }
        Ok(())
    }

    fn is_mending(&self, serial: u64, client_id: &str) -> bool {
        let mending = self
            .unloaded
            .get(client_id)
            .and_then(|it| it.mending.as_deref());
        mending.is_some_and(|mending| mending.serial == serial)
    }

    /// Takes those out of the orders that are not mended any more, once they are most of them.
    fn tidy_mendings(&mut self) {
        let most = 2 * self.mendings + QUESTIONS_IN_ORDER;
        if self.mending_order.len() > most {
            let mut order = std::mem::take(&mut self.mending_order);
            order.retain(|(serial, client_id)| self.is_mending(*serial, client_id));
            self.mending_order = order;
        }
        if self.to_list.len() > most {
            let mut order = std::mem::take(&mut self.to_list);
            order.retain(|client_id| {
                let there = self.unloaded.get(client_id);
                there.is_some_and(|there| there.mending.as_ref().is_some_and(|it| !it.is_open))
            });
            self.to_list = order;
        }
    }
}

/// Whether what groups have said before it is to be looked at no more.
fn is_turn(what: &What) -> bool {
    matches!(
        what,
        What::Connected(_) | What::Held(_) | What::Ended { .. }
    )
}
