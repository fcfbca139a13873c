//! Frames: the units in which writes are appended to the log.
//!
//! All numbers are little-endian. A frame begins at a multiple of 4096 and is padded with zeros to one:
//!
//! ```text
//! offset size
//!      0    4  magic "pxfr"
//!      4    2  version, 3
//!      6    1  kind: 1 records, 2 mark
//!      7    1  flags: bit 0 set in the last frame of a write
//!      8    2  group, 0: the number, within this log, of the records' group; 0 is that of META
//!     10    2  mask: how blocks are changed that would look like a frame
//!     12    4  length of the payload in bytes
//!     16    8  number of the segment
//!     24    8  sequence number of the frame: one more than that of the frame before
//!     32    8  sequence number of the first frame of the same write
//!     40    8  fingerprint of the identity
//!     48   16  hard state: promised ballot, round and node
//!     64    8  hard state: chosen
//!     72   16  lowest and highest slot in this frame, 0 if there is none
//!     88   16  lowest and highest slot in the frame before, 0 if there is none
//!    104    4  count of records
//!    108    4  chain: checksum of the header of the frame before
//!    112    4  CRC32C of the payload
//!    116    8  highest slot in any frame before: what damage can have cost at most
//!    124    4  CRC32C of bytes 0 to 123: the checksum of the header
//!    128       payload: records one after the other
//!
//! a record
//!      0    8  slot
//!      8    1  kind: 1 accepted, 2 chosen
//!      9    1  kind of the value: its `ValueKind::number`
//!     10    2  zero
//!     12    4  length of the value in bytes
//!     16   16  ballot, round and node; zero if chosen
//!     32    8  time that the leader has given the value; zero if it has none
//!     40       value
//! ```
//!
//! The length of a frame is that of header and payload, rounded up to a multiple of 4096.
//!
//! Of a frame only its first block begins with the magic: if a later one would, the payload is changed by a
//! [`mask`](super::mask).
//!
//! Versions 1 and 2 are still read. Version 2 has no mask: its group takes four bytes. Version 1, the oldest,
//! has the length of the frame in place of the group, and its records have neither the kind of the value
//! (they hold commands only) nor room for a time: the value follows at byte 32. A program from before there
//! were times refuses a value that has one, though the version is the same: it takes it for something
//! unknown.
//!
//! What is zero here may be in use in a later version. A frame with right checksums that holds anything else
//! is not damaged, and it must not be taken for a torn one: [`DecodeError::UnknownContent`].
//!
//! A write is one frame, or several if it is long, and only the sync after its last frame acknowledges it. So
//! a frame proves that all frames *of earlier writes* were acknowledged, and proves nothing about those of
//! its own.

use std::borrow::Cow;

use bytes::{Buf, BufMut};
use paxos_core::{Entry, HardState, Slot};

use crate::codec::entry::{entry_bytes, put_entry, take_entry, take_entry_of_commands_alone};
use crate::codec::{DecodeError, put_hard_state, take_hard_state};
use crate::file::disk::buffer::{AlignedBuffer, BLOCK_BYTES, round_up};
use crate::file::layout::mask::{apply_mask, mask_for};
use crate::file::layout::segment::MAX_SEGMENT_BYTES;

/// The version in which frames and segments are written.
pub(crate) const VERSION: u16 = 3;
/// The version without masks: a block within a frame may begin with the magic.
const VERSION_WITHOUT_MASKS: u16 = 2;
/// The version that knows commands only. No older one is read.
pub(crate) const VERSION_OF_COMMANDS_ALONE: u16 = 1;

/// The only group so far.
const GROUP: u16 = 0;
pub(crate) const MAGIC: &[u8; 4] = b"pxfr";
pub(crate) const HEADER_BYTES: usize = 128;
const CHECKSUM_AT: usize = 124;
const MASK_AT: usize = 10;
const KIND_RECORDS: u8 = 1;
const KIND_MARK: u8 = 2;
const FLAG_LAST: u8 = 1;

