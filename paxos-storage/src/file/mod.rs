//! A write-ahead log in a directory.
//!
//! ```text
//! META                            whose directory it is, which segments and snapshots count: two copies
//! LOCK                            locked by the process that has the directory open
//! wal-000000000001 ...            segments of the log, each full of zeros before its first frame
//! snapshot-00000000000000000042   the two newest snapshots, as they were given
//! *.new                           what is not finished; removed at the next start
//! ```
//!
//! - **One write, one frame, one sync.** A frame is padded to whole blocks of 4096 bytes, so no block is written
//!   twice. Where the system lets it, frames go past the page cache.
//! - **Torn or damaged?** Recovery tells a write that was never finished, which is cut, from damage to one that
//!   was acknowledged. Damage behind which the newest promise is still known is reported and passed over:
//!   [`Recovered::incomplete_through`] says up to where acceptances are lost, and the replica learns what was chosen
//!   there from its peers. All other damage is refused.
//! - **Fail-stop.** After any failed write or sync nothing is acknowledged any more; a sync is never tried again.
//! - **Space.** The next segment is made before it is needed. If there is no space for it, [`Storage::room`] says
//!   so while there is still room in this one.
//! - **[`FileStorage::open`] never creates.** A directory is made by [`format()`], once: a disk that is not mounted
//!   must not become a node that has forgotten what it promised.
//!
//! The layout of each file is drawn, byte by byte, above the module that writes it: `meta.rs`, `segment.rs`,
//! `frame.rs`. All numbers are little-endian; checksums are CRC32C.
//!
//! Deliberately absent: repair of a damaged file in its place. What was lost only the peers can tell; it is written
//! like anything new, and the damaged file goes when a snapshot covers it.

mod buffer;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
mod disk;
mod frame;
mod inspect;
mod log;
mod meta;
mod prepare;
mod recovery;
mod scan;
mod segment;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod simulation_tests;
mod snapshot;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::{Durable, NodeId, Recovered, Slot, SnapshotMeta, Write};

pub use inspect::{FrameReport, Inspection, SegmentReport, SnapshotReport, inspect};

use crate::{Damage, DamageCause, Error, ErrorKind, Identity, MAX_PEERS, Room, Storage, StorageId};
use buffer::BLOCK_BYTES;
use disk::{Disk, SystemDisk};
use frame::Link;
use log::{Log, Sizes};
use meta::{Description, MAX_CLUSTER_NAME_BYTES, Meta, ReadError};
use prepare::{Preparer, PreparerThread};
use snapshot::Unfinished;

const LOCK_NAME: &str = "LOCK";
const FIRST_SEGMENT: u64 = 1;
/// The first segment is small, so that a directory is made quickly.
const FIRST_SEGMENT_BYTES: usize = 1 << 20;
/// Segments smaller than this would be headers for the most part.
const MIN_SEGMENT_BYTES: usize = 64 << 10;
/// A segment is read as a whole at the start, so larger ones would only cost memory.
const MAX_SEGMENT_BYTES: usize = 1 << 30;

/// A longer write takes several frames, so that no buffer grows with it.
const FRAME_PAYLOAD_BYTES: usize = 4 << 20;

/// Settings of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How large new segments are, in bytes; rounded up to whole blocks, and at least 64 KiB and at most
    /// 1 GiB. The first ones are
    /// smaller; one that is needed for a longer write is larger.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { segment_bytes: 64 << 20 }
    }
}

/// Makes `directory` that of the node in `identity`; creates it if it is not there.
///
/// # Errors
///
/// [`Error::NotEmpty`] if anything is in it, [`Error::ClusterName`], [`Error::Io`].
pub fn format(directory: &Path, identity: &Identity) -> Result<(), Error> {
    let name_bytes = identity.cluster().len();
    if name_bytes == 0 || name_bytes > MAX_CLUSTER_NAME_BYTES {
        return Err(Error::ClusterName { limit: MAX_CLUSTER_NAME_BYTES });
    }
    std::fs::create_dir_all(directory).during("create", directory)?;
    let disk = SystemDisk::new(directory.to_owned());
    if !disk.list().during("list", directory)?.is_empty() {
        return Err(Error::NotEmpty { directory: directory.to_owned() });
    }
    let lock_path = disk.path(LOCK_NAME);
    let lock = File::create_new(&lock_path).during("create", &lock_path)?;
    lock_file(&lock, directory, &lock_path)?;
    format_on(&disk, identity, FIRST_SEGMENT_BYTES)?;
    let parent = std::path::absolute(directory).during("find", directory)?;
    let parent = parent.parent().unwrap_or(&parent);
    File::open(parent).and_then(|parent| parent.sync_all()).during("sync", parent)
}

