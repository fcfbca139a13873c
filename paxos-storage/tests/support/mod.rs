//! Small logs in temporary directories, and ways to damage them.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use paxos_core::{
    Ballot, Durable, Entry, HardState, Member, Membership, NodeId, Recovered, Slot, SnapshotMeta, Value,
    Write, WriteNumber,
};
use paxos_storage::file::{self, FileSettings, FileStorage};
use paxos_storage::{Damage, Error, Identity, Storage};
use tempfile::TempDir;

pub(crate) const BLOCK: usize = 4096;

pub(crate) type Outcome = Result<(), Error>;

pub(crate) struct Files {
    pub(crate) directory: TempDir,
    pub(crate) options: FileSettings,
}

impl Files {
    pub(crate) fn new(segment_bytes: u64) -> Files {
        let mut options = FileSettings::default();
        options.segment_bytes = segment_bytes;
        Files { directory: formatted(), options }
    }

    pub(crate) fn open(&self) -> FileStorage {
        FileStorage::open(self.directory.path(), self.options).expect("the directory can be opened")
    }

    pub(crate) fn recover(&self) -> Result<(FileStorage, Recovered), Error> {
        let mut storage = FileStorage::open(self.directory.path(), self.options)?;
        let recovered = storage.recover()?;
        Ok((storage, recovered))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.directory.path()).expect("the directory is there");
        let paths = files.map(|file| file.expect("the directory is readable").path());
        let is_segment =
            |path: &PathBuf| path.to_string_lossy().contains("wal-") && path.extension().is_none();
        let mut segments: Vec<PathBuf> = paths.filter(is_segment).collect();
        segments.sort();
        segments
    }

    pub(crate) fn snapshots(&self) -> Vec<String> {
        let files = fs::read_dir(self.directory.path()).expect("the directory is there");
        let names = files.map(|file| file.expect("readable").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("snapshot")).collect();
        names.sort();
        names
    }

    /// All segments, except one that was prepared but not used yet.
    pub(crate) fn segments_with_frames(&self) -> Vec<PathBuf> {
        let has_frame = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes[BLOCK] != 0);
        self.segments().into_iter().filter(has_frame).collect()
    }
}

pub(crate) fn identity(node: u64) -> Identity {
    Identity::new("test", NodeId(node))
}

pub(crate) fn formatted() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    file::format(directory.path(), &identity(1)).expect("an empty directory can be formatted");
    directory
}

pub(crate) fn value(fill: u8, length: usize) -> Value {
    Value::batch(&[Bytes::from(vec![fill; length])])
}

/// A membership with addresses.
pub(crate) fn membership() -> Membership {
    let members = [1, 2, 3].map(|id| Member::voter(NodeId(id), format!("host-{id}:7000")));
    Membership::of(members.to_vec()).expect("these members fit")
}

/// The description of a snapshot of this state.
pub(crate) fn snapshot(slot: Slot, state: &[u8]) -> SnapshotMeta {
    let (size_bytes, checksum) = (state.len() as u64, crc32c::crc32c(state));
    SnapshotMeta { slot, size_bytes, checksum, membership: membership() }
}

pub(crate) fn accepted(slot: u64, length: usize) -> (Slot, Entry) {
    let ballot = Ballot { round: slot, node: NodeId(1) };
    (Slot(slot), Entry::Accepted { ballot, value: value(slot.to_le_bytes()[0], length) })
}

pub(crate) fn put(storage: &mut dyn Storage, slot: u64, length: usize) -> Result<Durable, Error> {
    let hard_state = HardState { promised: Ballot { round: slot, node: NodeId(1) }, chosen: Slot(slot - 1) };
    storage.persist(Write::new(WriteNumber(1), hard_state, vec![accepted(slot, length)]))
}

/// A small log of this many writes, one block each, closed without a mark.
pub(crate) fn log_of(writes: u64) -> Files {
    let files = Files::new(1 << 20);
    let (mut storage, _) = files.recover().expect("a new directory recovers");
    for slot in 1..=writes {
        let _ = put(&mut storage, slot, 100).expect("a write is stored");
    }
    files
}

/// Enough writes that the log takes several segments.
pub(crate) fn long_log(files: &Files) -> Result<FileStorage, Error> {
    let (mut storage, _) = files.recover()?;
    for slot in 1..=200 {
        let _ = put(&mut storage, slot, 20_000)?;
    }
    Ok(storage)
}

pub(crate) fn slots(recovered: &Recovered) -> Vec<u64> {
    recovered.entries.iter().map(|(slot, _)| slot.0).collect()
}

pub(crate) fn overwrite(path: &Path, offset: usize, bytes: &[u8]) {
    let mut content = fs::read(path).expect("the file is readable");
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).expect("the file is writable");
}

pub(crate) fn damage(files: &Files) -> Damage {
    match files.recover() {
        Err(Error::Damaged(damage)) => damage,
        other => panic!("damage was to be refused: {:?}", other.map(|(_, recovered)| slots(&recovered))),
    }
}

/// The result of recovering a damaged log: slots with an entry, the watermark, and up to where slots may be
/// lost.
pub(crate) fn repairable(files: &Files) -> (Vec<u64>, u64, u64) {
    let (_, recovered) = files.recover().expect("the promise is intact, so the node can come back");
    (slots(&recovered), recovered.hard_state.chosen.0, recovered.incomplete_through.0)
}
