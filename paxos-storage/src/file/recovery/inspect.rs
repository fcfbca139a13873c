//! Reports what a directory holds, without changing it.
//!
//! [`inspect`] reads the directory with the code of recovery and reports what recovery would find, so that an
//! operator can look before a node starts. It works on damaged directories, even without META, and beside a
//! running node, whose newest write may look torn then.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use paxos_core::{Ballot, Entry, MemberRole, Membership, Slot};

use super::losses::account_for_losses;
use super::scan::{Scan, ScanEvent, Span};
use crate::codec::snapshot::SnapshotRecord;
use crate::file::disk::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::file::disk::{Access, Disk, SystemDisk};
use crate::file::failure::During;
use crate::file::format::{check_formatted, meta_damage};
use crate::file::layout::frame::{self, Link, SlotRange};
use crate::file::layout::meta::{self, Meta, ReadError};
use crate::file::layout::segment;
use crate::file::snapshot;
use crate::{Damage, Error, Identity};

/// The contents of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The identity of the storage; `None` if META can't be read.
    pub identity: Option<Identity>,
    /// The segments of the log, in order.
    pub segments: Vec<SegmentReport>,
    /// The files of old segments that are kept to be used again. Nothing in them belongs to the log.
    pub spares: Vec<SpareReport>,
    /// The snapshots in META, newest first.
    pub snapshots: Vec<SnapshotReport>,
    /// All memberships: that of the founding, those of whole snapshots, and those in the log behind the
    /// newest whole snapshot.
    pub memberships: Vec<MembershipReport>,
    /// The promise in the last whole write.
    pub promised: Ballot,
    /// The highest slot up to which all slots are known to be chosen.
    pub chosen: Slot,
    /// The lowest and highest slot with an entry in the log, if there is one.
    pub slots: Option<(Slot, Slot)>,
    /// The file and offset of a torn tail, if there is one: a write that was never acknowledged.
    pub torn_tail: Option<(PathBuf, u64)>,
    /// All damage.
    pub damage: Vec<Damage>,
    /// The last slot whose acceptance may be lost; zero if there is none.
    pub incomplete_through: Slot,
}

/// A segment of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its file.
    pub file: PathBuf,
    /// Its number.
    pub number: u64,
    /// Its size when it was made, in bytes.
    pub size_bytes: u64,
    /// Its frames that belong to the log, in order.
    pub frames: Vec<FrameReport>,
}

/// The file of an old segment that is kept to be used again.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SpareReport {
    /// The file.
    pub file: PathBuf,
    /// Its length, in bytes.
    pub size_bytes: u64,
}

/// A frame: a write, or a part of a long one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FrameReport {
    /// Its offset in the segment, in bytes.
    pub offset: u64,
    /// Its length with padding, in bytes.
    pub length_bytes: u64,
    /// Its sequence number in the log.
    pub sequence: u64,
    /// The number of its entries.
    pub records: u32,
    /// The lowest and highest slot of its entries.
    pub slots: Option<(Slot, Slot)>,
    /// The promise in its hard state.
    pub promised: Ballot,
    /// The chosen watermark in its hard state.
    pub chosen: Slot,
    /// Whether it is a mark, which proves that the frame before was acknowledged.
    pub is_mark: bool,
    /// Whether it is the last frame of its write.
    pub is_last_of_write: bool,
}

/// A finished snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// Its file.
    pub file: PathBuf,
    /// The last slot of which the state holds the effect.
    pub slot: Slot,
    /// The size of the state in META, in bytes.
    pub size_bytes: u64,
    /// The CRC32C of the state in META.
    pub checksum: u32,
    /// Whether the file exists and matches META.
    pub is_whole: bool,
}

/// A membership that a directory holds. [`Display`](fmt::Display) tells it in words, in one line.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MembershipReport {
    /// Where it stands.
    pub place: MembershipPlace,
    /// The membership.
    pub membership: Membership,
}

/// Where in a directory a membership stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MembershipPlace {
    /// It founded the cluster.
    Founding,
    /// It is in force behind the slot of a snapshot.
    Snapshot {
        /// The snapshot's slot.
        slot: Slot,
    },
    /// It is the value of a slot, known to be chosen.
    Chosen {
        /// The slot.
        slot: Slot,
    },
    /// It is the value of a slot, accepted and perhaps not chosen.
    Accepted {
        /// The slot.
        slot: Slot,
    },
}

impl fmt::Display for MembershipPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MembershipPlace::Founding => formatter.write_str("founding"),
            MembershipPlace::Snapshot { slot } => write!(formatter, "snapshot of slot {slot}"),
            MembershipPlace::Chosen { slot } => write!(formatter, "slot {slot}, chosen"),
            MembershipPlace::Accepted { slot } => write!(formatter, "slot {slot}, accepted"),
        }
    }
}

