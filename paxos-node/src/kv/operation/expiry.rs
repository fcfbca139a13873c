//! How the log holds operations about keys that expire.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::codec::{MalformedCommand, put, put_condition, take, take_bool, take_condition, take_u8};
use super::{DeadlineCondition, DeadlineForm, Expiry, Operation};

/// The tags of these operations.
const SET_EXPIRING: u8 = 64;
const GET_EXPIRING: u8 = 65;
const CHANGE_DEADLINE: u8 = 66;
const DEADLINE: u8 = 67;
const CREATED: u8 = 68;
const EXPIRE: u8 = 69;

/// Writes an operation, if it is one of these.
pub(super) fn encode(operation: &Operation, bytes: &mut BytesMut) {
    match operation {
        Operation::SetExpiring { key, value, condition, returns_old, expiry } => {
            put(bytes, SET_EXPIRING, &[key, value]);
            put_condition(bytes, *condition);
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
            let DeadlineCondition { if_none, if_any, if_later, if_earlier } = *condition;
            for flag in [if_none, if_any, if_later, if_earlier] {
                bytes.put_u8(u8::from(flag));
            }
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
        other => unreachable!("{other:?} is not about keys that expire"),
    }
}

/// Reads the operation behind this tag.
pub(super) fn decode(tag: u8, bytes: &mut Bytes) -> Result<Operation, MalformedCommand> {
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
            condition: DeadlineCondition {
                if_none: take_bool(bytes)?,
                if_any: take_bool(bytes)?,
                if_later: take_bool(bytes)?,
                if_earlier: take_bool(bytes)?,
            },
        },
        DEADLINE => Operation::Deadline {
            key: take(bytes)?,
            form: match take_u8(bytes)? {
                0 => DeadlineForm::LeftMs,
                1 => DeadlineForm::LeftSeconds,
                2 => DeadlineForm::AtMs,
                3 => DeadlineForm::AtSeconds,
                _ => return Err(MalformedCommand),
            },
        },
        CREATED => Operation::Created { key: take(bytes)? },
        EXPIRE => Operation::Expire { at_most: bytes.try_get_u32_le().map_err(|_| MalformedCommand)? },
        _ => return Err(MalformedCommand),
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

fn take_expiry(bytes: &mut Bytes) -> Result<Expiry, MalformedCommand> {
    let tag = take_u8(bytes)?;
    let ms = bytes.try_get_i64_le().map_err(|_| MalformedCommand)?;
    Ok(match (tag, ms) {
        (0, 0) => Expiry::Never,
        (1, 0) => Expiry::Kept,
        (2, ms) => Expiry::AfterMs(ms),
        (3, ms) => Expiry::AtMs(ms),
        _ => return Err(MalformedCommand),
    })
}
