//! Frames: what one group commit puts into the log.
//!
//! All numbers are little-endian. A frame begins at a multiple of 4096 and is padded with zeros to one:
//!
//! ```text
//! offset size
//!      0    4  magic "pxfr"
//!      4    2  version, 1
//!      6    1  kind: 1 records, 2 mark
//!      7    1  flags: bit 0 set in the last frame of a write
//!      8    4  length of the frame in bytes, with header and padding
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
//!      9    3  zero
//!     12    4  length of the value in bytes
//!     16   16  ballot, round and node; zero if chosen
//!     32       value
//! ```
//!
//! A write is one frame, or several if it is long; only the last sync of a write acknowledges it. Hence a frame
//! proves that every frame *of an earlier write* was acknowledged, and says nothing about those of its own.

use bytes::{Buf, BufMut, Bytes};
use paxos_core::{Ballot, Entry, HardState, NodeId, Slot, Value};

use super::buffer::{AlignedBuffer, BLOCK_BYTES, round_up};

/// The version of the whole format: of frames, segments and the META file.
pub(super) const VERSION: u16 = 1;

const MAGIC: &[u8; 4] = b"pxfr";
const HEADER_BYTES: usize = 128;
const CHECKSUM_AT: usize = 124;
const RECORD_HEADER_BYTES: usize = 32;
const KIND_RECORDS: u8 = 1;
const KIND_MARK: u8 = 2;
const FLAG_LAST: u8 = 1;
const RECORD_ACCEPTED: u8 = 1;
const RECORD_CHOSEN: u8 = 2;

/// The place of a frame in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link {
    /// The frame's sequence number.
    pub(super) sequence: u64,
    /// Checksum of the header of the frame before.
    pub(super) chain: u32,
}

/// The lowest and highest slot in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SlotRange {
    first: Slot,
    last: Slot,
}

/// What the header of a frame tells, but for what follows from the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) link: Link,
    pub(super) segment: u64,
    pub(super) first_of_write: u64,
    pub(super) is_last_of_write: bool,
    pub(super) is_mark: bool,
    pub(super) fingerprint: u64,
    pub(super) hard_state: HardState,
    pub(super) previous_slots: SlotRange,
    pub(super) earlier_highest_slot: Slot,
}

/// A header that was read, and is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ReadHeader {
    pub(super) header: Header,
    pub(super) slots: SlotRange,
    /// Length of the whole frame.
    pub(super) length_bytes: usize,
    /// What the next frame's chain is.
    pub(super) checksum: u32,
    payload_bytes: usize,
    payload_checksum: u32,
    pub(super) record_count: u32,
}

impl SlotRange {
    pub(super) const NONE: SlotRange = SlotRange { first: Slot::ZERO, last: Slot::ZERO };

    pub(super) fn of(entries: &[(Slot, Entry)]) -> SlotRange {
        let slots = || entries.iter().map(|(slot, _)| *slot);
        match (slots().min(), slots().max()) {
            (Some(first), Some(last)) => SlotRange { first, last },
            _ => SlotRange::NONE,
        }
    }

    /// The highest slot; zero if there is none.
    pub(super) fn last(self) -> Slot {
        self.last
    }

    pub(super) fn bounds(self) -> Option<(Slot, Slot)> {
        (self != SlotRange::NONE).then_some((self.first, self.last))
    }
}

/// How many bytes the record of `entry` takes.
pub(super) fn record_bytes(entry: &Entry) -> usize {
    RECORD_HEADER_BYTES + entry.value().size_bytes()
}

/// How long a frame with so many bytes of records is.
pub(super) const fn frame_bytes(payload_bytes: usize) -> usize {
    round_up(HEADER_BYTES + payload_bytes)
}

