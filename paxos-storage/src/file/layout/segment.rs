//! Segments: the files of the log, each with a part of its frames.
//!
//! No frame makes the file of its segment grow: a new file is filled with zeros before its first frame. An
//! old one is used again, so that most bytes reach the disk once: when a snapshot covers a segment, its file
//! can be kept as a *spare*, and become a later segment by another header and name. Behind the last frame of
//! a segment there are zeros, or what is left of earlier uses of its file.
//!
//! The first block is the header:
//!
//! ```text
//! offset size
//!      0    8  magic "paxoswal"
//!      8    2  version of the segment and of all its frames, 3
//!     10    6  zero
//!     16    8  number of the segment
//!     24    8  size of the segment in bytes, a multiple of 4096
//!     32    8  fingerprint of the identity
//!     40    4  CRC32C of bytes 0 to 39
//!     44       zero up to 4096, where the first frame begins
//! ```
//!
//! The headers of versions 1 and 2, which are still read, differ in the number of the version alone. Such a
//! segment is not used again, and holds zeros behind its frames.
//!
//! # What is left of earlier uses
//!
//! It never looks like a part of the log, because:
//! - numbers of segments only grow, and a file is kept as a spare once the log, as META describes it, begins
//!   behind it. So all frames in it name segments before the first one of the log, now and later
//!   ([`is_stale`]). A file whose number the log may use again, because recovery has cut it off with the
//!   tail, is removed and not kept, and so is one in which recovery has found anything else;
//! - of a frame only the first block begins with the magic of frames, and that block holds all of its header
//!   (see [`frame`]). So of a frame that was overwritten in part there is its header, with its number, or
//!   nothing that looks like a header, whatever its values hold;
//! - the header is durable before the file gets its new name, and the name before META says that the segment
//!   belongs to the log. After a crash in between, the file is a spare with the header of a later segment,
//!   which is as good, or a segment that META does not know, which recovery removes.
//!
//! A segment never holds frames of two versions: behind the frames of an older version the log continues in a
//! new segment, which an older program refuses to read. If it took the new frames for the torn end of its
//! own, it would cut them off, although they were acknowledged.

use std::io;

use bytes::{Buf, BufMut};
use paxos_core::Slot;

use crate::file::disk::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::file::disk::{Access, Disk, DiskFile};
use crate::file::layout::frame::{self, Link, VERSION};
use crate::file::mutant::{Mutant, mutated};

/// Smaller segments would consist mostly of headers.
pub(crate) const MIN_SEGMENT_BYTES: usize = 64 << 10;
/// Recovery reads a whole segment into memory, so larger ones would only cost memory.
pub(crate) const MAX_SEGMENT_BYTES: usize = 1 << 30;

const MAGIC: &[u8; 8] = b"paxoswal";
const CHECKSUM_AT: usize = 40;
const HEADER_BYTES: usize = 44;
const PREFIX: &str = "wal-";
const NEW_SUFFIX: &str = ".new";
const SPARE_SUFFIX: &str = ".spare";
/// From this version on, a segment may hold what is left of earlier uses of its file.
const VERSION_OF_REUSE: u16 = 3;
/// Zeros are written in pieces of at most this size, because a sync of a frame waits for the piece before it,
/// too.
pub(crate) const MAX_PIECE_BYTES: usize = 256 << 10;

/// For [`create`]: without pauses, as no frames are written meanwhile.
pub(crate) const AT_ONCE: fn() -> Option<usize> = || Some(MAX_PIECE_BYTES);

/// The offset of a segment's first frame.
pub(crate) const FIRST_FRAME_AT: usize = BLOCK_BYTES;

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) size_bytes: usize,
    /// Whether its frames are of the present version, so that more can be appended.
    pub(crate) is_current: bool,
    pub(crate) file: Box<dyn DiskFile>,
}

/// What decides whether a segment can be removed or used again, and what META needs to know then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) number: u64,
    /// The place of its first frame in the chain of frames.
    pub(crate) first_frame: Link,
    /// The highest slot in its frames.
    pub(crate) highest_slot: Slot,
    pub(crate) size_bytes: usize,
    /// Whether it is of the present version, and nothing in it is damaged as far as is known.
    pub(crate) is_reusable: bool,
}

