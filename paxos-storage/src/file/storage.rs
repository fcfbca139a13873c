//! The storage itself: opens a directory, recovers it, and passes each call on to the log and the snapshots.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::{Durable, Recovered, Slot, SnapshotMeta, Write};

use super::append::log::{Log, Sizes};
use super::append::prepare::{Maker, Preparer, PreparerThread};
use super::append::spares::{MAX_SPARES, Spares};
use super::disk::buffer::round_up;
use super::disk::{Disk, SystemDisk};
use super::failure::During;
use super::format::{LOCK_NAME, check_formatted, lock_file, unreadable, volume_bytes};
use super::layout::meta::{self, Meta};
use super::layout::segment::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
use super::recovery::{self, losses};
use super::snapshot::{self, Unfinished};
use crate::codec::snapshot::SnapshotRecord;
use crate::{
    Capacity, Damage, DeferredWork, Error, ErrorKind, Identity, RecoveryProgress, Registry, Storage,
};

/// A volume must have space for this many segments: the present and the next one, and snapshots. Only on a
/// larger one files of old segments are kept to be used again.
const MIN_SEGMENTS: u64 = 4;
/// A longer write is split into several frames, which bounds the buffer.
const FRAME_PAYLOAD_BYTES: usize = 4 << 20;

/// Settings of a [`FileStorage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FileSettings {
    /// The size of segments in bytes: from 64 KiB to 1 GiB, rounded up to whole blocks. The first segments
    /// are smaller, and so are those on a full disk. A segment for a longer write is larger.
    ///
    /// Besides the segments that hold the log, there are the next one, made ahead of time, and up to four old
    /// ones that are kept to be used again. The latter are removed if space is short.
    pub segment_bytes: u64,
}

impl FileSettings {
    /// Changes fields in one expression.
    ///
    /// ```
    /// use paxos_storage::file::FileSettings;
    ///
    /// let settings = FileSettings::default().with(|settings| settings.segment_bytes = 16 << 20);
    /// assert_eq!(settings.segment_bytes, 16 << 20);
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut FileSettings)) -> FileSettings {
        change(&mut self);
        self
    }
}

impl Default for FileSettings {
    fn default() -> Self {
        FileSettings { segment_bytes: 64 << 20 }
    }
}

/// A storage in a directory; see the [module](crate::file).
#[derive(Debug)]
pub struct FileStorage {
    // Fields are dropped in this order: the thread that prepares segments ends before the lock is released.
    log: Option<Log>,
    unfinished: Unfinished,
    meta: Meta,
    /// The newest snapshot in META, if its file is missing or damaged.
    lost_snapshot: Option<SnapshotRecord>,
    /// The whole snapshots, newest first.
    snapshots: Vec<SnapshotMeta>,
    disk: Arc<dyn Disk>,
    sizes: Sizes,
    pub(crate) stopped: Option<Stopped>,
    progress: RecoveryProgress,
    /// Held for as long as the storage is open. `None` on a simulated disk.
    _lock: Option<File>,
    pub(crate) prepare_mode: PrepareMode,
}

/// How segments are made before they are needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PrepareMode {
    /// They are not: each is made when it is needed.
    OnDemand,
    /// A thread makes them.
    Thread,
    /// The log makes them when a thread would be asked to, so that tests are deterministic.
    #[cfg(test)]
    Inline,
}

/// Why the storage refuses all calls.
#[derive(Debug)]
pub(crate) enum Stopped {
    Failed(String),
    Damaged(Damage),
}

