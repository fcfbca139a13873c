//! Conditions on a key, and the commands that consist of one: `DELEX` and `DELIFEQ`.

use bytes::Bytes;

use super::RespSettings;
use super::errors::{SYNTAX, wrong_arity};
use super::words::is;
use crate::kv::{Condition, Operation, Reply};

const DIGEST_DIGITS: usize = 16;

/// The condition that begins with `word`, whose operand is the next of `words`; `None` if none begins so.
pub(super) fn given<'a>(
    word: &[u8],
    words: &mut impl Iterator<Item = &'a Bytes>,
) -> Result<Option<Condition>, Reply> {
    if is(word, "nx") {
        return Ok(Some(Condition::IfMissing));
    }
    if is(word, "xx") {
        return Ok(Some(Condition::IfPresent));
    }
    let of: fn(&Bytes) -> Result<Condition, Reply> = match () {
        () if is(word, "ifeq") => |value| Ok(Condition::IfEqual(value.clone())),
        () if is(word, "ifne") => |value| Ok(Condition::IfNotEqual(value.clone())),
        () if is(word, "ifdeq") => |digits| digest(digits).map(Condition::IfDigest),
        () if is(word, "ifdne") => |digits| digest(digits).map(Condition::IfNotDigest),
        () => return Ok(None),
    };
    words.next().ok_or_else(|| Reply::error(SYNTAX)).and_then(of).map(Some)
}

/// Reads what `DIGEST` answers.
fn digest(digits: &[u8]) -> Result<u64, Reply> {
    let text = std::str::from_utf8(digits).ok();
    let text =
        text.filter(|text| text.len() == DIGEST_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| Reply::error("ERR digest must be exactly 16 hexadecimal characters"))
}

pub(super) fn delex(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let [key, words @ ..] = arguments else { return Err(wrong_arity("delex")) };
    let condition = match words {
        [] => Condition::IfPresent,
        [word, operand] => match given(word, &mut std::iter::once(operand))? {
            None | Some(Condition::IfMissing | Condition::IfPresent) => return Err(Reply::error(SYNTAX)),
            Some(condition) => condition,
        },
        _ => return Err(wrong_arity("delex")),
    };
    // To remove a missing key changes nothing, whatever the condition says of it.
    Ok(Operation::delete_if(key.clone(), condition))
}

#[expect(clippy::unnecessary_wraps, reason = "the functions of the table have one type")]
pub(super) fn delifeq(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::delete_if(arguments[0].clone(), Condition::IfEqual(arguments[1].clone())))
}
