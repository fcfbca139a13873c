//! Keys that expire: how their deadlines are set, told and carried out.

use bytes::Bytes;
use paxos_core::Time;

use super::operation::{Condition, DeadlineCondition, DeadlineForm, Expiry};
use super::store::NewDeadline;
use super::view::View;
use super::work::{self, REMOVAL, TooMuch, Work};
use super::{Reply, Store};

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

    /// The revision at which a key was created.
    pub(super) fn created(&self, key: &[u8]) -> Reply {
        let created = self.look_at(key, |record| record.map(|record| record.created));
        created.map_or(Reply::Nil, |created| Reply::Integer(i64::try_from(created).unwrap_or(i64::MAX)))
    }
}

impl Store {
    /// Sets a key with this expiry, if the condition holds.
    pub(super) fn set_expiring(
        &mut self,
        (key, value): (&Bytes, &Bytes),
        condition: Option<Condition>,
        returns_old: bool,
        expiry: Expiry,
    ) -> Reply {
        let is_there = self.now().has(key);
        let holds = match condition {
            None => true,
            Some(Condition::IfMissing) => !is_there,
            Some(Condition::IfPresent) => is_there,
        };
        let old = if returns_old { self.now().get(key) } else { None };
        if holds {
            self.put(key, value, expiry.deadline(self.time));
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

    /// Changes the deadline of a key that is there; removes it at once if that has passed.
    fn change_deadline(&mut self, key: &[u8], expiry: Expiry) {
        match expiry.deadline(self.time) {
            NewDeadline::Set(Some(deadline)) if deadline <= self.time => drop(self.remove(key)),
            NewDeadline::Set(deadline) if self.now().deadline(key) != Some(deadline) => {
                self.set_deadline(key, deadline);
            }
            NewDeadline::Set(_) | NewDeadline::Kept => {}
        }
    }

    /// Removes up to so many keys that have expired, as far as the work goes; answers how many. All nodes have
    /// the same order of deadlines, so they remove the same keys.
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
mod tests {
    use paxos_core::Slot;
    use proptest::prelude::*;

    use super::super::testing::{bytes, set};
    use super::super::{Operation, fuzzing};
    use super::*;
    use crate::state_machine::{Applying, StateMachine};

    fn apply(store: &mut Store, time: u64, operations: &[Operation]) -> Vec<Reply> {
        let response = store.apply(Applying::new(Slot(1), Time(time)), &Operation::command(operations));
        Reply::decode_all(response).expect("well formed")
    }

    fn apply_one(store: &mut Store, time: u64, operation: Operation) -> Reply {
        apply(store, time, &[operation]).remove(0)
    }

    fn lock(key: &str, after_ms: i64) -> Operation {
        Operation::SetExpiring {
            key: bytes(key),
            value: bytes("token"),
            condition: Some(Condition::IfMissing),
            returns_old: false,
            expiry: Expiry::AfterMs(after_ms),
        }
    }

    fn fence(key: &str) -> Operation {
        Operation::Created { key: bytes(key) }
    }

    fn left_ms(key: &str) -> Operation {
        Operation::Deadline { key: bytes(key), form: DeadlineForm::LeftMs }
    }

    #[test]
    fn a_key_is_missing_for_every_command_at_its_deadline_or_later() {
        let reads = || {
            let key = || bytes("k");
            vec![
                Operation::get(key()),
                Operation::exists(vec![key()]),
                Operation::str_len(key()),
                Operation::m_get(vec![key()]),
                Operation::type_of(key()),
                Operation::scan(0, None, 10),
                left_ms("k"),
                fence("k"),
            ]
        };
        let mut never = Store::default();
        let nothing = apply(&mut never, 1_000, &reads());
        for (time, is_there) in [(1_099, true), (1_100, false), (1_101, false)] {
            let mut store = Store::default();
            apply_one(&mut store, 1_000, lock("k", 100));
            assert_eq!(apply(&mut store, time, &reads()) == nothing, !is_there, "at {time}");
            assert_eq!(store.get(b"k").is_some(), is_there, "at {time}");
            assert_eq!(store.picture().has(b"k"), is_there, "at {time}");
            let removed = apply_one(&mut store, time, Operation::delete(vec![bytes("k")]));
            assert_eq!((removed, store.len()), (Reply::Integer(i64::from(is_there)), 0), "at {time}");
        }
    }

    #[test]
    fn what_is_set_after_the_deadline_is_created_anew() {
        let number =
            |reply: Reply| if let Reply::Integer(number) = reply { number } else { panic!("{reply:?}") };
        for (operation, value) in [
            (set("k", "new"), "new"),
            (Operation::set_nx(bytes("k"), bytes("new")), "new"),
            (Operation::append(bytes("k"), bytes("x"), 100), "x"),
            (Operation::add(bytes("k"), 5), "5"),
            (lock("k", 100), "token"),
            (Operation::m_set(vec![(bytes("k"), bytes("m"))]), "m"),
        ] {
            let mut store = Store::default();
            apply_one(&mut store, 1_000, lock("k", 100));
            let first = number(apply_one(&mut store, 1_000, fence("k")));
            apply_one(&mut store, 1_100, operation.clone());
            assert_eq!(store.get(b"k"), Some(bytes(value)), "{operation:?}");
            let second = number(apply_one(&mut store, 1_100, fence("k")));
            assert!(second > first, "{operation:?}: {second} after {first}");
            let expires = matches!(operation, Operation::SetExpiring { .. });
            assert_eq!(
                apply_one(&mut store, 9_999_999, Operation::Expire { at_most: 9 }),
                Reply::Integer(i64::from(expires))
            );
        }
        let get_del = Operation::get_del(bytes("k"));
        let get_set = Operation::set_with(bytes("k"), bytes("new"), None, true);
        for operation in [get_del, get_set] {
            let mut store = Store::default();
            apply_one(&mut store, 1_000, lock("k", 100));
            assert_eq!(apply_one(&mut store, 1_100, operation.clone()), Reply::Nil, "{operation:?}");
        }
    }

    #[test]
    fn fencing_numbers_grow_with_every_grant_whatever_happens_between() {
        let mut store = Store::default();
        let mut last = 0;
        for (time, between) in [
            (1_000, None),
            (2_000, Some(Operation::delete(vec![bytes("lock")]))),
            (3_000, Some(Operation::FlushAll)),
            (4_000, Some(Operation::Expire { at_most: 10 })),
            (5_000, None),
        ] {
            if let Some(between) = between {
                apply_one(&mut store, time, between);
            }
            let mut image = Vec::new();
            store.snapshot()(&mut image).expect("memory takes everything");
            let mut restored = Store::default();
            restored.restore(&mut &image[..]).expect("the image is whole");
            store = restored;
            assert_eq!(apply_one(&mut store, time, lock("lock", 500)), Reply::Ok);
            assert_eq!(apply_one(&mut store, time + 499, lock("lock", 500)), Reply::Nil);
            let Reply::Integer(fence) = apply_one(&mut store, time, fence("lock")) else {
                panic!("it is there")
            };
            assert!(fence > last, "{fence} after {last}");
            last = fence;
        }
    }

    #[test]
    fn the_keys_that_expired_first_are_removed_first_and_no_more_than_asked_for() {
        let mut store = Store::default();
        for number in 0..2_000 {
            apply_one(&mut store, 1_000, lock(&format!("key{number}"), 1_000 - number % 100));
        }
        assert_eq!(store.due(Time(1_900)), Vec::<Bytes>::new());
        assert_eq!(store.due(Time(1_901)).len(), 1);
        assert_eq!(store.due(Time(9_000)).len(), 4);
        let expire = |at_most| Operation::Expire { at_most };
        assert_eq!(apply_one(&mut store, 1_910, expire(1_000)), Reply::Integer(200));
        assert_eq!(apply_one(&mut store, 1_920, expire(30)), Reply::Integer(30));
        assert_eq!(apply_one(&mut store, 9_000, expire(0)), Reply::Integer(0));
        assert_eq!(store.len(), 1_770);
        let removed: Vec<Reply> = apply(&mut store, 9_000, &vec![expire(1_000); 3]);
        assert_eq!(removed, [Reply::Integer(1_000), Reply::Integer(770), Reply::Integer(0)]);
        assert_eq!((store.len(), store.memory_bytes()), (0, 0));
        assert_eq!(store.due(Time(u64::MAX)), Vec::<Bytes>::new());
    }

    #[test]
    fn a_read_ahead_of_the_log_says_so_only_if_it_matters() {
        let mut store = Store::default();
        apply_one(&mut store, 1_000, lock("soon", 100));
        apply_one(&mut store, 1_000, lock("later", 9_000));
        let read = |store: &Store, key: &str, time| {
            let mut work = Work::of_command();
            store.answer(&Operation::get(bytes(key)), Time(time), &mut work).expect("it reads")
        };
        let ahead = Err(super::super::execute::NotAnswered::AheadOfLog);
        assert_eq!(read(&store, "soon", 1_100), ahead);
        assert_eq!(read(&store, "soon", 1_099), Ok(Reply::Bulk(bytes("token"))));
        assert_eq!(read(&store, "later", 1_100), Ok(Reply::Bulk(bytes("token"))));
        assert_eq!(read(&store, "none", 1_100), Ok(Reply::Nil));
        assert!(store.is_behind_deadlines(Time(1_100)) && !store.is_behind_deadlines(Time(1_099)));
        apply_one(&mut store, 1_100, Operation::Expire { at_most: 0 });
        assert_eq!(read(&store, "soon", 1_100), Ok(Reply::Nil));
        assert_eq!(read(&store, "soon", 0), Ok(Reply::Nil), "a view is never behind the log");
        assert!(!store.is_behind_deadlines(Time(1_100)));
    }

    #[test]
    fn a_deadline_costs_24_bytes_and_nothing_without_one() {
        for length in [0, 10, 470, 472, 5_000] {
            let mut store = Store::default();
            apply_one(&mut store, 1_000, set("k", &"x".repeat(length)));
            let without = store.memory_bytes();
            let persist = Operation::ChangeDeadline {
                key: bytes("k"),
                expiry: Expiry::Never,
                condition: DeadlineCondition::default(),
            };
            let mut expire = persist.clone();
            if let Operation::ChangeDeadline { expiry, .. } = &mut expire {
                *expiry = Expiry::AfterMs(100);
            }
            for operation in [expire.clone(), expire] {
                apply_one(&mut store, 1_000, operation);
                assert_eq!(store.memory_bytes(), without + 24, "a value of {length} bytes");
                assert_eq!(store.get(b"k").map(|value| value.len()), Some(length));
            }
            fuzzing::check(&store);
            assert_eq!(apply_one(&mut store, 1_000, persist), Reply::Integer(1));
            assert_eq!(store.memory_bytes(), without);
        }
    }

    /// What a model of the store knows of a key: its value and its deadline.
    type Known = std::collections::BTreeMap<u8, (Vec<u8>, Option<u64>)>;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, usize, Expiry),
        Append(u8, usize),
        Change(u8, Expiry),
        Delete(u8),
        Expire(u32),
        Wait(u64),
        Restore,
    }

    fn step() -> impl Strategy<Value = Step> {
        let length = || prop_oneof![0..40_usize, 470..500_usize, 900..1_000_usize];
        let expiry = || {
            prop_oneof![
                Just(Expiry::Never),
                Just(Expiry::Kept),
                (-5..40_i64).prop_map(Expiry::AfterMs),
                (0..400_i64).prop_map(Expiry::AtMs),
            ]
        };
        prop_oneof![
            4 => (0..30_u8, length(), expiry()).prop_map(|(key, length, expiry)| Step::Set(key, length, expiry)),
            2 => (0..30_u8, length()).prop_map(|(key, length)| Step::Append(key, length)),
            3 => (0..30_u8, expiry()).prop_map(|(key, expiry)| Step::Change(key, expiry)),
            1 => (0..30_u8).prop_map(Step::Delete),
            1 => (0..9_u32).prop_map(Step::Expire),
            2 => (1..9_u64).prop_map(Step::Wait),
            1 => Just(Step::Restore),
        ]
    }

    fn deadline(expiry: Expiry, now: u64, before: Option<u64>) -> Option<u64> {
        match expiry {
            Expiry::Never => None,
            Expiry::Kept => before,
            Expiry::AfterMs(ms) => Some(now.saturating_add_signed(ms)),
            Expiry::AtMs(ms) => u64::try_from(ms).ok(),
        }
    }

    proptest! {
        #[test]
        fn the_store_expires_keys_as_a_model_does(steps in prop::collection::vec(step(), 1..120)) {
            let (mut store, mut known, mut now) = (Store::default(), Known::new(), 100);
            for step in steps {
                let name = |key: u8| bytes(&format!("key{key}"));
                match step {
                    Step::Set(key, length, expiry) => {
                        let value = vec![key; length];
                        let (condition, returns_old) = (None, true);
                        let operation = Operation::SetExpiring {
                            key: name(key), value: Bytes::from(value.clone()), condition, returns_old, expiry,
                        };
                        let old = known.remove(&key);
                        let reply = old.as_ref().map_or(Reply::Nil, |old| Reply::Bulk(Bytes::from(old.0.clone())));
                        prop_assert_eq!(apply_one(&mut store, now, operation), reply);
                        known.insert(key, (value, deadline(expiry, now, old.and_then(|old| old.1))));
                    }
                    Step::Append(key, length) => {
                        let tail = vec![7; length];
                        let operation = Operation::append(name(key), Bytes::from(tail.clone()), u64::MAX);
                        apply_one(&mut store, now, operation);
                        known.entry(key).or_default().0.extend(tail);
                    }
                    Step::Change(key, expiry) => {
                        let condition = DeadlineCondition::default();
                        apply_one(&mut store, now, Operation::ChangeDeadline { key: name(key), expiry, condition });
                        if let Some(entry) = known.get_mut(&key) {
                            entry.1 = deadline(expiry, now, entry.1);
                        }
                    }
                    Step::Delete(key) => {
                        let there = i64::from(known.remove(&key).is_some());
                        let operation = Operation::delete(vec![name(key)]);
                        prop_assert_eq!(apply_one(&mut store, now, operation), Reply::Integer(there));
                    }
                    Step::Expire(at_most) => drop(apply_one(&mut store, now, Operation::Expire { at_most })),
                    Step::Wait(ms) => now += ms,
                    Step::Restore => {
                        let mut image = Vec::new();
                        store.snapshot()(&mut image).expect("memory takes everything");
                        store.restore(&mut &image[..]).expect("the image is whole");
                    }
                }
                known.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
                apply(&mut store, now, &[]);
                for key in 0..30 {
                    let expected = known.get(&key).map(|(value, _)| Bytes::from(value.clone()));
                    prop_assert_eq!(store.get(&name(key)), expected, "key{}", key);
                    let expected = match known.get(&key) {
                        None => MISSING,
                        Some((_, None)) => NEVER,
                        Some((_, Some(deadline))) => (deadline - now).cast_signed(),
                    };
                    let left = apply_one(&mut store, now, left_ms(&format!("key{key}")));
                    prop_assert_eq!(left, Reply::Integer(expected), "key{}", key);
                }
            }
            fuzzing::check(&store);
            now += 1_000;
            known.retain(|_, (_, deadline)| deadline.is_none());
            while apply_one(&mut store, now, Operation::Expire { at_most: 7 }) != Reply::Integer(0) {}
            prop_assert_eq!(store.len(), known.len());
            prop_assert!(store.deadlines.first_due(Time(u64::MAX)).is_none());
        }
    }
}
