//! Operations on whole keys that take more than a few lines: to rename, copy, list and describe them.

use bytes::Bytes;
use paxos_core::Time;

use super::execute::{count, parse_integer};
use super::glob::Pattern;
use super::operation::Property;
use super::records::Value;
use super::store::NewDeadline;
use super::view::View;
use super::work::{self, CHANGE, LOOKUP, NEXT_KEY, REMOVAL, TooMuch, Work};
use super::{Reply, Store};

const NO_SUCH_KEY: &str = "ERR no such key";
const SAME_KEY: &str = "ERR source and destination objects are the same";
const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
     when switching between policies at runtime LRU and LFU data will take some time to adjust.";
const NO_IDLE_TIME: &str =
    "ERR idle time not tracked: reads do not go through the log, so no node knows of all of them";
/// The longest value that Redis holds in one piece with its head.
const MAX_EMBEDDED_BYTES: usize = 44;

impl Store {
    pub(super) fn rename(
        &mut self,
        from: &[u8],
        to: &[u8],
        only_if_missing: bool,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        let [bytes, replaced] = [from, to].map(|key| self.stored_bytes(key).unwrap_or(0));
        let moved = work::copied(bytes) + work::freed(bytes);
        work.take_for_one_key(work::operation(1, CHANGE + REMOVAL) + moved + work::freed(replaced))?;
        let Some((value, deadline)) = self.now().value_and_deadline(from) else {
            return Ok(Reply::error(NO_SUCH_KEY));
        };
        let may_set = from != to && !(only_if_missing && self.now().has(to));
        if may_set {
            self.remove(from);
            self.put(to, &value, NewDeadline::Set(deadline));
        }
        Ok(if only_if_missing { Reply::Integer(i64::from(may_set)) } else { Reply::Ok })
    }

    pub(super) fn copy(
        &mut self,
        from: &[u8],
        to: &[u8],
        replaces: bool,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        let [copied, freed] = [from, to].map(|key| self.stored_bytes(key).unwrap_or(0));
        let moved = work::copied(copied) + work::freed(freed);
        work.take_for_one_key(work::operation(2, CHANGE) + moved)?;
        if from == to {
            return Ok(Reply::error(SAME_KEY));
        }
        let copied = self.now().value_and_deadline(from).filter(|_| replaces || !self.now().has(to));
        if let Some((value, deadline)) = &copied {
            self.put(to, value, NewDeadline::Set(*deadline));
        }
        Ok(Reply::Integer(i64::from(copied.is_some())))
    }
}

impl View<'_> {
    /// The value of a key, and when it expires, if it does.
    fn value_and_deadline(&self, key: &[u8]) -> Option<(Bytes, Option<Time>)> {
        self.look_at(key, |record| record.map(|record| (record.value.to_bytes(), record.deadline)))
    }

    /// The key that was created last at or before a revision that the seed chooses, or, if all of these have
    /// expired, last of all.
    pub(super) fn random_key(&self, seed: u64, work: &mut Work) -> Result<Reply, TooMuch> {
        work.take(work::operation(1, LOOKUP + NEXT_KEY))?;
        let by_creation = &self.store.by_creation;
        let newest = by_creation.newest_first(0..=u64::MAX).next();
        let Some(((newest, _), oldest)) = newest.zip(by_creation.oldest()) else {
            return Ok(Reply::Nil);
        };
        let chosen = oldest + seed % (newest - oldest + 1);
        let others = by_creation.newest_first(chosen + 1..=u64::MAX);
        for (created, hash) in by_creation.newest_first(0..=chosen).chain(others) {
            let found = self.store.records.look_created(hash, created, |record| {
                let record = record.expect("every key has a record");
                self.shows(&record).then(|| Reply::Bulk(Bytes::copy_from_slice(record.key)))
            });
            if let Some(key) = found {
                return Ok(key);
            }
            work.take(NEXT_KEY)?;
        }
        Ok(Reply::Nil)
    }

    pub(super) fn keys(&self, pattern: &[u8], work: &mut Work) -> Result<Reply, TooMuch> {
        work.take(work::operation(1, LOOKUP) + Pattern::parse_work(pattern))?;
        let pattern = Pattern::new(pattern);
        let mut keys = Vec::new();
        for (created, hash) in self.store.by_creation.newest_first(0..=u64::MAX) {
            self.store.records.look_created(hash, created, |record| {
                let record = record.expect("every key has a record");
                let key = record.key;
                let units = NEXT_KEY + work::answered(key.len());
                work.take(units.saturating_add(pattern.work(key.len())))?;
                if pattern.matches(key) && self.shows(&record) {
                    keys.push(Reply::Bulk(Bytes::copy_from_slice(key)));
                }
                Ok(())
            })?;
        }
        Ok(Reply::Array(keys))
    }

    pub(super) fn object(&self, key: &[u8], property: Property, work: &mut Work) -> Result<Reply, TooMuch> {
        work.take(work::operation(1, LOOKUP))?;
        Ok(self.look_at(key, |record| {
            let Some(record) = record else { return Reply::Nil };
            match property {
                Property::Encoding => Reply::Bulk(Bytes::from_static(encoding(record.value).as_bytes())),
                Property::Frequency => Reply::error(NO_FREQUENCY),
                Property::IdleTime => Reply::error(NO_IDLE_TIME),
                Property::References => Reply::Integer(1),
                Property::MemoryBytes => count(usize::try_from(record.memory_bytes()).unwrap_or(usize::MAX)),
            }
        }))
    }
}