impl FileStorage {
    /// Opens a directory that [`format`](crate::file::format()) has made. Reads only META;
    /// [`Storage::recover`] reads the rest.
    ///
    /// # Errors
    ///
    /// [`Error::NotFormatted`], [`Error::Locked`] if another process (or this one) has it open,
    /// [`Error::UnknownVersion`], [`Error::UnknownLevel`], [`Error::Damaged`] if META can't be read,
    /// [`Error::VolumeTooSmall`] for segments of the size in `settings`, [`Error::Io`].
    pub fn open(directory: &Path, settings: FileSettings) -> Result<FileStorage, Error> {
        let segment_bytes = usize::try_from(settings.segment_bytes).unwrap_or(MAX_SEGMENT_BYTES);
        let segment_bytes = round_up(segment_bytes.clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES));
        let disk = SystemDisk::new(directory.to_owned());
        check_formatted(&disk, directory)?;
        let volume_bytes = volume_bytes(directory)?;
        if volume_bytes < MIN_SEGMENTS * segment_bytes as u64 {
            let directory = directory.to_owned();
            let limit_bytes = volume_bytes / MIN_SEGMENTS;
            return Err(Error::VolumeTooSmall { directory, volume_bytes, segment_bytes, limit_bytes });
        }
        let lock_path = disk.path(LOCK_NAME);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path);
        let lock = lock.during("open", &lock_path)?;
        lock_file(&lock, directory, &lock_path)?;
        let more_segments = volume_bytes / segment_bytes as u64 - MIN_SEGMENTS;
        let spares = MAX_SPARES.min(usize::try_from(more_segments).unwrap_or(MAX_SPARES));
        let sizes = Sizes { segment_bytes, payload_bytes: FRAME_PAYLOAD_BYTES, spares };
        let storage = FileStorage::open_on(Arc::new(disk), sizes)?;
        Ok(FileStorage { _lock: Some(lock), prepare_mode: PrepareMode::Thread, ..storage })
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, sizes: Sizes) -> Result<FileStorage, Error> {
        let meta = Meta::open(disk.as_ref()).map_err(|error| unreadable(error, disk.as_ref()))?;
        Ok(FileStorage {
            log: None,
            unfinished: Unfinished::default(),
            meta,
            lost_snapshot: None,
            snapshots: Vec::new(),
            disk,
            sizes,
            stopped: None,
            progress: RecoveryProgress::default(),
            _lock: None,
            prepare_mode: PrepareMode::OnDemand,
        })
    }

    fn read_log(&mut self) -> Result<Recovered, Error> {
        let kept = self.find_snapshots()?;
        let snapshot = self.newest_snapshot();
        let snapshot_slot = snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
        let lost_snapshot_slot = self.lost_snapshot.map_or(Slot::ZERO, |meta| meta.slot);
        let recovered = recovery::recover(&self.disk, &self.meta, lost_snapshot_slot, &self.progress)?;
        self.progress.set(1, 1);
        self.keep_snapshots(&kept)?;
        let mut hard_state = recovered.tail.hard_state;
        let (mut entries, lost) = (recovered.entries, recovered.lost);
        let incomplete_through = losses::account_for_losses(
            &mut entries,
            &mut hard_state,
            snapshot_slot,
            lost_snapshot_slot,
            &lost,
        );
        let entries = entries.split_off(&snapshot_slot.next()).into_iter().collect();
        let spares = Spares::find(self.disk.as_ref(), &self.meta, self.sizes)?;
        self.unfinished.give_up_first(spares.clone());
        let maker = Maker { disk: Arc::clone(&self.disk), meta: self.meta.clone(), spares };
        let mut log = Log::new(maker.clone(), self.sizes, recovered.tail);
        log.prepare_ahead(self.preparer(maker));
        self.log = Some(log);
        Ok(Recovered::new(hard_state, snapshot, entries).with_losses(incomplete_through))
    }

    fn preparer(&self, maker: Maker) -> Preparer {
        match self.prepare_mode {
            PrepareMode::OnDemand => Preparer::OnDemand,
            PrepareMode::Thread => PreparerThread::start(maker).map_or_else(
                |error| {
                    tracing::warn!(%error, "can't start a thread that prepares segments: each is made when it is needed");
                    Preparer::OnDemand
                },
                Preparer::Thread,
            ),
            #[cfg(test)]
            PrepareMode::Inline => Preparer::Inline { maker, made: None },
        }
    }

    /// Checks the snapshots in META. Returns those to keep: whole ones, and the newest even if it is lost, so
    /// that each later start notices that, too.
    fn find_snapshots(&mut self) -> Result<Vec<SnapshotRecord>, Error> {
        let disk = self.disk.as_ref();
        let description = self.meta.description();
        let founding = description.registry.founding.map(|founding| founding.membership);
        let mut kept = Vec::new();
        self.snapshots.clear();
        for (index, record) in description.snapshots.iter().enumerate() {
            let SnapshotRecord { slot, size_bytes, checksum, .. } = *record;
            if let Some(whole) = snapshot::check(disk, *record)? {
                // Before snapshots had memberships, no membership was changed.
                let membership = whole.membership.or_else(|| founding.clone());
                let membership = membership.ok_or(Error::MembershipUnknown { slot })?;
                self.snapshots.push(SnapshotMeta { slot, size_bytes, checksum, membership });
                kept.push(*record);
            } else if index == 0 {
                tracing::warn!("{}", snapshot::damage(disk, *record));
                self.lost_snapshot = Some(*record);
                kept.push(*record);
            } else {
                let file = disk.path(&snapshot::name(slot));
                tracing::warn!(file = %file.display(), "the snapshot before the newest is damaged and is dropped");
            }
        }
        Ok(kept)
    }

    /// Removes all snapshots except those in `kept`.
    fn keep_snapshots(&mut self, kept: &[SnapshotRecord]) -> Result<(), Error> {
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

    /// Runs `work` unless the storage has stopped, and stops the storage if `work` fails for good.
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

    /// Makes a snapshot the newest one, with its file.
    fn add_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        self.unfinished.finish(self.disk.as_ref(), &self.meta, &mut self.lost_snapshot, &meta)?;
        if self.snapshots.first().is_none_or(|newest| newest.slot < meta.slot) {
            self.snapshots.insert(0, meta);
            let described = self.meta.description().snapshots;
            self.snapshots.retain(|kept| described.iter().any(|record| record.slot == kept.slot));
        }
        Ok(())
    }

    /// The finished snapshot of this slot, if it is there and whole.
    pub(crate) fn snapshot(&self, slot: Slot) -> Option<&SnapshotMeta> {
        self.snapshots.iter().find(|meta| meta.slot == slot)
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("a storage is recovered before it is used")
    }
}

