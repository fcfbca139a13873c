//! Commands on parts of values, on decimal numbers, and on several values at once: further functions of
//! [`COMMANDS`](super::commands::COMMANDS), as in [`operations`](super::operations).

#![expect(clippy::unnecessary_wraps, reason = "the functions of the table have one type")]

use bytes::Bytes;

use super::RespSettings;
use super::operations::{integer, pairs};
use crate::kv::{Decimal, NotDecimal, Operation, Reply};

pub(super) fn msetnx(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::MSetNx { pairs: pairs("msetnx", arguments)? })
}

pub(super) fn setrange(arguments: &[Bytes], settings: &RespSettings) -> Result<Operation, Reply> {
    let offset = u64::try_from(integer(&arguments[1])?);
    Ok(Operation::SetRange {
        key: arguments[0].clone(),
        offset: offset.map_err(|_| Reply::error("ERR offset is out of range"))?,
        value: arguments[2].clone(),
        limit_bytes: settings.max_value_bytes as u64,
    })
}

pub(super) fn getrange(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let (first, last) = (integer(&arguments[1])?, integer(&arguments[2])?);
    Ok(Operation::GetRange { key: arguments[0].clone(), first, last })
}

pub(super) fn incrbyfloat(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let by = Decimal::parse(&arguments[1]).map_err(|error| match error {
        NotDecimal::Malformed => Reply::error("ERR value is not a valid float"),
        NotDecimal::TooLarge => Reply::error(Decimal::TOO_LARGE),
    })?;
    Ok(Operation::AddDecimal { key: arguments[0].clone(), by })
}

pub(super) fn digest(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::Digest { key: arguments[0].clone() })
}
