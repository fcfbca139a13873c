//! Snapshot files: written under a temporary name, and renamed once they are complete and synced.
//!
//! A file holds the state byte for byte, and behind it the membership that is in force after the snapshot's
//! slot, as [`Membership::encode`] lays it out. META has the length and the checksum of both. So there is no
//! snapshot without its membership, wherever a crash comes. A file of an older version ends behind the state.

use std::collections::BTreeMap;
use std::io;

use bytes::{Bytes, BytesMut};
use paxos_core::{Membership, Slot, SnapshotMeta};

use super::append::spares::Spares;
use super::disk::{Access, Disk, DiskFile, is_bad_medium, remove_if_there};
use super::failure::{self, During};
use super::layout::membership::MembershipSum;
use super::layout::meta::{self, KEPT_SNAPSHOTS, Meta, SnapshotRecord};
use crate::{Damage, DamageCause, Error, ErrorKind};

const PREFIX: &str = "snapshot-";
const NEW_SUFFIX: &str = ".new";
/// An unfinished file is synced each time it has grown this much, so that the last sync is short.
const SYNC_BYTES: u64 = 1 << 20;
/// How many snapshots may be unfinished. Beyond that, the one of the lowest slot is dropped.
const MAX_UNFINISHED: usize = 4;
/// How many bytes are read at once.
const READ_BYTES: usize = 1 << 20;

/// The snapshots that are being written.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    files: BTreeMap<Slot, NewFile>,
    /// What goes first if there is no space.
    spares: Option<Spares>,
}

#[derive(Debug)]
struct NewFile {
    file: Box<dyn DiskFile>,
    size_bytes: u64,
    checksum: u32,
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
        let started = self.files.get_mut(&slot).filter(|new| new.size_bytes == offset);
        let new = started.ok_or(Error::SnapshotMismatch { slot, problem: "a piece came out of order" })?;
        if let Err(source) = with_space(disk, self.spares.as_ref(), || new.file.write_at(piece, offset)) {
            // Nothing depends on an unfinished snapshot, so it can be dropped if there is no space.
            let error = failure::or_failure("write", path, source);
            if error.kind() == ErrorKind::Full {
                self.files.remove(&slot);
                disk.remove(&name).during("remove", &disk.path(&name))?;
            }
            return Err(error);
        }
        new.size_bytes += piece.len() as u64;
        new.checksum = crc32c::crc32c_append(new.checksum, piece);
        new.unsynced_bytes += piece.len() as u64;
        if new.unsynced_bytes >= SYNC_BYTES {
            new.unsynced_bytes = 0;
            new.file.sync().during("sync", &path)?;
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
        if !self.files.contains_key(&slot) && meta.size_bytes == 0 {
            self.start(disk, slot)?;
        }
        let Some(new) = self.files.remove(&slot) else {
            return Err(Error::SnapshotMismatch { slot, problem: "no piece of it was written" });
        };
        let problem = match () {
            () if new.size_bytes != meta.size_bytes => Some("its size differs"),
            () if new.checksum != meta.checksum => Some("its checksum differs"),
            () => None,
        };
        let new_name = new_name(slot);
        let described = meta_file.description().snapshots;
        let kept: Vec<_> = described.iter().copied().filter(|kept| Some(*kept) != *lost).collect();
        let is_newest = kept.first().is_none_or(|newest| newest.slot < slot);
        if problem.is_some() || !is_newest {
            disk.remove(&new_name).during("remove", &disk.path(&new_name))?;
            return problem.map_or(Ok(()), |problem| Err(Error::SnapshotMismatch { slot, problem }));
        }
        let record = complete(disk, self.spares.as_ref(), &new, meta)?;
        disk.rename(&new_name, &name(slot)).during("rename", &disk.path(&new_name))?;
        disk.sync_directory().during("sync", &disk.path(""))?;
        // A lost snapshot stays in META until a later one replaces it, so that each start notices the loss.
        *lost = lost.filter(|lost| lost.slot > slot);
        let mut snapshots: Vec<_> = lost.iter().copied().chain([record]).chain(kept).collect();
        snapshots.truncate(KEPT_SNAPSHOTS);
        let change = meta_file.change(|description| description.snapshots.clone_from(&snapshots));
        change.during("write", &disk.path(meta::NAME))?;
        let is_dropped = |old: &&SnapshotRecord| snapshots.iter().all(|kept| kept.slot != old.slot);
        for old in described.iter().filter(is_dropped) {
            let old = name(old.slot);
            remove_if_there(disk, &old).during("remove", &disk.path(&old))?;
        }
        Ok(())
    }

    fn start(&mut self, disk: &dyn Disk, slot: Slot) -> Result<(), Error> {
        self.files.remove(&slot);
        if self.files.len() >= MAX_UNFINISHED
            && let Some((dropped, _)) = self.files.pop_first()
        {
            let dropped = new_name(dropped);
            disk.remove(&dropped).during("remove", &disk.path(&dropped))?;
        }
        let name = new_name(slot);
        let file = with_space(disk, self.spares.as_ref(), || disk.create(&name, Access::Cached));
        let file = file.map_err(|source| failure::or_failure("create", disk.path(&name), source))?;
        self.files.insert(slot, NewFile { file, size_bytes: 0, checksum: 0, unsynced_bytes: 0 });
        Ok(())
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
    let SnapshotMeta { slot, size_bytes, checksum, membership } = meta;
    let name = new_name(*slot);
    let encoded = membership.encode();
    if let Err(source) = with_space(disk, spares, || new.file.write_at(&encoded, *size_bytes)) {
        let error = failure::or_failure("write", disk.path(&name), source);
        if error.kind() == ErrorKind::Full {
            disk.remove(&name).during("remove", &disk.path(&name))?;
        }
        return Err(error);
    }
    new.file.sync().during("sync", &disk.path(&name))?;
    let membership = Some(MembershipSum::of(&encoded));
    Ok(SnapshotRecord { slot: *slot, size_bytes: *size_bytes, checksum: *checksum, membership })
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
