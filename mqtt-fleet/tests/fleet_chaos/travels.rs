//! Which proxies the devices have been connected to: whether sessions were resumed through other proxies at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::common::fleet::Fleet;

/// The proxies at which each device was seen, by the key of its record.
#[derive(Debug, Default)]
pub(crate) struct Travels(BTreeMap<String, BTreeSet<String>>);

impl Travels {
    /// Takes down where every device is by now, as its record in Redis says.
    pub(crate) fn look(&mut self, fleet: &Fleet) {
        let answer = fleet.redis(&["EVAL", PLACES, "0"]);
        for line in answer.lines() {
            let Some((key, node)) = line.split_once(' ') else {
                continue; // There are none.
            };
            self.0
                .entry(key.to_owned())
                .or_default()
                .insert(node.to_owned());
        }
    }

    fn travelled(&self) -> usize {
        self.0.values().filter(|nodes| nodes.len() > 1).count()
    }

    /// Fails where every device always came back to its proxy.
    pub(crate) fn assert_some(&self) {
        assert!(self.travelled() > 0, "{self}");
    }
}

/// Key and proxy of each record, a line each.
const PLACES: &str = "local places = {} for _, key in ipairs(redis.call('KEYS', 'mqtt-fleet:session:*')) do \
    local node = redis.call('HGET', key, 'node') if node then places[#places + 1] = key .. ' ' .. node end end \
    return places";

impl fmt::Display for Travels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (travelled, all) = (self.travelled(), self.0.len());
        write!(
            f,
            "{travelled} of {all} devices were seen at more than one proxy"
        )
    }
}
