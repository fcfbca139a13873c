//! A key-value store: what the program `paxos-node` replicates.
//!
//! Each change gets the next *revision*: a key remembers the revisions at which it was made and last changed. A
//! command in the log is a list of [`Operation`]s, applied all at once; its response is the list of their
//! [`Reply`]s.
//!
//! Deliberately absent: expiry (it would need clocks that agree) and types other than strings.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod glob;
mod operation;
mod reply;
mod snapshot;

use bytes::{Bytes, BytesMut};
use imbl::{HashMap, OrdMap};
use paxos_core::Slot;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use operation::{Condition, MalformedCommand, Operation};
pub use reply::{MalformedResponse, Reply};

use crate::state_machine::{SnapshotWriter, StateMachine};

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const OVERFLOW: &str = "ERR increment or decrement would overflow";
const TOO_LONG: &str = "ERR the replies to these commands are too long together: ask for less at once";

/// The longest response to one command of the log, in bytes. A short command can name a long value many times
/// over, and every node builds the response, again whenever the log is replayed. So this bounds what a command
/// costs, and must be the same on all nodes: replies that would exceed it are errors instead.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// The state of the store. Cloning shares it, so a snapshot costs nothing up front.
///
/// A record is found by the hash of its key: a search in key order looks at a dozen other keys on its way, each
/// somewhere else in memory, and took a third of a node's time under pipelined writes.
#[derive(Clone, Debug, Default)]
pub struct Store {
    records: HashMap<Bytes, Record>,
    /// Keys by the revision at which they were made: an order that is the same on all nodes and that no change of a
    /// value disturbs, for scans and snapshots.
    by_creation: OrdMap<u64, Bytes>,
    /// The revision of the last change.
    revision: u64,
    /// The sum of the hashes of all records.
    records_digest: u64,
}

/// A key's value and history.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Record {
    value: Bytes,
    created: u64,
    modified: u64,
    /// Of the key and of everything above: what the record adds to the digest, and what goes when it changes.
    hash: u64,
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

    /// Answers an operation that only reads; `None` if it is one that writes.
    #[must_use]
    pub fn query(&self, operation: &Operation) -> Option<Reply> {
        Some(match operation {
            Operation::Get { key } => value_or_nil(self.get(key)),
            Operation::Exists { keys } => count(keys.iter().filter(|key| self.get(key).is_some()).count()),
            Operation::StrLen { key } => count(self.get(key).map_or(0, Bytes::len)),
            Operation::MGet { keys } => {
                Reply::Array(keys.iter().map(|key| value_or_nil(self.get(key))).collect())
            }
            Operation::DbSize => count(self.len()),
            Operation::Scan { cursor, pattern, count } => self.scan(*cursor, pattern.as_deref(), *count),
            _ => return None,
        })
    }

    /// Carries out an operation.
    pub fn execute(&mut self, operation: &Operation) -> Reply {
        if let Some(reply) = self.query(operation) {
            return reply;
        }
        match operation {
            Operation::Set { key, value, condition, returns_old } => {
                self.set(key, value, *condition, *returns_old)
            }
            Operation::SetNx { key, value } => {
                let is_new = self.get(key).is_none();
                if is_new {
                    self.put(key, value);
                }
                Reply::Integer(i64::from(is_new))
            }
            Operation::GetDel { key } => {
                let old = value_or_nil(self.get(key));
                self.remove(key);
                old
            }
            Operation::Delete { keys } => count(keys.iter().filter(|key| self.remove(key)).count()),
            Operation::Add { key, by } => self.add(key, *by),
            Operation::Append { key, value, limit_bytes } => self.append(key, value, *limit_bytes),
            Operation::MSet { pairs } => {
                for (key, value) in pairs {
                    self.put(key, value);
                }
                Reply::Ok
            }
            Operation::FlushAll => {
                *self = Store { revision: self.revision + 1, ..Store::default() };
                Reply::Ok
            }
            reading => unreachable!("{reading:?} has been answered above"),
        }
    }

    fn set(&mut self, key: &Bytes, value: &Bytes, condition: Option<Condition>, returns_old: bool) -> Reply {
        if condition.is_none() && !returns_old {
            self.put(key, value);
            return Reply::Ok;
        }
        let old = self.get(key).cloned();
        let holds = match condition {
            None => true,
            Some(Condition::IfMissing) => old.is_none(),
            Some(Condition::IfPresent) => old.is_some(),
        };
        if holds {
            self.put(key, value);
        }
        match (returns_old, holds) {
            (true, _) => value_or_nil(old.as_ref()),
            (false, true) => Reply::Ok,
            (false, false) => Reply::Nil,
        }
    }

    fn add(&mut self, key: &Bytes, by: i64) -> Reply {
        let Some(old) = self.get(key).map_or(Some(0), parse_integer) else {
            return Reply::error(NOT_AN_INTEGER);
        };
        let Some(new) = old.checked_add(by) else { return Reply::error(OVERFLOW) };
        self.put(key, new.to_string().as_bytes());
        Reply::Integer(new)
    }

    fn append(&mut self, key: &Bytes, value: &Bytes, limit_bytes: u64) -> Reply {
        let old = self.get(key).cloned().unwrap_or_default();
        if old.len() as u64 + value.len() as u64 > limit_bytes {
            return Reply::error(&format!("ERR value exceeds the limit of {limit_bytes} bytes"));
        }
        let mut joined = BytesMut::with_capacity(old.len() + value.len());
        joined.extend_from_slice(&old);
        joined.extend_from_slice(value);
        self.put(key, &joined);
        count(joined.len())
    }

    /// Up to `count` keys from the one made at revision `cursor` back to the oldest; 0 begins with the newest.
    /// Keys that are made meanwhile lie behind a scan, so that it ends however many there are.
    fn scan(&self, cursor: u64, pattern: Option<&[u8]>, count: u64) -> Reply {
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let newest = if cursor == 0 { u64::MAX } else { cursor };
        let mut from = self.by_creation.range(..=newest).rev();
        let page = from.by_ref().take(count);
        let matches = |key: &Bytes| pattern.is_none_or(|pattern| glob::matches(pattern, key));
        let keys = page.filter(|(_, key)| matches(key)).map(|(_, key)| Reply::Bulk(key.clone())).collect();
        let next = from.next().map_or(0, |(created, _)| *created);
        Reply::Array(vec![Reply::Bulk(Bytes::from(next.to_string())), Reply::Array(keys)])
    }

    /// Sets a key. The bytes are copied: they may be a small part of a large message.
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.revision += 1;
        if let Some(record) = self.records.get_mut(key) {
            let value = overwritten(std::mem::take(&mut record.value), value);
            let new = Record::new(key, value, record.created, self.revision);
            self.records_digest = self.records_digest.wrapping_sub(record.hash).wrapping_add(new.hash);
            *record = new;
        } else {
            let record = Record::new(key, Bytes::copy_from_slice(value), self.revision, self.revision);
            self.insert(Bytes::copy_from_slice(key), record);
        }
    }

    fn insert(&mut self, key: Bytes, record: Record) {
        self.records_digest = self.records_digest.wrapping_add(record.hash);
        self.by_creation.insert(record.created, key.clone());
        self.records.insert(key, record);
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some(record) = self.records.remove(key) else { return false };
        self.revision += 1;
        self.by_creation.remove(&record.created);
        self.records_digest = self.records_digest.wrapping_sub(record.hash);
        true
    }
}

