//! The storage: a table for each kind of data, and a transaction for each write.
//!
//! A node takes it as it takes any `Box<dyn Storage>`. What it does not do: go on after a write for which
//! there was no space ([`capacity`](Storage::capacity) warns before), and start fast after a crash (redb then
//! walks through the whole file).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use paxos_core::{Durable, Recovered, Slot, SnapshotMeta, Write};
use paxos_storage::codec::{decode, encode};
use paxos_storage::{Capacity, Error, ErrorKind, Identity, Registry, Storage, UnfinishedSnapshots, file};
use redb::{
    Database, Durability, Key, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, Value,
    WriteTransaction,
};

type Values<K> = TableDefinition<'static, K, &'static [u8]>;

/// Identity, registry and hard state.
const COMMON: Values<&str> = TableDefinition::new("common");
const ENTRIES: Values<u64> = TableDefinition::new("entries");
/// For each finished snapshot its description, and the number that its pieces have.
const SNAPSHOTS: TableDefinition<u64, (u64, &[u8])> = TableDefinition::new("snapshots");
/// By number and offset; a snapshot that is begun gets another number than all there are.
const PIECES: Values<(u64, u64)> = TableDefinition::new("pieces");
/// With less space than this, no new commands are taken.
const RESERVE_BYTES: u64 = 1 << 30;

type Made = Result<(), redb::Error>;

/// The storage of one node in a file of redb.
pub(crate) struct RedbStorage {
    database: Database,
    directory: PathBuf,
    identity: Identity,
    registry: Registry,
    /// Oldest first, each with the number of its pieces.
    snapshots: Vec<(SnapshotMeta, u64)>,
    unfinished: UnfinishedSnapshots<u64>,
    begun: u64,
}

impl RedbStorage {
    /// Makes the storage of a new node. Opening one never makes it: a node whose disk is not mounted must
    /// fail to start.
    pub(crate) fn make(directory: &Path, identity: &Identity) -> Result<RedbStorage, Error> {
        if directory.join("redb").exists() {
            return Err(Error::foreign(ErrorKind::Unusable, "it is there already"));
        }
        let database = Database::create(directory.join("redb")).map_err(failed)?;
        change(&database, Durability::Immediate, |change| {
            change.open_table(COMMON)?.insert("identity", &encode(identity)[..])?;
            change.open_table(ENTRIES)?;
            change.open_table(SNAPSHOTS)?;
            change.open_table(PIECES)?;
            Ok(())
        })?;
        // The file's name is durable, too.
        std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        drop(database);
        RedbStorage::open(directory)
    }

    pub(crate) fn open(directory: &Path) -> Result<RedbStorage, Error> {
        let database = Database::open(directory.join("redb")).map_err(failed)?;
        let identity = common(&database, "identity")?.unwrap_or_default();
        Ok(RedbStorage {
            directory: directory.to_owned(),
            identity: decode(identity)?,
            registry: common(&database, "registry")?.map(decode).transpose()?.unwrap_or_default(),
            database,
            snapshots: Vec::new(),
            unfinished: UnfinishedSnapshots::default(),
            begun: 0,
        })
    }

    /// The pieces that are still needed.
    fn needed_pieces(&mut self) -> Vec<u64> {
        let finished = self.snapshots.iter().map(|(_, pieces)| *pieces);
        finished.chain(self.unfinished.places_mut().map(|(_, pieces)| *pieces)).collect()
    }
}

impl Storage for RedbStorage {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn registry(&self) -> Registry {
        self.registry.clone()
    }

    fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
        let encoded = encode(registry);
        change(&self.database, Durability::Immediate, |change| {
            change.open_table(COMMON)?.insert("registry", &encoded[..])?;
            Ok(())
        })?;
        self.registry.clone_from(registry);
        Ok(())
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        self.snapshots.clear();
        for snapshot in table(&self.database, SNAPSHOTS)?.iter().map_err(failed)? {
            let (_, value) = snapshot.map_err(failed)?;
            let (pieces, meta) = value.value();
            self.snapshots.push((decode(Bytes::copy_from_slice(meta))?, pieces));
        }
        let last = table(&self.database, PIECES)?.last().map_err(failed)?.map(|(key, _)| key.value().0);
        self.begun = last.unwrap_or(0);
        let snapshot = self.newest_snapshot();
        let after = snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot).next();
        let mut entries = Vec::new();
        for entry in table(&self.database, ENTRIES)?.range(after.0..).map_err(failed)? {
            let (slot, entry) = entry.map_err(failed)?;
            entries.push((Slot(slot.value()), decode(Bytes::copy_from_slice(entry.value()))?));
        }
        let hard_state = common(&self.database, "hard state")?.map(decode).transpose()?;
        let needed = self.needed_pieces();
        change(&self.database, Durability::None, |change| drop_pieces(change, &needed))?;
        Ok(Recovered::new(hard_state.unwrap_or_default(), snapshot, entries))
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        change(&self.database, Durability::Immediate, |change| {
            change.open_table(COMMON)?.insert("hard state", &encode(&write.hard_state())[..])?;
            let mut entries = change.open_table(ENTRIES)?;
            for (slot, entry) in write.entries() {
                entries.insert(slot.0, &encode(entry)[..])?;
            }
            Ok(())
        })?;
        Ok(write.into_durable()) // After the sync, and only then.
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        if offset == 0 {
            self.begun += 1;
            // The pieces of one that is given up are dropped with the next snapshot.
            let _ = self.unfinished.begin(slot, self.begun);
        }
        self.unfinished.write(slot, offset, piece, |pieces| {
            change(&self.database, Durability::None, |change| {
                change.open_table(PIECES)?.insert((*pieces, offset), piece)?;
                Ok(())
            })
        })
    }

    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        let pieces = self.unfinished.finish(&meta)?.unwrap_or(0);
        if self.snapshots.last().is_some_and(|(newest, _)| newest.slot >= meta.slot) {
            return Ok(());
        }
        self.snapshots.push((meta, pieces));
        // The newest two are kept: a peer may be reading the one before.
        self.snapshots.drain(..self.snapshots.len().saturating_sub(2));
        let (needed, kept) = (self.needed_pieces(), self.snapshots.clone());
        change(&self.database, Durability::Immediate, |change| {
            let mut snapshots = change.open_table(SNAPSHOTS)?;
            snapshots.retain(|_, _| false)?;
            for (meta, pieces) in kept {
                snapshots.insert(meta.slot.0, (pieces, &encode(&meta)[..]))?;
            }
            drop_pieces(change, &needed)
        })
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        let found = self.snapshots.iter().find(|(meta, _)| meta.slot == slot);
        let Some((_, pieces)) = found else { return Ok(None) };
        let pieces = (*pieces, 0)..=(*pieces, offset);
        let last = table(&self.database, PIECES)?.range(pieces).map_err(failed)?.next_back();
        let Some((key, piece)) = last.transpose().map_err(failed)? else { return Ok(Some(Bytes::new())) };
        let from = usize::try_from(offset - key.value().1).unwrap_or(usize::MAX);
        let rest = piece.value().get(from..).unwrap_or_default();
        Ok(Some(Bytes::copy_from_slice(&rest[..rest.len().min(max_bytes)])))
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        self.snapshots.last().map(|(meta, _)| meta.clone())
    }

    fn compact(&mut self, through: Slot) -> Result<(), Error> {
        let through = through.min(self.newest_snapshot().map_or(Slot::ZERO, |meta| meta.slot));
        change(&self.database, Durability::None, |change| {
            Ok(change.open_table(ENTRIES)?.retain_in(..=through.0, |_, _| false)?)
        })
    }

    fn prove_last_write(&mut self) -> Result<(), Error> {
        Ok(()) // redb tells a torn commit from a damaged one by itself.
    }

    fn capacity(&self) -> Capacity {
        let is_low = file::free_bytes(&self.directory).is_ok_and(|free_bytes| free_bytes < RESERVE_BYTES);
        if is_low { Capacity::Low } else { Capacity::Ample }
    }
}

/// Makes all changes or, after an error, perhaps none; redb refuses every call after a failed read, write or
/// sync. `Immediate` returns after the sync; what is changed with `None` is durable with the next
/// `Immediate`.
fn change(
    database: &Database,
    durability: Durability,
    make: impl FnOnce(&WriteTransaction) -> Made,
) -> Result<(), Error> {
    let mut change = database.begin_write().map_err(failed)?;
    change.set_durability(durability).map_err(failed)?;
    make(&change).map_err(failed)?;
    change.commit().map_err(failed)
}

fn table<K: Key, V: Value>(
    database: &Database,
    definition: TableDefinition<K, V>,
) -> Result<ReadOnlyTable<K, V>, Error> {
    database.begin_read().map_err(failed)?.open_table(definition).map_err(failed)
}

fn common(database: &Database, key: &str) -> Result<Option<Bytes>, Error> {
    let value = table(database, COMMON)?.get(key).map_err(failed)?;
    Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
}

/// Drops the pieces of all snapshots but these.
fn drop_pieces(change: &WriteTransaction, needed: &[u64]) -> Made {
    Ok(change.open_table(PIECES)?.retain(|(pieces, _), _| needed.contains(&pieces))?)
}

fn failed(error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let is_damaged = matches!(error, redb::Error::Corrupted(_));
    Error::foreign(if is_damaged { ErrorKind::Damaged } else { ErrorKind::Failed }, error)
}
