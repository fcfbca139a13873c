//! Storage in memory, for tests and measurements.
//!
//! Clones share their contents, so a node can be stopped and restarted within one process. When the process
//! ends, everything is lost: the node must never come back under its old id then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use paxos_core::{Durable, Entry, HardState, Recovered, Slot, SnapshotMeta, Write};

use crate::lock::lock;
use crate::storage::refuse_long_values;
use crate::{Error, Identity, Registry, Storage, UnfinishedSnapshots};

/// Storage in memory. Never fails, never blocks.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    identity: Identity,
    contents: Arc<Mutex<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    hard_state: HardState,
    entries: BTreeMap<Slot, Entry>,
    /// At most two, the newest last.
    snapshots: Vec<(SnapshotMeta, Bytes)>,
    unfinished_snapshots: UnfinishedSnapshots<BytesMut>,
    registry: Registry,
}

impl MemoryStorage {
    /// Makes an empty storage.
    #[must_use]
    pub fn new(identity: Identity) -> MemoryStorage {
        MemoryStorage { identity, contents: Arc::default() }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        lock(&self.contents)
    }
}

impl Storage for MemoryStorage {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn registry(&self) -> Registry {
        self.contents().registry.clone()
    }

    fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
        registry.assert_bounded();
        self.contents().registry.clone_from(registry);
        Ok(())
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        let mut contents = self.contents();
        contents.unfinished_snapshots = UnfinishedSnapshots::default();
        let snapshot = contents.snapshots.last().map(|(meta, _)| meta.clone());
        let after = snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot).next();
        let entries = contents.entries.range(after..).map(|(slot, entry)| (*slot, entry.clone()));
        Ok(Recovered::new(contents.hard_state, snapshot, entries.collect()))
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        refuse_long_values(&write)?;
        let mut contents = self.contents();
        contents.hard_state = write.hard_state();
        contents.entries.extend(write.entries().iter().cloned());
        Ok(write.into_durable())
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        let mut contents = self.contents();
        if offset == 0 {
            drop(contents.unfinished_snapshots.begin(slot, BytesMut::new()));
        }
        contents.unfinished_snapshots.write(slot, offset, piece, |bytes| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
    }

    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        let mut contents = self.contents();
        let bytes = contents.unfinished_snapshots.finish(&meta)?.unwrap_or_default().freeze();
        if contents.snapshots.last().is_none_or(|(newest, _)| newest.slot < meta.slot) {
            contents.snapshots.push((meta, bytes));
            if contents.snapshots.len() > 2 {
                contents.snapshots.remove(0);
            }
        }
        Ok(())
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        let contents = self.contents();
        let found = contents.snapshots.iter().find(|(meta, _)| meta.slot == slot);
        Ok(found.map(|(_, bytes)| {
            let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
            bytes.slice(start..start.saturating_add(max_bytes).min(bytes.len()))
        }))
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        self.contents().snapshots.last().map(|(meta, _)| meta.clone())
    }

    fn compact(&mut self, through: Slot) -> Result<(), Error> {
        let mut contents = self.contents();
        let newest = contents.snapshots.last().map_or(Slot::ZERO, |(meta, _)| meta.slot);
        contents.entries = contents.entries.split_off(&through.min(newest).next());
        Ok(())
    }

    fn prove_last_write(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
