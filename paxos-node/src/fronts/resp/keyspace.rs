//! Commands on whole keys: further functions of [`COMMANDS`](super::commands::COMMANDS), as in
//! [`operations`](super::operations).

#![expect(clippy::unnecessary_wraps, reason = "the functions of the table have one type")]

use bytes::Bytes;

use super::RespSettings;
use super::errors::{NOT_AN_INTEGER, SYNTAX, unknown_subcommand, wrong_arity};
use super::operations::integer;
use super::words::is;
use crate::kv::{Operation, Property, Reply, parse_integer};

const NOT_AN_INDEX: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";

pub(super) fn rename(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::Rename { from: arguments[0].clone(), to: arguments[1].clone(), only_if_missing: false })
}

pub(super) fn renamenx(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::Rename { from: arguments[0].clone(), to: arguments[1].clone(), only_if_missing: true })
}

pub(super) fn copy(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let (mut replaces, mut words) = (false, arguments[2..].iter());
    while let Some(word) = words.next() {
        if is(word, "replace") {
            replaces = true;
        } else if is(word, "db")
            && let Some(database) = words.next()
        {
            match parse_integer(database) {
                Some(0) => {}
                Some(index) if i32::try_from(index).is_err() => return Err(Reply::error(NOT_AN_INDEX)),
                Some(_) => return Err(Reply::error("ERR DB index is out of range")),
                None => return Err(Reply::error(NOT_AN_INTEGER)),
            }
        } else {
            return Err(Reply::error(SYNTAX));
        }
    }
    Ok(Operation::Copy { from: arguments[0].clone(), to: arguments[1].clone(), replaces })
}

pub(super) fn randomkey(_: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::RandomKey { seed: fastrand::u64(..) })
}

pub(super) fn keys(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::Keys { pattern: arguments[0].clone() })
}

/// The subcommands of `OBJECT`.
const PROPERTIES: [(&str, Property); 4] = [
    ("encoding", Property::Encoding),
    ("freq", Property::Frequency),
    ("idletime", Property::IdleTime),
    ("refcount", Property::References),
];

pub(super) fn object(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let property = PROPERTIES.into_iter().find(|(name, _)| is(&arguments[0], name));
    let (_, property) = property.ok_or_else(|| unknown_subcommand("object", &arguments[0]))?;
    Ok(Operation::Object { key: arguments[1].clone(), property })
}

/// Refuses a subcommand of `OBJECT` that is unknown or has a wrong number of arguments.
pub(super) fn check_object(arguments: &[Bytes]) -> Result<(), Reply> {
    match PROPERTIES.iter().find(|(name, _)| is(&arguments[0], name)) {
        None => Err(unknown_subcommand("object", &arguments[0])),
        Some(_) if arguments.len() == 2 => Ok(()),
        Some((name, _)) => Err(wrong_arity(&format!("object|{name}"))),
    }
}

pub(super) fn memory(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    match &arguments[2..] {
        [] => {}
        // All values are strings, of which nothing is sampled.
        [word, samples] if is(word, "samples") => {
            if integer(samples)? < 0 {
                return Err(Reply::error(SYNTAX));
            }
        }
        _ => return Err(Reply::error(SYNTAX)),
    }
    Ok(Operation::Object { key: arguments[1].clone(), property: Property::MemoryBytes })
}

/// Refuses a subcommand of `MEMORY` that is unknown or has a wrong number of arguments.
pub(super) fn check_memory(arguments: &[Bytes]) -> Result<(), Reply> {
    match arguments {
        [subcommand, ..] if !is(subcommand, "usage") => Err(unknown_subcommand("memory", subcommand)),
        [_] => Err(wrong_arity("memory|usage")),
        _ => Ok(()),
    }
}