/// How a Redis would hold a value that was set as a whole.
fn encoding(value: Value<'_>) -> &'static str {
    if parse_integer(value.as_bytes()).is_some() {
        "int"
    } else if value.len() <= MAX_EMBEDDED_BYTES {
        "embstr"
    } else {
        "raw"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Operation;
    use super::super::testing::{bytes, set};
    use super::*;

    fn rename(from: &str, to: &str, only_if_missing: bool) -> Operation {
        Operation::Rename { from: bytes(from), to: bytes(to), only_if_missing }
    }

    fn copy(from: &str, to: &str, replaces: bool) -> Operation {
        Operation::Copy { from: bytes(from), to: bytes(to), replaces }
    }

    #[test]
    fn a_key_is_renamed_with_its_value() {
        let mut store = Store::default();
        store.execute(&set("a", "1"));
        store.execute(&set("b", "2"));
        assert_eq!(store.execute(&rename("none", "b", false)), Reply::error(NO_SUCH_KEY));
        assert_eq!(store.execute(&rename("a", "a", false)), Reply::Ok);
        assert_eq!(store.execute(&rename("a", "a", true)), Reply::Integer(0));
        assert_eq!(store.execute(&rename("a", "b", true)), Reply::Integer(0));
        assert_eq!(store.execute(&rename("a", "b", false)), Reply::Ok);
        assert_eq!((store.get(b"a"), store.get(b"b"), store.len()), (None, Some(bytes("1")), 1));
        assert_eq!(store.execute(&rename("b", "c", true)), Reply::Integer(1));
        assert_eq!(store.get(b"c"), Some(bytes("1")));
    }

    #[test]
    fn a_copy_replaces_a_key_only_if_asked_to() {
        let mut store = Store::default();
        store.execute(&set("a", "1"));
        store.execute(&set("b", "2"));
        assert_eq!(store.execute(&copy("none", "b", true)), Reply::Integer(0));
        assert_eq!(store.execute(&copy("a", "a", true)), Reply::error(SAME_KEY));
        assert_eq!(store.execute(&copy("a", "b", false)), Reply::Integer(0));
        assert_eq!(store.execute(&copy("a", "b", true)), Reply::Integer(1));
        assert_eq!((store.get(b"a"), store.get(b"b")), (Some(bytes("1")), Some(bytes("1"))));
    }

    #[test]
    fn any_key_may_be_the_random_one_and_no_other() {
        let mut store = Store::default();
        assert_eq!(store.query(&Operation::RandomKey { seed: 7 }), Some(Reply::Nil));
        for number in 0..40 {
            store.execute(&set(&format!("key{number}"), "x"));
        }
        store.execute(&Operation::delete((0..20).map(|number| bytes(&format!("key{number}"))).collect()));
        let found: BTreeSet<_> = (0..1_000)
            .map(|seed| match store.query(&Operation::RandomKey { seed }) {
                Some(Reply::Bulk(key)) => key,
                other => panic!("a key, not {other:?}"),
            })
            .collect();
        assert_eq!(found.len(), 20, "{found:?}");
    }

    #[test]
    fn all_keys_are_listed_if_they_are_few() {
        let mut store = Store::default();
        for number in 0..30 {
            store.execute(&set(&format!("key{number}"), "x"));
        }
        let listed =
            |store: &Store, pattern: &str| match store.query(&Operation::Keys { pattern: bytes(pattern) }) {
                Some(Reply::Array(keys)) => Some(keys.len()),
                Some(Reply::TooMuch) => None,
                other => panic!("keys, not {other:?}"),
            };
        assert_eq!((listed(&store, "*"), listed(&store, "key1?")), (Some(30), Some(10)));
        for number in 0..50_000 {
            store.execute(&set(&format!("key{number}"), "x"));
        }
        assert_eq!(listed(&store, "*"), None);
    }

    #[test]
    fn an_object_tells_how_redis_would_hold_it() {
        let mut store = Store::default();
        let long = "x".repeat(45);
        for (value, expected) in [("12", "int"), ("012", "embstr"), (&long[1..], "embstr"), (&long, "raw")] {
            store.execute(&set("k", value));
            let asked = Operation::Object { key: bytes("k"), property: Property::Encoding };
            assert_eq!(store.query(&asked), Some(Reply::Bulk(bytes(expected))), "{value}");
        }
        let asked = Operation::Object { key: bytes("k"), property: Property::MemoryBytes };
        assert_eq!(
            store.query(&asked),
            Some(Reply::Integer(i64::try_from(store.memory_bytes).expect("few")))
        );
    }
}
