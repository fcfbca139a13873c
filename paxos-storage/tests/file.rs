//! The write-ahead log passes the conformance suite, and what else a directory must do.
#![cfg(feature = "file")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use paxos_core::{Ballot, Entry, HardState, NodeId, Slot, Write, WriteNumber};
use paxos_storage::conformance::{self, Backend};
use paxos_storage::file::{self, FileSettings, FileStorage};
use paxos_storage::{Damage, DamageCause, Error, MAX_VALUE_BYTES, Storage};
use proptest::prelude::*;
use support::{
    BLOCK, Files, Outcome, accepted, formatted, identity, long_log, overwrite, put, slots, snapshot, value,
};

impl Backend for Files {
    fn make(&mut self) -> Box<dyn Storage> {
        self.directory = formatted();
        Box::new(self.open())
    }

    fn open_again(&mut self) -> Box<dyn Storage> {
        Box::new(self.open())
    }
}

#[test]
fn conforms() {
    conformance::check(&mut Files::new(FileSettings::default().segment_bytes));
}

#[test]
fn conforms_with_small_segments() {
    conformance::check(&mut Files::new(64 << 10));
}

#[test]
fn segments_are_freed_behind_a_snapshot_and_nothing_else_is_lost() -> Outcome {
    let files = Files::new(256 << 10);
    let mut storage = long_log(&files)?;
    let before = files.segments().len();
    assert!(before > 8, "the log takes several segments: {before}");
    let meta = snapshot(Slot(150), b"state");
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
fn recovery_shows_how_far_it_has_come() -> Outcome {
    let files = Files::new(64 << 10);
    drop(long_log(&files)?);
    let mut storage = files.open();
    let progress = storage.recovery_progress();
    assert_eq!(progress.percent(), None);
    let mut seen = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        let recovering = scope.spawn(|| storage.recover().map(drop));
        while !recovering.is_finished() {
            seen.insert(progress.percent());
        }
        recovering.join().expect("no panic")
    })?;
    assert_eq!(progress.percent(), Some(100), "seen before: {seen:?}");
    Ok(())
}

#[test]
fn the_hard_state_outlives_compaction_of_everything() -> Outcome {
    let files = Files::new(64 << 10);
    let mut storage = long_log(&files)?;
    let meta = snapshot(Slot(1000), b"");
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
    let opened = |path: &Path| FileStorage::open(path, FileSettings::default()).map(|_| ());
    assert!(matches!(opened(&directory), Err(Error::NotFormatted { .. })), "nothing is there");
    assert!(matches!(opened(parent.path()), Err(Error::NotFormatted { .. })), "an empty directory");
    let own = identity(7);
    file::format(&directory, &own)?;
    assert!(matches!(file::format(&directory, &own), Err(Error::AlreadyFormatted { .. })));
    assert_eq!(file::identity(&directory)?, own);
    let storage = FileStorage::open(&directory, FileSettings::default())?;
    assert_eq!(storage.identity(), &own);
    assert!(matches!(opened(&directory), Err(Error::Locked { .. })));
    drop(storage);
    opened(&directory)?;
    fs::remove_file(directory.join("META")).expect("META can be removed");
    assert!(matches!(opened(&directory), Err(Error::Damaged(Damage { cause: DamageCause::Meta, .. }))));
    Ok(())
}

#[test]
fn a_new_file_system_and_what_formatting_has_left_are_formatted_and_nothing_else_is() -> Outcome {
    let parent = tempfile::tempdir().expect("a temporary directory can be made");
    let make = |name: &str, files: &[&str]| {
        let directory = parent.path().join(name);
        fs::create_dir(&directory).expect("it can be made");
        for file in files {
            fs::write(directory.join(file), b"x").expect("it can be written");
        }
        directory
    };
    let new = make("new", &[]);
    fs::create_dir(new.join("lost+found")).expect("it can be made");
    file::format(&new, &identity(7))?;
    let begun = make("begun", &["LOCK", "META.new", "wal-000000000001.new"]);
    file::format(&begun, &identity(7))?;
    let (_, recovered) = (|| {
        let mut storage = FileStorage::open(&begun, FileSettings::default())?;
        storage.recover().map(|recovered| (storage, recovered))
    })()?;
    assert!(recovered.entries.is_empty());
    for (name, files) in [
        ("other", &["a file"][..]),
        ("segments", &["LOCK", "wal-000000000001"]),
        ("more", &["LOCK", "META.new", "a file"]),
    ] {
        let directory = make(name, files);
        assert!(matches!(file::format(&directory, &identity(7)), Err(Error::NotEmpty { .. })), "{name}");
        assert_eq!(fs::read_dir(&directory).expect("it is there").count(), files.len(), "it is not touched");
    }
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
                    storage.finish_snapshot(support::snapshot(snapshot, b""))?;
                    storage.compact(snapshot)?;
                }
                Step::Mark => storage.prove_last_write()?,
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
