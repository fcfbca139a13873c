//! META: the file that describes the directory.
//!
//! It holds two copies of the description, one block each, and for each copy the founding membership, which
//! can be longer than a block. A change writes and syncs them one after the other. So a crash during a
//! change, or damage to one copy, leaves the other whole, with the description from before or after that
//! change and never an older one.

mod description;
mod older;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use self::description::{Description, KEPT_SNAPSHOTS, MAX_CLUSTER_NAME_BYTES};
use self::description::{FOUNDING_BYTES, MetaCopy, Unknown, decode, encode, encode_founding};
use paxos_core::{FormatLevel, GroupId};

use crate::Identity;
use crate::file::disk::buffer::{AlignedBuffer, BLOCK_BYTES, round_up};
use crate::file::disk::{Access, Disk, DiskFile, is_bad_medium};
use crate::lock::lock;

pub(crate) const NAME: &str = "META";
pub(crate) const NEW_NAME: &str = "META.new";
const COPIES: usize = 2;
/// The offset of the first founding membership.
const FOUNDING_AT: usize = COPIES * BLOCK_BYTES;

/// The open META file, which the log and the thread that makes segments share.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    /// Never changes, so reading it needs no lock.
    identity: Arc<Identity>,
    state: Arc<Mutex<OpenFile>>,
}

#[derive(Debug)]
struct OpenFile {
    file: Box<dyn DiskFile>,
    /// The block of a copy, and its founding membership in whole blocks.
    buffer: AlignedBuffer,
    founding: AlignedBuffer,
    generation: u64,
    description: Description,
    /// A change has failed, so the contents of the disk are unknown.
    has_failed: bool,
}

/// Why META can't be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    UnknownVersion(u16),
    UnknownLevel(FormatLevel),
    UnknownGroup(GroupId),
    Damaged,
}

impl Meta {
    /// Creates the file of a new directory, empty and under a temporary name.
    pub(crate) fn begin(disk: &dyn Disk) -> io::Result<Box<dyn DiskFile>> {
        disk.create(NEW_NAME, Access::Direct)
    }

    /// Writes and renames that file. Everything is durable when this returns.
    pub(crate) fn finish(
        disk: &dyn Disk,
        file: Box<dyn DiskFile>,
        description: Description,
    ) -> io::Result<()> {
        OpenFile::new(file, 0, description).write()?;
        disk.rename(NEW_NAME, NAME)?;
        disk.sync_directory()
    }

    /// Reads the file, and repairs a copy that is damaged or outdated.
    pub(crate) fn open(disk: &dyn Disk) -> Result<Meta, ReadError> {
        let (meta, outdated) = Meta::read(disk)?;
        let mut state = meta.lock();
        state.lay_out();
        for copy in outdated {
            // The other copy stays untouched, as it is the only whole one until this one is durable.
            tracing::warn!(copy, "one copy in META is damaged or outdated and is written anew");
            state.write_copy(copy).map_err(ReadError::Io)?;
        }
        drop(state);
        Ok(meta)
    }

    /// Reads the file, and returns which copies are damaged or outdated.
    pub(crate) fn read(disk: &dyn Disk) -> Result<(Meta, Vec<usize>), ReadError> {
        let file = disk.open(NAME, Access::Direct).map_err(ReadError::Io)?;
        file.sync().map_err(ReadError::Io)?;
        let mut copies = Vec::new();
        for copy in 0..COPIES {
            copies.push(read_copy(file.as_ref(), copy).map_err(ReadError::Io)?);
        }
        let newest = copies.iter().flatten().max_by_key(|copy| copy.generation).ok_or(ReadError::Damaged)?;
        let generation = newest.generation;
        let description = match &newest.description {
            Ok(description) => description.clone().ok_or(ReadError::Damaged)?,
            Err(Unknown::Version(version)) => return Err(ReadError::UnknownVersion(*version)),
            Err(Unknown::Level(level)) => return Err(ReadError::UnknownLevel(*level)),
            Err(Unknown::Group(group)) => return Err(ReadError::UnknownGroup(*group)),
        };
        let is_newest =
            |copy: &Option<MetaCopy>| copy.as_ref().is_some_and(|copy| copy.generation == generation);
        let outdated = (0..COPIES).filter(|copy| !is_newest(&copies[*copy])).collect();
        let identity = Arc::new(description.identity.clone());
        let state = Arc::new(OpenFile::new(file, generation, description).into());
        Ok((Meta { identity, state }, outdated))
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The present description.
    pub(crate) fn description(&self) -> Description {
        self.lock().description.clone()
    }

    /// Changes the description durably. After an error, the disk holds the old or the new one, and all later
    /// changes fail.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Description)) -> io::Result<()> {
        let mut state = self.lock();
        if state.has_failed {
            return Err(io::Error::other("an earlier change has failed"));
        }
        change(&mut state.description);
        let result = state.write();
        state.has_failed = result.is_err();
        result
    }