impl fmt::Display for MembershipReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let membership = &self.membership;
        write!(formatter, "{}: epoch {}", self.place, membership.epoch())?;
        for member in membership.details() {
            let role = match member.role {
                MemberRole::Learner => "learner",
                _ => "voter",
            };
            write!(formatter, ", {role} {}", member.id)?;
            if !member.address.is_empty() {
                write!(formatter, " at {}", member.address)?;
            }
        }
        let quorums = membership.quorums();
        write!(formatter, "; quorums of {} and {}", quorums.prepare(), quorums.accept())?;
        if let [first, rest @ ..] = membership.removed() {
            write!(formatter, "; removed: {first}")?;
            rest.iter().try_for_each(|node| write!(formatter, ", {node}"))?;
        }
        Ok(())
    }
}

impl Inspection {
    /// Whether the newest promise is known, so that a node can start on this directory.
    #[must_use]
    pub fn is_promise_intact(&self) -> bool {
        self.identity.is_some() && self.damage.iter().all(|damage| damage.is_promise_intact)
    }
}

impl SegmentReport {
    /// The lowest and highest slot in its frames.
    #[must_use]
    pub fn slots(&self) -> Option<(Slot, Slot)> {
        let ranges = || self.frames.iter().filter_map(|frame| frame.slots);
        Some((ranges().map(|(first, _)| first).min()?, ranges().map(|(_, last)| last).max()?))
    }

    /// The bytes of its frames.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| frame.length_bytes).sum()
    }
}

/// Reports what `directory` holds. Needs no permission to write, and changes nothing.
///
/// # Errors
///
/// [`Error::NotFormatted`], [`Error::UnknownVersion`], [`Error::UnknownLevel`], [`Error::Io`]. Damage is not
/// an error but part of the report.
pub fn inspect(directory: &Path) -> Result<Inspection, Error> {
    inspect_entries(directory).map(|(inspection, _)| inspection)
}

/// As [`inspect`]; returns also the entries of the log behind the newest whole snapshot.
///
/// # Errors
///
/// As [`inspect`].
pub fn inspect_entries(directory: &Path) -> Result<(Inspection, BTreeMap<Slot, Entry>), Error> {
    let disk = SystemDisk::read_only(directory.to_owned());
    match check_formatted(&disk, directory) {
        Ok(()) | Err(Error::Damaged(_)) => inspect_all(&disk),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(crate) fn inspect_on(disk: &dyn Disk) -> Result<Inspection, Error> {
    inspect_all(disk).map(|(inspection, _)| inspection)
}

fn inspect_all(disk: &dyn Disk) -> Result<(Inspection, BTreeMap<Slot, Entry>), Error> {
    let meta_path = disk.path(meta::NAME);
    let mut damage = Vec::new();
    let description = match Meta::read(disk) {
        Ok((meta, _)) => Some(meta.description()),
        Err(ReadError::UnknownVersion(version)) => {
            return Err(Error::UnknownVersion { file: meta_path, version });
        }
        Err(ReadError::UnknownGroup(group)) => return Err(Error::UnknownGroup { file: meta_path, group }),
        Err(ReadError::UnknownLevel(level)) => return Err(Error::UnknownLevel { file: meta_path, level }),
        Err(ReadError::Io(source)) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::Io { operation: "read", path: meta_path, source });
        }
        Err(ReadError::Io(_) | ReadError::Damaged) => {
            damage.push(meta_damage(disk));
            None
        }
    };
    let (mut snapshots, mut memberships) = (Vec::new(), Vec::new());
    let founding = description.as_ref().and_then(|description| description.registry.founding.clone());
    memberships.extend(founding.map(|founding| MembershipReport {
        place: MembershipPlace::Founding,
        membership: founding.membership,
    }));
    let mut lost_snapshot_slot = Slot::ZERO;
    for record in description.iter().flat_map(|description| &description.snapshots) {
        let SnapshotRecord { slot, size_bytes, checksum, .. } = *record;
        let (file, whole) = (disk.path(&snapshot::name(slot)), snapshot::check(disk, *record)?);
        if whole.is_none() && snapshots.is_empty() {
            damage.push(snapshot::damage(disk, *record));
            lost_snapshot_slot = slot;
        }
        snapshots.push(SnapshotReport { file, slot, size_bytes, checksum, is_whole: whole.is_some() });
        let place = MembershipPlace::Snapshot { slot };
        let membership = whole.and_then(|whole| whole.membership);
        memberships.extend(membership.map(|membership| MembershipReport { place, membership }));
    }
    let span = match &description {
        Some(description) => Span::of(description, lost_snapshot_slot),
        None => guessed_span(disk)?,
    };
    let identity = description.map(|description| description.identity);
    follow(
        disk,
        span,
        Inspection {
            identity,
            segments: Vec::new(),
            spares: spares(disk)?,
            snapshots,
            memberships,
            promised: Ballot::ZERO,
            chosen: Slot::ZERO,
            slots: None,
            torn_tail: None,
            damage,
            incomplete_through: Slot::ZERO,
        },
    )
}

