//! The state of the store: its records, found by key and in the order in which they were created.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use paxos_core::Time;

use super::creation::ByCreation;
use super::deadlines::Deadlines;
use super::feed::{Event, Feed};
use super::picture::{Picture, Pictures};
use super::reaper;
use super::records::{Hash, History, Record, Records, hash_of, memory_of};
use super::removals::Removals;
use crate::lock::lock;

/// What an event says of a key until its [operation](super::Operation) has given it a name.
pub(super) const CHANGED: &str = "set";
pub(super) const REMOVED: &str = "del";
pub(super) const EXPIRED: &str = "expired";

/// Revisions are lower than this, with room for all that are still to come.
#[cfg(all(feature = "server", feature = "file"))]
const MAX_REVISION: u64 = 1 << 62;

/// The state of the store.
#[derive(Default)]
pub struct Store {
    /// Shared with pictures, which only read.
    pub(super) records: Arc<Records>,
    /// Keys by the revision at which they were created, for scans: this order is the same on all nodes.
    pub(super) by_creation: ByCreation,
    /// When keys were removed.
    pub(super) removals: Removals,
    /// The keys that expire, by deadline.
    pub(super) deadlines: Deadlines,
    /// For whom records are kept when they are changed.
    pictures: Mutex<Pictures>,
    len: usize,
    /// The revision of the last change.
    pub(super) revision: u64,
    /// The time of the last command: what has expired by then is missing, though it may take memory still.
    pub(super) time: Time,
    /// The sum of the hashes of all records.
    pub(super) records_digest: u64,
    /// The memory of all records.
    pub(super) memory_bytes: u64,
    pub(super) feed: Arc<Feed>,
    /// What the command that is applied has done so far, if somebody listens.
    pub(super) noted: Option<Vec<Event>>,
}