    fn lock(&self) -> MutexGuard<'_, OpenFile> {
        lock(&self.state)
    }
}

impl OpenFile {
    fn new(file: Box<dyn DiskFile>, generation: u64, description: Description) -> OpenFile {
        let (buffer, founding) = (AlignedBuffer::default(), AlignedBuffer::default());
        OpenFile { file, buffer, founding, generation, description, has_failed: false }
    }

    fn write(&mut self) -> io::Result<()> {
        self.generation += 1;
        self.lay_out();
        (0..COPIES).try_for_each(|copy| self.write_copy(copy))
    }

    /// Encodes the bytes of a copy; [`write_copy`](OpenFile::write_copy) writes them.
    fn lay_out(&mut self) {
        let founding = encode_founding(&self.description);
        self.founding.resize_zeroed(round_up(founding.len()))[..founding.len()].copy_from_slice(&founding);
        encode(self.buffer.resize_zeroed(BLOCK_BYTES), self.generation, &self.description, &founding);
    }

    fn write_copy(&mut self, copy: usize) -> io::Result<()> {
        let founding = self.founding.as_slice();
        if !founding.is_empty() {
            self.file.write_at(founding, founding_at(copy))?;
        }
        self.file.write_at(self.buffer.as_slice(), (copy * BLOCK_BYTES) as u64)?;
        self.file.sync()
    }
}

fn founding_at(copy: usize) -> u64 {
    (FOUNDING_AT + copy * FOUNDING_BYTES) as u64
}

/// Reads a copy; `None` if it is damaged.
fn read_copy(file: &dyn DiskFile, copy: usize) -> io::Result<Option<MetaCopy>> {
    let (mut block, mut founding) = (AlignedBuffer::default(), AlignedBuffer::default());
    match file.read_at(block.resize_zeroed(BLOCK_BYTES), (copy * BLOCK_BYTES) as u64) {
        Err(error) if is_bad_medium(&error) => return Ok(None),
        read => read?,
    }
    // Where nothing can be read there may be no founding membership, either.
    match file.read_at(founding.resize_zeroed(FOUNDING_BYTES), founding_at(copy)) {
        Err(error) if is_bad_medium(&error) => drop(founding.resize_zeroed(0)),
        read => read?,
    }
    Ok(decode(block.as_slice(), founding.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::description::example;
    use super::*;
    use crate::file::disk::SystemDisk;

    #[test]
    fn one_bad_copy_is_made_whole_and_two_are_refused() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let disk = SystemDisk::new(directory.path().to_owned());
        let path = directory.path().join(NAME);
        Meta::finish(&disk, Meta::begin(&disk)?, example())?;
        let whole = std::fs::read(&path)?;
        assert_eq!(whole.len(), FOUNDING_AT + FOUNDING_BYTES + BLOCK_BYTES);
        for copy in 0..COPIES {
            for at in [copy * BLOCK_BYTES, FOUNDING_AT + copy * FOUNDING_BYTES] {
                let mut bad = whole.clone();
                bad[at..at + BLOCK_BYTES].fill(0xff);
                std::fs::write(&path, &bad)?;
                let meta = Meta::open(&disk).expect("the other copy is whole");
                assert_eq!(meta.description(), example());
                assert!(std::fs::read(&path)? == whole, "the copy is written anew");
            }
        }
        std::fs::write(&path, vec![0; whole.len()])?;
        assert!(matches!(Meta::open(&disk), Err(ReadError::Damaged)));
        Ok(())
    }
}