impl Extent {
    /// The extent of a segment of which nothing is known yet.
    pub(crate) fn new(number: u64, first_frame: Link) -> Extent {
        Extent { number, first_frame, highest_slot: Slot::ZERO, size_bytes: 0, is_reusable: false }
    }
}

/// The fields of a segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) version: u16,
    pub(crate) number: u64,
    pub(crate) size_bytes: usize,
    pub(crate) fingerprint: u64,
}

/// The file name of a segment.
pub(crate) fn name(number: u64) -> String {
    format!("{PREFIX}{number:012}")
}

/// The number of the segment with this file name.
pub(crate) fn number_of(file_name: &str) -> Option<u64> {
    let number = file_name.strip_prefix(PREFIX)?.parse().ok()?;
    (name(number) == file_name).then_some(number)
}

/// Whether this is the file name of an unfinished segment.
pub(crate) fn is_unfinished(file_name: &str) -> bool {
    file_name.strip_suffix(NEW_SUFFIX).is_some_and(|name| number_of(name).is_some())
}

/// The file name of what was the segment of this number, and is kept to be used again.
pub(crate) fn spare_name(number: u64) -> String {
    format!("{}{SPARE_SUFFIX}", name(number))
}

/// The number that the spare with this file name had as a segment.
pub(crate) fn number_of_spare(file_name: &str) -> Option<u64> {
    number_of(file_name.strip_suffix(SPARE_SUFFIX)?)
}

/// Whether a block that does not continue the log was full of zeros when the segment was made, or is left of
/// an earlier use of the file, and so is not a part of a frame of this segment, not even of a damaged one.
///
/// `version` is that of the segment, if its header is readable. The frames of an earlier use name a segment
/// before `first_segment` of the log.
pub(crate) fn is_stale(block: &[u8], version: Option<u16>, fingerprint: u64, first_segment: u64) -> bool {
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let is_left = match frame::decode_header(block) {
        Some(read) => read.header.fingerprint == fingerprint && read.header.segment < first_segment,
        None => !frame::begins(block),
    };
    is_left && version.is_none_or(|version| version >= VERSION_OF_REUSE)
}

/// Makes a spare the segment of this number, and replaces one of the same number. File and name are durable
/// when this returns. After an error, the file is still the spare or already the segment.
pub(crate) fn reuse(
    disk: &dyn Disk,
    spare: &str,
    number: u64,
    size_bytes: usize,
    fingerprint: u64,
) -> io::Result<Segment> {
    let file = disk.open(spare, Access::Direct)?;
    let mut buffer = AlignedBuffer::default();
    put_header(&mut buffer, SegmentHeader { version: VERSION, number, size_bytes, fingerprint });
    file.write_at(buffer.as_slice(), 0)?;
    if !mutated(Mutant::HeaderNotSynced) {
        file.sync()?;
    }
    disk.rename(spare, &name(number))?;
    if !mutated(Mutant::NameNotSynced) {
        disk.sync_directory()?;
    }
    Ok(Segment { number, size_bytes, is_current: true, file })
}

/// Creates an empty segment, and replaces one of the same number. File and name are durable when this
/// returns.
///
/// `next_piece` returns how many zeros to write next, or `None` to give the segment up with an error. After
/// an error the unfinished file is removed, so that it does not fill the disk.
pub(crate) fn create(
    disk: &dyn Disk,
    number: u64,
    size_bytes: usize,
    fingerprint: u64,
    next_piece: impl FnMut() -> Option<usize>,
) -> io::Result<Segment> {
    let result = fill(disk, number, size_bytes, fingerprint, next_piece);
    if result.is_err() {
        drop(disk.remove(&format!("{}{NEW_SUFFIX}", name(number)))); // If this fails, the next recovery removes it.
    }
    result
}

