//! Masks: of a frame only its first block begins with the magic of frames.
//!
//! A value may hold any bytes, so another block of its frame could begin with the magic, and look like a
//! frame where the scan of the log meets it alone: behind a torn header, or when a later use of the segment
//! has overwritten the blocks before it. A client could even forge one. So the first two bytes of each block
//! but the first are combined with a mask (exclusive or), the lowest with which no block begins with the
//! magic. Mostly that is 0, which changes nothing. The header of the frame tells it.

use std::collections::BTreeSet;

use crate::file::disk::buffer::BLOCK_BYTES;
use crate::file::layout::frame::{HEADER_BYTES, MAGIC};
use crate::file::mutant::{Mutant, mutated};

/// How many bytes of a block are changed.
const MASK_BYTES: usize = size_of::<u16>();

/// Where blocks begin in a payload.
fn starts_of_blocks(payload_bytes: usize) -> impl Iterator<Item = usize> {
    (BLOCK_BYTES - HEADER_BYTES..payload_bytes).step_by(BLOCK_BYTES)
}

/// The lowest mask with which no block in `payload` begins with the magic.
pub(crate) fn mask_for(payload: &[u8]) -> u16 {
    let looks = |at: usize| payload[at..].starts_with(MAGIC);
    if !mutated(Mutant::PayloadNotMasked) && starts_of_blocks(payload.len()).any(looks) {
        return lowest_mask(payload);
    }
    0
}

fn lowest_mask(payload: &[u8]) -> u16 {
    let (masked, rest) = MAGIC.split_at(MASK_BYTES);
    let number = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    let forbidden = |at: usize| {
        let start = payload[at..].first_chunk::<{ MAGIC.len() }>()?;
        start.ends_with(rest).then(|| number(start) ^ number(masked))
    };
    let forbidden: BTreeSet<u16> = starts_of_blocks(payload.len()).filter_map(forbidden).collect();
    let mask = (0..=u16::MAX).find(|mask| !forbidden.contains(mask));
    mask.expect("a frame is bounded far below 65536 blocks, each of which forbids one mask")
}

/// Masks a payload, or shows what was masked.
pub(crate) fn apply_mask(payload: &mut [u8], mask: u16) {
    for at in starts_of_blocks(payload.len()).filter(|_| mask != 0) {
        payload[at..].iter_mut().zip(mask.to_le_bytes()).for_each(|(byte, mask)| *byte ^= mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use paxos_core::{Entry, HardState, Slot, Value};

    use crate::file::disk::buffer::AlignedBuffer;
    use crate::file::layout::frame::{self, Header, Link, ReadHeader, SlotRange};

    fn header() -> Header {
        Header {
            link: Link { sequence: 7, chain: 8 },
            segment: 2,
            first_of_write: 7,
            is_last_of_write: true,
            is_mark: false,
            fingerprint: 9,
            hard_state: HardState::default(),
            previous_slots: SlotRange::NONE,
            earlier_highest_slot: Slot::ZERO,
        }
    }

    /// A command that puts these bytes at the start of each block of its frame but the first, and ends there.
    fn command_with(starts: impl IntoIterator<Item = [u8; 4]>) -> Vec<u8> {
        let mut command = Vec::new();
        let before = bytes_before_command();
        for (block, start) in (1..).zip(starts) {
            command.resize(block * BLOCK_BYTES - before, 7);
            command.extend(start);
        }
        command
    }

    /// The bytes of a frame before its only command.
    fn bytes_before_command() -> usize {
        let value = Value::batch(&[Bytes::from_static(b"x")]);
        HEADER_BYTES + frame::record_bytes(&Entry::Chosen { value }) - 1
    }

    /// The frame of this command, once it was read back.
    fn read_back(command: Vec<u8>) -> (ReadHeader, Vec<u8>) {
        let mut buffer = AlignedBuffer::default();
        let entries = vec![(Slot(1), Entry::Chosen { value: Value::batch(&[Bytes::from(command)]) })];
        frame::encode(&mut buffer, &header(), &entries);
        let read = frame::decode_header(buffer.as_slice()).expect("the header is whole");
        assert_eq!(frame::decode_entries(&read, buffer.as_slice()), Ok(entries));
        (read, buffer.as_slice().to_vec())
    }

    #[test]
    fn only_the_first_block_of_a_frame_begins_like_one_whatever_the_values_hold() {
        let masked = |mask: u16| {
            let [one, other] = mask.to_le_bytes();
            [MAGIC[0] ^ one, MAGIC[1] ^ other, MAGIC[2], MAGIC[3]]
        };
        for (starts, expected) in [
            (vec![[0; 4], [0xff; 4], masked(1)], 0),
            (vec![*MAGIC; 3], 1),
            (vec![masked(0), masked(1), *b"none", masked(3)], 2),
            ((0..4096).map(masked).collect(), 4096),
        ] {
            let count = starts.len();
            let (read, frame) = read_back(command_with(starts));
            assert_eq!(read.mask, expected);
            assert_eq!(frame.chunks(BLOCK_BYTES).len(), count + 1);
            let begin_so = frame.chunks(BLOCK_BYTES).filter(|block| frame::begins(block)).count();
            assert_eq!(begin_so, 1, "{count} blocks");
        }
    }

    #[test]
    fn a_mask_reaches_no_further_than_the_payload() {
        for cut in 0..=4 {
            let mut command = command_with([*MAGIC, *b"last"]);
            command.truncate(command.len() - cut);
            let (read, frame) = read_back(command);
            assert_eq!(read.mask, 1);
            let padding = &frame[HEADER_BYTES + read.payload_bytes..];
            assert!(padding.iter().all(|byte| *byte == 0), "{cut} bytes less");
        }
    }
}
