//! The end of the log, to which frames are appended.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use paxos_core::{Entry, HardState, Slot, Write};

use crate::Error;
use crate::file::append::prepare::{Maker, Order, Preparer};
use crate::file::disk::buffer::AlignedBuffer;
use crate::file::disk::remove_if_there;
use crate::file::failure;
use crate::file::failure::During;
use crate::file::layout::frame::{self, Header, Link, SlotRange};
use crate::file::layout::meta;
use crate::file::layout::segment::{
    self, Extent, FIRST_FRAME_AT, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, Segment,
};
use crate::file::mutant::{Mutant, mutated};
use crate::storage::refuse_long_values;

/// A segment is at most this many times as large as the one before, so that a young log needs little space.
const GROWTH: usize = 8;

/// The sizes of the parts of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The size of a segment. One for a longer write is larger, and one on a full disk is smaller.
    pub(crate) segment_bytes: usize,
    /// The most bytes of records in a frame, beyond which a write is split. A single record may exceed it.
    pub(crate) payload_bytes: usize,
    /// How many files of old segments are kept to be used again.
    pub(crate) spares: usize,
}

/// The end of the log.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Segment,
    /// The segments from the first to the present one.
    pub(crate) extents: VecDeque<Extent>,
    /// Where the next frame goes in the segment.
    pub(crate) offset: usize,
    /// The place of the next frame in the chain of frames.
    pub(crate) next: Link,
    pub(crate) hard_state: HardState,
    /// The slots of the last frame.
    pub(crate) last_slots: SlotRange,
    /// The highest slot of all frames.
    pub(crate) highest_slot: Slot,
    /// Whether the last frame needs no proof: it is a mark, or there is no frame.
    pub(crate) is_marked: bool,
}

/// The log, open for writes.
#[derive(Debug)]
pub(crate) struct Log {
    maker: Maker,
    fingerprint: u64,
    sizes: Sizes,
    tail: Tail,
    /// The segments behind the present one that were made for the write under way.
    reserved: VecDeque<Segment>,
    preparer: Preparer,
    /// When the present segment was begun, and how long the one before lasted; zero if that is unknown.
    segment_began_at: Instant,
    last_segment_lasted: Duration,
    buffer: AlignedBuffer,
}

impl Log {
    pub(crate) fn new(maker: Maker, sizes: Sizes, tail: Tail) -> Log {
        Log {
            fingerprint: maker.meta.identity().fingerprint(),
            maker,
            sizes,
            tail,
            reserved: VecDeque::new(),
            preparer: Preparer::OnDemand,
            segment_began_at: Instant::now(),
            last_segment_lasted: Duration::ZERO,
            buffer: AlignedBuffer::default(),
        }
    }

    /// From now on, lets `preparer` make segments before they are needed.
    pub(crate) fn prepare_ahead(&mut self, preparer: Preparer) {
        self.preparer = preparer;
        self.order_next();
    }

    /// Appends `write`. It is durable when this returns.
    pub(crate) fn append(&mut self, write: &Write) -> Result<(), Error> {
        refuse_long_values(write)?;
        let frames = frames_of(write.entries(), self.sizes.payload_bytes);
        let lengths: Vec<usize> = frames.iter().map(|entries| frame_bytes_of(entries)).collect();
        self.make_room(&lengths)?;
        let first_of_write = self.tail.next.sequence;
        for (index, entries) in frames.iter().enumerate() {
            self.enter_segment_for(lengths[index], index == 0)?;
            let header = self.header(write.hard_state(), first_of_write, index + 1 == frames.len());
            self.put_frame(&header, entries)?;
        }
        self.tail.hard_state = write.hard_state();
        self.tail.is_marked = false;
        self.sync()?;
        // After the sync, which would otherwise wait for the zeros of the next segment, too.
        self.order_next();
        Ok(())
    }

    /// Appends a mark, which proves that the frame before was acknowledged, unless that needs no proof.
    pub(crate) fn prove_last_write(&mut self) -> Result<(), Error> {
        if self.tail.is_marked {
            return Ok(());
        }
        self.make_room(&[frame::frame_bytes(0)])?;
        self.enter_segment_for(frame::frame_bytes(0), true)?;
        self.tail.is_marked = true;
        let header = self.header(self.tail.hard_state, self.tail.next.sequence, true);
        self.put_frame(&Header { is_mark: true, ..header }, &[])?;
        self.sync()?;
        self.order_next();
        Ok(())
    }

    /// Removes segments without slots above `through`, or keeps their files as spares.
    pub(crate) fn compact(&mut self, through: Slot) -> Result<(), Error> {
        // Every frame holds the whole hard state, so the newest one is safe as long as the last segment with
        // a frame stays. That is the present segment, unless recovery found it empty.
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
        let Maker { disk, meta, spares: kept } = &self.maker;
        for extent in freed.iter().filter(|_| mutated(Mutant::KeptTooEarly)) {
            kept.keep(disk.as_ref(), extent).during("rename", &disk.path(""))?;
        }
        let change = meta.change(|description| {
            description.first_segment = first.number;
            description.first_frame = first.first_frame;
        });
        change.during("write", &disk.path(meta::NAME))?;
        for extent in freed {
            let name = segment::name(extent.number);
            if !kept.keep(disk.as_ref(), &extent).during("rename", &disk.path(&name))? {
                remove_if_there(disk.as_ref(), &name).during("remove", &disk.path(&name))?;
            }
        }
        Ok(())
    }

