//! What a simulated Redis has: records by client, as the scripts of the session store change them, and the mark. It can
//! lose the newest of it.

use crate::rng::Rng;
use session_store::limits::DELETED_S;
use session_store::{Record, seconds_to_live};
use std::collections::{BTreeMap, VecDeque};

const SECOND: u64 = 1_000_000;
/// What is older than this is not lost any more, in microseconds.
const AT_RISK_US: u64 = 10 * SECOND;

/// Who writes, and the write's number there.
pub(crate) type WriteName = (u64, u64);

#[derive(Clone, Debug)]
struct Key {
    epoch: u64,
    content: Content,
    /// Microseconds of the world.
    expires_at: Option<u64>,
}

#[derive(Clone, Debug)]
enum Content {
    Record(WriteName, Box<[u8]>),
    Deleted,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// It is in effect.
    Done,
    /// A delete found no record.
    Nothing,
    /// A later write of the same writer is there.
    Superseded,
    /// A record of this higher epoch is there, or one of this epoch was deleted.
    Newer(u64),
}

/// What was there before a change.
#[derive(Debug)]
enum Before {
    Key(String, Option<Key>),
    Mark(Option<u64>),
}

#[derive(Debug, Default)]
pub(crate) struct Data {
    keys: BTreeMap<String, Key>,
    mark: Option<u64>,
    /// The changes of the last seconds, with their times, oldest first.
    newest: VecDeque<(u64, Before)>,
}

impl Data {
    /// The script of a save.
    pub(crate) fn save(&mut self, now: u64, record: &Record, by: WriteName) -> Changed {
        if let Some(there) = self.key(now, &record.client_id) {
            let epoch = there.epoch;
            match there.content {
                _ if epoch > record.epoch => return Changed::Newer(epoch),
                Content::Deleted if epoch == record.epoch => return Changed::Newer(epoch),
                Content::Record((writer, number), _)
                    if epoch == record.epoch && writer == by.0 && number > by.1 =>
                {
                    return Changed::Superseded;
                }
                _ => {}
            }
        }
        let bytes = record.encode().expect("it was encoded before");
        let lives_s = seconds_to_live(record);
        let key = Key {
            epoch: record.epoch,
            content: Content::Record(by, bytes),
            expires_at: (lives_s > 0).then(|| now + lives_s * SECOND),
        };
        self.put(now, &record.client_id, key);
        Changed::Done
    }

    /// The script of a delete.
    pub(crate) fn delete(&mut self, now: u64, client_id: &str, highest: u64) -> Changed {
        let there = self.key(now, client_id);
        let was_there = match there {
            Some(there) if there.epoch > highest => return Changed::Newer(there.epoch),
            Some(there) => matches!(there.content, Content::Record(..)),
            None => false,
        };
        let key = Key {
            epoch: highest,
            content: Content::Deleted,
            expires_at: Some(now + DELETED_S * SECOND),
        };
        self.put(now, client_id, key);
        if was_there {
            Changed::Done
        } else {
            Changed::Nothing
        }
    }

    pub(crate) fn load(&self, now: u64, client_id: &str) -> Option<Record> {
        match &self.key(now, client_id)?.content {
            Content::Record(_, bytes) => Some(Record::decode(bytes).expect("it was encoded here")),
            Content::Deleted => None,
        }
    }

    /// The mark that is there, or this one.
    pub(crate) fn mark(&mut self, now: u64, offered: u64) -> u64 {
        if self.mark.is_none() {
            self.newest.push_back((now, Before::Mark(self.mark)));
            self.mark = Some(offered);
        }
        self.mark.unwrap_or(offered)
    }

    /// Everything is gone.
    pub(crate) fn wipe(&mut self) {
        *self = Self::default();
    }

    /// What was written after `since` is gone. How many changes that were.
    pub(crate) fn roll_back(&mut self, since: u64) -> usize {
        let mut gone = 0;
        while let Some((at, _)) = self.newest.back()
            && *at > since
        {
            let (_, before) = self.newest.pop_back().expect("just seen");
            gone += 1;
            match before {
                Before::Key(client_id, Some(key)) => drop(self.keys.insert(client_id, key)),
                Before::Key(client_id, None) => drop(self.keys.remove(&client_id)),
                Before::Mark(mark) => self.mark = mark,
            }
        }
        gone
    }

