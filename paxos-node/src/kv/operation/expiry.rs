//! How the log holds operations about keys that expire.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::codec::{
    UnreadableCommand, put, put_bytes, put_condition, put_list, take, take_bool, take_condition, take_i64,
    take_list, take_u8,
};
use super::{DeadlineCondition, DeadlineForm, Expiry, Operation};

/// The tags of these operations.
const SET_EXPIRING: u8 = 64;
const GET_EXPIRING: u8 = 65;
const CHANGE_DEADLINE: u8 = 66;
const DEADLINE: u8 = 67;
const CREATED: u8 = 68;
const EXPIRE: u8 = 69;
const CHANGE_DEADLINE_IF_EQUAL: u8 = 70;
const EXTEND: u8 = 71;
const LEFT_IF_EQUAL: u8 = 72;
const SET_ALL: u8 = 73;

/// Writes an operation, if it is one of these.
pub(super) fn encode(operation: &Operation, bytes: &mut BytesMut) {
    match operation {
        Operation::SetExpiring { key, value, condition, returns_old, expiry } => {
            put(bytes, SET_EXPIRING, &[key, value]);
            put_condition(bytes, condition.as_ref());
            bytes.put_u8(u8::from(*returns_old));
            put_expiry(bytes, *expiry);
        }
        Operation::GetExpiring { key, expiry } => {
            put(bytes, GET_EXPIRING, &[key]);
            put_expiry(bytes, *expiry);
        }
        Operation::ChangeDeadline { key, expiry, condition } => {
            put(bytes, CHANGE_DEADLINE, &[key]);
            put_expiry(bytes, *expiry);
            put_deadline_condition(bytes, *condition);
        }
        Operation::Deadline { key, form } => {
            put(bytes, DEADLINE, &[key]);
            bytes.put_u8(match form {
                DeadlineForm::LeftMs => 0,
                DeadlineForm::LeftSeconds => 1,
                DeadlineForm::AtMs => 2,
                DeadlineForm::AtSeconds => 3,
            });
        }
        Operation::Created { key } => put(bytes, CREATED, &[key]),
        Operation::Expire { at_most } => {
            bytes.put_u8(EXPIRE);
            bytes.put_u32_le(*at_most);
        }
        Operation::ChangeDeadlineIfEqual { key, value, expiry, condition } => {
            put(bytes, CHANGE_DEADLINE_IF_EQUAL, &[key, value]);
            put_expiry(bytes, *expiry);
            put_deadline_condition(bytes, *condition);
        }
        Operation::Extend { key, value, by_ms } => {
            put(bytes, EXTEND, &[key, value]);
            bytes.put_i64_le(*by_ms);
        }
        Operation::LeftIfEqual { key, value } => put(bytes, LEFT_IF_EQUAL, &[key, value]),
        Operation::SetAll { keys, value, condition, expiry } => {
            put_list(bytes, SET_ALL, keys);
            put_bytes(bytes, value);
            put_condition(bytes, Some(condition));
            put_expiry(bytes, *expiry);
        }
        other => unreachable!("{other:?} is not about keys that expire"),
    }
}

/// Reads the operation behind this tag.
pub(super) fn decode(tag: u8, bytes: &mut Bytes) -> Result<Operation, UnreadableCommand> {
    Ok(match tag {
        SET_EXPIRING => Operation::SetExpiring {
            key: take(bytes)?,
            value: take(bytes)?,
            condition: take_condition(bytes)?,
            returns_old: take_bool(bytes)?,
            expiry: take_expiry(bytes)?,
        },
        GET_EXPIRING => Operation::GetExpiring { key: take(bytes)?, expiry: take_expiry(bytes)? },
        CHANGE_DEADLINE => Operation::ChangeDeadline {
            key: take(bytes)?,
            expiry: take_expiry(bytes)?,
            condition: take_deadline_condition(bytes)?,
        },
        DEADLINE => Operation::Deadline {
            key: take(bytes)?,
            form: match take_u8(bytes)? {
                0 => DeadlineForm::LeftMs,
                1 => DeadlineForm::LeftSeconds,
                2 => DeadlineForm::AtMs,
                3 => DeadlineForm::AtSeconds,
                _ => return Err(UnreadableCommand::Unknown),
            },
        },
        CREATED => Operation::Created { key: take(bytes)? },
        EXPIRE => {
            Operation::Expire { at_most: bytes.try_get_u32_le().map_err(|_| UnreadableCommand::Malformed)? }
        }
        CHANGE_DEADLINE_IF_EQUAL => Operation::ChangeDeadlineIfEqual {
            key: take(bytes)?,
            value: take(bytes)?,
            expiry: take_expiry(bytes)?,
            condition: take_deadline_condition(bytes)?,
        },
        EXTEND => Operation::Extend { key: take(bytes)?, value: take(bytes)?, by_ms: take_i64(bytes)? },
        LEFT_IF_EQUAL => Operation::LeftIfEqual { key: take(bytes)?, value: take(bytes)? },
        SET_ALL => Operation::SetAll {
            keys: take_list(bytes, take)?,
            value: take(bytes)?,
            condition: take_condition(bytes)?.ok_or(UnreadableCommand::Malformed)?,
            expiry: take_expiry(bytes)?,
        },
        _ => return Err(UnreadableCommand::Unknown),
    })
}

fn put_deadline_condition(bytes: &mut BytesMut, condition: DeadlineCondition) {
    let DeadlineCondition { if_none, if_any, if_later, if_earlier } = condition;
    for flag in [if_none, if_any, if_later, if_earlier] {
        bytes.put_u8(u8::from(flag));
    }
}

fn take_deadline_condition(bytes: &mut Bytes) -> Result<DeadlineCondition, UnreadableCommand> {
    Ok(DeadlineCondition {
        if_none: take_bool(bytes)?,
        if_any: take_bool(bytes)?,
        if_later: take_bool(bytes)?,
        if_earlier: take_bool(bytes)?,
    })
}

fn put_expiry(bytes: &mut BytesMut, expiry: Expiry) {
    let (tag, ms) = match expiry {
        Expiry::Never => (0, 0),
        Expiry::Kept => (1, 0),
        Expiry::AfterMs(ms) => (2, ms),
        Expiry::AtMs(ms) => (3, ms),
    };
    bytes.put_u8(tag);
    bytes.put_i64_le(ms);
}

fn take_expiry(bytes: &mut Bytes) -> Result<Expiry, UnreadableCommand> {
    let tag = take_u8(bytes)?;
    let ms = take_i64(bytes)?;
    Ok(match (tag, ms) {
        (0, 0) => Expiry::Never,
        (1, 0) => Expiry::Kept,
        (2, ms) => Expiry::AfterMs(ms),
        (3, ms) => Expiry::AtMs(ms),
        _ => return Err(UnreadableCommand::Unknown),
    })
}
