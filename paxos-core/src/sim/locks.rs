//! Locks that expire, as a state machine under simulation has them, and the check of their history.
//!
//! Each answer tells the time by which it was given, so that the check can judge it: who holds a lock, under
//! which fencing number, and until when.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::history::{Action, Operation};
use crate::Time;
use crate::mutant::{Mutant, mutated};

/// How many locks there are.
const LOCKS: usize = 2;
/// For how long a lock may be taken.
const LEASES_MS: [u64; 4] = [20, 200, 2_000, 20_000];

/// Some locks. Each is free, or taken until some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Locks {
    /// The time of the last command.
    time: Time,
    last_fence: u64,
    each: [Lock; LOCKS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lock {
    /// The fencing number under which it is taken, or was last.
    fence: u64,
    /// Until when it is taken; [`Time::NONE`] if it was found to have expired.
    until: Time,
}

impl Locks {
    /// Takes a lock if it is free; `number` decides for how long.
    pub(super) fn take(&mut self, lock: usize, number: u64, time: Time) -> Bytes {
        self.time = time;
        let lock = &mut self.each[lock];
        if lock.until > time {
            return answer(Seen::Taken, *lock, time);
        }
        let keeps = lock.fence > 0 && mutated(Mutant::FencingNumberKept);
        self.last_fence += 1;
        lock.fence = if keeps { lock.fence } else { self.last_fence };
        lock.until = time.later_by_ms(LEASES_MS[(number % 4) as usize]);
        answer(Seen::Granted, *lock, time)
    }

    /// Frees the locks that have expired.
    pub(super) fn expire(&mut self, time: Time) {
        self.time = time;
        for lock in self.each.iter_mut().filter(|lock| lock.until <= time) {
            lock.until = Time::NONE;
        }
    }

    /// Whether a lock has expired and was not freed yet.
    pub(super) fn is_due(&self, time: Time) -> bool {
        self.each.iter().any(|lock| lock.until > Time::NONE && lock.until <= time)
    }

    /// Tells who holds a lock, if the leader's time is `time`. `None` if it has expired by that, but not by
    /// the log: to tell it before the log has come there might be taken back by another leader.
    pub(super) fn look(&self, lock: usize, time: Time) -> Option<Bytes> {
        let (lock, time) = (self.each[lock], time.max(self.time));
        if lock.until > time {
            Some(answer(Seen::Taken, lock, time))
        } else {
            (lock.until <= self.time).then(|| answer(Seen::Free, lock, time))
        }
    }

    /// A fingerprint, and all the state, as numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        let locks = self.each.iter().flat_map(|lock| [lock.fence, lock.until.0]);
        [self.time.0, self.last_fence].into_iter().chain(locks)
    }

    pub(super) fn restore(snapshot: &mut &[u8]) -> Locks {
        let mut number = || snapshot.get_u64_le();
        let (time, last_fence) = (Time(number()), number());
        let each = std::array::from_fn(|_| Lock { fence: number(), until: Time(number()) });
        Locks { time, last_fence, each }
    }
}

/// What an answer tells of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Granted,
    Taken,
    Free,
}

fn answer(seen: Seen, lock: Lock, time: Time) -> Bytes {
    let mut answer = BytesMut::with_capacity(25);
    answer.put_u8(seen as u8);
    for number in [lock.fence, lock.until.0, time.0] {
        answer.put_u64_le(number);
    }
    answer.freeze()
}

/// An answer, and when it was asked for and given.
#[derive(Clone, Copy, Debug)]
struct Answer {
    invoked: u64,
    answered: u64,
    seen: Seen,
    fence: u64,
    until: Time,
    time: Time,
}

/// Checks the part of a history that is about locks: `lock_of` tells which lock an action is about.
pub(super) fn check(history: &[Operation], lock_of: impl Fn(&Action) -> Option<usize>) -> Result<(), String> {
    let mut answers: BTreeMap<usize, Vec<Answer>> = BTreeMap::new();
    for operation in history {
        if let (Some(lock), Some((answered, reply))) = (lock_of(&operation.action), &operation.answered) {
            answers.entry(lock).or_default().push(Answer::parse(operation.invoked_units, *answered, reply));
        }
    }
    answers.into_iter().try_for_each(|(lock, mut answers)| {
        check_deadlines(&answers)
            .and_then(|()| check_grants(&answers))
            .and_then(|()| check_order(&mut answers))
            .map_err(|problem| format!("lock {lock}: {problem}"))
    })
}

