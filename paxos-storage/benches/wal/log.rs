//! Makes logs to measure, and the writes for them.

use std::path::Path;

use bytes::Bytes;
use paxos_core::{
    Ballot, Entry, HardState, Membership, NodeId, Slot, SnapshotMeta, Value, Write, WriteNumber,
};
pub(crate) use paxos_storage::file::FileSettings;
use paxos_storage::file::{self, FileStorage};
use paxos_storage::{Identity, Storage};

use super::Outcome;

/// The value of a client's command in most measurements.
pub(crate) const VALUE_BYTES: usize = 256;

/// The magic of a segment's first frame, and its offset: a segment made ahead has zeros there.
pub(crate) const FRAME_MAGIC: &[u8] = b"pxfr";
pub(crate) const FIRST_FRAME_AT: u64 = 4096;

/// Makes a directory with a log in it, and opens it.
pub(crate) fn create(directory: &Path, options: FileSettings) -> Outcome<FileStorage> {
    file::format(directory, &Identity::new("bench", NodeId(1)))?;
    let mut storage = FileStorage::open(directory, options)?;
    storage.recover()?;
    Ok(storage)
}

pub(crate) fn segments_of(segment_bytes: u64) -> FileSettings {
    let mut options = FileSettings::default();
    options.segment_bytes = segment_bytes;
    options
}

/// Makes an empty snapshot of this slot, and frees the segments that it covers.
pub(crate) fn trim(storage: &mut FileStorage, slot: Slot) -> Outcome<()> {
    let membership = Membership::new(&[NodeId(1)])?;
    storage.finish_snapshot(SnapshotMeta { slot, size_bytes: 0, checksum: 0, membership })?;
    Ok(storage.compact(slot)?)
}

pub(crate) fn value(size_bytes: usize) -> Value {
    Value::batch(&[Bytes::from(vec![7; size_bytes])])
}

/// Appends the write of this number, inline.
pub(crate) fn append(storage: &mut FileStorage, number: u64, group: u64, value: &Value) -> Outcome<()> {
    storage.persist(write(number, group, value)).map(drop).map_err(Into::into)
}

/// The write of this number, if each is of `group` entries.
pub(crate) fn write(number: u64, group: u64, value: &Value) -> Write {
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let first = (number - 1) * group + 1;
    let entries =
        (first..first + group).map(|slot| (Slot(slot), Entry::Accepted { ballot, value: value.clone() }));
    let hard_state = HardState { promised: ballot, chosen: Slot(first - 1) };
    Write::new(WriteNumber(number), hard_state, entries.collect())
}