/// What becomes of the value of a key.
#[derive(Clone, Copy)]
enum Change<'a> {
    /// It is replaced by this.
    Put(&'a [u8]),
    /// This is appended to it, or to an empty one.
    Append(&'a [u8]),
}

/// What becomes of the deadline of a key that is changed.
#[derive(Clone, Copy)]
pub(super) enum NewDeadline {
    /// It stays, and a key that was missing has none.
    Kept,
    /// It is replaced by this, or removed.
    Set(Option<Time>),
}

impl Store {
    /// An empty store whose events go to this feed.
    pub(super) fn of(feed: Arc<Feed>) -> Store {
        let mut store = Store::default();
        store.feed = feed;
        store
    }

    /// How many keys there are. Some may have expired and not been removed yet, for some milliseconds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many of the keys have a deadline.
    #[must_use]
    pub fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key, unless it had expired by the time of the last command. A short one is copied, a
    /// long one shared.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.now().get(key)
    }

    /// The time of the last command that was applied.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Raises the revision, so that no change gets one that this store may have given elsewhere. What was
    /// removed until then counts as unknown: every watch of a missing key that is older finds it changed.
    /// `false` if there are no such revisions.
    #[cfg(all(feature = "server", feature = "file"))]
    #[must_use]
    pub(crate) fn raise_revision(&mut self, by: u64) -> bool {
        let raised = self.revision.checked_add(by).filter(|revision| *revision < MAX_REVISION);
        if let Some(revision) = raised {
            self.revision = revision;
            self.removals = Removals::unknown_through(revision);
        }
        raised.is_some()
    }

    /// A picture of the present state. It is taken at once, and costs memory only for what is changed while
    /// it lives.
    #[must_use]
    pub fn picture(&self) -> Picture {
        let pictures = &mut lock(&self.pictures);
        let moment = (self.revision, self.time);
        Picture::new(&self.records, moment, self.len, self.records_digest, pictures)
    }

    /// The length of the value that a key has, or had until it expired: to free it takes work.
    pub(super) fn stored_bytes(&self, key: &[u8]) -> Option<usize> {
        self.records.look(key, |record| record.map(|record| record.value.len()))
    }

    /// The events of this store. They stay the same for as long as it lives, whatever state it is given.
    #[must_use]
    pub fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.feed)
    }

    /// Notes what was done, for those who listen.
    pub(super) fn note(&mut self, event: impl FnOnce() -> Event) {
        if let Some(noted) = &mut self.noted {
            noted.push(event());
        }
    }

    /// Removes all keys. No revision is given twice: they are fencing numbers.
    pub(super) fn clear(&mut self) {
        let revision = self.revision + 1;
        if !self.is_empty() {
            let mut empty = Store::of(self.feed());
            empty.removals = Removals::unknown_through(revision);
            empty.time = self.time;
            empty.noted = self.noted.take();
            *self = empty;
            self.note(|| Event::Cleared);
        }
        self.revision = revision;
    }

    /// Loads the records of these keys into the processor's caches, unless there are pictures.
    pub(super) fn warm(&mut self, hashes: &(impl Iterator<Item = Hash> + Clone)) {
        if let Some(records) = Arc::get_mut(&mut self.records) {
            records.warm(hashes);
        }
    }

    /// Whether there are pictures, so that a change may have to wait until a part of one is copied.
    pub(super) fn has_pictures(&self) -> bool {
        !lock(&self.pictures).is_empty()
    }

    /// Sets a key. It copies the bytes, which may be a small part of a large message.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], deadline: NewDeadline) {
        let key = (self.records.hasher().hash(key), key);
        let Ok(_) = self.change::<Infallible>(key, |_| Ok(()), Change::Put(value), deadline);
    }

    /// Sets a key if `may_free`, given the length of the old value in bytes, allows it to be freed.
    pub(super) fn put_if<E>(
        &mut self,
        key: (Hash, &[u8]),
        value: &[u8],
        may_free: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.change(key, may_free, Change::Put(value), NewDeadline::Set(None)).map(drop)
    }

    /// Appends to the value of a key, an empty one if it is missing; returns the new length in bytes.
    pub(super) fn append(&mut self, key: &[u8], tail: &[u8]) -> usize {
        let key = (self.records.hasher().hash(key), key);
        let Ok(new_bytes) =
            self.change::<Infallible>(key, |_| Ok(()), Change::Append(tail), NewDeadline::Kept);
        new_bytes
    }

    /// Changes the value of a key, if `may_free`, given its length in bytes, allows the old one to be freed;
    /// returns its new length. A key that has expired is removed first, and then created anew.
    fn change<E>(
        &mut self,
        (hash, key): (Hash, &[u8]),
        may_free: impl FnOnce(usize) -> Result<(), E>,
        change: Change<'_>,
        deadline: NewDeadline,
    ) -> Result<usize, E> {
        let (Change::Put(new) | Change::Append(new)) = change;
        let revision = self.revision + 1;
        let hasher = self.records.hasher();
        let mut stripe = self.records.write(hash.stripe());
        let Some(at) = stripe.find(hash, key) else {
            let deadline = if let NewDeadline::Set(deadline) = deadline { deadline } else { None };
            let history = History { created: revision, modified: revision, deadline };
            stripe.add(hasher, hash, history, key, new);
            drop(stripe);
            let is_new = self.by_creation.insert(revision, hash);
            assert!(is_new, "each change has a revision of its own");
            self.count_new(history, key, new);
            self.revision = revision;
            self.note(|| changed(key));
            return Ok(new.len());
        };
        let old = stripe.record(at);
        let (old_bytes, old_hash, history) = (old.value.len(), old.hash(), old.history());
        may_free(old_bytes)?;
        if old.is_expired(self.time) {
            drop(stripe);
            self.remove(key);
            return self.change((hash, key), allow::<E>, change, deadline);
        }
        keep(&mut self.pictures, |pictures| pictures.keep(hash, old));
        let (new_bytes, new_hash, deadline) = match change {
            Change::Put(value) => {
                let deadline =
                    if let NewDeadline::Set(deadline) = deadline { deadline } else { history.deadline };
                let new_hash = hash_of(History { modified: revision, deadline, ..history }, key, value);
                stripe.overwrite(hasher, at, (revision, deadline), value);
                (value.len(), new_hash, deadline)
            }
            Change::Append(tail) => {
                let look = |record: Record<'_>| (record.value.len(), record.hash(), record.deadline);
                stripe.append(hasher, at, revision, tail, look)
            }
        };
        drop(stripe);
        self.records_digest = self.records_digest.wrapping_sub(old_hash).wrapping_add(new_hash);
        let memory = |bytes, deadline: Option<Time>| memory_of(key.len(), bytes, deadline.is_some());
        self.memory_bytes =
            self.memory_bytes - memory(old_bytes, history.deadline) + memory(new_bytes, deadline);
        self.move_deadline(history, deadline);
        self.revision = revision;
        self.note(|| changed(key));
        Ok(new_bytes)
    }

    /// Changes when a key expires. Nothing is changed if it is missing.
    pub(super) fn set_deadline(&mut self, key: &[u8], deadline: Option<Time>) {
        let revision = self.revision + 1;
        let hasher = self.records.hasher();
        let hash = hasher.hash(key);
        let mut stripe = self.records.write(hash.stripe());
        let Some(at) = stripe.find(hash, key) else { return };
        let old = stripe.record(at);
        let (old_hash, old_memory, history) = (old.hash(), old.memory_bytes(), old.history());
        let value_bytes = old.value.len();
        let new_hash =
            hash_of(History { modified: revision, deadline, ..history }, key, old.value.as_bytes());
        keep(&mut self.pictures, |pictures| pictures.keep(hash, old));
        stripe.set_deadline(hasher, at, revision, deadline);
        drop(stripe);
        self.records_digest = self.records_digest.wrapping_sub(old_hash).wrapping_add(new_hash);
        let new_memory = memory_of(key.len(), value_bytes, deadline.is_some());
        self.memory_bytes = self.memory_bytes - old_memory + new_memory;
        self.move_deadline(history, deadline);
        self.revision = revision;
        self.note_deadline(key, deadline.is_some());
    }

    /// Notes that a key was given a deadline, or has lost it.
    pub(super) fn note_deadline(&mut self, key: &[u8], expires: bool) {
        let what = if expires { "expire" } else { "persist" };
        self.note(|| Event::Changed { key: Bytes::copy_from_slice(key), what });
    }

    /// The deadline of a record has changed.
    fn move_deadline(&mut self, before: History, deadline: Option<Time>) {
        if before.deadline == deadline {
            return;
        }
        if let Some(before_deadline) = before.deadline {
            self.deadlines.remove(before_deadline, before.created);
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert(deadline, before.created);
        }
    }

    fn count_new(&mut self, history: History, key: &[u8], value: &[u8]) {
        self.len += 1;
        self.records_digest = self.records_digest.wrapping_add(hash_of(history, key, value));
        self.memory_bytes += memory_of(key.len(), value.len(), history.deadline.is_some());
        if let Some(deadline) = history.deadline {
            self.deadlines.insert(deadline, history.created);
        }
    }

    /// Adds a record of a snapshot as it is, but not to the order of creation, and returns its hash. `None`
    /// if the key is there already.
    pub(super) fn restore_record(&mut self, record: Record<'_>) -> Option<Hash> {
        let (history, Record { key, value, .. }) = (record.history(), record);
        let hasher = self.records.hasher();
        let hash = hasher.hash(key);
        let mut stripe = self.records.write(hash.stripe());
        if stripe.find(hash, key).is_some() {
            return None;
        }
        stripe.add(hasher, hash, history, key, value.as_bytes());
        drop(stripe);
        self.count_new(history, key, value.as_bytes());
        Some(hash)
    }

    /// Forgets everything. The memory of the records stays for those that are
    /// [restored](Store::restore_record) next, until [`free_unused`](Store::free_unused): a second state
    /// would need as much again, and what one thread has allocated is no room for another thread once it is
    /// freed.
    pub(super) fn begin_anew(&mut self) {
        let mut old = std::mem::take(self);
        // A picture needs the records that it shares.
        if let Some(records) = Arc::get_mut(&mut old.records) {
            records.clear();
            std::mem::swap(&mut self.records, &mut old.records);
        }
    }

    /// Frees what [`begin_anew`](Store::begin_anew) left and nothing has used since.
    pub(super) fn free_unused(&mut self) {
        if let Some(records) = Arc::get_mut(&mut self.records) {
            records.free_unused();
        }
        self.deadlines.pack();
    }

    /// Removes a key, even if it has expired; `false` if it is not there, or has expired.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let hasher = self.records.hasher();
        let hash = hasher.hash(key);
        let mut stripe = self.records.write(hash.stripe());
        let Some(at) = stripe.find(hash, key) else { return false };
        let record = stripe.record(at);
        let (was_there, created) = (!record.is_expired(self.time), record.created);
        keep(&mut self.pictures, |pictures| pictures.keep(hash, record));
        self.len -= 1;
        self.memory_bytes -= record.memory_bytes();
        self.records_digest = self.records_digest.wrapping_sub(record.hash());
        self.by_creation.remove(record.created);
        if let Some(deadline) = record.deadline {
            self.deadlines.remove(deadline, record.created);
        }
        stripe.remove(hasher, at);
        drop(stripe);
        self.revision += 1;
        self.note_removal(key, was_there, created);
        was_there
    }

    /// Removes the key that expired first, if `may_free`, given the length of its value in bytes, allows it
    /// to be freed. Returns whether there was one.
    pub(super) fn remove_expired<E>(
        &mut self,
        may_free: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some((deadline, created)) = self.deadlines.first_due(self.time) else { return Ok(false) };
        let hasher = self.records.hasher();
        let hash = self.by_creation.hash_of(created).expect("every key has its place in order of creation");
        let mut stripe = self.records.write(hash.stripe());
        let at = stripe.find_created(hash, created).expect("every key with a deadline has a record");
        let record = stripe.record(at);
        may_free(record.value.len())?;
        keep(&mut self.pictures, |pictures| pictures.keep(hash, record));
        let key = Bytes::copy_from_slice(record.key);
        self.len -= 1;
        self.memory_bytes -= record.memory_bytes();
        self.records_digest = self.records_digest.wrapping_sub(record.hash());
        self.by_creation.remove(created);
        self.deadlines.remove(deadline, created);
        stripe.remove(hasher, at);
        drop(stripe);
        self.revision += 1;
        self.note_removal(&key, false, created);
        Ok(true)
    }

    /// Notes that a key was removed. One that had expired was missing for whoever has looked since, so it
    /// counts as changed only for those who found it missing before it was created.
    fn note_removal(&mut self, key: &[u8], was_there: bool, created: u64) {
        self.removals.note(key, if was_there { self.revision } else { created });
        let what = if was_there { REMOVED } else { EXPIRED };
        self.note(|| Event::Changed { key: Bytes::copy_from_slice(key), what });
    }
}

