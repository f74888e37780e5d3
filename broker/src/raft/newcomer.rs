//! Members that come into the group: how they answer, and what a leader makes sure of before anything is changed for them.

use super::carry::Snapshots;
use super::change::{ChangeError, leads, named};
use super::codec::{Malformed, Reader, put_text};
use super::config::{Membership, Node};
use super::journal::Journal;
use super::limits::CALL_AGAIN;
use super::network::{self, Peers};
use super::record::Identity;
use super::replica::Replica;
use super::status::Stage;
use super::wire::{Answer, Call, Request};
use cluster::topology::{HostPort, MEMBERS_MAX, NAME_BYTES_MAX, NodeName};
use std::collections::BTreeSet;

/// A member that says who it is, and whether it could come into the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Newcomer {
    pub(super) name: NodeName,
    /// The id that it takes part with; `None`: its folder is empty, and it takes no part.
    pub(super) id: Option<u64>,
    /// It takes part since somebody has invited it, and had nothing when it started.
    pub(super) invited: bool,
}

impl Newcomer {
    /// Appends it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.id.is_some()));
        out.extend_from_slice(&self.id.unwrap_or(0).to_le_bytes());
        out.push(u8::from(self.invited));
        put_text(self.name.as_str(), out);
    }

    /// Reads what was written.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let takes_part = reader.flag()?;
        let id = reader.u64()?;
        Ok(Self {
            id: takes_part.then_some(id),
            invited: reader.flag()?,
            name: reader.text(NAME_BYTES_MAX)?.parse().map_err(Malformed)?,
        })
    }
}

/// A member that has been asked to take part.
pub(super) enum Invited {
    /// It does so from now on, with this id.
    Now(u64),
    /// It did so before.
    Before(u64),
}

impl<J: Journal, P: Peers, S: Snapshots> Replica<J, P, S> {
    /// Who this member is, for the leader of a group that it may come into.
    pub(super) fn introduce(&self) -> Answer {
        let shared = &self.shared;
        let newcomer = |id, invited| {
            let name = shared.settings.name.clone();
            Answer::Newcomer(Newcomer { name, id, invited })
        };
        match self.running() {
            Some(running) => newcomer(Some(running.id), running.invited),
            None if shared.is_empty && shared.folder.get().is_some() => newcomer(None, false),
            None if shared.stage() == Stage::Starting => Answer::Wait,
            None => Answer::Absent,
        }
    }

    /// The group's leader wants this member, which has never taken part with this folder.
    pub(super) async fn accept_invitation(&self, name: &NodeName) -> Result<u64, Answer> {
        if *name != self.shared.settings.name {
            return Err(Answer::Absent);
        }
        let _deciding = self.shared.deciding.lock().await;
        if let (None, true, Some(folder)) = (
            self.running(),
            self.shared.is_empty,
            self.shared.folder.get(),
        ) {
            let identity = Identity {
                life: *folder,
                met: Vec::new(),
            };
            if let Err(error) = self.join(identity).await {
                self.shared.fail(&error);
            }
        }
        match self.running() {
            Some(running) if running.invited => Ok(running.id),
            Some(running) => Err(Answer::Member { id: running.id }),
            None if self.shared.stage() == Stage::Starting => Err(Answer::Wait),
            None => Err(Answer::Absent),
        }
    }

    /// Has the new member take part with an id of its own choice.
    pub(super) async fn invite(
        &self,
        node: &Node,
        name: &NodeName,
    ) -> Result<Invited, ChangeError> {
        let request = Request::Invite { name: name.clone() };
        match self.ask(node, request).await? {
            Answer::Invited { id } => Ok(Invited::Now(id)),
            Answer::Member { id } => Ok(Invited::Before(id)),
            _ => Err(ChangeError::InUse(name.clone())),
        }
    }

    /// Whether [`Change::Add`](super::Change::Add) would bring this member in, or, with `replaced`,
    /// [`Change::Replace`](super::Change::Replace), as far as can be known before. Changes nothing. Only for a leader.
    pub async fn check(
        &self,
        name: &NodeName,
        address: &HostPort,
        replaced: Option<&NodeName>,
    ) -> Result<(), ChangeError> {
        let running = self.running();
        let running = running.ok_or(ChangeError::NotLeader { leader: None })?;
        leads(&running.raft)?;
        let node = Node::at(name, address);
        let Answer::Newcomer(newcomer) = self.ask(&node, Request::Introduce).await? else {
            return Err(ChangeError::InUse(name.clone()));
        };
        if newcomer.name != *name {
            return Err(ChangeError::Another {
                name: name.clone(),
                address: address.clone(),
                found: newcomer.name,
            });
        }
        may_come(&leads(&running.raft)?, &newcomer, replaced)
    }

    /// Asks until it has read its folder.
    async fn ask(&self, node: &Node, request: Request) -> Result<Answer, ChangeError> {
        let call = Call { to: 0, request };
        loop {
            match network::call(self.peers(), node, &call).await {
                Ok(Answer::Wait) => tokio::time::sleep(CALL_AGAIN).await,
                Ok(answer) => return Ok(answer),
                Err(error) => return Err(ChangeError::Unreachable(error.to_string())),
            }
        }
    }
}

