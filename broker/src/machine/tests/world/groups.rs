//! What a world has to do with other groups.

use super::{Client, LINK, NOWHERE, World, message};
use crate::command::Command;
use cluster::frame::{Claim, Claimed, FromGroup, Join, Publish};
use cluster::ids::{Actor, ClientNo, Epoch, Handle, LinkNo, Rank};
use cluster::slots::GroupNo;
use protocol::QoS;

/// This group, and another one.
pub(in crate::machine::tests) const HERE: GroupNo = GroupNo(0);
pub(in crate::machine::tests) const HOME: GroupNo = GroupNo(7);

impl World {
    /// CONNECT, and all that its answer says.
    pub(in crate::machine::tests) fn connect_fully(&mut self, claim: Claim) -> (Client, Claimed) {
        let handle = self.claim(LINK, claim);
        for (actor, _) in std::mem::take(&mut self.kicks) {
            self.enter(vec![Command::Attach {
                actor: Some(actor),
                if_free: false,
            }]);
        }
        let frames = self.frames.get(&(LINK, handle));
        let mut frames = frames.into_iter().flatten();
        let claimed = frames.find_map(|frame| match frame {
            FromGroup::Claimed(claimed) => Some((**claimed).clone()),
            _ => None,
        });
        let client = self.claimed(LINK, handle).expect("the claim is answered");
        (client, claimed.expect("the claim is answered"))
    }

    /// A connection of another home comes here; `epochs` are its own and that of its session's start.
    pub(in crate::machine::tests) fn join(
        &mut self,
        link: LinkNo,
        client_id: &str,
        epochs: (u64, u64),
        rank: Option<u8>,
    ) -> Option<Client> {
        self.handles += 1;
        let handle = Handle {
            index: self.handles % 7,
            generation: self.handles,
        };
        self.join_as(link, handle, client_id, epochs, rank)
    }

    pub(in crate::machine::tests) fn join_as(
        &mut self,
        link: LinkNo,
        handle: Handle,
        client_id: &str,
        (epoch, start_epoch): (u64, u64),
        rank: Option<u8>,
    ) -> Option<Client> {
        let join = Join {
            handle,
            client_id: client_id.into(),
            epoch: Epoch(epoch),
            start_epoch: Epoch(start_epoch),
            rank: rank.map(Rank),
        };
        self.from(link, Command::Join(Box::new(join)));
        let frames = self.frames.get_mut(&(link, handle))?;
        let at = frames
            .iter()
            .position(|frame| matches!(frame, FromGroup::Joined(_)))?;
        let FromGroup::Joined(joined) = frames.remove(at) else {
            return None;
        };
        let actor = Actor {
            client: joined.client,
            epoch: joined.epoch,
        };
        Some(Client {
            actor,
            handle,
            link,
            session_present: false,
        })
    }

    /// The home of a guest says that a session is over. Whether a guest ended.
    pub(in crate::machine::tests) fn end(&mut self, client_id: &str, start_epoch: u64) -> bool {
        let guests = self.state.counters().guests;
        let end = Command::End {
            from: HOME,
            to: HERE,
            client_id: client_id.into(),
            start_epoch: Epoch(start_epoch),
        };
        self.from(LINK, end);
        self.state.counters().guests < guests
    }

    /// A will of a client of another home.
    pub(in crate::machine::tests) fn foreign_will(&mut self, topic: &str, epoch: u64) {
        let actor = Actor {
            client: ClientNo(u32::MAX),
            epoch: Epoch(epoch),
        };
        let publish = Publish {
            actor,
            packet_id: None,
            qos: QoS::AtLeastOnce,
            retain: false,
            message: message(topic, "will"),
        };
        let at = NOWHERE;
        let will = Command::ForeignWill {
            from: HOME,
            to: HERE,
            publish,
            at,
        };
        self.from(LINK, will);
    }

    /// The first errand is done.
    pub(in crate::machine::tests) fn errand_done(&mut self) {
        let Some(key) = self.state.next_errand(None) else {
            return;
        };
        let errand = self.state.errand(HERE, &key, |_| HOME);
        let done = errand.expect("for another group").done();
        self.from(LINK, Command::ErrandDone(Box::new(done)));
    }

    /// Asks for a group's rank.
    pub(in crate::machine::tests) fn list(&mut self, client: &Client, group: u8) -> Option<Rank> {
        let (actor, group) = (client.actor, GroupNo(group));
        self.from(client.link, Command::List { actor, group });
        let answer = self.take(client, |frame| matches!(frame, FromGroup::Listed { .. }));
        let [FromGroup::Listed { rank, .. }] = answer.as_slice() else {
            panic!("one answer, not {answer:?}");
        };
        *rank
    }
}
