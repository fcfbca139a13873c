//! Snapshot files: written under a temporary name, and renamed once they are complete and synced.
//!
//! A file holds the state byte for byte, and behind it the membership that is in force after the snapshot's
//! slot, as [`Membership::encode`] lays it out. META has the length and the checksum of both. So there is no
//! snapshot without its membership, wherever a crash comes. A file of an older version ends behind the state.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use paxos_core::{Membership, Slot, SnapshotMeta};

use super::append::spares::Spares;
use super::disk::{Access, Disk, DiskFile, is_bad_medium, remove_if_there};
use super::failure::{self, During};
use super::layout::meta::{self, KEPT_SNAPSHOTS, Meta};
use crate::codec::membership::MembershipSum;
use crate::codec::snapshot::SnapshotRecord;
use crate::{Damage, DamageCause, DeferredWork, Error, ErrorKind, UnfinishedSnapshots};

const PREFIX: &str = "snapshot-";
const NEW_SUFFIX: &str = ".new";
/// An unfinished file is to be synced each time it has grown this much: the last sync is short then, and no
/// sync of the log waits for more than this.
const SYNC_BYTES: u64 = 1 << 20;
/// It is synced at once if it has grown this much and nobody has done so.
const MAX_UNSYNCED_BYTES: u64 = 8 << 20;
/// How many bytes are read at once.
const READ_BYTES: usize = 1 << 20;

/// The snapshots that are being written.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    files: UnfinishedSnapshots<NewFile>,
    /// Finished ones that are no longer kept, and whose files are yet to be removed. That takes as long as to
    /// write some megabytes: the system frees all of a file's blocks and cached pages.
    dropped: Vec<Slot>,
    /// What goes first if there is no space.
    spares: Option<Spares>,
}

#[derive(Debug)]
struct NewFile {
    /// Shared with syncs that run beside other calls.
    file: Arc<dyn DiskFile>,
    unsynced_bytes: u64,
}

impl Unfinished {
    /// From now on, gives these up if there is no space for a snapshot.
    pub(crate) fn give_up_first(&mut self, spares: Spares) {
        self.spares = Some(spares);
    }

    pub(crate) fn write(
        &mut self,
        disk: &dyn Disk,
        slot: Slot,
        offset: u64,
        piece: &[u8],
    ) -> Result<(), Error> {
        let name = new_name(slot);
        let path = disk.path(&name);
        if offset == 0 {
            self.start(disk, slot)?;
        }
        let spares = self.spares.as_ref();
        let written = self.files.write(slot, offset, piece, |new| {
            let written = with_space(disk, spares, || new.file.write_at(piece, offset));
            written.map_err(|source| failure::or_failure("write", path.clone(), source))?;
            new.unsynced_bytes += piece.len() as u64;
            if new.unsynced_bytes >= MAX_UNSYNCED_BYTES {
                new.unsynced_bytes = 0;
                new.file.sync().during("sync", &path)?;
            }
            Ok(())
        });
        if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::Full) {
            // Nothing depends on an unfinished snapshot, so it can be dropped if there is no space.
            disk.remove(&name).during("remove", &path)?;
        }
        written
    }

    /// A sync of the pieces so far, if they are many, or the removal of the file of an old snapshot.
    pub(crate) fn deferred_work(&mut self, disk: &Arc<dyn Disk>) -> Option<DeferredWork> {
        let unsynced = self.files.places_mut().find(|(_, new)| new.unsynced_bytes >= SYNC_BYTES);
        if let Some((slot, new)) = unsynced {
            new.unsynced_bytes = 0;
            let (file, path) = (Arc::clone(&new.file), disk.path(&new_name(slot)));
            return Some(Box::new(move || file.sync().during("sync", &path)));
        }
        let (old, disk) = (name(self.dropped.pop()?), Arc::clone(disk));
        Some(Box::new(move || remove_if_there(disk.as_ref(), &old).during("remove", &disk.path(&old))))
    }

    /// Removes the files of old snapshots, if nobody has done so.
    fn remove_dropped(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        while let Some(slot) = self.dropped.pop() {
            let old = name(slot);
            remove_if_there(disk, &old).during("remove", &disk.path(&old))?;
        }
        Ok(())
    }

    pub(crate) fn finish(
        &mut self,
        disk: &dyn Disk,
        meta_file: &Meta,
        lost: &mut Option<SnapshotRecord>,
        meta: &SnapshotMeta,
    ) -> Result<(), Error> {
        let slot = meta.slot;
        let new_name = new_name(slot);
        let new = match self.files.finish(meta) {
            Ok(Some(new)) => new,
            Ok(None) => self.create(disk, slot)?,
            Err(mismatch) => {
                remove_if_there(disk, &new_name).during("remove", &disk.path(&new_name))?;
                return Err(mismatch);
            }
        };
        let described = meta_file.description().snapshots;
        let kept: Vec<_> = described.iter().copied().filter(|kept| Some(*kept) != *lost).collect();
        let is_newest = kept.first().is_none_or(|newest| newest.slot < slot);
        if !is_newest {
            return disk.remove(&new_name).during("remove", &disk.path(&new_name));
        }
        let record = complete(disk, self.spares.as_ref(), &new, meta)?;
        disk.rename(&new_name, &name(slot)).during("rename", &disk.path(&new_name))?;
        disk.sync_directory().during("sync", &disk.path(""))?;
        // A lost snapshot stays in META until a later one replaces it, so that each start notices the loss.
        *lost = lost.filter(|lost| lost.slot > slot);
        let mut snapshots: Vec<_> = lost.iter().copied().chain([record]).chain(kept).collect();
        snapshots.truncate(KEPT_SNAPSHOTS);
        let change = meta_file.change(|description| {
            description.snapshots.clone_from(&snapshots);
            description.format_level = description.format_level.max(meta.membership.format_level());
        });
        change.during("write", &disk.path(meta::NAME))?;
        self.remove_dropped(disk)?;
        let is_dropped = |old: &Slot| snapshots.iter().all(|kept| kept.slot != *old);
        self.dropped = described.iter().map(|old| old.slot).filter(is_dropped).collect();
        Ok(())
    }

    fn start(&mut self, disk: &dyn Disk, slot: Slot) -> Result<(), Error> {
        drop(self.files.remove(slot)); // Its file is emptied.
        let new = self.create(disk, slot)?;
        if let Some((given_up, _)) = self.files.begin(slot, new) {
            let given_up = new_name(given_up);
            disk.remove(&given_up).during("remove", &disk.path(&given_up))?;
        }
        Ok(())
    }

    fn create(&self, disk: &dyn Disk, slot: Slot) -> Result<NewFile, Error> {
        let name = new_name(slot);
        let file = with_space(disk, self.spares.as_ref(), || disk.create(&name, Access::Cached));
        let file = file.map_err(|source| failure::or_failure("create", disk.path(&name), source))?;
        Ok(NewFile { file: Arc::from(file), unsynced_bytes: 0 })
    }
}

