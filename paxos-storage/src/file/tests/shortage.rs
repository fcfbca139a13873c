//! Shortages of space and of file descriptors, which stop nothing.

use std::io;

use paxos_core::Slot;

use super::crash::crash_everywhere_from;
use super::model::{
    Model, PREPARE_MODES, Step, a_life, formatted, large_writes, live, live_on, names_of, new_and_used, open,
    open_sized, open_with, used,
};
use crate::file::disk::simulated::{Fault, Kept, SimulatedDisk};
use crate::file::layout::segment::{self, MIN_SEGMENT_BYTES};
use crate::{Error, ErrorKind, Storage};

#[test]
fn a_disk_too_full_for_a_segment_or_a_snapshot_stops_nothing() {
    let one = |slot| Step::Persist(slot..=slot, 18_000);
    // Three such writes fill the first segment. Up to the sync of the directory nothing of the fourth is
    // written; a snapshot is one file, three pieces and a membership.
    for (last, operations) in [(one(4), 6), (Step::Snapshot(3), 5)] {
        let disk = formatted();
        let (mut storage, _) = open(&disk).expect("nothing fails");
        let (model, _) = live(&mut storage, &[one(1), one(2), one(3)]);
        for at in 0..operations {
            disk.set_fault(Some(Fault::Fail { at, kind: io::ErrorKind::StorageFull }));
            let refused = model.apply(&last, &mut storage).expect_err("the disk is full");
            assert_eq!(refused.kind(), ErrorKind::Full, "{last:?}, operation {at}: {refused}");
        }
        disk.set_fault(None);
        model.apply(&last, &mut storage).expect("there is space again");
        let (_, recovered) = open(&disk.after_crash(Kept::Nothing)).expect("nothing is damaged");
        assert!(recovered == model.after(&last).recovered(), "{last:?}");
    }
}

/// The bytes of all files.
pub(crate) fn used_bytes(disk: &SimulatedDisk) -> usize {
    names_of(disk, |_| Some(0)).iter().map(|name| disk.content(name).len()).sum()
}