    fn key(&self, now: u64, client_id: &str) -> Option<&Key> {
        let lives = |key: &&Key| key.expires_at.is_none_or(|at| now < at);
        self.keys.get(client_id).filter(lives)
    }

    fn put(&mut self, now: u64, client_id: &str, key: Key) {
        let before = self.keys.insert(client_id.to_owned(), key);
        let before = Before::Key(client_id.to_owned(), before);
        self.newest.push_back((now, before));
        let is_safe = |(at, _): &(u64, Before)| at + AT_RISK_US < now;
        while self.newest.front().is_some_and(is_safe) {
            self.newest.pop_front();
        }
    }

    /// Somebody's hand, or a defect: a record loses one of its filters.
    pub(crate) fn damage(&mut self, now: u64, rng: &mut Rng) -> Option<String> {
        let records = self.keys.iter().filter_map(|(client_id, key)| {
            let Content::Record(by, bytes) = &key.content else {
                return None;
            };
            let record = Record::decode(bytes).expect("it was encoded here");
            (!record.filters.is_empty()).then_some((client_id.clone(), *by, record))
        });
        let records: Vec<_> = records.collect();
        if records.is_empty() {
            return None;
        }
        let (client_id, by, mut record) = rng.pick(&records).clone();
        record.filters.pop();
        let mut key = self.keys[&client_id].clone();
        key.content = Content::Record(by, record.encode().expect("shorter than before"));
        self.put(now, &client_id, key);
        Some(client_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_store::{Page, Saved, SessionStore, StoreError, conformance};
    use std::future::{Future, ready};
    use std::pin::pin;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll, Waker};

    /// A store that is nothing but the model.
    #[derive(Default)]
    struct Model {
        data: Mutex<Data>,
        writes: AtomicU64,
    }

    impl SessionStore for Model {
        fn load(
            &self,
            client_id: &str,
        ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send {
            ready(Ok(self.data.lock().expect("whole").load(0, client_id)))
        }

        fn save(&self, record: &Record) -> impl Future<Output = Result<Saved, StoreError>> + Send {
            let by = (1, self.writes.fetch_add(1, Ordering::Relaxed));
            let changed = self.data.lock().expect("whole").save(0, record, by);
            ready(Ok(match changed {
                Changed::Newer(epoch) => Saved::Newer { epoch },
                _ => Saved::Stored,
            }))
        }

        fn delete(
            &self,
            client_id: &str,
            epoch: u64,
        ) -> impl Future<Output = Result<bool, StoreError>> + Send {
            let changed = self.data.lock().expect("whole").delete(0, client_id, epoch);
            ready(Ok(changed == Changed::Done))
        }

        fn scan(&self, _: u64, _: usize) -> impl Future<Output = Result<Page, StoreError>> + Send {
            let data = self.data.lock().expect("whole");
            let records = data.keys.keys().filter_map(|id| data.load(0, id));
            let records = records.collect();
            ready(Ok(Page {
                records,
                next: None,
            }))
        }

        fn count(&self) -> impl Future<Output = Result<u64, StoreError>> + Send {
            let data = self.data.lock().expect("whole");
            let records = data.keys.keys().filter_map(|id| data.load(0, id));
            ready(Ok(records.count() as u64))
        }
    }

    #[test]
    fn the_model_keeps_the_rules_of_every_store() {
        let suite = pin!(conformance::suite(|| ready(Model::default())));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(suite.poll(&mut context), Poll::Ready(()));
    }

    #[test]
    fn what_is_lost_is_the_newest() {
        let mut data = Data::default();
        let record = |epoch| Record {
            epoch,
            ..Record::blank("a")
        };
        let epoch = |data: &Data| data.load(0, "a").map(|record| record.epoch);
        data.save(0, &record(1), (1, 1));
        data.save(SECOND, &record(2), (1, 2));
        data.delete(2 * SECOND, "a", 3);
        assert_eq!(data.save(2 * SECOND, &record(3), (1, 3)), Changed::Newer(3));
        assert_eq!((data.roll_back(SECOND), epoch(&data)), (1, Some(2)));
        assert_eq!((data.roll_back(0), epoch(&data)), (1, Some(1)));
        // A write of an earlier connection that comes late.
        data.save(SECOND, &record(1), (1, 5));
        assert_eq!(data.save(SECOND, &record(1), (1, 4)), Changed::Superseded);
        assert_eq!(data.save(SECOND, &record(1), (2, 1)), Changed::Done);
    }
}
