//! The writes that wait for Redis or are on their way to it. No clock, no I/O.
//!
//! Per client at most one write is on its way and at most one waits: a newer one takes the place of
//! the waiting one. Only when the one on its way is answered does the next leave, so two writes of
//! a client never race each other, whatever is sent again.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::Write;

/// A write with its number; later ones of this process have higher numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// What is to be written.
    pub write: Arc<Write>,
    /// Its number.
    pub number: u64,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits.
    Taken,
    /// It waits in the place of an older one.
    Coalesced,
    /// One that is newer by its epoch waits or is on its way; it was left out.
    Outdated,
    /// No room; it was not taken.
    Full,
}

/// The writes of all shards, bounded by number and bytes, those on their way included.
#[derive(Debug)]
pub struct Outbox {
    clients: HashMap<Arc<str>, Client, RandomState>,
    /// Clients whose write may leave, in the order their wait began.
    ready: VecDeque<Arc<str>>,
    /// Clients whose write failed and waits for the next attempt.
    parked: VecDeque<Arc<str>>,
    entries: usize,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
    last_number: u64,
}

#[derive(Debug, Default)]
struct Client {
    /// In `ready` or `parked`, or, while something is on its way, in neither.
    waiting: Option<Numbered>,
    on_its_way: Option<Numbered>,
}

impl Outbox {
    /// Nothing waits yet; at most `entries_max` writes of together `bytes_max` bytes will.
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            clients: HashMap::default(),
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            entries: 0,
            bytes: 0,
            entries_max,
            bytes_max,
            last_number: 0,
        }
    }

    /// A number above all that were given.
    pub fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Takes a write in, unless there is no room for it.
    pub fn offer(&mut self, write: Write) -> Offered {
        let bytes = cost(&write);
        let client = self.clients.get(write.client_id());
        let waiting = client.and_then(|client| client.waiting.as_ref());
        let on_its_way = client.and_then(|client| client.on_its_way.as_ref());
        let newest = waiting.or(on_its_way);
        if newest.is_some_and(|newest| newest.write.stands_against(&write)) {
            return Offered::Outdated;
        }
        let replaced = waiting.map(|waiting| cost(&waiting.write));
        let entries = self.entries + usize::from(replaced.is_none());
        let total = self.bytes - replaced.unwrap_or(0) + bytes;
        let grows = replaced.is_none_or(|replaced| bytes > replaced);
        if entries > self.entries_max || (grows && total > self.bytes_max) {
            return Offered::Full;
        }
        self.entries = entries;
        self.bytes = total;
        if replaced.is_none() && on_its_way.is_none() {
            self.ready.push_back(Arc::clone(write.client_id()));
        }
        let number = self.next_number();
        let client_id = Arc::clone(write.client_id());
        let write = Arc::new(write);
        let client = self.clients.entry(client_id).or_default();
        client.waiting = Some(Numbered { write, number });
        if replaced.is_some() {
            Offered::Coalesced
        } else {
            Offered::Taken
        }
    }

    /// The next write to send; it is on its way from here on.
    pub fn take_next(&mut self) -> Option<Numbered> {
        let client_id = self.ready.pop_front()?;
        let client = self
            .clients
            .get_mut(&client_id)
            .expect("whoever is ready is there");
        let sent = client.waiting.take().expect("whoever is ready waits");
        client.on_its_way = Some(sent.clone());
        Some(sent)
    }

    /// The write on its way for this client is done with: stored, outdated or refused for good.
    pub fn done(&mut self, client_id: &str) {
        let (name, client) = self.arrived(client_id);
        let sent = client.on_its_way.take().expect("it was on its way");
        let more = client.waiting.is_some();
        self.entries -= 1;
        self.bytes -= cost(&sent.write);
        if more {
            self.ready.push_back(name);
        } else {
            self.clients.remove(client_id);
        }
    }

    /// The write on its way for this client failed and has to be sent again. `parked`: not before
    /// [`unpark`](Self::unpark); otherwise it is the next. A newer one takes its place.
    pub fn failed(&mut self, client_id: &str, parked: bool) {
        let (name, client) = self.arrived(client_id);
        let sent = client.on_its_way.take().expect("it was on its way");
        if client.waiting.is_some() {
            self.entries -= 1;
            self.bytes -= cost(&sent.write);
        } else {
            client.waiting = Some(sent);
        }
        if parked {
            self.parked.push_back(name);
        } else {
            self.ready.push_front(name);
        }
    }

    /// Lets up to `limit` of the failed writes leave again; says whose.
    pub fn unpark(&mut self, limit: usize) -> Vec<Arc<str>> {
        let count = self.parked.len().min(limit);
        let leaving: Vec<_> = self.parked.drain(..count).collect();
        self.ready.extend(leaving.iter().cloned());
        leaving
    }

    /// The newest write of a client that waits or is on its way: newer than what is stored.
    pub fn newest(&self, client_id: &str) -> Option<&Numbered> {
        let client = self.clients.get(client_id)?;
        client.waiting.as_ref().or(client.on_its_way.as_ref())
    }

    /// Writes that wait or are on their way.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether nothing waits, and nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Their bytes: client ids and records.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// Writes that failed and wait for [`unpark`](Self::unpark).
    pub fn parked_len(&self) -> usize {
        self.parked.len()
    }

    fn arrived(&mut self, client_id: &str) -> (Arc<str>, &mut Client) {
        let (name, _) = self
            .clients
            .get_key_value(client_id)
            .expect("who has a write on its way is there");
        let name = Arc::clone(name);
        let client = self.clients.get_mut(client_id).expect("just seen");
        (name, client)
    }
}

