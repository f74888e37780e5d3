//! Session tickets (RFC 5077, RFC 8446 4.6.1): a device that comes back resumes its TLS session on any proxy that has
//! the key, without a new key exchange and without a signature.
//!
//! A ticket is `key name (8) | nonce (12) | sealed { made at (8, seconds since 1970) | session } | tag (16)`. The
//! name picks the key, so keys can be replaced one after the other; the time bounds a ticket's life however long its
//! key lives; the *scope*, which is authenticated and not sent, ties it to the client certificates that were asked for.

use crate::limits::{TICKET_CLOCK_SKEW_S, TICKET_KEY_ROTATE_S, TICKET_KEYS_MAX, TICKET_LIFETIME_S};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a key.
const KEY_BYTES: usize = 32;
const NAME_BYTES: usize = 8;
const TIME_BYTES: usize = 8;

/// One key, with the name that tickets call it by: a hash of it, so that all who have the key agree.
#[derive(Clone)]
pub struct TicketKey {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl TicketKey {
    /// The key of these bytes.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let hash = digest::digest(&digest::SHA256, bytes);
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&hash.as_ref()[..NAME_BYTES]);
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("32 bytes are an AES-256 key");
        Self {
            name,
            key: LessSafeKey::new(key),
        }
    }

    /// A key nobody else has; `None` where the system gives no random bytes.
    fn random() -> Option<Self> {
        Some(Self::new(&random_bytes()?))
    }

    /// Whether it is the same key.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn from_hex(line: &str) -> Option<Self> {
        let digits = line.as_bytes();
        if digits.len() != 2 * KEY_BYTES {
            return None;
        }
        let mut bytes = [0; KEY_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(Self::new(&bytes))
    }
}

pub(super) fn random_bytes() -> Option<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

/// A new key as a line for [`TicketKeys::parse`], without its end.
pub fn new_ticket_key() -> Result<String, TicketKeyError> {
    let bytes = random_bytes().ok_or(TicketKeyError::NoRandomness)?;
    Ok(bytes.map(|byte| format!("{byte:02x}")).concat())
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey({:02x?})", self.name)
    }
}

/// The keys in use, at least one: the first seals, all open.
#[derive(Clone, Debug)]
pub struct TicketKeys(VecDeque<TicketKey>);

/// A text that is no list of ticket keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketKeyError {
    /// A line that is no key.
    #[error(
        "line {line} is no key: expected 64 hexadecimal digits, as `openssl rand -hex 32` prints them"
    )]
    NoKey {
        /// The line, from 1.
        line: usize,
    },
    /// No line with a key.
    #[error(
        "there is no key in it: expected lines of 64 hexadecimal digits, as `openssl rand -hex 32` prints them"
    )]
    Empty,
    /// More keys than anybody needs.
    #[error("there are more than {TICKET_KEYS_MAX} keys in it")]
    TooMany,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

