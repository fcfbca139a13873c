//! How operations are written in a command of the log.
//!
//! A command is its version (1 byte) and the operations one after the other: a tag, then the fields; bytes
//! and lists behind their length (4 bytes, little-endian).
//!
//! A tag keeps its fields for ever, and is never used for anything else. What is new gets a new tag, or a new
//! value where a byte tells of what kind a field is, and is written only once the
//! [format level](paxos_core::FormatLevel) of the version that brings it is finalized.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Condition, Operation, Property, expiry, limit};
use crate::kv::Seen;
use crate::kv::decimal::Decimal;

const VERSION: u8 = 1;

/// Why the bytes of a command are no list of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnreadableCommand {
    /// They are none in any version: all nodes answer alike that nothing is done.
    #[error("malformed command")]
    Malformed,
    /// They may be operations of a newer version. A node must not apply them, nor anything behind them.
    #[error("a command of an unknown kind")]
    Unknown,
}

impl Operation {
    /// The command that carries out `operations` together, in this order.
    #[must_use]
    pub fn command(operations: &[Operation]) -> Bytes {
        let total: usize = operations.iter().map(Operation::size_bytes).sum();
        let mut bytes = BytesMut::with_capacity(1 + total);
        bytes.put_u8(VERSION);
        for operation in operations {
            operation.encode(&mut bytes);
        }
        bytes.freeze()
    }

    /// The operations of a command in the log.
    ///
    /// # Errors
    ///
    /// [`UnreadableCommand`] if this version of the store has not written it.
    pub fn decode_all(command: &Bytes) -> Result<Vec<Operation>, UnreadableCommand> {
        decode(command)
    }

