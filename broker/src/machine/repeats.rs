//! Answers to frames that were applied before and whose answers were lost with a link session.
//!
//! The answer is made from the state as it is now. Nothing changes, but for what a client is sent.

use super::effects::Effects;
use super::mailbox::Progress;
use super::session::Owner;
use super::state::State;
use cluster::frame::{
    Ack, AckKind, Claim, FilterOutcome, FromGroup, Join, Publish, Subscribe, ToGroup,
};
use cluster::ids::{Actor, Handle, LinkNo};
use protocol::{PacketId, ReasonCode};

impl State {
    /// A frame whose number of the link is not new: answers it, where it has an answer.
    ///
    /// Changes nothing that a replica must agree on.
    pub fn answer_again(&mut self, link: LinkNo, number: u64, frame: &ToGroup, out: &mut Effects) {
        self.counters.repeated += 1;
        match frame {
            ToGroup::Claim(claim) => self.claim_answer_again(link, claim, out),
            ToGroup::Publish(publish) => self.published_again(number, publish, out),
            ToGroup::Release { actor, packet_id } => {
                let (packet_id, reason) = (*packet_id, ReasonCode::Success);
                self.to_owner(*actor, out, |handle| FromGroup::Released {
                    handle,
                    packet_id,
                    reason,
                });
            }
            ToGroup::Ack(ack) if ack.kind == AckKind::Received => self.release_again(*ack, out),
            ToGroup::Subscribe(subscribe) => self.subscribed_again(subscribe, out),
            ToGroup::Unsubscribe(unsubscribe) => {
                let packet_id = unsubscribe.packet_id;
                let reasons = vec![ReasonCode::Success; unsubscribe.filters.len()].into();
                self.to_owner(unsubscribe.actor, out, |handle| FromGroup::Unsubscribed {
                    handle,
                    packet_id,
                    reasons,
                });
            }
            ToGroup::List { actor, group } => {
                let (group, rank) = (*group, self.rank_of(*actor, *group));
                self.to_owner(*actor, out, |handle| FromGroup::Listed {
                    handle,
                    group,
                    rank,
                });
            }
            ToGroup::Join(join) => self.joined_again(link, join, out),
            ToGroup::ListFilters(asked) => self.list_filters(link, asked, out),
            ToGroup::Errand(errand) => {
                out.send(link, FromGroup::ErrandDone(Box::new(errand.done())));
            }
            ToGroup::Ack(_)
            | ToGroup::Disconnect(_)
            | ToGroup::Kicked { .. }
            | ToGroup::ErrandDone(_)
            | ToGroup::Number { .. }
            | ToGroup::Resume(_) => {}
        }
    }

    /// Sends a frame to the connection that acts, if it still owns its session.
    fn to_owner(&self, actor: Actor, out: &mut Effects, frame: impl FnOnce(Handle) -> FromGroup) {
        let session = self.clients.get(actor.client);
        let owner = session
            .filter(|session| session.epoch == actor.epoch)
            .and_then(|session| session.owner.connection());
        if let Some((link, handle)) = owner {
            out.send(link, frame(handle));
        }
    }

    /// An attached owner has had its answer with the `Resume`, or live since; one that is not attached yet gets it
    /// with its `Attach`.
    fn claim_answer_again(&self, link: LinkNo, claim: &Claim, out: &mut Effects) {
        let handle = claim.handle;
        let session = self.clients.find(&claim.client_id);
        let session = session.and_then(|client| self.clients.get(client));
        match session.map(|session| session.owner) {
            Some(Owner::Claimed { .. } | Owner::Attached { .. })
                if session.and_then(|session| session.owner.connection())
                    == Some((link, handle)) => {}
            Some(_) => {
                let reason = ReasonCode::SessionTakenOver;
                out.send(link, FromGroup::Kick { handle, reason });
            }
            None => {
                let reason = ReasonCode::QuotaExceeded;
                out.send(link, FromGroup::ClaimRefused { handle, reason });
            }
        }
    }

    /// The `Joined` of a join that was the first comes with the `Resume`, but not that of one which raised a rank.
    /// The newest of a client's connections joins anew where it is not known.
    fn joined_again(&self, link: LinkNo, join: &Join, out: &mut Effects) {
        let handle = join.handle;
        let found = self.clients.find(&join.client_id);
        let session = found.and_then(|client| self.clients.get(client));
        let guest = session.and_then(|session| session.guest());
        let owner = session.and_then(|session| session.owner.connection());
        let is_its = guest.is_some_and(|guest| guest.home_epoch == join.epoch);
        if let Some(client) = found.filter(|_| is_its && owner == Some((link, handle))) {
            self.joined(client, link, handle, out);
        } else if session.is_none() || is_its && owner.is_none() {
            out.send(link, FromGroup::Rejoin { handle });
        } else {
            let reason = ReasonCode::SessionTakenOver;
            out.send(link, FromGroup::Kick { handle, reason });
        }
    }

    fn published_again(&self, number: u64, publish: &Publish, out: &mut Effects) {
        let Some(packet_id) = publish.packet_id else {
            return;
        };
        let qos = publish.qos;
        let session = self.clients.get(publish.actor.client);
        let owner = session.and_then(|session| session.owner.connection());
        let refused = owner.is_some_and(|(link, _)| self.producers.was_refused(link, number));
        let reason = if refused {
            ReasonCode::QuotaExceeded
        } else {
            ReasonCode::Success
        };
        self.to_owner(publish.actor, out, |handle| FromGroup::Published {
            handle,
            packet_id,
            qos,
            reason,
        });
    }

    fn release_again(&self, ack: Ack, out: &mut Effects) {
        let packet_id = ack.packet_id;
        let reason = if self.awaits_complete(ack.actor, packet_id) {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        self.to_owner(ack.actor, out, |handle| FromGroup::Release {
            handle,
            packet_id,
            reason,
        });
    }

    /// Whether PUBREC of the delivery is stored and PUBCOMP is not.
    fn awaits_complete(&self, actor: Actor, packet_id: PacketId) -> bool {
        let session = self.clients.get(actor.client);
        let mailbox = session.and_then(|session| session.mailbox.as_ref());
        mailbox.is_some_and(|mailbox| {
            let place = mailbox.place_of(packet_id);
            place.is_some_and(|place| {
                mailbox.entries[usize::from(place)].progress == Progress::Received
            })
        })
    }

    /// What the session holds was granted; what it does not hold was refused. What it held before is not known any
    /// more, so nothing is said to be new: then nothing is taken back that should have stayed.
    fn subscribed_again(&self, subscribe: &Subscribe, out: &mut Effects) {
        let session = self.clients.get(subscribe.actor.client);
        let granted = |text: &str| {
            let held = session?.filters.iter().find(|held| held.text == text)?;
            Some(ReasonCode::granted(held.options.qos))
        };
        let outcomes = subscribe
            .filters
            .iter()
            .map(|(filter, _)| FilterOutcome {
                reason: granted(filter.as_str()).unwrap_or(ReasonCode::QuotaExceeded),
                is_new: false,
            })
            .collect();
        let packet_id = subscribe.packet_id;
        self.to_owner(subscribe.actor, out, |handle| FromGroup::Subscribed {
            handle,
            packet_id,
            outcomes,
        });
    }
}