    /// Whether there was no space or no file descriptor for the next segment.
    pub(crate) fn is_full(&self) -> bool {
        self.preparer.shortage().is_some()
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

    /// Makes segments, so that frames of these lengths fit into the present one and those behind it. This
    /// comes before a write, so that a shortage of space or file descriptors is no failure: nothing of the
    /// write was stored.
    fn make_room(&mut self, mut lengths: &[usize]) -> Result<(), Error> {
        let mut room = self.room();
        let mut entered = 0;
        loop {
            while let [length, rest @ ..] = lengths
                && *length <= room
            {
                (room, lengths) = (room - length, rest);
            }
            if lengths.is_empty() {
                return Ok(());
            }
            if entered == self.reserved.len() {
                let path = self.maker.disk.path(&segment::name(self.last_number() + 1));
                match self.next_segment(bytes_of_segment_for(lengths)) {
                    Ok(next) => self.reserved.push_back(next),
                    Err(source) => {
                        self.order_next();
                        return Err(failure::or_failure("prepare", path, source));
                    }
                }
            }
            room = self.reserved[entered].size_bytes - FIRST_FRAME_AT;
            entered += 1;
        }
    }

    /// The bytes that frames may still take in the present segment: none if it was written in an older
    /// version of the format.
    fn room(&self) -> usize {
        if self.tail.segment.is_current { self.tail.segment.size_bytes - self.tail.offset } else { 0 }
    }

    /// Moves to a later segment if a frame of `length` bytes does not fit into the present one. `is_synced`
    /// tells whether all frames in that are durable.
    fn enter_segment_for(&mut self, length: usize, is_synced: bool) -> Result<(), Error> {
        if self.room() < length && !is_synced {
            self.sync()?;
        }
        while self.room() < length {
            let next = self.reserved.pop_front().expect("room was made for the whole write");
            self.last_segment_lasted = self.segment_began_at.elapsed();
            self.segment_began_at = Instant::now();
            let (number, size_bytes) = (next.number, next.size_bytes);
            let extent = Extent::new(number, self.tail.next);
            self.tail.extents.push_back(Extent { size_bytes, is_reusable: true, ..extent });
            self.tail.segment = next;
            self.tail.offset = FIRST_FRAME_AT;
        }
        Ok(())
    }

    fn next_segment(&mut self, least_bytes: usize) -> io::Result<Segment> {
        if let Some(shortage) = self.preparer.shortage() {
            return Err(shortage);
        }
        if let Some(prepared) = self.preparer.finish() {
            let prepared = prepared?;
            if prepared.size_bytes >= least_bytes {
                return Ok(prepared);
            }
            self.maker.take_back(prepared)?;
        }
        let size_bytes = self.next_size_bytes().max(least_bytes);
        self.maker.make(Order { size_bytes, least_bytes, ..self.next_order() }, segment::AT_ONCE)
    }

    fn next_size_bytes(&self) -> usize {
        self.tail.segment.size_bytes.saturating_mul(GROWTH).min(self.sizes.segment_bytes)
    }

    fn order_next(&mut self) {
        if self.reserved.is_empty() {
            self.preparer.order(self.next_order());
        }
    }

    fn next_order(&self) -> Order {
        Order {
            number: self.last_number() + 1,
            size_bytes: self.next_size_bytes(),
            least_bytes: MIN_SEGMENT_BYTES,
            time_budget: self.last_segment_lasted / 2,
        }
    }

    /// The number of the last segment that was made for the log, except one that is made ahead of time.
    fn last_number(&self) -> u64 {
        self.reserved.back().unwrap_or(&self.tail.segment).number
    }

    fn current_path(&self) -> std::path::PathBuf {
        self.maker.disk.path(&segment::name(self.tail.segment.number))
    }
}

/// Divides the entries of a write into those of its frames. There is at least one.
fn frames_of(entries: &[(Slot, Entry)], limit_bytes: usize) -> Vec<&[(Slot, Entry)]> {
    let mut frames = Vec::new();
    let mut rest = entries;
    loop {
        let (now, later) = rest.split_at(entries_of_one_frame(rest, limit_bytes));
        frames.push(now);
        rest = later;
        if rest.is_empty() {
            return frames;
        }
    }
}

fn frame_bytes_of(entries: &[(Slot, Entry)]) -> usize {
    frame::frame_bytes(entries.iter().map(|(_, entry)| frame::record_bytes(entry)).sum())
}

/// The least size of a segment for as many of the first frames as one can hold.
fn bytes_of_segment_for(lengths: &[usize]) -> usize {
    let together = lengths.iter().scan(FIRST_FRAME_AT, |sum, length| {
        *sum += length;
        Some(*sum)
    });
    let fitting = together.take_while(|sum| *sum <= MAX_SEGMENT_BYTES).last();
    fitting.expect("a frame is bounded far below the size of the largest segment").max(MIN_SEGMENT_BYTES)
}

/// How many of the first entries fit into a frame: at least one, if there are any.
fn entries_of_one_frame(entries: &[(Slot, Entry)], limit_bytes: usize) -> usize {
    let mut payload_bytes = 0;
    let fits = |(_, entry): &&(Slot, Entry)| {
        payload_bytes += frame::record_bytes(entry);
        payload_bytes <= limit_bytes
    };
    entries.iter().take_while(fits).count().max(1).min(entries.len())
}