/// The place of a frame in the chain of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    /// The frame's sequence number.
    pub(crate) sequence: u64,
    /// The checksum of the header of the frame before.
    pub(crate) chain: u32,
}

/// The lowest and highest slot in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotRange {
    first: Slot,
    last: Slot,
}

/// The fields of a frame's header, except those that follow from the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) link: Link,
    pub(crate) segment: u64,
    pub(crate) first_of_write: u64,
    pub(crate) is_last_of_write: bool,
    pub(crate) is_mark: bool,
    pub(crate) fingerprint: u64,
    pub(crate) hard_state: HardState,
    pub(crate) previous_slots: SlotRange,
    pub(crate) earlier_highest_slot: Slot,
}

/// A header that was read and has a right checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReadHeader {
    pub(crate) version: u16,
    group: u32,
    pub(crate) mask: u16,
    pub(crate) header: Header,
    pub(crate) slots: SlotRange,
    /// The length of the whole frame.
    pub(crate) length_bytes: usize,
    /// The `chain` of the next frame.
    pub(crate) checksum: u32,
    pub(crate) payload_bytes: usize,
    payload_checksum: u32,
    pub(crate) record_count: u32,
}

/// Whether a block begins like the first one of a frame.
pub(crate) fn begins(block: &[u8]) -> bool {
    block.starts_with(MAGIC)
}

/// Whether frames and segments of this version are read.
pub(crate) fn is_known(version: u16) -> bool {
    (VERSION_OF_COMMANDS_ALONE..=VERSION).contains(&version)
}

impl SlotRange {
    pub(crate) const NONE: SlotRange = SlotRange { first: Slot::ZERO, last: Slot::ZERO };

    pub(crate) fn of(entries: &[(Slot, Entry)]) -> SlotRange {
        let slots = || entries.iter().map(|(slot, _)| *slot);
        match (slots().min(), slots().max()) {
            (Some(first), Some(last)) => SlotRange { first, last },
            _ => SlotRange::NONE,
        }
    }

    /// The highest slot; zero if the range is empty.
    pub(crate) fn last(self) -> Slot {
        self.last
    }

    pub(crate) fn bounds(self) -> Option<(Slot, Slot)> {
        (self != SlotRange::NONE).then_some((self.first, self.last))
    }
}

/// The length of the record of `entry` in the present version.
pub(crate) fn record_bytes(entry: &Entry) -> usize {
    size_of::<u64>() + entry_bytes(entry)
}

/// The length of a frame with `payload_bytes` of records.
pub(crate) const fn frame_bytes(payload_bytes: usize) -> usize {
    round_up(HEADER_BYTES + payload_bytes)
}

