//! Any storage as a disk of the simulator of [`paxos_core::sim`], which runs whole clusters on it.
//!
//! The simulator takes a [`Disk`]; a backend implements [`Storage`]. [`StorageDisk`] is the one made of the
//! other. What it needs beside the storage itself is a [`Medium`]: what the storage is kept on, which
//! survives a crash of its node, and on which the storage can be opened again.
//!
//! The storage is called as a node calls it: writes that queued are merged into one, snapshots come in
//! pieces, a proof is checked to be that of its write, and deferred work is done later or never. When the
//! power goes, unsynced writes are lost but for some of the first, a snapshot may be unfinished, and the
//! storage is dropped without a last call.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use paxos_core::NodeId;
//! use paxos_core::sim::{Registers, Simulation};
//! use paxos_storage::sim::{Medium, StorageDisk};
//! use paxos_storage::{Error, Identity, memory::MemoryStorage};
//!
//! /// Clones of a storage in memory share their contents: one of them stays here.
//! struct Memory(MemoryStorage);
//!
//! impl Medium for Memory {
//!     type Storage = MemoryStorage;
//!
//!     fn format(node: NodeId, _seed: u64) -> Memory {
//!         Memory(MemoryStorage::new(Identity::new("simulated", node)))
//!     }
//!
//!     fn open(&mut self) -> Result<MemoryStorage, Error> {
//!         Ok(self.0.clone())
//!     }
//! }
//!
//! for seed in 1..=3 {
//!     let report = Simulation::<Registers, StorageDisk<Memory>>::of_seed(seed).run();
//!     assert_eq!(report.violation, None, "seed {seed}");
//! }
//! # }
//! ```
//!
//! With a directory per node in place of the clone, which `open` opens again, it is the same for a storage of
//! files. What such a medium loses by itself when the power goes, it can add in [`Medium::lose_power`].
//!
//! Deliberately absent: errors. A storage must not fail here; if it does, the run ends with a violation of
//! [`Rule::Assertion`]. Its registry is not used, as the simulator has no introductions.
//!
//! [`DiskStorage`] goes the other way: a [`Disk`] that was written for the simulator, under a whole node.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
#[cfg(doc)]
use paxos_core::sim::Rule;
use paxos_core::sim::{Disk, Mark, Mutant, Random};
use paxos_core::{NodeId, Recovered, Slot, SnapshotMeta, Write};

use crate::{Error, Storage};

mod deployed;
#[cfg(test)]
mod tests;

pub use self::deployed::DiskStorage;

/// The longest piece in which a snapshot is written.
const MAX_PIECE_BYTES: usize = 2_000;
/// How much of a snapshot is read at once.
const READ_BYTES: usize = 64 << 10;
/// Something that a node does now and then is done once in so many times.
const NOW_AND_THEN: u64 = 8;

/// What the storage of one node is kept on: a directory, a database, memory. It survives crashes of the node.
pub trait Medium: Sized {
    /// The storage.
    type Storage: Storage;

    /// Whether [`decay`](Medium::decay) changes anything.
    const DECAYS: bool = false;

    /// A medium with an empty storage for `node`. It draws all its randomness from `seed`, and identity and
    /// contents must depend on nothing else, so that a seed is repeated to the letter.
    ///
    /// # Panics
    ///
    /// If it can't be made: then there is no run.
    fn format(node: NodeId, seed: u64) -> Self;

    /// Opens the storage. The one that was open before was dropped.
    ///
    /// # Errors
    ///
    /// As the storage returns them. Unless the medium has [decayed](Medium::decay), the run ends.
    fn open(&mut self) -> Result<Self::Storage, Error>;

    /// The power goes while these writes, in this order, are on their way to the open storage. Drops it.
    ///
    /// By default some of the first writes are persisted as a whole, and the others are lost.
    fn lose_power(&mut self, mut storage: Self::Storage, unsynced: &[Write], random: &mut Random) {
        for write in &unsynced[..random.index(unsynced.len() + 1)] {
            if let Err(error) = storage.persist(write.clone()) {
                panic!("the storage does not persist a write: {error}");
            }
        }
    }

    /// Something on the medium changes by itself while the storage is open, or, if the node is down, not
    /// open. Returns whether anything has changed; nothing does by default, and then [`Medium::DECAYS`] is
    /// `false`.
    ///
    /// Stored data may be lost, but then recovery must report it.
    fn decay(&mut self, storage: Option<&mut Self::Storage>, random: &mut Random) -> bool {
        let _ = (storage, random);
        false
    }
}

/// A [`Disk`] of the simulator that is a storage on a [`Medium`].
#[derive(Debug)]
pub struct StorageDisk<M: Medium> {
    medium: M,
    /// `None` while its node is down.
    storage: RefCell<Option<M::Storage>>,
    /// The snapshots that were finished or found; the storage may have dropped them.
    snapshots: BTreeMap<Slot, SnapshotMeta>,
    random: Random,
}

