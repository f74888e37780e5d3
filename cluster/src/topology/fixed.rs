//! The fixed part of a cluster file.

use crate::shard_key::{FilterPlacement, HomeKey, ShardKeyRules, home_slot};
use crate::slots::{GroupNo, SLOT_COUNT, Slot};
use protocol::TopicFilter;
use std::fmt::{self, Write as _};
use xxhash_rust::xxh3::xxh3_128;

/// The only hash from shard keys to slots there is.
pub(super) const HASH: &str = "xxh3";

/// How topics, filters and client ids find their slots. Never changes under a running fleet.
///
/// The number of slots, the hash and the largest number of groups belong to it too; this program knows one value
/// of each, and a file that says another is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedPart {
    /// Name of the fleet. Two fleets never share one, so that their nodes cannot link by mistake.
    pub cluster_id: String,
    /// How shard keys are cut.
    pub rules: ShardKeyRules,
    /// What a session's home is chosen by.
    pub home_key: HomeKey,
}

/// A fixed part in 16 bytes: equal exactly when the parts are, but for a chance of 2^-128.
///
/// It guards against mistakes, not against attackers; those do not know the secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FixedHash(pub [u8; 16]);

impl FixedPart {
    /// The hash: XXH3, 128 bits, of [`FixedPart::canonical`], big endian. The same on every platform and in every
    /// release.
    pub fn hash(&self) -> FixedHash {
        FixedHash(xxh3_128(self.canonical().as_bytes()).to_be_bytes())
    }

    /// The part as one text, the same for every way of writing it in a file: one value a line, in a set order,
    /// texts with their length in bytes before them.
    pub fn canonical(&self) -> String {
        let mut text = String::from("mqtt-fleet fixed part 1\n");
        put(&mut text, "cluster_id", &self.cluster_id);
        line(&mut text, format_args!("slots {SLOT_COUNT}"));
        put(&mut text, "hash", HASH);
        line(&mut text, format_args!("groups_max {}", GroupNo::MAX));
        line(
            &mut text,
            format_args!("key_levels {}", self.rules.key_levels()),
        );
        for rule in self.rules.overrides() {
            let filter = rule.filter.as_str();
            let len = filter.len();
            line(
                &mut text,
                format_args!("key {} {len}:{filter}", rule.levels),
            );
        }
        match &self.home_key {
            HomeKey::ClientId => line(&mut text, format_args!("home_key client_id")),
            HomeKey::Topic(template) => put(&mut text, "home_key topic", template.as_str()),
        }
        text
    }

    /// The slot of a topic.
    pub fn slot_of_topic(&self, topic: &str) -> Slot {
        self.rules.slot_of_topic(topic)
    }

    /// Where a filter is registered.
    pub fn filter_placement(&self, filter: &TopicFilter) -> FilterPlacement {
        self.rules.filter_placement(filter)
    }

    /// The slot whose group is the home of a client's session.
    pub fn home_slot(&self, client_id: &str) -> Slot {
        home_slot(client_id, &self.home_key, &self.rules)
    }
}

fn put(text: &mut String, name: &str, value: &str) {
    line(text, format_args!("{name} {}:{value}", value.len()));
}

fn line(text: &mut String, content: fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a String cannot fail");
}

impl fmt::Display for FixedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FixedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FixedHash({self})")
    }
}

impl std::str::FromStr for FixedHash {
    type Err = ();

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let valid = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).map_err(|_| ())?;
        valid.then_some(Self(number.to_be_bytes())).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_key::{HomeTemplate, KeyRule};

    fn part(key_levels: u8, rules: &[(&str, u8)], home: Option<&str>) -> FixedPart {
        let rule = |&(filter, levels): &(&str, u8)| KeyRule {
            filter: TopicFilter::new(filter).expect("valid"),
            levels,
        };
        let overrides = rules.iter().map(rule).collect();
        FixedPart {
            cluster_id: "plant-7".to_owned(),
            rules: ShardKeyRules::new(key_levels, overrides).expect("valid"),
            home_key: home.map_or(HomeKey::ClientId, |template| {
                HomeKey::Topic(HomeTemplate::new(template).expect("valid"))
            }),
        }
    }

    /// Golden: nodes of different releases must agree.
    #[test]
    fn the_hash_never_changes() {
        let plain = part(2, &[], None);
        assert_eq!(
            plain.canonical(),
            "mqtt-fleet fixed part 1\ncluster_id 7:plant-7\nslots 16384\nhash 4:xxh3\n\
             groups_max 64\nkey_levels 2\nhome_key client_id\n"
        );
        assert_eq!(plain.hash().to_string(), "9571b6599cd7c835538d7357057c890a");
        let rich = part(3, &[("fleet/telemetry/#", 3), ("a/+", 1)], Some("d/%c"));
        assert_eq!(rich.hash().to_string(), "5a0e4ff8a9bf74e8582d7230f98739db");
    }

    #[test]
    fn whatever_decides_on_routing_changes_the_hash() {
        let parts = [
            part(2, &[], None),
            part(1, &[], None),
            part(2, &[("a/b", 2)], None),
            part(2, &[("a/b", 1)], None),
            part(2, &[("a/b", 1), ("c", 1)], None),
            part(2, &[("c", 1), ("a/b", 1)], None),
            part(2, &[], Some("devices/%c")),
            part(2, &[], Some("device/%c")),
            FixedPart {
                cluster_id: "plant-8".to_owned(),
                ..part(2, &[], None)
            },
        ];
        for (at, one) in parts.iter().enumerate() {
            for other in &parts[..at] {
                assert_ne!(one.hash(), other.hash(), "{one:?} {other:?}");
            }
        }
    }

    /// A filter may hold a line break, which must not make it look like two rules.
    #[test]
    fn texts_cannot_pretend_to_be_lines() {
        let one = part(2, &[("a\nkey 1 1:b", 1)], None);
        let two = part(2, &[("a", 1), ("b", 1)], None);
        assert_ne!(one.canonical(), two.canonical());
        assert_ne!(one.hash(), two.hash());
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = part(2, &[], None).hash();
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in ["", "12", &"g".repeat(32), &"+".repeat(32), &"1".repeat(33)] {
            assert_eq!(wrong.parse::<FixedHash>(), Err(()), "{wrong}");
        }
    }
}
