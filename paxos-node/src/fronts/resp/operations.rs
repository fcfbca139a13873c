//! The commands of the store: from the arguments of a request to an operation.
//!
//! Each function is named by a row of [`COMMANDS`](super::commands::COMMANDS), and relies on the number of
//! arguments that stands there.

#![expect(clippy::unnecessary_wraps, reason = "the functions of the table have one type")]

use bytes::Bytes;

use super::RespSettings;
use super::errors::{NOT_AN_INTEGER, SYNTAX};
use super::words::is;
use crate::kv::{Operation, Reply, parse_integer};

/// Makes an operation of arguments, or the answer if it needs no operation.
pub(super) type ToOperation = fn(&[Bytes], &RespSettings) -> Result<Operation, Reply>;

/// How many keys a scan looks at unless the client says how many.
const SCAN_COUNT: u64 = 10;
/// How many keys a scan looks at at most, so that none holds the node up.
const MAX_SCAN_COUNT: u64 = 10_000;

pub(super) fn get(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::get(arguments[0].clone()))
}

pub(super) fn setnx(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::set_nx(arguments[0].clone(), arguments[1].clone()))
}

pub(super) fn getset(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::set_with(arguments[0].clone(), arguments[1].clone(), None, true))
}

pub(super) fn getdel(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::get_del(arguments[0].clone()))
}

pub(super) fn append(arguments: &[Bytes], settings: &RespSettings) -> Result<Operation, Reply> {
    let limit_bytes = settings.max_value_bytes as u64;
    Ok(Operation::append(arguments[0].clone(), arguments[1].clone(), limit_bytes))
}

pub(super) fn strlen(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::str_len(arguments[0].clone()))
}

pub(super) fn mget(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::m_get(arguments.to_vec()))
}

pub(super) fn mset(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let pairs = arguments.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    Ok(Operation::m_set(pairs.collect()))
}

pub(super) fn incr(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::add(arguments[0].clone(), 1))
}

pub(super) fn decr(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::add(arguments[0].clone(), -1))
}

pub(super) fn incrby(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::add(arguments[0].clone(), integer(&arguments[1])?))
}

pub(super) fn decrby(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let by = integer(&arguments[1])?;
    let by = by.checked_neg().ok_or_else(|| Reply::error("ERR decrement would overflow"))?;
    Ok(Operation::add(arguments[0].clone(), by))
}

pub(super) fn del(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::delete(arguments.to_vec()))
}

pub(super) fn exists(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::exists(arguments.to_vec()))
}

pub(super) fn type_of(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::type_of(arguments[0].clone()))
}

pub(super) fn scan(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let (cursor, flags) = (&arguments[0], &arguments[1..]);
    let cursor = std::str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok());
    let cursor = cursor.ok_or_else(|| Reply::error("ERR invalid cursor"))?;
    let (mut pattern, mut count, mut has_such_a_type) = (None, SCAN_COUNT, true);
    if !flags.len().is_multiple_of(2) {
        return Err(Reply::error(SYNTAX));
    }
    for flag in flags.chunks_exact(2) {
        if is(&flag[0], "match") {
            pattern = Some(flag[1].clone());
        } else if is(&flag[0], "count") {
            let number = u64::try_from(integer(&flag[1])?).ok().filter(|number| *number > 0);
            count = number.ok_or_else(|| Reply::error(SYNTAX))?.min(MAX_SCAN_COUNT);
        } else if is(&flag[0], "type") {
            has_such_a_type = is(&flag[1], "string");
        } else {
            return Err(Reply::error(SYNTAX));
        }
    }
    if has_such_a_type {
        Ok(Operation::scan(cursor, pattern, count))
    } else {
        // All values are strings, so no key has another type.
        Err(Reply::Array(vec![Reply::Bulk(Bytes::from_static(b"0")), Reply::Array(Vec::new())]))
    }
}

pub(super) fn dbsize(_: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::DbSize)
}

pub(super) fn flush(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    match arguments {
        [mode] if !is(mode, "async") && !is(mode, "sync") => Err(Reply::error(SYNTAX)),
        _ => Ok(Operation::FlushAll),
    }
}

fn integer(text: &Bytes) -> Result<i64, Reply> {
    parse_integer(text).ok_or_else(|| Reply::error(NOT_AN_INTEGER))
}