/// Whether both have a vote beside others, also when a change that is under way is done: then neither comes in the place of
/// the other. Between the two steps of a replacement one has it in the old form of the group and the other in the new one.
/// Both have one alone while the only member is replaced.
pub(super) fn both_vote(group: &Membership, name: &NodeName, old: &NodeName) -> bool {
    let last = group.get_joint_config().last();
    let votes = |name| named(group, name).any(|id| last.is_some_and(|last| last.contains(&id)));
    votes(name) && votes(old) && last.is_some_and(|last| last.len() > 2)
}

/// Whether a member may come into the group, in place of `replaced` if that is said. It may have come half way before.
fn may_come(
    group: &Membership,
    newcomer: &Newcomer,
    replaced: Option<&NodeName>,
) -> Result<(), ChangeError> {
    let name = &newcomer.name;
    let voters: BTreeSet<u64> = group.voter_ids().collect();
    let known: BTreeSet<u64> = named(group, name).collect();
    let is_there = newcomer.id.is_some_and(|id| known.contains(&id));
    let leaves = replaced.filter(|old| named(group, old).next().is_some());
    let has_vote = !known.is_disjoint(&voters);
    if let Some(old) = replaced.filter(|old| both_vote(group, name, old)) {
        return Err(ChangeError::BothVote {
            name: name.clone(),
            old: old.clone(),
        });
    }
    if has_vote && !is_there {
        return Err(ChangeError::Named(name.clone()));
    }
    if !has_vote && leaves.is_none() && voters.len() >= MEMBERS_MAX {
        return Err(ChangeError::Full);
    }
    if newcomer.id.is_some() && !is_there && !newcomer.invited {
        return Err(ChangeError::InUse(name.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn name(text: &str) -> NodeName {
        text.parse().expect("a name")
    }

    /// Members a, b, ... with the ids 1, 2, ..., of which the first so many vote.
    fn group(members: u64, voters: u64) -> Membership {
        let node = |id: u64| Node {
            name: char::from(b'a' - 1 + id as u8).to_string().into(),
            address: "host:1".into(),
        };
        let nodes: BTreeMap<_, _> = (1..=members).map(|id| (id, node(id))).collect();
        Membership::new(vec![(1..=voters).collect()], nodes)
    }

    fn come(
        group: &Membership,
        who: &str,
        id: Option<u64>,
        replaced: Option<&str>,
    ) -> Result<(), ChangeError> {
        let newcomer = Newcomer {
            name: name(who),
            id,
            invited: false,
        };
        may_come(group, &newcomer, replaced.map(name).as_ref())
    }

    #[test]
    fn one_with_an_empty_folder_may_come_and_others_not() {
        let three = group(3, 3);
        assert_eq!(come(&three, "d", None, None), Ok(()));
        assert_eq!(come(&three, "d", None, Some("a")), Ok(()));
        let used = Err(ChangeError::InUse(name("d")));
        assert_eq!(come(&three, "d", Some(9), None), used);
        assert_eq!(come(&three, "d", Some(9), Some("a")), used);
        let was_invited = Newcomer {
            name: name("d"),
            id: Some(9),
            invited: true,
        };
        assert_eq!(
            may_come(&three, &was_invited, None),
            Ok(()),
            "a cut-off try"
        );
        let five = group(5, 5);
        assert_eq!(come(&five, "f", None, None), Err(ChangeError::Full));
        assert_eq!(come(&five, "f", None, Some("a")), Ok(()));
    }

    #[test]
    fn what_was_begun_goes_on() {
        let learns = group(4, 3);
        assert_eq!(come(&learns, "d", Some(4), None), Ok(()));
        assert_eq!(come(&learns, "d", Some(4), Some("a")), Ok(()));
        let four = group(4, 4);
        let nodes = four.nodes().map(|(id, node)| (*id, node.clone()));
        let nodes: BTreeMap<_, _> = nodes.collect();
        let between = Membership::new(vec![[1, 2, 3].into(), [2, 3, 4].into()], nodes.clone());
        assert_eq!(come(&between, "d", Some(4), Some("a")), Ok(()));
        let learner_left = Membership::new(vec![[2, 3, 4].into()], nodes);
        assert_eq!(come(&learner_left, "d", Some(4), Some("a")), Ok(()));
        assert_eq!(come(&group(2, 2), "b", Some(2), Some("a")), Ok(()));
        let votes = group(4, 4);
        assert_eq!(come(&votes, "d", Some(4), None), Ok(()));
        assert_eq!(come(&votes, "d", Some(4), Some("gone")), Ok(()));
    }

    #[test]
    fn a_member_with_a_vote_takes_nobodys_place() {
        let three = group(3, 3);
        let both = Err(ChangeError::BothVote {
            name: name("b"),
            old: name("a"),
        });
        assert_eq!(come(&three, "b", Some(2), Some("a")), both);
        assert_eq!(come(&three, "b", None, Some("a")), both);
        // It has lost its data, and the other one has no vote: it is to be repaired.
        let named = Err(ChangeError::Named(name("b")));
        assert_eq!(come(&three, "b", None, Some("gone")), named);
        let lost = Err(ChangeError::Named(name("b")));
        assert_eq!(come(&three, "b", None, None), lost);
        assert_eq!(come(&three, "b", Some(9), None), lost);
    }
}
