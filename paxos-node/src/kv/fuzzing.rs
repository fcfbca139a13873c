//! What the fuzz targets call.

use std::io::ErrorKind;

use bytes::Bytes;
use paxos_core::{Slot, Time};

use super::{Operation, Reply, Store, operation};
use crate::state_machine::{Applying, StateMachine};

/// Takes the bytes for a command from the log. If they are one, it can be written again to the byte, and
/// applying it gives a reply for each operation.
///
/// # Panics
///
/// If not.
pub fn command(bytes: &[u8]) {
    let command = Bytes::copy_from_slice(bytes);
    let mut store = Store::default();
    let response = store.apply(Applying::new(Slot(1), Time(1_000_000)), &command);
    let replies = Reply::decode_all(response).expect("a response can be read");
    if let Ok(operations) = operation::decode(&command) {
        assert_eq!(replies.len(), operations.len(), "each operation has a reply");
        let again = Operation::command(&operations);
        assert_eq!(operation::decode(&again), Ok(operations), "an operation can be written again");
    }
    check(&store);
}

/// Takes the bytes for a snapshot. It is refused as invalid data or as that of a newer version, or is a
/// complete state.
///
/// # Panics
///
/// If not.
pub fn snapshot(bytes: &[u8]) {
    let mut store = Store::default();
    match store.restore(&mut &bytes[..]) {
        Ok(()) => check(&store),
        Err(error) => {
            let is_told = matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::Unsupported);
            assert!(is_told, "{error}");
        }
    }
    // Once more with the right sum, without which few inputs would get further.
    if let Some((records, _)) = bytes.split_last_chunk::<8>()
        && let Some(sealed) = super::snapshot::sealed(records)
    {
        let mut store = Store::default();
        if store.restore(&mut &sealed[..]).is_ok() {
            check(&store);
        }
    }
}

/// Checks that a store equals the one restored from its snapshot.
pub(super) fn check(store: &Store) {
    let mut image = Vec::new();
    store.snapshot()(&mut image).expect("memory takes everything");
    let mut restored = Store::default();
    restored.restore(&mut &image[..]).expect("what was written can be read");
    assert_eq!(restored.digest(), store.digest(), "it is the same state");
    assert_eq!(contents(&restored), contents(store), "in the same order");
    assert_eq!(restored.memory_bytes(), store.memory_bytes(), "of the same size");
    let due = |store: &Store| store.deadlines.due(Time(u64::MAX)).collect::<Vec<_>>();
    assert_eq!(due(&restored), due(store), "with the same deadlines");
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
