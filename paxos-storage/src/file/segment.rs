//! Segments: the files that frames go to, one after the other.
//!
//! A segment is written full of zeros before its first frame, so that no frame makes the file grow. Its first
//! block is its header:
//!
//! ```text
//! offset size
//!      0    8  magic "paxoswal"
//!      8    2  version, 1
//!     10    6  zero
//!     16    8  number of the segment
//!     24    8  size of the segment in bytes, a multiple of 4096
//!     32    8  fingerprint of the identity
//!     40    4  CRC32C of bytes 0 to 39
//!     44       zero up to 4096, where the first frame begins
//! ```

use std::io;

use bytes::{Buf, BufMut};

use super::MAX_SEGMENT_BYTES;
use super::buffer::{AlignedBuffer, BLOCK_BYTES};
use super::disk::{Access, Disk, DiskFile};
use super::frame::VERSION;

const MAGIC: &[u8; 8] = b"paxoswal";
const CHECKSUM_AT: usize = 40;
const HEADER_BYTES: usize = 44;
const PREFIX: &str = "wal-";
const NEW_SUFFIX: &str = ".new";
/// Zeros are written in pieces of at most this size: whoever syncs a frame meanwhile waits for the piece before, too.
pub(super) const MAX_PIECE_BYTES: usize = 256 << 10;

/// For [`create`] if nobody else has to write meanwhile.
pub(super) const AT_ONCE: fn() -> Option<usize> = || Some(MAX_PIECE_BYTES);

/// Where the first frame of a segment begins.
pub(super) const FIRST_FRAME_AT: usize = BLOCK_BYTES;

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) size_bytes: usize,
    pub(super) file: Box<dyn DiskFile>,
}

/// What a segment's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub(super) version: u16,
    pub(super) number: u64,
    pub(super) size_bytes: usize,
    pub(super) fingerprint: u64,
}

/// The name of the file of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{PREFIX}{number:012}")
}

/// The number of the segment whose file has this name.
pub(super) fn number_of(file_name: &str) -> Option<u64> {
    let number = file_name.strip_prefix(PREFIX)?.parse().ok()?;
    (name(number) == file_name).then_some(number)
}

/// Whether this is the name of a segment that was never finished.
pub(super) fn is_unfinished(file_name: &str) -> bool {
    file_name.strip_suffix(NEW_SUFFIX).is_some_and(|name| number_of(name).is_some())
}

/// Makes an empty segment, in place of one of the same number. It is stable, name and all, when this returns.
///
/// `next_piece` is asked how many zeros to write next; once it says none, the segment is given up with an error. After
/// an error what was made of it is removed, so that a full disk is not kept full by it.
pub(super) fn create(
    disk: &dyn Disk,
    number: u64,
    size_bytes: usize,
    fingerprint: u64,
    next_piece: impl FnMut() -> Option<usize>,
) -> io::Result<Segment> {
    let result = fill(disk, number, size_bytes, fingerprint, next_piece);
    if result.is_err() {
        drop(disk.remove(&format!("{}{NEW_SUFFIX}", name(number)))); // Else the next recovery removes it.
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
    Ok(Segment { number, size_bytes, file })
}

/// Writes zeros from `offset` to the end, and makes them stable.
pub(super) fn clear_from(segment: &Segment, mut offset: usize) -> io::Result<()> {
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

/// Reads the header at the beginning of `bytes`, if there is a whole one, of whatever version.
pub(super) fn decode_header(bytes: &[u8]) -> Option<SegmentHeader> {
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
    // No more than that is ever made, so no more memory is taken to read it.
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
