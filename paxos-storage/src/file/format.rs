//! Makes the directory of a node, and checks whose directory one is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use paxos_core::FormatLevel;

use super::disk::{Disk, SystemDisk};
use super::failure::{self, During};
use super::layout::frame::Link;
use super::layout::meta::{self, Description, MAX_CLUSTER_NAME_BYTES, Meta, ReadError};
use super::layout::segment;
use super::snapshot;
use crate::{Damage, DamageCause, Error, Identity, Registry};

/// A directory at the root of new file systems.
const MADE_BY_FILE_SYSTEM: &str = "lost+found";
pub(crate) const FIRST_SEGMENT: u64 = 1;
/// The first segment is small, so that making a directory is quick.
pub(crate) const FIRST_SEGMENT_BYTES: usize = 1 << 20;
pub(crate) const LOCK_NAME: &str = "LOCK";

/// Makes `directory` the storage of the node in `identity`. Creates the directory if it is missing. If an
/// earlier call was interrupted, starts again.
///
/// # Errors
///
/// [`Error::AlreadyFormatted`] if the directory is a storage already; [`Error::NotEmpty`] if it holds other
/// files (except `lost+found`); [`Error::ClusterName`]; [`Error::Locked`]; [`Error::Io`].
pub fn format(directory: &Path, identity: &Identity) -> Result<(), Error> {
    let name_bytes = identity.cluster().len();
    if name_bytes == 0 || name_bytes > MAX_CLUSTER_NAME_BYTES {
        return Err(Error::ClusterName { limit: MAX_CLUSTER_NAME_BYTES });
    }
    std::fs::create_dir_all(directory).during("create", directory)?;
    let disk = SystemDisk::new(directory.to_owned());
    unfinished_names(&disk, directory)?;
    let lock_path = disk.path(LOCK_NAME);
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path);
    let lock = lock.during("create", &lock_path)?;
    lock_file(&lock, directory, &lock_path)?;
    // Again, as another process may have formatted it before this one had the lock.
    for name in unfinished_names(&disk, directory)?.iter().filter(|name| *name != LOCK_NAME) {
        disk.remove(name).during("remove", &disk.path(name))?;
    }
    format_on(&disk, identity, FIRST_SEGMENT_BYTES)?;
    let parent = std::path::absolute(directory).during("find", directory)?;
    let parent = parent.parent().unwrap_or(&parent);
    File::open(parent).and_then(|parent| parent.sync_all()).during("sync", parent)
}

/// Reads the identity of a storage. The storage may be in use.
///
/// # Errors
///
/// [`Error::NotFormatted`], [`Error::UnknownVersion`], [`Error::Damaged`] if META can't be read,
/// [`Error::Io`].
pub fn identity(directory: &Path) -> Result<Identity, Error> {
    let disk = SystemDisk::read_only(directory.to_owned());
    check_formatted(&disk, directory)?;
    let (meta, _) = Meta::read(&disk).map_err(|error| unreadable(error, &disk))?;
    Ok(meta.identity().clone())
}

/// The size of the volume that `directory` is on, used or free.
///
/// # Errors
///
/// [`Error::Io`].
pub fn volume_bytes(directory: &Path) -> Result<u64, Error> {
    let volume = volume(directory)?;
    Ok(volume.f_blocks.saturating_mul(volume.f_frsize))
}

/// How much of the volume that `directory` is on is free for this process.
///
/// # Errors
///
/// [`Error::Io`].
pub fn free_bytes(directory: &Path) -> Result<u64, Error> {
    let volume = volume(directory)?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// How much space a storage takes, and how much is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// How many segments of the log there are, without those that are made ahead of time or kept for later.
    pub segments: u64,
    /// The size of all files, in bytes.
    pub used_bytes: u64,
    /// How much more may be written to the volume, in bytes.
    pub free_bytes: u64,
    /// The size of the volume, in bytes.
    pub volume_bytes: u64,
}

