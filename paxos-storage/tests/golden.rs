//! Golden files of each version of the format: this version writes the newest and reads all.
//!
//! The directories are numbered from 1 to 4. The versions of META in them are 1, 2, 3 and 3, those of
//! segments and frames 1, 1, 2 and 3. Directory 5 has those of 4 and a log of values with times. Directory 6
//! has META of version 4, as its cluster has finalized format level 2. META and segments lack the zeros at
//! their ends. A changed format gets a new version, new files beside these, and code that still reads these.
//! `PAXOS_WRITE_GOLDEN=1 cargo test -p paxos-storage --test golden` writes them.
#![cfg(feature = "file")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use paxos_core::{
    Ballot, Change, Entry, Epoch, FormatLevel, HardState, Member, Membership, NodeId, Quorums, Slot,
    SnapshotMeta, Time, Value, Write, WriteNumber,
};
use paxos_storage::file::{self, FileSettings, FileStorage};
use paxos_storage::{Error, Founding, FoundingId, Identity, KnownPeer, Registry, Start, Storage, StorageId};
use support::{Outcome, accepted, put, value};
use tempfile::TempDir;

const STATE: &[u8] = b"the state after slot 2";

fn golden(number: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/version-{number}"))
}

/// The membership that founded the cluster. Version 2 holds only the ids and the epoch.
fn founding() -> Membership {
    let voter = |id: u64| Member::voter(NodeId(id), format!("host-{id}.example:7000"));
    let members = vec![voter(1), voter(2).with_priority(0), voter(3)];
    let quorums = Quorums::flexible(3, 3, 1).expect("3 + 1 > 3");
    let membership = Membership::of(members).and_then(|membership| membership.with_quorums(quorums));
    membership.expect("these members fit").in_epoch(Epoch(1))
}

/// What is known of that if only ids and epoch are.
fn founding_of_ids() -> Membership {
    Membership::new(&[1, 2, 3].map(NodeId)).expect("these members fit").in_epoch(Epoch(1))
}

/// The membership behind slot 2, since version 3.
fn changed() -> Membership {
    let ballot = Ballot { round: 2, node: NodeId(1) };
    let add = Change::AddLearner { node: NodeId(4), address: String::from("host-4.example:7000") };
    let changed = founding().changed(&add, ballot).expect("4 is new");
    changed.changed(&Change::Remove { node: NodeId(2) }, ballot).expect("2 is a member")
}

/// The registry in the directory. Version 1 holds only the storages of the peers.
fn registry() -> Registry {
    let peer = |(node, storage)| {
        let start = Start { number: 40 + node, nonce: 50 + node };
        (NodeId(node), KnownPeer { storage: StorageId(storage), start })
    };
    Registry {
        start: Start { number: 9, nonce: 0xfeed },
        is_superseded: false,
        founding: Some(Founding { id: Some(FoundingId(0xabcd << 64)), membership: founding() }),
        origin: None,
        peers: [(1, 11), (2, 22)].map(peer).into(),
    }
}

/// A new directory of the node that all golden files are of.
fn formatted(directory: &Path) -> Result<FileStorage, Error> {
    let identity =
        Identity::existing(String::from("golden"), NodeId(3), StorageId(0x0123_4567_89ab_cdef << 32));
    file::format(directory, &identity)?;
    FileStorage::open(directory, FileSettings::default())
}

/// A directory that uses every part of the format.
fn write_everything(directory: &Path) -> Outcome {
    let mut storage = formatted(directory)?;
    storage.remember(&registry())?;
    storage.recover()?;
    for slot in 1..=3 {
        let _ = put(&mut storage, slot, 50)?;
    }
    let ballot = Ballot { round: 7, node: NodeId(2) };
    let chosen = (Slot(4), Entry::Chosen { value: value(4, 5000) });
    let hard_state = HardState { promised: ballot, chosen: Slot(4) };
    let entries = vec![chosen, accepted(5, 0), membership_entry()];
    let _ = storage.persist(Write::new(WriteNumber(4), hard_state, entries))?;
    for (slot, state, membership) in [(1, &STATE[..5], founding()), (2, STATE, changed())] {
        let (size_bytes, checksum) = (state.len() as u64, crc32c::crc32c(state));
        storage.write_snapshot(Slot(slot), 0, state)?;
        storage.finish_snapshot(SnapshotMeta { slot: Slot(slot), size_bytes, checksum, membership })?;
    }
    storage.prove_last_write()
}

