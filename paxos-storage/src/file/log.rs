//! The end of the log: where frames are put.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paxos_core::{Entry, HardState, Slot, Write};

use super::During;
use super::buffer::AlignedBuffer;
use super::disk::{Disk, remove_if_there};
use super::frame::{self, Header, Link, SlotRange};
use super::meta::{self, Meta};
use super::prepare::{self, Order, Preparer, is_no_space};
use super::segment::{self, FIRST_FRAME_AT, Segment};
use crate::{Error, MAX_VALUE_BYTES};

/// Each segment is at most so many times as large as the one before, so that a young log takes little space.
const GROWTH: usize = 8;

/// How large the parts of a log are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Of a segment; one that is needed for a longer frame is larger.
    pub(super) segment_bytes: usize,
    /// Of the records in one frame: a write with more is split. A single record may exceed it.
    pub(super) payload_bytes: usize,
}

/// What must be known of a segment to free it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) number: u64,
    /// Where its first frame is in the log.
    pub(super) first_frame: Link,
    /// The highest slot of all its frames.
    pub(super) highest_slot: Slot,
}

/// Where the log ends.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) segment: Segment,
    /// Segments from the first one to this one.
    pub(super) extents: VecDeque<Extent>,
    /// Where in the segment the next frame goes.
    pub(super) offset: usize,
    /// What the next frame's place is.
    pub(super) next: Link,
    pub(super) hard_state: HardState,
    /// Slots of the last frame.
    pub(super) last_slots: SlotRange,
    /// The highest slot of all frames.
    pub(super) highest_slot: Slot,
    /// Whether the last frame needs no proof: it is a mark, or there is none.
    pub(super) is_marked: bool,
}

/// The log, open for writes.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    meta: Meta,
    fingerprint: u64,
    sizes: Sizes,
    tail: Tail,
    preparer: Preparer,
    /// When this segment was begun, and how long the one before it lasted; zero if that is not known.
    began: Instant,
    last_took: Duration,
    buffer: AlignedBuffer,
}

impl Log {
    pub(super) fn new(disk: Arc<dyn Disk>, meta: Meta, sizes: Sizes, tail: Tail) -> Log {
        let (fingerprint, buffer) = (meta.identity().fingerprint(), AlignedBuffer::default());
        let (preparer, began, last_took) = (Preparer::Nobody, Instant::now(), Duration::ZERO);
        Log { disk, meta, fingerprint, sizes, tail, preparer, began, last_took, buffer }
    }

    /// Has the next segment, and each after it, made before it is needed.
    pub(super) fn prepare_ahead(&mut self, preparer: Preparer) {
        self.preparer = preparer;
        self.order_next();
    }

    /// Puts `write` into stable storage.
    pub(super) fn append(&mut self, write: &Write) -> Result<(), Error> {
        for (_, entry) in write.entries() {
            let size_bytes = entry.value().size_bytes();
            if size_bytes > MAX_VALUE_BYTES {
                return Err(Error::TooLarge { size_bytes, limit_bytes: MAX_VALUE_BYTES });
            }
        }
        let first_of_write = self.tail.next.sequence;
        let mut rest = write.entries();
        loop {
            let (now, later) = rest.split_at(entries_of_one_frame(rest, self.sizes.payload_bytes));
            rest = later;
            self.put(write.hard_state(), now, first_of_write, rest.is_empty())?;
            if rest.is_empty() {
                break;
            }
        }
        self.tail.hard_state = write.hard_state();
        self.tail.is_marked = false;
        self.sync()?;
        // Not before: whoever waits for this sync should not wait for zeros, too.
        self.order_next();
        Ok(())
    }

    /// Puts a frame at the end that proves the one before, unless that needs no proof.
    pub(super) fn mark(&mut self) -> Result<(), Error> {
        if self.tail.is_marked {
            return Ok(());
        }
        self.make_room(frame::frame_bytes(0), true)?;
        self.tail.is_marked = true;
        let header = self.header(self.tail.hard_state, self.tail.next.sequence, true);
        self.put_frame(&Header { is_mark: true, ..header }, &[])?;
        self.sync()?;
        self.order_next();
        Ok(())
    }

    /// Frees segments with nothing above `through` in them.
    pub(super) fn compact(&mut self, through: Slot) -> Result<(), Error> {
        // Every frame has the whole hard state, so the newest is never lost as long as the last segment that has
        // a frame stays. That is this one but after a recovery that found it empty.
        let has_frames = self.tail.offset > FIRST_FRAME_AT;
        let spared = if has_frames { 1 } else { 2 };
        let mut freed = Vec::new();
        while self.tail.extents.len() > spared && self.tail.extents[0].highest_slot <= through {
            freed.extend(self.tail.extents.pop_front());
        }
        if freed.is_empty() {
            return Ok(());
        }
        let first = self.tail.extents[0];
        let change = self.meta.change(|description| {
            description.first_segment = first.number;
            description.first_frame = first.first_frame;
        });
        change.during("write", &self.disk.path(meta::NAME))?;
        for extent in freed {
            let name = segment::name(extent.number);
            remove_if_there(self.disk.as_ref(), &name).during("remove", &self.disk.path(&name))?;
        }
        Ok(())
    }

