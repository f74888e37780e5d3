//! What a session tells of itself to the session store. Nothing, where nobody keeps records.

use super::{Context, End, Rules, Session};
use crate::records::{Connected, RecordChange, What};
use cluster::frame::{Subscribe, Unsubscribe};
use protocol::{PacketId, ReasonCode};
use session_store::EventKind;

/// A SUBSCRIBE or UNSUBSCRIBE that waits for the group. Bounded like all requests.
#[derive(Debug)]
pub(super) struct Asked {
    packet_id: PacketId,
    what: What,
}

impl Session {
    pub(super) fn record_connected(&self, connected: Option<Connected>, cx: &mut Context<'_>) {
        if let Some(connected) = connected {
            self.record(What::Connected(connected), cx);
        }
    }

    pub(super) fn remember_subscribe(&mut self, subscribe: &Subscribe, rules: &Rules) {
        if rules.keeps_records {
            let what = What::Subscribed {
                filters: subscribe.filters.clone(),
                subscription_id: subscribe.subscription_id,
            };
            self.busy().asked.push(Asked {
                packet_id: subscribe.packet_id,
                what,
            });
        }
    }

    pub(super) fn remember_unsubscribe(&mut self, unsubscribe: &Unsubscribe, rules: &Rules) {
        if rules.keeps_records {
            let what = What::Unsubscribed {
                filters: unsubscribe.filters.clone(),
            };
            self.busy().asked.push(Asked {
                packet_id: unsubscribe.packet_id,
                what,
            });
        }
    }

    /// The group has answered: what it granted or removed goes into the record.
    pub(super) fn record_answer(
        &mut self,
        packet_id: PacketId,
        reasons: &[ReasonCode],
        cx: &mut Context<'_>,
    ) {
        let Some(busy) = &mut self.busy else { return };
        let Some(at) = busy
            .asked
            .iter()
            .position(|asked| asked.packet_id == packet_id)
        else {
            return;
        };
        let mut what = busy.asked.remove(at).what;
        if let What::Subscribed { filters, .. } = &mut what {
            let mut reasons = reasons.iter();
            filters.retain(|_| reasons.next().is_some_and(|reason| !reason.is_error()));
        }
        self.record(what, cx);
    }

    pub(super) fn record_end(&self, end: End, expiry_s: u32, cx: &mut Context<'_>) {
        let how = match (end, end.tell()) {
            (End::ByClient { reason }, _) => EventKind::LeftWith(reason.as_u8()),
            (_, Some(reason)) => EventKind::ClosedFor(reason.as_u8()),
            (_, None) => EventKind::Lost,
        };
        self.record(What::Ended { expiry_s, how }, cx);
    }

    fn record(&self, what: What, cx: &mut Context<'_>) {
        if cx.rules.keeps_records {
            let client_id = self.client_id.clone();
            cx.frames.changes.push(RecordChange {
                client_id,
                epoch: self.epoch.0,
                what,
            });
        }
    }
}
