//! What the tests of the store share.

use bytes::Bytes;

use super::Operation;
use super::store::Store;

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn set(key: &str, value: &str) -> Operation {
    Operation::Set { key: bytes(key), value: bytes(value), condition: None, returns_old: false }
}

/// All records, the oldest key first: the revisions at which each was created and modified, key and value.
pub(super) fn contents(store: &Store) -> Vec<(u64, u64, Bytes, Bytes)> {
    let records = store.by_creation.newest_first(0..=u64::MAX).map(|(created, hash)| {
        store.records.look_created(hash, created, |record| {
            let record = record.expect("every key has a record");
            let key = Bytes::copy_from_slice(record.key);
            (record.created, record.modified, key, record.value.to_bytes())
        })
    });
    let mut records: Vec<_> = records.collect();
    records.reverse();
    assert_eq!(records.len(), store.len());
    records
}
