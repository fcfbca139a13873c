//! Crashes and failures at every single operation: recovery finds everything that was acknowledged, and
//! nothing that was not submitted.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::{
    Ballot, Entry, Epoch, HardState, Member, Membership, NodeId, Recovered, Slot, SnapshotMeta, Value, Write,
    WriteNumber,
};

use crate::file::append::log::Sizes;
use crate::file::disk::buffer::BLOCK_BYTES;
use crate::file::disk::simulated::{Fault, Kept, SimulatedDisk};
use crate::file::disk::{Access, Disk};
use crate::file::format::{FIRST_SEGMENT_BYTES, check_formatted, format_on};
use crate::file::layout::frame;
use crate::file::layout::segment::{self, MIN_SEGMENT_BYTES};
use crate::file::storage::{FileStorage, PrepareMode};
use crate::{Error, ErrorKind, Founding, FoundingId, Identity, Registry, Storage, StorageId};

/// How many random parts of the unsynced data are tried for each crash.
const SEEDS: u64 = 3;
/// Both ways to make segments: when they are needed, and ahead of time.
const PREPARE_MODES: [PrepareMode; 2] = [PrepareMode::OnDemand, PrepareMode::Inline];

/// The slot of a snapshot that has no membership, and gets the founding one.
const OLDER_SNAPSHOT: Slot = Slot(2);

/// The expected contents of a storage.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Model {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) entries: BTreeMap<Slot, Entry>,
    pub(crate) registry: Registry,
}

/// One call to a storage.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A write of a promise alone.
    Promise,
    /// A write of entries with this many bytes in each of these slots.
    Persist(RangeInclusive<u64>, usize),
    Mark,
    Snapshot(u64),
    Compact(u64),
    /// A write of a membership in this slot.
    Membership(u64),
    /// The cluster is founded by the membership of this epoch.
    Found(u64),
}

impl Model {
    pub(crate) fn after(&self, step: &Step) -> Model {
        let mut next = self.clone();
        match step {
            Step::Promise => next.hard_state.promised.round += 1,
            Step::Persist(slots, length) => {
                let fill = (self.hard_state.promised.round + 1).to_le_bytes()[0];
                next.accept(slots, &Value::batch(&[Bytes::from(vec![fill; *length])]));
            }
            Step::Membership(slot) => {
                next.accept(&(*slot..=*slot), &Value::membership(&membership_of(*slot)));
            }
            Step::Found(epoch) => {
                let id = Some(FoundingId(u128::from(*epoch)));
                next.registry.founding = Some(Founding { id, membership: membership_of(*epoch) });
                if let Some(meta) = next.snapshot.as_mut().filter(|meta| meta.slot == OLDER_SNAPSHOT) {
                    meta.membership = membership_of(*epoch);
                }
            }
            Step::Snapshot(slot) => next.snapshot = Some(snapshot_of(*slot).0),
            Step::Mark | Step::Compact(_) => {}
        }
        next
    }

    /// Accepts `value` in these slots, under the next ballot.
    fn accept(&mut self, slots: &RangeInclusive<u64>, value: &Value) {
        let chosen = Slot(*slots.start()).previous().max(self.hard_state.chosen);
        let ballot = Ballot { round: self.hard_state.promised.round + 1, node: NodeId(1) };
        self.hard_state = HardState { promised: ballot, chosen };
        let entry = |slot| (Slot(slot), Entry::Accepted { ballot, value: value.clone() });
        self.entries.extend(slots.clone().map(entry));
    }

    pub(crate) fn apply(&self, step: &Step, storage: &mut FileStorage) -> Result<(), Error> {
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
            Step::Mark => storage.prove_last_write(),
            Step::Snapshot(slot) => {
                let (meta, bytes) = snapshot_of(*slot);
                for (index, piece) in bytes.chunks(3000).enumerate() {
                    storage.write_snapshot(meta.slot, 3000 * index as u64, piece)?;
                }
                storage.finish_snapshot(meta)
            }
            Step::Compact(slot) => storage.compact(Slot(*slot)),
            Step::Membership(slot) => {
                let entry = self.after(step).entries[&Slot(*slot)].clone();
                persist(storage, vec![(Slot(*slot), entry)])
            }
            Step::Found(_) => storage.remember(&self.after(step).registry),
        }
    }

    fn recovered(&self) -> Recovered {
        let after = self.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot).next();
        let entries = self.entries.range(after..).map(|(slot, entry)| (*slot, entry.clone()));
        let (hard_state, snapshot, entries) = (self.hard_state, self.snapshot.clone(), entries.collect());
        Recovered { hard_state, snapshot, entries, incomplete_through: Slot::ZERO }
    }
}

/// A membership that is longer than a block in every third epoch.
fn membership_of(epoch: u64) -> Membership {
    let members = if epoch.is_multiple_of(3) { 40 } else { 3 };
    let voter = |id| Member::voter(NodeId(id), format!("{id:0>200}"));
    Membership::of((1..=members).map(voter).collect()).expect("these members fit").in_epoch(Epoch(epoch))
}