fn cost(write: &Write) -> usize {
    write.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn save(client: u8, epoch: u64, len: usize) -> Write {
        Write::Save {
            client_id: client.to_string().into(),
            epoch,
            record: vec![0; len].into(),
        }
    }

    #[test]
    fn the_newest_takes_the_place_of_the_waiting_one() {
        let mut outbox = Outbox::new(10, 1_000);
        assert_eq!(outbox.offer(save(1, 1, 10)), Offered::Taken);
        assert_eq!(outbox.offer(save(2, 1, 10)), Offered::Taken);
        assert_eq!(outbox.offer(save(1, 2, 20)), Offered::Coalesced);
        assert_eq!(outbox.offer(save(1, 1, 20)), Offered::Outdated);
        assert_eq!((outbox.len(), outbox.byte_len()), (2, 32));
        let first = outbox.take_next().expect("two wait");
        assert_eq!(
            (first.write.epoch(), first.number),
            (2, 3),
            "its place stays"
        );
        assert_eq!(outbox.offer(save(1, 2, 30)), Offered::Taken);
        assert_eq!(outbox.take_next().map(|sent| sent.number), Some(2));
        assert_eq!(outbox.take_next(), None, "not while one is on its way");
        assert_eq!(outbox.newest("1").map(|newest| newest.number), Some(4));
        outbox.done("1");
        assert_eq!(outbox.take_next().map(|sent| sent.number), Some(4));
        outbox.done("1");
        outbox.done("2");
        assert_eq!((outbox.len(), outbox.byte_len()), (0, 0));
        assert!(outbox.clients.is_empty() && outbox.newest("1").is_none());
    }

    #[test]
    fn what_fails_is_sent_again_unless_there_is_a_newer_one() {
        let mut outbox = Outbox::new(10, 1_000);
        for client in 0..3 {
            outbox.offer(save(client, 1, 10));
        }
        for _ in 0..2 {
            outbox.take_next().expect("they wait");
        }
        outbox.failed("1", false);
        assert_eq!(
            outbox.take_next().map(|sent| sent.number),
            Some(2),
            "first again"
        );
        outbox.offer(save(1, 1, 10));
        outbox.failed("1", true);
        outbox.failed("0", true);
        assert_eq!((outbox.parked_len(), outbox.len()), (2, 3));
        assert_eq!(
            outbox.offer(save(0, 5, 10)),
            Offered::Coalesced,
            "parked or not"
        );
        assert_eq!(outbox.take_next().map(|sent| sent.number), Some(3));
        assert_eq!(outbox.take_next(), None);
        outbox.unpark(1);
        assert_eq!(outbox.take_next().map(|sent| sent.number), Some(4));
        outbox.unpark(usize::MAX);
        assert_eq!(outbox.take_next().map(|sent| sent.number), Some(5));
    }

    #[test]
    fn at_the_limit_new_ones_are_refused() {
        let mut outbox = Outbox::new(2, 100);
        assert_eq!(outbox.offer(save(1, 1, 10)), Offered::Taken);
        assert_eq!(outbox.offer(save(2, 1, 10)), Offered::Taken);
        assert_eq!(outbox.offer(save(3, 1, 10)), Offered::Full);
        assert_eq!(outbox.offer(save(1, 1, 80)), Offered::Coalesced);
        assert_eq!(
            outbox.offer(save(2, 1, 90)),
            Offered::Full,
            "too many bytes"
        );
        assert_eq!(
            outbox.offer(save(2, 1, 9)),
            Offered::Coalesced,
            "it shrinks"
        );
        outbox.take_next().expect("one waits");
        assert_eq!(
            outbox.offer(save(3, 1, 1)),
            Offered::Full,
            "what is on its way counts"
        );
        outbox.done("1");
        assert_eq!(outbox.offer(save(3, 1, 1)), Offered::Taken);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Offer(u8, u64),
        Next,
        Done(prop::sample::Index),
        Failed(prop::sample::Index, bool),
        Unpark(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let index = any::<prop::sample::Index>;
        let step = prop_oneof![
            4 => (0..5_u8, 0..4_u64).prop_map(|(client, epoch)| Step::Offer(client, epoch)),
            4 => Just(Step::Next),
            2 => index().prop_map(Step::Done),
            2 => (index(), any::<bool>()).prop_map(|(at, parked)| Step::Failed(at, parked)),
            1 => (0..3_usize).prop_map(Step::Unpark),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        /// Whatever fails, what each client's store has in the end is the newest that was taken.
        #[test]
        fn the_last_write_of_each_client_arrives(steps in steps()) {
            let mut outbox = Outbox::new(100, 10_000);
            let mut newest: BTreeMap<String, u64> = BTreeMap::new();
            let mut stored: BTreeMap<String, u64> = BTreeMap::new();
            let mut sent: Vec<Numbered> = Vec::new();
            for step in steps {
                match step {
                    Step::Offer(client, epoch) => match outbox.offer(save(client, epoch, 10)) {
                        Offered::Taken | Offered::Coalesced => {
                            newest.insert(client.to_string(), outbox.last_number);
                        }
                        Offered::Outdated => {}
                        Offered::Full => prop_assert!(false, "there is room"),
                    },
                    Step::Next => sent.extend(outbox.take_next()),
                    Step::Done(at) if !sent.is_empty() => {
                        let write = sent.swap_remove(at.index(sent.len()));
                        stored.insert(write.write.client_id().to_string(), write.number);
                        outbox.done(write.write.client_id());
                    }
                    Step::Failed(at, parked) if !sent.is_empty() => {
                        let write = sent.swap_remove(at.index(sent.len()));
                        outbox.failed(write.write.client_id(), parked);
                    }
                    Step::Unpark(limit) => drop(outbox.unpark(limit)),
                    Step::Done(_) | Step::Failed(..) => {}
                }
                let mut ids: Vec<_> = sent.iter().map(|sent| sent.write.client_id()).collect();
                ids.sort();
                ids.dedup();
                prop_assert_eq!(ids.len(), sent.len(), "one on its way per client");
            }
            outbox.unpark(usize::MAX);
            loop {
                for write in sent.drain(..) {
                    stored.insert(write.write.client_id().to_string(), write.number);
                    outbox.done(write.write.client_id());
                }
                match outbox.take_next() {
                    Some(write) => sent.push(write),
                    None => break,
                }
            }
            prop_assert_eq!(stored, newest);
            prop_assert_eq!((outbox.len(), outbox.byte_len(), outbox.clients.len()), (0, 0, 0));
        }
    }
}