/// The entry of slot 6, since version 3.
fn membership_entry() -> (Slot, Entry) {
    let ballot = Ballot { round: 7, node: NodeId(2) };
    let next = changed().changed(&Change::Promote { node: NodeId(4) }, ballot).expect("4 is a learner");
    (Slot(6), Entry::Accepted { ballot, value: Value::membership(&next) })
}

/// The files of a directory that belong to the format, META and segments without the zeros at their ends.
fn trimmed(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for file in fs::read_dir(directory).expect("the directory is there") {
        let file = file.expect("the directory is readable");
        let name = file.file_name().to_string_lossy().into_owned();
        let mut bytes = fs::read(file.path()).expect("the file is readable");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if !name.starts_with("snapshot-") {
            bytes.truncate(used);
        }
        // The next segment may be in the making.
        let is_log = name.starts_with("wal-") && !name.starts_with("wal-000000000002");
        if is_log || name == "META" || name.starts_with("snapshot-") {
            files.insert(name, bytes);
        }
    }
    files
}

#[test]
fn what_is_written_is_what_version_4_has_always_written() -> Outcome {
    let (_directory, path) = written(write_everything)?;
    compare_with_golden(4, &path);
    Ok(())
}

/// A directory that was written before the next segment was prepared, which META would tell.
fn written(write: fn(&Path) -> Outcome) -> Result<(TempDir, PathBuf), Error> {
    for _ in 0..100 {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let path = directory.path().join("data");
        write(&path)?;
        if !path.join("wal-000000000002").exists() {
            return Ok((directory, path));
        }
    }
    panic!("the next segment is prepared before the first one has two frames, every time");
}

/// Compares what was written with the golden files of this number, or makes them.
fn compare_with_golden(number: u16, path: &Path) {
    let written = trimmed(path);
    if std::env::var_os("PAXOS_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(golden(number)).expect("the directory can be made");
        for (name, bytes) in &written {
            fs::write(golden(number).join(name), bytes).expect("the file can be written");
        }
    }
    let expected = trimmed(&golden(number));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&expected));
    for (name, bytes) in &written {
        let differs = bytes.iter().zip(&expected[name]).position(|(one, other)| one != other);
        assert!(
            *bytes == expected[name],
            "{name} differs at byte {differs:?}: this is another version of the format"
        );
    }
}

#[test]
fn what_version_1_has_written_is_read_and_goes_on_as_version_4() -> Outcome {
    let peers = registry()
        .peers
        .into_iter()
        .map(|(node, peer)| (node, KnownPeer { start: Start::default(), ..peer }));
    let remembered = Registry { peers: peers.collect(), ..Registry::default() };
    let (directory, mut storage) = opened(1, &remembered);
    assert_eq!(file::inspect(directory.path())?.memberships, []);
    // Nothing tells which members the snapshot belongs to, until the node does.
    for _ in 0..2 {
        assert!(matches!(storage.recover(), Err(Error::MembershipUnknown { slot: Slot(2) })));
    }
    storage.remember(&registry())?;
    reads_and_goes_on(&directory, storage, &founding(), &[])
}

#[test]
fn what_version_2_has_written_is_read_and_goes_on_as_version_4() -> Outcome {
    let registry = registry();
    let membership = founding_of_ids();
    let founding = registry.founding.map(|founding| Founding { membership, ..founding });
    let (directory, storage) = opened(2, &Registry { founding, ..registry });
    reads_and_goes_on(&directory, storage, &founding_of_ids(), &[])
}

#[test]
fn what_version_3_has_written_is_read_and_goes_on_as_version_4() -> Outcome {
    reads_with_memberships(3)
}

#[test]
fn what_version_4_has_written_is_read() -> Outcome {
    reads_with_memberships(4)
}

/// A log of values with times, which need no new version: an older program refuses them.
fn write_times(directory: &Path) -> Outcome {
    let mut storage = formatted(directory)?;
    storage.recover()?;
    let hard_state = HardState { promised: Ballot { round: 7, node: NodeId(2) }, chosen: Slot(1) };
    let _ = storage.persist(Write::new(WriteNumber(1), hard_state, entries_with_times()))?;
    storage.prove_last_write()
}

