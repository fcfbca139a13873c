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

    fn snapshots(&self) -> Vec<String> {
        let files = fs::read_dir(self.directory.path()).expect("the directory is there");
        let names = files.map(|file| file.expect("readable").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("snapshot")).collect();
        names.sort();
        names
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

/// What is recovered in spite of damage: slots with an entry, the watermark, and up to where some may be lost.
fn repairable(files: &Files) -> (Vec<u64>, u64, u64) {
    let (_, recovered) = files.recover().expect("the promise is intact, so the node can come back");
    (slots(&recovered), recovered.hard_state.chosen.0, recovered.incomplete_through.0)
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
fn damage_before_the_last_frame_costs_its_slots_and_nothing_else() {
    for garbage in [[0; 128].as_slice(), &[0xff; 4], &[0xa5; BLOCK]] {
        let files = log_of(4);
        overwrite(&files.segments()[0], 2 * BLOCK, garbage);
        let (_, recovered) = files.recover().expect("the promise is intact");
        assert_eq!(slots(&recovered), [1, 3, 4]);
        let hard_state = recovered.hard_state;
        assert_eq!(
            (hard_state.promised.round, hard_state.chosen, recovered.incomplete_through),
            (4, Slot(1), Slot(2))
        );
        assert!(matches!(recovered.entries[1].1, Entry::Chosen { .. }), "the watermark said so of slot 3");
        assert!(matches!(recovered.entries[2].1, Entry::Accepted { .. }), "nobody has said so of slot 4");
        assert_eq!(repairable(&files), (vec![1, 3, 4], 1, 2), "the next start finds the same");
    }
}

#[test]
fn what_was_lost_is_no_longer_missed_once_it_is_written_again() -> Outcome {
    let files = log_of(4);
    overwrite(&files.segments()[0], 2 * BLOCK, &[0xa5; 100]);
    let (mut storage, recovered) = files.recover()?;
    let learned = vec![(Slot(2), Entry::Chosen { value: value(2, 100) })];
    let hard_state = HardState { chosen: Slot(3), ..recovered.hard_state };
    let _ = storage.persist(Write::new(WriteNumber(1), hard_state, learned))?;
    drop(storage);
    assert_eq!(repairable(&files), (vec![1, 2, 3, 4], 3, 0));
    Ok(())
}

#[test]
fn several_lost_frames_may_have_held_any_slot_that_was_not_chosen_before() {
    let files = log_of(7);
    overwrite(&files.segments()[0], 3 * BLOCK, &[0xa5; 3 * BLOCK]);
    assert_eq!(
        repairable(&files),
        (vec![1, 6, 7], 1, 5),
        "slot 2 may have been accepted anew in a lost frame"
    );
}

#[test]
fn damage_with_nothing_whole_behind_it_is_refused_with_place_and_slots() {
    // The header of the last frame proves the one before; its own payload is torn, so the newest promise is unsure.
    let files = log_of(3);
    overwrite(&files.segments()[0], 2 * BLOCK + 128, &[0xa5; 8]);
    overwrite(&files.segments()[0], 3 * BLOCK + 128, &[0xa5; 8]);
    let damage = damage(&files);
    assert_eq!((damage.cause, damage.offset), (DamageCause::Frame, 2 * BLOCK as u64));
    assert_eq!((damage.slots, damage.is_promise_intact), (Some((Slot(2), Slot(2))), false));
    assert_eq!(damage.file, files.segments()[0]);
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
    assert_eq!(repairable(&files), (vec![1], 1, 2));
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
                let hit = if byte % BLOCK < value_ends_at { byte / BLOCK } else { 0 };
                let expected: Vec<u64> = (1..=3).filter(|slot| *slot != hit as u64).collect();
                assert_eq!(slots(&recovered), expected, "byte {byte}");
                let lost = if hit == 3 { 0 } else { hit as u64 };
                assert_eq!(recovered.incomplete_through, Slot(lost), "byte {byte}");
            }
            Err(error) => panic!("byte {byte}: {error}"),
        }
        fs::write(&path, &whole).expect("the file is writable");
    }
}

