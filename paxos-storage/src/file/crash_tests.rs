//! Crashes and failures at every single operation: what was acknowledged is recovered, and nothing but what was
//! submitted.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::{
    Ballot, Entry, HardState, NodeId, Recovered, Slot, SnapshotMeta, Value, Write, WriteNumber,
};

use super::log::Sizes;
use super::simulated::{Fault, Kept, SimulatedDisk};
use super::{Ahead, FileStorage, MIN_SEGMENT_BYTES, format_on};
use crate::{Error, ErrorKind, Identity, Storage, StorageId};

/// How many random parts of what was not synced are kept, one after the other, for each crash.
const SEEDS: u64 = 3;
/// When segments are made: when they are needed, or as soon as a thread might make them.
const AHEAD: [Ahead; 2] = [Ahead::Nobody, Ahead::Itself];

/// What a storage holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Model {
    pub(super) hard_state: HardState,
    pub(super) snapshot: Option<SnapshotMeta>,
    pub(super) entries: BTreeMap<Slot, Entry>,
}

/// One call that changes what a storage holds, or should not.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A promise alone.
    Promise,
    /// Entries of so many bytes in each of the slots.
    Persist(RangeInclusive<u64>, usize),
    Mark,
    Snapshot(u64),
    Compact(u64),
}

impl Model {
    pub(super) fn after(&self, step: &Step) -> Model {
        let mut next = self.clone();
        match step {
            Step::Promise => next.hard_state.promised.round += 1,
            Step::Persist(slots, length) => {
                let chosen = Slot(*slots.start()).previous().max(self.hard_state.chosen);
                let ballot = Ballot { round: self.hard_state.promised.round + 1, node: NodeId(1) };
                next.hard_state = HardState { promised: ballot, chosen };
                let fill = ballot.round.to_le_bytes()[0];
                let value = Value::batch(&[Bytes::from(vec![fill; *length])]);
                let entry = |slot| (Slot(slot), Entry::Accepted { ballot, value: value.clone() });
                next.entries.extend(slots.clone().map(entry));
            }
            Step::Snapshot(slot) => next.snapshot = Some(snapshot_of(*slot).0),
            Step::Mark | Step::Compact(_) => {}
        }
        next
    }

    pub(super) fn apply(&self, step: &Step, storage: &mut FileStorage) -> Result<(), Error> {
        let hard_state = self.after(step).hard_state;
        let persist = |storage: &mut FileStorage, entries| {
            storage.persist(Write::new(WriteNumber(1), hard_state, entries)).map(drop)
        };
        match step {
            Step::Promise => persist(storage, Vec::new()),
            Step::Persist(slots, _) => {
                let next = self.after(step);
                let entries = slots.clone().map(|slot| (Slot(slot), next.entries[&Slot(slot)].clone()));
                persist(storage, entries.collect())
            }
            Step::Mark => storage.mark(),
            Step::Snapshot(slot) => {
                let (meta, bytes) = snapshot_of(*slot);
                for (index, piece) in bytes.chunks(3000).enumerate() {
                    storage.write_snapshot(meta.slot, 3000 * index as u64, piece)?;
                }
                storage.finish_snapshot(meta)
            }
            Step::Compact(slot) => storage.compact(Slot(*slot)),
        }
    }

    fn recovered(&self) -> Recovered {
        let after = self.snapshot.map_or(Slot::ZERO, |meta| meta.slot).next();
        let entries = self.entries.range(after..).map(|(slot, entry)| (*slot, entry.clone()));
        let (hard_state, snapshot, entries) = (self.hard_state, self.snapshot, entries.collect());
        Recovered { hard_state, snapshot, entries, incomplete_through: Slot::ZERO }
    }
}

fn snapshot_of(slot: u64) -> (SnapshotMeta, Vec<u8>) {
    let bytes = vec![u8::try_from(slot % 256).unwrap_or(0); 7000];
    (SnapshotMeta { slot: Slot(slot), size_bytes: 7000, checksum: crc32c::crc32c(&bytes) }, bytes)
}

