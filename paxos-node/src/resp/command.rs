//! The commands of the store: from words to operations.

use bytes::Bytes;

use super::Options;
use crate::kv::{Condition, Operation, Reply, parse_integer};

const SYNTAX: &str = "ERR syntax error";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
/// How many keys a scan looks at unless told.
const SCAN_COUNT: u64 = 10;
/// How many keys a scan looks at at most, so that none holds the node up.
const MAX_SCAN_COUNT: u64 = 10_000;

/// All commands that the front knows, with what `COMMAND` tells of them.
pub(super) const NAMES: &[&str] = &[
    "append", "auth", "client", "command", "config", "dbsize", "decr", "decrby", "del", "discard", "echo",
    "exec", "exists", "flushall", "flushdb", "get", "getdel", "getset", "hello", "incr", "incrby", "info",
    "mget", "mset", "multi", "ping", "quit", "reset", "scan", "select", "set", "setnx", "strlen", "unlink",
    "unwatch", "watch",
];

/// More than any of the names has.
pub(super) const CUT_NAME_BYTES: usize = 16;

/// What words mean to the store.
pub(super) enum Meaning {
    /// Something to do.
    Operation(Operation),
    /// Something that can't be done.
    Error(Reply),
    /// No command of this name has so many arguments.
    WrongArity,
    /// No command of the store's.
    Unknown,
}

/// Finds the operation that `request` asks for; `name` is its first word in lower case.
pub(super) fn operation(name: &[u8], request: &[Bytes], options: &Options) -> Meaning {
    let arguments = &request[1..];
    let result = match (name, arguments) {
        (b"get", [key]) => Ok(Operation::Get { key: key.clone() }),
        (b"set", [key, value, flags @ ..]) => set(key, value, flags),
        (b"setnx", [key, value]) => Ok(Operation::SetNx { key: key.clone(), value: value.clone() }),
        (b"getset", [key, value]) => {
            Ok(Operation::Set { key: key.clone(), value: value.clone(), condition: None, returns_old: true })
        }
        (b"getdel", [key]) => Ok(Operation::GetDel { key: key.clone() }),
        (b"del" | b"unlink", [_, ..]) => Ok(Operation::Delete { keys: arguments.to_vec() }),
        (b"exists", [_, ..]) => Ok(Operation::Exists { keys: arguments.to_vec() }),
        (b"incr", [key]) => Ok(Operation::Add { key: key.clone(), by: 1 }),
        (b"decr", [key]) => Ok(Operation::Add { key: key.clone(), by: -1 }),
        (b"incrby", [key, by]) => parse_integer(by)
            .map(|by| Operation::Add { key: key.clone(), by })
            .ok_or_else(|| Reply::error(NOT_AN_INTEGER)),
        (b"decrby", [key, by]) => decrby(key, by),
        (b"append", [key, value]) => {
            let limit_bytes = options.max_value_bytes as u64;
            Ok(Operation::Append { key: key.clone(), value: value.clone(), limit_bytes })
        }
        (b"strlen", [key]) => Ok(Operation::StrLen { key: key.clone() }),
        (b"mget", [_, ..]) => Ok(Operation::MGet { keys: arguments.to_vec() }),
        (b"mset", [_, _, ..]) if arguments.len().is_multiple_of(2) => {
            let pairs = arguments.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
            Ok(Operation::MSet { pairs: pairs.collect() })
        }
        (b"dbsize", []) => Ok(Operation::DbSize),
        (b"scan", [cursor, flags @ ..]) => scan(cursor, flags),
        (b"flushall" | b"flushdb", []) => Ok(Operation::FlushAll),
        (b"flushall" | b"flushdb", [mode]) if is(mode, "async") || is(mode, "sync") => {
            Ok(Operation::FlushAll)
        }
        (b"flushall" | b"flushdb", [_]) => Err(Reply::error(SYNTAX)),
        (
            b"get" | b"set" | b"setnx" | b"getset" | b"getdel" | b"del" | b"unlink" | b"exists" | b"incr"
            | b"decr" | b"incrby" | b"decrby" | b"append" | b"strlen" | b"mget" | b"mset" | b"dbsize"
            | b"scan" | b"flushall" | b"flushdb",
            _,
        ) => return Meaning::WrongArity,
        _ => return Meaning::Unknown,
    };
    match result.and_then(|operation| within_limits(operation, options)) {
        Ok(operation) => Meaning::Operation(operation),
        Err(error) => Meaning::Error(error),
    }
}