    /// An upper bound of how many bytes it takes in a command.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let of = |fields: &[&Bytes]| fields.iter().map(|field| 4 + field.len()).sum::<usize>();
        let list = |keys: &[Bytes]| keys.iter().map(|key| 4 + key.len()).sum::<usize>();
        32 + match self {
            Operation::Get { key }
            | Operation::GetDel { key }
            | Operation::Add { key, .. }
            | Operation::StrLen { key }
            | Operation::Digest { key }
            | Operation::GetRange { key, .. }
            | Operation::AddDecimal { key, .. }
            | Operation::Object { key, .. }
            | Operation::GetExpiring { key, .. }
            | Operation::ChangeDeadline { key, .. }
            | Operation::Deadline { key, .. }
            | Operation::Created { key }
            | Operation::Count { key, .. }
            | Operation::Counted { key }
            | Operation::Type { key } => of(&[key]),
            Operation::SlideWindow { previous, current, .. } => of(&[previous, current]) + 16,
            Operation::Set { key, value, condition, .. }
            | Operation::SetExpiring { key, value, condition, .. } => {
                of(&[key, value]) + condition.as_ref().map_or(0, Condition::operand_bytes)
            }
            Operation::Publish { channel, message } => of(&[channel, message]),
            Operation::DeleteEqual { keys, value } => list(keys) + of(&[value]),
            Operation::SetAll { keys, value, condition, .. } => {
                list(keys) + of(&[value]) + condition.operand_bytes()
            }
            Operation::DeleteIf { key, condition } => of(&[key]) + condition.operand_bytes(),
            Operation::Rename { from, to, .. } | Operation::Copy { from, to, .. } => of(&[from, to]),
            Operation::SetNx { key, value }
            | Operation::ChangeDeadlineIfEqual { key, value, .. }
            | Operation::Extend { key, value, .. }
            | Operation::LeftIfEqual { key, value }
            | Operation::SetRange { key, value, .. }
            | Operation::Append { key, value, .. } => of(&[key, value]),
            Operation::Delete { keys } | Operation::Exists { keys } | Operation::MGet { keys } => list(keys),
            Operation::MSet { pairs } | Operation::MSetNx { pairs } => {
                pairs.iter().map(|(key, value)| of(&[key, value])).sum()
            }
            Operation::Scan { pattern, .. } => pattern.as_ref().map_or(0, Bytes::len),
            Operation::Keys { pattern } => of(&[pattern]),
            Operation::Unchanged { watched } => watched.iter().map(|(key, _)| of(&[key]) + 9).sum(),
            Operation::DbSize
            | Operation::FlushAll
            | Operation::RandomKey { .. }
            | Operation::Expire { .. } => 0,
        }
    }

    fn encode(&self, bytes: &mut BytesMut) {
        match self {
            Operation::Get { key } => put(bytes, 1, &[key]),
            Operation::Set { key, value, condition, returns_old } => {
                put(bytes, 2, &[key, value]);
                put_condition(bytes, condition.as_ref());
                bytes.put_u8(u8::from(*returns_old));
            }
            Operation::SetNx { key, value } => put(bytes, 3, &[key, value]),
            Operation::GetDel { key } => put(bytes, 4, &[key]),
            Operation::Delete { keys } => put_list(bytes, 5, keys),
            Operation::Exists { keys } => put_list(bytes, 6, keys),
            Operation::Add { key, by } => {
                put(bytes, 7, &[key]);
                bytes.put_i64_le(*by);
            }
            Operation::Append { key, value, limit_bytes } => {
                put(bytes, 8, &[key, value]);
                bytes.put_u64_le(*limit_bytes);
            }
            Operation::StrLen { key } => put(bytes, 9, &[key]),
            Operation::MGet { keys } => put_list(bytes, 10, keys),
            Operation::MSet { pairs } => put_pairs(bytes, 11, pairs),
            Operation::DbSize => bytes.put_u8(12),
            Operation::Scan { cursor, pattern, count } => {
                bytes.put_u8(13);
                bytes.put_u64_le(*cursor);
                bytes.put_u64_le(*count);
                bytes.put_u8(u8::from(pattern.is_some()));
                put_bytes(bytes, &pattern.clone().unwrap_or_default());
            }
            Operation::FlushAll => bytes.put_u8(14),
            Operation::Type { key } => put(bytes, 15, &[key]),
            Operation::DeleteIf { key, condition } => {
                put(bytes, 40, &[key]);
                put_condition(bytes, Some(condition));
            }
            Operation::Digest { key } => put(bytes, 41, &[key]),
            Operation::MSetNx { pairs } => put_pairs(bytes, 42, pairs),
            Operation::SetRange { key, offset, value, limit_bytes } => {
                put(bytes, 43, &[key, value]);
                bytes.put_u64_le(*offset);
                bytes.put_u64_le(*limit_bytes);
            }
            Operation::GetRange { key, first, last } => {
                put(bytes, 44, &[key]);
                bytes.put_i64_le(*first);
                bytes.put_i64_le(*last);
            }
            Operation::AddDecimal { key, by } => {
                put(bytes, 45, &[key]);
                bytes.put_i128_le(by.units());
            }
            Operation::Rename { from, to, only_if_missing } => {
                put(bytes, 46, &[from, to]);
                bytes.put_u8(u8::from(*only_if_missing));
            }
            Operation::Copy { from, to, replaces } => {
                put(bytes, 47, &[from, to]);
                bytes.put_u8(u8::from(*replaces));
            }
            Operation::RandomKey { seed } => {
                bytes.put_u8(48);
                bytes.put_u64_le(*seed);
            }
            Operation::Keys { pattern } => put(bytes, 49, &[pattern]),
            Operation::Object { key, property } => {
                put(bytes, 50, &[key]);
                bytes.put_u8(match property {
                    Property::Encoding => 0,
                    Property::Frequency => 1,
                    Property::IdleTime => 2,
                    Property::References => 3,
                    Property::MemoryBytes => 4,
                });
            }
            Operation::DeleteEqual { keys, value } => {
                put_list(bytes, 53, keys);
                put_bytes(bytes, value);
            }
            Operation::Publish { channel, message } => put(bytes, 52, &[channel, message]),
            Operation::Unchanged { watched } => {
                bytes.put_u8(51);
                bytes.put_u32_le(length(watched.len()));
                for (key, seen) in watched {
                    put_bytes(bytes, key);
                    let (kind, revision) = match seen {
                        Seen::Changed(revision) => (0, revision),
                        Seen::Missing(revision) => (1, revision),
                    };
                    bytes.put_u8(kind);
                    bytes.put_u64_le(*revision);
                }
            }
            Operation::Count { .. } | Operation::Counted { .. } | Operation::SlideWindow { .. } => {
                limit::encode(self, bytes);
            }
            _ => expiry::encode(self, bytes),
        }
    }
}