    /// Whether there was no space for the next segment.
    pub(super) fn is_full(&self) -> bool {
        self.preparer.is_full()
    }

    fn put(
        &mut self,
        hard_state: HardState,
        entries: &[(Slot, Entry)],
        first_of_write: u64,
        is_last: bool,
    ) -> Result<(), Error> {
        let payload_bytes = entries.iter().map(|(_, entry)| frame::record_bytes(entry)).sum();
        let is_first = first_of_write == self.tail.next.sequence;
        self.make_room(frame::frame_bytes(payload_bytes), is_first)?;
        let header = self.header(hard_state, first_of_write, is_last);
        self.put_frame(&header, entries)
    }

    fn header(&self, hard_state: HardState, first_of_write: u64, is_last_of_write: bool) -> Header {
        Header {
            link: self.tail.next,
            segment: self.tail.segment.number,
            first_of_write,
            is_last_of_write,
            is_mark: false,
            fingerprint: self.fingerprint,
            hard_state,
            previous_slots: self.tail.last_slots,
            earlier_highest_slot: self.tail.highest_slot,
        }
    }

    fn put_frame(&mut self, header: &Header, entries: &[(Slot, Entry)]) -> Result<(), Error> {
        let chain = frame::encode(&mut self.buffer, header, entries);
        let bytes = self.buffer.as_slice();
        let written = self.tail.segment.file.write_at(bytes, self.tail.offset as u64);
        written.during("write", &self.current_path())?;
        self.tail.offset += bytes.len();
        self.tail.next = Link { sequence: self.tail.next.sequence + 1, chain };
        self.tail.last_slots = SlotRange::of(entries);
        self.tail.highest_slot = self.tail.highest_slot.max(self.tail.last_slots.last());
        let extent = self.tail.extents.back_mut().expect("the current segment has an extent");
        extent.highest_slot = extent.highest_slot.max(self.tail.last_slots.last());
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.tail.segment.file.sync().during("sync", &self.current_path())
    }

    /// Goes on to the next segment if a frame of `length` bytes does not fit into this one.
    ///
    /// A disk too full for that is no failure as long as nothing of the write has been put anywhere.
    fn make_room(&mut self, length: usize, is_first_of_write: bool) -> Result<(), Error> {
        if self.tail.offset + length <= self.tail.segment.size_bytes {
            return Ok(());
        }
        if !is_first_of_write {
            self.sync()?;
        }
        let number = self.tail.segment.number + 1;
        let next = self.next_segment(length).map_err(|source| {
            let path = self.disk.path(&segment::name(number));
            if is_first_of_write && is_no_space(&source) {
                Error::Full { path, source }
            } else {
                Error::Io { operation: "prepare", path, source }
            }
        });
        let next = match next {
            Err(error @ Error::Full { .. }) => {
                self.order_next();
                return Err(error);
            }
            other => other?,
        };
        self.last_took = self.began.elapsed();
        self.began = Instant::now();
        self.tail.segment = next;
        self.tail.offset = FIRST_FRAME_AT;
        self.tail.extents.push_back(Extent { number, first_frame: self.tail.next, highest_slot: Slot::ZERO });
        Ok(())
    }

    fn next_segment(&mut self, frame_bytes: usize) -> std::io::Result<Segment> {
        if self.is_full() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let needed = FIRST_FRAME_AT + frame_bytes;
        if let Some(prepared) = self.preparer.finish() {
            let prepared = prepared?;
            if prepared.size_bytes >= needed {
                return Ok(prepared);
            }
        }
        let order = Order { size_bytes: self.next_size_bytes().max(needed), ..self.next_order() };
        prepare::make(self.disk.as_ref(), &self.meta, order, segment::AT_ONCE)
    }

    fn next_size_bytes(&self) -> usize {
        self.tail.segment.size_bytes.saturating_mul(GROWTH).min(self.sizes.segment_bytes)
    }

    fn order_next(&mut self) {
        self.preparer.order(self.next_order());
    }

    fn next_order(&self) -> Order {
        let number = self.tail.segment.number + 1;
        Order { number, size_bytes: self.next_size_bytes(), leisure: self.last_took / 2 }
    }

    fn current_path(&self) -> std::path::PathBuf {
        self.disk.path(&segment::name(self.tail.segment.number))
    }
}

/// How many entries of the front fit into a frame; at least one if there is any.
fn entries_of_one_frame(entries: &[(Slot, Entry)], limit_bytes: usize) -> usize {
    let mut payload_bytes = 0;
    let fits = |(_, entry): &&(Slot, Entry)| {
        payload_bytes += frame::record_bytes(entry);
        payload_bytes <= limit_bytes
    };
    entries.iter().take_while(fits).count().max(1).min(entries.len())
}