impl Storage for FileStorage {
    fn identity(&self) -> &Identity {
        self.meta.identity()
    }

    fn registry(&self) -> Registry {
        self.meta.description().registry
    }

    fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
        registry.assert_bounded();
        self.guarded(|storage| {
            let founding = registry.founding.as_ref().map(|founding| founding.membership.format_level());
            let change = storage.meta.change(|description| {
                description.registry.clone_from(registry);
                description.format_level = description.format_level.max(founding.unwrap_or_default());
            });
            change.during("write", &storage.disk.path(meta::NAME))
        })
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        assert!(self.log.is_none(), "a storage is recovered once");
        self.guarded(FileStorage::read_log)
    }

    fn recovery_progress(&self) -> RecoveryProgress {
        self.progress.clone()
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

    fn deferred_work(&mut self) -> Option<DeferredWork> {
        self.unfinished.deferred_work(&self.disk)
    }

    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        self.guarded(|storage| storage.add_snapshot(meta))
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        let Some(size_bytes) = self.snapshot(slot).map(|meta| meta.size_bytes) else { return Ok(None) };
        let disk = Arc::clone(&self.disk);
        self.guarded(|_| snapshot::read(disk.as_ref(), slot, size_bytes, offset, max_bytes).map(Some))
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        self.snapshots.first().cloned()
    }

    fn compact(&mut self, through: Slot) -> Result<(), Error> {
        let newest = self.snapshots.first().map_or(Slot::ZERO, |meta| meta.slot);
        self.guarded(|storage| storage.log().compact(through.min(newest)))
    }

    fn prove_last_write(&mut self) -> Result<(), Error> {
        self.guarded(|storage| storage.log().prove_last_write())
    }

    fn capacity(&self) -> Capacity {
        if self.log.as_ref().is_some_and(Log::is_full) { Capacity::Low } else { Capacity::Ample }
    }
}
