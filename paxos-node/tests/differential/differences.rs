//! What differs from Redis, each with its reason.
//!
//! Some of it is not drawn at all: `INCRBYFLOAT` of numbers that a long double does not hold exactly, as
//! decimal numbers here are exact; `SUBSCRIBE` and `UNSUBSCRIBE` within `MULTI`, which are refused; how
//! `OBJECT ENCODING` shows a value that was changed in part, as it tells here what Redis would do with the
//! whole value; `GETEX` with a time that is none, of which Redis says nothing if the key is missing; and
//! values beyond the limit of a node.

use crate::wire::Value;

/// Commands of which `COMMAND INFO` tells something else, and why.
pub(crate) const DESCRIPTIONS: &[(&str, &str)] = &[
    ("object", "in Redis its subcommands have keys; here a command is described as a whole"),
    ("memory", "as object"),
    ("eval", "which script it is decides what it does: the known ones write"),
    ("evalsha", "as eval"),
];

/// Leaves out of a reply what no two servers have in common: the order of keys, which key is the random one,
/// how much memory a key takes, how many references its value has, and how late it is to the second.
pub(crate) fn leave_out(request: &[Vec<u8>], reply: Value) -> Value {
    let name = request[0].to_ascii_uppercase();
    match (&name[..], reply) {
        (b"KEYS", Value::Array(keys)) => Value::Array(sorted(keys)),
        (b"SCAN", Value::Array(mut parts)) => {
            if let Some(Value::Array(keys)) = parts.pop() {
                parts.push(Value::Array(sorted(keys)));
            }
            Value::Array(parts)
        }
        (b"RANDOMKEY", Value::Bulk(_)) => Value::Bulk(Vec::new()),
        (b"MEMORY" | b"OBJECT", Value::Integer(_)) => Value::Integer(0),
        (b"TTL", Value::Integer(left)) => Value::Integer(rounded(left, 500)),
        (b"PTTL", Value::Integer(left)) => Value::Integer(rounded(left, 500_000)),
        (b"EXPIRETIME", Value::Integer(at)) => Value::Integer(rounded(at, 100_000)),
        (b"PEXPIRETIME", Value::Integer(at)) => Value::Integer(rounded(at, 100_000_000)),
        (b"HELLO", Value::Map(_)) => Value::Map(Vec::new()),
        // In a transaction it is not known here which reply is whose.
        (b"EXEC", Value::Array(replies)) => Value::Array(replies.into_iter().map(without_order).collect()),
        (_, reply) => with_one_limit(reply),
    }
}

/// A time to the nearest of these units; what is no time stays as it is.
fn rounded(time: i64, unit: i64) -> i64 {
    if time < 0 { time } else { time.saturating_add(unit / 2) / unit * unit }
}

/// The limit of a value is named in bytes here, and in Redis by its setting.
fn with_one_limit(reply: Value) -> Value {
    let names = ["ERR value exceeds the limit of ", "ERR string exceeds maximum allowed size"];
    match reply {
        Value::Error(text) if names.iter().any(|name| text.starts_with(name)) => {
            Value::Error(String::from("it is too long"))
        }
        reply => reply,
    }
}

fn without_order(reply: Value) -> Value {
    match reply {
        Value::Array(elements) => Value::Array(sorted(elements.into_iter().map(without_order).collect())),
        other => with_one_limit(other),
    }
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_key(|value| format!("{value:?}"));
    values
}

/// Why two replies to a request may differ; `None` if they may not.
pub(crate) fn reason(request: &[Vec<u8>], ours: &Value, theirs: &Value) -> Option<&'static str> {
    let words: Vec<String> =
        request.iter().map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let are_errors = matches!((ours, theirs), (Value::Error(_), Value::Error(_)));
    match &words[..] {
        ["command", "getkeys", _] if are_errors => Some("7.2 takes a command without arguments; 7.0 did not"),
        _ => None,
    }
}
