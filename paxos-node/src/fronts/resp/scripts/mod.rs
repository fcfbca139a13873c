//! `EVAL`, `EVALSHA` and `SCRIPT` for the scripts that lock libraries ship. There is no interpreter: a script
//! is recognised by its text, and carried out as one operation of the store.
//!
//! `table` has the scripts that are known, `normal` is how their texts are compared. Deliberately absent: any
//! other script. The error names commands that do what most others are for.

mod normal;
mod table;

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use self::table::Script;
use super::RespSettings;
use super::absent;
use super::errors::NOT_AN_INTEGER;
use super::local::ClientInfo;
use super::words::is;
use super::write::Writer;
use crate::kv::{Operation, Reply, parse_integer};
use crate::lock::lock;

const UNKNOWN: &str = "ERR this script is not one that a node knows, and no script is interpreted. Use SET key value \
     IFEQ old, DELEX key IFEQ value, or WATCH with MULTI and EXEC";
const NO_SCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";
/// No script that is known is longer.
const MAX_TEXT_BYTES: usize = 4 << 10;
/// Of how many texts a node remembers the scripts, beside those as which libraries ship them.
const MAX_REMEMBERED: usize = 1_000;

/// The SHA-1 of a script's text, by which clients name it.
type Sha = [u8; 20];

/// The scripts of texts that clients have sent. A text means the same always and everywhere, so this only
/// saves clients from sending it again; a node that does not remember it asks for it.
static REMEMBERED: Mutex<BTreeMap<Sha, &'static Script>> = Mutex::new(BTreeMap::new());

pub(super) fn eval(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let (keys, values) = keys_and_values(&arguments[1..])?;
    let (script, _) = known(&arguments[0])?;
    operation(script, keys, values)
}

pub(super) fn evalsha(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    let (keys, values) = keys_and_values(&arguments[1..])?;
    let script = parse_sha(&arguments[0]).and_then(loaded).ok_or_else(|| Reply::error(NO_SCRIPT))?;
    operation(script, keys, values)
}

/// The keys and the arguments of a script, which stand behind the number of keys.
fn keys_and_values(arguments: &[Bytes]) -> Result<(&[Bytes], &[Bytes]), Reply> {
    let count = parse_integer(&arguments[0]).ok_or_else(|| Reply::error(NOT_AN_INTEGER))?;
    let count = usize::try_from(count).map_err(|_| Reply::error("ERR Number of keys can't be negative"))?;
    if count >= arguments.len() {
        return Err(Reply::error("ERR Number of keys can't be greater than number of args"));
    }
    Ok(arguments[1..].split_at(count))
}

/// What a script does with its keys and arguments.
fn operation(script: &Script, keys: &[Bytes], values: &[Bytes]) -> Result<Operation, Reply> {
    (script.operation)(keys, values)
        .ok_or_else(|| Reply::error(&format!("ERR this script needs {}, in this order", script.needs)))
}

pub(super) fn script(_: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    let (subcommand, rest) = (&arguments[0], &arguments[1..]);
    match () {
        () if is(subcommand, "load") => match known(&rest[0]) {
            Ok((_, sha)) => out.bulk(hex(sha).as_bytes()),
            Err(error) => out.head(&error),
        },
        () if is(subcommand, "exists") => {
            out.array(rest.len());
            for sha in rest {
                out.integer(i64::from(parse_sha(sha).and_then(loaded).is_some()));
            }
        }
        () if is(subcommand, "flush") => {
            lock(&REMEMBERED).clear();
            out.simple("OK");
        }
        () => out.error(b"NOTBUSY No scripts in execution right now."),
    }
}

/// Refuses a subcommand of `SCRIPT` that is unknown or has a wrong number of arguments.
pub(super) fn check_script(arguments: &[Bytes]) -> Result<(), Reply> {
    let known = [("load", 1, 1), ("exists", 1, usize::MAX), ("flush", 0, 1), ("kill", 0, 0)];
    absent::check("script", &known, arguments)
}

/// The script of a text, and its SHA-1; it is remembered by that.
fn known(text: &[u8]) -> Result<(&'static Script, Sha), Reply> {
    let unknown = || Reply::error(UNKNOWN);
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_TEXT_BYTES);
    let text = text.ok_or_else(unknown)?;
    let script = table::of_normal_form(&normal::form(text).ok_or_else(unknown)?).ok_or_else(unknown)?;
    let sha = sum(text);
    let remembered = &mut *lock(&REMEMBERED);
    if remembered.len() >= MAX_REMEMBERED && !remembered.contains_key(&sha) {
        remembered.clear();
    }
    remembered.insert(sha, script);
    Ok((script, sha))
}

/// The script whose text has this SHA-1, if it is known which that is.
fn loaded(sha: Sha) -> Option<&'static Script> {
    table::shipped(&hex(sha)).or_else(|| lock(&REMEMBERED).get(&sha).copied())
}

/// The SHA-1 of a text. It only names the text: scripts are told apart by what they are.
fn sum(text: &str) -> Sha {
    let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    sum.as_ref().try_into().expect("a SHA-1 has 20 bytes")
}

fn parse_sha(text: &[u8]) -> Option<Sha> {
    let digits = std::str::from_utf8(text).ok().filter(|digits| digits.len() == 40 && digits.is_ascii())?;
    let mut sha = Sha::default();
    for (byte, place) in sha.iter_mut().zip((0..40).step_by(2)) {
        *byte = u8::from_str_radix(&digits[place..place + 2], 16).ok()?;
    }
    Some(sha)
}

