//! Keys that expire: how their deadlines are set, told and carried out.

use bytes::Bytes;
use paxos_core::Time;

use super::execute::count;
use super::operation::{Condition, DeadlineCondition, DeadlineForm, Expiry};
use super::store::NewDeadline;
use super::view::View;
use super::work::{self, CHANGE, LOOKUP, REMOVAL, TooMuch, Work};
use super::{Operation, Reply, Store};

/// What is told of a key that is missing, and of one that never expires.
const MISSING: i64 = -2;
const NEVER: i64 = -1;

impl Expiry {
    /// The deadline that a key gets, if the time is `now`.
    fn deadline(self, now: Time) -> NewDeadline {
        NewDeadline::Set(match self {
            Expiry::Kept => return NewDeadline::Kept,
            Expiry::Never => None,
            Expiry::AtMs(at_ms) => Some(Time(u64::try_from(at_ms).unwrap_or(0))),
            Expiry::AfterMs(after_ms) => Some(Time(now.0.saturating_add_signed(after_ms))),
        })
    }
}

impl View<'_> {
    /// The deadline of a key, as `form` wants it.
    pub(super) fn tell_deadline(&self, key: &[u8], form: DeadlineForm) -> Reply {
        let told = match self.deadline(key) {
            None => MISSING,
            Some(None) => NEVER,
            Some(Some(deadline)) => {
                let ms = match form {
                    DeadlineForm::LeftMs | DeadlineForm::LeftSeconds => self.left_ms(deadline),
                    DeadlineForm::AtMs | DeadlineForm::AtSeconds => deadline.0,
                };
                let told = match form {
                    DeadlineForm::LeftMs | DeadlineForm::AtMs => ms,
                    DeadlineForm::LeftSeconds | DeadlineForm::AtSeconds => ms.saturating_add(500) / 1000,
                };
                i64::try_from(told).unwrap_or(i64::MAX)
            }
        };
        Reply::Integer(told)
    }

    /// Whether a key has this value.
    fn has_value(&self, key: &[u8], value: &[u8]) -> bool {
        self.look(key, |found| found.is_some_and(|found| found.as_bytes() == value))
    }

    /// How many milliseconds are left until a key with this value expires.
    pub(super) fn left_if_equal(&self, key: &[u8], value: &[u8]) -> Reply {
        let deadline = self.deadline(key).flatten().filter(|_| self.has_value(key, value));
        let left_ms = deadline.map_or(0, |deadline| self.left_ms(deadline));
        Reply::Integer(i64::try_from(left_ms).unwrap_or(i64::MAX))
    }

    /// The revision at which a key was created.
    pub(super) fn created(&self, key: &[u8]) -> Reply {
        let created = self.look_at(key, |record| record.map(|record| record.created));
        created.map_or(Reply::Nil, |created| Reply::Integer(i64::try_from(created).unwrap_or(i64::MAX)))
    }
}

impl Store {
    /// Carries out an operation about keys that expire; see [`carry_out`](Store::carry_out).
    pub(super) fn carry_out_expiring(
        &mut self,
        operation: &Operation,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        match operation {
            Operation::SetExpiring { key, value, condition, returns_old, expiry } => {
                let units = work::operation(1, CHANGE) + self.set_work(key, condition.as_ref(), *returns_old);
                work.take_for_one_key(units)?;
                Ok(self.set_expiring((key, value), condition.as_ref(), *returns_old, *expiry))
            }
            Operation::GetExpiring { key, expiry } => {
                let bytes = self.stored_bytes(key).unwrap_or(0);
                let freed = work::answered(bytes) + work::freed(bytes);
                work.take_for_one_key(work::operation(1, REMOVAL) + freed)?;
                Ok(self.get_expiring(key, *expiry))
            }
            Operation::ChangeDeadline { key, expiry, condition } => {
                // To hash the value takes as long as to free it, or longer.
                let bytes = self.stored_bytes(key).unwrap_or(0);
                work.take_for_one_key(work::operation(1, REMOVAL) + work::copied(bytes))?;
                Ok(self.expire(key, *expiry, *condition))
            }
            Operation::ChangeDeadlineIfEqual { key, value, expiry, condition } => {
                self.take_to_renew(key, work)?;
                Ok(self.expire_if_equal((key, value), *expiry, *condition))
            }
            Operation::Extend { key, value, by_ms } => {
                self.take_to_renew(key, work)?;
                Ok(self.extend((key, value), *by_ms))
            }
            Operation::SetAll { keys, value, condition, expiry } => {
                work.take(work::operation(keys.len(), LOOKUP + CHANGE))?;
                keys.iter().try_for_each(|key| work.take(self.set_work(key, Some(condition), false)))?;
                Ok(self.set_all((keys, value), condition, *expiry))
            }
            Operation::Expire { at_most } => self.remove_all_expired(*at_most, work),
            other => unreachable!("{other:?} is not about keys that expire"),
        }
    }