fn changed(key: &[u8]) -> Event {
    Event::Changed { key: Bytes::copy_from_slice(key), what: CHANGED }
}

/// For a key that is there no more.
#[expect(clippy::unnecessary_wraps, reason = "it stands where others may refuse")]
fn allow<E>(_: usize) -> Result<(), E> {
    Ok(())
}

fn keep(pictures: &mut Mutex<Pictures>, keep: impl FnOnce(&mut Pictures)) {
    let pictures = pictures.get_mut().unwrap_or_else(PoisonError::into_inner);
    if !pictures.is_empty() {
        keep(pictures);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.len > reaper::FREED_AT_ONCE {
            let orders = (std::mem::take(&mut self.by_creation), std::mem::take(&mut self.deadlines));
            reaper::free(std::mem::take(&mut self.records), orders);
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Store");
        shown.field("len", &self.len).field("revision", &self.revision).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bytes, set};
    use super::super::{Operation, Reply};
    use super::*;

    #[test]
    fn a_value_that_somebody_looks_at_stays_when_its_key_is_set() {
        let long = "long ".repeat(1_000);
        let other_long = "other".repeat(1_000);
        let mut store = Store::default();
        let mut seen = Vec::new();
        for text in ["one", "two", &long, "longer", &other_long, &long, "shorts", "third", ""] {
            store.execute(&set("key", text));
            let picture = store.picture();
            let value = picture.get(b"key").expect("it has just been set");
            seen.push((text, picture, value));
            // Nobody looks at these.
            store.execute(&set("key", "between"));
            store.execute(&set("key", "BETWEEN"));
            assert_eq!(store.get(b"key"), Some(bytes("BETWEEN")));
        }
        for (text, picture, value) in seen {
            assert_eq!((picture.get(b"key"), &value), (Some(bytes(text)), &bytes(text)));
        }
    }
    #[test]
    fn a_value_that_somebody_looks_at_stays_when_its_key_is_appended_to() {
        let (mut store, mut whole, mut seen) = (Store::default(), String::new(), Vec::new());
        for (number, tail) in ["first ", "", "second ", "third "].into_iter().cycle().take(200).enumerate() {
            whole += tail;
            let append = Operation::append(bytes("key"), bytes(tail), u64::MAX);
            assert_eq!(
                store.execute(&append),
                Reply::Integer(i64::try_from(whole.len()).expect("it is short"))
            );
            // Every other time the store may use the memory that it has.
            if number % 2 == 0 {
                let value = store.get(b"key").expect("it has just been appended to");
                seen.push((whole.clone(), store.picture(), value));
            }
        }
        for (text, picture, value) in seen {
            assert_eq!((picture.get(b"key"), &value), (Some(bytes(&text)), &bytes(&text)));
        }
    }
}
