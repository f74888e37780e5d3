//! Ticket keys that all proxies of a fleet share through the session store.
//!
//! Each proxy asks for them every minute, so a new key is known everywhere a minute later. It seals from
//! [`TICKET_KEY_SPREAD_S`] on; until then the one before does, and no device meets a proxy that cannot read its ticket. What
//! a proxy has once had it keeps for as long as tickets may be about, whatever becomes of the store.

use super::tickets::{TicketKey, TicketKeys, Tickets, random_bytes};
use crate::limits::{
    TICKET_KEY_KEEP_S, TICKET_KEY_ROTATE_S, TICKET_KEY_SPREAD_S, TICKET_KEYS_ASK_MS,
    TICKET_KEYS_MAX,
};
use session_store::{StoredTicketKeys, TICKET_KEY_BYTES, TicketKeyring, TicketRules};
use std::sync::Arc;
use std::time::Duration;

/// When keys are replaced, and how often they are asked for.
pub(super) const RULES: TicketRules = TicketRules {
    rotate_s: TICKET_KEY_ROTATE_S,
    keep_s: TICKET_KEY_KEEP_S,
    keys_max: TICKET_KEYS_MAX,
    ask_every: Duration::from_millis(TICKET_KEYS_ASK_MS),
};

/// A key with where it is from.
#[derive(Clone, Debug)]
struct Known {
    key: TicketKey,
    /// When it was made, or, if it is our own, when it was replaced; by the store's clock.
    since_s: u64,
    /// It is from the store.
    shared: bool,
}

/// Gives the store's keys to a process's tickets.
pub(super) struct Keyring {
    tickets: Arc<Tickets>,
    /// The newest first; our own, which sealed until the store had answered, last.
    known: Vec<Known>,
}

impl Keyring {
    pub(super) fn new(tickets: Arc<Tickets>) -> Self {
        Self {
            tickets,
            known: Vec::new(),
        }
    }

    /// Adds what the store has, and forgets what is too old.
    fn learn(&mut self, stored: &StoredTicketKeys) {
        let now_s = stored.now_s;
        if self.known.is_empty() {
            let own = self.tickets.sealing();
            self.known.extend(own.map(|key| Known {
                key,
                since_s: now_s,
                shared: false,
            }));
            tracing::info!(
                "TLS session tickets have keys from the session store, which all its proxies have"
            );
        }
        for stored in &stored.keys {
            let key = TicketKey::new(&stored.bytes);
            self.known.retain(|known| !known.key.is(&key));
            self.known.push(Known {
                key,
                since_s: stored.made_s,
                shared: true,
            });
        }
        self.known
            .retain(|known| now_s.saturating_sub(known.since_s) <= TICKET_KEY_KEEP_S);
        self.known
            .sort_by_key(|known| (!known.shared, std::cmp::Reverse(known.since_s)));
        self.known.truncate(TICKET_KEYS_MAX);
    }

    /// The keys in use: first the newest that everybody has had time to learn. While there is none, it is the oldest
    /// of the store's: of several, more will have it.
    fn in_use(&self, now_s: u64) -> Option<TicketKeys> {
        let mut shared = self.known.iter().filter(|known| known.shared);
        let is_spread = |known: &&Known| known.since_s + TICKET_KEY_SPREAD_S <= now_s;
        let sealing = shared
            .clone()
            .find(is_spread)
            .or_else(|| shared.next_back())?;
        let others = self
            .known
            .iter()
            .filter(|known| !known.key.is(&sealing.key));
        let keys = std::iter::once(sealing).chain(others);
        Some(TicketKeys::of(keys.map(|known| known.key.clone())))
    }
}

impl TicketKeyring for Keyring {
    fn propose(&mut self) -> Option<[u8; TICKET_KEY_BYTES]> {
        random_bytes()
    }

