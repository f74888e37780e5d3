//! What a producer's new link session finds of its connections.

use super::effects::Effects;
use super::state::State;
use crate::command::Producer;
use cluster::frame::{FromGroup, Reattach};
use cluster::ids::{Actor, ClientNo, Handle, LinkNo};
use protocol::ReasonCode;

/// Whether the fleet has other groups, so that a connection may have its home at one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherGroups {
    /// None.
    None,
    /// Some.
    Some,
}

impl State {
    /// A connection goes on over a new link session: it gets what it has not had. One that owns nothing any more is
    /// to be closed.
    ///
    /// Changes nothing that a replica must agree on.
    pub fn resume(
        &mut self,
        link: LinkNo,
        reattach: &Reattach,
        others: OtherGroups,
        out: &mut Effects,
    ) {
        let Reattach {
            actor,
            handle,
            last,
        } = *reattach;
        let session = self.clients.get(actor.client);
        let is_its = session.is_some_and(|session| session.epoch == actor.epoch);
        let is_attached =
            session.and_then(super::session::Session::attached) == Some((link, handle));
        if is_its && is_attached {
            self.send_missed(actor.client, last, out);
        } else if others == OtherGroups::Some
            && session.is_none_or(|session| is_its && session.guest().is_some())
        {
            // The link was away for so long that the group has let the guest go.
            out.send(link, FromGroup::Rejoin { handle });
        } else {
            let reason = ReasonCode::SessionTakenOver;
            out.send(link, FromGroup::Kick { handle, reason });
        }
    }

    /// A connection of a link that is attached, and that a new session of the link did not list: whether it has had
    /// its `Claimed` or `Joined` is not known, so it comes again, and the window with it. Where the connection is over by now,
    /// its proxy says so. One that owns nothing any more is to be closed.
    ///
    /// Changes nothing that a replica must agree on.
    pub fn claimed_again(&mut self, link: LinkNo, handle: Handle, actor: Actor, out: &mut Effects) {
        let owns = self.clients.get(actor.client).is_some_and(|session| {
            session.epoch == actor.epoch && session.attached() == Some((link, handle))
        });
        if !owns {
            let reason = ReasonCode::SessionTakenOver;
            out.send(link, FromGroup::Kick { handle, reason });
        } else if self.is_guest(actor.client) {
            self.joined(actor.client, link, handle, out);
            self.send_again(actor.client, out);
        } else {
            self.answer_claim(actor, link, handle, out);
        }
    }

    fn is_guest(&self, client: ClientNo) -> bool {
        let session = self.clients.get(client);
        session.is_some_and(|session| session.guest().is_some())
    }

    /// The attached connections of a link, in the order of the clients' numbers.
    pub fn attached_on(&self, link: LinkNo) -> impl Iterator<Item = (Actor, Handle)> + '_ {
        self.clients.iter().filter_map(move |(client, session)| {
            let (at, handle) = session.attached()?;
            let epoch = session.epoch;
            (at == link).then_some((Actor { client, epoch }, handle))
        })
    }

    /// Producers with a link, in the order of its numbers.
    pub fn links(&self) -> impl Iterator<Item = (LinkNo, Producer)> + '_ {
        let links = self.producers.links.iter().enumerate();
        links.filter_map(|(n, linked)| Some((LinkNo(n as u16), linked.as_ref()?.producer)))
    }

    /// Number of the last applied command of a link; 0 if nobody has it.
    pub fn high_water_of_link(&self, link: LinkNo) -> u64 {
        let linked = self.producers.linked(link);
        linked.map_or(0, |linked| linked.progress.high_water)
    }

    /// Number of the last applied command of a producer; 0 if it is not known.
    pub fn high_water(&self, producer: &Producer) -> u64 {
        self.producers.high_water(producer)
    }

    /// Whether a producer has the link, as far as entries have been applied.
    pub fn is_linked(&self, link: LinkNo) -> bool {
        self.producers.linked(link).is_some()
    }

    /// How often the group's leader has started.
    pub fn reign(&self) -> u32 {
        self.reign
    }
}