impl TicketKeys {
    /// Keys from a text: one of 64 hexadecimal digits a line, the one to seal with first; empty lines and lines that
    /// begin with `#` are skipped.
    pub fn parse(text: &str) -> Result<Self, TicketKeyError> {
        let mut keys = VecDeque::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = TicketKey::from_hex(line).ok_or(TicketKeyError::NoKey { line: number })?;
            keys.push_back(key);
        }
        match keys.len() {
            0 => Err(TicketKeyError::Empty),
            count if count > TICKET_KEYS_MAX => Err(TicketKeyError::TooMany),
            _ => Ok(Self(keys)),
        }
    }

    /// These keys, at least one and at most [`TICKET_KEYS_MAX`]; the first seals.
    pub(super) fn of(keys: impl IntoIterator<Item = TicketKey>) -> Self {
        Self(keys.into_iter().take(TICKET_KEYS_MAX).collect())
    }

    /// The keys, the one that seals first.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &TicketKey> {
        self.0.iter()
    }

    /// One key that nobody else has.
    fn random() -> Result<Self, TicketKeyError> {
        let key = TicketKey::random().ok_or(TicketKeyError::NoRandomness)?;
        Ok(Self(VecDeque::from([key])))
    }

    /// Seals with a new key from here on; the earlier ones still open, up to [`TICKET_KEYS_MAX`].
    fn rotate(&mut self, key: TicketKey) {
        self.0.truncate(TICKET_KEYS_MAX - 1);
        self.0.push_front(key);
    }

    /// A ticket of `session`, made at `now_s`. `None` where the system gives no random bytes.
    pub(super) fn seal(&self, session: &[u8], scope: &[u8], now_s: u64) -> Option<Vec<u8>> {
        let TicketKey { name, key } = self.0.front()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = now_s.to_be_bytes().to_vec();
        sealed.extend_from_slice(session);
        let nonce_value = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce_value, Aad::from(scope), &mut sealed)
            .ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    /// The session of a ticket that one of these keys sealed in this scope, not longer ago than its lifetime.
    pub(super) fn open(&self, ticket: &[u8], scope: &[u8], now_s: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let TicketKey { key, .. } = self.0.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened = key
            .open_in_place(nonce, Aad::from(scope), &mut sealed)
            .ok()?;
        let (made, session) = opened.split_first_chunk::<TIME_BYTES>()?;
        let made_s = u64::from_be_bytes(*made);
        let lives = now_s <= made_s.saturating_add(u64::from(TICKET_LIFETIME_S))
            && made_s <= now_s.saturating_add(TICKET_CLOCK_SKEW_S);
        lives.then(|| session.to_vec())
    }
}

/// What a process makes and opens tickets with. Shared by all of its shards; its keys can be replaced at any time.
#[derive(Debug)]
pub struct Tickets(RwLock<Current>);

#[derive(Debug)]
struct Current {
    keys: Arc<TicketKeys>,
    /// Keys of our own making are replaced when this second has come; `None` for keys that somebody gave us.
    rotate_at_s: Option<u64>,
}

impl Tickets {
    /// Keys of this process alone, replaced every [`TICKET_KEY_ROTATE_S`] seconds.
    pub fn random() -> Result<Self, TicketKeyError> {
        Ok(Self(RwLock::new(Current {
            keys: Arc::new(TicketKeys::random()?),
            rotate_at_s: Some(now_s().saturating_add(TICKET_KEY_ROTATE_S)),
        })))
    }

    /// Keys that others have too.
    pub fn shared(keys: TicketKeys) -> Self {
        Self(RwLock::new(Current {
            keys: Arc::new(keys),
            rotate_at_s: None,
        }))
    }

    /// Uses other keys from here on.
    pub fn replace(&self, keys: TicketKeys) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current {
            keys: Arc::new(keys),
            rotate_at_s: None,
        };
    }

    /// The key that seals now.
    pub(super) fn sealing(&self) -> Option<TicketKey> {
        self.now().0.front().cloned()
    }

    /// The keys in use now.
    pub(super) fn now(&self) -> Arc<TicketKeys> {
        self.keys(now_s())
    }

    /// The keys to seal with then.
    fn keys(&self, now_s: u64) -> Arc<TicketKeys> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if current.rotate_at_s.is_none_or(|at_s| now_s < at_s) {
            return Arc::clone(&current.keys);
        }
        drop(current);
        self.rotate(now_s)
    }

    fn rotate(&self, now_s: u64) -> Arc<TicketKeys> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another shard may have been here in between.
        let due = current.rotate_at_s.is_some_and(|at_s| now_s >= at_s);
        if due && let Some(key) = TicketKey::random() {
            Arc::make_mut(&mut current.keys).rotate(key);
            current.rotate_at_s = Some(now_s.saturating_add(TICKET_KEY_ROTATE_S));
        }
        Arc::clone(&current.keys)
    }
}

/// [`Tickets`] for connections of whom the same client certificates are asked.
#[derive(Debug)]
pub(super) struct ScopedTickets {
    pub(super) tickets: Arc<Tickets>,
    pub(super) scope: Vec<u8>,
}

impl ProducesTickets for ScopedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let now_s = now_s();
        self.tickets.keys(now_s).seal(plain, &self.scope, now_s)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let now_s = now_s();
        self.tickets.keys(now_s).open(cipher, &self.scope, now_s)
    }
}