fn entries_with_times() -> Vec<(Slot, Entry)> {
    let ballot = Ballot { round: 7, node: NodeId(2) };
    let timed = |fill, time| value(fill, 50).at(Time(time));
    vec![
        (Slot(1), Entry::Chosen { value: timed(1, 0x0102_0304_0506_0708) }),
        (Slot(2), Entry::Accepted { ballot, value: timed(2, 1_700_000_000_000) }),
        (Slot(3), Entry::Accepted { ballot, value: value(3, 50) }),
    ]
}

#[test]
fn values_with_times_are_written_as_always_and_read_back() -> Outcome {
    let (_directory, path) = written(write_times)?;
    compare_with_golden(5, &path);
    let read = tempfile::tempdir().expect("a temporary directory can be made");
    for (name, bytes) in trimmed(&golden(5)) {
        fs::write(read.path().join(name), bytes).expect("the file can be written");
    }
    let mut storage = FileStorage::open(read.path(), FileSettings::default())?;
    assert_eq!(storage.recover()?.entries, entries_with_times());
    Ok(())
}

/// A directory of which META and the log name format level 2.
fn write_finalized(directory: &Path) -> Outcome {
    let mut storage = formatted(directory)?;
    storage.remember(&registry())?;
    storage.recover()?;
    let hard_state = HardState { promised: Ballot { round: 7, node: NodeId(2) }, chosen: Slot(1) };
    let _ = storage.persist(Write::new(WriteNumber(1), hard_state, finalized_entries()))?;
    storage.write_snapshot(Slot(1), 0, STATE)?;
    storage.finish_snapshot(finalized_snapshot())?;
    storage.prove_last_write()
}

fn finalized() -> Membership {
    let finalize = Change::Finalize { level: FormatLevel(2) };
    founding().changed(&finalize, Ballot { round: 7, node: NodeId(2) }).expect("the level is known")
}

fn finalized_entries() -> Vec<(Slot, Entry)> {
    let ballot = Ballot { round: 7, node: NodeId(2) };
    let next = finalized().changed(&Change::Demote { node: NodeId(3) }, ballot).expect("3 is a voter");
    vec![
        (Slot(1), Entry::Chosen { value: Value::membership(&finalized()) }),
        (Slot(2), Entry::Accepted { ballot, value: Value::membership(&next) }),
    ]
}

fn finalized_snapshot() -> SnapshotMeta {
    let (size_bytes, checksum) = (STATE.len() as u64, crc32c::crc32c(STATE));
    SnapshotMeta { slot: Slot(1), size_bytes, checksum, membership: finalized() }
}

#[test]
fn a_directory_of_format_level_2_is_written_as_always_and_read_back() -> Outcome {
    let (_directory, path) = written(write_finalized)?;
    compare_with_golden(6, &path);
    let (_directory, mut storage) = opened(6, &registry());
    let recovered = storage.recover()?;
    assert_eq!(recovered.snapshot, Some(finalized_snapshot()));
    assert_eq!(recovered.entries, finalized_entries()[1..]);
    Ok(())
}

/// The newest golden directory, with another byte in both copies of META, whose checksums are right.
fn golden_with_meta_byte(offset: usize, byte: u8) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for (name, bytes) in trimmed(&golden(6)) {
        fs::write(directory.path().join(name), bytes).expect("the file can be written");
    }
    let meta = directory.path().join("META");
    let mut bytes = fs::read(&meta).expect("it is there");
    for copy in [0, 4096] {
        bytes[copy + offset] = byte;
        let sum = crc32c::crc32c(&bytes[copy..copy + 4092]);
        bytes[copy + 4092..copy + 4096].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&meta, bytes).expect("the file can be written");
    directory
}

/// What an older program does with this directory, this one does with that of a later one.
#[test]
fn a_directory_of_a_later_format_level_is_refused_by_name_before_anything_else_is_read() {
    let directory = golden_with_meta_byte(12, 3);
    let error =
        FileStorage::open(directory.path(), FileSettings::default()).expect_err("the level is unknown");
    assert!(error.needs_newer_program(), "{error}");
    assert!(
        error
            .to_string()
            .contains("is of format level 3, and this version of the program knows levels 1 to 2")
    );
    assert!(file::inspect(directory.path()).is_err_and(|error| error.needs_newer_program()));
}