fn format_on(disk: &dyn Disk, identity: &Identity, first_segment_bytes: usize) -> Result<(), Error> {
    let fingerprint = identity.fingerprint();
    // META is begun first and gets its name last: while it has another one, the directory is not finished.
    let meta_file = Meta::begin(disk).during("create", &disk.path(meta::NEW_NAME))?;
    let first = segment::create(disk, FIRST_SEGMENT, first_segment_bytes, fingerprint, segment::AT_ONCE);
    first.during("create", &disk.path(&segment::name(FIRST_SEGMENT)))?;
    let description = Description {
        identity: identity.clone(),
        first_segment: FIRST_SEGMENT,
        last_segment: FIRST_SEGMENT,
        first_frame: Link { sequence: 1, chain: crc32c::crc32c(&fingerprint.to_le_bytes()) },
        snapshots: Vec::new(),
        peers: BTreeMap::new(),
    };
    Meta::finish(disk, meta_file, description).during("create", &disk.path(meta::NAME))
}

/// A storage in a directory; see the [module](self).
#[derive(Debug)]
pub struct FileStorage {
    // Fields are dropped in this order: the thread that prepares segments ends before the lock is released.
    log: Option<Log>,
    unfinished: Unfinished,
    meta: Meta,
    /// The newest snapshot that META tells of, if it is missing or bad.
    lost_snapshot: Option<SnapshotMeta>,
    disk: Arc<dyn Disk>,
    sizes: Sizes,
    stopped: Option<Stopped>,
    /// `None` on a disk that no other process can see.
    _lock: Option<File>,
    ahead: Ahead,
}

/// Who makes segments before they are needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ahead {
    /// Nobody. Every run does the same in the same order.
    Nobody,
    /// A thread.
    Thread,
    /// The log itself, as soon as a thread might: every run does the same in the same order.
    #[cfg(test)]
    Itself,
}

/// Why the storage does nothing more.
#[derive(Debug)]
enum Stopped {
    Failed(String),
    Damaged(Damage),
}

