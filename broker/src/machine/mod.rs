//! The group machine.

pub mod retained;
mod subscriber_list;
pub mod subscriptions;
mod trie;