/// The operations of a command; they share its bytes.
pub(crate) fn decode(command: &Bytes) -> Result<Vec<Operation>, UnreadableCommand> {
    operations(command).collect()
}

/// Decodes the operations of a command one by one. An error may be followed by others.
pub(crate) fn operations(command: &Bytes) -> impl Iterator<Item = Result<Operation, UnreadableCommand>> {
    let mut bytes = command.clone();
    let mut refused = match bytes.try_get_u8() {
        Ok(VERSION) => None,
        Ok(version) if version > VERSION => Some(UnreadableCommand::Unknown),
        _ => Some(UnreadableCommand::Malformed),
    };
    let is_known = refused.is_none();
    std::iter::from_fn(move || {
        if let Some(error) = refused.take() {
            return Some(Err(error));
        }
        (is_known && !bytes.is_empty()).then(|| decode_one(&mut bytes))
    })
}

/// A SET without a condition, whose only answer is OK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PlainSet<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// The operations of a command that consists of [plain SETs](PlainSet).
#[derive(Clone, Debug)]
pub(crate) struct PlainSets<'a> {
    /// Those that are left, each of them whole.
    encoded: &'a [u8],
}

/// The operations of a command if all of them are plain SETs, which they are in most commands. It looks at
/// the lengths only; a decoder would count each key and each value as one more that shares the command.
pub(crate) fn plain_sets(command: &[u8]) -> Option<PlainSets<'_>> {
    let encoded = command.strip_prefix(&[VERSION])?;
    let mut rest = encoded;
    while !rest.is_empty() {
        (_, rest) = split_plain_set(rest)?;
    }
    Some(PlainSets { encoded })
}

impl<'a> Iterator for PlainSets<'a> {
    type Item = PlainSet<'a>;

    fn next(&mut self) -> Option<PlainSet<'a>> {
        let (set, rest) = split_plain_set(self.encoded)?;
        self.encoded = rest;
        Some(set)
    }
}

/// The first of the encoded operations if it is a plain SET, and what comes behind it.
fn split_plain_set(bytes: &[u8]) -> Option<(PlainSet<'_>, &[u8])> {
    let (key, rest) = split_field(bytes.strip_prefix(&[2])?)?;
    let (value, rest) = split_field(rest)?;
    // No condition, and no answer with the old value.
    Some((PlainSet { key, value }, rest.strip_prefix(&[0, 0])?))
}

/// The first field of an encoded operation, and what comes behind it.
fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