impl FileStorage {
    /// Opens a directory that [`format()`] has made. Nothing is read but META; see [`Storage::recover`].
    ///
    /// # Errors
    ///
    /// [`Error::NotFormatted`], [`Error::Locked`] if another process (or this one) has it open,
    /// [`Error::UnknownVersion`], [`Error::Damaged`] if META can't be read, [`Error::Io`].
    pub fn open(directory: &Path, options: Options) -> Result<FileStorage, Error> {
        let segment_bytes = usize::try_from(options.segment_bytes).unwrap_or(MAX_SEGMENT_BYTES);
        let segment_bytes = buffer::round_up(segment_bytes.clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES));
        let disk = SystemDisk::new(directory.to_owned());
        check_formatted(&disk, directory)?;
        let lock_path = disk.path(LOCK_NAME);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path);
        let lock = lock.during("open", &lock_path)?;
        lock_file(&lock, directory, &lock_path)?;
        let sizes = Sizes { segment_bytes, payload_bytes: FRAME_PAYLOAD_BYTES };
        let storage = FileStorage::open_on(Arc::new(disk), sizes)?;
        Ok(FileStorage { _lock: Some(lock), ahead: Ahead::Thread, ..storage })
    }

    fn open_on(disk: Arc<dyn Disk>, sizes: Sizes) -> Result<FileStorage, Error> {
        let meta = Meta::open(disk.as_ref()).map_err(|error| match error {
            ReadError::Io(source) => Error::Io { operation: "read", path: disk.path(meta::NAME), source },
            ReadError::UnknownVersion(version) => {
                Error::UnknownVersion { file: disk.path(meta::NAME), version }
            }
            ReadError::Damaged => Error::Damaged(meta_damage(disk.as_ref())),
        })?;
        Ok(FileStorage {
            log: None,
            unfinished: Unfinished::default(),
            meta,
            lost_snapshot: None,
            disk,
            sizes,
            stopped: None,
            _lock: None,
            ahead: Ahead::Nobody,
        })
    }

    fn read_log(&mut self) -> Result<Recovered, Error> {
        let kept = self.find_snapshots()?;
        let snapshot = kept.iter().copied().find(|kept| Some(*kept) != self.lost_snapshot);
        let snapshot_slot = snapshot.map_or(Slot::ZERO, |meta| meta.slot);
        let distrusted_through = self.lost_snapshot.map_or(Slot::ZERO, |meta| meta.slot);
        let recovered = recovery::recover(&self.disk, &self.meta, distrusted_through)?;
        self.keep_snapshots(&kept)?;
        let mut hard_state = recovered.tail.hard_state;
        let (mut entries, lost) = (recovered.entries, recovered.lost);
        let incomplete_through =
            recovery::settle(&mut entries, &mut hard_state, snapshot_slot, distrusted_through, &lost);
        let entries = entries.split_off(&snapshot_slot.next()).into_iter().collect();
        let mut log = Log::new(Arc::clone(&self.disk), self.meta.clone(), self.sizes, recovered.tail);
        log.prepare_ahead(self.preparer());
        self.log = Some(log);
        Ok(Recovered { hard_state, snapshot, entries, incomplete_through })
    }

    fn preparer(&self) -> Preparer {
        let (disk, meta) = (Arc::clone(&self.disk), self.meta.clone());
        match self.ahead {
            Ahead::Nobody => Preparer::Nobody,
            Ahead::Thread => PreparerThread::start(disk, meta).map_or_else(
                |error| {
                    tracing::warn!(%error, "no thread to prepare the segments of the log");
                    Preparer::Nobody
                },
                Preparer::Thread,
            ),
            #[cfg(test)]
            Ahead::Itself => Preparer::Orderer { disk, meta, made: None },
        }
    }

    /// Finds out which snapshots are what they should be: those to keep, and whether the newest is lost.
    fn find_snapshots(&mut self) -> Result<Vec<SnapshotMeta>, Error> {
        let disk = self.disk.as_ref();
        let described = self.meta.description().snapshots;
        let mut kept = Vec::new();
        for (index, meta) in described.iter().enumerate() {
            if snapshot::is_whole(disk, *meta)? {
                kept.push(*meta);
                continue;
            }
            if index == 0 {
                tracing::warn!("{}", snapshot::damage(disk, *meta));
                self.lost_snapshot = Some(*meta);
                kept.push(*meta);
            } else {
                let file = disk.path(&snapshot::name(meta.slot));
                tracing::warn!(file = %file.display(), "the snapshot before the newest is bad and is dropped");
            }
        }
        Ok(kept)
    }

    /// Removes the files of all snapshots but those `kept`.
    fn keep_snapshots(&mut self, kept: &[SnapshotMeta]) -> Result<(), Error> {
        let disk = self.disk.as_ref();
        if kept.len() < self.meta.description().snapshots.len() {
            let change = self.meta.change(|description| description.snapshots = kept.to_vec());
            change.during("write", &disk.path(meta::NAME))?;
        }
        let kept: Vec<String> = kept.iter().map(|meta| snapshot::name(meta.slot)).collect();
        for name in disk.list().during("list", &disk.path(""))? {
            if snapshot::is_name(&name) && !kept.contains(&name) {
                disk.remove(&name).during("remove", &disk.path(&name))?;
            }
        }
        Ok(())
    }

    /// Does `work` unless the storage has stopped; stops it if the work fails for good.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        match &self.stopped {
            Some(Stopped::Failed(cause)) => return Err(Error::Stopped { cause: cause.clone() }),
            Some(Stopped::Damaged(damage)) => return Err(Error::Damaged(damage.clone())),
            None => {}
        }
        let result = work(self);
        match &result {
            Err(Error::Damaged(damage)) => self.stopped = Some(Stopped::Damaged(damage.clone())),
            Err(error) if error.kind() == ErrorKind::Failed => {
                self.stopped = Some(Stopped::Failed(error.to_string()));
            }
            _ => {}
        }
        result
    }

    /// The snapshots that are kept and whole, newest first.
    fn whole_snapshots(&self) -> impl Iterator<Item = SnapshotMeta> + '_ {
        let described = self.meta.description().snapshots.into_iter();
        described.filter(|meta| Some(*meta) != self.lost_snapshot)
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("a storage is recovered before it is used")
    }
}

