//! Crashes and failures at every single operation: recovery finds everything that was acknowledged, and
//! nothing that was not submitted.

use std::io;

use super::model::{
    Model, PREPARE_MODES, Start, Step, a_life, format, large_writes, live_on, new_and_used, older, open,
    open_with,
};
use crate::file::disk::Disk;
use crate::file::disk::buffer::BLOCK_BYTES;
use crate::file::disk::simulated::{Fault, Kept, SimulatedDisk};
use crate::file::format::check_formatted;
use crate::file::layout::{frame, segment};
use crate::file::storage::PrepareMode;
use crate::{Error, ErrorKind, Storage};

/// How many random parts of the unsynced data are tried for each crash.
const SEEDS: u64 = 3;

fn kinds(seed: u64) -> Vec<Kept> {
    let mut kinds = vec![Kept::Nothing, Kept::Everything];
    kinds.extend((0..SEEDS).flat_map(|more| [Kept::Prefix(seed + more), Kept::Random(seed + more)]));
    kinds
}

/// Recovers with a second crash during recovery, then continues to write.
fn check(
    found: &SimulatedDisk,
    prepare_mode: PrepareMode,
    allowed: &(Model, Option<Model>),
    seed: u64,
    context: &str,
) {
    found.set_fault(Some(Fault::Crash { at: usize::try_from(seed % 12).unwrap_or(0) }));
    drop(open_with(found, prepare_mode));
    let found = found.after_crash(Kept::Random(seed));
    let (mut storage, recovered) =
        open_with(&found, prepare_mode).unwrap_or_else(|error| panic!("{context}: {error}"));
    let model = [Some(&allowed.0), allowed.1.as_ref()].into_iter().flatten();
    let mut models =
        model.filter(|model| model.recovered() == recovered && model.registry == storage.registry());
    let Some(model) = models.next() else {
        panic!("{context}: what was recovered was not submitted, or lacks something")
    };
    let step = Step::Persist(603..=610, 9000);
    model.apply(&step, &mut storage).unwrap_or_else(|error| panic!("{context}: {error}"));
    let (_, recovered) =
        open(&found.after_crash(Kept::Nothing)).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(recovered == model.after(&step).recovered(), "{context}: the log does not go on");
}

/// Does it on a new directory, and on one that goes on in segments that are used again.
fn crash_everywhere(steps: &[Step], prepare_mode: PrepareMode) {
    for (start, steps) in new_and_used(steps) {
        crash_everywhere_from(&start, &steps, prepare_mode);
    }
}

pub(super) fn crash_everywhere_from((start, model): &Start, steps: &[Step], prepare_mode: PrepareMode) {
    let operations = {
        let disk = start.copy();
        disk.set_fault(None);
        let (mut storage, _) = open_with(&disk, prepare_mode).expect("nothing fails");
        assert_eq!(live_on(&mut storage, model.clone(), steps).1, None, "nothing fails");
        disk.operations()
    };
    assert!(operations > 30, "the steps make operations: {operations}");
    for at in 0..operations {
        let disk = start.copy();
        disk.set_fault(Some(Fault::Crash { at }));
        let allowed = match open_with(&disk, prepare_mode) {
            Ok((mut storage, _)) => live_on(&mut storage, model.clone(), steps),
            Err(_) => (model.clone(), None),
        };
        for kept in kinds(1000 * at as u64) {
            let context = format!("crash at {at}, {kept:?} kept, segments made {prepare_mode:?}");
            check(&disk.after_crash(kept), prepare_mode, &allowed, at as u64, &context);
        }
    }
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    for prepare_mode in PREPARE_MODES {
        crash_everywhere(&a_life(), prepare_mode);
    }
}

#[test]
fn a_crash_while_a_directory_of_an_older_version_is_written_on_loses_nothing() {
    let steps = [
        Step::Persist(6..=6, 10),
        Step::Mark,
        Step::Found(3),
        Step::Membership(7),
        Step::Snapshot(7),
        Step::Compact(7),
        Step::Persist(8..=9, 18_000),
        Step::Snapshot(9),
    ];
    let start = older();
    for prepare_mode in PREPARE_MODES {
        crash_everywhere_from(&start, &steps, prepare_mode);
        crash_everywhere_from(&start, &steps[2..], prepare_mode);
    }
}

