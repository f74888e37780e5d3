//! The bytes of what the members' log, snapshots and calls have in common: ids of entries, votes and memberships.
//!
//! Integers are little endian and of fixed width. What is read may come from a stranger: nothing panics, and no more
//! memory is taken than there are bytes.

use super::config::{LogId, Membership, Node, StoredMembership, Vote};
use super::limits::ADDRESS_BYTES_MAX;
use cluster::topology::NodeName;
use openraft::{CommittedLeaderId, LeaderId};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// Bytes that are not what they should be; says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct Malformed(pub &'static str);

/// Takes pieces off the front of bytes.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("complete"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("complete"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag")),
        }
    }

    pub(super) fn text(&mut self, bytes_max: usize) -> Result<&'a str, Malformed> {
        let len = usize::from(self.u16()?);
        if len > bytes_max {
            return Err(Malformed("a text as short as it has to be"));
        }
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed("a text"))
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("at its end"))
        }
    }
}

pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The id of an entry in openraft's counting.
pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 0), index)
}

pub(super) fn put_log_id(id: Option<LogId>, out: &mut Vec<u8>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        out.extend_from_slice(&id.leader_id.term.to_le_bytes());
        out.extend_from_slice(&id.index.to_le_bytes());
    }
}

pub(super) fn read_log_id(reader: &mut Reader<'_>) -> Result<Option<LogId>, Malformed> {
    if !reader.flag()? {
        return Ok(None);
    }
    let (term, index) = (reader.u64()?, reader.u64()?);
    if index == u64::MAX {
        return Err(Malformed("an index"));
    }
    Ok(Some(log_id(term, index)))
}

pub(super) fn put_vote(vote: &Vote, out: &mut Vec<u8>) {
    out.extend_from_slice(&vote.leader_id.term.to_le_bytes());
    // 0 is nobody's id.
    let voted_for = vote.leader_id.voted_for.unwrap_or_default();
    out.extend_from_slice(&voted_for.to_le_bytes());
    out.push(u8::from(vote.committed));
}

pub(super) fn read_vote(reader: &mut Reader<'_>) -> Result<Vote, Malformed> {
    let (term, voted_for) = (reader.u64()?, reader.u64()?);
    let voted_for = (voted_for != 0).then_some(voted_for);
    let committed = reader.flag()?;
    if committed && voted_for.is_none() {
        return Err(Malformed("a vote"));
    }
    let leader_id = LeaderId { term, voted_for };
    Ok(Vote {
        leader_id,
        committed,
    })
}

pub(super) fn put_membership(membership: &Membership, out: &mut Vec<u8>) {
    let configs = membership.get_joint_config();
    out.push(configs.len() as u8);
    for config in configs {
        out.push(config.len() as u8);
        for id in config {
            out.extend_from_slice(&id.to_le_bytes());
        }
    }
    out.push(membership.nodes().count() as u8);
    for (id, node) in membership.nodes() {
        out.extend_from_slice(&id.to_le_bytes());
        put_text(&node.name, out);
        put_text(&node.address, out);
    }
}

pub(super) fn read_membership(reader: &mut Reader<'_>) -> Result<Membership, Malformed> {
    let mut configs = Vec::new();
    for _ in 0..reader.u8()? {
        let mut config = BTreeSet::new();
        for _ in 0..reader.u8()? {
            config.insert(reader.u64()?);
        }
        configs.push(config);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..reader.u8()? {
        let id = reader.u64()?;
        nodes.insert(id, read_node(reader)?);
    }
    if configs.iter().flatten().any(|id| !nodes.contains_key(id)) {
        return Err(Malformed("a membership whose voters are all named"));
    }
    Ok(Membership::new(configs, nodes))
}

pub(super) fn read_node(reader: &mut Reader<'_>) -> Result<Node, Malformed> {
    let name = reader.text(cluster::topology::NAME_BYTES_MAX)?;
    NodeName::from_str(name).map_err(Malformed)?;
    let address = reader.text(ADDRESS_BYTES_MAX)?;
    Ok(Node {
        name: name.into(),
        address: address.into(),
    })
}

/// A membership with the id of its entry: what stands in snapshots and what the group keeps for them.
pub(super) fn stored_membership_bytes(stored: &StoredMembership) -> Vec<u8> {
    let mut out = Vec::new();
    put_log_id(*stored.log_id(), &mut out);
    put_membership(stored.membership(), &mut out);
    out
}

/// Reads what [`stored_membership_bytes`] wrote; no bytes are no membership.
pub(super) fn read_stored_membership(bytes: &[u8]) -> Result<StoredMembership, Malformed> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let mut reader = Reader(bytes);
    let id = read_log_id(&mut reader)?;
    let membership = read_membership(&mut reader)?;
    reader.end()?;
    Ok(StoredMembership::new(id, membership))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    pub(in crate::raft) fn vote() -> impl Strategy<Value = Vote> {
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(term, node, committed)| {
            let voted_for = (node != 0).then_some(node);
            Vote {
                leader_id: LeaderId { term, voted_for },
                committed: committed && voted_for.is_some(),
            }
        })
    }

    pub(in crate::raft) fn membership() -> impl Strategy<Value = Membership> {
        let node =
            ("[a-z0-9][a-z0-9._-]{0,20}", "[a-z0-9.:]{0,30}").prop_map(|(name, address)| Node {
                name: name.into(),
                address: address.into(),
            });
        btree_map(1..u64::MAX, node, 0..6)
            .prop_flat_map(|nodes| {
                let ids: Vec<u64> = nodes.keys().copied().collect();
                let len = ids.len();
                let config = prop::sample::subsequence(ids, 0..=len);
                (Just(nodes), vec(config, 0..3))
            })
            .prop_map(|(nodes, configs)| {
                let configs = configs.into_iter().map(|ids| ids.into_iter().collect());
                Membership::new(configs.collect(), nodes)
            })
    }

    proptest! {
        #[test]
        fn a_membership_reads_back(membership in membership(), id in any::<Option<(u64, u32)>>()) {
            let id = id.map(|(term, index)| log_id(term, u64::from(index)));
            let stored = StoredMembership::new(id, membership);
            let bytes = stored_membership_bytes(&stored);
            prop_assert_eq!(read_stored_membership(&bytes), Ok(stored));
            for cut in 1..bytes.len() {
                prop_assert!(read_stored_membership(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn a_vote_reads_back(vote in vote()) {
            let mut bytes = Vec::new();
            put_vote(&vote, &mut bytes);
            prop_assert_eq!(read_vote(&mut Reader(&bytes)), Ok(vote));
        }

        #[test]
        fn strange_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..200)) {
            let read = read_stored_membership(&bytes);
            if let Ok(stored) = read && !bytes.is_empty() {
                prop_assert!(stored.membership().nodes().count() < 256);
            }
            let _vote = read_vote(&mut Reader(&bytes));
        }
    }
}