/// Writes of all sizes, over several segments; snapshots made here and one from a peer that is far ahead.
fn a_life() -> Vec<Step> {
    let one = |slot| Step::Persist(slot..=slot, 18_000);
    let mut steps = vec![Step::Promise, Step::Persist(1..=1, 10), Step::Mark, Step::Persist(1..=3, 300)];
    steps.extend((2..14).map(one));
    steps.extend((4..12).flat_map(|slot| [Step::Snapshot(slot), Step::Compact(slot)]));
    steps.extend([Step::Mark, Step::Persist(12..=15, 5000), Step::Promise]);
    steps.extend((16..22).map(one));
    steps.extend([Step::Snapshot(500), Step::Compact(500), Step::Persist(501..=502, 10), Step::Mark]);
    steps
}

/// Writes of several frames, some of which share a segment and some of which do not.
fn large_writes() -> Vec<Step> {
    vec![
        Step::Persist(1..=1, 10),
        Step::Persist(2..=6, 9000),
        Step::Persist(2..=3, 100),
        Step::Persist(4..=12, 18_000),
        Step::Mark,
        Step::Persist(13..=14, 40_000),
    ]
}

pub(super) fn formatted() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    format(&disk).expect("nothing fails");
    disk
}

fn format(disk: &SimulatedDisk) -> Result<(), Error> {
    format_on(
        disk,
        &Identity::existing(String::from("simulated"), NodeId(1), StorageId(7)),
        MIN_SEGMENT_BYTES,
    )
}

pub(super) fn open(disk: &SimulatedDisk) -> Result<(FileStorage, Recovered), Error> {
    open_with(disk, Ahead::Nobody)
}

pub(super) fn open_with(disk: &SimulatedDisk, ahead: Ahead) -> Result<(FileStorage, Recovered), Error> {
    super::check_formatted(disk, "/simulated".as_ref())?;
    let sizes = Sizes { segment_bytes: MIN_SEGMENT_BYTES, payload_bytes: 20_000 };
    let mut storage = FileStorage { ahead, ..FileStorage::open_on(Arc::new(disk.clone()), sizes)? };
    let recovered = storage.recover()?;
    Ok((storage, recovered))
}

/// Takes the steps until one fails. Gives the models that are allowed then: the one before the last step, and after.
fn live(storage: &mut FileStorage, steps: &[Step]) -> (Model, Option<Model>) {
    let mut model = Model::default();
    for step in steps {
        let next = model.after(step);
        let mut result = model.apply(step, storage);
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Full) {
            result = model.apply(step, storage); // As if it had not been tried: there is space again.
        }
        if result.is_err() {
            let has_stopped = storage.stopped.is_some();
            let again = model.apply(&Step::Persist(1..=1, 1), storage);
            assert!(has_stopped && again.is_err(), "nothing is acknowledged after a failure");
            return (model, Some(next));
        }
        model = next;
    }
    (model, None)
}

fn kinds(seed: u64) -> Vec<Kept> {
    let mut kinds = vec![Kept::Nothing, Kept::Everything];
    kinds.extend((0..SEEDS).flat_map(|more| [Kept::Prefix(seed + more), Kept::Random(seed + more)]));
    kinds
}

/// Recovers, with a second crash on the way for good measure, and goes on.
fn check(found: &SimulatedDisk, ahead: Ahead, allowed: &(Model, Option<Model>), seed: u64, context: &str) {
    found.set_fault(Some(Fault::Crash { at: usize::try_from(seed % 12).unwrap_or(0) }));
    drop(open_with(found, ahead));
    let found = found.after_crash(Kept::Random(seed));
    let (mut storage, recovered) =
        open_with(&found, ahead).unwrap_or_else(|error| panic!("{context}: {error}"));
    let model = [Some(&allowed.0), allowed.1.as_ref()].into_iter().flatten();
    let mut models = model.filter(|model| model.recovered() == recovered);
    let Some(model) = models.next() else {
        panic!("{context}: what was recovered was not submitted, or lacks something")
    };
    let step = Step::Persist(503..=510, 9000);
    model.apply(&step, &mut storage).unwrap_or_else(|error| panic!("{context}: {error}"));
    let (_, recovered) =
        open(&found.after_crash(Kept::Nothing)).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(recovered == model.after(&step).recovered(), "{context}: the log does not go on");
}

