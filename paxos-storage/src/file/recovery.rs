//! Reading the log back, and telling a torn tail from damage.
//!
//! Frames are followed from the first one on, each by its sequence number and by the checksum of the one before.
//! Where the next is not found, either the log ends there or something acknowledged is gone:
//!
//! - if any header that comes later belongs to a write *after* the missing frame's, that frame's write had been
//!   acknowledged: **damage**, and nothing is changed;
//! - otherwise the missing frame is the end of a write that was never acknowledged: a **torn tail**. It is cut,
//!   with all other frames of that write, and what was there is made zero before anything is written again, so
//!   that no stale frame can ever look like a later one.
//!
//! The last acknowledged frame has nothing behind it and could be taken for a torn one if it rots. A mark behind
//! it makes that impossible.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use paxos_core::{Entry, HardState, Slot};

use super::During;
use super::buffer::{AlignedBuffer, BLOCK_BYTES};
use super::disk::{Access, Disk};
use super::frame::{self, Link, ReadHeader, SlotRange, VERSION};
use super::log::{Extent, Tail};
use super::meta::{self, Description, Meta};
use super::segment::{self, FIRST_FRAME_AT, Segment};
use crate::{Damage, DamageCause, Error};

/// What the log holds, and where it goes on.
#[derive(Debug)]
pub(super) struct RecoveredLog {
    pub(super) entries: BTreeMap<Slot, Entry>,
    pub(super) tail: Tail,
}

/// Reads the log that `meta` describes, and makes its end ready for writes.
pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    meta: &mut Meta,
    fingerprint: u64,
) -> Result<RecoveredLog, Error> {
    let description = meta.description().clone();
    disk.sync_directory().during("sync", &disk.path(""))?;
    let names = disk.list().during("list", &disk.path(""))?;
    let mut scan = Scan::new(disk.as_ref(), &description, fingerprint);
    for number in description.first_segment..=description.last_segment {
        if !names.contains(&segment::name(number)) {
            return Err(scan.missing(number));
        }
        scan.read_segment(number)?;
    }
    scan.finish(meta, &names)
}

/// A place in the log between two frames, and what held there.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment_index: usize,
    offset: usize,
    next: Link,
    last_slots: SlotRange,
    is_marked: bool,
}

/// A write of which the last frame has not been seen yet.
#[derive(Debug)]
struct OpenWrite {
    first: u64,
    entries: Vec<(Slot, Entry)>,
}

/// Where the next frame was not found.
#[derive(Debug)]
struct Gap {
    path: PathBuf,
    offset: usize,
    /// Slots in the frame, if its header can be read.
    slots: Option<(Slot, Slot)>,
}

#[derive(Debug)]
struct Scan<'a> {
    disk: &'a dyn Disk,
    description: &'a Description,
    fingerprint: u64,
    buffer: AlignedBuffer,
    segments: Vec<(Segment, Extent)>,
    entries: BTreeMap<Slot, Entry>,
    hard_state: HardState,
    /// Behind the last frame that was followed.
    place: Place,
    /// Behind the last whole write.
    whole: Place,
    open_write: Option<OpenWrite>,
    gap: Option<Gap>,
    /// Whether bytes that are no zeros, or no bytes at all, were found behind the last frame.
    is_dirty: bool,
}

