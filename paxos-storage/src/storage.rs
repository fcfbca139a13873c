//! The trait that every backend implements.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use paxos_core::{Durable, Recovered, Slot, SnapshotMeta, Write};

use crate::{Error, Identity, Registry};
#[cfg(doc)]
use crate::{ErrorKind, Founding};

/// Every storage accepts values of up to this many bytes.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// Refuses a write with a value that is longer than a storage takes.
#[cfg(any(test, feature = "file", feature = "memory", feature = "sim"))]
pub(crate) fn refuse_long_values(write: &Write) -> Result<(), Error> {
    let sizes = write.entries().iter().map(|(_, entry)| entry.value().size_bytes());
    match sizes.max().filter(|size| *size > MAX_VALUE_BYTES) {
        Some(size_bytes) => Err(Error::TooLarge { size_bytes, limit_bytes: MAX_VALUE_BYTES }),
        None => Ok(()),
    }
}

/// Stable storage of one node.
///
/// All methods are synchronous: a call returns when its work is done. The caller decides on which thread that
/// is, and never makes two calls at once.
///
/// After a call has failed with [`ErrorKind::Failed`], a storage must refuse all further calls. Whether the
/// failed operation has reached the disk is unknown, and trying it again would not tell: after a failed
/// `fsync`, the next one may succeed although the data is lost.
///
/// A backend of your own reports its errors with [`Error::foreign`], which takes the error and its
/// [`ErrorKind`]. [The guide](crate::guide) builds a whole backend.
pub trait Storage: Send {
    /// The cluster and node that this storage belongs to, and its own id.
    fn identity(&self) -> &Identity;

    /// What was last given to [`remember`](Storage::remember); [`Registry::default`] for a new storage. Can
    /// be called before [`recover`](Storage::recover).
    fn registry(&self) -> Registry;

    /// Replaces the registry durably. After a failure, the old or the new one may be found at the next start.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`].
    ///
    /// # Panics
    ///
    /// If there are more than [`Registry::MAX_PEERS`] peers.
    fn remember(&mut self, registry: &Registry) -> Result<(), Error>;

    /// Reads back what was stored. Called until it succeeds once, before any method that follows here.
    ///
    /// # Errors
    ///
    /// [`Error::MembershipUnknown`] if a snapshot dates from before snapshots had memberships, and the
    /// registry has no [`Founding`]: call this again after the founding was
    /// [remembered](Storage::remember). Only storages with data of that time return this error.
    ///
    /// [`ErrorKind::Damaged`] if acknowledged data is missing or altered and the newest promise may be lost
    /// with it. [`ErrorKind::Failed`].
    fn recover(&mut self) -> Result<Recovered, Error>;

    /// Shows other threads how far [`recover`](Storage::recover) has come. To be asked for before that is
    /// called; a storage that does not know says nothing.
    fn recovery_progress(&self) -> RecoveryProgress {
        RecoveryProgress::default()
    }

    /// Stores a write and returns the proof that it is durable. Only with this proof the replica sends what
    /// depends on the write (*Paxos Made Simple*, section 2.5).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`]: the write may or may not be found at the next start. [`ErrorKind::Full`]:
    /// nothing of the write was stored, and the storage can still be used.
    fn persist(&mut self, write: Write) -> Result<Durable, Error>;

    /// Adds a piece to an unfinished snapshot. Pieces come in order; a piece at offset 0 starts the snapshot
    /// anew. Two snapshots may be unfinished at once: the node's own and one that a peer sends. Pieces need
    /// not be durable before [`finish_snapshot`](Storage::finish_snapshot).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SnapshotMismatch`] for a piece out of order: one that does not begin where the one before
    /// has ended. Whether the unfinished snapshot is kept is up to the storage; a piece at offset 0 starts it
    /// anew in any case. [`ErrorKind::Full`]: the unfinished snapshot
    /// was dropped, and the storage can still be used. [`ErrorKind::Failed`].
    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error>;

    /// Something that takes long and is not urgent, for example to sync the pieces of an unfinished snapshot
    /// or to remove the file of an old one. To be asked for after each call about snapshots; it may be done
    /// on any thread, beside other calls of this storage, and before the next call about snapshots. If it
    /// fails, this storage must not be called any more. What nobody takes on, a later call about snapshots
    /// does.
    fn deferred_work(&mut self) -> Option<DeferredWork> {
        None
    }

    /// Makes an unfinished snapshot durable, with the membership in `meta`, and the newest one. The storage
    /// keeps it and the one before, and drops all older ones. If `meta` is older than the newest snapshot, it
    /// is dropped instead.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SnapshotMismatch`] if size or CRC32C differ from `meta`: the unfinished snapshot was
    /// dropped, and the storage can still be used. [`ErrorKind::Full`]: likewise. [`ErrorKind::Failed`].
    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error>;

    /// Reads up to `max_bytes` of a finished snapshot from `offset` on. Returns no bytes at its end and
    /// beyond it, and `None` if the storage does not have this snapshot.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`] if too many files are open; the call can be repeated later. [`ErrorKind::Failed`].
    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error>;

    /// The newest finished snapshot, if there is one.
    fn newest_snapshot(&self) -> Option<SnapshotMeta>;

    /// Allows the storage to forget entries up to and including `through`. Entries above the newest finished
    /// snapshot are kept all the same.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`].
    fn compact(&mut self, through: Slot) -> Result<(), Error>;

    /// Stores a proof that the last write was acknowledged, if there is none yet. The node calls this after a
    /// while without writes, and before it stops.
    ///
    /// A log can't tell damage to its last write from a write that a crash has cut off, as long as nothing
    /// follows it. A storage that has no such doubt returns at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`]. [`ErrorKind::Full`]: the storage can still be used.
    fn prove_last_write(&mut self) -> Result<(), Error>;

    /// Whether there is room for new commands. While it is [`Low`](Capacity::Low) the node refuses commands
    /// of clients and leaves the rest of the space to promises.
    fn capacity(&self) -> Capacity {
        Capacity::Ample
    }
}

/// Work of a storage for any thread: see [`Storage::deferred_work`].
pub type DeferredWork = Box<dyn FnOnce() -> Result<(), Error> + Send>;

/// How far a storage has come with [`Storage::recover`]; clones show the same.
#[derive(Clone, Debug, Default)]
pub struct RecoveryProgress(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    done: AtomicU64,
    all: AtomicU64,
}

impl RecoveryProgress {
    /// Shows that this many parts of all are done. Parts are whatever the storage counts in.
    pub fn set(&self, done: u64, all: u64) {
        self.0.done.store(done.min(all), Ordering::Relaxed);
        self.0.all.store(all, Ordering::Relaxed);
    }

    /// How much is done, in percent; `None` as long as the storage has not said.
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        let (done, all) = (self.0.done.load(Ordering::Relaxed), self.0.all.load(Ordering::Relaxed));
        let percent = u128::from(done.min(all)) * 100;
        percent.checked_div(u128::from(all)).and_then(|percent| u8::try_from(percent).ok())
    }
}

/// How much more a storage can take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Capacity {
    /// There is room for new commands.
    Ample,
    /// Only a reserve is left: the disk is full, or no more files can be opened. The storage returns to
    /// [`Ample`](Capacity::Ample) by itself when that is over.
    Low,
}