fn decode_one(bytes: &mut Bytes) -> Result<Operation, UnreadableCommand> {
    Ok(match take_u8(bytes)? {
        1 => Operation::Get { key: take(bytes)? },
        2 => Operation::Set {
            key: take(bytes)?,
            value: take(bytes)?,
            condition: take_condition(bytes)?,
            returns_old: take_bool(bytes)?,
        },
        3 => Operation::SetNx { key: take(bytes)?, value: take(bytes)? },
        4 => Operation::GetDel { key: take(bytes)? },
        5 => Operation::Delete { keys: take_list(bytes, take)? },
        6 => Operation::Exists { keys: take_list(bytes, take)? },
        7 => Operation::Add { key: take(bytes)?, by: take_i64(bytes)? },
        8 => Operation::Append { key: take(bytes)?, value: take(bytes)?, limit_bytes: take_u64(bytes)? },
        9 => Operation::StrLen { key: take(bytes)? },
        10 => Operation::MGet { keys: take_list(bytes, take)? },
        11 => Operation::MSet { pairs: take_list(bytes, take_pair)? },
        12 => Operation::DbSize,
        13 => {
            let (cursor, count, has_pattern) = (take_u64(bytes)?, take_u64(bytes)?, take_bool(bytes)?);
            let pattern = Some(take(bytes)?).filter(|_| has_pattern);
            Operation::Scan { cursor, pattern, count }
        }
        14 => Operation::FlushAll,
        15 => Operation::Type { key: take(bytes)? },
        tag => return decode_later(tag, bytes),
    })
}

/// Decodes an operation that the first version did not have.
fn decode_later(tag: u8, bytes: &mut Bytes) -> Result<Operation, UnreadableCommand> {
    Ok(match tag {
        40 => Operation::DeleteIf {
            key: take(bytes)?,
            condition: take_condition(bytes)?.ok_or(UnreadableCommand::Malformed)?,
        },
        41 => Operation::Digest { key: take(bytes)? },
        42 => Operation::MSetNx { pairs: take_list(bytes, take_pair)? },
        43 => {
            let (key, value) = take_pair(bytes)?;
            Operation::SetRange { key, offset: take_u64(bytes)?, value, limit_bytes: take_u64(bytes)? }
        }
        44 => Operation::GetRange { key: take(bytes)?, first: take_i64(bytes)?, last: take_i64(bytes)? },
        45 => {
            let (key, units) =
                (take(bytes)?, bytes.try_get_i128_le().map_err(|_| UnreadableCommand::Malformed)?);
            Operation::AddDecimal { key, by: Decimal::of_units(units).ok_or(UnreadableCommand::Malformed)? }
        }
        46 => {
            let (from, to) = take_pair(bytes)?;
            Operation::Rename { from, to, only_if_missing: take_bool(bytes)? }
        }
        47 => {
            let (from, to) = take_pair(bytes)?;
            Operation::Copy { from, to, replaces: take_bool(bytes)? }
        }
        48 => Operation::RandomKey { seed: take_u64(bytes)? },
        49 => Operation::Keys { pattern: take(bytes)? },
        50 => Operation::Object {
            key: take(bytes)?,
            property: match take_u8(bytes)? {
                0 => Property::Encoding,
                1 => Property::Frequency,
                2 => Property::IdleTime,
                3 => Property::References,
                4 => Property::MemoryBytes,
                _ => return Err(UnreadableCommand::Unknown),
            },
        },
        51 => Operation::Unchanged { watched: take_list(bytes, take_watched)? },
        52 => Operation::Publish { channel: take(bytes)?, message: take(bytes)? },
        53 => Operation::DeleteEqual { keys: take_list(bytes, take)?, value: take(bytes)? },
        tag @ ..80 => return expiry::decode(tag, bytes),
        tag => return limit::decode(tag, bytes),
    })
}

pub(super) fn put_condition(bytes: &mut BytesMut, condition: Option<&Condition>) {
    match condition {
        None => bytes.put_u8(0),
        Some(Condition::IfMissing) => bytes.put_u8(1),
        Some(Condition::IfPresent) => bytes.put_u8(2),
        Some(Condition::IfEqual(value)) => put(bytes, 3, &[value]),
        Some(Condition::IfNotEqual(value)) => put(bytes, 4, &[value]),
        Some(Condition::IfDigest(digest)) => {
            bytes.put_u8(5);
            bytes.put_u64_le(*digest);
        }
        Some(Condition::IfNotDigest(digest)) => {
            bytes.put_u8(6);
            bytes.put_u64_le(*digest);
        }
    }
}