impl<M: Medium> StorageDisk<M> {
    fn with<T>(&self, what: &str, work: impl FnOnce(&mut M::Storage) -> Result<T, Error>) -> T {
        let mut storage = self.storage.borrow_mut();
        let storage = storage.as_mut().expect("only a node that runs uses its storage");
        work(storage).unwrap_or_else(|error| panic!("the storage does not {what}: {error}"))
    }

    /// Does what the storage has put off, or leaves it to a later call about snapshots.
    fn do_deferred_work(&mut self) {
        if self.random.one_in(2) {
            let storage = self.storage.get_mut().as_mut();
            if let Some(Err(error)) = storage.and_then(Storage::deferred_work).map(|work| work()) {
                panic!("deferred work of the storage fails: {error}");
            }
        }
    }

    fn write_pieces(&mut self, slot: Slot, content: &[u8]) {
        let (mut offset, mut rest) = (0, content);
        loop {
            let piece;
            (piece, rest) = rest.split_at(rest.len().min(1 + self.random.index(MAX_PIECE_BYTES)));
            self.with("write a piece of a snapshot", |storage| storage.write_snapshot(slot, offset, piece));
            self.do_deferred_work();
            offset += piece.len() as u64;
            if rest.is_empty() {
                return;
            }
        }
    }
}

impl<M: Medium> Disk for StorageDisk<M> {
    const NEVER_MEETS: &'static [Mark] =
        if M::DECAYS { &[] } else { &[Mark::MemoryLost, Mark::MemoryRepaired] };
    const NEVER_SHOWS: &'static [Mutant] =
        if M::DECAYS { &[] } else { &[Mutant::RepairingPromises, Mutant::RepairingRunsForLeader] };

    fn format(node: NodeId, seed: u64) -> Self {
        let (medium, random) = (M::format(node, seed), Random::new(seed));
        StorageDisk { medium, storage: RefCell::new(None), snapshots: BTreeMap::new(), random }
    }

    fn recover(&mut self) -> Result<Recovered, String> {
        drop(self.storage.take());
        let mut storage = self.medium.open().map_err(|error| error.to_string())?;
        let recovered = storage.recover().map_err(|error| error.to_string())?;
        if let Some(meta) = &recovered.snapshot {
            self.snapshots.insert(meta.slot, meta.clone());
        }
        self.storage.replace(Some(storage));
        Ok(recovered)
    }

    fn store(&mut self, write: &Write) {
        let durable = self.with("persist a write", |storage| storage.persist(write.clone()));
        assert_eq!(durable.numbers(), write.numbers(), "the proof is that of the write");
        if self.random.one_in(NOW_AND_THEN) {
            self.with("prove its last write", Storage::prove_last_write);
        }
    }

    fn lose_power(&mut self, unsynced: &[Write], random: &mut Random) {
        let Some(mut storage) = self.storage.take() else { return };
        if random.one_in(NOW_AND_THEN) {
            let slot = storage.newest_snapshot().map_or(Slot(1), |meta| meta.slot.next());
            if let Err(error) = storage.write_snapshot(slot, 0, b"never to be finished") {
                panic!("the storage does not write a piece of a snapshot: {error}");
            }
        }
        self.medium.lose_power(storage, unsynced, random);
    }

    fn decay(&mut self, random: &mut Random) -> bool {
        self.medium.decay(self.storage.get_mut().as_mut(), random)
    }

    fn save_snapshot(&mut self, meta: SnapshotMeta, content: &Bytes) {
        let slot = meta.slot;
        self.write_pieces(slot, content);
        self.with("finish a snapshot", |storage| storage.finish_snapshot(meta.clone()));
        self.do_deferred_work();
        self.snapshots.insert(slot, meta);
        let newest = self.with("tell its newest snapshot", |storage| Ok(storage.newest_snapshot()));
        assert!(newest.is_some_and(|newest| newest.slot >= slot), "a finished snapshot is the newest");
        self.with("compact", |storage| storage.compact(slot));
        self.do_deferred_work();
    }

    fn snapshot(&self, slot: Slot) -> Option<(SnapshotMeta, Bytes)> {
        let meta = self.snapshots.get(&slot)?;
        let mut content = BytesMut::new();
        loop {
            let offset = content.len() as u64;
            let read = |storage: &mut M::Storage| storage.read_snapshot(slot, offset, READ_BYTES);
            let piece = self.with("read a snapshot", read)?;
            if piece.is_empty() {
                break;
            }
            content.extend_from_slice(&piece);
        }
        let is_same = content.len() as u64 == meta.size_bytes && crc32c::crc32c(&content) == meta.checksum;
        assert!(is_same, "the snapshot of slot {slot} is read as it was written");
        Some((meta.clone(), content.freeze()))
    }

    fn newest_snapshot(&self) -> Option<Slot> {
        self.storage.borrow().as_ref()?.newest_snapshot().map(|meta| meta.slot)
    }
}