pub(crate) fn snapshot_of(slot: u64) -> (SnapshotMeta, Vec<u8>) {
    let bytes = vec![u8::try_from(slot % 256).unwrap_or(0); 7000];
    let (size_bytes, checksum) = (bytes.len() as u64, crc32c::crc32c(&bytes));
    (SnapshotMeta { slot: Slot(slot), size_bytes, checksum, membership: membership_of(slot) }, bytes)
}

/// Writes of all sizes, over several segments; snapshots made here and one from a peer that is far ahead.
fn a_life() -> Vec<Step> {
    let one = |slot| Step::Persist(slot..=slot, 18_000);
    let mut steps = vec![Step::Promise, Step::Persist(1..=1, 10), Step::Mark, Step::Persist(1..=3, 300)];
    steps.extend((2..14).map(one));
    steps.extend((4..12).flat_map(|slot| [Step::Snapshot(slot), Step::Compact(slot)]));
    steps.extend([Step::Found(2), Step::Mark, Step::Persist(12..=15, 5000), Step::Promise, Step::Found(3)]);
    steps.extend([Step::Membership(15), Step::Found(4)]);
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

pub(crate) fn formatted() -> SimulatedDisk {
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

pub(crate) fn open(disk: &SimulatedDisk) -> Result<(FileStorage, Recovered), Error> {
    open_with(disk, PrepareMode::OnDemand)
}

pub(crate) fn open_with(
    disk: &SimulatedDisk,
    prepare_mode: PrepareMode,
) -> Result<(FileStorage, Recovered), Error> {
    check_formatted(disk, "/simulated".as_ref())?;
    let sizes = Sizes { segment_bytes: MIN_SEGMENT_BYTES, payload_bytes: 20_000 };
    let mut storage = FileStorage::open_on(Arc::new(disk.clone()), sizes)?;
    storage.prepare_mode = prepare_mode;
    let recovered = storage.recover()?;
    Ok((storage, recovered))
}

/// Runs the steps until one fails. Returns the contents that are allowed then: those before and after the
/// last step.
fn live(storage: &mut FileStorage, steps: &[Step]) -> (Model, Option<Model>) {
    live_on(storage, Model::default(), steps)
}

fn live_on(storage: &mut FileStorage, mut model: Model, steps: &[Step]) -> (Model, Option<Model>) {
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
    let step = Step::Persist(503..=510, 9000);
    model.apply(&step, &mut storage).unwrap_or_else(|error| panic!("{context}: {error}"));
    let (_, recovered) =
        open(&found.after_crash(Kept::Nothing)).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(recovered == model.after(&step).recovered(), "{context}: the log does not go on");
}

/// A directory and its expected contents.
type Start = (SimulatedDisk, Model);

fn new() -> Start {
    (formatted(), Model::default())
}

/// A directory as the version of the format wrote it that knew no memberships.
fn older() -> Start {
    let disk = SimulatedDisk::new();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/version-2");
    for file in std::fs::read_dir(golden).expect("the directory is there") {
        let file = file.expect("the directory is readable");
        let name = file.file_name().to_string_lossy().into_owned();
        let mut content = std::fs::read(file.path()).expect("the file is readable");
        if segment::number_of(&name).is_some() {
            content.resize(FIRST_SEGMENT_BYTES, 0);
        }
        let created = disk.create(&name, Access::Cached).expect("nothing fails");
        created.write_at(&content, 0).and_then(|()| created.sync()).expect("nothing fails");
    }
    disk.sync_directory().expect("nothing fails");
    let (storage, recovered) = open(&disk.copy()).expect("nothing is damaged");
    let Recovered { hard_state, snapshot, entries, .. } = recovered;
    let model =
        Model { hard_state, snapshot, entries: entries.into_iter().collect(), registry: storage.registry() };
    (disk, model)
}

fn crash_everywhere(steps: &[Step], prepare_mode: PrepareMode) {
    crash_everywhere_from(&new(), steps, prepare_mode);
}

fn crash_everywhere_from((start, model): &Start, steps: &[Step], prepare_mode: PrepareMode) {
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
    assert_eq!(versions(&disk), [vec![1; 5], vec![2; 2]]);
}

#[test]
fn a_crash_within_a_large_write_keeps_all_of_it_or_nothing() {
    for prepare_mode in PREPARE_MODES {
        crash_everywhere(&large_writes(), prepare_mode);
    }
}

fn fail_everywhere(steps: &[Step], prepare_mode: PrepareMode, kind: io::ErrorKind) {
    for at in 0.. {
        let disk = formatted();
        disk.set_fault(Some(Fault::Fail { at, kind }));
        let allowed = match open_with(&disk, prepare_mode) {
            Ok((mut storage, _)) => live(&mut storage, steps),
            Err(_) => (Model::default(), None),
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