impl Record {
    fn new(key: &[u8], value: Bytes, created: u64, modified: u64) -> Record {
        let hash = xxh3_64_with_seed(key, created) ^ xxh3_64_with_seed(&value, modified).rotate_left(32);
        Record { value, created, modified, hash }
    }
}

impl StateMachine for Store {
    fn apply(&mut self, _: Slot, command: &Bytes) -> Bytes {
        match operation::decode(command) {
            Ok(operations) => {
                let mut left_bytes = MAX_RESPONSE_BYTES;
                let mut execute = |operation| {
                    let reply = self.execute(operation);
                    match left_bytes.checked_sub(reply.size_bytes()) {
                        Some(left) => {
                            left_bytes = left;
                            reply
                        }
                        None => Reply::error(TOO_LONG),
                    }
                };
                let replies: Vec<Reply> = operations.iter().map(&mut execute).collect();
                reply::encode(&replies)
            }
            Err(MalformedCommand) => reply::encode(&[Reply::error("ERR malformed command in the log")]),
        }
    }

    fn snapshot(&self) -> SnapshotWriter {
        let picture = self.clone();
        Box::new(move |target| snapshot::write(&picture, target))
    }

    fn restore(&mut self, snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
        *self = snapshot::read(snapshot)?;
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.records_digest ^ xxh3_64_with_seed(&self.revision.to_le_bytes(), 0)
    }
}

/// A copy of `new`: in the place of `old` if that is as long and nobody else looks at it, as to give it back and to
/// get other memory took 7 % of a node's rate under pipelined writes.
fn overwritten(old: Bytes, new: &[u8]) -> Bytes {
    match old.try_into_mut() {
        Ok(mut place) if place.len() == new.len() => {
            place.copy_from_slice(new);
            place.freeze()
        }
        _ => Bytes::copy_from_slice(new),
    }
}

fn value_or_nil(value: Option<&Bytes>) -> Reply {
    value.map_or(Reply::Nil, |value| Reply::Bulk(value.clone()))
}

