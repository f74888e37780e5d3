//! Topic aliases of one connection, in both directions (MQTT5 3.3.2.3.4). They die with it.

use hashbrown::HashMap;
use protocol::TopicName;
use std::num::NonZeroU16;

/// What the client named. Grows with the highest alias it used.
#[derive(Debug, Default)]
pub(crate) struct AliasesIn {
    topics: Vec<Option<TopicName>>,
}

impl AliasesIn {
    /// The client gives `alias` a topic, new or another. The caller has checked the maximum.
    pub(crate) fn set(&mut self, alias: NonZeroU16, topic: TopicName) {
        let index = usize::from(alias.get()) - 1;
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        self.topics[index] = Some(topic);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The topic behind `alias`.
    pub(crate) fn get(&self, alias: NonZeroU16) -> Option<&TopicName> {
        self.topics.get(usize::from(alias.get()) - 1)?.as_ref()
    }
}

/// What the server named: the first topics sent on the connection get the aliases and keep them.
#[derive(Debug, Default)]
pub(crate) struct AliasesOut {
    by_topic: HashMap<Box<[u8]>, NonZeroU16, foldhash::fast::RandomState>,
}

/// The alias to send a topic with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AliasOut {
    /// The client knows it: the topic stays away.
    Known(NonZeroU16),
    /// Free: goes along with the topic, and is noted once the packet is written.
    New(NonZeroU16),
    /// All are taken.
    None,
}

impl AliasesOut {
    pub(crate) fn find(&self, topic: &[u8], maximum: u16) -> AliasOut {
        if let Some(&alias) = self.by_topic.get(topic) {
            return AliasOut::Known(alias);
        }
        let next = self.by_topic.len() as u16 + 1;
        match NonZeroU16::new(next) {
            Some(alias) if next <= maximum => AliasOut::New(alias),
            _ => AliasOut::None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    pub(crate) fn note(&mut self, topic: &[u8], alias: NonZeroU16) {
        self.by_topic.insert(topic.into(), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).expect("not zero")
    }

    #[test]
    fn incoming_aliases_can_be_renamed() {
        let mut aliases = AliasesIn::default();
        assert!(aliases.get(alias(3)).is_none());
        aliases.set(alias(3), TopicName::new("a").expect("valid"));
        aliases.set(alias(3), TopicName::new("b").expect("valid"));
        assert_eq!(aliases.get(alias(3)).expect("set").as_str(), "b");
        assert!(aliases.get(alias(2)).is_none());
    }

    #[test]
    fn the_first_topics_get_the_outgoing_aliases() {
        let mut aliases = AliasesOut::default();
        assert_eq!(aliases.find(b"a", 0), AliasOut::None);
        assert_eq!(aliases.find(b"a", 1), AliasOut::New(alias(1)));
        aliases.note(b"a", alias(1));
        assert_eq!(aliases.find(b"a", 1), AliasOut::Known(alias(1)));
        assert_eq!(aliases.find(b"b", 1), AliasOut::None);
    }
}