#[test]
fn a_disk_without_room_for_a_whole_segment_takes_smaller_ones_until_it_is_full() {
    const SEGMENT_BYTES: usize = 32 * MIN_SEGMENT_BYTES;
    for (prepare_mode, free) in PREPARE_MODES.into_iter().flat_map(|mode| [1, 3, 20].map(|free| (mode, free)))
    {
        let context = format!("room for {free} of the smallest segments, made {prepare_mode:?}");
        let disk = formatted();
        let (mut storage, _) = open_sized(&disk, prepare_mode, SEGMENT_BYTES).expect("nothing fails");
        let limit_bytes = used_bytes(&disk) + free * MIN_SEGMENT_BYTES;
        disk.limit(Some(limit_bytes));
        let mut model = Model::default();
        let refused = loop {
            let slot = model.hard_state.promised.round + 1;
            let step = Step::Persist(slot..=slot, 10);
            match model.apply(&step, &mut storage) {
                Ok(()) => model = model.after(&step),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::Full, "{context}: {refused}");
        let free_bytes = limit_bytes - used_bytes(&disk);
        assert!(free_bytes < MIN_SEGMENT_BYTES, "{context}: {free_bytes} bytes are left");
        let whole = open_sized(&disk.after_crash(Kept::Nothing), prepare_mode, SEGMENT_BYTES);
        assert!(whole.expect("nothing is damaged").1 == model.recovered(), "{context}");
        // There is space again, and segments grow again.
        disk.limit(None);
        let slot = model.hard_state.promised.round + 1;
        let steps: Vec<Step> = (slot..slot + 300).map(|slot| Step::Persist(slot..=slot, 18_000)).collect();
        let (model, failed) = live_on(&mut storage, model, &steps);
        assert_eq!(failed, None, "{context}");
        let sizes = names_of(&disk, segment::number_of).into_iter().map(|name| disk.content(&name).len());
        assert_eq!(sizes.max(), Some(SEGMENT_BYTES), "{context}");
        let (_, recovered) = open(&disk.after_crash(Kept::Nothing)).expect("nothing is damaged");
        assert!(recovered == model.recovered(), "{context}");
    }
}

#[test]
fn a_crash_on_a_disk_that_is_almost_full_loses_nothing() {
    let one = |slot| Step::Persist(slot..=slot, 18_000);
    let steps: Vec<Step> =
        (1..8).map(one).chain([Step::Mark, Step::Snapshot(7), Step::Compact(7), one(8)]).collect();
    for prepare_mode in PREPARE_MODES {
        for (start, steps) in new_and_used(&steps) {
            start.0.limit(Some(used_bytes(&start.0) + 5 * MIN_SEGMENT_BYTES));
            crash_everywhere_from(&start, &steps, prepare_mode);
        }
    }
}

#[test]
fn a_write_for_which_there_is_not_all_of_the_space_is_refused_as_a_whole() {
    for prepare_mode in PREPARE_MODES {
        let disk = formatted();
        let (mut storage, _) = open_with(&disk, prepare_mode).expect("nothing fails");
        // Frames of five blocks each: three fit into the present segment, and some of the others elsewhere.
        let large = Step::Persist(1..=12, 18_000);
        for more in [0, 1] {
            disk.limit(Some(used_bytes(&disk) + more * MIN_SEGMENT_BYTES));
            for _ in 0..2 {
                let refused = Model::default().apply(&large, &mut storage).expect_err("the disk is full");
                assert_eq!(refused.kind(), ErrorKind::Full, "{more} more, {prepare_mode:?}: {refused}");
            }
            disk.limit(None);
        }
        let (small, model) = (Step::Persist(1..=1, 10), Model::default());
        let (model, failed) = live_on(&mut storage, model, &[small, Step::Persist(1..=12, 18_000)]);
        assert_eq!(failed, None, "there is space again");
        let (_, recovered) = open(&disk.after_crash(Kept::Nothing)).expect("nothing is damaged");
        assert!(recovered == model.recovered(), "{prepare_mode:?}");
    }
}

#[test]
fn old_segments_that_are_kept_make_room_for_a_snapshot_and_for_a_long_write() {
    for (last, free_bytes) in [(Step::Snapshot(40), 4096), (Step::Persist(41..=41, 80_000), 6 * 4096)] {
        let (disk, model) = used();
        let (mut storage, _) = open(&disk).expect("nothing fails");
        let spares = || names_of(&disk, segment::number_of_spare).len();
        assert!(spares() > 0);
        disk.limit(Some(used_bytes(&disk) + free_bytes));
        let (model, failed) = live_on(&mut storage, model, std::slice::from_ref(&last));
        assert_eq!((failed, spares()), (None, 0), "{last:?}");
        let (_, recovered) = open(&disk.after_crash(Kept::Nothing)).expect("nothing is damaged");
        assert!(recovered == model.recovered(), "{last:?}");
    }
}

#[test]
fn a_shortage_of_descriptors_at_any_time_is_no_failure() {
    for (steps, prepare_mode) in [a_life(), large_writes()]
        .iter()
        .flat_map(|steps| PREPARE_MODES.map(|prepare_mode| (steps, prepare_mode)))
    {
        for at in 0.. {
            let disk = formatted();
            let (mut storage, _) = open_with(&disk, prepare_mode).expect("nothing fails");
            disk.refuse_descriptors(at..at + 1);
            let mut model = Model::default();
            for step in steps {
                let context = format!("open {at}, segments made {prepare_mode:?}, {step:?}");
                let first = model.apply(step, &mut storage);
                if let Err(error) = first {
                    assert!(matches!(error, Error::NoDescriptor { .. }), "{context}: {error}");
                    assert_eq!(error.kind(), ErrorKind::Full);
                    model
                        .apply(step, &mut storage)
                        .unwrap_or_else(|error| panic!("{context}, again: {error}"));
                }
                model = model.after(step);
            }
            if disk.opens() <= at {
                break;
            }
            let (_, recovered) = open(&disk.after_crash(Kept::Nothing)).expect("nothing is damaged");
            assert!(recovered == model.recovered(), "open {at}, segments made {prepare_mode:?}");
        }
    }
}

#[test]
fn a_snapshot_that_can_not_be_opened_for_want_of_descriptors_can_be_read_later() {
    let disk = formatted();
    let (mut storage, _) = open(&disk).expect("nothing fails");
    live(&mut storage, &[Step::Persist(1..=3, 10), Step::Snapshot(3)]);
    disk.refuse_descriptors(0..usize::MAX);
    for _ in 0..3 {
        let refused = storage.read_snapshot(Slot(3), 0, 100).expect_err("there is no descriptor");
        assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    }
    disk.refuse_descriptors(0..0);
    assert_eq!(
        storage.read_snapshot(Slot(3), 0, 100).expect("there is one again").map(|bytes| bytes.len()),
        Some(100)
    );
}
