//! The filters that a group holds of a session, as it tells others of them: in full, or as a digest to compare with.

use protocol::{SubscribeOptions, TopicFilter};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A filter with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFilter {
    /// The filter.
    pub filter: TopicFilter,
    /// Its options, as SUBSCRIBE gave them.
    pub options: SubscribeOptions,
    /// Its Subscription Identifier; 0 when absent.
    pub subscription_id: u32,
}

/// A digest of filters in any order. Two sets with the same digest are taken for the same.
///
/// It is the sum, modulo 2^64, of a number for each filter: the XXH3 hash in 64 bits of the filter's text in UTF-8,
/// with the options' byte of SUBSCRIBE (MQTT5 3.8.3.1) times 2^32 plus the Subscription Identifier (0 when absent) as
/// the seed. So no filters at all have 0. Nodes of different releases compare digests: the rule never changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterDigest(pub u64);

impl FilterDigest {
    /// Takes one more filter in.
    pub fn add(&mut self, filter: &str, options: SubscribeOptions, subscription_id: u32) {
        let seed = u64::from(options.as_u8()) << 32 | u64::from(subscription_id);
        let number = xxh3_64_with_seed(filter.as_bytes(), seed);
        self.0 = self.0.wrapping_add(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(filters: &[(&str, u8, u32)]) -> FilterDigest {
        let mut digest = FilterDigest::default();
        for (filter, options, id) in filters {
            let options = SubscribeOptions::from_u8(*options).expect("valid options");
            digest.add(filter, options, *id);
        }
        digest
    }

    /// Written down once: what these say is compared between nodes of different releases.
    #[test]
    fn digests_never_change() {
        let long = "a/".repeat(300) + "#";
        for (filters, golden) in [
            (&[][..], 0),
            (&[("#", 0, 0)], 0x6a81_ae54_41d0_8140),
            (&[("devices/42/commands", 1, 0)], 0xd4cb_ffee_dcc3_a3dd),
            (
                &[("devices/42/commands", 0b10_1110, 268_435_455)],
                0x4954_d2fd_fb07_9f37,
            ),
            (&[("$share/g/fleet/+/ü", 2, 7)], 0x4281_3a68_ddf7_870c),
            (&[(&*long, 1, 0)], 0xf58b_a033_14b6_9d00),
            (
                &[("#", 0, 0), ("devices/42/commands", 1, 0)],
                0x3f4d_ae43_1e94_251d,
            ),
        ] {
            let digest = digest(filters);
            assert_eq!(digest.0, golden, "{filters:?} has {:#018x}", digest.0);
        }
    }

    #[test]
    fn everything_of_a_filter_counts_and_the_order_does_not() {
        let filters = [("a", 1, 0), ("b/#", 2, 7), ("+", 0, 1)];
        let all = digest(&filters);
        let mut turned = filters;
        turned.reverse();
        assert_eq!(digest(&turned), all);
        assert_eq!(digest(&[]), FilterDigest::default());
        let others = [
            [("A", 1, 0), filters[1], filters[2]],
            [("a", 2, 0), filters[1], filters[2]],
            [("a", 0b101, 0), filters[1], filters[2]],
            [("a", 0b1001, 0), filters[1], filters[2]],
            [("a", 0b1_0001, 0), filters[1], filters[2]],
            [("a", 1, 1), filters[1], filters[2]],
            [("a", 1, 7), ("b/#", 2, 0), filters[2]],
            [filters[1], filters[1], filters[2]],
        ];
        for other in others {
            assert_ne!(digest(&other), all, "{other:?}");
        }
        assert_ne!(digest(&filters[1..]), all);
        assert_ne!(digest(&[filters[0], filters[0]]), digest(&[]));
    }
}