fn count(count: usize) -> Reply {
    Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// An integer exactly as it would be written: no sign but a minus, no leading zeros, no spaces.
pub(crate) fn parse_integer(text: &Bytes) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == &text[..]).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn set(key: &str, value: &str) -> Operation {
        Operation::Set { key: bytes(key), value: bytes(value), condition: None, returns_old: false }
    }

    fn scan(store: &Store, cursor: u64, count: u64) -> (u64, Vec<String>) {
        let Some(Reply::Array(parts)) = store.query(&Operation::Scan { cursor, pattern: None, count }) else {
            panic!("a scan answers with an array");
        };
        let [Reply::Bulk(next), Reply::Array(keys)] = &parts[..] else { panic!("of two parts") };
        let text = |reply: &Reply| match reply {
            Reply::Bulk(key) => String::from_utf8_lossy(key).into_owned(),
            other => panic!("a key, not {other:?}"),
        };
        (String::from_utf8_lossy(next).parse().expect("a number"), keys.iter().map(text).collect())
    }

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
    fn a_scan_returns_every_key_that_stays_whatever_else_changes() {
        let mut store = Store::default();
        for number in 0..100 {
            store.execute(&set(&format!("stays {number}"), "x"));
            store.execute(&set(&format!("goes {number}"), "x"));
        }
        let (mut cursor, mut seen) = (0, std::collections::BTreeSet::new());
        for round in 0.. {
            let (next, keys) = scan(&store, cursor, 7);
            seen.extend(keys);
            store.execute(&Operation::Delete { keys: vec![bytes(&format!("goes {round}"))] });
            store.execute(&set(&format!("stays {round}"), "changed"));
            if next == 0 {
                break;
            }
            cursor = next;
        }
        assert!((0..100).all(|number| seen.contains(&format!("stays {number}"))));
    }

    #[test]
    fn a_scan_ends_though_keys_come_faster_than_it_goes() {
        let mut store = Store::default();
        (0..50).for_each(|number| drop(store.execute(&set(&format!("old {number}"), "x"))));
        let (mut cursor, mut pages) = (0, 0);
        loop {
            let (next, keys) = scan(&store, cursor, 5);
            assert!(keys.iter().all(|key| key.starts_with("old")), "only what was there: {keys:?}");
            (0..10).for_each(|number| drop(store.execute(&set(&format!("new {pages} {number}"), "x"))));
            pages += 1;
            if next == 0 {
                break;
            }
            cursor = next;
        }
        assert_eq!(pages, 10);
    }

    #[test]
    fn a_short_command_can_not_ask_for_a_response_without_end() {
        let mut store = Store::default();
        store.execute(&set("k", &"x".repeat(1 << 20)));
        let many = Operation::MGet { keys: vec![bytes("k"); 60_000] };
        let count = Operation::StrLen { key: bytes("k") };
        let few = Operation::MGet { keys: vec![bytes("k"); 40] };
        let command = Operation::command(&[many, few.clone(), few, count]);
        let response = store.apply(Slot(1), &command);
        assert!(response.len() <= MAX_RESPONSE_BYTES);
        let replies = Reply::decode_all(response).expect("well formed");
        assert_eq!(replies[0], Reply::error(TOO_LONG));
        assert!(matches!(&replies[1], Reply::Array(values) if values.len() == 40));
        assert_eq!(replies[2..], [Reply::error(TOO_LONG), Reply::Integer(1 << 20)]);
    }

    #[test]
    fn only_exact_integers_count() {
        let accepted = ["0", "-1", "9223372036854775807", "-9223372036854775808"];
        let refused = ["", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808", "x"];
        assert!(accepted.iter().all(|text| parse_integer(&bytes(text)).is_some()));
        assert!(refused.iter().all(|text| parse_integer(&bytes(text)).is_none()));
    }

    #[test]
    fn equal_histories_have_equal_digests_and_others_have_not() {
        let (mut one, mut two) = (Store::default(), Store::default());
        one.execute(&set("a", "1"));
        two.execute(&set("a", "1"));
        assert_eq!(one.digest(), two.digest());
        two.execute(&set("b", "1"));
        two.execute(&Operation::Delete { keys: vec![bytes("b")] });
        assert_ne!(one.digest(), two.digest(), "the revision differs");
    }

    proptest! {
        #[test]
        fn a_snapshot_is_the_state(pairs in prop::collection::vec(("[a-f]{0,3}", "[a-z]{0,20}", 0..3u8), 0..60)) {
            let mut store = Store::default();
            for (key, value, kind) in pairs {
                store.execute(&match kind {
                    0 => Operation::Delete { keys: vec![bytes(&key)] },
                    _ => set(&key, &value),
                });
            }
            let mut image = Vec::new();
            store.snapshot()(&mut image).expect("memory takes everything");
            let mut restored = Store::default();
            restored.restore(&mut &image[..]).expect("the image is whole");
            prop_assert_eq!(restored.digest(), store.digest());
            prop_assert_eq!(&restored.records, &store.records);
            prop_assert_eq!(&restored.by_creation, &store.by_creation);
            for length in 0..image.len() {
                let cut = Store::default().restore(&mut &image[..length]);
                let kind = cut.map_err(|error| error.kind());
                prop_assert_eq!(kind, Err(std::io::ErrorKind::InvalidData), "cut to {}", length);
            }
        }
    }
}
