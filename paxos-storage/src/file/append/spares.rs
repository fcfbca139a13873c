//! Files of old segments that are kept to be used again.
//!
//! A segment that a snapshot covers is not removed but becomes a spare, and a spare becomes the next segment
//! without being filled with zeros: see [`segment`]. Only files of the configured size are kept, and only so
//! many. They are the first to go if there is no space for anything else.

use std::io;
use std::sync::{Arc, Mutex};

use crate::Error;
use crate::file::append::log::Sizes;
use crate::file::disk::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::file::disk::{Access, Disk, is_bad_medium, remove_if_there};
use crate::file::failure::{self, During};
use crate::file::layout::frame::VERSION;
use crate::file::layout::meta::Meta;
use crate::file::layout::segment::{self, Extent, SegmentHeader};
use crate::lock::lock;

/// How many spares are kept at most. Without spares the log would be as long just before a snapshot frees
/// segments, so this is space that it needs anyway. A node makes a snapshot when the log has grown by about
/// one segment, or by as much as its state if that is larger, and so frees one or several at once.
pub(crate) const MAX_SPARES: usize = 4;

/// The spares of a directory, which the log and the thread that makes segments share.
#[derive(Clone, Debug)]
pub(crate) struct Spares {
    limit: usize,
    /// The size of each spare.
    segment_bytes: usize,
    /// The numbers that they had as segments.
    numbers: Arc<Mutex<Vec<u64>>>,
}

impl Spares {
    /// Adopts the spares that an earlier process has left, and removes those that can't be used.
    pub(crate) fn find(disk: &dyn Disk, meta: &Meta, sizes: Sizes) -> Result<Spares, Error> {
        let first_segment = meta.description().first_segment;
        let mut numbers = Vec::new();
        for name in disk.list().during("list", &disk.path(""))? {
            let Some(number) = segment::number_of_spare(&name) else { continue };
            let path = disk.path(&name);
            // A later one was brought here from another state of the directory.
            let can_be_kept = number < first_segment && numbers.len() < sizes.spares;
            let fingerprint = meta.identity().fingerprint();
            if can_be_kept && is_whole(disk, &name, fingerprint, sizes.segment_bytes).during("read", &path)? {
                numbers.push(number);
            } else {
                disk.remove(&name).during("remove", &path)?;
            }
        }
        let numbers = Arc::new(Mutex::new(numbers));
        Ok(Spares { limit: sizes.spares, segment_bytes: sizes.segment_bytes, numbers })
    }

    /// Keeps the file of a segment that is no longer part of the log. Returns `false` if it is not fit for
    /// use, or if enough are kept.
    pub(crate) fn keep(&self, disk: &dyn Disk, extent: &Extent) -> io::Result<bool> {
        let mut numbers = lock(&self.numbers);
        let is_fit = extent.is_reusable && extent.size_bytes == self.segment_bytes;
        if !is_fit || numbers.len() >= self.limit {
            return Ok(false);
        }
        match disk.rename(&segment::name(extent.number), &segment::spare_name(extent.number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            renamed => renamed?,
        }
        numbers.push(extent.number);
        Ok(true)
    }

    /// Makes a spare the segment of this number, if there is one of at least this size.
    pub(crate) fn reuse(
        &self,
        disk: &dyn Disk,
        number: u64,
        least_bytes: usize,
        fingerprint: u64,
    ) -> io::Result<Option<segment::Segment>> {
        if least_bytes > self.segment_bytes {
            return Ok(None);
        }
        let Some(old) = lock(&self.numbers).pop() else { return Ok(None) };
        let name = segment::spare_name(old);
        match segment::reuse(disk, &name, number, self.segment_bytes, fingerprint) {
            Ok(segment) => Ok(Some(segment)),
            Err(error) if failure::of_descriptors(&error) => {
                lock(&self.numbers).push(old); // It was not even opened.
                Err(error)
            }
            Err(error) => {
                drop(disk.remove(&name)); // Else the next start would meet the same error.
                if failure::of_space(&error) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Removes all spares, for want of space. Returns whether there was one.
    pub(crate) fn give_up(&self, disk: &dyn Disk) -> bool {
        let given_up = std::mem::take(&mut *lock(&self.numbers));
        let removed = |number: &u64| remove_if_there(disk, &segment::spare_name(*number)).is_ok();
        given_up.iter().filter(|number| removed(number)).count() > 0
    }
}

/// Whether a spare belongs to this storage and is of this size.
fn is_whole(disk: &dyn Disk, name: &str, fingerprint: u64, size_bytes: usize) -> io::Result<bool> {
    let file = disk.open(name, Access::Direct)?;
    let mut buffer = AlignedBuffer::default();
    match file.read_at(buffer.resize_zeroed(BLOCK_BYTES), 0) {
        Err(error) if is_bad_medium(&error) => return Ok(false),
        read => read?,
    }
    let is_ours = |header: SegmentHeader| {
        (header.version, header.fingerprint, header.size_bytes) == (VERSION, fingerprint, size_bytes)
    };
    let has_header = segment::decode_header(buffer.as_slice()).is_some_and(is_ours);
    Ok(has_header && file.size_bytes()? == size_bytes as u64)
}
