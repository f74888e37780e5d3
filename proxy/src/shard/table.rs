//! The connection table of a shard: slots that are used again, each use with a generation of its own.

use cluster::ids::Handle;

/// Slots per allocation: growing never moves a connection.
const CHUNK: usize = 1024;

/// Values by slot, in one table per shard. A [`Handle`] names one use of one slot and never another.
#[derive(Debug)]
pub(crate) struct Table<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: Vec<u32>,
    len: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// Values in the table.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Slots ever used; every index is below it.
    pub(crate) fn slots(&self) -> u32 {
        self.chunks.iter().map(Vec::len).sum::<usize>() as u32
    }

    /// The handle the next [`Table::insert`] will use.
    pub(crate) fn next_handle(&self) -> Handle {
        match self.free.last() {
            Some(&index) => {
                let slot = &self.chunks[index as usize / CHUNK][index as usize % CHUNK];
                Handle {
                    index,
                    generation: slot.generation,
                }
            }
            None => Handle {
                index: self.slots(),
                generation: 0,
            },
        }
    }

    /// Puts a value into the slot of [`Table::next_handle`].
    pub(crate) fn insert(&mut self, value: T) -> Handle {
        let handle = self.next_handle();
        self.len += 1;
        if self.free.pop().is_some() {
            self.slot_mut(handle.index).value = Some(value);
            return handle;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.last_mut().expect("one was just made");
        chunk.push(Slot {
            generation: 0,
            value: Some(value),
        });
        handle
    }

    /// Takes the value out; the slot's next use has another handle.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slot_mut(index);
        let value = slot.value.take()?;
        // After 2^32 uses a slot is left alone, so that no handle ever comes twice.
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(index);
        }
        self.len -= 1;
        Some(value)
    }

    /// The value in a slot, whichever use it is of.
    pub(crate) fn at(&mut self, index: u32) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(index as usize / CHUNK)?;
        chunk.get_mut(index as usize % CHUNK)?.value.as_mut()
    }

    /// The value a handle names, if it is still there.
    pub(crate) fn get(&mut self, handle: Handle) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(handle.index as usize / CHUNK)?;
        let slot = chunk.get_mut(handle.index as usize % CHUNK)?;
        if slot.generation == handle.generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// Every value, in the order of the slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let slots = self.chunks.iter().flatten();
        slots.filter_map(|slot| slot.value.as_ref())
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot<T> {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_never_names_a_second_value() {
        let mut table = Table::new();
        let expected = table.next_handle();
        let first = table.insert("first");
        assert_eq!(first, expected);
        assert_eq!(table.remove(first.index), Some("first"));
        assert_eq!(table.remove(first.index), None);
        let second = table.insert("second");
        assert_eq!(second.index, first.index);
        assert!(table.get(first).is_none());
        assert_eq!(table.get(second), Some(&mut "second"));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn chunks_follow_each_other() {
        let mut table = Table::new();
        for n in 0..3 * CHUNK as u32 {
            assert_eq!(
                table.insert(n),
                Handle {
                    index: n,
                    generation: 0
                }
            );
        }
        assert_eq!(table.slots(), 3 * CHUNK as u32);
        assert_eq!(table.at(2 * CHUNK as u32), Some(&mut (2 * CHUNK as u32)));
        assert!(table.at(3 * CHUNK as u32).is_none());
        table.remove(1);
        assert_eq!(table.iter().count(), 3 * CHUNK - 1);
        assert_eq!(table.iter().nth(1), Some(&2));
    }
}
