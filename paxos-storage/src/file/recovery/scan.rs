//! Follows the frames of a log, and tells a torn tail from damage.
//!
//! The scan starts at the first frame and finds each next one by its sequence number and by the checksum of
//! the header before it. If the next frame is not in its place, there is a *gap*: either the log ends there,
//! or acknowledged data is gone.
//!
//! - If a later header belongs to a write *after* that of the missing frame, the missing frame was
//!   acknowledged: **damage**. The scan continues at the next whole write, which holds the newest promise.
//!   The headers around the gap tell which slots are lost.
//! - Otherwise the missing frame belongs to a write that was never acknowledged: a **torn tail**.
//!
//! A segment may hold what is left of earlier uses of its file, see
//! [`segment`](crate::file::layout::segment). Such *stale* blocks count like the zeros that others hold
//! behind their last frame: they are no reason to take the missing frame for a torn or damaged one, and need
//! not be cut off. Where the next frame should be, a frame of the present log is no stale one: the disk has
//! misplaced it.
//!
//! A frame with right checksums that holds what this version does not know was written by a newer one. It is
//! neither: the scan fails, so that nothing is cut off.

use std::collections::BTreeMap;
use std::path::PathBuf;

use paxos_core::{Entry, HardState, Slot};

use crate::codec::DecodeError;
use crate::file::disk::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::file::disk::{Access, Disk, DiskFile, is_bad_medium};
use crate::file::failure::During;
use crate::file::layout::frame::{self, Link, ReadHeader, SlotRange, VERSION};
use crate::file::layout::meta::Description;
use crate::file::layout::segment::{self, Extent, FIRST_FRAME_AT, MAX_SEGMENT_BYTES, Segment, SegmentHeader};
use crate::file::mutant::{Mutant, mutated};
use crate::{Damage, DamageCause, Error};

/// Fills unreadable blocks. Zeros would look like the end of the log.
const UNREADABLE: u8 = 0xbd;

/// Which frames belong to the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) fingerprint: u64,
    pub(crate) first_segment: u64,
    pub(crate) last_segment: u64,
    pub(crate) first_frame: Link,
    /// The slot of a lost snapshot, or zero. The watermark does not say that accepted values up to here are
    /// chosen, since the snapshot may have replaced them.
    pub(crate) lost_snapshot_slot: Slot,
}

impl Span {
    /// The frames that belong to the log which META describes.
    pub(crate) fn of(description: &Description, lost_snapshot_slot: Slot) -> Span {
        Span {
            fingerprint: description.identity.fingerprint(),
            first_segment: description.first_segment,
            last_segment: description.last_segment,
            first_frame: description.first_frame,
            lost_snapshot_slot,
        }
    }
}

/// What a scan reports to its observer, for [`inspect`](super::inspect::inspect).
#[derive(Debug)]
pub(crate) enum ScanEvent<'a> {
    Segment { number: u64, size_bytes: usize },
    Frame { offset: usize, read: &'a ReadHeader },
    Damage(&'a Damage),
}

/// A place between two frames of the log, and the state there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) segment_index: usize,
    pub(crate) offset: usize,
    pub(crate) next: Link,
    pub(crate) last_slots: SlotRange,
    /// The highest slot of all frames before.
    pub(crate) highest_slot: Slot,
    pub(crate) is_marked: bool,
}

/// A write whose last frame was not found yet.
#[derive(Debug)]
struct OpenWrite {
    first: u64,
    entries: Vec<(Slot, Entry)>,
}

/// A place where the next frame is missing.
#[derive(Debug)]
pub(crate) struct Gap {
    file: PathBuf,
    offset: usize,
    segment_index: usize,
    cause: Option<DamageCause>,
    /// Whether its place is stale, as behind the last frame of a segment.
    is_blank: bool,
    /// The slots of the missing frame, if its header is readable.
    slots: Option<SlotRange>,
    /// Whether a later frame proves that the missing one was acknowledged.
    is_proven: bool,
}

