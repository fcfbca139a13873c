//! The entry of a slot: records of frames and the encoding of entries are made of it.
//!
//! ```text
//! offset size
//!      0    1  kind: 1 accepted, 2 chosen
//!      1    1  kind of the value: its `ValueKind::number`
//!      2    2  zero
//!      4    4  length of the value in bytes
//!      8   16  ballot, round and node; zero if chosen
//!     24    8  time that the leader has given the value; zero if it has none
//!     32       value
//! ```

use bytes::{Buf, BufMut, Bytes};
use paxos_core::{Ballot, Entry, FormatLevel, Membership, NodeId, Time, Value, ValueKind};

use super::sealed::Sealed;
use super::{DecodeError, take_all};

const HEADER_BYTES: usize = 32;
const ACCEPTED: u8 = 1;
const CHOSEN: u8 = 2;
const CUT_SHORT: DecodeError = DecodeError::UnknownContent("a record cut short");

/// The length of an entry.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    HEADER_BYTES + entry.value().size_bytes()
}

/// Writes an entry in [`entry_bytes`].
///
/// # Panics
///
/// If the value has 4 GiB; no storage accepts more than [`MAX_VALUE_BYTES`](crate::MAX_VALUE_BYTES).
pub(crate) fn put_entry(to: &mut impl BufMut, entry: &Entry) {
    let (kind, ballot) = match entry {
        Entry::Accepted { ballot, .. } => (ACCEPTED, *ballot),
        Entry::Chosen { .. } => (CHOSEN, Ballot::ZERO),
        _ => unreachable!("this format has a record for every kind of entry: {entry:?}"),
    };
    let value = entry.value();
    to.put_u8(kind);
    to.put_u8(value.kind().number());
    to.put_bytes(0, 2);
    to.put_u32_le(u32::try_from(value.size_bytes()).expect("values are bounded far below 4 GiB"));
    to.put_u64_le(ballot.round);
    to.put_u64_le(ballot.node.0);
    to.put_u64_le(value.time().0);
    to.put_slice(value.as_bytes());
}

/// Reads what [`put_entry`] has written. What follows it stays in `from`.
pub(crate) fn take_entry(from: &mut impl Buf) -> Result<Entry, DecodeError> {
    take(from, true)
}

/// Reads an entry as it was written when there were only commands, and these had no time: the value follows
/// at byte 24.
#[cfg(feature = "file")]
pub(crate) fn take_entry_of_commands_alone(from: &mut impl Buf) -> Result<Entry, DecodeError> {
    take(from, false)
}

fn take(from: &mut impl Buf, knows_kinds_and_times: bool) -> Result<Entry, DecodeError> {
    let header_bytes = if knows_kinds_and_times { HEADER_BYTES } else { HEADER_BYTES - size_of::<u64>() };
    if from.remaining() < header_bytes {
        return Err(CUT_SHORT);
    }
    let kind = from.get_u8();
    let value_kind = ValueKind::from_number(from.get_u8());
    let zero = from.get_u16_le();
    let value_bytes = from.get_u32_le() as usize;
    let ballot = Ballot { round: from.get_u64_le(), node: NodeId(from.get_u64_le()) };
    let time = Time(if knows_kinds_and_times { from.get_u64_le() } else { 0 });
    let value_kind = value_kind.ok_or(DecodeError::UnknownContent("a value of an unknown kind"))?;
    if zero != 0 || (!knows_kinds_and_times && value_kind != ValueKind::Commands) {
        return Err(DecodeError::UnknownContent("a record with unknown fields"));
    }
    if from.remaining() < value_bytes {
        return Err(CUT_SHORT);
    }
    let value = take_value(value_kind, from.copy_to_bytes(value_bytes), time)?;
    match kind {
        ACCEPTED => Ok(Entry::Accepted { ballot, value }),
        CHOSEN => Ok(Entry::Chosen { value }),
        _ => Err(DecodeError::UnknownContent("a record of an unknown kind")),
    }
}

fn take_value(kind: ValueKind, bytes: Bytes, time: Time) -> Result<Value, DecodeError> {
    let level = if kind == ValueKind::Membership { Membership::peek_format_level(&bytes) } else { None };
    Value::parse_at(kind, bytes, time).map_err(|_| match level {
        Some(level) if level > FormatLevel::NEWEST => DecodeError::UnknownLevel(level),
        _ => DecodeError::UnknownContent("a value with an unknown layout"),
    })
}

impl Sealed for Entry {
    const KIND: u8 = 4;

    fn body_bytes(&self) -> usize {
        entry_bytes(self)
    }

    fn put_body(&self, to: &mut Vec<u8>) {
        put_entry(to, self);
    }

    fn take_body(body: Bytes) -> Result<Entry, DecodeError> {
        take_all(body, HEADER_BYTES, take_entry)
    }
}
