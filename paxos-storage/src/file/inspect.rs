//! Looking at a directory without changing anything in it.
//!
//! [`inspect`] reads what recovery would read, by the same code, and tells what recovery would find: for whoever wants to
//! know what a disk still holds before a node is started on it. It works on damaged directories, without META
//! too, and beside a running node, whose newest write may then look torn.

use std::path::{Path, PathBuf};

use paxos_core::{Ballot, Slot, SnapshotMeta};

use super::disk::{Access, Disk, SystemDisk};
use super::frame::{self, Link, SlotRange};
use super::meta::{Meta, ReadError};
use super::recovery::settle;
use super::scan::{Scan, Sight, Span};
use super::{
    BLOCK_BYTES, During, buffer::AlignedBuffer, check_formatted, meta, meta_damage, segment, snapshot,
};
use crate::{Damage, Error, Identity};

/// What is in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// Whose it is; `None` if META can't be read.
    pub identity: Option<Identity>,
    /// The segments that hold the log, in order.
    pub segments: Vec<SegmentReport>,
    /// The snapshots that META tells of, newest first.
    pub snapshots: Vec<SnapshotReport>,
    /// The promise in the last whole write.
    pub promised: Ballot,
    /// Every slot up to here is chosen, as far as the disk can tell.
    pub chosen: Slot,
    /// The lowest and highest slot that is recovered from the log, if any is.
    pub slots: Option<(Slot, Slot)>,
    /// Where the log ends in a write that was never acknowledged, if it does.
    pub torn_tail: Option<(PathBuf, u64)>,
    /// All that is damaged.
    pub damage: Vec<Damage>,
    /// The last slot of which an acceptance may be lost; zero if none is.
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
    /// How large it was made.
    pub size_bytes: u64,
    /// The frames in it that are part of the log, in order.
    pub frames: Vec<FrameReport>,
}

/// A frame: what one sync put into the log, or a part of that.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FrameReport {
    /// Where it begins in its segment.
    pub offset: u64,
    /// How long it is, padding included.
    pub length_bytes: u64,
    /// Its number in the log.
    pub sequence: u64,
    /// How many entries it holds.
    pub records: u32,
    /// The lowest and highest slot among them.
    pub slots: Option<(Slot, Slot)>,
    /// The promise at that time.
    pub promised: Ballot,
    /// The watermark at that time.
    pub chosen: Slot,
    /// Whether it is a mark, which proves the frame before.
    pub is_mark: bool,
    /// Whether the write of which it is a part ends with it.
    pub is_last_of_write: bool,
}

/// A finished snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// Its file.
    pub file: PathBuf,
    /// What META tells of it.
    pub meta: SnapshotMeta,
    /// Whether the file is there, and what META tells.
    pub is_whole: bool,
}

impl Inspection {
    /// Whether a node can be started on this directory: the promise is known.
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

    /// How many bytes its frames take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| frame.length_bytes).sum()
    }
}

/// Tells what is in `directory`. Changes nothing, and needs no permission to.
///
/// # Errors
///
/// [`Error::NotFormatted`], [`Error::UnknownVersion`], [`Error::Io`]. Damage is no error here.
pub fn inspect(directory: &Path) -> Result<Inspection, Error> {
    let disk = SystemDisk::read_only(directory.to_owned());
    match check_formatted(&disk, directory) {
        Ok(()) | Err(Error::Damaged(_)) => inspect_on(&disk),
        Err(error) => Err(error),
    }
}

pub(super) fn inspect_on(disk: &dyn Disk) -> Result<Inspection, Error> {
    let meta_path = disk.path(meta::NAME);
    let mut damage = Vec::new();
    let description = match Meta::read(disk) {
        Ok((meta, _)) => Some(meta.description()),
        Err(ReadError::UnknownVersion(version)) => {
            return Err(Error::UnknownVersion { file: meta_path, version });
        }
        Err(ReadError::Io(source)) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::Io { operation: "read", path: meta_path, source });
        }
        Err(ReadError::Io(_) | ReadError::Damaged) => {
            damage.push(meta_damage(disk));
            None
        }
    };
    let mut snapshots = Vec::new();
    for meta in description.iter().flat_map(|description| &description.snapshots) {
        let (file, is_whole) = (disk.path(&snapshot::name(meta.slot)), snapshot::is_whole(disk, *meta)?);
        snapshots.push(SnapshotReport { file, meta: *meta, is_whole });
    }
    let newest = snapshots.first().filter(|newest| !newest.is_whole);
    let distrusted_through = newest.map_or(Slot::ZERO, |newest| newest.meta.slot);
    if let Some(lost) = newest {
        damage.push(snapshot::damage(disk, lost.meta));
    }
    let span = match &description {
        Some(description) => description.span(distrusted_through),
        None => guessed_span(disk)?,
    };
    let identity = description.map(|description| description.identity);
    follow(
        disk,
        span,
        Inspection {
            identity,
            segments: Vec::new(),
            snapshots,
            promised: Ballot::ZERO,
            chosen: Slot::ZERO,
            slots: None,
            torn_tail: None,
            damage,
            incomplete_through: Slot::ZERO,
        },
    )
}

/// Follows the log, and adds what it comes by to `inspection`.
fn follow(disk: &dyn Disk, span: Span, mut inspection: Inspection) -> Result<Inspection, Error> {
    let (segments, damage) = (&mut inspection.segments, &mut inspection.damage);
    let mut witness = |sight: Sight<'_>| match sight {
        Sight::Segment { number, size_bytes } => {
            let file = disk.path(&segment::name(number));
            segments.push(SegmentReport { file, number, size_bytes: size_bytes as u64, frames: Vec::new() });
        }
        Sight::Frame { offset, read } => {
            let segment = segments.last_mut().expect("a frame is seen in a segment that was seen before");
            segment.frames.push(report(offset, read));
        }
        Sight::Damage(found) => damage.push(found.clone()),
    };
    let found = Scan::run(disk, span, &mut witness)?;
    let (number, offset) = found.end();
    let torn_tail = (disk.path(&segment::name(number)), offset as u64);
    let (has_tail, fatal) = (found.has_tail(), found.fatal_damage());
    let (mut entries, mut hard_state, lost) = (found.entries, found.hard_state, found.lost);
    let snapshot = inspection.snapshots.iter().find(|snapshot| snapshot.is_whole);
    let snapshot = snapshot.map_or(Slot::ZERO, |snapshot| snapshot.meta.slot);
    inspection.incomplete_through =
        settle(&mut entries, &mut hard_state, snapshot, span.distrusted_through, &lost);
    inspection.torn_tail = (has_tail && fatal.is_none()).then_some(torn_tail);
    inspection.damage.extend(fatal);
    inspection.promised = hard_state.promised;
    inspection.chosen = hard_state.chosen.max(snapshot);
    let kept = entries.split_off(&snapshot.next());
    inspection.slots =
        kept.first_key_value().zip(kept.last_key_value()).map(|((first, _), (last, _))| (*first, *last));
    Ok(inspection)
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

/// Without META: all segments there are, from the first whole frame on.
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
    Ok(Span { fingerprint, first_segment, last_segment, first_frame, distrusted_through: Slot::ZERO })
}