#[test]
fn a_segment_holds_frames_of_one_version() {
    let (disk, model) = older();
    let versions = |disk: &SimulatedDisk| {
        let mut names = disk.list().expect("a simulated disk can be listed");
        names.retain(|name| segment::number_of(name).is_some());
        names.sort();
        let frames = |name: &String| {
            let content = disk.content(name);
            let blocks = content.chunks(BLOCK_BYTES).skip(1);
            blocks.filter_map(frame::decode_header).map(|read| read.version).collect::<Vec<_>>()
        };
        names.iter().map(frames).collect::<Vec<_>>()
    };
    assert_eq!(versions(&disk), [[1; 5]]);
    let (mut storage, _) = open(&disk).expect("nothing fails");
    live_on(&mut storage, model, &[Step::Promise, Step::Mark]);
    assert_eq!(versions(&disk), [vec![1; 5], vec![3; 2]]);
}

#[test]
fn a_crash_within_a_large_write_keeps_all_of_it_or_nothing() {
    for prepare_mode in PREPARE_MODES {
        crash_everywhere(&large_writes(), prepare_mode);
    }
}

fn fail_everywhere(steps: &[Step], prepare_mode: PrepareMode, kind: io::ErrorKind) {
    for (start, steps) in new_and_used(steps) {
        fail_everywhere_from(&start, &steps, prepare_mode, kind);
    }
}

fn fail_everywhere_from(
    (start, model): &Start,
    steps: &[Step],
    prepare_mode: PrepareMode,
    kind: io::ErrorKind,
) {
    for at in 0.. {
        let disk = start.copy();
        disk.set_fault(Some(Fault::Fail { at, kind }));
        let allowed = match open_with(&disk, prepare_mode) {
            Ok((mut storage, _)) => live_on(&mut storage, model.clone(), steps),
            Err(_) => (model.clone(), None),
        };
        if disk.operations() < at {
            return;
        }
        for kept in kinds(1000 * at as u64) {
            let context = format!("failure at {at}: {kind}; {kept:?} kept, segments made {prepare_mode:?}");
            check(&disk.after_crash(kept), prepare_mode, &allowed, at as u64, &context);
        }
    }
}

#[test]
fn after_any_failure_nothing_is_acknowledged_and_nothing_is_lost() {
    for prepare_mode in PREPARE_MODES {
        fail_everywhere(&a_life(), prepare_mode, io::ErrorKind::Other);
    }
}

#[test]
fn after_a_full_disk_the_log_goes_on_or_has_stopped() {
    for prepare_mode in PREPARE_MODES {
        fail_everywhere(&a_life(), prepare_mode, io::ErrorKind::StorageFull);
        fail_everywhere(&large_writes(), prepare_mode, io::ErrorKind::StorageFull);
    }
}

#[test]
fn what_was_cut_never_looks_like_a_part_of_the_log() {
    for (start, steps) in new_and_used(&[Step::Persist(1..=3, 18_000)]) {
        let (disk, mut model) = start;
        let (mut storage, _) = open(&disk).expect("nothing fails");
        // The last of three frames of a write is missing; what follows is put over the other two, block by
        // block.
        disk.set_fault(Some(Fault::Fail { at: 2, kind: io::ErrorKind::Other }));
        let failed = model.apply(&steps[0], &mut storage);
        assert_eq!(failed.map_err(|error| error.kind()), Err(ErrorKind::Failed));
        let disk = disk.after_crash(Kept::Everything);
        for block in 0..12 {
            let (mut storage, recovered) =
                open(&disk).unwrap_or_else(|error| panic!("block {block}: {error}"));
            assert!(recovered == model.recovered(), "block {block}");
            model.apply(&Step::Promise, &mut storage).expect("nothing fails");
            model = model.after(&Step::Promise);
        }
    }
}

#[test]
fn a_crash_while_formatting_leaves_a_directory_that_is_whole_or_not_formatted() {
    for at in 0..20 {
        let disk = SimulatedDisk::new();
        disk.set_fault(Some(Fault::Crash { at }));
        let is_done = format(&disk).is_ok();
        for kept in kinds(at as u64) {
            let found = disk.after_crash(kept);
            let context = format!("crash at {at}, {kept:?} kept");
            match check_formatted(&found, "/simulated".as_ref()) {
                Ok(()) => {
                    check(&found, PrepareMode::OnDemand, &(Model::default(), None), at as u64, &context);
                }
                Err(error) => {
                    assert!(!is_done && matches!(error, Error::NotFormatted { .. }), "{context}: {error}");
                }
            }
        }
    }
}
