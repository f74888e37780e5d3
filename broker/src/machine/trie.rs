//! The filters with wildcards, as a tree of levels.
//!
//! Nodes live in one table; the literal children of all nodes live in one hash table keyed by (parent,
//! level), so that a node with a million children costs the same as a million nodes with one. A topic
//! is matched with a list of open branches and no recursion, whatever its number of levels.
//!
//! Invariant: every node but the root has a subscriber at or below it.

use super::subscriber_list::SubscriberList;
use super::subscriptions::{Subscriber, SubscriberKey};
use compact_str::CompactString;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::{SmallVec, smallvec};
use std::hash::{BuildHasher, Hasher};
use std::ops::ControlFlow;

/// Stands for "no node" in [`Node::plus`]; the table never gets as long.
const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

#[derive(Debug)]
pub(super) struct Trie {
    nodes: Slab<Node>,
    /// Literal children, by (parent, level). Only looked up, never listed.
    edges: HashTable<u32>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Node {
    /// The level's text: `+` for the child that matches any level.
    level: CompactString,
    parent: u32,
    /// The child for `+`, or [`NONE`].
    plus: u32,
    /// How many literal children there are: none saves the look-up.
    literals: u32,
    /// Filters that end here.
    here: SubscriberList,
    /// Filters that end here with `/#`: they match this level too (MQTT5 4.7.1.2).
    below: SubscriberList,
}

// With its edge, what a wildcard filter whose last level before `#` is its own costs.
const _: () = assert!(size_of::<Node>() == 72);

impl Node {
    fn new(level: &str, parent: u32) -> Self {
        Self {
            level: CompactString::from(level),
            parent,
            plus: NONE,
            literals: 0,
            here: SubscriberList::Empty,
            below: SubscriberList::Empty,
        }
    }

    fn is_unused(&self) -> bool {
        self.plus == NONE && self.literals == 0 && self.here.is_empty() && self.below.is_empty()
    }
}

impl Default for Trie {
    fn default() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::new("", NONE));
        assert_eq!(root, ROOT as usize, "the root is the first node");
        Self {
            nodes,
            edges: HashTable::new(),
            hasher: RandomState::default(),
        }
    }
}

impl Trie {
    /// Whether there is no filter at all.
    pub(super) fn is_empty(&self) -> bool {
        self.node(ROOT).is_unused()
    }

