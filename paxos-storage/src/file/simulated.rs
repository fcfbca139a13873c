//! A disk that forgets: what was not synced may be gone after a crash, in part or as a whole.
//!
//! Data is kept or lost by sectors of 512 bytes, each on its own; changes of names are kept up to some point, in the
//! order in which they were made, as a journal does it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Access, Disk, DiskFile, INPUT_OUTPUT_ERROR};

pub(super) const SECTOR_BYTES: usize = 512;

/// What becomes of an operation that changes or syncs something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The power fails during the operation of this number, counted from 0.
    Crash { at: usize },
    /// The operation fails; those after it succeed. What a failed sync should have made stable is not.
    Fail { at: usize, kind: io::ErrorKind },
}

/// Which part of what was not synced outlives a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    Nothing,
    Everything,
    /// The first so many sectors and names, chosen by the seed.
    Prefix(u64),
    /// Any sectors, chosen by the seed.
    Random(u64),
}

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    /// The names before the first change that was not synced, and after each one.
    names: Vec<BTreeMap<String, usize>>,
    operations: usize,
    fault: Option<Fault>,
    is_down: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    stable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    /// A byte that can't be read; nor can any read that has it in it.
    spoiled_at: Option<usize>,
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
}

impl SimulatedDisk {
    pub(super) fn new() -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        disk.state().names.push(BTreeMap::new());
        disk
    }

    /// Sets what will go wrong, and counts operations from 0 again.
    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        state.fault = fault;
        state.operations = 0;
    }

    /// How many operations there were since the fault was set.
    pub(super) fn operations(&self) -> usize {
        self.state().operations
    }

    /// The disk that is found after a crash.
    pub(super) fn after_crash(&self, kept: Kept) -> SimulatedDisk {
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
        let state = State { files, names: vec![names], ..State::default() };
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }

    /// The same files on another disk, all of them stable.
    pub(super) fn copy(&self) -> SimulatedDisk {
        self.after_crash(Kept::Everything)
    }

    /// What the file of this name holds.
    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.find(name).map(|file| state.files[file].current.clone()).unwrap_or_default()
    }

    /// Changes what is stored, without anybody having written it.
    pub(super) fn alter(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.find(name).expect("the test names a file that is there");
        let content = &mut state.files[file];
        change(&mut content.current);
        content.stable.clone_from(&content.current);
    }

    /// Makes a byte, and with it all around it that is read at once, unreadable until it is written.
    pub(super) fn spoil(&self, name: &str, at: usize) {
        let mut state = self.state();
        let file = state.find(name).expect("the test names a file that is there");
        state.files[file].spoiled_at = Some(at);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Cuts a write at the edges of sectors.
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

impl State {
    /// Counts an operation. `Err` if it fails and has no effect; `Ok(false)` if the power fails during it.
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

    fn change_names(&mut self, change: impl FnOnce(&mut BTreeMap<String, usize>)) -> io::Result<()> {
        let goes_on = self.begin()?;
        let mut names = self.current_names().clone();
        change(&mut names);
        self.names.push(names);
        if goes_on { Ok(()) } else { Err(no_power()) }
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
        let file = state.files.len();
        state.files.push(Content::default());
        state.change_names(|names| {
            names.insert(name.to_owned(), file);
        })?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Box<dyn DiskFile>> {
        let file = self.state().find(name)?;
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