/// Lays a frame out in `buffer`; gives the checksum of its header.
pub(super) fn encode(buffer: &mut AlignedBuffer, header: &Header, entries: &[(Slot, Entry)]) -> u32 {
    let payload_bytes = entries.iter().map(|(_, entry)| record_bytes(entry)).sum();
    let length_bytes = frame_bytes(payload_bytes);
    let (head, body) = buffer.resize_zeroed(length_bytes).split_at_mut(HEADER_BYTES);
    let payload = &mut body[..payload_bytes];
    put_records(payload, entries);

    let mut rest = &mut head[..CHECKSUM_AT];
    rest.put_slice(MAGIC);
    rest.put_u16_le(VERSION);
    rest.put_u8(if header.is_mark { KIND_MARK } else { KIND_RECORDS });
    rest.put_u8(if header.is_last_of_write { FLAG_LAST } else { 0 });
    rest.put_u32_le(small(length_bytes));
    rest.put_u32_le(small(payload_bytes));
    rest.put_u64_le(header.segment);
    rest.put_u64_le(header.link.sequence);
    rest.put_u64_le(header.first_of_write);
    rest.put_u64_le(header.fingerprint);
    rest.put_u64_le(header.hard_state.promised.round);
    rest.put_u64_le(header.hard_state.promised.node.0);
    rest.put_u64_le(header.hard_state.chosen.0);
    for range in [SlotRange::of(entries), header.previous_slots] {
        rest.put_u64_le(range.first.0);
        rest.put_u64_le(range.last.0);
    }
    rest.put_u32_le(small(entries.len()));
    rest.put_u32_le(header.link.chain);
    rest.put_u32_le(crc32c::crc32c(payload));
    rest.put_u64_le(header.earlier_highest_slot.0);
    let checksum = crc32c::crc32c(&head[..CHECKSUM_AT]);
    head[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

fn put_records(mut payload: &mut [u8], entries: &[(Slot, Entry)]) {
    for (slot, entry) in entries {
        let (kind, ballot) = match entry {
            Entry::Accepted { ballot, .. } => (RECORD_ACCEPTED, *ballot),
            Entry::Chosen { .. } => (RECORD_CHOSEN, Ballot::ZERO),
        };
        payload.put_u64_le(slot.0);
        payload.put_u8(kind);
        payload.put_bytes(0, 3);
        payload.put_u32_le(small(entry.value().size_bytes()));
        payload.put_u64_le(ballot.round);
        payload.put_u64_le(ballot.node.0);
        payload.put_slice(entry.value().as_bytes());
    }
}

fn small(length: usize) -> u32 {
    u32::try_from(length).expect("a frame is bounded far below 4 GiB")
}

/// Reads the header at the beginning of `bytes`, if there is a whole one.
pub(super) fn decode_header(bytes: &[u8]) -> Option<ReadHeader> {
    let head = bytes.get(..HEADER_BYTES)?;
    let checksum = (&head[CHECKSUM_AT..]).get_u32_le();
    if !head.starts_with(MAGIC) || crc32c::crc32c(&head[..CHECKSUM_AT]) != checksum {
        return None;
    }
    let mut rest = &head[MAGIC.len()..];
    let version = rest.get_u16_le();
    let kind = rest.get_u8();
    let flags = rest.get_u8();
    let length_bytes = rest.get_u32_le() as usize;
    let payload_bytes = rest.get_u32_le() as usize;
    let segment = rest.get_u64_le();
    let sequence = rest.get_u64_le();
    let first_of_write = rest.get_u64_le();
    let fingerprint = rest.get_u64_le();
    let promised = Ballot { round: rest.get_u64_le(), node: NodeId(rest.get_u64_le()) };
    let chosen = Slot(rest.get_u64_le());
    let slots = SlotRange { first: Slot(rest.get_u64_le()), last: Slot(rest.get_u64_le()) };
    let previous_slots = SlotRange { first: Slot(rest.get_u64_le()), last: Slot(rest.get_u64_le()) };
    let record_count = rest.get_u32_le();
    let chain = rest.get_u32_le();
    let payload_checksum = rest.get_u32_le();
    let earlier_highest_slot = Slot(rest.get_u64_le());
    let is_known = version == VERSION && matches!(kind, KIND_RECORDS | KIND_MARK) && flags & !FLAG_LAST == 0;
    let room = length_bytes.checked_sub(HEADER_BYTES);
    let fits = length_bytes.is_multiple_of(BLOCK_BYTES) && room.is_some_and(|room| payload_bytes <= room);
    let header = Header {
        link: Link { sequence, chain },
        segment,
        first_of_write,
        is_last_of_write: flags & FLAG_LAST != 0,
        is_mark: kind == KIND_MARK,
        fingerprint,
        hard_state: HardState { promised, chosen },
        previous_slots,
        earlier_highest_slot,
    };
    (is_known && fits && first_of_write <= sequence).then_some(ReadHeader {
        header,
        slots,
        length_bytes,
        checksum,
        payload_bytes,
        payload_checksum,
        record_count,
    })
}

/// Reads the entries of the frame at the beginning of `bytes`, if all of it is there. Values are copied.
pub(super) fn decode_entries(read: &ReadHeader, bytes: &[u8]) -> Option<Vec<(Slot, Entry)>> {
    let mut payload = bytes.get(..read.length_bytes)?.get(HEADER_BYTES..HEADER_BYTES + read.payload_bytes)?;
    if crc32c::crc32c(payload) != read.payload_checksum {
        return None;
    }
    let mut entries = Vec::new();
    while payload.has_remaining() {
        entries.push(take_record(&mut payload)?);
    }
    let is_as_told = entries.len() == read.record_count as usize && SlotRange::of(&entries) == read.slots;
    is_as_told.then_some(entries)
}

fn take_record(payload: &mut &[u8]) -> Option<(Slot, Entry)> {
    let slot = Slot(payload.try_get_u64_le().ok()?);
    let kind = payload.try_get_u8().ok()?;
    payload.split_off(..3)?;
    let value_bytes = payload.try_get_u32_le().ok()? as usize;
    let round = payload.try_get_u64_le().ok()?;
    let node = NodeId(payload.try_get_u64_le().ok()?);
    let value = payload.split_off(..value_bytes)?;
    let value = Value::parse(Bytes::copy_from_slice(value)).ok()?;
    let entry = match kind {
        RECORD_ACCEPTED => Entry::Accepted { ballot: Ballot { round, node }, value },
        RECORD_CHOSEN => Entry::Chosen { value },
        _ => return None,
    };
    Some((slot, entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    fn entries(values: &[Vec<u8>]) -> Vec<(Slot, Entry)> {
        let ballot = Ballot { round: 3, node: NodeId(1) };
        let entry = |(index, bytes): (u64, &Vec<u8>)| {
            let value = Value::batch(&[Bytes::from(bytes.clone())]);
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
            prop_assert_eq!(decode_entries(&read, buffer.as_slice()), Some(entries));
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>, payload: Vec<u8>) {
            prop_assert_eq!(decode_header(&bytes), None);
            drop(take_record(&mut &payload[..]));
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
            let read = decode_header(&flipped).and_then(|read| decode_entries(&read, &flipped));
            assert_eq!(read.is_some(), bit / 8 >= used, "bit {bit}");
        }
    }
}