impl<'a> Scan<'a> {
    fn new(disk: &'a dyn Disk, description: &'a Description, fingerprint: u64) -> Scan<'a> {
        let place = Place {
            segment_index: 0,
            offset: FIRST_FRAME_AT,
            next: description.first_frame,
            last_slots: SlotRange::NONE,
            is_marked: true,
        };
        Scan {
            disk,
            description,
            fingerprint,
            buffer: AlignedBuffer::default(),
            segments: Vec::new(),
            entries: BTreeMap::new(),
            hard_state: HardState::default(),
            place,
            whole: place,
            open_write: None,
            gap: None,
            is_dirty: false,
        }
    }

    fn read_segment(&mut self, number: u64) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let is_whole_file = self.load(number, &mut buffer)?;
        self.follow(number, buffer.as_slice())?;
        self.is_dirty |= !is_whole_file;
        self.buffer = buffer;
        Ok(())
    }

    /// Opens the segment and reads all of it; `false` if the file is shorter than it was made, which reads as zeros.
    fn load(&mut self, number: u64, buffer: &mut AlignedBuffer) -> Result<bool, Error> {
        let name = segment::name(number);
        let path = self.disk.path(&name);
        let file = self.disk.open(&name, Access::Direct).during("open", &path)?;
        // What an earlier process wrote may be in the page cache alone.
        file.sync().during("sync", &path)?;
        file.read_at(buffer.resize_zeroed(BLOCK_BYTES), 0).during("read", &path)?;
        let Some(header) = segment::decode_header(buffer.as_slice()) else {
            return Err(damage(path, 0, DamageCause::SegmentHeader, None, false));
        };
        if header.version != VERSION {
            return Err(Error::UnknownVersion { file: path, version: header.version });
        }
        if header.fingerprint != self.fingerprint || header.number != number {
            return Err(damage(path, 0, DamageCause::ForeignSegment, None, false));
        }
        let size_bytes = header.size_bytes;
        file.read_at(buffer.resize_zeroed(size_bytes), 0).during("read", &path)?;
        let is_whole_file = file.size_bytes().during("read", &path)? >= size_bytes as u64;
        let extent = Extent { number, first_frame: self.place.next, highest_slot: Slot::ZERO };
        self.segments.push((Segment { number, size_bytes, file }, extent));
        Ok(is_whole_file)
    }

    /// Follows the frames of the segment that was loaded last; looks for proof of damage where there is none.
    fn follow(&mut self, number: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut offset = FIRST_FRAME_AT;
        // The log goes on here even if the segment before was not full: this frame did not fit there.
        while let Some((read, entries)) = self.next_frame(number, &bytes[offset..]) {
            self.gap = None;
            self.is_dirty = false;
            self.take_frame(&read, entries, offset, number)?;
            offset += read.length_bytes;
        }
        let rest = &bytes[offset..];
        if self.gap.is_none() && !rest.is_empty() {
            let path = self.disk.path(&segment::name(number));
            let header = self.header_at(number, rest).filter(|read| read.header.link == self.place.next);
            self.gap = Some(Gap { path, offset, slots: header.and_then(|read| read.slots.bounds()) });
            self.refuse_misplaced(number, rest, offset)?;
        }
        self.is_dirty |= rest.iter().any(|byte| *byte != 0);
        self.refuse_if_proven(number, rest)
    }

    /// The frame at the beginning of `bytes`, if it is whole and the next one.
    fn next_frame(&self, number: u64, bytes: &[u8]) -> Option<(ReadHeader, Vec<(Slot, Entry)>)> {
        let read = self.header_at(number, bytes)?;
        let is_next = read.header.link == self.place.next;
        let entries = if is_next { frame::decode_entries(&read, bytes) } else { None };
        Some((read, entries?))
    }

    fn header_at(&self, number: u64, bytes: &[u8]) -> Option<ReadHeader> {
        let read = frame::decode_header(bytes)?;
        let is_own = read.header.fingerprint == self.fingerprint && read.header.segment == number;
        is_own.then_some(read)
    }

    fn take_frame(
        &mut self,
        read: &ReadHeader,
        entries: Vec<(Slot, Entry)>,
        offset: usize,
        number: u64,
    ) -> Result<(), Error> {
        let header = &read.header;
        let is_first_here = header.link == self.description.first_frame;
        // A log whose first segments were freed may begin in the middle of a write.
        let goes_on = self.open_write.as_ref().map_or(header.link.sequence, |open| open.first);
        if header.first_of_write != goes_on && !is_first_here {
            let path = self.disk.path(&segment::name(number));
            return Err(damage(path, offset, DamageCause::Frame, read.slots.bounds(), true));
        }
        let open_write = OpenWrite { first: header.first_of_write, entries: Vec::new() };
        let open_write = self.open_write.get_or_insert(open_write);
        open_write.entries.extend(entries);
        let segment_index = self.segments.len() - 1;
        let extent = &mut self.segments[segment_index].1;
        extent.highest_slot = extent.highest_slot.max(read.slots.last());
        self.place = Place {
            segment_index,
            offset: offset + read.length_bytes,
            next: Link { sequence: header.link.sequence + 1, chain: read.checksum },
            last_slots: read.slots,
            is_marked: header.is_mark,
        };
        if header.is_last_of_write {
            let finished = self.open_write.take().map(|open| open.entries);
            self.entries.extend(finished.into_iter().flatten());
            self.hard_state = header.hard_state;
            self.whole = self.place;
        }
        Ok(())
    }

    /// A whole frame that stands where the next one should and belongs before it was put there by the disk: what
    /// a crash leaves behind is the next frame, torn, or zeros.
    fn refuse_misplaced(&self, number: u64, rest: &[u8], offset: usize) -> Result<(), Error> {
        let stray = frame::decode_header(rest).filter(|read| read.header.fingerprint == self.fingerprint);
        let next = self.place.next.sequence;
        if stray.is_some_and(|read| read.header.link.sequence < next || read.header.segment != number) {
            let path = self.disk.path(&segment::name(number));
            return Err(damage(path, offset, DamageCause::MisplacedFrame, None, false));
        }
        Ok(())
    }

    /// Looks for a frame of a later write than the missing frame's.
    fn refuse_if_proven(&self, number: u64, rest: &[u8]) -> Result<(), Error> {
        let Some(gap) = &self.gap else { return Ok(()) };
        let missing = self.place.next.sequence;
        let headers = rest.chunks(BLOCK_BYTES).filter_map(|block| self.header_at(number, block));
        let Some(proof) = headers.into_iter().find(|read| read.header.first_of_write > missing) else {
            return Ok(());
        };
        let only_one = proof.header.link.sequence == missing + 1;
        let told = if only_one { proof.header.previous_slots.bounds() } else { None };
        Err(damage(gap.path.clone(), gap.offset, DamageCause::Frame, gap.slots.or(told), true))
    }

    fn missing(&self, number: u64) -> Error {
        let path = self.disk.path(&segment::name(number));
        damage(path, 0, DamageCause::MissingSegment, None, number != self.description.last_segment)
    }

    /// Cuts the log behind the last whole write, and removes what is no part of it.
    fn finish(mut self, meta: &mut Meta, names: &[String]) -> Result<RecoveredLog, Error> {
        let end = self.whole;
        let first = self.description.first_frame;
        if end.next == first && first.sequence > 1 {
            // Segments are freed only while a later one has the hard state.
            let path = self.disk.path(&segment::name(self.description.first_segment));
            return Err(damage(path, FIRST_FRAME_AT, DamageCause::Frame, None, false));
        }
        self.segments.truncate(end.segment_index + 1);
        let extents: VecDeque<Extent> = self.segments.iter().map(|(_, extent)| *extent).collect();
        let Some((segment, _)) = self.segments.pop() else {
            return Err(self.missing(self.description.first_segment));
        };
        if segment.number != self.description.last_segment {
            let change = meta.change(|description| description.last_segment = segment.number);
            change.during("write", &self.disk.path(meta::NAME))?;
        }
        for name in names {
            let number = segment::number_of(name);
            let is_outside = number
                .is_some_and(|number| number > segment.number || number < self.description.first_segment);
            if is_outside || segment::is_unfinished(name) {
                self.disk.remove(name).during("remove", &self.disk.path(name))?;
            }
        }
        let path = self.disk.path(&segment::name(segment.number));
        if self.is_dirty || self.open_write.is_some() {
            tracing::warn!(
                file = %path.display(),
                offset = end.offset,
                "the log ends in a write that was never acknowledged; it is cut there"
            );
            self.disk.sync_directory().during("sync", &self.disk.path(""))?;
            segment::clear_from(&segment, end.offset).during("write", &path)?;
        }
        let tail = Tail {
            segment,
            extents,
            offset: end.offset,
            next: end.next,
            hard_state: self.hard_state,
            last_slots: end.last_slots,
            is_marked: end.is_marked,
        };
        Ok(RecoveredLog { entries: self.entries, tail })
    }
}

fn damage(
    file: PathBuf,
    offset: usize,
    cause: DamageCause,
    slots: Option<(Slot, Slot)>,
    is_promise_intact: bool,
) -> Error {
    Error::Damaged(Damage { file, offset: offset as u64, cause, slots, is_promise_intact })
}