/// The name of a command in lower case, in the memory of the caller. A word that is cut is none that is known.
pub(super) fn lower_case<'a>(word: &[u8], lower: &'a mut [u8; CUT_NAME_BYTES]) -> &'a [u8] {
    let length = word.len().min(lower.len());
    lower[..length].copy_from_slice(&word[..length]);
    lower[..length].make_ascii_lowercase();
    &lower[..length]
}

pub(super) fn wrong_arity(name: &[u8]) -> Reply {
    let name = String::from_utf8_lossy(name);
    Reply::error(&format!("ERR wrong number of arguments for '{name}' command"))
}

/// Whether a word is this one, in any case.
pub(super) fn is(word: &[u8], text: &str) -> bool {
    word.eq_ignore_ascii_case(text.as_bytes())
}

fn set(key: &Bytes, value: &Bytes, flags: &[Bytes]) -> Result<Operation, Reply> {
    let (mut condition, mut returns_old) = (None, false);
    for flag in flags {
        if is(flag, "nx") && condition.is_none() {
            condition = Some(Condition::IfMissing);
        } else if is(flag, "xx") && condition.is_none() {
            condition = Some(Condition::IfPresent);
        } else if is(flag, "get") && !returns_old {
            returns_old = true;
        } else if ["ex", "px", "exat", "pxat", "keepttl"].iter().any(|expiry| is(flag, expiry)) {
            return Err(Reply::error(
                "ERR keys do not expire here: EX, PX, EXAT, PXAT and KEEPTTL are not supported",
            ));
        } else {
            return Err(Reply::error(SYNTAX));
        }
    }
    Ok(Operation::Set { key: key.clone(), value: value.clone(), condition, returns_old })
}

fn decrby(key: &Bytes, by: &Bytes) -> Result<Operation, Reply> {
    let by = parse_integer(by).ok_or_else(|| Reply::error(NOT_AN_INTEGER))?;
    let by = by.checked_neg().ok_or_else(|| Reply::error("ERR decrement would overflow"))?;
    Ok(Operation::Add { key: key.clone(), by })
}

fn scan(cursor: &Bytes, flags: &[Bytes]) -> Result<Operation, Reply> {
    let cursor = std::str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok());
    let cursor = cursor.ok_or_else(|| Reply::error("ERR invalid cursor"))?;
    let (mut pattern, mut count) = (None, SCAN_COUNT);
    if !flags.len().is_multiple_of(2) {
        return Err(Reply::error(SYNTAX));
    }
    for flag in flags.chunks_exact(2) {
        if is(&flag[0], "match") {
            pattern = Some(flag[1].clone());
        } else if is(&flag[0], "count") {
            let number = parse_integer(&flag[1]).ok_or_else(|| Reply::error(NOT_AN_INTEGER))?;
            let number = u64::try_from(number).ok().filter(|number| *number > 0);
            count = number.ok_or_else(|| Reply::error(SYNTAX))?.min(MAX_SCAN_COUNT);
        } else if !(is(&flag[0], "type") && is(&flag[1], "string")) {
            return Err(Reply::error(SYNTAX));
        }
    }
    Ok(Operation::Scan { cursor, pattern, count })
}

fn within_limits(operation: Operation, options: &Options) -> Result<Operation, Reply> {
    let pair = |key: &Bytes, value: &Bytes| {
        let (keys, values) = (options.max_key_bytes, options.max_value_bytes);
        if key.len() > keys {
            return Err(Reply::error(&format!("ERR key exceeds the limit of {keys} bytes")));
        }
        if value.len() > values {
            return Err(Reply::error(&format!("ERR value exceeds the limit of {values} bytes")));
        }
        Ok(())
    };
    match &operation {
        Operation::Set { key, value, .. }
        | Operation::SetNx { key, value }
        | Operation::Append { key, value, .. } => pair(key, value)?,
        Operation::MSet { pairs } => pairs.iter().try_for_each(|(key, value)| pair(key, value))?,
        Operation::Add { key, .. } => pair(key, &Bytes::new())?,
        // A key that is too long is in no store: looking for it or removing it does no harm.
        _ => {}
    }
    Ok(operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_cut_and_what_is_cut_is_no_name() {
        assert!(NAMES.iter().all(|name| name.len() < CUT_NAME_BYTES));
        let lower = |word: &[u8]| lower_case(word, &mut [0; CUT_NAME_BYTES]).to_vec();
        assert_eq!(lower(b"GetDel"), b"getdel");
        assert_eq!(lower(b""), b"");
        assert_eq!(lower(b"FlushDbAndWhatIsBehindIt"), b"flushdbandwhatis");
    }
}