fn crash_everywhere(steps: &[Step], ahead: Ahead) {
    let operations = {
        let disk = formatted();
        disk.set_fault(None);
        let (mut storage, _) = open_with(&disk, ahead).expect("nothing fails");
        assert_eq!(live(&mut storage, steps).1, None, "nothing fails");
        disk.operations()
    };
    assert!(operations > 30, "the steps make operations: {operations}");
    for at in 0..operations {
        let disk = formatted();
        disk.set_fault(Some(Fault::Crash { at }));
        let allowed = match open_with(&disk, ahead) {
            Ok((mut storage, _)) => live(&mut storage, steps),
            Err(_) => (Model::default(), None),
        };
        for kept in kinds(1000 * at as u64) {
            let context = format!("crash at {at}, {kept:?} kept, segments made ahead by {ahead:?}");
            check(&disk.after_crash(kept), ahead, &allowed, at as u64, &context);
        }
    }
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    for ahead in AHEAD {
        crash_everywhere(&a_life(), ahead);
    }
}

#[test]
fn a_crash_within_a_large_write_keeps_all_of_it_or_nothing() {
    for ahead in AHEAD {
        crash_everywhere(&large_writes(), ahead);
    }
}

fn fail_everywhere(steps: &[Step], ahead: Ahead, kind: io::ErrorKind) {
    for at in 0.. {
        let disk = formatted();
        disk.set_fault(Some(Fault::Fail { at, kind }));
        let allowed = match open_with(&disk, ahead) {
            Ok((mut storage, _)) => live(&mut storage, steps),
            Err(_) => (Model::default(), None),
        };
        if disk.operations() < at {
            return;
        }
        for kept in kinds(1000 * at as u64) {
            let context = format!("failure at {at}: {kind}; {kept:?} kept, segments made ahead by {ahead:?}");
            check(&disk.after_crash(kept), ahead, &allowed, at as u64, &context);
        }
    }
}

#[test]
fn after_any_failure_nothing_is_acknowledged_and_nothing_is_lost() {
    for ahead in AHEAD {
        fail_everywhere(&a_life(), ahead, io::ErrorKind::Other);
    }
}

#[test]
fn after_a_full_disk_the_log_goes_on_or_has_stopped() {
    for ahead in AHEAD {
        fail_everywhere(&a_life(), ahead, io::ErrorKind::StorageFull);
        fail_everywhere(&large_writes(), ahead, io::ErrorKind::StorageFull);
    }
}

#[test]
fn what_was_cut_never_looks_like_a_part_of_the_log() {
    let disk = formatted();
    let (mut storage, _) = open(&disk).expect("nothing fails");
    // The last of three frames of a write is missing; what follows is put over the other two, block by block.
    disk.set_fault(Some(Fault::Fail { at: 2, kind: io::ErrorKind::Other }));
    let mut model = Model::default();
    let failed = model.apply(&Step::Persist(1..=3, 18_000), &mut storage);
    assert_eq!(failed.map_err(|error| error.kind()), Err(ErrorKind::Failed));
    let disk = disk.after_crash(Kept::Everything);
    for block in 0..12 {
        let (mut storage, recovered) = open(&disk).unwrap_or_else(|error| panic!("block {block}: {error}"));
        assert!(recovered == model.recovered(), "block {block}");
        model.apply(&Step::Promise, &mut storage).expect("nothing fails");
        model = model.after(&Step::Promise);
    }
}

#[test]
fn a_disk_too_full_for_a_segment_or_a_snapshot_stops_nothing() {
    let one = |slot| Step::Persist(slot..=slot, 18_000);
    // Three such writes fill the first segment. Up to the sync of the directory nothing of the fourth is written;
    // a snapshot is one file and three pieces.
    for (last, operations) in [(one(4), 6), (Step::Snapshot(3), 4)] {
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
fn a_crash_while_formatting_leaves_a_directory_that_is_whole_or_not_formatted() {
    for at in 0..20 {
        let disk = SimulatedDisk::new();
        disk.set_fault(Some(Fault::Crash { at }));
        let is_done = format(&disk).is_ok();
        for kept in kinds(at as u64) {
            let found = disk.after_crash(kept);
            let context = format!("crash at {at}, {kept:?} kept");
            match super::check_formatted(&found, "/simulated".as_ref()) {
                Ok(()) => check(&found, Ahead::Nobody, &(Model::default(), None), at as u64, &context),
                Err(error) => {
                    assert!(!is_done && matches!(error, Error::NotFormatted { .. }), "{context}: {error}");
                }
            }
        }
    }
}
