//! What a session tells of itself to the session store. Nothing, where nobody keeps records.

use super::{Context, End, Rules, Session};
use crate::records::{Connected, FilterQuestion, Held, Listed, RecordChange, Said, What};
use cluster::filters::FilterDigest;
use cluster::frame::{Filters, ListFilters, Subscribe, ToGroup, Unsubscribe};
use cluster::slots::GroupNo;
use protocol::{PacketId, ReasonCode};
use session_store::EventKind;

/// A SUBSCRIBE or UNSUBSCRIBE that waits for the group. Bounded like all requests.
#[derive(Debug)]
pub(super) struct Asked {
    packet_id: PacketId,
    what: What,
}

impl Session {
    /// `said`: what the groups hold of a session that is resumed, as far as they have said so; the home has.
    pub(super) fn record_connected(
        &mut self,
        connected: Option<Connected>,
        mut said: Vec<(GroupNo, Said)>,
        cx: &mut Context<'_>,
    ) {
        let Some(mut connected) = connected else {
            return;
        };
        if !said.is_empty() {
            let late = self.places.iter_mut().flat_map(|places| places.late());
            for place in late {
                place.tell_when_joined();
                said.retain(|(group, _)| *group != place.group);
                said.push((place.group, Said::Nothing));
            }
            connected.resumed = Some(Box::new(self.held(said)));
        }
        self.record(What::Connected(Box::new(connected)), cx);
    }

    /// A group has let the connection in after CONNACK, and not for a packet of the client: what it says of the session
    /// has not been looked at.
    pub(super) fn record_late_join(
        &self,
        from: GroupNo,
        digest: FilterDigest,
        cx: &mut Context<'_>,
    ) {
        let places = self.places.iter().flat_map(|places| places.iter());
        let said = places.map(|place| {
            let said = match place.actor() {
                _ if place.group == from => Said::Digest(digest),
                Some(_) => Said::Before,
                None => Said::Nothing,
            };
            (place.group, said)
        });
        let all = [(self.home, Said::Before)].into_iter().chain(said);
        self.record(What::Held(Box::new(self.held(all.collect()))), cx);
    }

    fn held(&self, groups: Vec<(GroupNo, Said)>) -> Held {
        Held {
            handle: self.handle,
            groups: groups.into(),
        }
    }

    /// Asks a group which filters it holds of the session, for its record.
    pub fn ask_for_filters(&mut self, asked: FilterQuestion, cx: &mut Context<'_>) {
        if !self.is_connected() || !cx.frames.knows(asked.group) {
            return;
        }
        let bytes = asked.after.as_ref().map_or(0, |after| after.as_str().len());
        let frame = ListFilters {
            actor: self.actor(),
            number: asked.number,
            after: asked.after,
        };
        self.act(
            asked.group,
            ToGroup::ListFilters(Box::new(frame)),
            bytes,
            cx,
        );
    }

    /// A group's answer to that.
    pub(super) fn record_page(&self, page: Filters, cx: &mut Context<'_>) {
        let Filters {
            number,
            filters,
            more,
            ..
        } = page;
        let listed = Listed {
            number,
            filters,
            more,
        };
        self.record(What::Listed(Box::new(listed)), cx);
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
