//! The write-ahead log keeps the contract, and tells torn tails from damage.
#![cfg(feature = "file")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use paxos_core::{
    Ballot, Durable, Entry, HardState, NodeId, Recovered, Slot, SnapshotMeta, Value, Write, WriteNumber,
};
use paxos_storage::conformance::{self, Backend};
use paxos_storage::file::{self, FileStorage, Options};
use paxos_storage::{Damage, DamageCause, Error, ErrorKind, Identity, MAX_VALUE_BYTES, Storage};
use proptest::prelude::*;
use tempfile::TempDir;

const BLOCK: usize = 4096;
type Outcome = Result<(), Error>;
type Tear = fn(&Path, usize);

struct Files {
    directory: TempDir,
    options: Options,
}

impl Files {
    fn new(segment_bytes: u64) -> Files {
        let mut options = Options::default();
        options.segment_bytes = segment_bytes;
        Files { directory: formatted(), options }
    }

    fn open(&self) -> FileStorage {
        FileStorage::open(self.directory.path(), self.options).expect("the directory can be opened")
    }

    fn recover(&self) -> Result<(FileStorage, Recovered), Error> {
        let mut storage = FileStorage::open(self.directory.path(), self.options)?;
        let recovered = storage.recover()?;
        Ok((storage, recovered))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.directory.path()).expect("the directory is there");
        let paths = files.map(|file| file.expect("the directory is readable").path());
        let is_segment =
            |path: &PathBuf| path.to_string_lossy().contains("wal-") && path.extension().is_none();
        let mut segments: Vec<PathBuf> = paths.filter(is_segment).collect();
        segments.sort();
        segments
    }

    /// All segments but the one that may have been prepared and not used yet.
    fn segments_with_frames(&self) -> Vec<PathBuf> {
        let has_frame = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes[BLOCK] != 0);
        self.segments().into_iter().filter(has_frame).collect()
    }
}

impl Backend for Files {
    fn make(&mut self) -> Box<dyn Storage> {
        self.directory = formatted();
        Box::new(self.open())
    }

    fn open_again(&mut self) -> Box<dyn Storage> {
        Box::new(self.open())
    }
}

fn identity(node: u64) -> Identity {
    Identity::new("test", NodeId(node))
}

fn formatted() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    file::format(directory.path(), &identity(1)).expect("an empty directory can be formatted");
    directory
}

fn value(fill: u8, length: usize) -> Value {
    Value::batch(&[Bytes::from(vec![fill; length])])
}

fn accepted(slot: u64, length: usize) -> (Slot, Entry) {
    let ballot = Ballot { round: slot, node: NodeId(1) };
    (Slot(slot), Entry::Accepted { ballot, value: value(slot.to_le_bytes()[0], length) })
}

fn put(storage: &mut dyn Storage, slot: u64, length: usize) -> Result<Durable, Error> {
    let hard_state = HardState { promised: Ballot { round: slot, node: NodeId(1) }, chosen: Slot(slot - 1) };
    storage.persist(Write::new(WriteNumber(1), hard_state, vec![accepted(slot, length)]))
}

/// A small log of so many writes, one block each, closed without a mark.
fn log_of(writes: u64) -> Files {
    let files = Files::new(1 << 20);
    let (mut storage, _) = files.recover().expect("a new directory recovers");
    for slot in 1..=writes {
        let _ = put(&mut storage, slot, 100).expect("a write is stored");
    }
    files
}

fn slots(recovered: &Recovered) -> Vec<u64> {
    recovered.entries.iter().map(|(slot, _)| slot.0).collect()
}

fn overwrite(path: &Path, offset: usize, bytes: &[u8]) {
    let mut content = fs::read(path).expect("the file is readable");
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).expect("the file is writable");
}

fn damage(files: &Files) -> Damage {
    match files.recover() {
        Err(Error::Damaged(damage)) => damage,
        other => panic!("damage was to be refused: {:?}", other.map(|(_, recovered)| slots(&recovered))),
    }
}

#[test]
fn conforms() {
    conformance::check(&mut Files::new(Options::default().segment_bytes));
}

#[test]
fn conforms_with_small_segments() {
    conformance::check(&mut Files::new(64 << 10));
}

