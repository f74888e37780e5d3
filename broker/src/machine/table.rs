//! A table of numbered places, and what it held at one moment.
//!
//! Numbers of what is gone are reused, the last one first. A snapshot needs the table as it was at one moment, and
//! takes longer than a moment to write: so a place that changes before it was written leaves what it held, already
//! as it is to be written. That is bounded by what changes meanwhile; the table is never there twice.

use super::snapshot::put::put_u32;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a table's places hold.
pub(super) trait Placed: Sized {
    /// Appends a place as a snapshot has it, in use or free.
    fn put(place: Option<&Self>, out: &mut Vec<u8>);
}

/// Things by number.
#[derive(Debug)]
pub(super) struct Table<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    cut: Cut,
}

/// What is still to be written of a table as it was at one moment.
#[derive(Debug, Default)]
struct Cut {
    /// How many places there were, until that is written.
    places: Option<u32>,
    /// Places that are not written yet.
    rest: Range<u32>,
    /// What those of them held that have changed since.
    before: BTreeMap<u32, Box<[u8]>>,
    before_bytes: usize,
    /// How many places were free, until that is written.
    free_len: Option<u32>,
    /// Free numbers that are not written yet.
    free: std::vec::IntoIter<u32>,
}

/// Memory that each of those takes besides, about.
const BEFORE_BYTES: usize = 48;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            cut: Cut::default(),
        }
    }
}

impl<T: Placed> Table<T> {
    /// Places in use.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Places in use or free.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(number as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.keep(number);
        self.places.get_mut(number as usize)?.as_mut()
    }

    /// Takes a thing in and gives it its number.
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        });
        self.keep(number);
        self.places[number as usize] = Some(thing);
        number
    }

    /// Takes a thing out; its number is free then.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        self.keep(number);
        let thing = self.places.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    /// In the order of the numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = (0..).zip(&self.places);
        numbered.filter_map(|(number, place)| Some((number, place.as_ref()?)))
    }

    /// Builds the table from its places and the free ones in the order in which they became so; `None` if they
    /// contradict each other.
    pub(super) fn from_parts(places: Vec<Option<T>>, free: Vec<u32>) -> Option<Self> {
        let unused = places.iter().filter(|place| place.is_none()).count();
        let mut seen = vec![false; places.len()];
        let is_free = |n: &u32| matches!(places.get(*n as usize), Some(None));
        let fits = free.len() == unused
            && free
                .iter()
                .all(|n| is_free(n) && !std::mem::replace(&mut seen[*n as usize], true));
        fits.then(|| Self {
            places,
            free,
            cut: Cut::default(),
        })
    }

    /// From here on [`Table::put_cut`] writes the table as it is now.
    pub(super) fn cut(&mut self) {
        let places = self.places.len() as u32;
        self.cut = Cut {
            places: Some(places),
            rest: 0..places,
            free_len: Some(self.free.len() as u32),
            free: self.free.clone().into_iter(),
            ..Cut::default()
        };
    }

    /// Nobody writes the rest of the cut.
    pub(super) fn end_cut(&mut self) {
        self.cut = Cut::default();
    }

    /// Appends places of the cut until `out` has `full` bytes, and the free numbers behind the last one. Whether
    /// that was all.
    pub(super) fn put_cut(&mut self, out: &mut Vec<u8>, full: usize) -> bool {
        let Self { places, cut, .. } = self;
        if let Some(places) = cut.places.take() {
            put_u32(places, out);
        }
        while out.len() < full {
            let Some(number) = cut.rest.next() else {
                return cut.put_free(out, full);
            };
            match cut.before.remove(&number) {
                Some(before) => {
                    cut.before_bytes -= before.len() + BEFORE_BYTES;
                    out.extend_from_slice(&before);
                }
                None => T::put(places[number as usize].as_ref(), out),
            }
        }
        false
    }

    /// Memory for what changed places held at the cut, in bytes.
    pub(super) fn cut_bytes(&self) -> usize {
        self.cut.before_bytes
    }

    /// The place may change now.
    fn keep(&mut self, number: u32) {
        if self.cut.rest.contains(&number) {
            self.keep_before(number);
        }
    }

    #[cold]
    fn keep_before(&mut self, number: u32) {
        let Self { places, cut, .. } = self;
        cut.before.entry(number).or_insert_with(|| {
            let mut before = Vec::new();
            T::put(places[number as usize].as_ref(), &mut before);
            cut.before_bytes += before.len() + BEFORE_BYTES;
            before.into()
        });
    }
}

impl Cut {
    fn put_free(&mut self, out: &mut Vec<u8>, full: usize) -> bool {
        if let Some(len) = self.free_len.take() {
            put_u32(len, out);
        }
        while out.len() < full {
            let Some(number) = self.free.next() else {
                // Its memory is not kept until the next one.
                self.free = Vec::new().into_iter();
                return true;
            };
            put_u32(number, out);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Placed for u16 {
        fn put(place: Option<&Self>, out: &mut Vec<u8>) {
            out.push(u8::from(place.is_some()));
            out.extend(place.into_iter().flat_map(|thing| thing.to_le_bytes()));
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u16),
        Change(u32, u16),
        Remove(u32),
        Slice(usize),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            3 => any::<u16>().prop_map(Op::Insert),
            1 => (0..20_u32, any::<u16>()).prop_map(|(number, thing)| Op::Change(number, thing)),
            2 => (0..20_u32).prop_map(Op::Remove),
            1 => (0..12_usize).prop_map(Op::Slice),
        ];
        prop::collection::vec(op, 0..40)
    }

    /// Whether the cut was written to its end.
    fn run(table: &mut Table<u16>, ops: &[Op], out: &mut Vec<u8>) -> bool {
        for op in ops {
            match *op {
                Op::Insert(thing) => {
                    table.insert(thing);
                }
                Op::Change(number, thing) => {
                    if let Some(place) = table.get_mut(number) {
                        *place = thing;
                    }
                }
                Op::Remove(number) => {
                    table.remove(number);
                }
                Op::Slice(bytes) => {
                    if table.put_cut(out, out.len() + bytes) {
                        return true;
                    }
                }
            }
        }
        false
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_cut_is_what_the_table_was(before in ops(), after in ops()) {
            let mut table = Table::default();
            table.cut();
            run(&mut table, &before, &mut Vec::new());
            table.cut();
            let mut at_once = Vec::new();
            prop_assert!(table.put_cut(&mut at_once, usize::MAX));
            table.cut();
            let mut written = Vec::new();
            if !run(&mut table, &after, &mut written) {
                prop_assert!(table.put_cut(&mut written, usize::MAX));
            }
            prop_assert_eq!(written, at_once);
            prop_assert_eq!(table.cut_bytes(), 0);
        }
    }
}
