//! Snapshot files: written under a temporary name, and renamed once they are whole and stable.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use paxos_core::{Slot, SnapshotMeta};

use super::During;
use super::disk::{Access, Disk, DiskFile, is_bad_medium, remove_if_there};
use super::meta::{self, KEPT_SNAPSHOTS, Meta};
use super::prepare::is_no_space;
use crate::{Damage, DamageCause, Error, ErrorKind};

const PREFIX: &str = "snapshot-";
const NEW_SUFFIX: &str = ".new";
/// A file is synced whenever so much was added, so that the last sync is short.
const SYNC_BYTES: u64 = 4 << 20;
/// How many snapshots may be on their way; beyond that the one of the lowest slot is dropped.
const MAX_UNFINISHED: usize = 4;
/// How much is read at once.
const READ_BYTES: usize = 1 << 20;

/// The snapshots on their way.
#[derive(Debug, Default)]
pub(super) struct Unfinished(BTreeMap<Slot, NewFile>);

#[derive(Debug)]
struct NewFile {
    file: Box<dyn DiskFile>,
    size_bytes: u64,
    checksum: u32,
    unsynced_bytes: u64,
}

impl Unfinished {
    pub(super) fn write(
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
        let started = self.0.get_mut(&slot).filter(|new| new.size_bytes == offset);
        let new = started.ok_or(Error::SnapshotMismatch { slot, problem: "a piece came out of order" })?;
        if let Err(source) = new.file.write_at(piece, offset) {
            let error = failure("write", path, source);
            if error.kind() == ErrorKind::Full {
                self.0.remove(&slot);
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

    pub(super) fn finish(
        &mut self,
        disk: &dyn Disk,
        meta_file: &Meta,
        lost: &mut Option<SnapshotMeta>,
        meta: SnapshotMeta,
    ) -> Result<(), Error> {
        let slot = meta.slot;
        if !self.0.contains_key(&slot) && meta.size_bytes == 0 {
            self.start(disk, slot)?;
        }
        let Some(new) = self.0.remove(&slot) else {
            return Err(Error::SnapshotMismatch { slot, problem: "nothing of it was written" });
        };
        let problem = match () {
            () if new.size_bytes != meta.size_bytes => Some("it has another size"),
            () if new.checksum != meta.checksum => Some("it has another checksum"),
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
        new.file.sync().during("sync", &disk.path(&new_name))?;
        disk.rename(&new_name, &name(slot)).during("rename", &disk.path(&new_name))?;
        disk.sync_directory().during("sync", &disk.path(""))?;
        // A snapshot that was lost stays described until a later one takes its place: each start must find out
        // anew that something is missing below it.
        *lost = lost.filter(|lost| lost.slot > slot);
        let mut snapshots: Vec<_> = lost.iter().copied().chain([meta]).chain(kept).collect();
        snapshots.truncate(KEPT_SNAPSHOTS);
        let change = meta_file.change(|description| description.snapshots.clone_from(&snapshots));
        change.during("write", &disk.path(meta::NAME))?;
        let is_dropped = |old: &&SnapshotMeta| snapshots.iter().all(|kept| kept.slot != old.slot);
        for old in described.iter().filter(is_dropped) {
            let old = name(old.slot);
            remove_if_there(disk, &old).during("remove", &disk.path(&old))?;
        }
        Ok(())
    }

    fn start(&mut self, disk: &dyn Disk, slot: Slot) -> Result<(), Error> {
        self.0.remove(&slot);
        if self.0.len() >= MAX_UNFINISHED
            && let Some((dropped, _)) = self.0.pop_first()
        {
            let dropped = new_name(dropped);
            disk.remove(&dropped).during("remove", &disk.path(&dropped))?;
        }
        let name = new_name(slot);
        let file = disk.create(&name, Access::Cached);
        let file = file.map_err(|source| failure("create", disk.path(&name), source))?;
        self.0.insert(slot, NewFile { file, size_bytes: 0, checksum: 0, unsynced_bytes: 0 });
        Ok(())
    }
}

/// Nothing rests on a snapshot that is not finished, so one that there is no space for can be given up.
fn failure(operation: &'static str, path: PathBuf, source: io::Error) -> Error {
    if is_no_space(&source) { Error::Full { path, source } } else { Error::Io { operation, path, source } }
}

/// Reads a piece of a finished snapshot.
pub(super) fn read(
    disk: &dyn Disk,
    meta: SnapshotMeta,
    offset: u64,
    max_bytes: usize,
) -> Result<Bytes, Error> {
    let rest = meta.size_bytes.saturating_sub(offset);
    let length = usize::try_from(rest).unwrap_or(usize::MAX).min(max_bytes);
    let name = name(meta.slot);
    let file = disk.open(&name, Access::Cached).during("open", &disk.path(&name))?;
    let mut piece = BytesMut::zeroed(length);
    file.read_at(&mut piece, offset).during("read", &disk.path(&name))?;
    Ok(piece.freeze())
}

/// Whether the file is there, with the right size and checksum.
pub(super) fn is_whole(disk: &dyn Disk, meta: SnapshotMeta) -> Result<bool, Error> {
    let name = name(meta.slot);
    let file = match disk.open(&name, Access::Cached) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.during("open", &disk.path(&name))?,
    };
    file.sync().during("sync", &disk.path(&name))?;
    if file.size_bytes().during("read", &disk.path(&name))? != meta.size_bytes {
        return Ok(false);
    }
    let (mut offset, mut checksum) = (0, 0);
    while offset < meta.size_bytes {
        let piece = match read(disk, meta, offset, READ_BYTES) {
            Err(Error::Io { source, .. }) if is_bad_medium(&source) => return Ok(false),
            piece => piece?,
        };
        checksum = crc32c::crc32c_append(checksum, &piece);
        offset += piece.len() as u64;
    }
    Ok(checksum == meta.checksum)
}

/// What is lost with the newest snapshot.
pub(super) fn damage(disk: &dyn Disk, meta: SnapshotMeta) -> Damage {
    let (file, slots) = (disk.path(&name(meta.slot)), Some((Slot::FIRST, meta.slot)));
    Damage { file, offset: 0, cause: DamageCause::Snapshot, slots, is_promise_intact: true }
}

/// The name of the file of a finished snapshot.
pub(super) fn name(slot: Slot) -> String {
    format!("{PREFIX}{:020}", slot.0)
}

/// Whether this is the name of a snapshot, finished or not.
pub(super) fn is_name(file_name: &str) -> bool {
    let finished = file_name.strip_suffix(NEW_SUFFIX).unwrap_or(file_name);
    let slot = finished.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
    slot.is_some_and(|slot| name(Slot(slot)) == finished)
}

fn new_name(slot: Slot) -> String {
    format!("{}{NEW_SUFFIX}", name(slot))
}