pub(super) fn take_condition(bytes: &mut Bytes) -> Result<Option<Condition>, UnreadableCommand> {
    Ok(match take_u8(bytes)? {
        0 => None,
        1 => Some(Condition::IfMissing),
        2 => Some(Condition::IfPresent),
        3 => Some(Condition::IfEqual(take(bytes)?)),
        4 => Some(Condition::IfNotEqual(take(bytes)?)),
        5 => Some(Condition::IfDigest(take_u64(bytes)?)),
        6 => Some(Condition::IfNotDigest(take_u64(bytes)?)),
        _ => return Err(UnreadableCommand::Unknown),
    })
}

fn take_watched(bytes: &mut Bytes) -> Result<(Bytes, Seen), UnreadableCommand> {
    let (key, kind, revision) = (take(bytes)?, take_u8(bytes)?, take_u64(bytes)?);
    match kind {
        0 => Ok((key, Seen::Changed(revision))),
        1 => Ok((key, Seen::Missing(revision))),
        _ => Err(UnreadableCommand::Unknown),
    }
}

pub(super) fn put(bytes: &mut BytesMut, tag: u8, fields: &[&Bytes]) {
    bytes.put_u8(tag);
    for field in fields {
        put_bytes(bytes, field);
    }
}

pub(super) fn put_list(bytes: &mut BytesMut, tag: u8, keys: &[Bytes]) {
    bytes.put_u8(tag);
    bytes.put_u32_le(length(keys.len()));
    for key in keys {
        put_bytes(bytes, key);
    }
}

fn put_pairs(bytes: &mut BytesMut, tag: u8, pairs: &[(Bytes, Bytes)]) {
    bytes.put_u8(tag);
    bytes.put_u32_le(length(pairs.len()));
    for (key, value) in pairs {
        put_bytes(bytes, key);
        put_bytes(bytes, value);
    }
}

pub(super) fn put_bytes(bytes: &mut BytesMut, field: &Bytes) {
    bytes.put_u32_le(length(field.len()));
    bytes.extend_from_slice(field);
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("a request is bounded far below 4 GiB")
}

pub(super) fn take_u8(bytes: &mut Bytes) -> Result<u8, UnreadableCommand> {
    bytes.try_get_u8().map_err(|_| UnreadableCommand::Malformed)
}

pub(super) fn take_bool(bytes: &mut Bytes) -> Result<bool, UnreadableCommand> {
    match take_u8(bytes)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(UnreadableCommand::Unknown),
    }
}

fn take_u64(bytes: &mut Bytes) -> Result<u64, UnreadableCommand> {
    bytes.try_get_u64_le().map_err(|_| UnreadableCommand::Malformed)
}

pub(super) fn take_i64(bytes: &mut Bytes) -> Result<i64, UnreadableCommand> {
    bytes.try_get_i64_le().map_err(|_| UnreadableCommand::Malformed)
}

fn take_pair(bytes: &mut Bytes) -> Result<(Bytes, Bytes), UnreadableCommand> {
    Ok((take(bytes)?, take(bytes)?))
}

pub(super) fn take(bytes: &mut Bytes) -> Result<Bytes, UnreadableCommand> {
    let length = bytes.try_get_u32_le().map_err(|_| UnreadableCommand::Malformed)? as usize;
    if length > bytes.len() { Err(UnreadableCommand::Malformed) } else { Ok(bytes.split_to(length)) }
}

pub(super) fn take_list<T>(
    bytes: &mut Bytes,
    take_one: impl Fn(&mut Bytes) -> Result<T, UnreadableCommand>,
) -> Result<Vec<T>, UnreadableCommand> {
    let count = bytes.try_get_u32_le().map_err(|_| UnreadableCommand::Malformed)?;
    // Grows with the elements that are there, not with the number that is claimed.
    (0..count).map(|_| take_one(bytes)).collect()
}

#[cfg(test)]
mod tests;