#[test]
fn a_torn_last_frame_is_cut_and_the_log_goes_on() -> Outcome {
    let frame_at = 3 * BLOCK; // The third frame, behind the segment's header and two others.
    let tear: [(&str, Tear); 4] = [
        ("truncated", |path, at| {
            let content = fs::read(path).expect("the file is readable");
            fs::write(path, &content[..at + 200]).expect("the file is writable");
        }),
        ("zeroed", |path, at| overwrite(path, at, &[0; BLOCK])),
        ("garbled", |path, at| overwrite(path, at, &[0xa5; BLOCK])),
        ("header alone", |path, at| overwrite(path, at + 128, &[0; BLOCK - 128])),
    ];
    for (name, tear) in tear {
        let files = log_of(3);
        tear(&files.segments()[0], frame_at);
        let (mut storage, recovered) = files.recover()?;
        assert_eq!((slots(&recovered), recovered.hard_state.promised.round), (vec![1, 2], 2), "{name}");
        let _ = put(&mut storage, 9, 10)?;
        drop(storage);
        assert_eq!(slots(&files.recover()?.1), [1, 2, 9], "{name}");
    }
    Ok(())
}

#[test]
fn damage_before_the_last_frame_is_refused_with_place_and_slots() {
    for garbage in [[0; 128].as_slice(), &[0xff; 4], &[0xa5; BLOCK]] {
        let files = log_of(3);
        overwrite(&files.segments()[0], 2 * BLOCK, garbage);
        let damage = damage(&files);
        assert_eq!((damage.cause, damage.offset), (DamageCause::Frame, 2 * BLOCK as u64));
        assert_eq!((damage.slots, damage.is_promise_intact), (Some((Slot(2), Slot(2))), true));
        assert_eq!(damage.file, files.segments()[0]);
    }
}

#[test]
fn a_mark_proves_the_last_frame() -> Outcome {
    let files = log_of(2);
    let (mut storage, _) = files.recover()?;
    storage.mark()?;
    storage.mark()?;
    drop(storage);
    overwrite(&files.segments()[0], 4 * BLOCK, &[1]);
    assert_eq!(
        slots(&files.recover()?.1),
        [1, 2],
        "only one mark was written, and nothing behind it is missed"
    );
    overwrite(&files.segments()[0], 2 * BLOCK, &[1]);
    assert_eq!(damage(&files).slots, Some((Slot(2), Slot(2))));
    Ok(())
}