    fn take(&mut self, stored: StoredTicketKeys) {
        self.learn(&stored);
        if let Some(keys) = self.in_use(stored.now_s) {
            self.tickets.replace(keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_store::StoredTicketKey;

    const NOW_S: u64 = 1_800_000_000;

    /// Keys told apart by their first byte, with their ages.
    fn stored(keys: &[(u8, u64)], now_s: u64) -> StoredTicketKeys {
        let keys = keys.iter().map(|&(number, age_s)| StoredTicketKey {
            bytes: [number; TICKET_KEY_BYTES],
            made_s: now_s - age_s,
        });
        StoredTicketKeys {
            keys: keys.collect(),
            now_s,
        }
    }

    fn keyring() -> Keyring {
        Keyring::new(Arc::new(Tickets::random().expect("random")))
    }

    /// Numbers of the keys in use, the sealing one first; 0 is our own.
    fn numbers(keyring: &Keyring) -> Vec<u8> {
        let name = |number| TicketKey::new(&[number; TICKET_KEY_BYTES]);
        let keys = keyring.tickets.now();
        let number = |key: &TicketKey| (1..=99).find(|&number| name(number).is(key));
        keys.iter().map(|key| number(key).unwrap_or(0)).collect()
    }

    #[test]
    fn the_first_key_of_all_seals_at_once_and_our_own_still_opens() {
        let mut keyring = keyring();
        keyring.take(stored(&[(1, 0)], NOW_S));
        assert_eq!(numbers(&keyring), [1, 0]);
        keyring.take(stored(&[(1, TICKET_KEY_KEEP_S / 2)], NOW_S + 3));
        assert_eq!(numbers(&keyring), [1, 0]);
        let later_s = NOW_S + TICKET_KEY_KEEP_S + 1;
        keyring.take(stored(&[(1, TICKET_KEY_KEEP_S)], later_s));
        assert_eq!(numbers(&keyring), [1], "no ticket of ours is good any more");
    }

    #[test]
    fn a_new_key_seals_when_everybody_can_know_it() {
        let mut keyring = keyring();
        for (age_s, sealing) in [
            (0, 1),
            (TICKET_KEY_SPREAD_S - 1, 1),
            (TICKET_KEY_SPREAD_S, 2),
        ] {
            let old = TICKET_KEY_ROTATE_S + age_s;
            keyring.take(stored(&[(2, age_s), (1, old)], NOW_S + age_s));
            assert_eq!(numbers(&keyring)[0], sealing, "{age_s} s old");
            assert_eq!(numbers(&keyring).len(), 3);
        }
    }

    /// Two proxies that add a key to an empty store at once agree: the store takes one. If it forgets everything in
    /// between, they agree on the one that was there first.
    #[test]
    fn of_young_keys_the_oldest_seals() {
        let mut keyring = keyring();
        keyring.take(stored(&[(2, 1), (1, 5)], NOW_S));
        assert_eq!(numbers(&keyring)[0], 1);
    }

    #[test]
    fn a_store_that_forgot_takes_no_key_away() {
        let mut keyring = keyring();
        keyring.take(stored(&[(1, 1000)], NOW_S));
        keyring.take(stored(&[(2, 0)], NOW_S + 60));
        assert_eq!(
            numbers(&keyring),
            [1, 2, 0],
            "others have the first one, too"
        );
        let later_s = NOW_S + 60 + TICKET_KEY_SPREAD_S;
        keyring.take(stored(&[(2, TICKET_KEY_SPREAD_S)], later_s));
        assert_eq!(numbers(&keyring), [2, 1, 0]);
        let gone_s = NOW_S + TICKET_KEY_KEEP_S;
        keyring.take(stored(&[(2, TICKET_KEY_KEEP_S - 60)], gone_s));
        assert_eq!(numbers(&keyring), [2, 0], "1,000 s earlier than our own");
    }

    #[test]
    fn there_are_never_too_many() {
        let mut keyring = keyring();
        for number in 1..=40 {
            let now_s = NOW_S + u64::from(number);
            keyring.take(stored(&[(number, 0)], now_s));
            assert!(numbers(&keyring).len() <= TICKET_KEYS_MAX);
        }
    }

    /// A ticket of any time is opened by the keys of any time within its lifetime.
    #[test]
    fn with_keys_replaced_in_time_every_ticket_lives_its_lifetime() {
        let mut keyring = keyring();
        let lifetime_s = u64::from(crate::limits::TICKET_LIFETIME_S);
        let step_s = 600;
        let mut keys = Vec::<(u8, u64)>::new();
        let mut tickets = Vec::new();
        for now_s in (NOW_S..NOW_S + 5 * TICKET_KEY_ROTATE_S).step_by(step_s) {
            // What the store does.
            let newest = keys.first().copied();
            if newest.is_none_or(|(_, made_s)| made_s + RULES.rotate_s <= now_s) {
                keys.insert(0, (newest.map_or(1, |(number, _)| number + 1), now_s));
            }
            keys.retain(|&(_, made_s)| now_s - made_s <= RULES.keep_s);
            keys.truncate(RULES.keys_max);
            let ages: Vec<_> = keys
                .iter()
                .map(|&(n, made_s)| (n, now_s - made_s))
                .collect();
            keyring.take(stored(&ages, now_s));

            let now = keyring.tickets.now();
            tickets.push((now_s, now.seal(b"s", b"", now_s).expect("random")));
            tickets.retain(|(made_s, _)| now_s - made_s <= lifetime_s);
            for (made_s, ticket) in &tickets {
                let opened = now.open(ticket, b"", now_s);
                assert!(opened.is_some(), "of {made_s}, at {now_s}");
            }
        }
        assert!(keys[0].0 > 4, "keys were replaced");
    }
}