/// Tries again without spares if there is no space.
fn with_space<T>(
    disk: &dyn Disk,
    spares: Option<&Spares>,
    attempt: impl Fn() -> io::Result<T>,
) -> io::Result<T> {
    match attempt() {
        Err(error) if failure::of_space(&error) && spares.is_some_and(|spares| spares.give_up(disk)) => {
            attempt()
        }
        result => result,
    }
}

/// Adds the membership to a file that holds the whole state, and makes it durable.
fn complete(
    disk: &dyn Disk,
    spares: Option<&Spares>,
    new: &NewFile,
    meta: &SnapshotMeta,
) -> Result<SnapshotRecord, Error> {
    let name = new_name(meta.slot);
    let encoded = meta.membership.encode();
    if let Err(source) = with_space(disk, spares, || new.file.write_at(&encoded, meta.size_bytes)) {
        let error = failure::or_failure("write", disk.path(&name), source);
        if error.kind() == ErrorKind::Full {
            disk.remove(&name).during("remove", &disk.path(&name))?;
        }
        return Err(error);
    }
    new.file.sync().during("sync", &disk.path(&name))?;
    Ok(SnapshotRecord::of(meta, &encoded))
}

/// Reads up to `max_bytes` of the state in a finished snapshot of this slot and size.
pub(crate) fn read(
    disk: &dyn Disk,
    slot: Slot,
    size_bytes: u64,
    offset: u64,
    max_bytes: usize,
) -> Result<Bytes, Error> {
    let rest = size_bytes.saturating_sub(offset);
    let length = usize::try_from(rest).unwrap_or(usize::MAX).min(max_bytes);
    let name = name(slot);
    let file = disk.open(&name, Access::Cached).during("open", &disk.path(&name))?;
    let mut piece = BytesMut::zeroed(length);
    file.read_at(&mut piece, offset).during("read", &disk.path(&name))?;
    Ok(piece.freeze())
}

/// A snapshot whose file is as META describes it.
#[derive(Debug)]
pub(crate) struct Whole {
    /// `None` in a file of an older version.
    pub(crate) membership: Option<Membership>,
}

