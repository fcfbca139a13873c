//! Following the frames of a log, over what may be missing.
//!
//! Frames are followed from the first one on, each by its sequence number and by the checksum of the one before.
//! Where the next is not found there is a *gap*. Either the log ends there, or something acknowledged is gone:
//!
//! - If any header that comes later belongs to a write *after* the missing frame's, that frame's write had been
//!   acknowledged: **damage**. Behind it the log is followed again from the next whole write on, which has the newest
//!   promise; what was lost in between can be told by its slots.
//! - Otherwise the missing frame is the end of a write that was never acknowledged: a **torn tail**.

use std::collections::BTreeMap;
use std::path::PathBuf;

use paxos_core::{Entry, HardState, Slot};

use super::buffer::{AlignedBuffer, BLOCK_BYTES};
use super::disk::{Access, Disk, DiskFile, is_bad_medium};
use super::frame::{self, Link, ReadHeader, SlotRange, VERSION};
use super::log::Extent;
use super::segment::{self, FIRST_FRAME_AT, Segment, SegmentHeader};
use super::{During, MAX_SEGMENT_BYTES};
use crate::{Damage, DamageCause, Error};

/// What unreadable blocks are filled with: anything but zeros, which would look like the end of the log.
const UNREADABLE: u8 = 0xbd;

/// Which frames belong to the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) fingerprint: u64,
    pub(super) first_segment: u64,
    pub(super) last_segment: u64,
    pub(super) first_frame: Link,
    /// Accepted values up to here may have been skipped by a snapshot that is lost: no watermark vouches for them.
    pub(super) distrusted_through: Slot,
}

/// What the scan comes by, for who only wants to look.
#[derive(Debug)]
pub(super) enum Sight<'a> {
    Segment { number: u64, size_bytes: usize },
    Frame { offset: usize, read: &'a ReadHeader },
    Damage(&'a Damage),
}

/// A place in the log between two frames, and what held there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment_index: usize,
    pub(super) offset: usize,
    pub(super) next: Link,
    pub(super) last_slots: SlotRange,
    /// The highest slot of all frames before.
    pub(super) highest_slot: Slot,
    pub(super) is_marked: bool,
}

/// A write of which the last frame has not been seen yet.
#[derive(Debug)]
struct OpenWrite {
    first: u64,
    entries: Vec<(Slot, Entry)>,
}

/// Where the next frame was not found.
#[derive(Debug)]
pub(super) struct Gap {
    file: PathBuf,
    offset: usize,
    segment_index: usize,
    cause: Option<DamageCause>,
    /// Whether there is nothing at all in its place, as behind the last frame of a segment.
    is_blank: bool,
    /// Slots of the missing frame, if its header can be read.
    slots: Option<SlotRange>,
    /// Whether something shows that the missing frame was acknowledged.
    is_proven: bool,
}

/// Everything that was found in the log's segments.
pub(super) struct Scan<'a> {
    disk: &'a dyn Disk,
    span: Span,
    witness: &'a mut dyn FnMut(Sight<'_>),
    buffer: AlignedBuffer,
    /// Of each segment of the span what is known, and its file if that is a segment of this log.
    pub(super) segments: Vec<(Option<Segment>, Extent)>,
    pub(super) entries: BTreeMap<Slot, Entry>,
    pub(super) hard_state: HardState,
    /// Behind the last frame that was followed.
    place: Place,
    /// Behind the last whole write.
    pub(super) whole: Place,
    open_write: Option<OpenWrite>,
    gap: Option<Gap>,
    /// Damage that no whole write has followed yet.
    unsettled: Option<Damage>,
    /// Slots that damage has cost, in order of the log.
    pub(super) lost: Vec<(Slot, Slot)>,
    /// Whether bytes that are no zeros, or no bytes at all, were found behind the last frame.
    is_dirty: bool,
}

