//! What a change does to a record.

use super::limits::CHANGE_BYTES;
use super::{Connected, Held, RecordChange, What};
use protocol::{SubscribeOptions, TopicFilter};
use session_store::{EventKind, Filter, FilterOptions, Record};

impl RecordChange {
    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.client_id.len() + self.what.bytes()
    }
}

impl What {
    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let texts = match self {
            Self::Connected(connected) => connected.user.as_ref().map_or(0, String::len),
            Self::Subscribed { filters, .. } => {
                let of = |filter: &str| filter.len() + CHANGE_BYTES;
                filters.iter().map(|(filter, _)| of(filter.as_str())).sum()
            }
            Self::Unsubscribed { filters } => {
                let of = |filter: &str| filter.len() + CHANGE_BYTES;
                filters.iter().map(|filter| of(filter.as_str())).sum()
            }
            Self::Held(_) | Self::Listed(_) | Self::Ended { .. } => 0,
        };
        let held = self.held();
        CHANGE_BYTES + texts + held.map_or(0, |held| size_of_val(&*held.groups))
    }

    /// Whether the session is over, so that its record goes.
    pub(super) fn ends_session(&self) -> bool {
        matches!(self, Self::Ended { expiry_s: 0, .. })
    }

    /// What groups have said of what they hold.
    pub(super) fn held(&self) -> Option<&Held> {
        match self {
            Self::Connected(connected) => connected.resumed.as_deref(),
            Self::Held(held) => Some(held),
            _ => None,
        }
    }

    /// Whether the connection is over.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

/// Changes a record by what happened to its client at `now_ms`, when its owner had this epoch. `node`: the node it
/// happened at.
pub(super) fn apply(record: &mut Record, node: &str, now_ms: u64, epoch: u64, what: &What) {
    record.epoch = epoch;
    match what {
        What::Connected(connected) => connect(record, node, now_ms, connected),
        What::Subscribed {
            filters,
            subscription_id,
        } => subscribe(record, filters, *subscription_id),
        What::Unsubscribed { filters } => {
            record
                .filters
                .retain(|old| filters.iter().all(|gone| gone.as_str() != old.filter));
        }
        // They say what there is, and change nothing.
        What::Held(_) | What::Listed(_) => {}
        What::Ended { expiry_s, how } => {
            record.expiry_s = *expiry_s;
            record.disconnected_at_ms = Some(now_ms);
            record.push_event(now_ms, *how);
        }
    }
}

/// The history outlives sessions, the filters do not.
fn connect(record: &mut Record, node: &str, now_ms: u64, connected: &Connected) {
    node.clone_into(&mut record.node);
    record.protocol_version = connected.version.level();
    record.user.clone_from(&connected.user);
    record.address = connected.address;
    record.clean_start = connected.clean_start;
    record.expiry_s = connected.expiry_s;
    record.connected_at_ms = now_ms;
    record.disconnected_at_ms = None;
    if connected.resumed.is_none() {
        record.filters.clear();
    }
    record.push_event(now_ms, EventKind::Connected);
}

/// Options as records have them.
pub(super) fn to_options(options: SubscribeOptions) -> FilterOptions {
    FilterOptions {
        qos: options.qos.as_u8(),
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: options.retain_handling as u8,
    }
}

/// A filter that is there already is replaced (MQTT-3.8.4-3).
fn subscribe(
    record: &mut Record,
    filters: &[(TopicFilter, SubscribeOptions)],
    subscription_id: u32,
) {
    for (filter, options) in filters {
        let new = Filter {
            filter: filter.as_str().to_owned(),
            options: to_options(*options),
            subscription_id: (subscription_id > 0).then_some(subscription_id),
        };
        match record
            .filters
            .iter_mut()
            .find(|old| old.filter == new.filter)
        {
            Some(old) => *old = new,
            None => record.filters.push(new),
        }
    }
}