/// Encodes a frame into `buffer`, and returns the checksum of its header.
pub(crate) fn encode(buffer: &mut AlignedBuffer, header: &Header, entries: &[(Slot, Entry)]) -> u32 {
    let payload_bytes = entries.iter().map(|(_, entry)| record_bytes(entry)).sum();
    let length_bytes = frame_bytes(payload_bytes);
    // To clear a frame of hundreds of commands first took longer than to compute its checksum.
    let (head, body) = buffer.resize(length_bytes).split_at_mut(HEADER_BYTES);
    let (payload, padding) = body.split_at_mut(payload_bytes);
    put_records(payload, entries);
    padding.fill(0);
    let mask = mask_for(payload);
    apply_mask(payload, mask);

    let mut rest = &mut head[..CHECKSUM_AT];
    rest.put_slice(MAGIC);
    rest.put_u16_le(VERSION);
    rest.put_u8(if header.is_mark { KIND_MARK } else { KIND_RECORDS });
    rest.put_u8(if header.is_last_of_write { FLAG_LAST } else { 0 });
    rest.put_u16_le(GROUP);
    rest.put_u16_le(mask);
    rest.put_u32_le(small(payload_bytes));
    rest.put_u64_le(header.segment);
    rest.put_u64_le(header.link.sequence);
    rest.put_u64_le(header.first_of_write);
    rest.put_u64_le(header.fingerprint);
    put_hard_state(&mut rest, header.hard_state);
    for range in [SlotRange::of(entries), header.previous_slots] {
        rest.put_u64_le(range.first.0);
        rest.put_u64_le(range.last.0);
    }
    rest.put_u32_le(small(entries.len()));
    rest.put_u32_le(header.link.chain);
    rest.put_u32_le(crc32c::crc32c(payload));
    rest.put_u64_le(header.earlier_highest_slot.0);
    assert!(rest.is_empty(), "every byte of a header is written");
    let checksum = crc32c::crc32c(&head[..CHECKSUM_AT]);
    head[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

fn put_records(mut payload: &mut [u8], entries: &[(Slot, Entry)]) {
    for (slot, entry) in entries {
        payload.put_u64_le(slot.0);
        put_entry(&mut payload, entry);
    }
    assert!(payload.is_empty(), "records take as many bytes as they say");
}

fn small(length: usize) -> u32 {
    u32::try_from(length).expect("a frame is bounded far below 4 GiB")
}

/// Reads the header at the start of `bytes`, of any known version, if its checksum is right.
pub(crate) fn decode_header(bytes: &[u8]) -> Option<ReadHeader> {
    let head = bytes.get(..HEADER_BYTES)?;
    let checksum = (&head[CHECKSUM_AT..]).get_u32_le();
    if !head.starts_with(MAGIC) || crc32c::crc32c(&head[..CHECKSUM_AT]) != checksum {
        return None;
    }
    let mut rest = &head[MAGIC.len()..];
    let version = rest.get_u16_le();
    let kind = rest.get_u8();
    let flags = rest.get_u8();
    let group_or_length = rest.get_u32_le();
    let payload_bytes = rest.get_u32_le() as usize;
    let segment = rest.get_u64_le();
    let sequence = rest.get_u64_le();
    let first_of_write = rest.get_u64_le();
    let fingerprint = rest.get_u64_le();
    let hard_state = take_hard_state(&mut rest);
    let slots = SlotRange { first: Slot(rest.get_u64_le()), last: Slot(rest.get_u64_le()) };
    let previous_slots = SlotRange { first: Slot(rest.get_u64_le()), last: Slot(rest.get_u64_le()) };
    let record_count = rest.get_u32_le();
    let chain = rest.get_u32_le();
    let payload_checksum = rest.get_u32_le();
    let earlier_highest_slot = Slot(rest.get_u64_le());
    if !is_known(version) || payload_bytes > MAX_SEGMENT_BYTES {
        return None;
    }
    let (group, mask, length_bytes) = match version {
        VERSION_OF_COMMANDS_ALONE => (u32::from(GROUP), 0, group_or_length as usize),
        VERSION_WITHOUT_MASKS => (group_or_length, 0, frame_bytes(payload_bytes)),
        _ => {
            let mask = (&head[MASK_AT..]).get_u16_le();
            (group_or_length & u32::from(u16::MAX), mask, frame_bytes(payload_bytes))
        }
    };
    let is_sound = matches!(kind, KIND_RECORDS | KIND_MARK) && flags & !FLAG_LAST == 0;
    let room = length_bytes.checked_sub(HEADER_BYTES);
    let fits = length_bytes.is_multiple_of(BLOCK_BYTES) && room.is_some_and(|room| payload_bytes <= room);
    let header = Header {
        link: Link { sequence, chain },
        segment,
        first_of_write,
        is_last_of_write: flags & FLAG_LAST != 0,
        is_mark: kind == KIND_MARK,
        fingerprint,
        hard_state,
        previous_slots,
        earlier_highest_slot,
    };
    (is_sound && fits && first_of_write <= sequence).then_some(ReadHeader {
        version,
        group,
        mask,
        header,
        slots,
        length_bytes,
        checksum,
        payload_bytes,
        payload_checksum,
        record_count,
    })
}

/// Reads the entries of the frame at the start of `bytes`. Copies the values.
///
/// # Errors
///
/// [`DecodeError`]
pub(crate) fn decode_entries(read: &ReadHeader, bytes: &[u8]) -> Result<Vec<(Slot, Entry)>, DecodeError> {
    let payload = bytes.get(..read.length_bytes).and_then(|frame| frame.get(HEADER_BYTES..));
    let payload =
        payload.and_then(|payload| payload.get(..read.payload_bytes)).ok_or(DecodeError::Damaged)?;
    if crc32c::crc32c(payload) != read.payload_checksum {
        return Err(DecodeError::Damaged);
    }
    if read.group != u32::from(GROUP) {
        return Err(DecodeError::UnknownContent("data of another group"));
    }
    let mut shown = Cow::Borrowed(payload);
    if read.mask != 0 {
        apply_mask(shown.to_mut(), read.mask);
    }
    let mut payload = &shown[..];
    let mut entries = Vec::new();
    while payload.has_remaining() {
        entries.push(take_record(read.version, &mut payload)?);
    }
    let is_as_told = entries.len() == read.record_count as usize && SlotRange::of(&entries) == read.slots;
    if is_as_told { Ok(entries) } else { Err(DecodeError::UnknownContent("other records than it names")) }
}

/// Reads a record from a payload whose checksum is right.
fn take_record(version: u16, payload: &mut &[u8]) -> Result<(Slot, Entry), DecodeError> {
    let slot = payload.try_get_u64_le().map_err(|_| DecodeError::UnknownContent("a record cut short"))?;
    let entry = match version {
        VERSION_OF_COMMANDS_ALONE => take_entry_of_commands_alone(payload)?,
        _ => take_entry(payload)?,
    };
    Ok((Slot(slot), entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use paxos_core::{Ballot, Epoch, FormatLevel, Membership, NodeId, Time, Value};
    use proptest::prelude::*;

    /// The length of a record without its value.
    const RECORD_HEADER_BYTES: usize = 40;

    fn header() -> Header {
        Header {
            link: Link { sequence: 7, chain: 8 },
            segment: 2,
            first_of_write: 6,
            is_last_of_write: true,
            is_mark: false,
            fingerprint: 9,
            hard_state: HardState { promised: Ballot { round: 3, node: NodeId(1) }, chosen: Slot(4) },
            previous_slots: SlotRange { first: Slot(1), last: Slot(2) },
            earlier_highest_slot: Slot(5),
        }
    }

    fn membership(epoch: u64) -> Membership {
        Membership::new(&[1, 2, 3].map(NodeId)).expect("these members fit").in_epoch(Epoch(epoch))
    }

    fn entries(values: &[Vec<u8>]) -> Vec<(Slot, Entry)> {
        let ballot = Ballot { round: 3, node: NodeId(1) };
        let entry = |(index, bytes): (u64, &Vec<u8>)| {
            let value = match bytes.len() % 5 {
                0 => Value::membership(&membership(index + 1)),
                _ => Value::batch(&[Bytes::from(bytes.clone())]).at(Time(u64::MAX * (index % 2))),
            };
            let entry =
                if index % 2 == 0 { Entry::Chosen { value } } else { Entry::Accepted { ballot, value } };
            (Slot(10 + index), entry)
        };
        (0..).zip(values).map(entry).collect()
    }

    proptest! {
        #[test]
        fn what_is_laid_out_is_read_back(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..8)
        ) {
            let entries = entries(&values);
            let mut buffer = AlignedBuffer::default();
            let checksum = encode(&mut buffer, &header(), &entries);
            let read = decode_header(buffer.as_slice()).expect("the header is whole");
            prop_assert_eq!(read.header, header());
            prop_assert_eq!((read.checksum, read.length_bytes), (checksum, buffer.as_slice().len()));
            prop_assert_eq!(decode_entries(&read, buffer.as_slice()), Ok(entries));
        }

        #[test]
        fn nothing_of_an_earlier_frame_is_left_in_a_buffer(
            earlier in prop::collection::vec(prop::collection::vec(1..u8::MAX, 0..3000), 0..8),
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..4)
        ) {
            let (mut used, mut new) = (AlignedBuffer::default(), AlignedBuffer::default());
            encode(&mut used, &header(), &entries(&earlier));
            encode(&mut used, &header(), &entries(&values));
            encode(&mut new, &header(), &entries(&values));
            prop_assert_eq!(used.as_slice(), new.as_slice());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>, payload: Vec<u8>) {
            prop_assert_eq!(decode_header(&bytes), None);
            for version in VERSION_OF_COMMANDS_ALONE..=VERSION {
                drop(take_record(version, &mut &payload[..]));
            }
        }
    }

    #[test]
    fn every_flipped_bit_outside_of_the_padding_is_seen() {
        let mut buffer = AlignedBuffer::default();
        let entries = entries(&[vec![1; 40], vec![2; 50]]);
        encode(&mut buffer, &header(), &entries);
        let whole = buffer.as_slice().to_vec();
        let used = HEADER_BYTES + entries.iter().map(|(_, entry)| record_bytes(entry)).sum::<usize>();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = decode_header(&flipped).and_then(|read| decode_entries(&read, &flipped).ok());
            assert_eq!(read.is_some(), bit / 8 >= used, "bit {bit}");
        }
    }

    /// A frame with this byte in place of another, and with right checksums.
    fn forged(at: usize, byte: u8) -> Result<Vec<(Slot, Entry)>, DecodeError> {
        let mut buffer = AlignedBuffer::default();
        encode(&mut buffer, &header(), &entries(&[vec![1; 41]]));
        let mut bytes = buffer.as_slice().to_vec();
        bytes[at] = byte;
        let payload_bytes = (&bytes[12..]).get_u32_le() as usize;
        let sum = crc32c::crc32c(&bytes[HEADER_BYTES..HEADER_BYTES + payload_bytes]);
        bytes[112..116].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        decode_entries(&decode_header(&bytes).expect("the header is whole"), &bytes)
    }

    #[test]
    fn what_a_later_version_may_write_is_told_from_damage() {
        for (at, byte, content) in [
            (8, 1, "data of another group"),
            (HEADER_BYTES + 8, 3, "a record of an unknown kind"),
            (HEADER_BYTES + 9, 200, "a value of an unknown kind"),
            (HEADER_BYTES + 9, 1, "a value with an unknown layout"),
            (HEADER_BYTES + 10, 1, "a record with unknown fields"),
            (104, 2, "other records than it names"),
        ] {
            assert_eq!(forged(at, byte), Err(DecodeError::UnknownContent(content)), "byte {at}");
        }
        assert!(forged(0, MAGIC[0]).is_ok(), "nothing is changed");
    }

    #[test]
    fn a_membership_of_an_unknown_level_is_told_with_the_level() {
        let mut buffer = AlignedBuffer::default();
        let entry = Entry::Chosen { value: Value::membership(&membership(1)) };
        encode(&mut buffer, &header(), &[(Slot(1), entry)]);
        let mut record = buffer.as_slice()[HEADER_BYTES..].to_vec();
        assert!(take_record(VERSION, &mut &record[..]).is_ok());
        record[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + 3].copy_from_slice(&[2, 9, 0]);
        let refused = take_record(VERSION, &mut &record[..]);
        assert_eq!(refused, Err(DecodeError::UnknownLevel(FormatLevel(9))));
    }

    #[test]
    fn only_commands_have_a_time() {
        let time = |entries: &[(Slot, Entry)]| entries[0].1.value().time();
        assert_eq!(forged(HEADER_BYTES + 33, 2).map(|entries| time(&entries)), Ok(Time(512)));
        let mut buffer = AlignedBuffer::default();
        let value = Value::no_op();
        encode(&mut buffer, &header(), &[(Slot(1), Entry::Chosen { value })]);
        let mut record = buffer.as_slice()[HEADER_BYTES..][..RECORD_HEADER_BYTES].to_vec();
        record[32] = 1;
        let refused = take_record(VERSION, &mut &record[..]);
        assert_eq!(refused, Err(DecodeError::UnknownContent("a value with an unknown layout")));
    }
}
