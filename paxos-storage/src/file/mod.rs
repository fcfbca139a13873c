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
//!   was acknowledged, which is refused.
//! - **Fail-stop.** After any failed write or sync nothing is acknowledged any more; a sync is never tried again.
//! - **Space.** The next segment is made before it is needed. If there is no space for it, [`Storage::room`] says
//!   so while there is still room in this one.
//! - **[`FileStorage::open`] never creates.** A directory is made by [`format()`], once: a disk that is not mounted
//!   must not become a node that has forgotten what it promised.
//!
//! The layout of each file is drawn, byte by byte, above the module that writes it: `meta.rs`, `segment.rs`,
//! `frame.rs`. All numbers are little-endian; checksums are CRC32C.
//!
//! Deliberately absent: repair of a damaged log. The values may have been chosen with this node's help, so only
//! its peers can tell what they were.

mod buffer;
#[cfg(test)]
mod crash_tests;
mod disk;
mod frame;
mod log;
mod meta;
mod prepare;
mod recovery;
mod segment;
#[cfg(test)]
mod simulated;
mod snapshot;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::{Durable, Recovered, Slot, SnapshotMeta, Write};

use crate::{Damage, DamageCause, Error, ErrorKind, Identity, Room, Storage};
use disk::{Disk, SystemDisk};
use frame::Link;
use log::{Log, Sizes};
use meta::{Description, MAX_CLUSTER_NAME_BYTES, Meta, ReadError};
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
    let first = segment::create(disk, FIRST_SEGMENT, first_segment_bytes, fingerprint, || true);
    first.during("create", &disk.path(&segment::name(FIRST_SEGMENT)))?;
    let description = Description {
        identity: identity.clone(),
        first_segment: FIRST_SEGMENT,
        last_segment: FIRST_SEGMENT,
        first_frame: Link { sequence: 1, chain: crc32c::crc32c(&fingerprint.to_le_bytes()) },
        snapshots: Vec::new(),
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
    disk: Arc<dyn Disk>,
    sizes: Sizes,
    stopped: Option<Stopped>,
    /// `None` on a disk that no other process can see.
    _lock: Option<File>,
    /// Whether a thread prepares segments. Without one every run does the same in the same order.
    prepares_ahead: bool,
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
        Ok(FileStorage { _lock: Some(lock), prepares_ahead: true, ..storage })
    }

    fn open_on(disk: Arc<dyn Disk>, sizes: Sizes) -> Result<FileStorage, Error> {
        let meta = Meta::open(disk.as_ref()).map_err(|error| match error {
            ReadError::Io(source) => Error::Io { operation: "read", path: disk.path(meta::NAME), source },
            ReadError::UnknownVersion(version) => {
                Error::UnknownVersion { file: disk.path(meta::NAME), version }
            }
            ReadError::Damaged => meta_damage(disk.as_ref()),
        })?;
        Ok(FileStorage {
            log: None,
            unfinished: Unfinished::default(),
            meta,
            disk,
            sizes,
            stopped: None,
            _lock: None,
            prepares_ahead: false,
        })
    }

    fn read_log(&mut self) -> Result<Recovered, Error> {
        let fingerprint = self.meta.description().identity.fingerprint();
        let recovered = recovery::recover(&self.disk, &mut self.meta, fingerprint)?;
        self.check_snapshots()?;
        let snapshot = self.newest_snapshot();
        let after = snapshot.map_or(Slot::ZERO, |meta| meta.slot).next();
        let hard_state = recovered.tail.hard_state;
        let mut entries = recovered.entries;
        let entries = entries.split_off(&after).into_iter().collect();
        let disk = Arc::clone(&self.disk);
        let mut log = Log::new(disk, fingerprint, self.sizes, recovered.tail);
        if self.prepares_ahead {
            log.prepare_ahead();
        }
        self.log = Some(log);
        Ok(Recovered { hard_state, snapshot, entries })
    }

    /// Makes sure that the snapshots are what they should be, and removes the files of all others.
    fn check_snapshots(&mut self) -> Result<(), Error> {
        let disk = self.disk.as_ref();
        let mut snapshots = self.meta.description().snapshots.clone();
        for (index, meta) in snapshots.clone().into_iter().enumerate() {
            if snapshot::is_whole(disk, meta)? {
                continue;
            }
            let file = disk.path(&snapshot::name(meta.slot));
            if index == 0 {
                let slots = Some((Slot::FIRST, meta.slot));
                let cause = DamageCause::Snapshot;
                return Err(Error::Damaged(Damage {
                    file,
                    offset: 0,
                    cause,
                    slots,
                    is_promise_intact: true,
                }));
            }
            tracing::warn!(file = %file.display(), "the snapshot before the newest is bad and is dropped");
            snapshots.truncate(index);
        }
        if snapshots.len() < self.meta.description().snapshots.len() {
            let change = self.meta.change(|description| description.snapshots.clone_from(&snapshots));
            change.during("write", &disk.path(meta::NAME))?;
        }
        let kept: Vec<String> = snapshots.iter().map(|meta| snapshot::name(meta.slot)).collect();
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

    fn log(&mut self) -> (&mut Log, &mut Meta) {
        let log = self.log.as_mut().expect("a storage is recovered before it is used");
        (log, &mut self.meta)
    }
}

impl Storage for FileStorage {
    fn identity(&self) -> &Identity {
        &self.meta.description().identity
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        assert!(self.log.is_none(), "a storage is recovered once");
        self.guarded(FileStorage::read_log)
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        self.guarded(|storage| {
            let (log, meta) = storage.log();
            log.append(meta, &write)?;
            Ok(write.into_durable())
        })
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        self.guarded(|storage| storage.unfinished.write(storage.disk.as_ref(), slot, offset, piece))
    }

    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        self.guarded(|storage| storage.unfinished.finish(storage.disk.as_ref(), &mut storage.meta, meta))
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        let kept = self.meta.description().snapshots.iter();
        let Some(meta) = kept.copied().find(|meta| meta.slot == slot) else { return Ok(None) };
        self.guarded(|storage| snapshot::read(storage.disk.as_ref(), meta, offset, max_bytes).map(Some))
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        self.meta.description().snapshots.first().copied()
    }

    fn compact(&mut self, through: Slot) -> Result<(), Error> {
        let newest = self.newest_snapshot().map_or(Slot::ZERO, |meta| meta.slot);
        self.guarded(|storage| {
            let (log, meta) = storage.log();
            log.compact(meta, through.min(newest))
        })
    }

    fn mark(&mut self) -> Result<(), Error> {
        self.guarded(|storage| {
            let (log, meta) = storage.log();
            log.mark(meta)
        })
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
        () if !has(meta::NEW_NAME) && names.iter().any(is_ours) => Err(meta_damage(disk)),
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

fn meta_damage(disk: &dyn Disk) -> Error {
    let file: PathBuf = disk.path(meta::NAME);
    let cause = DamageCause::Meta;
    Error::Damaged(Damage { file, offset: 0, cause, slots: None, is_promise_intact: false })
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
