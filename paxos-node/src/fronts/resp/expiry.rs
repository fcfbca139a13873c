//! The commands about keys that expire: from the arguments of a request to an operation.
//!
//! Each function is named by a row of [`COMMANDS`](super::commands::COMMANDS), and relies on the number of
//! arguments that stands there. Answers and errors are those of Redis 7.2.

#![expect(clippy::unnecessary_wraps, reason = "the functions of the table have one type")]

use bytes::Bytes;

use super::RespSettings;
use super::errors::{NOT_AN_INTEGER, SYNTAX};
use super::words::is;
use crate::kv::{Condition, DeadlineCondition, DeadlineForm, Expiry, Operation, Reply, parse_integer};

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

/// `SET` with its options.
pub(super) fn set(arguments: &[Bytes], _: &RespSettings) -> Result<Operation> {
    let (mut condition, mut returns_old, mut keeps, mut given_time) = (None, false, false, None);
    let mut rest = &arguments[2..];
    while let [option, after @ ..] = rest {
        rest = after;
        if is(option, "nx") && condition != Some(Condition::IfPresent) {
            condition = Some(Condition::IfMissing);
        } else if is(option, "xx") && condition != Some(Condition::IfMissing) {
            condition = Some(Condition::IfPresent);
        } else if is(option, "get") {
            returns_old = true;
        } else if is(option, "keepttl") && given_time.is_none() {
            keeps = true;
        } else if let (Some(given), None, false, [time, after @ ..]) =
            (Given::of_option(option), given_time, keeps, after)
        {
            given_time = Some((given, time));
            rest = after;
        } else {
            return Err(Reply::error(SYNTAX));
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
    let expiry = match &arguments[1..] {
        [] => return Ok(Operation::get(key)),
        [option] if is(option, "persist") => Expiry::Never,
        [option, time] => {
            let given = Given::of_option(option).ok_or_else(|| Reply::error(SYNTAX))?;
            given.expiry(time, 1, "getex")?
        }
        _ => return Err(Reply::error(SYNTAX)),
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