/// The wall clock: tickets outlive processes and cross machines.
fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";
    const TWO: &str = "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF";
    const NOW_S: u64 = 1_800_000_000;

    fn keys(lines: &[&str]) -> TicketKeys {
        TicketKeys::parse(&lines.join("\n")).expect("keys")
    }

    #[test]
    fn whoever_has_the_key_opens_the_ticket_and_nobody_else() {
        let ticket = keys(&[ONE]).seal(b"session", b"", NOW_S).expect("random");
        let open = |lines: &[&str]| keys(lines).open(&ticket, b"", NOW_S + 5);
        assert_eq!(open(&[ONE]).as_deref(), Some(&b"session"[..]));
        assert_eq!(
            open(&[TWO, "# old", "", ONE]).as_deref(),
            Some(&b"session"[..])
        );
        assert_eq!(open(&[TWO]), None);
    }

    #[test]
    fn a_ticket_lives_as_long_as_it_says_and_not_before_it_was_made() {
        let keys = keys(&[ONE]);
        let ticket = keys.seal(b"session", b"", NOW_S).expect("random");
        let lifetime_s = u64::from(TICKET_LIFETIME_S);
        for (now_s, lives) in [
            (NOW_S, true),
            (NOW_S + lifetime_s, true),
            (NOW_S + lifetime_s + 1, false),
            (NOW_S - TICKET_CLOCK_SKEW_S, true),
            (NOW_S - TICKET_CLOCK_SKEW_S - 1, false),
        ] {
            assert_eq!(keys.open(&ticket, b"", now_s).is_some(), lives, "{now_s}");
        }
    }

    #[test]
    fn a_ticket_of_another_scope_or_with_any_bit_changed_is_none() {
        let keys = keys(&[ONE]);
        let ticket = keys.seal(b"session", b"with CA 1", NOW_S).expect("random");
        assert!(keys.open(&ticket, b"with CA 2", NOW_S).is_none());
        for at in 0..ticket.len() {
            let mut other = ticket.clone();
            other[at] ^= 1;
            assert!(
                keys.open(&other, b"with CA 1", NOW_S).is_none(),
                "byte {at}"
            );
            assert!(keys.open(&ticket[..at], b"with CA 1", NOW_S).is_none());
        }
    }

    #[test]
    fn keys_of_our_own_are_replaced_and_the_last_ones_still_open() {
        let tickets = Tickets::random().expect("random");
        let start_s = now_s();
        let ticket = tickets.keys(start_s).seal(b"s", b"", start_s);
        let ticket = ticket.expect("random");
        let mut opens = 0;
        for turn in 1..=2 * TICKET_KEYS_MAX as u64 {
            // A second more than the period: the first is counted from when `random` looked at the clock.
            let later_s = start_s + turn * (TICKET_KEY_ROTATE_S + 1);
            let keys = tickets.keys(later_s);
            assert!(keys.0.len() <= TICKET_KEYS_MAX);
            opens += usize::from(keys.open(&ticket, b"", start_s).is_some());
        }
        assert_eq!(opens, TICKET_KEYS_MAX - 1, "then its key is gone");
    }

    #[test]
    fn a_new_key_is_a_line_of_the_list_and_never_the_same() {
        let [one, two] = [(); 2].map(|()| new_ticket_key().expect("random"));
        assert_ne!(one, two);
        assert_eq!(keys(&[&one, &two]).0.len(), 2);
    }

    #[test]
    fn a_text_without_keys_is_refused_by_line() {
        let error = |text: &str| TicketKeys::parse(text).expect_err("wrong");
        assert_eq!(error("# only this\n\n"), TicketKeyError::Empty);
        assert_eq!(
            error(&format!("{ONE}\n{}", &ONE[1..])),
            TicketKeyError::NoKey { line: 2 }
        );
        assert_eq!(
            error(&ONE.replace('a', "g")),
            TicketKeyError::NoKey { line: 1 }
        );
        let many = [ONE; TICKET_KEYS_MAX + 1].join("\n");
        assert_eq!(error(&many), TicketKeyError::TooMany);
    }
}