/// Reads the whole file. `None` if it is missing, or if sizes or checksums are wrong.
pub(crate) fn check(disk: &dyn Disk, record: SnapshotRecord) -> Result<Option<Whole>, Error> {
    let name = name(record.slot);
    let file = match disk.open(&name, Access::Cached) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.during("open", &disk.path(&name))?,
    };
    file.sync().during("sync", &disk.path(&name))?;
    let membership_bytes = record.membership.map_or(0, MembershipSum::size_bytes);
    let file_bytes = file.size_bytes().during("read", &disk.path(&name))?;
    if file_bytes.checked_sub(record.size_bytes) != Some(membership_bytes as u64) {
        return Ok(None);
    }
    let (mut offset, mut checksum) = (0, 0);
    while offset < record.size_bytes {
        let piece = match read(disk, record.slot, record.size_bytes, offset, READ_BYTES) {
            Err(Error::Io { source, .. }) if is_bad_medium(&source) => return Ok(None),
            piece => piece?,
        };
        checksum = crc32c::crc32c_append(checksum, &piece);
        offset += piece.len() as u64;
    }
    let membership = match record.membership {
        None => None,
        Some(sum) => {
            let mut encoded = BytesMut::zeroed(membership_bytes);
            match file.read_at(&mut encoded, record.size_bytes) {
                Err(error) if is_bad_medium(&error) => return Ok(None),
                read => read.during("read", &disk.path(&name))?,
            }
            match sum.decode(&encoded) {
                Some(membership) => Some(membership),
                None => return Ok(None),
            }
        }
    };
    Ok((checksum == record.checksum).then_some(Whole { membership }))
}

/// The damage that a lost snapshot is.
pub(crate) fn damage(disk: &dyn Disk, lost: SnapshotRecord) -> Damage {
    let (file, slots) = (disk.path(&name(lost.slot)), Some((Slot::FIRST, lost.slot)));
    Damage { file, offset: 0, cause: DamageCause::Snapshot, slots, is_promise_intact: true }
}

/// The file name of a finished snapshot.
pub(crate) fn name(slot: Slot) -> String {
    format!("{PREFIX}{:020}", slot.0)
}

/// Whether this is the file name of a snapshot, finished or not.
pub(crate) fn is_name(file_name: &str) -> bool {
    let finished = file_name.strip_suffix(NEW_SUFFIX).unwrap_or(file_name);
    let slot = finished.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
    slot.is_some_and(|slot| name(Slot(slot)) == finished)
}

fn new_name(slot: Slot) -> String {
    format!("{}{NEW_SUFFIX}", name(slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::disk::simulated::{Fault, Kept, SimulatedDisk};

    const SLOT: Slot = Slot(7);

    /// A snapshot of which this many bytes are written.
    fn written(disk: &SimulatedDisk, bytes: u64) -> Unfinished {
        let mut unfinished = Unfinished::default();
        for offset in (0..bytes).step_by(1 << 18) {
            let piece = vec![7; usize::try_from(bytes - offset).expect("it is short").min(1 << 18)];
            unfinished.write(disk, SLOT, offset, &piece).expect("the disk takes everything");
        }
        unfinished
    }

    /// How much of it would survive a crash. Names need a sync of the directory.
    fn durable_bytes(disk: &SimulatedDisk) -> usize {
        disk.sync_directory().expect("it has no fault");
        disk.after_crash(Kept::Nothing).content(&new_name(SLOT)).len()
    }

    #[test]
    fn pieces_are_synced_by_whoever_takes_that_on_and_by_the_storage_only_if_nobody_does() {
        let disk = SimulatedDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        assert!(written(&disk, SYNC_BYTES - 1).deferred_work(&shared).is_none(), "it is not worth a sync");
        let mut unfinished = written(&disk, SYNC_BYTES + 3);
        assert_eq!(durable_bytes(&disk), 0);
        let sync = unfinished.deferred_work(&shared).expect("there is much to sync");
        assert!(unfinished.deferred_work(&shared).is_none(), "the sync is given away once");
        std::thread::spawn(sync).join().expect("it does not panic").expect("it has no fault");
        assert_eq!(durable_bytes(&disk) as u64, SYNC_BYTES + 3);
        let _unfinished = written(&disk, MAX_UNSYNCED_BYTES + 1);
        assert_eq!(durable_bytes(&disk) as u64, MAX_UNSYNCED_BYTES);
    }

    #[test]
    fn a_sync_that_fails_says_so() {
        let disk = SimulatedDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let sync = written(&disk, SYNC_BYTES).deferred_work(&shared).expect("there is much to sync");
        disk.set_fault(Some(Fault::Fail { at: 0, kind: io::ErrorKind::Other }));
        assert_eq!(sync().expect_err("it failed").kind(), ErrorKind::Failed);
    }
}