fn hex(sha: Sha) -> String {
    sha.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Condition, DeadlineCondition, Expiry};

    fn words(words: &[&str]) -> Vec<Bytes> {
        words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    fn run(arguments: &[&str]) -> Result<Operation, Reply> {
        eval(&words(arguments), &RespSettings::default())
    }

    const DELETE: &str = "
        -- Only the holder releases.
        local holder = redis.call('GET', KEYS[1]);
        if holder == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

    #[test]
    fn a_known_script_becomes_an_operation_and_any_other_is_refused() {
        let [key, value] = ["k", "v"].map(|word| Bytes::copy_from_slice(word.as_bytes()));
        let expected = Operation::delete_if(key, Condition::IfEqual(value));
        let text = "if redis.call(\"get\",KEYS[1]) == ARGV[1] then return redis.call(\"del\",KEYS[1]) else return 0 end";
        assert_eq!(run(&[text, "1", "k", "v"]), Ok(expected.clone()));
        assert_eq!(run(&[DELETE, "1", "k", "v"]), Ok(expected.clone()));
        for other in ["return 1", "", "return redis.call('get', KEYS[1])", &text.replace("==", "~=")] {
            assert_eq!(run(&[other, "1", "k", "v"]), Err(Reply::error(UNKNOWN)), "{other}");
        }
        let message = |arguments: &[&str]| match run(arguments) {
            Err(Reply::Error(text)) => String::from_utf8_lossy(&text).into_owned(),
            other => panic!("an error, not {other:?}"),
        };
        assert_eq!(message(&[text, "-1", "k"]), "ERR Number of keys can't be negative");
        assert_eq!(message(&[text, "2", "k"]), "ERR Number of keys can't be greater than number of args");
        assert_eq!(message(&[text, "x", "k"]), NOT_AN_INTEGER);
        assert!(message(&[text, "1", "k"]).starts_with("ERR this script needs"));
    }

    const RENEW: &str = "
        if redis.call('GET', KEYS[1]) == ARGV[1] then
            return redis.call('PEXPIRE', KEYS[1], ARGV[2])
        else
            return 0
        end";

    #[test]
    fn a_script_that_renews_a_lock_becomes_one_operation() {
        let [key, value] = ["k", "v"].map(|word| Bytes::copy_from_slice(word.as_bytes()));
        let (expiry, condition) = (Expiry::AfterMs(5_000), DeadlineCondition::default());
        let renew = |condition| {
            let (key, value) = (key.clone(), value.clone());
            Ok(Operation::ChangeDeadlineIfEqual { key, value, expiry, condition })
        };
        assert_eq!(run(&[RENEW, "1", "k", "v", "5000"]), renew(condition));
        let in_seconds = RENEW.replace("PEXPIRE", "EXPIRE");
        assert_eq!(run(&[&in_seconds, "1", "k", "v", "5"]), renew(condition));
        for wrong in [&["v"][..], &["v", "x"], &["v", "9223372036854775807"]] {
            let refused = run(&[&[RENEW, "1", "k"], wrong].concat());
            assert!(matches!(refused, Err(Reply::Error(_))), "{wrong:?}: {refused:?}");
        }
        // By the sums under which libraries send them.
        let by_sum = |sum: &str, arguments: &[&str]| {
            evalsha(&words(&[&[sum], arguments].concat()), &RespSettings::default())
        };
        let redis_py = "a4e8783852e6b949f9ef3a97212805108459a890";
        let extend = Operation::Extend { key: key.clone(), value: value.clone(), by_ms: 5_000 };
        assert_eq!(by_sum(redis_py, &["1", "k", "v", "5000", "0"]), Ok(extend));
        let if_any = DeadlineCondition { if_any: true, ..condition };
        assert_eq!(by_sum(redis_py, &["1", "k", "v", "5000", "1"]), renew(if_any));
        let redlock = |sum| by_sum(sum, &["2", "k", "l", "v", "5000"]);
        let set_all = |condition| {
            let keys = words(&["k", "l"]);
            Ok(Operation::SetAll { keys, value: value.clone(), condition, expiry })
        };
        let [take, renew] =
            ["96da70f7716f27d278a5218544df37fd8b0a5e4c", "aed6f382e410db8ba7926d4e5e9aab410bf2a78a"];
        assert_eq!(redlock(take), set_all(Condition::IfMissing));
        assert_eq!(redlock(renew), set_all(Condition::IfEqual(value.clone())));
        let none = by_sum(take, &["1", "k", "v", "0"]);
        assert!(matches!(none, Err(Reply::Error(_))), "a lock that has expired already is none: {none:?}");
    }

    #[test]
    fn a_text_that_was_loaded_is_found_by_its_sum() {
        let text = format!("{DELETE} -- a text of this test's own");
        let sha = sum(&text);
        let by_sum = || evalsha(&words(&[&hex(sha), "1", "k", "v"]), &RespSettings::default());
        assert_eq!(by_sum(), Err(Reply::error(NO_SCRIPT)));
        run(&[&text, "1", "k", "v"]).expect("it is known");
        assert!(by_sum().is_ok());
        assert_eq!(parse_sha(hex(sha).to_uppercase().as_bytes()), Some(sha));
        assert_eq!(parse_sha("é".repeat(20).as_bytes()), None);
    }
}