impl<'a> Scan<'a> {
    /// Follows all frames of `span`.
    pub(super) fn run(
        disk: &'a dyn Disk,
        span: Span,
        witness: &'a mut dyn FnMut(Sight<'_>),
    ) -> Result<Scan<'a>, Error> {
        let place = Place {
            segment_index: 0,
            offset: FIRST_FRAME_AT,
            next: span.first_frame,
            last_slots: SlotRange::NONE,
            highest_slot: Slot::ZERO,
            is_marked: true,
        };
        let mut started = Scan {
            disk,
            span,
            witness,
            buffer: AlignedBuffer::default(),
            segments: Vec::new(),
            entries: BTreeMap::new(),
            hard_state: HardState::default(),
            place,
            whole: place,
            open_write: None,
            gap: None,
            unsettled: None,
            lost: Vec::new(),
            is_dirty: false,
        };
        let names = disk.list().during("list", &disk.path(""))?;
        for number in span.first_segment..=span.last_segment {
            let extent = Extent { number, first_frame: started.place.next, highest_slot: Slot::ZERO };
            started.segments.push((None, extent));
            if names.contains(&segment::name(number)) {
                started.read_segment(number)?;
            } else {
                started.open_gap(number, 0, Some(DamageCause::MissingSegment));
            }
        }
        Ok(started)
    }

    /// The segment that the last whole write ends in, and where.
    pub(super) fn end(&self) -> (u64, usize) {
        let number = self.segments.get(self.whole.segment_index).map_or(0, |(_, extent)| extent.number);
        (number, self.whole.offset)
    }

    /// Whether anything stands behind the last whole write.
    pub(super) fn has_tail(&self) -> bool {
        self.is_dirty || self.open_write.is_some()
    }

    /// Damage that can't be passed over: behind it nothing tells what this node has promised.
    pub(super) fn fatal_damage(&self) -> Option<Damage> {
        if let Some(damage) = &self.unsettled {
            return Some(Damage { is_promise_intact: false, ..damage.clone() });
        }
        let told = |file, offset, cause, slots: Option<(Slot, Slot)>| Damage {
            file,
            offset,
            cause,
            slots,
            is_promise_intact: false,
        };
        if let Some(gap) = &self.gap
            && (gap.cause.is_some() || gap.is_proven)
        {
            let cause = gap.cause.unwrap_or(DamageCause::Frame);
            let slots = gap.slots.and_then(SlotRange::bounds);
            return Some(told(gap.file.clone(), gap.offset as u64, cause, slots));
        }
        // Segments are freed only while a later one has the hard state.
        let is_bare = self.whole.next == self.span.first_frame && self.span.first_frame.sequence > 1;
        let file = self.disk.path(&segment::name(self.span.first_segment));
        is_bare.then(|| told(file, FIRST_FRAME_AT as u64, DamageCause::Frame, None))
    }

    fn read_segment(&mut self, number: u64) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.load(number, &mut buffer);
        if let Ok(Some(is_whole_file)) = result {
            self.follow(number, buffer.as_slice())?;
            self.is_dirty |= !is_whole_file;
        }
        self.buffer = buffer;
        result.map(drop)
    }

    /// Opens the segment and reads all of it; `Some(false)` if the file is shorter than it was made, which reads as
    /// zeros. `None` if it is not of this log.
    fn load(&mut self, number: u64, buffer: &mut AlignedBuffer) -> Result<Option<bool>, Error> {
        let name = segment::name(number);
        let path = self.disk.path(&name);
        let file = self.disk.open(&name, Access::Direct).during("open", &path)?;
        // What an earlier process wrote may be in the page cache alone.
        file.sync().during("sync", &path)?;
        let file_bytes = file.size_bytes().during("read", &path)?;
        let is_readable = read_all(file.as_ref(), buffer.resize_zeroed(BLOCK_BYTES)).during("read", &path)?;
        let header = segment::decode_header(buffer.as_slice()).filter(|_| is_readable);
        let size_bytes = match header {
            Some(header) if header.version != VERSION => {
                return Err(Error::UnknownVersion { file: path, version: header.version });
            }
            Some(SegmentHeader { fingerprint, number: own, size_bytes, .. })
                if fingerprint == self.span.fingerprint && own == number =>
            {
                size_bytes
            }
            Some(_) => {
                self.open_gap(number, 0, Some(DamageCause::ForeignSegment));
                return Ok(None);
            }
            None => {
                self.open_gap(number, 0, Some(DamageCause::SegmentHeader));
                let whole_blocks =
                    usize::try_from(file_bytes).unwrap_or(usize::MAX) / BLOCK_BYTES * BLOCK_BYTES;
                whole_blocks.clamp(FIRST_FRAME_AT + BLOCK_BYTES, MAX_SEGMENT_BYTES)
            }
        };
        (self.witness)(Sight::Segment { number, size_bytes });
        if !read_all(file.as_ref(), buffer.resize_zeroed(size_bytes)).during("read", &path)? {
            tracing::warn!(file = %path.display(), "the disk can't read all of this file");
        }
        let segment = self.segments.last_mut().expect("each segment is noted before it is read");
        segment.0 = Some(Segment { number, size_bytes, file });
        Ok(Some(file_bytes >= size_bytes as u64))
    }

    /// Follows the frames of the segment that was loaded last.
    fn follow(&mut self, number: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut offset = FIRST_FRAME_AT;
        while offset < bytes.len() {
            let rest = &bytes[offset..];
            let own = frame::decode_header(rest).filter(|read| {
                read.header.fingerprint == self.span.fingerprint && read.header.segment == number
            });
            let entries = own.as_ref().and_then(|read| frame::decode_entries(read, rest));
            match (own, entries) {
                // The log goes on here even if the segment before was not full: this frame did not fit there.
                (Some(read), Some(entries)) if read.header.link == self.place.next => {
                    self.pass_over_gap();
                    self.take_frame(&read, entries, offset)?;
                    offset += read.length_bytes;
                }
                (Some(read), Some(entries)) if self.is_of_later_write(&read) => {
                    self.note_gap(number, rest, offset);
                    self.settle_gap(&read);
                    self.take_frame(&read, entries, offset)?;
                    offset += read.length_bytes;
                }
                (own, _) => {
                    self.note_gap(number, rest, offset);
                    let is_proof = own.is_some_and(|read| self.is_of_later_write(&read));
                    let gap = self.gap.as_mut().expect("a gap was noted");
                    gap.is_proven |= is_proof;
                    self.is_dirty |= rest[..BLOCK_BYTES].iter().any(|byte| *byte != 0);
                    offset += BLOCK_BYTES;
                }
            }
        }
        Ok(())
    }

    /// Whether a frame proves that the missing one was acknowledged.
    fn is_of_later_write(&self, read: &ReadHeader) -> bool {
        read.header.first_of_write > self.place.next.sequence
    }

    fn take_frame(
        &mut self,
        read: &ReadHeader,
        entries: Vec<(Slot, Entry)>,
        offset: usize,
    ) -> Result<(), Error> {
        (self.witness)(Sight::Frame { offset, read });
        let header = &read.header;
        let is_first_here = header.link == self.span.first_frame;
        // A log whose first segments were freed may begin in the middle of a write.
        let goes_on = self.open_write.as_ref().map_or(header.link.sequence, |open| open.first);
        let segment_index = self.segments.len() - 1;
        if header.first_of_write != goes_on && !is_first_here {
            let file = self.disk.path(&segment::name(self.segments[segment_index].1.number));
            let (offset, slots, cause) = (offset as u64, read.slots.bounds(), DamageCause::Frame);
            return Err(Error::Damaged(Damage { file, offset, cause, slots, is_promise_intact: false }));
        }
        let open_write = OpenWrite { first: header.first_of_write, entries: Vec::new() };
        self.open_write.get_or_insert(open_write).entries.extend(entries);
        let extent = &mut self.segments[segment_index].1;
        extent.highest_slot = extent.highest_slot.max(read.slots.last());
        self.is_dirty = false;
        self.place = Place {
            segment_index,
            offset: offset + read.length_bytes,
            next: Link { sequence: header.link.sequence + 1, chain: read.checksum },
            last_slots: read.slots,
            highest_slot: header.earlier_highest_slot.max(read.slots.last()),
            is_marked: header.is_mark,
        };
        if header.is_last_of_write {
            let finished = self.open_write.take().map(|open| open.entries);
            self.entries.extend(finished.into_iter().flatten());
            self.hard_state = header.hard_state;
            self.whole = self.place;
            self.unsettled = None;
        }
        Ok(())
    }

    /// Notes that the frame which should begin at `rest` does not.
    fn note_gap(&mut self, number: u64, rest: &[u8], offset: usize) {
        let is_noted = |gap: &Gap| !gap.is_blank || gap.segment_index + 1 == self.segments.len();
        if self.gap.as_ref().is_some_and(is_noted) {
            return;
        }
        let stray =
            frame::decode_header(rest).filter(|read| read.header.fingerprint == self.span.fingerprint);
        let next = self.place.next;
        // A whole frame that belongs before was put here by the disk: what a crash leaves behind is the next frame,
        // torn, or zeros.
        let is_misplaced = stray
            .as_ref()
            .is_some_and(|read| read.header.link.sequence < next.sequence || read.header.segment != number);
        let own = stray.filter(|read| read.header.link == next);
        // Nor does a crash leave behind what can't be read.
        let length = own.as_ref().map_or(BLOCK_BYTES, |read| read.length_bytes.min(rest.len()));
        let is_unreadable =
            rest[..length].chunks(BLOCK_BYTES).any(|block| *block == [UNREADABLE; BLOCK_BYTES]);
        let cause = match () {
            () if is_misplaced => Some(DamageCause::MisplacedFrame),
            () if is_unreadable => Some(DamageCause::Unreadable),
            () => None,
        };
        self.open_gap(number, offset, cause);
        let gap = self.gap.as_mut().expect("it was opened just now");
        gap.is_blank = rest[..BLOCK_BYTES] == [0; BLOCK_BYTES];
        gap.slots = own.map(|read| read.slots);
    }

    fn open_gap(&mut self, number: u64, offset: usize, cause: Option<DamageCause>) {
        if self.gap.as_ref().is_some_and(|gap| !gap.is_blank) {
            return;
        }
        let file = self.disk.path(&segment::name(number));
        let segment_index = self.segments.len() - 1;
        self.gap =
            Some(Gap { file, offset, segment_index, cause, is_blank: false, slots: None, is_proven: false });
    }

    /// The next frame was found after all.
    fn pass_over_gap(&mut self) {
        if let Some(gap) = self.gap.take()
            && let Some(cause) = gap.cause
        {
            let slots = None;
            let damage =
                Damage { file: gap.file, offset: gap.offset as u64, cause, slots, is_promise_intact: true };
            (self.witness)(Sight::Damage(&damage));
        }
    }

    /// The log goes on behind a gap with `read`, a frame of a later write: tells what was lost between.
    fn settle_gap(&mut self, read: &ReadHeader) {
        let gap = self.gap.take().expect("a frame that is not the next one stands behind a gap");
        // What was there of a write whose end is missing was acknowledged, too.
        let begun = self.open_write.take().map(|open| open.entries);
        self.entries.extend(begun.into_iter().flatten());
        let is_only_one = read.header.link.sequence == self.place.next.sequence + 1;
        let range = match gap.slots.filter(|_| is_only_one) {
            Some(slots) => slots.bounds(),
            None if is_only_one => read.header.previous_slots.bounds(),
            None => Some((Slot::FIRST, read.header.earlier_highest_slot)),
        };
        // What was known to be chosen before can't have been changed by what is lost.
        let is_trusted = self.span.distrusted_through == Slot::ZERO;
        let trusted = if is_trusted { self.hard_state.chosen } else { Slot::ZERO };
        let lost = range
            .map(|(first, last)| (first.max(trusted.next()), last))
            .filter(|(first, last)| first <= last);
        if let Some((first, last)) = lost {
            self.entries.retain(|slot, _| *slot < first || *slot > last);
            self.lost.push((first, last));
            for (_, extent) in &mut self.segments[gap.segment_index..] {
                extent.highest_slot = extent.highest_slot.max(last);
            }
        }
        let damage = Damage {
            file: gap.file,
            offset: gap.offset as u64,
            cause: gap.cause.unwrap_or(DamageCause::Frame),
            slots: lost,
            is_promise_intact: true,
        };
        (self.witness)(Sight::Damage(&damage));
        self.unsettled = Some(damage);
        self.place.next = read.header.link;
        if read.header.first_of_write != read.header.link.sequence {
            self.open_write = Some(OpenWrite { first: read.header.first_of_write, entries: Vec::new() });
        }
    }
}

/// Reads from the beginning of the file, block by block where it has to be; `false` if some can't be read.
fn read_all(file: &dyn DiskFile, bytes: &mut [u8]) -> std::io::Result<bool> {
    match file.read_at(bytes, 0) {
        Err(error) if is_bad_medium(&error) => {}
        result => return result.map(|()| true),
    }
    for (index, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
        match file.read_at(block, (index * BLOCK_BYTES) as u64) {
            Err(error) if is_bad_medium(&error) => block.fill(UNREADABLE),
            result => result?,
        }
    }
    Ok(false)
}