/// Looks at the files of a storage. The storage may be in use.
///
/// # Errors
///
/// [`Error::Io`].
pub fn usage(directory: &Path) -> Result<Usage, Error> {
    let volume = volume(directory)?;
    let mut usage = Usage {
        free_bytes: volume.f_bavail.saturating_mul(volume.f_frsize),
        volume_bytes: volume.f_blocks.saturating_mul(volume.f_frsize),
        ..Usage::default()
    };
    for file in std::fs::read_dir(directory).during("list", directory)? {
        let file = file.during("list", directory)?;
        // It may have been removed meanwhile.
        usage.used_bytes += file.metadata().map_or(0, |metadata| metadata.len());
        let is_segment = file.file_name().to_str().and_then(segment::number_of).is_some();
        usage.segments += u64::from(is_segment);
    }
    Ok(usage)
}

fn volume(directory: &Path) -> Result<rustix::fs::StatVfs, Error> {
    rustix::fs::statvfs(directory).map_err(io::Error::from).during("look at", directory)
}

/// The files of an empty or partly made storage; an error if there are others.
fn unfinished_names(disk: &SystemDisk, directory: &Path) -> Result<Vec<String>, Error> {
    let mut names = disk.list().during("list", directory)?;
    names.retain(|name| name != MADE_BY_FILE_SYSTEM);
    if names.iter().any(|name| name == meta::NAME) {
        return Err(Error::AlreadyFormatted { directory: directory.to_owned() });
    }
    let (first, new) = (segment::name(FIRST_SEGMENT), meta::NEW_NAME);
    let is_unfinished =
        |name: &String| name == LOCK_NAME || name == new || *name == first || segment::is_unfinished(name);
    // META is begun before any segment. Segments without it are what is left of a storage that lost META.
    let was_begun = names.iter().all(|name| name == LOCK_NAME) || names.iter().any(|name| name == new);
    if was_begun && names.iter().all(is_unfinished) {
        Ok(names)
    } else {
        Err(Error::NotEmpty { directory: directory.to_owned() })
    }
}

pub(crate) fn unreadable(error: ReadError, disk: &dyn Disk) -> Error {
    match error {
        ReadError::Io(source) => failure::failure("read", disk.path(meta::NAME), source),
        ReadError::UnknownVersion(version) => Error::UnknownVersion { file: disk.path(meta::NAME), version },
        ReadError::UnknownGroup(group) => Error::UnknownGroup { file: disk.path(meta::NAME), group },
        ReadError::UnknownLevel(level) => Error::UnknownLevel { file: disk.path(meta::NAME), level },
        ReadError::Damaged => Error::Damaged(meta_damage(disk)),
    }
}

pub(crate) fn format_on(
    disk: &dyn Disk,
    identity: &Identity,
    first_segment_bytes: usize,
) -> Result<(), Error> {
    let fingerprint = identity.fingerprint();
    // META is created first and renamed last: until then, the directory counts as unfinished.
    let meta_file = Meta::begin(disk).during("create", &disk.path(meta::NEW_NAME))?;
    let first = segment::create(disk, FIRST_SEGMENT, first_segment_bytes, fingerprint, segment::AT_ONCE);
    first.during("create", &disk.path(&segment::name(FIRST_SEGMENT)))?;
    let description = Description {
        identity: identity.clone(),
        first_segment: FIRST_SEGMENT,
        last_segment: FIRST_SEGMENT,
        first_frame: Link { sequence: 1, chain: crc32c::crc32c(&fingerprint.to_le_bytes()) },
        snapshots: Vec::new(),
        registry: Registry::default(),
        format_level: FormatLevel::FIRST,
    };
    Meta::finish(disk, meta_file, description).during("create", &disk.path(meta::NAME))
}

/// Tells a directory that was never made a storage, or not completely, from a storage that has lost META.
pub(crate) fn check_formatted(disk: &dyn Disk, directory: &Path) -> Result<(), Error> {
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

pub(crate) fn lock_file(lock: &File, directory: &Path, path: &Path) -> Result<(), Error> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { directory: directory.to_owned() }),
        Err(TryLockError::Error(source)) => {
            Err(Error::Io { operation: "lock", path: path.to_owned(), source })
        }
    }
}

pub(crate) fn meta_damage(disk: &dyn Disk) -> Damage {
    let (file, cause) = (disk.path(meta::NAME), DamageCause::Meta);
    Damage { file, offset: 0, cause, slots: None, is_promise_intact: false }
}
