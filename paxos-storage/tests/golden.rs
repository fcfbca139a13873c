//! The bytes of format version 1, kept: what this version writes, and what every later one must read.
//!
//! Files are kept without the zeros at their ends. If the format has to change, it gets a new version, new files beside
//! these, and code that still reads these. `PAXOS_WRITE_GOLDEN=1 cargo test -p paxos-storage --test golden` writes
//! them.
#![cfg(feature = "file")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use paxos_core::{Ballot, Entry, HardState, NodeId, Recovered, Slot, SnapshotMeta, Write, WriteNumber};
use paxos_storage::file::{self, FileStorage, Options};
use paxos_storage::{Identity, Storage, StorageId};
use support::{Outcome, accepted, put, value};

const STATE: &[u8] = b"the state after slot 2";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/version-1")
}

/// A directory with something of everything in it.
fn write_everything(directory: &Path) -> Outcome {
    let identity =
        Identity::existing(String::from("golden"), NodeId(3), StorageId(0x0123_4567_89ab_cdef << 32));
    file::format(directory, &identity)?;
    let mut storage = FileStorage::open(directory, Options::default())?;
    storage.remember_peers(&BTreeMap::from([(NodeId(1), StorageId(11)), (NodeId(2), StorageId(22))]))?;
    storage.recover()?;
    for slot in 1..=3 {
        let _ = put(&mut storage, slot, 50)?;
    }
    let ballot = Ballot { round: 7, node: NodeId(2) };
    let chosen = (Slot(4), Entry::Chosen { value: value(4, 5000) });
    let hard_state = HardState { promised: ballot, chosen: Slot(4) };
    let _ = storage.persist(Write::new(WriteNumber(4), hard_state, vec![chosen, accepted(5, 0)]))?;
    for (slot, state) in [(1, &STATE[..5]), (2, STATE)] {
        let (size_bytes, checksum) = (state.len() as u64, crc32c::crc32c(state));
        storage.write_snapshot(Slot(slot), 0, state)?;
        storage.finish_snapshot(SnapshotMeta { slot: Slot(slot), size_bytes, checksum })?;
    }
    storage.mark()
}

/// What is recovered from such a directory.
fn everything(storage: &mut FileStorage) -> Result<Recovered, paxos_storage::Error> {
    assert_eq!((storage.identity().node(), storage.identity().cluster()), (NodeId(3), "golden"));
    assert_eq!(storage.known_peers().get(&NodeId(2)), Some(&StorageId(22)));
    let recovered = storage.recover()?;
    let state = storage.read_snapshot(Slot(2), 0, 1000)?;
    assert_eq!(state.as_deref(), Some(STATE));
    Ok(recovered)
}

/// The files of a directory without the zeros at their ends, but for those that are no part of the format.
fn trimmed(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for file in fs::read_dir(directory).expect("the directory is there") {
        let file = file.expect("the directory is readable");
        let name = file.file_name().to_string_lossy().into_owned();
        let mut bytes = fs::read(file.path()).expect("the file is readable");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used);
        // The next segment is made ahead of time, or not yet.
        let is_log = name.starts_with("wal-") && !name.starts_with("wal-000000000002");
        if is_log || name == "META" || name.starts_with("snapshot-") {
            files.insert(name, bytes);
        }
    }
    files
}

#[test]
fn what_is_written_is_what_version_1_has_always_written() -> Outcome {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("data");
    write_everything(&path)?;
    let written = trimmed(&path);
    if std::env::var_os("PAXOS_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(golden()).expect("the directory can be made");
        for (name, bytes) in &written {
            fs::write(golden().join(name), bytes).expect("the file can be written");
        }
    }
    let expected = trimmed(&golden());
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&expected));
    for (name, bytes) in &written {
        let differs = bytes.iter().zip(&expected[name]).position(|(one, other)| one != other);
        assert!(
            *bytes == expected[name],
            "{name} differs at byte {differs:?}: this is another version of the format"
        );
    }
    Ok(())
}

#[test]
fn what_version_1_has_written_is_read() -> Outcome {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for (name, bytes) in trimmed(&golden()) {
        fs::write(directory.path().join(name), bytes).expect("the file can be written");
    }
    let mut storage = FileStorage::open(directory.path(), Options::default())?;
    let recovered = everything(&mut storage)?;
    let ballot = Ballot { round: 7, node: NodeId(2) };
    assert_eq!(recovered.hard_state, HardState { promised: ballot, chosen: Slot(4) });
    assert_eq!(recovered.snapshot.map(|meta| meta.slot), Some(Slot(2)));
    let entries = vec![accepted(3, 50), (Slot(4), Entry::Chosen { value: value(4, 5000) }), accepted(5, 0)];
    assert_eq!((recovered.entries, recovered.incomplete_through), (entries, Slot::ZERO));
    let _ = put(&mut storage, 6, 100)?;
    Ok(())
}
