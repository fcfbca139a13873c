//! Stable storage for an acceptor.
//!
//! *Paxos Made Simple*, section 2.5: an acceptor "must remember what it has promised and accepted even if it
//! fails and restarts". This crate is that memory: the trait [`Storage`], and backends for it.
//!
//! | backend | feature | for |
//! |---|---|---|
//! | `file` | `file` | a write-ahead log in a directory; survives crashes, tells a torn tail from damage |
//! | `memory` | `memory` | tests and measurements; survives a restart of the node within one process |
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use paxos_core::{Ballot, Entry, HardState, NodeId, Slot, Value, Write, WriteNumber};
//! use paxos_storage::{Identity, Storage, memory::MemoryStorage};
//!
//! let disk = MemoryStorage::new(Identity::new("example", NodeId(1)));
//! let mut storage = disk.clone();
//! assert!(storage.recover()?.entries.is_empty());
//!
//! let ballot = Ballot { round: 1, node: NodeId(2) };
//! let entry = Entry::Accepted { ballot, value: Value::no_op() };
//! let hard_state = HardState { promised: ballot, chosen: Slot::ZERO };
//! let write = Write::new(WriteNumber(1), hard_state, vec![(Slot(1), entry)]);
//! let durable = storage.persist(write)?; // only now may the acceptance be sent
//! assert_eq!(durable.numbers(), (WriteNumber(1), WriteNumber(1)));
//!
//! let mut reopened = disk.clone();
//! let recovered = reopened.recover()?;
//! assert_eq!(recovered.hard_state, hard_state);
//! assert_eq!(recovered.entries.len(), 1);
//! # }
//! # Ok::<(), paxos_storage::Error>(())
//! ```
//!
//! To write a backend of your own, implement [`Storage`] and run [`conformance::check`] over it.
//!
//! Deliberately absent: any thread (the user calls from one of its own), and any knowledge of transports.

pub mod conformance;
mod error;
#[cfg(feature = "file")]
pub mod file;
mod identity;
#[cfg(feature = "memory")]
pub mod memory;

pub use error::{Damage, DamageCause, Error, ErrorKind};
pub use identity::{Identity, StorageId};

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos_core::{Durable, NodeId, Recovered, Slot, SnapshotMeta, Write};

/// Every storage takes values of up to this many bytes.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// The storages of so many peers are remembered.
pub const MAX_PEERS: usize = 128;

/// What a node needs of stable storage. Synchronous; each call returns when its work is done.
///
/// After an error of kind [`ErrorKind::Failed`] a storage does nothing more: whether what was under way has
/// reached the disk can't be known, and asking again would not tell.
pub trait Storage: Send {
    /// Whose storage this is.
    fn identity(&self) -> &Identity;

    /// The storages that this node knows its peers by; empty at first.
    fn known_peers(&self) -> BTreeMap<NodeId, StorageId>;

    /// Remembers the storages of peers, durably, in place of those known before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`].
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_PEERS`].
    fn remember_peers(&mut self, peers: &BTreeMap<NodeId, StorageId>) -> Result<(), Error>;

    /// Reads everything back. Called once, before anything else.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Damaged`] if something is missing or altered that had been acknowledged.
    fn recover(&mut self) -> Result<Recovered, Error>;

    /// Puts a write into stable storage, and returns the proof when it is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`]; nothing may be concluded about the write then. [`ErrorKind::Full`]: the write was not
    /// stored, and the storage goes on as if it had never been.
    fn persist(&mut self, write: Write) -> Result<Durable, Error>;

    /// Adds a piece to a snapshot that is being made or received. Pieces come in order; offset 0 starts over.
    /// Two snapshots may be on their way at once. Nothing needs to be durable yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`]; [`ErrorKind::SnapshotMismatch`] for a piece out of order. [`ErrorKind::Full`]: what
    /// there was of this snapshot is dropped, and the storage goes on.
    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error>;

    /// Makes the snapshot that was written in pieces the newest one, durably. The one before is kept, older ones
    /// are dropped; a snapshot older than the newest is dropped at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SnapshotMismatch`] if size or CRC32C are not those of `meta`: the snapshot is gone then, and
    /// the storage goes on. [`ErrorKind::Failed`].
    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error>;

    /// Up to `max_bytes` of a finished snapshot from `offset` on; empty at its end, `None` if it is not kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`].
    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error>;

    /// The newest finished snapshot.
    fn newest_snapshot(&self) -> Option<SnapshotMeta>;

    /// Allows the entries through `through` to be forgotten. Does nothing beyond the newest finished snapshot.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`].
    fn compact(&mut self, through: Slot) -> Result<(), Error>;

    /// Proves the last write as whole. Called after a while without writes, and before the node stops.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`].
    fn mark(&mut self) -> Result<(), Error>;

    /// Whether there is room for new commands. Refuse them while it is low: the rest is needed for promises.
    fn room(&self) -> Room {
        Room::Ample
    }
}

/// How much more a storage can take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// No end is in sight.
    Ample,
    /// The disk is full but for what was set aside. Goes back to ample by itself when there is space again.
    Low,
}
