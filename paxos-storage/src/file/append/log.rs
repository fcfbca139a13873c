//! The end of the log, to which frames are appended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paxos_core::{Entry, HardState, Slot, Write};

use crate::file::append::prepare::{self, Order, Preparer};
use crate::file::disk::buffer::AlignedBuffer;
use crate::file::disk::{Disk, remove_if_there};
use crate::file::failure;
use crate::file::failure::During;
use crate::file::layout::frame::{self, Header, Link, SlotRange};
use crate::file::layout::meta::{self, Meta};
use crate::file::layout::segment::{self, Extent, FIRST_FRAME_AT, Segment};
use crate::{Error, MAX_VALUE_BYTES};

/// A segment is at most this many times as large as the one before, so that a young log needs little space.
const GROWTH: usize = 8;

/// How long a write that has begun waits for a file descriptor for its next segment, and the pause between
/// attempts.
const DESCRIPTOR_PATIENCE: Duration = Duration::from_secs(10);
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(50);

/// The sizes of the parts of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The size of a segment. One for a longer frame is larger.
    pub(crate) segment_bytes: usize,
    /// The most bytes of records in a frame, beyond which a write is split. A single record may exceed it.
    pub(crate) payload_bytes: usize,
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
    disk: Arc<dyn Disk>,
    meta: Meta,
    fingerprint: u64,
    sizes: Sizes,
    tail: Tail,
    preparer: Preparer,
    /// When the present segment was begun, and how long the one before lasted; zero if that is unknown.
    segment_began_at: Instant,
    last_segment_lasted: Duration,
    buffer: AlignedBuffer,
}

impl Log {
    pub(crate) fn new(disk: Arc<dyn Disk>, meta: Meta, sizes: Sizes, tail: Tail) -> Log {
        let (fingerprint, buffer) = (meta.identity().fingerprint(), AlignedBuffer::default());
        let (preparer, segment_began_at, last_segment_lasted) =
            (Preparer::OnDemand, Instant::now(), Duration::ZERO);
        Log { disk, meta, fingerprint, sizes, tail, preparer, segment_began_at, last_segment_lasted, buffer }
    }

    /// From now on, lets `preparer` make segments before they are needed.
    pub(crate) fn prepare_ahead(&mut self, preparer: Preparer) {
        self.preparer = preparer;
        self.order_next();
    }

    /// Appends `write`. It is durable when this returns.
    pub(crate) fn append(&mut self, write: &Write) -> Result<(), Error> {
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
        // After the sync, which would otherwise wait for the zeros of the next segment, too.
        self.order_next();
        Ok(())
    }

    /// Appends a mark, which proves that the frame before was acknowledged, unless that needs no proof.
    pub(crate) fn prove_last_write(&mut self) -> Result<(), Error> {
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

    /// Removes segments without slots above `through`.
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

    /// Whether there was no space or no file descriptor for the next segment.
    pub(crate) fn is_full(&self) -> bool {
        self.preparer.shortage().is_some()
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

    /// Moves to the next segment if a frame of `length` bytes does not fit into the present one, or if the
    /// present one was written in an older version of the format.
    ///
    /// Before the first frame of a write, a shortage of space or file descriptors is no failure: nothing of
    /// the write was stored. After it, this waits for a file descriptor, since others close files all the
    /// time; a lack of space is a failure then.
    fn make_room(&mut self, length: usize, is_first_of_write: bool) -> Result<(), Error> {
        if self.tail.segment.is_current && self.tail.offset + length <= self.tail.segment.size_bytes {
            return Ok(());
        }
        if !is_first_of_write {
            self.sync()?;
        }
        let number = self.tail.segment.number + 1;
        let asked_at = Instant::now();
        let next = loop {
            let source = match self.next_segment(length) {
                Ok(next) => break next,
                Err(source) => source,
            };
            let path = self.disk.path(&segment::name(number));
            if is_first_of_write {
                self.order_next();
                return Err(failure::or_failure("prepare", path, source));
            }
            if !failure::of_descriptors(&source) || asked_at.elapsed() >= DESCRIPTOR_PATIENCE {
                return Err(Error::Io { operation: "prepare", path, source });
            }
            std::thread::sleep(DESCRIPTOR_PAUSE);
        };
        self.last_segment_lasted = self.segment_began_at.elapsed();
        self.segment_began_at = Instant::now();
        self.tail.segment = next;
        self.tail.offset = FIRST_FRAME_AT;
        self.tail.extents.push_back(Extent { number, first_frame: self.tail.next, highest_slot: Slot::ZERO });
        Ok(())
    }

    fn next_segment(&mut self, frame_bytes: usize) -> std::io::Result<Segment> {
        if let Some(shortage) = self.preparer.shortage() {
            return Err(shortage);
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
        Order { number, size_bytes: self.next_size_bytes(), time_budget: self.last_segment_lasted / 2 }
    }

    fn current_path(&self) -> std::path::PathBuf {
        self.disk.path(&segment::name(self.tail.segment.number))
    }
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