#[test]
fn no_flipped_bit_loses_an_acknowledged_write_that_others_followed() {
    let files = log_of(3);
    let path = files.segments()[0].clone();
    let whole = fs::read(&path).expect("the file is readable");
    let value_ends_at = 128 + 32 + 4 + 100;
    // All of what a frame uses is checked, its padding by samples: each try reads the whole log.
    let frames =
        (1..=3).flat_map(|frame| (0..value_ends_at).chain([2000, 4095]).map(move |at| frame * BLOCK + at));
    for byte in (0..44).chain(frames) {
        let flipped = whole[byte] ^ (1 << (byte % 8));
        overwrite(&path, byte, &[flipped]);
        match files.recover() {
            Ok((_, recovered)) => {
                let is_in_last = byte >= 3 * BLOCK;
                let expected: &[u64] =
                    if is_in_last && byte % BLOCK < value_ends_at { &[1, 2] } else { &[1, 2, 3] };
                assert_eq!(slots(&recovered), expected, "byte {byte}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "byte {byte}: {error}");
                assert!(byte < 3 * BLOCK && byte % BLOCK < value_ends_at, "byte {byte}: {error}");
            }
        }
        fs::write(&path, &whole).expect("the file is writable");
    }
}

#[test]
fn frames_swapped_or_doubled_are_refused() {
    for (from, to) in [(1, 2), (2, 1), (2, 3), (1, 3)] {
        let files = log_of(3);
        let path = files.segments()[0].clone();
        let content = fs::read(&path).expect("the file is readable");
        overwrite(&path, to * BLOCK, &content[from * BLOCK..(from + 1) * BLOCK]);
        damage(&files);
        overwrite(&path, from * BLOCK, &content[to * BLOCK..(to + 1) * BLOCK]);
        damage(&files);
    }
}

/// Enough writes that the log takes several segments.
fn long_log(files: &Files) -> Result<FileStorage, Error> {
    let (mut storage, _) = files.recover()?;
    for slot in 1..=200 {
        let _ = put(&mut storage, slot, 20_000)?;
    }
    Ok(storage)
}

#[test]
fn segments_are_freed_behind_a_snapshot_and_nothing_else_is_lost() -> Outcome {
    let files = Files::new(256 << 10);
    let mut storage = long_log(&files)?;
    let before = files.segments().len();
    assert!(before > 8, "the log takes several segments: {before}");
    let meta = SnapshotMeta { slot: Slot(150), size_bytes: 5, checksum: crc32c::crc32c(b"state") };
    storage.write_snapshot(meta.slot, 0, b"state")?;
    storage.finish_snapshot(meta)?;
    storage.compact(Slot(150))?;
    assert!(files.segments().len() <= 8, "most segments are gone: {:?}", files.segments());
    drop(storage);
    let (_, recovered) = files.recover()?;
    assert_eq!(slots(&recovered), (151..=200).collect::<Vec<_>>());
    assert_eq!(recovered.hard_state.promised.round, 200);
    Ok(())
}

#[test]
fn the_hard_state_outlives_compaction_of_everything() -> Outcome {
    let files = Files::new(64 << 10);
    let mut storage = long_log(&files)?;
    let meta = SnapshotMeta { slot: Slot(1000), size_bytes: 0, checksum: 0 };
    storage.finish_snapshot(meta)?;
    storage.compact(Slot(1000))?;
    drop(storage);
    let (mut storage, recovered) = files.recover()?;
    assert_eq!((slots(&recovered), recovered.hard_state.promised.round), (vec![], 200));
    storage.compact(Slot(1000))?;
    drop(storage);
    assert_eq!(files.recover()?.1.hard_state.promised.round, 200);
    Ok(())
}

#[test]
fn a_missing_or_foreign_segment_is_refused() -> Outcome {
    for from_end in [0, 1, 7] {
        let files = Files::new(256 << 10);
        drop(long_log(&files)?);
        let other = Files::new(256 << 10);
        drop(long_log(&other)?);
        let with_frames = files.segments_with_frames();
        let lost = with_frames.len() - 1 - from_end;
        let segment = with_frames[lost].clone();
        fs::copy(&other.segments()[lost], &segment).expect("a segment can be replaced");
        assert_eq!(damage(&files).cause, DamageCause::ForeignSegment);
        fs::remove_file(&segment).expect("a segment can be removed");
        let damage = damage(&files);
        assert_eq!((damage.cause, damage.file), (DamageCause::MissingSegment, segment));
    }
    Ok(())
}

#[test]
fn a_log_that_is_all_another_nodes_is_refused() {
    let (files, other) = (log_of(3), log_of(3));
    fs::copy(&other.segments()[0], &files.segments()[0]).expect("a segment can be replaced");
    assert_eq!(damage(&files).cause, DamageCause::ForeignSegment);
}

#[test]
fn a_write_in_several_frames_is_recovered_as_a_whole_or_not_at_all() -> Outcome {
    let files = Files::new(64 << 10);
    let (mut storage, _) = files.recover()?;
    let _ = put(&mut storage, 1, 10)?;
    let entries = (2..=13).map(|slot| accepted(slot, 1 << 20)).collect();
    let hard_state = HardState { promised: Ballot { round: 99, node: NodeId(1) }, chosen: Slot(13) };
    let _ = storage.persist(Write::new(WriteNumber(2), hard_state, entries))?;
    drop(storage);
    assert_eq!(slots(&files.recover()?.1), (1..=13).collect::<Vec<_>>());
    // The last frame of the write begins its segment; tear it.
    let last = files.segments_with_frames().pop().expect("a segment has a frame");
    overwrite(&last, BLOCK + 5000, &[77; 100]);
    let (mut storage, recovered) = files.recover()?;
    assert_eq!((slots(&recovered), recovered.hard_state.chosen), (vec![1], Slot(0)));
    let _ = put(&mut storage, 2, 10)?;
    drop(storage);
    assert_eq!(slots(&files.recover()?.1), [1, 2]);
    Ok(())
}

#[test]
fn a_value_beyond_the_limit_is_refused_and_one_at_the_limit_is_kept() -> Outcome {
    let files = Files::new(64 << 10);
    let (mut storage, _) = files.recover()?;
    let _ = put(&mut storage, 1, MAX_VALUE_BYTES - 4)?;
    drop(storage);
    let (mut storage, recovered) = files.recover()?;
    assert_eq!(recovered.entries[0].1.value().size_bytes(), MAX_VALUE_BYTES);
    assert!(matches!(put(&mut storage, 2, MAX_VALUE_BYTES), Err(Error::TooLarge { .. })));
    Ok(())
}

#[test]
fn a_directory_is_opened_by_its_owner_alone_and_only_once() -> Outcome {
    let parent = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = parent.path().join("new");
    let opened = |path: &Path| FileStorage::open(path, Options::default()).map(|_| ());
    assert!(matches!(opened(&directory), Err(Error::NotFormatted { .. })), "nothing is there");
    assert!(matches!(opened(parent.path()), Err(Error::NotFormatted { .. })), "an empty directory");
    let own = identity(7);
    file::format(&directory, &own)?;
    assert!(matches!(file::format(&directory, &own), Err(Error::NotEmpty { .. })));
    let storage = FileStorage::open(&directory, Options::default())?;
    assert_eq!(storage.identity(), &own);
    assert!(matches!(opened(&directory), Err(Error::Locked { .. })));
    drop(storage);
    opened(&directory)?;
    fs::remove_file(directory.join("META")).expect("META can be removed");
    assert!(matches!(opened(&directory), Err(Error::Damaged(Damage { cause: DamageCause::Meta, .. }))));
    Ok(())
}

#[test]
fn a_bad_newest_snapshot_is_refused() -> Outcome {
    let files = log_of(3);
    let (mut storage, _) = files.recover()?;
    let meta = SnapshotMeta { slot: Slot(2), size_bytes: 5, checksum: crc32c::crc32c(b"state") };
    storage.write_snapshot(meta.slot, 0, b"state")?;
    storage.finish_snapshot(meta)?;
    storage.write_snapshot(Slot(3), 0, b"unfinished")?;
    drop(storage);
    drop(files.recover()?);
    let snapshots = fs::read_dir(files.directory.path()).expect("the directory is there");
    let names = snapshots.map(|file| file.expect("readable").file_name().to_string_lossy().into_owned());
    let names: Vec<String> = names.filter(|name| name.starts_with("snapshot")).collect();
    assert_eq!(names.len(), 1, "what was not finished is gone: {names:?}");
    overwrite(&files.path(&names[0]), 0, b"S");
    let damage = damage(&files);
    assert_eq!((damage.cause, damage.is_promise_intact), (DamageCause::Snapshot, true));
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Persist(Vec<(u64, usize)>),
    Snapshot,
    Mark,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0u64..40, 0usize..30_000), 0..5).prop_map(Step::Persist),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Mark),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn behaves_as_the_model(steps in prop::collection::vec(step(), 1..40)) {
        let files = Files::new(64 << 10);
        let (mut storage, _) = files.recover()?;
        let (mut model, mut hard_state, mut snapshot) = (BTreeMap::new(), HardState::default(), Slot::ZERO);
        for step in steps {
            match step {
                Step::Persist(entries) => {
                    hard_state.promised.round += 1;
                    let round = hard_state.promised.round;
                    let entries: Vec<_> = entries.into_iter().map(|(above, length)| {
                        let ballot = Ballot { round, node: NodeId(1) };
                        let entry = Entry::Accepted { ballot, value: value(round.to_le_bytes()[0], length) };
                        (Slot(snapshot.0 + 1 + above), entry)
                    }).collect();
                    model.extend(entries.iter().cloned());
                    let _ = storage.persist(Write::new(WriteNumber(1), hard_state, entries))?;
                }
                Step::Snapshot => {
                    snapshot = Slot(snapshot.0 + 10);
                    storage.finish_snapshot(SnapshotMeta { slot: snapshot, size_bytes: 0, checksum: 0 })?;
                    storage.compact(snapshot)?;
                }
                Step::Mark => storage.mark()?,
                Step::Crash => {
                    drop(storage);
                    let (again, recovered) = files.recover()?;
                    storage = again;
                    model = model.split_off(&snapshot.next());
                    prop_assert_eq!(recovered.hard_state, hard_state);
                    prop_assert_eq!(recovered.entries, model.clone().into_iter().collect::<Vec<_>>());
                }
            }
        }
    }
}
