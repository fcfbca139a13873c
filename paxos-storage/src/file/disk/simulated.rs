//! A simulated disk, which may lose unsynced data in a crash.
//!
//! Each unsynced sector of 512 bytes survives or is lost by itself. Changes of names survive in order up to
//! some point, as in a journaling file system.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::file::disk::{Access, Disk, DiskFile, INPUT_OUTPUT_ERROR};
use crate::file::failure::NO_DESCRIPTOR;
use crate::lock::lock;

pub(crate) const SECTOR_BYTES: usize = 512;

/// What goes wrong in an operation that changes or syncs something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The power fails during the operation of this number, counted from 0.
    Crash { at: usize },
    /// The operation fails, and later ones succeed. A failed sync makes nothing durable.
    Fail { at: usize, kind: io::ErrorKind },
}

/// Which part of the unsynced data survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    Nothing,
    Everything,
    /// A prefix of the sectors and names, with a length drawn from the seed.
    Prefix(u64),
    /// Any sectors, drawn from the seed.
    Random(u64),
}

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedDisk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    files: Vec<Content>,
    /// The names before the first unsynced change, and after each such change.
    names: Vec<BTreeMap<String, usize>>,
    operations: usize,
    written_bytes: usize,
    /// How many files were created or opened since [`SimulatedDisk::refuse_descriptors`], and which of these
    /// calls fail for lack of a file descriptor.
    opens: usize,
    opens_refused: Range<usize>,
    fault: Option<Fault>,
    is_down: bool,
    /// How many bytes all files together may have.
    limit_bytes: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    stable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    /// A byte that can't be read. Each read that includes it fails.
    spoiled_at: Option<usize>,
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
}

impl SimulatedDisk {
    pub(crate) fn new() -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        disk.state().names.push(BTreeMap::new());
        disk
    }

    /// Sets the fault, and counts operations from 0 again.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        state.fault = fault;
        state.operations = 0;
    }

    /// The number of operations since the fault was set.
    pub(crate) fn operations(&self) -> usize {
        self.state().operations
    }

    /// How many bytes were written.
    pub(crate) fn written_bytes(&self) -> usize {
        self.state().written_bytes
    }

    /// From now on, creating or opening a file fails for lack of a file descriptor if the number of the call,
    /// counted from 0, is in `opens`.
    pub(crate) fn refuse_descriptors(&self, opens: Range<usize>) {
        let mut state = self.state();
        state.opens = 0;
        state.opens_refused = opens;
    }

    /// How many files were created or opened since then.
    pub(crate) fn opens(&self) -> usize {
        self.state().opens
    }

    /// From now on, a write fails for lack of space if it makes all files together longer than this.
    pub(crate) fn limit(&self, limit_bytes: Option<usize>) {
        self.state().limit_bytes = limit_bytes;
    }

    /// The disk as it is after a crash.
    pub(crate) fn after_crash(&self, kept: Kept) -> SimulatedDisk {
        let state = self.state();
        let mut random = match kept {
            Kept::Prefix(seed) | Kept::Random(seed) => fastrand::Rng::with_seed(seed),
            Kept::Nothing | Kept::Everything => fastrand::Rng::with_seed(0),
        };
        let names = match kept {
            Kept::Nothing => state.names.first(),
            Kept::Everything => state.names.last(),
            Kept::Prefix(_) | Kept::Random(_) => state.names.get(random.usize(..state.names.len())),
        };
        let names = names.cloned().unwrap_or_default();
        let files = state.files.iter().map(|content| content.after_crash(kept, &mut random)).collect();
        let limit_bytes = state.limit_bytes;
        let state = DiskState { files, names: vec![names], limit_bytes, ..DiskState::default() };
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }

    /// A copy of the disk with all data durable.
    pub(crate) fn copy(&self) -> SimulatedDisk {
        self.after_crash(Kept::Everything)
    }

    /// The bytes of a file.
    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.find(name).map(|file| state.files[file].current.clone()).unwrap_or_default()
    }

    /// Changes a file behind the storage's back.
    pub(crate) fn alter(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.find(name).expect("the test names a file that is there");
        let content = &mut state.files[file];
        change(&mut content.current);
        content.stable.clone_from(&content.current);
    }

    /// Makes a byte unreadable until it is written.
    pub(crate) fn spoil(&self, name: &str, at: usize) {
        let mut state = self.state();
        let file = state.find(name).expect("the test names a file that is there");
        state.files[file].spoiled_at = Some(at);
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        lock(&self.0)
    }
}