fn fill(
    disk: &dyn Disk,
    number: u64,
    size_bytes: usize,
    fingerprint: u64,
    mut next_piece: impl FnMut() -> Option<usize>,
) -> io::Result<Segment> {
    assert!(
        size_bytes.is_multiple_of(BLOCK_BYTES) && size_bytes > FIRST_FRAME_AT,
        "a segment is whole blocks"
    );
    let final_name = name(number);
    let new_name = format!("{final_name}{NEW_SUFFIX}");
    let file = disk.create(&new_name, Access::Direct)?;
    let mut buffer = AlignedBuffer::with_capacity(MAX_PIECE_BYTES);
    let zeros = buffer.resize_zeroed(MAX_PIECE_BYTES);
    let mut offset = 0;
    while offset < size_bytes {
        let Some(piece_bytes) = next_piece() else {
            return Err(io::Error::other("the segment is no longer wanted"));
        };
        let length = piece_bytes.min(zeros.len()).min(size_bytes - offset);
        file.write_at(&zeros[..length], offset as u64)?;
        offset += length;
    }
    put_header(&mut buffer, SegmentHeader { version: VERSION, number, size_bytes, fingerprint });
    file.write_at(buffer.as_slice(), 0)?;
    file.sync()?;
    disk.rename(&new_name, &final_name)?;
    disk.sync_directory()?;
    Ok(Segment { number, size_bytes, is_current: true, file })
}

/// Overwrites a segment with zeros from `offset` on, and syncs it.
pub(crate) fn clear_from(segment: &Segment, mut offset: usize) -> io::Result<()> {
    let mut buffer = AlignedBuffer::with_capacity(MAX_PIECE_BYTES);
    let zeros = buffer.resize_zeroed(MAX_PIECE_BYTES);
    while offset < segment.size_bytes {
        let length = zeros.len().min(segment.size_bytes - offset);
        segment.file.write_at(&zeros[..length], offset as u64)?;
        offset += length;
    }
    segment.file.sync()
}

fn put_header(buffer: &mut AlignedBuffer, header: SegmentHeader) {
    let block = buffer.resize_zeroed(BLOCK_BYTES);
    let mut rest = &mut block[..CHECKSUM_AT];
    rest.put_slice(MAGIC);
    rest.put_u16_le(header.version);
    rest.put_bytes(0, 6);
    rest.put_u64_le(header.number);
    rest.put_u64_le(header.size_bytes as u64);
    rest.put_u64_le(header.fingerprint);
    let checksum = crc32c::crc32c(&block[..CHECKSUM_AT]);
    block[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads the header at the start of `bytes`, of any version, if its checksum is right.
pub(crate) fn decode_header(bytes: &[u8]) -> Option<SegmentHeader> {
    let head = bytes.get(..HEADER_BYTES)?;
    let checksum = (&head[CHECKSUM_AT..]).get_u32_le();
    if !head.starts_with(MAGIC) || crc32c::crc32c(&head[..CHECKSUM_AT]) != checksum {
        return None;
    }
    let mut rest = &head[MAGIC.len()..];
    let version = rest.get_u16_le();
    rest.advance(6);
    let number = rest.get_u64_le();
    let size_bytes = usize::try_from(rest.get_u64_le()).ok()?;
    let fingerprint = rest.get_u64_le();
    // Bounds the memory for reading the segment.
    let is_possible = size_bytes > FIRST_FRAME_AT && size_bytes <= MAX_SEGMENT_BYTES;
    (is_possible && size_bytes.is_multiple_of(BLOCK_BYTES)).then_some(SegmentHeader {
        version,
        number,
        size_bytes,
        fingerprint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_no_others() {
        assert_eq!(number_of(&name(17)), Some(17));
        assert_eq!(number_of("wal-17"), None, "not as this program writes it");
        assert!(is_unfinished(&format!("{}.new", name(17))) && !is_unfinished(&name(17)));
        assert_eq!(number_of_spare(&spare_name(17)), Some(17));
        assert_eq!((number_of_spare(&name(17)), number_of(&spare_name(17))), (None, None));
        assert!(!is_unfinished(&spare_name(17)));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let header = SegmentHeader { version: VERSION, number: 3, size_bytes: 1 << 20, fingerprint: 5 };
        let mut buffer = AlignedBuffer::default();
        put_header(&mut buffer, header);
        assert_eq!(decode_header(buffer.as_slice()), Some(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = buffer.as_slice().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&flipped), None, "bit {bit}");
        }
    }
}