#[test]
fn frames_swapped_or_doubled_are_never_taken_for_what_they_replace() {
    for (from, to) in [(1, 2), (2, 1), (2, 3), (1, 3), (3, 1), (3, 2)] {
        let files = log_of(3);
        let path = files.segments()[0].clone();
        let content = fs::read(&path).expect("the file is readable");
        let frame = |index: usize| &content[index * BLOCK..(index + 1) * BLOCK];
        overwrite(&path, to * BLOCK, frame(from));
        acknowledged_or_refused(&files, 3, &format!("frame {from} stands in place of frame {to}, too"));
        overwrite(&path, from * BLOCK, frame(to));
        acknowledged_or_refused(&files, 3, &format!("frames {from} and {to} are swapped"));
    }
}

/// Of a log of `writes` writes, each is recovered as it was, is said to be missing, or the log is refused.
fn acknowledged_or_refused(files: &Files, writes: u64, what: &str) {
    match files.recover() {
        Ok((_, recovered)) => {
            assert_eq!(recovered.hard_state.promised.round, writes, "{what}: the promise is the newest");
            for slot in 1..=writes {
                let entry = recovered.entries.iter().find(|(there, _)| there.0 == slot);
                let is_missed = slot <= recovered.incomplete_through.0;
                assert!(is_missed || entry.is_some(), "{what}: slot {slot} is forgotten");
                let is_right =
                    entry.is_none_or(|(_, entry)| *entry.value() == *accepted(slot, 100).1.value());
                assert!(is_right, "{what}: slot {slot} holds another value");
            }
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}"),
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
fn a_missing_or_foreign_last_segment_is_refused() -> Outcome {
    let (files, other) = (Files::new(256 << 10), Files::new(256 << 10));
    drop(long_log(&files)?);
    drop(long_log(&other)?);
    let with_frames = files.segments_with_frames();
    let (last, segment) = (with_frames.len() - 1, &with_frames[with_frames.len() - 1]);
    fs::copy(&other.segments()[last], segment).expect("a segment can be replaced");
    assert_eq!(damage(&files).cause, DamageCause::ForeignSegment);
    fs::remove_file(segment).expect("a segment can be removed");
    let damage = damage(&files);
    assert_eq!((damage.cause, &damage.file), (DamageCause::MissingSegment, segment));
    assert!(!damage.is_promise_intact, "the newest promise was in it");
    Ok(())
}

#[test]
fn a_missing_foreign_or_headless_segment_in_the_middle_costs_its_slots() -> Outcome {
    let other = Files::new(256 << 10);
    drop(long_log(&other)?);
    for lost in [0, 1, 7] {
        let files = Files::new(256 << 10);
        drop(long_log(&files)?);
        let segment = files.segments()[lost].clone();
        overwrite(&segment, 0, &[1; 100]);
        assert_eq!(
            repairable(&files),
            ((1..=200).collect(), 199, 0),
            "the frames tell all that the header did"
        );
        fs::copy(&other.segments()[lost], &segment).expect("a segment can be replaced");
        let (there, chosen, through) = repairable(&files);
        assert!(
            there.len() < 200 && there.contains(&200),
            "the log goes on behind segment {lost}: {there:?}"
        );
        let first_missing = (1..=200).find(|slot| !there.contains(slot)).unwrap_or_default();
        let last_missing = (1..=200).rev().find(|slot| !there.contains(slot));
        assert_eq!((chosen, Some(through)), (first_missing - 1, last_missing), "segment {lost}");
        fs::remove_file(&segment).expect("a segment can be removed");
        assert_eq!(repairable(&files), (there, chosen, through), "segment {lost}");
    }
    Ok(())
}

#[test]
fn a_segment_with_lost_slots_is_freed_only_when_a_snapshot_covers_them() -> Outcome {
    let files = Files::new(256 << 10);
    drop(long_log(&files)?);
    let segments = files.segments();
    fs::remove_file(&segments[3]).expect("a segment can be removed");
    let before = repairable(&files);
    let (mut storage, _) = files.recover()?;
    let covered = Slot(before.2 - 1);
    storage.finish_snapshot(SnapshotMeta { slot: covered, size_bytes: 0, checksum: 0 })?;
    storage.compact(covered)?;
    drop(storage);
    assert_eq!(repairable(&files).2, before.2, "the last lost slot is not in the snapshot");
    let (mut storage, _) = files.recover()?;
    let covered = Slot(before.2);
    storage.finish_snapshot(SnapshotMeta { slot: covered, size_bytes: 0, checksum: 0 })?;
    storage.compact(covered)?;
    drop(storage);
    let (there, chosen, through) = repairable(&files);
    assert_eq!((there, chosen, through), ((before.2 + 1..=200).collect(), 199, 0));
    assert!(!segments[2].exists() && !segments[3].exists(), "what the snapshot covers is freed");
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
fn a_bad_newest_snapshot_is_replaced_by_a_later_one_and_missed_until_then() -> Outcome {
    let files = log_of(6);
    let (mut storage, _) = files.recover()?;
    for (slot, state) in [(2, b"older"), (4, b"newer")] {
        let meta = SnapshotMeta { slot: Slot(slot), size_bytes: 5, checksum: crc32c::crc32c(state) };
        storage.write_snapshot(meta.slot, 0, state)?;
        storage.finish_snapshot(meta)?;
    }
    storage.write_snapshot(Slot(5), 0, b"unfinished")?;
    drop(storage);
    drop(files.recover()?);
    let names = files.snapshots();
    assert_eq!(names.len(), 2, "what was not finished is gone: {names:?}");
    overwrite(&files.path(&names[1]), 0, b"N");
    let (mut storage, recovered) = files.recover()?;
    assert_eq!(recovered.snapshot.map(|meta| meta.slot), Some(Slot(2)), "the one before is taken");
    assert_eq!((slots(&recovered), recovered.hard_state.chosen), (vec![3, 4, 5, 6], Slot(2)));
    assert_eq!(recovered.incomplete_through, Slot(0), "the log holds all that was accepted since");
    assert_eq!(storage.read_snapshot(Slot(4), 0, 10)?, None, "nobody is given what is bad");
    let entry = |index: usize| &recovered.entries[index].1;
    assert!(matches!(entry(1), Entry::Accepted { .. }), "the snapshot may have passed over slot 4");
    assert!(matches!(entry(2), Entry::Chosen { .. }), "the watermark said so of slot 5");
    let later = SnapshotMeta { slot: Slot(4), size_bytes: 5, checksum: crc32c::crc32c(b"newer") };
    storage.write_snapshot(later.slot, 0, b"newer")?;
    storage.finish_snapshot(later)?;
    assert_eq!(storage.read_snapshot(Slot(4), 0, 10)?.as_deref(), Some(&b"newer"[..]));
    drop(storage);
    assert_eq!(repairable(&files), (vec![5, 6], 5, 0));
    Ok(())
}

#[test]
fn below_a_lost_snapshot_everything_that_the_log_has_not_is_missed() -> Outcome {
    let files = Files::new(256 << 10);
    let mut storage = long_log(&files)?;
    storage.finish_snapshot(SnapshotMeta { slot: Slot(150), size_bytes: 0, checksum: 0 })?;
    storage.compact(Slot(150))?;
    drop(storage);
    fs::remove_file(files.path(&files.snapshots()[0])).expect("a snapshot can be removed");
    let (there, chosen, through) = repairable(&files);
    assert_eq!((chosen, through), (0, there[0] - 1), "the log begins at slot {}", there[0]);
    assert_eq!(repairable(&files).2, through, "the next start finds the same");
    let (mut storage, _) = files.recover()?;
    storage.finish_snapshot(SnapshotMeta { slot: Slot(20), size_bytes: 0, checksum: 0 })?;
    drop(storage);
    assert_eq!(repairable(&files).1, 20, "an earlier snapshot is a beginning");
    assert_eq!(repairable(&files).2, through, "but what lies above it is still missing");
    let (mut storage, _) = files.recover()?;
    storage.finish_snapshot(SnapshotMeta { slot: Slot(150), size_bytes: 0, checksum: 0 })?;
    drop(storage);
    assert_eq!(repairable(&files), ((151..=200).collect(), 199, 0));
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