impl Storage for FileStorage {
    fn identity(&self) -> &Identity {
        self.meta.identity()
    }

    fn known_peers(&self) -> BTreeMap<NodeId, StorageId> {
        self.meta.description().peers
    }

    fn remember_peers(&mut self, peers: &BTreeMap<NodeId, StorageId>) -> Result<(), Error> {
        assert!(peers.len() <= MAX_PEERS, "no more peers are remembered than there is room for");
        self.guarded(|storage| {
            let change = storage.meta.change(|description| description.peers.clone_from(peers));
            change.during("write", &storage.disk.path(meta::NAME))
        })
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        assert!(self.log.is_none(), "a storage is recovered once");
        self.guarded(FileStorage::read_log)
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        self.guarded(|storage| {
            storage.log().append(&write)?;
            Ok(write.into_durable())
        })
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        self.guarded(|storage| storage.unfinished.write(storage.disk.as_ref(), slot, offset, piece))
    }

    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        self.guarded(|storage| {
            let (disk, lost) = (storage.disk.as_ref(), &mut storage.lost_snapshot);
            storage.unfinished.finish(disk, &storage.meta, lost, meta)
        })
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        let Some(meta) = self.whole_snapshots().find(|meta| meta.slot == slot) else { return Ok(None) };
        self.guarded(|storage| snapshot::read(storage.disk.as_ref(), meta, offset, max_bytes).map(Some))
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        self.whole_snapshots().next()
    }

    fn compact(&mut self, through: Slot) -> Result<(), Error> {
        let newest = self.newest_snapshot().map_or(Slot::ZERO, |meta| meta.slot);
        self.guarded(|storage| storage.log().compact(through.min(newest)))
    }

    fn mark(&mut self) -> Result<(), Error> {
        self.guarded(|storage| storage.log().mark())
    }

    fn room(&self) -> Room {
        if self.log.as_ref().is_some_and(Log::is_full) { Room::Low } else { Room::Ample }
    }
}

/// Tells a directory that was never a node's, or not quite, from one that has lost META.
fn check_formatted(disk: &dyn Disk, directory: &Path) -> Result<(), Error> {
    let not_formatted = || Error::NotFormatted { directory: directory.to_owned() };
    let names = match disk.list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_formatted()),
        names => names.during("list", directory)?,
    };
    let has = |name: &str| names.iter().any(|other| other == name);
    let is_ours = |name: &String| segment::number_of(name).is_some() || snapshot::is_name(name);
    match () {
        () if has(meta::NAME) => Ok(()),
        () if !has(meta::NEW_NAME) && names.iter().any(is_ours) => Err(Error::Damaged(meta_damage(disk))),
        () => Err(not_formatted()),
    }
}

fn lock_file(lock: &File, directory: &Path, path: &Path) -> Result<(), Error> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { directory: directory.to_owned() }),
        Err(TryLockError::Error(source)) => {
            Err(Error::Io { operation: "lock", path: path.to_owned(), source })
        }
    }
}

fn meta_damage(disk: &dyn Disk) -> Damage {
    let (file, cause) = (disk.path(meta::NAME), DamageCause::Meta);
    Damage { file, offset: 0, cause, slots: None, is_promise_intact: false }
}

/// Tells of a failed call what was being done.
trait During<T> {
    fn during(self, operation: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, operation: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { operation, path: path.to_owned(), source })
    }
}
