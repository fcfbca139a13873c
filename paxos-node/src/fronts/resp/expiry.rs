//! The commands about keys that expire: from the arguments of a request to an operation.
//!
//! Each function is named by a row of [`COMMANDS`](super::commands::COMMANDS), and relies on the number of
//! arguments that stands there. Answers and errors are those of Redis 7.2.

#![expect(clippy::unnecessary_wraps, reason = "the functions of the table have one type")]

use bytes::Bytes;

use super::RespSettings;
use super::conditions;
use super::errors::{NOT_AN_INTEGER, SYNTAX};
use super::words::is;
use crate::kv::{DeadlineCondition, DeadlineForm, Expiry, Operation, Reply, parse_integer};

/// The furthest that a deadline may lie ahead, so that no sum overflows: some hundred million years.
const MAX_AFTER_MS: i64 = i64::MAX / 2;

type Result<T> = std::result::Result<T, Reply>;

/// How a time is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    AfterSeconds,
    AfterMs,
    AtSeconds,
    AtMs,
}

impl Given {
    /// What an option with a time means.
    fn of_option(option: &[u8]) -> Option<Given> {
        [
            ("ex", Given::AfterSeconds),
            ("px", Given::AfterMs),
            ("exat", Given::AtSeconds),
            ("pxat", Given::AtMs),
        ]
        .into_iter()
        .find_map(|(name, given)| is(option, name).then_some(given))
    }

    /// The expiry in an argument; times below `least` are refused in the name of `command`.
    fn expiry(self, text: &Bytes, least: i64, command: &str) -> Result<Expiry> {
        let invalid = || Reply::error(&format!("ERR invalid expire time in '{command}' command"));
        let number = parse_integer(text).ok_or_else(|| Reply::error(NOT_AN_INTEGER))?;
        if number < least {
            return Err(invalid());
        }
        let ms = match self {
            Given::AfterSeconds | Given::AtSeconds => number.checked_mul(1000).ok_or_else(invalid)?,
            Given::AfterMs | Given::AtMs => number,
        };
        match self {
            Given::AfterSeconds | Given::AfterMs if ms > MAX_AFTER_MS => Err(invalid()),
            Given::AfterSeconds | Given::AfterMs => Ok(Expiry::AfterMs(ms)),
            Given::AtSeconds | Given::AtMs => Ok(Expiry::AtMs(ms)),
        }
    }
}

/// So many milliseconds after the time of the slot.
pub(super) fn after_ms(text: &Bytes) -> Option<Expiry> {
    Given::AfterMs.expiry(text, i64::MIN, "").ok()
}

/// So many seconds after the time of the slot.
pub(super) fn after_seconds(text: &Bytes) -> Option<Expiry> {
    Given::AfterSeconds.expiry(text, i64::MIN, "").ok()
}

/// The time that this option gives. As in Redis, the same option may be there before, and the last one
/// counts.
fn time_of<'a>(
    option: &[u8],
    words: &mut impl Iterator<Item = &'a Bytes>,
    before: Option<(Given, &Bytes)>,
    is_excluded: bool,
) -> Result<(Given, &'a Bytes)> {
    let given = Given::of_option(option).filter(|given| before.is_none_or(|(before, _)| before == *given));
    let time = if is_excluded { None } else { given.zip(words.next()) };
    time.ok_or_else(|| Reply::error(SYNTAX))
}

/// `SET` with its options.
pub(super) fn set(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    let (mut condition, mut returns_old, mut keeps, mut given_time) = (None, false, false, None);
    let mut words = arguments[2..].iter();
    while let Some(word) = words.next() {
        if let Some(given) = conditions::given(word, &mut words)? {
            if condition.as_ref().is_some_and(|condition| *condition != given) {
                return Err(Reply::error(SYNTAX));
            }
            condition = Some(given);
        } else if is(word, "get") {
            returns_old = true;
        } else if is(word, "keepttl") && given_time.is_none() {
            keeps = true;
        } else {
            given_time = Some(time_of(word, &mut words, given_time, keeps)?);
        }
    }
    let (key, value) = (arguments[0].clone(), arguments[1].clone());
    let expiry = match given_time {
        Some((given, time)) => given.expiry(time, 1, "set")?,
        None if keeps => Expiry::Kept,
        None => return Ok(Operation::set_with(key, value, condition, returns_old)),
    };
    Ok(Operation::SetExpiring { key, value, condition, returns_old, expiry })
}

