//! What a storage must hold after any calls to it: the model that the other tests compare it with.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::{
    Ballot, Entry, Epoch, HardState, Member, Membership, NodeId, Recovered, Slot, SnapshotMeta, Value, Write,
    WriteNumber,
};

use crate::file::append::log::Sizes;
use crate::file::append::spares::MAX_SPARES;
use crate::file::disk::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::file::disk::simulated::SimulatedDisk;
use crate::file::disk::{Access, Disk};
use crate::file::format::{FIRST_SEGMENT_BYTES, check_formatted, format_on};
use crate::file::layout::frame::{self, Header, Link, SlotRange};
use crate::file::layout::segment::{self, MIN_SEGMENT_BYTES};
use crate::file::storage::{FileStorage, PrepareMode};
use crate::{Error, ErrorKind, Founding, FoundingId, Identity, Registry, Storage, StorageId};

/// Both ways to make segments: when they are needed, and ahead of time.
pub(crate) const PREPARE_MODES: [PrepareMode; 2] = [PrepareMode::OnDemand, PrepareMode::Inline];

/// The slot of a snapshot that has no membership, and gets the founding one.
const OLDER_SNAPSHOT: Slot = Slot(2);

/// The segments whose frames [`Step::Forge`] forges: those that a log of [`used`] begins next.
const FORGED_SEGMENTS: RangeInclusive<u64> = 4..=12;
/// The last slot in a directory of [`used`].
const USED_SLOTS: u64 = 11;

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
    /// A write of one entry in this slot, with a value that holds whole frames of later segments, each where
    /// a block begins.
    Forge(u64),
}