/// Nobody sees a lock after it has expired.
fn check_deadlines(answers: &[Answer]) -> Result<(), String> {
    let late = answers.iter().find(|answer| answer.seen != Seen::Free && answer.time >= answer.until);
    late.map_or(Ok(()), |late| Err(format!("it is seen after it has expired: {late:?}")))
}

/// No two hold it at once, and no two under the same number.
fn check_grants(answers: &[Answer]) -> Result<(), String> {
    let mut grants: Vec<&Answer> = answers.iter().filter(|answer| answer.seen == Seen::Granted).collect();
    grants.sort_by_key(|grant| (grant.fence, grant.time));
    for pair in grants.windows(2) {
        if pair[0].fence == pair[1].fence {
            return Err(format!("two hold it under one fencing number: {pair:?}"));
        }
        if pair[0].until > pair[1].time {
            return Err(format!("two hold it at once: {pair:?}"));
        }
    }
    Ok(())
}

/// Who asks after another was answered sees no older state: fencing numbers only grow, and what has expired
/// does not come back.
fn check_order(answers: &mut [Answer]) -> Result<(), String> {
    // The state of the lock that was seen: each grant and each end of one is a step.
    let state = |answer: &Answer| 2 * answer.fence + u64::from(answer.seen == Seen::Free);
    let mut by_answer = answers.to_vec();
    by_answer.sort_by_key(|answer| answer.answered);
    answers.sort_by_key(|answer| answer.invoked);
    let mut earlier = by_answer.iter().peekable();
    let mut newest: Option<&Answer> = None;
    for answer in answers.iter() {
        while let Some(before) = earlier.next_if(|before| before.answered < answer.invoked) {
            if newest.is_none_or(|newest| state(before) > state(newest)) {
                newest = Some(before);
            }
        }
        if let Some(newest) = newest.filter(|newest| state(newest) > state(answer)) {
            return Err(format!("{answer:?} comes after {newest:?}"));
        }
    }
    Ok(())
}

impl Answer {
    fn parse(invoked: u64, answered: u64, mut reply: &[u8]) -> Answer {
        let seen = match reply.get_u8() {
            0 => Seen::Granted,
            1 => Seen::Taken,
            _ => Seen::Free,
        };
        let (fence, until, time) = (reply.get_u64_le(), Time(reply.get_u64_le()), Time(reply.get_u64_le()));
        Answer { invoked, answered, seen, fence, until, time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(answers: &[(u64, u64, Bytes)]) -> Result<(), String> {
        let operation = |(invoked_units, answered, reply): &(u64, u64, Bytes)| Operation {
            invoked_units: *invoked_units,
            answered: Some((*answered, reply.clone())),
            action: Action::Query(Bytes::new()),
        };
        let history: Vec<Operation> = answers.iter().map(operation).collect();
        check(&history, |_| Some(0))
    }

    #[test]
    fn a_lock_is_taken_by_one_at_a_time_and_every_grant_has_a_higher_number() {
        let mut locks = Locks::default();
        let granted = locks.take(0, 1, Time(1_000));
        assert_eq!(locks.take(0, 1, Time(1_199)), answer(Seen::Taken, locks.each[0], Time(1_199)));
        assert_eq!(locks.look(0, Time(1_250)), None, "the log has not come so far");
        assert!(locks.is_due(Time(1_200)) && !locks.is_due(Time(1_199)));
        locks.expire(Time(1_200));
        let free = locks.look(0, Time(1_200)).expect("it is known to be free");
        let again = locks.take(0, 1, Time(1_300));
        let answers = [(1, 2, granted.clone()), (3, 4, free.clone()), (5, 6, again)];
        assert_eq!(history(&answers), Ok(()));
        assert_eq!(
            Locks::restore(&mut &locks.numbers().flat_map(u64::to_le_bytes).collect::<Vec<_>>()[..]),
            locks
        );
        let problem = |answers: &[(u64, u64, Bytes)]| history(answers).expect_err("a rule is broken");
        assert!(problem(&[(1, 2, free), (3, 4, granted.clone())]).contains("comes after"));
        let lock = Lock { fence: 7, until: Time(1_100) };
        assert!(
            problem(&[(1, 9, granted.clone()), (1, 9, answer(Seen::Granted, lock, Time(1_050)))])
                .contains("at once")
        );
        assert!(problem(&[(1, 9, granted.clone()), (1, 9, granted)]).contains("one fencing number"));
        assert!(problem(&[(1, 9, answer(Seen::Taken, lock, Time(1_100)))]).contains("expired"));
    }
}
