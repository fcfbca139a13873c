//! Whether what the clients of the store have seen makes sense, key by key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use paxos_core::sim::{Access, Action, Operation, check_register};
use paxos_node::kv::Reply;

use crate::workload::{Asked, number};

type Checked = Result<(), String>;

pub(crate) fn check(history: &[Operation]) -> Checked {
    let mut by_key: BTreeMap<Bytes, Vec<(Asked, &Operation)>> = BTreeMap::new();
    for operation in history {
        let asked = Asked::of(&operation.action);
        by_key.entry(asked.key().clone()).or_default().push((asked, operation));
    }
    by_key.into_iter().try_for_each(|(key, operations)| {
        let checked = match key[0] {
            b'r' => check_swaps(&operations),
            b'c' => check_counter(&operations),
            _ => check_lock(&operations),
        };
        checked.map_err(|problem| format!("{}: {problem}", key.escape_ascii()))
    })
}

/// The replies to a command.
fn replies(answer: &Bytes) -> Vec<Reply> {
    Reply::decode_all(answer.clone()).expect("the store has written it")
}

/// What a register or counter held, as an answer tells.
fn value_in(action: &Action, answer: &Bytes) -> Result<u64, String> {
    match action {
        Action::Query(_) => Ok(number(answer)),
        Action::Command(_) => match &replies(answer)[..] {
            [Reply::Nil] | [Reply::Nil, Reply::Integer(1)] => Ok(0),
            [Reply::Bulk(value)] | [Reply::Bulk(value), Reply::Integer(1)] => Ok(number(value)),
            [Reply::Integer(count)] => Ok(u64::try_from(*count).unwrap_or(0)),
            other => Err(format!("{other:?} is no answer to {action:?}")),
        },
    }
}

fn check_swaps(operations: &[(Asked, &Operation)]) -> Checked {
    let mut accesses = Vec::new();
    for (asked, operation) in operations {
        let saw = operation.answered.as_ref().map(|(_, answer)| value_in(&operation.action, answer));
        let writes = if let Asked::Swap(_, number) = asked { Some(*number) } else { None };
        accesses.extend(Access::of(operation, writes, saw.transpose()?));
    }
    check_register(accesses)
}

/// No two counts answer the same, none is lost, and who asks later sees more.
fn check_counter(operations: &[(Asked, &Operation)]) -> Checked {
    let mut seen = Vec::new();
    for (asked, operation) in operations {
        if let Some((at, answer)) = &operation.answered {
            let value = value_in(&operation.action, answer)?;
            seen.push((operation.invoked_units, *at, value, matches!(asked, Asked::Count(_))));
        }
    }
    let counts = |asked: &Asked| matches!(asked, Asked::Count(_));
    let asked_for = operations.iter().filter(|(asked, _)| counts(asked)).count() as u64;
    let mut answered = BTreeSet::new();
    for &(_, _, value, counts) in &seen {
        if value > asked_for {
            return Err(format!("{value} is more than was ever counted: {asked_for}"));
        }
        if counts && !answered.insert(value) {
            return Err(format!("two counts answer {value}"));
        }
    }
    for &(invoked, _, value, counts) in &seen {
        let before = seen.iter().filter(|(_, at, ..)| *at < invoked).map(|(_, _, value, _)| *value).max();
        let least = before.unwrap_or(0) + u64::from(counts);
        if value < least {
            return Err(format!("{value} is answered after {}", least - u64::from(counts)));
        }
    }
    Ok(())
}

/// A lock as it was seen: under this fencing number, until then, at this time.
#[derive(Clone, Copy, Debug)]
struct Held {
    fence: u64,
    until: u64,
    time: u64,
    invoked: u64,
    answered: u64,
    is_granted: bool,
}

fn check_lock(operations: &[(Asked, &Operation)]) -> Checked {
    let (mut held, mut free, mut released) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut may_be_released = false;
    for (asked, operation) in operations {
        let Some((answered, answer)) = &operation.answered else {
            may_be_released |= matches!(asked, Asked::Release(_));
            continue;
        };
        let seen = |fence, until, time, is_granted| {
            let (invoked, answered) = (operation.invoked_units, *answered);
            Held { fence, until, time, invoked, answered, is_granted }
        };
        match asked {
            Asked::Read(_) => {
                let words: Vec<&[u8]> = answer.split(|byte| *byte == b' ').collect();
                match words[..] {
                    [fence, until, time] => {
                        held.push(seen(number(fence), number(until), number(time), false));
                    }
                    [_, time] => free.push((operation.invoked_units, number(time))),
                    _ => return Err(format!("{} is no answer", answer.escape_ascii())),
                }
            }
            Asked::Release(_) => match replies(answer)[..] {
                [Reply::Integer(fence), Reply::Integer(1)] => drop(released.insert(fence.cast_unsigned())),
                [_, Reply::Integer(0)] => {}
                ref other => return Err(format!("{other:?} answers a release")),
            },
            _ => match replies(answer)[..] {
                [ref granted, Reply::Integer(fence), Reply::Integer(until), Reply::Integer(left)] => {
                    let [fence, until, left] = [fence, until, left].map(i64::cast_unsigned);
                    held.push(seen(fence, until, until - left, *granted == Reply::Ok));
                }
                ref other => return Err(format!("{other:?} answers who takes a lock")),
            },
        }
    }
    let may_have_ended = |grant: &Held| may_be_released || released.contains(&grant.fence);
    check_grants(&held, may_have_ended)?;
    check_free(&held, &free, may_have_ended)?;
    check_order(&held)
}

/// Nobody sees a lock after it has expired, no two hold it at once, and each grant has a number of its own.
fn check_grants(held: &[Held], may_have_ended: impl Fn(&Held) -> bool) -> Checked {
    if let Some(late) = held.iter().find(|held| held.time >= held.until) {
        return Err(format!("it is seen after it has expired: {late:?}"));
    }
    let mut grants: Vec<&Held> = held.iter().filter(|held| held.is_granted).collect();
    grants.sort_by_key(|grant| grant.fence);
    for pair in grants.windows(2) {
        if pair[0].fence == pair[1].fence {
            return Err(format!("two hold it under one fencing number: {pair:?}"));
        }
        if pair[0].until > pair[1].time && !may_have_ended(pair[0]) {
            return Err(format!("two hold it at once: {pair:?}"));
        }
    }
    Ok(())
}

/// Nobody finds it free while somebody has it who was told so before.
fn check_free(held: &[Held], free: &[(u64, u64)], may_have_ended: impl Fn(&Held) -> bool) -> Checked {
    for (invoked, time) in free {
        let of = |held: &&Held| held.answered < *invoked && held.until > *time && !may_have_ended(held);
        if let Some(held) = held.iter().find(of) {
            return Err(format!("it is free at {time}, though it was held: {held:?}"));
        }
    }
    Ok(())
}

/// Who asks after another was answered sees no older grant.
fn check_order(held: &[Held]) -> Checked {
    for later in held {
        let newer = |earlier: &&Held| earlier.answered < later.invoked && earlier.fence > later.fence;
        if let Some(earlier) = held.iter().find(newer) {
            return Err(format!("{later:?} comes after {earlier:?}"));
        }
    }
    Ok(())
}
