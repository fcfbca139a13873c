//! How operations are written in a command of the log.
//!
//! A command is its version (1 byte) and the operations one after the other: a tag, then the fields; bytes
//! and lists behind their length (4 bytes, little-endian).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Condition, Operation, expiry};

const VERSION: u8 = 1;

/// The bytes of a command are not a list of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed command")]
#[non_exhaustive]
pub struct MalformedCommand;

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
            | Operation::GetExpiring { key, .. }
            | Operation::ChangeDeadline { key, .. }
            | Operation::Deadline { key, .. }
            | Operation::Created { key }
            | Operation::Type { key } => of(&[key]),
            Operation::Set { key, value, .. }
            | Operation::SetNx { key, value }
            | Operation::SetExpiring { key, value, .. }
            | Operation::Append { key, value, .. } => of(&[key, value]),
            Operation::Delete { keys } | Operation::Exists { keys } | Operation::MGet { keys } => list(keys),
            Operation::MSet { pairs } => pairs.iter().map(|(key, value)| of(&[key, value])).sum(),
            Operation::Scan { pattern, .. } => pattern.as_ref().map_or(0, Bytes::len),
            Operation::DbSize | Operation::FlushAll | Operation::Expire { .. } => 0,
        }
    }

    fn encode(&self, bytes: &mut BytesMut) {
        match self {
            Operation::Get { key } => put(bytes, 1, &[key]),
            Operation::Set { key, value, condition, returns_old } => {
                put(bytes, 2, &[key, value]);
                put_condition(bytes, *condition);
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
            Operation::MSet { pairs } => {
                bytes.put_u8(11);
                bytes.put_u32_le(length(pairs.len()));
                for (key, value) in pairs {
                    put_bytes(bytes, key);
                    put_bytes(bytes, value);
                }
            }
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
            Operation::SetExpiring { .. }
            | Operation::GetExpiring { .. }
            | Operation::ChangeDeadline { .. }
            | Operation::Deadline { .. }
            | Operation::Created { .. }
            | Operation::Expire { .. } => expiry::encode(self, bytes),
        }
    }
}

/// The operations of a command; they share its bytes.
pub(crate) fn decode(command: &Bytes) -> Result<Vec<Operation>, MalformedCommand> {
    operations(command).collect()
}

/// Decodes the operations of a command one by one. An error may be followed by others.
pub(crate) fn operations(command: &Bytes) -> impl Iterator<Item = Result<Operation, MalformedCommand>> {
    let mut bytes = command.clone();
    let is_known = bytes.try_get_u8() == Ok(VERSION);
    let mut is_refused = !is_known;
    std::iter::from_fn(move || {
        if std::mem::take(&mut is_refused) {
            return Some(Err(MalformedCommand));
        }
        (is_known && !bytes.is_empty()).then(|| decode_one(&mut bytes))
    })
}

fn decode_one(bytes: &mut Bytes) -> Result<Operation, MalformedCommand> {
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
        7 => Operation::Add { key: take(bytes)?, by: bytes.try_get_i64_le().map_err(|_| MalformedCommand)? },
        8 => Operation::Append { key: take(bytes)?, value: take(bytes)?, limit_bytes: take_u64(bytes)? },
        9 => Operation::StrLen { key: take(bytes)? },
        10 => Operation::MGet { keys: take_list(bytes, take)? },
        11 => Operation::MSet { pairs: take_list(bytes, |bytes| Ok((take(bytes)?, take(bytes)?)))? },
        12 => Operation::DbSize,
        13 => {
            let (cursor, count, has_pattern) = (take_u64(bytes)?, take_u64(bytes)?, take_bool(bytes)?);
            let pattern = Some(take(bytes)?).filter(|_| has_pattern);
            Operation::Scan { cursor, pattern, count }
        }
        14 => Operation::FlushAll,
        15 => Operation::Type { key: take(bytes)? },
        tag => expiry::decode(tag, bytes)?,
    })
}

pub(super) fn put_condition(bytes: &mut BytesMut, condition: Option<Condition>) {
    bytes.put_u8(match condition {
        None => 0,
        Some(Condition::IfMissing) => 1,
        Some(Condition::IfPresent) => 2,
    });
}

pub(super) fn take_condition(bytes: &mut Bytes) -> Result<Option<Condition>, MalformedCommand> {
    Ok(match take_u8(bytes)? {
        0 => None,
        1 => Some(Condition::IfMissing),
        2 => Some(Condition::IfPresent),
        _ => return Err(MalformedCommand),
    })
}

pub(super) fn put(bytes: &mut BytesMut, tag: u8, fields: &[&Bytes]) {
    bytes.put_u8(tag);
    for field in fields {
        put_bytes(bytes, field);
    }
}

fn put_list(bytes: &mut BytesMut, tag: u8, keys: &[Bytes]) {
    bytes.put_u8(tag);
    bytes.put_u32_le(length(keys.len()));
    for key in keys {
        put_bytes(bytes, key);
    }
}