fn set_after(arguments: &[Bytes], given: Given, command: &str) -> Result<Operation> {
    let expiry = given.expiry(&arguments[1], 1, command)?;
    let (key, value) = (arguments[0].clone(), arguments[2].clone());
    Ok(Operation::SetExpiring { key, value, condition: None, returns_old: false, expiry })
}

pub(super) fn setex(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    set_after(arguments, Given::AfterSeconds, "setex")
}

pub(super) fn psetex(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    set_after(arguments, Given::AfterMs, "psetex")
}

pub(super) fn getex(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    let key = arguments[0].clone();
    let (mut persists, mut given_time) = (false, None);
    let mut words = arguments[1..].iter();
    while let Some(word) = words.next() {
        if is(word, "persist") && given_time.is_none() {
            persists = true;
        } else {
            given_time = Some(time_of(word, &mut words, given_time, persists)?);
        }
    }
    let expiry = match given_time {
        Some((given, time)) => given.expiry(time, 1, "getex")?,
        None if persists => Expiry::Never,
        None => return Ok(Operation::get(key)),
    };
    Ok(Operation::GetExpiring { key, expiry })
}

fn change(arguments: &[Bytes], given: Given, command: &str) -> Result<Operation> {
    let condition = condition(&arguments[2..])?;
    let expiry = given.expiry(&arguments[1], i64::MIN, command)?;
    Ok(Operation::ChangeDeadline { key: arguments[0].clone(), expiry, condition })
}

fn condition(options: &[Bytes]) -> Result<DeadlineCondition> {
    let mut condition = DeadlineCondition::default();
    for option in options {
        let flag = [
            ("nx", &mut condition.if_none),
            ("xx", &mut condition.if_any),
            ("gt", &mut condition.if_later),
            ("lt", &mut condition.if_earlier),
        ]
        .into_iter()
        .find_map(|(name, flag)| is(option, name).then_some(flag));
        let Some(flag) = flag else {
            let shown = String::from_utf8_lossy(&option[..option.len().min(super::errors::MAX_ECHO_BYTES)]);
            return Err(Reply::error(&format!("ERR Unsupported option {shown}")));
        };
        *flag = true;
    }
    let DeadlineCondition { if_none, if_any, if_later, if_earlier } = condition;
    if if_none && (if_any || if_later || if_earlier) {
        return Err(Reply::error("ERR NX and XX, GT or LT options at the same time are not compatible"));
    }
    if if_later && if_earlier {
        return Err(Reply::error("ERR GT and LT options at the same time are not compatible"));
    }
    Ok(condition)
}

pub(super) fn expire(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    change(arguments, Given::AfterSeconds, "expire")
}

pub(super) fn pexpire(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    change(arguments, Given::AfterMs, "pexpire")
}

pub(super) fn expireat(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    change(arguments, Given::AtSeconds, "expireat")
}

pub(super) fn pexpireat(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    change(arguments, Given::AtMs, "pexpireat")
}

pub(super) fn persist(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    let condition = DeadlineCondition::default();
    Ok(Operation::ChangeDeadline { key: arguments[0].clone(), expiry: Expiry::Never, condition })
}

pub(super) fn ttl(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    Ok(Operation::Deadline { key: arguments[0].clone(), form: DeadlineForm::LeftSeconds })
}

pub(super) fn pttl(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    Ok(Operation::Deadline { key: arguments[0].clone(), form: DeadlineForm::LeftMs })
}

pub(super) fn expiretime(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    Ok(Operation::Deadline { key: arguments[0].clone(), form: DeadlineForm::AtSeconds })
}

pub(super) fn pexpiretime(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    Ok(Operation::Deadline { key: arguments[0].clone(), form: DeadlineForm::AtMs })
}

/// `PAXOS.FENCE`: the fencing number of a lock.
pub(super) fn fence(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    Ok(Operation::Created { key: arguments[0].clone() })
}
