//! The queues of shared subscriptions: one per (share prefix, share name, filter) of the group (MQTT5 4.8.2).
//!
//! A queue holds the messages that no member could take yet. A member that is attached and below its window gets
//! the head; which member, the strategy says, from logged state only. Handing over is in [`super::dispatch`].

use super::messages::{MessageKey, Messages};
use super::subscriptions::Options;
use super::table::Table;
use crate::limits::SHARED_BUCKETS;
use cluster::ids::ClientNo;
use protocol::{QoS, ShareKind};
use std::collections::{BTreeMap, VecDeque};

/// A session's subscription to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) client: ClientNo,
    pub(super) options: Options,
    /// 0 where there is none.
    pub(super) subscription_id: u32,
}

/// A message that waits for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) message: MessageKey,
    /// What hashing and ordered strategies go by: the publisher, or the publisher and the topic.
    pub(super) key: u64,
    /// RETAIN flag of the publish.
    pub(super) retain: bool,
}

/// One shared subscription.
#[derive(Debug)]
pub(super) struct Queue {
    /// The whole filter, with its prefix.
    pub(super) filter: Box<str>,
    pub(super) kind: ShareKind,
    /// Sorted by client.
    pub(super) members: Vec<Member>,
    /// Sorted by the messages' positions.
    pub(super) items: VecDeque<Item>,
    pub(super) bytes: u64,
    /// Who got the last item.
    pub(super) last: Option<ClientNo>,
    /// `$oshare`: who has which part of the publisher and topic space; empty until first used.
    pub(super) buckets: Vec<Option<ClientNo>>,
}

impl Queue {
    /// A queue without members.
    pub(super) fn new(filter: &str, kind: ShareKind) -> Self {
        Self {
            filter: filter.into(),
            kind,
            members: Vec::new(),
            items: VecDeque::new(),
            bytes: 0,
            last: None,
            buckets: Vec::new(),
        }
    }

    /// Whether a member takes more than QoS 0, so that messages wait for it.
    pub(super) fn stores(&self) -> bool {
        self.members
            .iter()
            .any(|member| member.options.qos() > QoS::AtMostOnce)
    }

    pub(super) fn member(&self, client: ClientNo) -> Option<&Member> {
        let at = self
            .members
            .binary_search_by_key(&client, |member| member.client)
            .ok()?;
        Some(&self.members[at])
    }

    /// Members in the order of their turns, beginning after `last`.
    pub(super) fn turns_after(&self, last: Option<ClientNo>) -> impl Iterator<Item = &Member> {
        let start = last.map_or(0, |last| self.members.partition_point(|m| m.client <= last));
        self.members[start..].iter().chain(&self.members[..start])
    }

    /// Puts an item back where its message's position says.
    pub(super) fn put_back(&mut self, item: Item, messages: &Messages) {
        let kept = messages.get(item.message);
        let place = self
            .items
            .partition_point(|other| messages.get(other.message).seq < kept.seq);
        self.bytes += kept.len();
        self.items.insert(place, item);
    }

    /// Takes the item at `place` out.
    pub(super) fn take(&mut self, place: usize, messages: &Messages) -> Option<Item> {
        let item = self.items.remove(place)?;
        self.bytes -= messages.get(item.message).len();
        Some(item)
    }

    /// The consumer that has this key's part of an ordered queue.
    pub(super) fn bucket_owner(&self, key: u64) -> Option<ClientNo> {
        *self.buckets.get(bucket_of(key))?
    }

    pub(super) fn set_bucket_owner(&mut self, key: u64, client: ClientNo) {
        if self.buckets.is_empty() {
            self.buckets = vec![None; SHARED_BUCKETS];
        }
        self.buckets[bucket_of(key)] = Some(client);
    }

    /// A member is gone or detached: its parts are free for others.
    pub(super) fn free_buckets(&mut self, client: ClientNo) {
        for owner in &mut self.buckets {
            if *owner == Some(client) {
                *owner = None;
            }
        }
    }
}

fn bucket_of(key: u64) -> usize {
    key as usize % SHARED_BUCKETS
}

/// All queues by number, and the numbers by filter.
#[derive(Debug, Default)]
pub(super) struct SharedQueues {
    pub(super) table: Table<Queue>,
    names: BTreeMap<Box<str>, u32>,
}

impl SharedQueues {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn get(&self, queue: u32) -> &Queue {
        self.table
            .get(queue)
            .expect("queue numbers are used while the queue lives")
    }

    pub(super) fn get_mut(&mut self, queue: u32) -> &mut Queue {
        self.table
            .get_mut(queue)
            .expect("queue numbers are used while the queue lives")
    }

    pub(super) fn find(&self, filter: &str) -> Option<u32> {
        self.names.get(filter).copied()
    }

    /// Makes the queue of a filter that has none.
    pub(super) fn create(&mut self, filter: &str, kind: ShareKind) -> u32 {
        let number = self.table.insert(Queue::new(filter, kind));
        self.names.insert(filter.into(), number);
        number
    }

    /// Takes out a queue without members.
    pub(super) fn remove(&mut self, number: u32) -> Queue {
        let queue = self.table.remove(number).expect("removed once");
        self.names.remove(&queue.filter);
        queue
    }

    /// Queues in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Queue)> {
        self.table.iter()
    }

    /// Names the queues of a table; `None` if two have the same filter.
    pub(super) fn of_table(table: Table<Queue>) -> Option<Self> {
        let mut names = BTreeMap::new();
        for (number, queue) in table.iter() {
            if names.insert(queue.filter.clone(), number).is_some() {
                return None;
            }
        }
        Some(Self { table, names })
    }
}

/// A number that is the same on every replica, platform and release: it decides which member gets a message.
pub(super) fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u32).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest()
}

/// The member with the highest rank for a key: the same as long as the members stay the same, and a member that
/// comes or goes moves only its own share of the keys.
pub(super) fn rendezvous(key: u64, members: impl Iterator<Item = ClientNo>) -> Option<ClientNo> {
    let rank = |client: &ClientNo| {
        (
            xxhash_rust::xxh3::xxh3_64_with_seed(&client.0.to_le_bytes(), key),
            client.0,
        )
    };
    members.max_by_key(rank)
}

/// Effective QoS: the lesser of publish and granted.
pub(super) fn effective(published: QoS, options: Options) -> QoS {
    published.min(options.qos())
}