    /// Takes the work of changing the deadline of a key whose value is compared first.
    fn take_to_renew(&self, key: &[u8], work: &mut Work) -> Result<(), TooMuch> {
        let bytes = self.stored_bytes(key).unwrap_or(0);
        work.take_for_one_key(work::operation(1, REMOVAL) + 2 * work::copied(bytes))
    }

    /// Sets a key with this expiry, if the condition holds.
    pub(super) fn set_expiring(
        &mut self,
        (key, value): (&Bytes, &Bytes),
        condition: Option<&Condition>,
        returns_old: bool,
        expiry: Expiry,
    ) -> Reply {
        let holds = condition.is_none_or(|condition| self.now().meets(key, condition));
        let old = if returns_old { self.now().get(key) } else { None };
        if holds {
            let deadline = expiry.deadline(self.time);
            self.put(key, value, deadline);
            if matches!(deadline, NewDeadline::Set(Some(_))) {
                self.note_deadline(key, true);
            }
        }
        match (returns_old, holds) {
            (true, _) => old.map_or(Reply::Nil, Reply::Bulk),
            (false, true) => Reply::Ok,
            (false, false) => Reply::Nil,
        }
    }

    /// Answers with the value of a key, and gives it this expiry.
    pub(super) fn get_expiring(&mut self, key: &[u8], expiry: Expiry) -> Reply {
        let Some(value) = self.now().get(key) else { return Reply::Nil };
        self.change_deadline(key, expiry);
        Reply::Bulk(value)
    }

    /// Gives a key this expiry if the condition holds; answers 1 if it is changed.
    pub(super) fn expire(&mut self, key: &[u8], expiry: Expiry, condition: DeadlineCondition) -> Reply {
        let Some(before) = self.now().deadline(key) else { return Reply::Integer(0) };
        let NewDeadline::Set(after) = expiry.deadline(self.time) else { return Reply::Integer(0) };
        // No deadline is later than any.
        let order = |deadline: Option<Time>| deadline.map_or(u64::MAX, |deadline| deadline.0);
        let holds = (!condition.if_none || before.is_none())
            && (!condition.if_any || before.is_some())
            && (!condition.if_later || order(after) > order(before))
            && (!condition.if_earlier || order(after) < order(before));
        let is_changed = holds && (after.is_some() || before.is_some());
        if is_changed {
            self.change_deadline(key, expiry);
        }
        Reply::Integer(i64::from(is_changed))
    }

    /// As [`expire`](Store::expire), if the key has this value.
    pub(super) fn expire_if_equal(
        &mut self,
        (key, value): (&[u8], &[u8]),
        expiry: Expiry,
        condition: DeadlineCondition,
    ) -> Reply {
        if self.now().has_value(key, value) { self.expire(key, expiry, condition) } else { Reply::Integer(0) }
    }

    /// Moves the deadline of a key that has this value, and one; answers 1 if so.
    pub(super) fn extend(&mut self, (key, value): (&[u8], &[u8]), by_ms: i64) -> Reply {
        let deadline = self.now().deadline(key).flatten();
        let Some(deadline) = deadline.filter(|_| self.now().has_value(key, value)) else {
            return Reply::Integer(0);
        };
        let later_ms = deadline.0.saturating_add_signed(by_ms);
        self.change_deadline(key, Expiry::AtMs(i64::try_from(later_ms).unwrap_or(i64::MAX)));
        Reply::Integer(1)
    }

    /// Sets keys to a value with this expiry if the condition holds for all; answers how many were set.
    pub(super) fn set_all(
        &mut self,
        (keys, value): (&[Bytes], &Bytes),
        condition: &Condition,
        expiry: Expiry,
    ) -> Reply {
        if !keys.iter().all(|key| self.now().meets(key, condition)) {
            return Reply::Integer(0);
        }
        for key in keys {
            self.set_expiring((key, value), None, false, expiry);
        }
        count(keys.len())
    }

    /// Changes the deadline of a key that is there; removes it at once if that has passed.
    fn change_deadline(&mut self, key: &[u8], expiry: Expiry) {
        match expiry.deadline(self.time) {
            NewDeadline::Set(Some(deadline)) if deadline <= self.time => drop(self.remove(key)),
            NewDeadline::Set(None) if self.now().deadline(key) == Some(None) => {}
            // Even if it is the same: whoever watches the key sees a change, as in Redis.
            NewDeadline::Set(deadline) => self.set_deadline(key, deadline),
            NewDeadline::Kept => {}
        }
    }

    /// Removes up to so many keys that have expired, as far as the work goes; answers how many. All nodes
    /// have the same order of deadlines, so they remove the same keys.
    pub(super) fn remove_all_expired(&mut self, at_most: u32, work: &mut Work) -> Result<Reply, TooMuch> {
        work.take(work::operation(0, 0))?;
        let mut removed = 0;
        let mut take = |bytes| work.take(REMOVAL + work::freed(bytes));
        while removed < i64::from(at_most) && self.remove_expired(&mut take) == Ok(true) {
            removed += 1;
        }
        Ok(Reply::Integer(removed))
    }
}

#[cfg(test)]
mod tests;
