//! From topics, filters and client ids to slots.
//!
//! The shard key of a topic is its first levels, as the rules say. Topics with one key share a group,
//! so a filter below a key needs that group only.
//!
//! Invariant: whatever topic a filter matches, the filter is registered at the topic's group. So the
//! overlapping filters of a client always meet in one group.

use crate::slots::{Slot, slot_of};
use protocol::{TopicFilter, filter_matches};
use thiserror::Error;

/// Levels of a shard key unless the configuration says otherwise: `devices/42` of `devices/42/cmd`.
pub const KEY_LEVELS_DEFAULT: u8 = 2;

/// The most levels a shard key may have.
pub const KEY_LEVELS_MAX: u8 = 32;

/// The most overriding rules: each is tried for each publish.
pub const KEY_RULES_MAX: usize = 64;

/// How shard keys are cut. Never changes under a running fleet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardKeyRules {
    key_levels: u8,
    overrides: Vec<KeyRule>,
}

/// One overriding rule: topics that `filter` matches have keys of `levels` levels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRule {
    /// Compared with the whole inner topic.
    pub filter: TopicFilter,
    /// Levels of the key, 1 to [`KEY_LEVELS_MAX`].
    pub levels: u8,
}

/// Why rules cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum KeyRuleError {
    /// A number of levels is out of range.
    #[error("a shard key of {0} levels is not possible: give 1 to {KEY_LEVELS_MAX}")]
    Levels(u8),
    /// A rule's filter names a shared subscription or the like.
    #[error("{0:?} can never apply: keys are cut from the inner topic, so give a filter for that")]
    Wrapped(String),
    /// There are too many rules.
    #[error("{0} routing rules are too many: give at most {KEY_RULES_MAX}")]
    TooMany(usize),
}

/// Where a filter has to be registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterPlacement {
    /// At the group of this slot: every topic it can match has this slot.
    OneSlot(Slot),
    /// At every group: it can match topics with different keys.
    EveryGroup,
}

impl Default for ShardKeyRules {
    fn default() -> Self {
        Self {
            key_levels: KEY_LEVELS_DEFAULT,
            overrides: Vec::new(),
        }
    }
}

impl ShardKeyRules {
    /// Rules: `key_levels`, unless an override matches; of those the first counts.
    pub fn new(key_levels: u8, overrides: Vec<KeyRule>) -> Result<Self, KeyRuleError> {
        if overrides.len() > KEY_RULES_MAX {
            return Err(KeyRuleError::TooMany(overrides.len()));
        }
        check_levels(key_levels)?;
        for rule in &overrides {
            check_levels(rule.levels)?;
            let filter = rule.filter.as_str();
            if is_wrapper(first_level(filter)) {
                return Err(KeyRuleError::Wrapped(filter.into()));
            }
        }
        Ok(Self {
            key_levels,
            overrides,
        })
    }

    /// Levels of a key unless an override matches.
    pub fn key_levels(&self) -> u8 {
        self.key_levels
    }

    /// The overriding rules, in their order.
    pub fn overrides(&self) -> &[KeyRule] {
        &self.overrides
    }

    /// The shard key of a topic: its first levels, empty ones too; all of it when it has fewer.
    pub fn shard_key<'a>(&self, topic: &'a str) -> &'a str {
        let topic = inner(topic);
        let rule = self
            .overrides
            .iter()
            .find(|rule| filter_matches(rule.filter.as_str(), topic));
        prefix(topic, rule.map_or(self.key_levels, |rule| rule.levels))
    }

    /// The slot of a topic.
    #[inline]
    pub fn slot_of_topic(&self, topic: &str) -> Slot {
        slot_of(self.shard_key(topic).as_bytes())
    }

    /// Where a filter has to be registered: a shared one by its inner filter.
    pub fn filter_placement(&self, filter: &TopicFilter) -> FilterPlacement {
        match self.common_key(inner(filter.as_str())) {
            Some(key) => FilterPlacement::OneSlot(slot_of(key.as_bytes())),
            None => FilterPlacement::EveryGroup,
        }
    }

    /// The key that every topic has which `filter` can match, if there is one.
    fn common_key<'a>(&self, filter: &'a str) -> Option<&'a str> {
        if !filter.contains(['+', '#']) {
            return Some(self.shard_key(filter));
        }
        // The topics of `$delayed/#` are keyed by what they wrap, which may be anything.
        if is_wrapper(first_level(filter)) {
            return None;
        }
        let mut common = None;
        for rule in &self.overrides {
            if !overlap(rule.filter.as_str(), filter) {
                continue;
            }
            let key = fixed_prefix(filter, rule.levels)?;
            if *common.get_or_insert(key) != key {
                return None;
            }
            if covers(rule.filter.as_str(), filter) {
                // No topic of the filter gets to a later rule.
                return common;
            }
        }
        let key = fixed_prefix(filter, self.key_levels)?;
        (*common.get_or_insert(key) == key).then_some(key)
    }
}