    /// Nodes in use, without the root.
    #[cfg(test)]
    fn node_count(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Adds a subscriber to a filter; returns the one with the same key that it replaces.
    pub(super) fn insert(&mut self, filter: &str, subscriber: Subscriber) -> Option<Subscriber> {
        let mut node = ROOT;
        for level in filter.split('/') {
            if level == "#" {
                return self.node_mut(node).below.insert(subscriber);
            }
            node = match self.child(node, level.as_bytes()) {
                Some(child) => child,
                None => self.grow(node, level),
            };
        }
        self.node_mut(node).here.insert(subscriber)
    }

    /// Takes a subscriber out of a filter.
    pub(super) fn remove(&mut self, filter: &str, key: SubscriberKey) -> Option<Subscriber> {
        let (node, below) = self.find(filter)?;
        let held = self.node_mut(node);
        let removed = if below {
            held.below.remove(key)
        } else {
            held.here.remove(key)
        };
        self.prune(node);
        removed
    }

    /// The subscriber of a filter.
    pub(super) fn get(&self, filter: &str, key: SubscriberKey) -> Option<&Subscriber> {
        let (node, below) = self.find(filter)?;
        let node = self.node(node);
        if below {
            node.below.get(key)
        } else {
            node.here.get(key)
        }
    }

    /// Shows the list of every filter that matches `topic`, until `visit` breaks.
    ///
    /// The order depends on the topic and the filters only: at each node `#` first, then the filters
    /// that end there, then the literal level, then `+`.
    pub(super) fn try_for_each_list(
        &self,
        topic: &[u8],
        mut visit: impl FnMut(&SubscriberList) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        // A topic that begins with `$` is not matched by a leading wildcard (MQTT-4.7.2-1).
        let hidden = topic.first() == Some(&b'$');
        let mut open: SmallVec<[(u32, usize); 24]> = smallvec![(ROOT, 0)];
        while let Some((number, at)) = open.pop() {
            let node = self.node(number);
            let wildcards = number != ROOT || !hidden;
            if wildcards && !node.below.is_empty() {
                visit(&node.below)?;
            }
            // One beyond the end: the level before was the last. At the end: an empty last level.
            if at > topic.len() {
                if !node.here.is_empty() {
                    visit(&node.here)?;
                }
                continue;
            }
            let level = first_level(&topic[at..]);
            let next = at + level.len() + 1;
            if wildcards && node.plus != NONE {
                open.push((node.plus, next));
            }
            if node.literals > 0
                && let Some(child) = self.literal(number, level)
            {
                open.push((child, next));
            }
        }
        ControlFlow::Continue(())
    }

    fn node(&self, number: u32) -> &Node {
        &self.nodes[number as usize]
    }

    fn node_mut(&mut self, number: u32) -> &mut Node {
        &mut self.nodes[number as usize]
    }

    fn edge_hash(hasher: &RandomState, parent: u32, level: &[u8]) -> u64 {
        let mut state = hasher.build_hasher();
        state.write_u32(parent);
        state.write(level);
        state.finish()
    }

    fn literal(&self, parent: u32, level: &[u8]) -> Option<u32> {
        let hash = Self::edge_hash(&self.hasher, parent, level);
        let is_it = |&number: &u32| {
            let node = self.node(number);
            node.parent == parent && node.level.as_bytes() == level
        };
        self.edges.find(hash, is_it).copied()
    }

    /// The child for one level of a filter other than `#`.
    fn child(&self, parent: u32, level: &[u8]) -> Option<u32> {
        if level == b"+" {
            let plus = self.node(parent).plus;
            return (plus != NONE).then_some(plus);
        }
        self.literal(parent, level)
    }

    /// The node of a filter, and whether the filter ends with `#`.
    fn find(&self, filter: &str) -> Option<(u32, bool)> {
        let mut node = ROOT;
        for level in filter.split('/') {
            if level == "#" {
                return Some((node, true));
            }
            node = self.child(node, level.as_bytes())?;
        }
        Some((node, false))
    }

    /// Makes the child for one level of a filter other than `#`.
    fn grow(&mut self, parent: u32, level: &str) -> u32 {
        let number = self.nodes.insert(Node::new(level, parent)) as u32;
        assert!(number < NONE, "nodes are numbered in 32 bits");
        if level == "+" {
            self.node_mut(parent).plus = number;
            return number;
        }
        self.node_mut(parent).literals += 1;
        let hash = Self::edge_hash(&self.hasher, parent, level.as_bytes());
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.edges.insert_unique(hash, number, |&number| {
            let node = &nodes[number as usize];
            Self::edge_hash(hasher, node.parent, node.level.as_bytes())
        });
        number
    }

    /// Forgets nodes that nothing needs any more, from `number` towards the root.
    fn prune(&mut self, mut number: u32) {
        while number != ROOT && self.node(number).is_unused() {
            let node = self.nodes.remove(number as usize);
            let parent = self.node_mut(node.parent);
            if parent.plus == number {
                parent.plus = NONE;
            } else {
                parent.literals -= 1;
                let hash = Self::edge_hash(&self.hasher, node.parent, node.level.as_bytes());
                let edge = self.edges.find_entry(hash, |&held| held == number);
                edge.expect("a literal child has an edge").remove();
            }
            number = node.parent;
        }
    }
}

fn first_level(rest: &[u8]) -> &[u8] {
    let end = rest
        .iter()
        .position(|&byte| byte == b'/')
        .unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::super::subscriptions::Options;
    use super::*;
    use cluster::ids::ClientNo;

    fn subscriber(client: u32) -> Subscriber {
        let options = Options::default();
        Subscriber::Client {
            client: ClientNo(client),
            options,
            subscription_id: 0,
        }
    }

    fn lists(trie: &Trie, topic: &str) -> usize {
        let mut count = 0;
        let flow = trie.try_for_each_list(topic.as_bytes(), |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        count
    }

    #[test]
    fn forgets_the_nodes_of_removed_filters() {
        let mut trie = Trie::default();
        let filters = [
            "a/+/c/#", "a/+/c", "+/+", "#", "a/b/#", "+", "a//+", "/+/", "$SYS/#",
        ];
        for filter in filters {
            assert_eq!(trie.insert(filter, subscriber(1)), None);
            assert_eq!(trie.insert(filter, subscriber(2)), None);
        }
        for filter in filters {
            assert!(
                trie.remove(filter, subscriber(1).key()).is_some(),
                "{filter}"
            );
            assert!(
                trie.remove(filter, subscriber(1).key()).is_none(),
                "{filter}"
            );
        }
        assert!(!trie.is_empty());
        for filter in filters {
            assert!(
                trie.remove(filter, subscriber(2).key()).is_some(),
                "{filter}"
            );
        }
        assert!(trie.is_empty());
        assert_eq!((trie.node_count(), trie.edges.len()), (0, 0));
    }

    #[test]
    fn a_look_up_of_an_absent_filter_leaves_no_node() {
        let mut trie = Trie::default();
        trie.insert("a/+", subscriber(1));
        assert!(trie.remove("a/+/c/d", subscriber(1).key()).is_none());
        assert!(trie.remove("a/#", subscriber(1).key()).is_none());
        assert!(trie.remove("a/+", subscriber(2).key()).is_none());
        assert_eq!(trie.node_count(), 2);
        assert_eq!(lists(&trie, "a/x"), 1);
    }

    /// A hostile topic has as many levels as bytes; the walk must not use the call stack for them.
    #[test]
    fn ten_thousand_levels_are_walked_without_recursion() {
        let mut trie = Trie::default();
        let deep = "+/".repeat(10_000) + "#";
        trie.insert(&deep, subscriber(1));
        assert_eq!(lists(&trie, &"/".repeat(9_998)), 0);
        assert_eq!(lists(&trie, &"/".repeat(9_999)), 1);
        assert!(trie.remove(&deep, subscriber(1).key()).is_some());
        assert_eq!(trie.node_count(), 0);
    }
}