/// The state of a scan, and its results.
pub(crate) struct Scan<'a> {
    disk: &'a dyn Disk,
    span: Span,
    observer: &'a mut dyn FnMut(ScanEvent<'_>),
    buffer: AlignedBuffer,
    /// The version of the segment that was read last; `None` if its header is unreadable.
    segment_version: Option<u16>,
    /// The segments of the span, each with its file if that belongs to this log.
    pub(crate) segments: Vec<(Option<Segment>, Extent)>,
    pub(crate) entries: BTreeMap<Slot, Entry>,
    pub(crate) hard_state: HardState,
    /// The place after the last frame that was found.
    place: Place,
    /// The place after the last whole write.
    pub(crate) whole: Place,
    open_write: Option<OpenWrite>,
    gap: Option<Gap>,
    /// Damage after which no whole write was found yet.
    unfollowed_damage: Option<Damage>,
    /// The ranges of slots that are lost to damage, in the order of the log.
    pub(crate) lost: Vec<(Slot, Slot)>,
    /// Whether a block that is not stale follows the last frame, or the file is too short.
    is_dirty: bool,
}

impl<'a> Scan<'a> {
    /// Scans all frames of `span`.
    pub(crate) fn run(
        disk: &'a dyn Disk,
        span: Span,
        observer: &'a mut dyn FnMut(ScanEvent<'_>),
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
            observer,
            buffer: AlignedBuffer::default(),
            segment_version: None,
            segments: Vec::new(),
            entries: BTreeMap::new(),
            hard_state: HardState::default(),
            place,
            whole: place,
            open_write: None,
            gap: None,
            unfollowed_damage: None,
            lost: Vec::new(),
            is_dirty: false,
        };
        let names = disk.list().during("list", &disk.path(""))?;
        for number in span.first_segment..=span.last_segment {
            started.segments.push((None, Extent::new(number, started.place.next)));
            if names.contains(&segment::name(number)) {
                started.read_segment(number)?;
            } else {
                started.open_gap(number, 0, Some(DamageCause::MissingSegment));
            }
        }
        Ok(started)
    }

    /// The segment in which the last whole write ends, and the offset of its end.
    pub(crate) fn end(&self) -> (u64, usize) {
        let number = self.segments.get(self.whole.segment_index).map_or(0, |(_, extent)| extent.number);
        (number, self.whole.offset)
    }

    /// Whether anything follows the last whole write.
    pub(crate) fn has_tail(&self) -> bool {
        self.is_dirty || self.open_write.is_some()
    }

    /// Damage after which the newest promise is unknown, so that recovery must fail.
    pub(crate) fn fatal_damage(&self) -> Option<Damage> {
        if let Some(damage) = &self.unfollowed_damage {
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
        // Segments are removed only while a later one holds the hard state.
        let is_bare = self.whole.next == self.span.first_frame && self.span.first_frame.sequence > 1;
        let file = self.disk.path(&segment::name(self.span.first_segment));
        is_bare.then(|| told(file, FIRST_FRAME_AT as u64, DamageCause::Frame, None))
    }

    fn read_segment(&mut self, number: u64) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.load(number, &mut buffer);
        if let Ok(Some(is_whole_file)) = result {
            self.follow(number, buffer.as_slice())?;
            if !is_whole_file {
                self.note_dirt();
            }
        }
        self.buffer = buffer;
        result.map(drop)
    }

    /// Opens a segment and reads all of it. Returns `Some(false)` if the file is shorter than it should be,
    /// which reads as zeros, and `None` if it does not belong to this log.
    fn load(&mut self, number: u64, buffer: &mut AlignedBuffer) -> Result<Option<bool>, Error> {
        let name = segment::name(number);
        let path = self.disk.path(&name);
        let file = self.disk.open(&name, Access::Direct).during("open", &path)?;
        // Data of an earlier process may be in the page cache only.
        file.sync().during("sync", &path)?;
        let file_bytes = file.size_bytes().during("read", &path)?;
        let is_readable = read_all(file.as_ref(), buffer.resize_zeroed(BLOCK_BYTES)).during("read", &path)?;
        let header = segment::decode_header(buffer.as_slice()).filter(|_| is_readable);
        let size_bytes = match header {
            Some(header) if !frame::is_known(header.version) => {
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
        (self.observer)(ScanEvent::Segment { number, size_bytes });
        let is_readable = read_all(file.as_ref(), buffer.resize_zeroed(size_bytes)).during("read", &path)?;
        if !is_readable {
            tracing::warn!(file = %path.display(), "the disk can't read all of this file");
        }
        let (segment, extent) = self.segments.last_mut().expect("each segment is noted before it is read");
        self.segment_version = header.map(|header| header.version);
        let is_current = self.segment_version == Some(VERSION);
        *segment = Some(Segment { number, size_bytes, is_current, file });
        *extent = Extent { size_bytes, is_reusable: is_current && is_readable, ..*extent };
        Ok(Some(file_bytes >= size_bytes as u64))
    }

    /// Scans the frames of the segment that was loaded last.
    fn follow(&mut self, number: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut offset = FIRST_FRAME_AT;
        while offset < bytes.len() {
            let rest = &bytes[offset..];
            let own = frame::decode_header(rest).filter(|read| {
                read.header.fingerprint == self.span.fingerprint && self.belongs_to(number, read)
            });
            let entries = match own.as_ref().map(|read| frame::decode_entries(read, rest)) {
                Some(Err(DecodeError::UnknownContent(content))) => {
                    let file = self.disk.path(&segment::name(number));
                    return Err(Error::UnknownContent { file, offset: offset as u64, content });
                }
                Some(Err(DecodeError::UnknownLevel(level))) => {
                    let file = self.disk.path(&segment::name(number));
                    return Err(Error::UnknownLevel { file, level });
                }
                entries => entries.and_then(Result::ok),
            };
            match (own, entries) {
                // The log continues here even if the segment before has space: this frame did not fit there.
                (Some(read), Some(entries)) if read.header.link == self.place.next => {
                    self.pass_over_gap();
                    self.take_frame(&read, entries, offset)?;
                    offset += read.length_bytes;
                }
                (Some(read), Some(entries)) if self.is_of_later_write(&read) => {
                    self.note_gap(number, rest, offset);
                    self.account_for_gap(&read);
                    self.take_frame(&read, entries, offset)?;
                    offset += read.length_bytes;
                }
                (own, _) => {
                    self.note_gap(number, rest, offset);
                    let is_proof = own.is_some_and(|read| self.is_of_later_write(&read));
                    let gap = self.gap.as_mut().expect("a gap was noted");
                    gap.is_proven |= is_proof;
                    if !self.is_stale(&rest[..BLOCK_BYTES]) {
                        self.note_dirt();
                    }
                    offset += BLOCK_BYTES;
                }
            }
        }
        Ok(())
    }

    /// Whether a frame names the segment that was read last, and is of its version.
    fn belongs_to(&self, number: u64, read: &ReadHeader) -> bool {
        (read.header.segment == number || mutated(Mutant::NumberUnchecked))
            && self.segment_version.is_none_or(|version| version == read.version)
    }

    /// Whether a block of the segment that was read last is not a part of the log.
    fn is_stale(&self, block: &[u8]) -> bool {
        let Span { fingerprint, first_segment, .. } = self.span;
        let first_segment = if mutated(Mutant::NumberUnchecked) { 0 } else { first_segment };
        *block != [UNREADABLE; BLOCK_BYTES]
            && segment::is_stale(block, self.segment_version, fingerprint, first_segment)
    }

    /// Notes that the segment that was read last holds what is neither followed nor stale.
    fn note_dirt(&mut self) {
        self.is_dirty = true;
        let (_, extent) = self.segments.last_mut().expect("each segment is noted before it is read");
        extent.is_reusable = false;
    }

    /// Whether a frame belongs to a later write than the missing one, and so proves that it was acknowledged.
    fn is_of_later_write(&self, read: &ReadHeader) -> bool {
        read.header.first_of_write > self.place.next.sequence
    }

    fn take_frame(
        &mut self,
        read: &ReadHeader,
        entries: Vec<(Slot, Entry)>,
        offset: usize,
    ) -> Result<(), Error> {
        (self.observer)(ScanEvent::Frame { offset, read });
        let header = &read.header;
        let is_first_here = header.link == self.span.first_frame;
        // If its first segments were removed, a log may begin in the middle of a write.
        let expected_first = self.open_write.as_ref().map_or(header.link.sequence, |open| open.first);
        let segment_index = self.segments.len() - 1;
        if header.first_of_write != expected_first && !is_first_here {
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
            self.unfollowed_damage = None;
        }
        Ok(())
    }

    /// Notes that the next frame is missing at `rest`, unless that is known already.
    fn note_gap(&mut self, number: u64, rest: &[u8], offset: usize) {
        let is_noted = |gap: &Gap| !gap.is_blank || gap.segment_index + 1 == self.segments.len();
        if self.gap.as_ref().is_some_and(is_noted) {
            return;
        }
        let stray =
            frame::decode_header(rest).filter(|read| read.header.fingerprint == self.span.fingerprint);
        let next = self.place.next;
        let is_blank = self.is_stale(&rest[..BLOCK_BYTES]);
        // If another frame of the log is here, the disk has misplaced it: a crash leaves the next frame,
        // torn, or what was there before.
        let is_misplaced = stray
            .as_ref()
            .is_some_and(|read| read.header.link.sequence < next.sequence || !self.belongs_to(number, read))
            && !is_blank;
        let own = stray.filter(|read| read.header.link == next);
        // A crash does not leave unreadable blocks either.
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
        gap.is_blank = is_blank;
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

    /// Closes a gap before the next frame, as that was found after all. Reports damage between.
    fn pass_over_gap(&mut self) {
        if let Some(gap) = self.gap.take()
            && let Some(cause) = gap.cause
        {
            let slots = None;
            let damage =
                Damage { file: gap.file, offset: gap.offset as u64, cause, slots, is_promise_intact: true };
            (self.observer)(ScanEvent::Damage(&damage));
        }
    }

    /// Closes a gap before `read`, a frame of a later write. Reports which slots are lost between.
    fn account_for_gap(&mut self, read: &ReadHeader) {
        let gap = self.gap.take().expect("a frame that is not the next one stands behind a gap");
        // The part of a write that was found before the gap was acknowledged, too.
        let begun = self.open_write.take().map(|open| open.entries);
        self.entries.extend(begun.into_iter().flatten());
        let is_only_one = read.header.link.sequence == self.place.next.sequence + 1;
        let range = match gap.slots.filter(|_| is_only_one) {
            Some(slots) => slots.bounds(),
            None if is_only_one => read.header.previous_slots.bounds(),
            None => Some((Slot::FIRST, read.header.earlier_highest_slot)),
        };
        // Lost frames can't have changed slots that were chosen before.
        let is_trusted = self.span.lost_snapshot_slot == Slot::ZERO;
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
        (self.observer)(ScanEvent::Damage(&damage));
        self.unfollowed_damage = Some(damage);
        self.place.next = read.header.link;
        if read.header.first_of_write != read.header.link.sequence {
            self.open_write = Some(OpenWrite { first: read.header.first_of_write, entries: Vec::new() });
        }
    }
}

/// Reads the file from its start, block by block if there are read errors. Returns `false` if there were.
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
