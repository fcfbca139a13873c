//! What the store keeps of each key.

use bytes::Bytes;
use imbl::{HashMap, OrdMap};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The memory of a record beside the bytes of its key and value: places in two maps, and the allocator's
/// overhead for two allocations. With 300 000 keys a process grows by 340 to 360 bytes for each.
const RECORD_BYTES: u64 = 400;

/// Records by the hashes of their keys.
pub(super) type Records = HashMap<Bytes, Record>;
/// Keys by the revisions at which they were created.
pub(super) type KeysByCreation = OrdMap<u64, Bytes>;

/// A key's value and history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) value: Bytes,
    pub(super) created: u64,
    pub(super) modified: u64,
    /// Of the key and all fields above: the record's part of the store's digest.
    pub(super) hash: u64,
}

impl Record {
    pub(super) fn new(key: &[u8], value: Bytes, created: u64, modified: u64) -> Record {
        let hash = xxh3_64_with_seed(key, created) ^ xxh3_64_with_seed(&value, modified).rotate_left(32);
        Record { value, created, modified, hash }
    }

    pub(super) fn memory_bytes(&self, key: &[u8]) -> u64 {
        RECORD_BYTES + (key.len() + self.value.len()) as u64
    }
}
