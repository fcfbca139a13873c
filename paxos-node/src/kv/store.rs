//! The state of the store: its records, found by key and in the order in which they were created.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};

use super::reaper;
use super::record::{KeysByCreation, Record, Records};

/// A value that is appended to gets room for a further part of its length: an eighth. It is not counted as
/// memory of the state.
const ROOM_TO_APPEND: usize = 8;

/// The state of the store. A clone shares the memory of its original, so a snapshot costs nothing up front.
///
/// Records are in a hash map: a tree in key order compares a dozen keys for each look-up, each of them
/// elsewhere in memory, and took a third of a node's time under pipelined writes.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub(super) records: Records,
    /// Keys by the revision at which they were created, for scans and snapshots: this order is the same on
    /// all nodes, and no change of a value disturbs it.
    pub(super) by_creation: KeysByCreation,
    /// The revision of the last change.
    pub(super) revision: u64,
    /// The sum of the hashes of all records.
    pub(super) records_digest: u64,
    /// The memory of all records.
    pub(super) memory_bytes: u64,
}

impl Store {
    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.records.get(key).map(|record| &record.value)
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Sets a key. It copies the bytes, which may be a small part of a large message.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        let Ok(()) = self.put_if::<Infallible>(key, value, |_| Ok(()));
    }

    /// Sets a key if `may_free`, given the length of the old value in bytes, allows it to be freed.
    pub(super) fn put_if<E>(
        &mut self,
        key: &[u8],
        value: &[u8],
        may_free: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.change(key, may_free, |old| overwritten(old, value))
    }

    /// Appends to the value of a key, an empty one if it is missing; returns the new length in bytes.
    pub(super) fn append(&mut self, key: &[u8], tail: &[u8]) -> usize {
        let mut new_bytes = 0;
        let joined = |old| {
            let value = extended(old, tail);
            new_bytes = value.len();
            value
        };
        let Ok(()) = self.change::<Infallible>(key, |_| Ok(()), joined);
        new_bytes
    }

    /// Replaces the value of a key, an empty one if it is missing, by what `new_value` makes of it, if
    /// `may_free`, given its length in bytes, allows the old one to be freed.
    fn change<E>(
        &mut self,
        key: &[u8],
        may_free: impl FnOnce(usize) -> Result<(), E>,
        new_value: impl FnOnce(Bytes) -> Bytes,
    ) -> Result<(), E> {
        let revision = self.revision + 1;
        if let Some(record) = self.records.get_mut(key) {
            may_free(record.value.len())?;
            let freed_bytes = record.value.len() as u64;
            let value = new_value(std::mem::take(&mut record.value));
            let new = Record::new(key, value, record.created, revision);
            self.records_digest = self.records_digest.wrapping_sub(record.hash).wrapping_add(new.hash);
            self.memory_bytes = self.memory_bytes - freed_bytes + new.value.len() as u64;
            *record = new;
        } else {
            let record = Record::new(key, new_value(Bytes::new()), revision, revision);
            self.insert(Bytes::copy_from_slice(key), record);
        }
        self.revision = revision;
        Ok(())
    }

    pub(super) fn insert(&mut self, key: Bytes, record: Record) {
        self.records_digest = self.records_digest.wrapping_add(record.hash);
        self.memory_bytes += record.memory_bytes(&key);
        self.by_creation.insert(record.created, key.clone());
        self.records.insert(key, record);
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let Some(record) = self.records.remove(key) else { return false };
        self.revision += 1;
        self.memory_bytes -= record.memory_bytes(key);
        self.by_creation.remove(&record.created);
        self.records_digest = self.records_digest.wrapping_sub(record.hash);
        true
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.len() > reaper::FREED_AT_ONCE {
            reaper::free(std::mem::take(&mut self.records), std::mem::take(&mut self.by_creation));
        }
    }
}

/// Copies `new`, into the memory of `old` if the lengths match and nothing else shares it. Freeing one and
/// allocating the other took 7 % of a node's rate under pipelined writes.
fn overwritten(old: Bytes, new: &[u8]) -> Bytes {
    match old.try_into_mut() {
        Ok(mut place) if place.len() == new.len() => {
            place.copy_from_slice(new);
            place.freeze()
        }
        _ => Bytes::copy_from_slice(new),
    }
}

/// Appends `tail` to `old`, in its memory if that has room and nothing else shares it. To copy a value of a
/// megabyte into new memory took ten times as long as to hash it.
fn extended(old: Bytes, tail: &[u8]) -> Bytes {
    let joined_bytes = old.len() + tail.len();
    let mut joined = match old.try_into_mut() {
        Ok(place) if place.capacity() >= joined_bytes => place,
        old => {
            let old = old.map_or_else(|shared| shared, BytesMut::freeze);
            let mut copy = BytesMut::with_capacity(joined_bytes + joined_bytes / ROOM_TO_APPEND);
            copy.extend_from_slice(&old);
            copy
        }
    };
    joined.extend_from_slice(tail);
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bytes, set};
    use super::super::{Operation, Reply};
    use super::*;

    #[test]
    fn a_value_that_somebody_looks_at_stays_when_its_key_is_set() {
        let mut store = Store::default();
        let mut seen = Vec::new();
        for text in ["one", "two", "longer", "shorts", "third", ""] {
            store.execute(&set("key", text));
            let picture = store.clone();
            let value = picture.get(b"key").cloned().expect("it has just been set");
            seen.push((text, picture, value));
            // Nobody looks at these.
            store.execute(&set("key", "between"));
            store.execute(&set("key", "BETWEEN"));
            assert_eq!(store.get(b"key"), Some(&bytes("BETWEEN")));
        }
        for (text, picture, value) in seen {
            assert_eq!((picture.get(b"key"), &value), (Some(&bytes(text)), &bytes(text)));
        }
    }
    #[test]
    fn a_value_that_somebody_looks_at_stays_when_its_key_is_appended_to() {
        let (mut store, mut whole, mut seen) = (Store::default(), String::new(), Vec::new());
        for (number, tail) in ["first ", "", "second ", "third "].into_iter().cycle().take(100).enumerate() {
            whole += tail;
            let append = Operation::append(bytes("key"), bytes(tail), u64::MAX);
            assert_eq!(
                store.execute(&append),
                Reply::Integer(i64::try_from(whole.len()).expect("it is short"))
            );
            // Every other time the store may use the memory that it has.
            if number % 2 == 0 {
                let value = store.get(b"key").cloned().expect("it has just been appended to");
                seen.push((whole.clone(), store.clone(), value));
            }
        }
        for (text, picture, value) in seen {
            assert_eq!((picture.get(b"key"), &value), (Some(&bytes(&text)), &bytes(&text)));
        }
    }
}