fn spares(disk: &dyn Disk) -> Result<Vec<SpareReport>, Error> {
    let mut names = disk.list().during("list", &disk.path(""))?;
    names.retain(|name| segment::number_of_spare(name).is_some());
    names.sort();
    let mut spares = Vec::new();
    for name in names {
        let file = disk.path(&name);
        // A running node may have made a segment of it meanwhile.
        match disk.open(&name, Access::Cached).and_then(|spare| spare.size_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            size_bytes => {
                let size_bytes = size_bytes.during("read", &file)?;
                spares.push(SpareReport { file, size_bytes });
            }
        }
    }
    Ok(spares)
}

/// Scans the log, and adds what it finds to `inspection`.
fn follow(
    disk: &dyn Disk,
    span: Span,
    mut inspection: Inspection,
) -> Result<(Inspection, BTreeMap<Slot, Entry>), Error> {
    let (segments, damage) = (&mut inspection.segments, &mut inspection.damage);
    let mut observer = |sight: ScanEvent<'_>| match sight {
        ScanEvent::Segment { number, size_bytes } => {
            let file = disk.path(&segment::name(number));
            segments.push(SegmentReport { file, number, size_bytes: size_bytes as u64, frames: Vec::new() });
        }
        ScanEvent::Frame { offset, read } => {
            let segment = segments.last_mut().expect("a frame is seen in a segment that was seen before");
            segment.frames.push(report(offset, read));
        }
        ScanEvent::Damage(found) => damage.push(found.clone()),
    };
    let found = Scan::run(disk, span, &mut observer)?;
    let (number, offset) = found.end();
    let torn_tail = (disk.path(&segment::name(number)), offset as u64);
    let (has_tail, fatal) = (found.has_tail(), found.fatal_damage());
    let (mut entries, mut hard_state, lost) = (found.entries, found.hard_state, found.lost);
    let snapshot = inspection.snapshots.iter().find(|snapshot| snapshot.is_whole);
    let snapshot = snapshot.map_or(Slot::ZERO, |snapshot| snapshot.slot);
    inspection.incomplete_through =
        account_for_losses(&mut entries, &mut hard_state, snapshot, span.lost_snapshot_slot, &lost);
    inspection.torn_tail = (has_tail && fatal.is_none()).then_some(torn_tail);
    inspection.damage.extend(fatal);
    inspection.promised = hard_state.promised;
    inspection.chosen = hard_state.chosen.max(snapshot);
    let kept = entries.split_off(&snapshot.next());
    let in_log = kept.iter().filter_map(|(slot, entry)| in_log(*slot, entry, hard_state.chosen));
    inspection.memberships.extend(in_log);
    inspection.slots =
        kept.first_key_value().zip(kept.last_key_value()).map(|((first, _), (last, _))| (*first, *last));
    Ok((inspection, kept))
}

/// The membership in this slot of the log, if it holds one.
fn in_log(slot: Slot, entry: &Entry, chosen: Slot) -> Option<MembershipReport> {
    let membership = entry.value().as_membership()?;
    let is_chosen = slot <= chosen || matches!(entry, Entry::Chosen { .. });
    let place = if is_chosen { MembershipPlace::Chosen { slot } } else { MembershipPlace::Accepted { slot } };
    Some(MembershipReport { place, membership })
}

fn report(offset: usize, read: &frame::ReadHeader) -> FrameReport {
    FrameReport {
        offset: offset as u64,
        length_bytes: read.length_bytes as u64,
        sequence: read.header.link.sequence,
        records: read.record_count,
        slots: SlotRange::bounds(read.slots),
        promised: read.header.hard_state.promised,
        chosen: read.header.hard_state.chosen,
        is_mark: read.header.is_mark,
        is_last_of_write: read.header.is_last_of_write,
    }
}

/// Guesses the span if META can't be read: all segments, from the first whole frame on.
fn guessed_span(disk: &dyn Disk) -> Result<Span, Error> {
    let names = disk.list().during("list", &disk.path(""))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    let (first_segment, last_segment) =
        (numbers.first().copied().unwrap_or(1), numbers.last().copied().unwrap_or(0));
    let mut buffer = AlignedBuffer::default();
    let mut fingerprint = 0;
    let mut first_frame = Link { sequence: 1, chain: 0 };
    if let Some(name) = numbers.first().map(|number| segment::name(*number)) {
        let file = disk.open(&name, Access::Direct).during("open", &disk.path(&name))?;
        file.read_at(buffer.resize_zeroed(2 * BLOCK_BYTES), 0).during("read", &disk.path(&name))?;
        if let Some(header) = segment::decode_header(buffer.as_slice()) {
            fingerprint = header.fingerprint;
        }
        if let Some(read) = frame::decode_header(&buffer.as_slice()[BLOCK_BYTES..]) {
            fingerprint = read.header.fingerprint;
            first_frame = read.header.link;
        }
    }
    Ok(Span { fingerprint, first_segment, last_segment, first_frame, lost_snapshot_slot: Slot::ZERO })
}