impl Content {
    fn after_crash(&self, kept: Kept, random: &mut fastrand::Rng) -> Content {
        let sectors = || self.unsynced.iter().flat_map(|(offset, bytes)| in_sectors(*offset, bytes));
        let count = sectors().count();
        let prefix = random.usize(..=count);
        let mut bytes = self.stable.clone();
        for (index, (offset, sector)) in sectors().enumerate() {
            let is_kept = match kept {
                Kept::Nothing => false,
                Kept::Everything => true,
                Kept::Prefix(_) => index < prefix,
                Kept::Random(_) => random.bool(),
            };
            if is_kept {
                put(&mut bytes, offset, sector);
            }
        }
        Content { current: bytes.clone(), stable: bytes, unsynced: Vec::new(), spoiled_at: self.spoiled_at }
    }
}

/// Splits a write at sector boundaries.
fn in_sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let length = (SECTOR_BYTES - (offset + at) % SECTOR_BYTES).min(rest.len());
        let sector = (offset + at, &rest[..length]);
        at += length;
        Some(sector)
    })
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl DiskState {
    /// Counts an operation. Returns an error if it fails without effect, and `false` if the power fails
    /// during it.
    fn begin(&mut self) -> io::Result<bool> {
        if self.is_down {
            return Err(no_power());
        }
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some(Fault::Fail { at, kind }) if at == number => Err(kind.into()),
            Some(Fault::Crash { at }) if at == number => {
                self.is_down = true;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    fn take_descriptor(&mut self) -> io::Result<()> {
        let number = self.opens;
        self.opens += 1;
        if self.opens_refused.contains(&number) {
            return Err(io::Error::from_raw_os_error(NO_DESCRIPTOR[1]));
        }
        Ok(())
    }

    fn change_names(&mut self, change: impl FnOnce(&mut BTreeMap<String, usize>)) -> io::Result<()> {
        let goes_on = self.begin()?;
        let mut names = self.current_names().clone();
        change(&mut names);
        self.names.push(names);
        if goes_on { Ok(()) } else { Err(no_power()) }
    }

    /// How many more bytes the files may have, if that is limited.
    fn free_bytes(&self) -> Option<usize> {
        let used = self.current_names().values().map(|file| self.files[*file].current.len()).sum();
        self.limit_bytes.map(|limit| limit.saturating_sub(used))
    }

    fn current_names(&self) -> &BTreeMap<String, usize> {
        self.names.last().expect("there is always a newest state of the names")
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.current_names().get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power has failed")
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().current_names().keys().cloned().collect())
    }

    fn create(&self, name: &str, _: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.take_descriptor()?;
        let file = state.files.len();
        state.files.push(Content::default());
        state.change_names(|names| {
            names.insert(name.to_owned(), file);
        })?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.take_descriptor()?;
        let file = state.find(name)?;
        drop(state);
        Ok(Box::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = state.find(from)?;
        state.change_names(|names| {
            names.remove(from);
            names.insert(to.to_owned(), file);
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.find(name)?;
        state.change_names(|names| {
            names.remove(name);
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().free_bytes().map_or(u64::MAX, |bytes| bytes as u64))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        if !state.begin()? {
            return Err(no_power());
        }
        let current = state.current_names().clone();
        state.names = vec![current];
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        let spoiled_at = state.files[self.file].spoiled_at;
        let content = &state.files[self.file].current;
        let start = usize::try_from(offset).map_or(content.len(), |offset| offset.min(content.len()));
        let length = buffer.len().min(content.len() - start);
        if spoiled_at.is_some_and(|at| (start..start + length).contains(&at)) {
            return Err(io::Error::from_raw_os_error(INPUT_OUTPUT_ERROR));
        }
        buffer[..length].copy_from_slice(&content[start..start + length]);
        buffer[length..].fill(0);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let goes_on = state.begin()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let grows_by = (offset + bytes.len()).saturating_sub(state.files[self.file].current.len());
        if state.free_bytes().is_some_and(|free| grows_by > free) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.written_bytes += bytes.len();
        let content = &mut state.files[self.file];
        put(&mut content.current, offset, bytes);
        content.unsynced.push((offset, bytes.to_vec()));
        content.spoiled_at = content.spoiled_at.filter(|at| !(offset..offset + bytes.len()).contains(at));
        if goes_on { Ok(()) } else { Err(no_power()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if !state.begin()? {
            return Err(no_power());
        }
        let content = &mut state.files[self.file];
        content.stable.clone_from(&content.current);
        content.unsynced.clear();
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].current.len() as u64)
    }
}
