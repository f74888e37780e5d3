//! Session records follow the groups: whatever Redis has lost, some time after a session is resumed its record says where
//! the client is and what it has subscribed to.

use super::{Verdict, Violation, device};
use crate::ledger::Ledger;
use cluster::ids::Epoch;
use session_store::{Filter, Record};

pub(crate) const NAME: &str = "records follow the groups";

/// Everybody has resumed its session, and has had time. `record`: what is stored of the device, which is connected through
/// the proxy of this name.
pub(crate) fn at_end(
    ledger: &Ledger,
    filters: &[String],
    who: usize,
    (node, record): (&str, Option<&Record>),
) -> Verdict {
    let Some(wrong) = wrong_with(ledger, filters, who, node, record) else {
        return Ok(());
    };
    Err(Violation {
        invariant: NAME,
        text: format!("device {who} is connected to {node}: {wrong}"),
        about: vec![device(who), "Redis".to_owned(), "record".to_owned()],
    })
}

fn wrong_with(
    ledger: &Ledger,
    filters: &[String],
    who: usize,
    node: &str,
    record: Option<&Record>,
) -> Option<String> {
    let Some(record) = record else {
        return Some("it has no record".to_owned());
    };
    let standing = &ledger.devices[who];
    let (epoch, _) = standing.newest;
    let owner = (record.node.as_str(), Epoch(record.epoch));
    if owner != (node, epoch) || record.disconnected_at_ms.is_some() {
        return Some(format!("its epoch is {epoch:?}, and its record {record:?}"));
    }
    let held = |filter: usize| {
        let mut there = record.filters.iter();
        there.find(|there| there.filter == filters[filter])
    };
    for (filter, qos) in &standing.granted {
        let is_right = |there: &Filter| there.options.qos == qos.as_u8();
        let is_unsure = standing.unsure.contains(filter);
        if !held(*filter).is_some_and(|there| is_unsure || is_right(there)) {
            return Some(format!(
                "filter {filter} was granted {qos:?}, and its record has {:?}",
                record.filters
            ));
        }
    }
    let may_be_there = |there: &Filter| {
        let filter = filters.iter().position(|filter| *filter == there.filter);
        filter.is_some_and(|filter| {
            standing.granted.contains_key(&filter) || standing.unsure.contains(&filter)
        })
    };
    let surplus = record.filters.iter().find(|there| !may_be_there(there))?;
    Some(format!(
        "its record has {:?}, which it does not have",
        surplus.filter
    ))
}