#[test]
fn a_directory_of_another_group_is_refused_by_name() {
    let directory = golden_with_meta_byte(3473, 7);
    let error = FileStorage::open(directory.path(), FileSettings::default()).expect_err("it is another one");
    assert!(error.needs_newer_program(), "{error}");
    assert!(error.to_string().contains("is of group 7, and this version of the program knows group 0 alone"));
    assert!(matches!(file::inspect(directory.path()), Err(Error::UnknownGroup { .. })));
}

fn reads_with_memberships(number: u16) -> Outcome {
    let (directory, storage) = opened(number, &registry());
    let memberships = file::inspect(directory.path())?.memberships;
    let told: Vec<String> = memberships.iter().map(ToString::to_string).collect();
    let [one, two, three] = [1, 2, 3].map(|id| format!("voter {id} at host-{id}.example:7000"));
    let four = "4 at host-4.example:7000";
    assert_eq!(
        told,
        [
            format!("founding: epoch 1, {one}, {two}, {three}; quorums of 3 and 1"),
            format!(
                "snapshot of slot 2: epoch 3, {one}, {three}, learner {four}; quorums of 2 and 1; removed: 2"
            ),
            format!("snapshot of slot 1: epoch 1, {one}, {two}, {three}; quorums of 3 and 1"),
            format!(
                "slot 6, accepted: epoch 4, {one}, {three}, voter {four}; quorums of 3 and 1; removed: 2"
            ),
        ]
    );
    reads_and_goes_on(&directory, storage, &changed(), &[membership_entry()])
}

/// A copy of the directory of this number, with this registry in it.
fn opened(number: u16, remembered: &Registry) -> (TempDir, FileStorage) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for (name, bytes) in trimmed(&golden(number)) {
        fs::write(directory.path().join(name), bytes).expect("the file can be written");
    }
    let storage = FileStorage::open(directory.path(), FileSettings::default()).expect("it can be opened");
    assert_eq!(storage.registry(), *remembered);
    assert_eq!((storage.identity().node(), storage.identity().cluster()), (NodeId(3), "golden"));
    (directory, storage)
}

/// Recovers the directory, writes to it, and recovers it again.
fn reads_and_goes_on(
    directory: &TempDir,
    mut storage: FileStorage,
    membership: &Membership,
    more: &[(Slot, Entry)],
) -> Outcome {
    let recovered = storage.recover()?;
    let (size_bytes, checksum, membership) = (STATE.len() as u64, crc32c::crc32c(STATE), membership.clone());
    let snapshot = SnapshotMeta { slot: Slot(2), size_bytes, checksum, membership };
    assert_eq!(storage.read_snapshot(Slot(2), 0, 1000)?.as_deref(), Some(STATE));
    let ballot = Ballot { round: 7, node: NodeId(2) };
    assert_eq!(recovered.hard_state, HardState { promised: ballot, chosen: Slot(4) });
    assert_eq!((&recovered.snapshot, storage.newest_snapshot()), (&Some(snapshot.clone()), Some(snapshot)));
    let mut entries =
        vec![accepted(3, 50), (Slot(4), Entry::Chosen { value: value(4, 5000) }), accepted(5, 0)];
    entries.extend(more.iter().cloned());
    assert_eq!((&recovered.entries, recovered.incomplete_through), (&entries, Slot::ZERO));
    let _ = put(&mut storage, 7, 100)?;
    storage.remember(&registry())?;
    drop(storage);
    let mut storage = FileStorage::open(directory.path(), FileSettings::default())?;
    assert_eq!(storage.registry(), registry());
    entries.push(accepted(7, 100));
    assert_eq!(storage.recover()?.entries, entries);
    let state = snapshot_of_slot_7();
    storage.write_snapshot(Slot(7), 0, STATE)?;
    storage.finish_snapshot(state.clone())?;
    storage.compact(Slot(7))?;
    if let Some(work) = storage.deferred_work() {
        work()?;
    }
    assert!(!directory.path().join("snapshot-00000000000000000001").exists());
    drop(storage);
    let recovered = FileStorage::open(directory.path(), FileSettings::default())?.recover()?;
    assert_eq!((recovered.snapshot, recovered.entries), (Some(state), Vec::new()));
    Ok(())
}

fn snapshot_of_slot_7() -> SnapshotMeta {
    let (size_bytes, checksum, membership) = (STATE.len() as u64, crc32c::crc32c(STATE), changed());
    SnapshotMeta { slot: Slot(7), size_bytes, checksum, membership }
}
