//! Shortages of space and of file descriptors, which stop nothing.

use std::io;

use paxos_core::Slot;

use super::model::{Model, PREPARE_MODES, Step, a_life, formatted, large_writes, live, open, open_with};
use crate::file::disk::simulated::{Fault, Kept};
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