fn put_bytes(bytes: &mut BytesMut, field: &Bytes) {
    bytes.put_u32_le(length(field.len()));
    bytes.extend_from_slice(field);
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("a request is bounded far below 4 GiB")
}

pub(super) fn take_u8(bytes: &mut Bytes) -> Result<u8, MalformedCommand> {
    bytes.try_get_u8().map_err(|_| MalformedCommand)
}

pub(super) fn take_bool(bytes: &mut Bytes) -> Result<bool, MalformedCommand> {
    match take_u8(bytes)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(MalformedCommand),
    }
}

fn take_u64(bytes: &mut Bytes) -> Result<u64, MalformedCommand> {
    bytes.try_get_u64_le().map_err(|_| MalformedCommand)
}

pub(super) fn take(bytes: &mut Bytes) -> Result<Bytes, MalformedCommand> {
    let length = bytes.try_get_u32_le().map_err(|_| MalformedCommand)? as usize;
    if length > bytes.len() { Err(MalformedCommand) } else { Ok(bytes.split_to(length)) }
}

fn take_list<T>(
    bytes: &mut Bytes,
    take_one: impl Fn(&mut Bytes) -> Result<T, MalformedCommand>,
) -> Result<Vec<T>, MalformedCommand> {
    let count = bytes.try_get_u32_le().map_err(|_| MalformedCommand)?;
    // Grows with the elements that are there, not with the number that is claimed.
    (0..count).map(|_| take_one(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{DeadlineCondition, DeadlineForm, Expiry};
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let keys = || prop::collection::vec(key(), 0..4);
        let condition = prop::option::of(prop_oneof![Just(Condition::IfMissing), Just(Condition::IfPresent)]);
        prop_oneof![
            key().prop_map(|key| Operation::Get { key }),
            (key(), key(), condition, any::<bool>()).prop_map(|(key, value, condition, returns_old)| {
                Operation::Set { key, value, condition, returns_old }
            }),
            (key(), key()).prop_map(|(key, value)| Operation::SetNx { key, value }),
            key().prop_map(|key| Operation::GetDel { key }),
            keys().prop_map(|keys| Operation::Delete { keys }),
            keys().prop_map(|keys| Operation::Exists { keys }),
            (key(), any::<i64>()).prop_map(|(key, by)| Operation::Add { key, by }),
            (key(), key(), any::<u64>()).prop_map(|(key, value, limit_bytes)| Operation::Append {
                key,
                value,
                limit_bytes
            }),
            key().prop_map(|key| Operation::StrLen { key }),
            keys().prop_map(|keys| Operation::MGet { keys }),
            prop::collection::vec((key(), key()), 0..4).prop_map(|pairs| Operation::MSet { pairs }),
            Just(Operation::DbSize),
            (any::<u64>(), prop::option::of(key()), any::<u64>())
                .prop_map(|(cursor, pattern, count)| Operation::Scan { cursor, pattern, count }),
            Just(Operation::FlushAll),
            key().prop_map(|key| Operation::Type { key }),
            expiring(),
        ]
    }

    fn expiring() -> impl Strategy<Value = Operation> {
        let condition = prop::option::of(prop_oneof![Just(Condition::IfMissing), Just(Condition::IfPresent)]);
        let expiry = || {
            prop_oneof![
                Just(Expiry::Never),
                Just(Expiry::Kept),
                any::<i64>().prop_map(Expiry::AfterMs),
                any::<i64>().prop_map(Expiry::AtMs),
            ]
        };
        let form = prop_oneof![
            Just(DeadlineForm::LeftMs),
            Just(DeadlineForm::LeftSeconds),
            Just(DeadlineForm::AtMs),
            Just(DeadlineForm::AtSeconds),
        ];
        prop_oneof![
            (key(), key(), condition, any::<bool>(), expiry()).prop_map(
                |(key, value, condition, returns_old, expiry)| {
                    Operation::SetExpiring { key, value, condition, returns_old, expiry }
                }
            ),
            (key(), expiry()).prop_map(|(key, expiry)| Operation::GetExpiring { key, expiry }),
            (key(), expiry(), any::<[bool; 4]>()).prop_map(|(key, expiry, flags)| {
                let [if_none, if_any, if_later, if_earlier] = flags;
                let condition = DeadlineCondition { if_none, if_any, if_later, if_earlier };
                Operation::ChangeDeadline { key, expiry, condition }
            }),
            (key(), form).prop_map(|(key, form)| Operation::Deadline { key, form }),
            key().prop_map(|key| Operation::Created { key }),
            any::<u32>().prop_map(|at_most| Operation::Expire { at_most }),
        ]
    }

    proptest! {
        #[test]
        fn operations_come_back(operations in prop::collection::vec(operation(), 0..5)) {
            let command = Operation::command(&operations);
            let size: usize = operations.iter().map(Operation::size_bytes).sum();
            prop_assert!(command.len() <= 1 + size);
            prop_assert_eq!(decode(&command), Ok(operations));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes: Vec<u8>) {
            let _ = decode(&Bytes::from(bytes.clone()));
            bytes.insert(0, VERSION);
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