impl Step {
    /// The same for slots that are higher by this much.
    fn shifted(self, by: u64) -> Step {
        match self {
            Step::Persist(slots, length) => Step::Persist(slots.start() + by..=slots.end() + by, length),
            Step::Snapshot(slot) => Step::Snapshot(slot + by),
            Step::Compact(slot) => Step::Compact(slot + by),
            Step::Membership(slot) => Step::Membership(slot + by),
            Step::Forge(slot) => Step::Forge(slot + by),
            Step::Promise | Step::Mark | Step::Found(_) => self,
        }
    }
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
            Step::Forge(slot) => next.accept(&(*slot..=*slot), &forged_frames()),
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
            Step::Membership(slot) | Step::Forge(slot) => {
                let entry = self.after(step).entries[&Slot(*slot)].clone();
                persist(storage, vec![(Slot(*slot), entry)])
            }
            Step::Found(_) => storage.remember(&self.after(step).registry),
        }
    }

    pub(crate) fn recovered(&self) -> Recovered {
        let after = self.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot).next();
        let entries = self.entries.range(after..).map(|(slot, entry)| (*slot, entry.clone()));
        Recovered::new(self.hard_state, self.snapshot.clone(), entries.collect())
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
pub(crate) fn a_life() -> Vec<Step> {
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
pub(crate) fn large_writes() -> Vec<Step> {
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

fn own_identity() -> Identity {
    Identity::existing(String::from("simulated"), NodeId(1), StorageId(7))
}

pub(crate) fn format(disk: &SimulatedDisk) -> Result<(), Error> {
    format_on(disk, &own_identity(), MIN_SEGMENT_BYTES)
}

/// In a frame with one value of one command: the headers of frame and record, and the command's length.
const BEFORE_COMMAND: usize = 128 + 40 + 4;

/// A value that holds a frame of each of the next segments, which would prove that earlier ones are missing.
fn forged_frames() -> Value {
    let mut command = Vec::new();
    let mut buffer = AlignedBuffer::default();
    for (block, segment) in (1..).zip(FORGED_SEGMENTS) {
        let header = Header {
            link: Link { sequence: 1_000_000, chain: 1 },
            segment,
            first_of_write: 1_000_000,
            is_last_of_write: true,
            is_mark: false,
            fingerprint: own_identity().fingerprint(),
            hard_state: HardState::default(),
            previous_slots: SlotRange::NONE,
            earlier_highest_slot: Slot::ZERO,
        };
        frame::encode(&mut buffer, &header, &[]);
        command.resize(block * BLOCK_BYTES - BEFORE_COMMAND, 7);
        command.extend(buffer.as_slice());
    }
    Value::batch(&[Bytes::from(command)])
}

pub(crate) fn open(disk: &SimulatedDisk) -> Result<(FileStorage, Recovered), Error> {
    open_with(disk, PrepareMode::OnDemand)
}

pub(crate) fn open_with(
    disk: &SimulatedDisk,
    prepare_mode: PrepareMode,
) -> Result<(FileStorage, Recovered), Error> {
    open_sized(disk, prepare_mode, MIN_SEGMENT_BYTES)
}

pub(crate) fn open_sized(
    disk: &SimulatedDisk,
    prepare_mode: PrepareMode,
    segment_bytes: usize,
) -> Result<(FileStorage, Recovered), Error> {
    let mut storage = open_unread(disk, prepare_mode, segment_bytes)?;
    let recovered = storage.recover()?;
    Ok((storage, recovered))
}

/// Opens a storage without recovering it.
pub(crate) fn open_unread(
    disk: &SimulatedDisk,
    prepare_mode: PrepareMode,
    segment_bytes: usize,
) -> Result<FileStorage, Error> {
    check_formatted(disk, "/simulated".as_ref())?;
    let sizes = Sizes { segment_bytes, payload_bytes: 20_000, spares: MAX_SPARES };
    let mut storage = FileStorage::open_on(Arc::new(disk.clone()), sizes)?;
    storage.prepare_mode = prepare_mode;
    Ok(storage)
}

/// The names of the segments or spares on a disk, in order.
pub(crate) fn names_of(disk: &SimulatedDisk, number_of: fn(&str) -> Option<u64>) -> Vec<String> {
    let mut names = disk.list().expect("a simulated disk can be listed");
    names.retain(|name| number_of(name).is_some());
    names.sort();
    names
}

/// Where the frames of a segment end in its file.
pub(crate) fn end_of_frames(disk: &SimulatedDisk, name: &str) -> usize {
    let content = disk.content(name);
    let own = |at: &usize| {
        let read = frame::decode_header(&content[*at..])?;
        (Some(read.header.segment) == segment::number_of(name)).then_some(at + read.length_bytes)
    };
    let ends = (BLOCK_BYTES..content.len()).step_by(BLOCK_BYTES);
    ends.filter_map(|at| own(&at)).max().unwrap_or(BLOCK_BYTES)
}

/// Runs the steps until one fails. Returns the contents that are allowed then: those before and after the
/// last step.
pub(crate) fn live(storage: &mut FileStorage, steps: &[Step]) -> (Model, Option<Model>) {
    live_on(storage, Model::default(), steps)
}

pub(crate) fn live_on(storage: &mut FileStorage, mut model: Model, steps: &[Step]) -> (Model, Option<Model>) {
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

/// A directory and its expected contents.
pub(crate) type Start = (SimulatedDisk, Model);

pub(crate) fn new() -> Start {
    (formatted(), Model::default())
}

/// A directory that was in use for some time: its present segment and a spare hold what is left of frames of
/// all sizes.
pub(crate) fn used() -> Start {
    let disk = formatted();
    let (mut storage, _) = open(&disk).expect("nothing fails");
    let writes = (1..4).flat_map(|slot| [Step::Persist(slot..=slot, 10), Step::Promise, Step::Mark]);
    let mut steps: Vec<Step> = writes.collect();
    steps.extend([Step::Persist(4..=5, 12_000), Step::Forge(6), Step::Forge(7), Step::Persist(8..=8, 10)]);
    steps.extend([Step::Snapshot(8), Step::Compact(8), Step::Persist(9..=9, 18_000)]);
    steps.extend([Step::Forge(10), Step::Persist(11..=11, 9_000)]);
    steps.extend([Step::Snapshot(11), Step::Compact(11)]);
    let (model, failed) = live_on(&mut storage, Model::default(), &steps);
    assert_eq!(failed, None);
    drop(storage);
    let disk = disk.copy();
    let segments = names_of(&disk, segment::number_of);
    let [present] = &segments[..] else { panic!("one segment is left: {segments:?}") };
    assert!(!names_of(&disk, segment::number_of_spare).is_empty(), "there are spares");
    let is_left = disk.content(present)[end_of_frames(&disk, present)..].iter().any(|byte| *byte != 0);
    assert!(is_left, "{present} was another segment before");
    (disk, model)
}

/// A new directory and one that was in use, and these steps as they are possible on each.
pub(crate) fn new_and_used(steps: &[Step]) -> [(Start, Vec<Step>); 2] {
    let shifted = steps.iter().map(|step| step.clone().shifted(USED_SLOTS)).collect();
    [(new(), steps.to_vec()), (used(), shifted)]
}

/// A directory as the version of the format wrote it that knew no memberships.
pub(crate) fn older() -> Start {
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