/// What a session's home is chosen by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum HomeKey {
    /// The whole client id, whatever the rules for topics.
    #[default]
    ClientId,
    /// A template for a topic, in which `%c` stands for the client id, such as `devices/%c`: the home
    /// is where that topic is.
    Topic(HomeTemplate),
}

/// A valid home template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HomeTemplate(String);

/// Why a home template cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HomeTemplateError {
    /// The client id does not occur in it.
    #[error("the home key has no %c: without it all sessions would have one home")]
    NoClientId,
    /// It is not a topic.
    #[error("the home key has a wildcard: give a topic, with %c for the client id")]
    Wildcard,
}

impl HomeTemplate {
    /// Checks a template.
    pub fn new(template: impl Into<String>) -> Result<Self, HomeTemplateError> {
        let template = template.into();
        if template.contains(['+', '#']) {
            return Err(HomeTemplateError::Wildcard);
        }
        if !template.contains("%c") {
            return Err(HomeTemplateError::NoClientId);
        }
        Ok(Self(template))
    }

    /// The template, with its `%c`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The slot whose group is the home of a client's session.
pub fn home_slot(client_id: &str, home_key: &HomeKey, rules: &ShardKeyRules) -> Slot {
    match home_key {
        HomeKey::ClientId => slot_of(client_id.as_bytes()),
        HomeKey::Topic(HomeTemplate(template)) => {
            rules.slot_of_topic(&template.replace("%c", client_id))
        }
    }
}

fn check_levels(levels: u8) -> Result<(), KeyRuleError> {
    let valid = (1..=KEY_LEVELS_MAX).contains(&levels);
    if valid {
        Ok(())
    } else {
        Err(KeyRuleError::Levels(levels))
    }
}

fn first_level(text: &str) -> &str {
    text.split_once('/').map_or(text, |(first, _)| first)
}

/// How many levels stand before the inner topic or filter: `$share/name/`, `$queue/` and so on.
fn wrapper_levels(first: &str) -> Option<usize> {
    match first {
        "$queue" | "$exclusive" => Some(1),
        "$share" | "$oshare" | "$delayed" => Some(2),
        _ => None,
    }
}

fn is_wrapper(first: &str) -> bool {
    wrapper_levels(first).is_some()
}

/// The topic or filter that is wrapped, however often. What has no level inside is itself.
fn inner(mut text: &str) -> &str {
    while text.starts_with('$')
        && let Some(levels) = wrapper_levels(first_level(text))
        && let Some(rest) = text.splitn(levels + 1, '/').nth(levels)
    {
        text = rest;
    }
    text
}

/// The first levels, or all when there are fewer.
fn prefix(text: &str, levels: u8) -> &str {
    let end = text.match_indices('/').nth(usize::from(levels) - 1);
    end.map_or(text, |(end, _)| &text[..end])
}

/// The first levels of every topic that a filter with wildcards can match: `None` when they differ, in
/// text or, as with `a/#` and two levels, in number.
fn fixed_prefix(filter: &str, levels: u8) -> Option<&str> {
    let fixed = filter
        .split('/')
        .take_while(|level| !matches!(*level, "+" | "#"))
        .count();
    (fixed >= usize::from(levels)).then(|| prefix(filter, levels))
}

/// Whether a leading wildcard stands before a leading `$`, which it does not match (MQTT-4.7.2-1).
fn hidden(wildcard: &str, other: &str) -> bool {
    wildcard.starts_with(['+', '#']) && other.starts_with('$')
}

/// Whether some topic is matched by both filters.
fn overlap(left: &str, right: &str) -> bool {
    if hidden(left, right) || hidden(right, left) {
        return false;
    }
    let (mut left, mut right) = (left.split('/'), right.split('/'));
    loop {
        match (left.next(), right.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// Whether `wide` surely matches every topic that `narrow` matches.
fn covers(wide: &str, narrow: &str) -> bool {
    if hidden(wide, narrow) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (_, Some("#")) => return false,
            (Some("+"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(filter: &str, levels: u8) -> KeyRule {
        KeyRule {
            filter: parse(filter),
            levels,
        }
    }

    fn parse(filter: &str) -> TopicFilter {
        TopicFilter::new(filter).expect("a valid filter")
    }

    fn rules(key_levels: u8, overrides: &[(&str, u8)]) -> ShardKeyRules {
        let overrides = overrides
            .iter()
            .map(|(filter, levels)| rule(filter, *levels))
            .collect();
        ShardKeyRules::new(key_levels, overrides).expect("valid rules")
    }

    fn one_slot(key: &str) -> FilterPlacement {
        FilterPlacement::OneSlot(slot_of(key.as_bytes()))
    }

    #[test]
    fn keys_are_the_first_levels() {
        let rules = rules(2, &[("fleet/telemetry/#", 3), ("fleet/+/one", 1), ("#", 2)]);
        for (topic, key) in [
            ("devices/42/cmd", "devices/42"),
            ("devices/42", "devices/42"),
            ("devices", "devices"),
            ("devices/", "devices/"),
            ("/devices/42", "/devices"),
            ("//x", "/"),
            ("/", "/"),
            ("fleet/telemetry/7/x", "fleet/telemetry/7"),
            ("fleet/telemetry", "fleet/telemetry"),
            ("fleet/telemetry/one", "fleet/telemetry/one"),
            ("fleet/x/one", "fleet"),
            ("$SYS/broker/load", "$SYS/broker"),
            ("$delayed/10/devices/42/cmd", "devices/42"),
            ("$exclusive/devices/42/cmd", "devices/42"),
            ("$delayed/10", "$delayed/10"),
            ("$delayed/10/", ""),
        ] {
            assert_eq!(rules.shard_key(topic), key, "{topic}");
        }
    }

    #[test]
    fn filters_are_placed_where_their_topics_are() {
        let rules = rules(2, &[("fleet/telemetry/#", 3), ("fleet/state/#", 2)]);
        for (filter, key) in [
            ("devices/42/#", Some("devices/42")),
            ("devices/42/+", Some("devices/42")),
            ("devices/42/+/x/#", Some("devices/42")),
            ("devices/42", Some("devices/42")),
            ("devices", Some("devices")),
            ("devices/#", None),
            ("devices/+", None),
            ("devices/+/cmd", None),
            ("+/42/cmd", None),
            ("#", None),
            ("fleet/telemetry/#", None),
            ("fleet/telemetry/+", None),
            ("fleet/telemetry/7", Some("fleet/telemetry/7")),
            ("fleet/telemetry/7/#", Some("fleet/telemetry/7")),
            ("fleet/state/#", Some("fleet/state")),
            ("$share/workers/devices/42/#", Some("devices/42")),
            ("$share/workers/devices/#", None),
            ("$oshare/workers/devices/42/cmd", Some("devices/42")),
            ("$queue/devices/42/cmd", Some("devices/42")),
            ("$exclusive/devices/42/cmd", Some("devices/42")),
            ("$queue/#", None),
            ("$delayed/#", None),
            ("$delayed/+/devices/42/#", Some("devices/42")),
            ("$SYS/broker/#", Some("$SYS/broker")),
        ] {
            let expected = key.map_or(FilterPlacement::EveryGroup, one_slot);
            assert_eq!(rules.filter_placement(&parse(filter)), expected, "{filter}");
        }
        let one_level = self::rules(1, &[]);
        assert_eq!(
            one_level.filter_placement(&parse("devices/#")),
            one_slot("devices")
        );
        assert_eq!(
            one_level.filter_placement(&parse("$delayed/#")),
            FilterPlacement::EveryGroup
        );
        // An empty level inside is a level: filter and topic have the empty key.
        assert_eq!(
            one_level.filter_placement(&parse("$exclusive//#")),
            one_slot("")
        );
        assert_eq!(one_level.shard_key("$exclusive/"), "");
    }

    /// A rule that some of the filter's topics meet cuts another key from them.
    #[test]
    fn a_rule_that_overlaps_with_another_key_means_every_group() {
        let rules = rules(2, &[("+/+/deep/#", 3)]);
        assert_eq!(
            rules.filter_placement(&parse("a/b/#")),
            FilterPlacement::EveryGroup
        );
        assert_eq!(
            rules.filter_placement(&parse("a/b/+")),
            FilterPlacement::EveryGroup
        );
        assert_eq!(
            rules.filter_placement(&parse("a/b/deep/+")),
            one_slot("a/b/deep")
        );
        assert_eq!(
            rules.filter_placement(&parse("a/b/flat/+")),
            one_slot("a/b")
        );
        assert_eq!(rules.filter_placement(&parse("$a/b/#")), one_slot("$a/b"));
    }

    #[test]
    fn impossible_rules_are_refused() {
        let with = |filter: &str, levels| ShardKeyRules::new(2, vec![rule(filter, levels)]);
        assert_eq!(ShardKeyRules::new(0, vec![]), Err(KeyRuleError::Levels(0)));
        assert_eq!(
            ShardKeyRules::new(33, vec![]),
            Err(KeyRuleError::Levels(33))
        );
        assert_eq!(with("a/#", 0), Err(KeyRuleError::Levels(0)));
        for filter in ["$share/g/a", "$queue/a", "$delayed/#"] {
            assert_eq!(with(filter, 1), Err(KeyRuleError::Wrapped(filter.into())));
        }
        let many = vec![rule("a", 1); KEY_RULES_MAX + 1];
        assert_eq!(
            ShardKeyRules::new(2, many),
            Err(KeyRuleError::TooMany(KEY_RULES_MAX + 1))
        );
    }

    #[test]
    fn a_home_is_the_client_id_or_where_the_devices_topics_are() {
        let rules = rules(2, &[]);
        let template = HomeTemplate::new("devices/%c").expect("a valid template");
        let home_key = HomeKey::Topic(template);
        assert_eq!(
            home_slot("42", &home_key, &rules),
            rules.slot_of_topic("devices/42/cmd")
        );
        assert_eq!(
            home_slot("a/b/c", &HomeKey::ClientId, &rules),
            slot_of(b"a/b/c")
        );
        assert_eq!(
            HomeTemplate::new("devices/c"),
            Err(HomeTemplateError::NoClientId)
        );
        assert_eq!(
            HomeTemplate::new("devices/+/%c"),
            Err(HomeTemplateError::Wildcard)
        );
    }

    /// Few names, so that rules, filters and topics meet often.
    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "a",
            "b",
            "",
            "$s",
            "$share",
            "$queue",
            "$delayed",
            "$exclusive",
        ])
    }

    fn topic() -> impl Strategy<Value = String> {
        prop::collection::vec(level(), 1..6)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a topic is not empty", |topic| !topic.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        let levels = prop::collection::vec(prop_oneof![4 => level(), 1 => Just("+")], 0..5);
        (levels, any::<bool>())
            .prop_map(|(mut levels, multi)| {
                levels.extend(multi.then_some("#"));
                levels.join("/")
            })
            .prop_filter("not a filter", |filter| TopicFilter::new(filter).is_ok())
    }

    /// A topic that the filter matches: wildcards replaced.
    fn topic_of(filter: &str, levels: &[&str]) -> String {
        let mut levels = levels.iter();
        let mut topic = Vec::new();
        for level in filter.split('/') {
            match level {
                "+" => topic.push(levels.next().copied().unwrap_or("a")),
                "#" => topic.extend(levels.by_ref()),
                literal => topic.push(literal),
            }
        }
        topic.join("/")
    }

    fn some_rules() -> impl Strategy<Value = ShardKeyRules> {
        let overrides = prop::collection::vec((filter(), 1..5_u8), 0..5);
        (1..4_u8, overrides).prop_filter_map("a rule is refused", |(key_levels, overrides)| {
            let overrides = overrides
                .iter()
                .map(|(filter, levels)| rule(filter, *levels))
                .collect();
            ShardKeyRules::new(key_levels, overrides).ok()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// The invariant: a filter is registered wherever a topic goes that it matches.
        #[test]
        fn no_topic_misses_a_filter_that_matches_it(
            rules in some_rules(),
            filter in filter(),
            levels in prop::collection::vec(level(), 0..6),
        ) {
            let topic = topic_of(&filter, &levels);
            if topic.is_empty() || !filter_matches(&filter, &topic) {
                return Ok(());
            }
            for prefix in ["", "$share/g/", "$oshare/g/", "$queue/", "$exclusive/"] {
                let filter = parse(&format!("{prefix}{filter}"));
                if let FilterPlacement::OneSlot(slot) = rules.filter_placement(&filter) {
                    prop_assert_eq!(slot, rules.slot_of_topic(&topic), "{:?} {}", filter, topic);
                }
            }
        }

        /// Overlap is never missed and cover never claimed in vain: both against examples.
        #[test]
        fn overlap_and_cover_agree_with_matching(
            left in filter(),
            right in filter(),
            levels in prop::collection::vec(level(), 0..6),
        ) {
            let topic = topic_of(&left, &levels);
            if topic.is_empty() || !filter_matches(&left, &topic) {
                return Ok(());
            }
            let both = filter_matches(&right, &topic);
            prop_assert!(!both || (overlap(&left, &right) && overlap(&right, &left)));
            prop_assert!(both || !covers(&right, &left));
        }

        /// A key is a prefix of the inner topic that ends at a level's end, with the levels asked for.
        #[test]
        fn a_key_is_whole_levels(topic in topic(), levels in 1..5_u8) {
            let rules = ShardKeyRules::new(levels, vec![]).expect("valid rules");
            let key = rules.shard_key(&topic);
            let expected: Vec<_> = inner(&topic).split('/').take(usize::from(levels)).collect();
            prop_assert_eq!(key, expected.join("/"));
        }
    }
}
