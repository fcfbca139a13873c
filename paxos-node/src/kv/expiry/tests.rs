//! Keys that expire, in all that the store can do.

use paxos_core::Slot;
use proptest::prelude::*;

use super::*;
use crate::kv::testing::{bytes, set};
use crate::kv::{Decimal, Event, Property, fuzzing};
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
            Operation::Digest { key: key() },
            Operation::GetRange { key: key(), first: 0, last: -1 },
            Operation::RandomKey { seed: 7 },
            Operation::Keys { pattern: bytes("*") },
            Operation::Object { key: key(), property: Property::Encoding },
            Operation::LeftIfEqual { key: key(), value: bytes("token") },
        ]
    };
    let mut never = Store::default();
    let nothing = apply(&mut never, 1_000, &reads());
    for (time, is_there) in [(1_099, true), (1_100, false), (1_101, false)] {
        let mut store = Store::default();
        apply_one(&mut store, 1_000, lock("k", 100));
        for ((operation, said), nothing) in
            reads().iter().zip(apply(&mut store, time, &reads())).zip(&nothing)
        {
            assert_eq!(said != *nothing, is_there, "{operation:?} at {time}");
        }
        assert_eq!(store.get(b"k").is_some(), is_there, "at {time}");
        assert_eq!(store.picture().has(b"k"), is_there, "at {time}");
        let removed = apply_one(&mut store, time, Operation::delete(vec![bytes("k")]));
        assert_eq!((removed, store.len()), (Reply::Integer(i64::from(is_there)), 0), "at {time}");
    }
}

#[test]
fn what_is_set_after_the_deadline_is_created_anew() {
    let number = |reply: Reply| if let Reply::Integer(number) = reply { number } else { panic!("{reply:?}") };
    for (operation, value) in [
        (set("k", "new"), "new"),
        (Operation::set_nx(bytes("k"), bytes("new")), "new"),
        (Operation::append(bytes("k"), bytes("x"), 100), "x"),
        (Operation::add(bytes("k"), 5), "5"),
        (lock("k", 100), "token"),
        (Operation::m_set(vec![(bytes("k"), bytes("m"))]), "m"),
        (Operation::MSetNx { pairs: vec![(bytes("k"), bytes("m"))] }, "m"),
        (Operation::SetRange { key: bytes("k"), offset: 1, value: bytes("x"), limit_bytes: 9 }, "\0x"),
        (Operation::AddDecimal { key: bytes("k"), by: Decimal::parse(b"0.5").expect("a number") }, "0.5"),
        (
            Operation::set_with(bytes("k"), bytes("new"), Some(Condition::IfNotEqual(bytes("token"))), false),
            "new",
        ),
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
fn what_needs_a_key_finds_none_after_its_deadline() {
    let (k, token) = (|| bytes("k"), || bytes("token"));
    let rename = |only_if_missing| Operation::Rename { from: k(), to: bytes("l"), only_if_missing };
    let set_if = |condition| Operation::set_with(k(), bytes("new"), Some(condition), false);
    let no_such_key = Reply::error("ERR no such key");
    for (operation, reply) in [
        (rename(false), no_such_key.clone()),
        (rename(true), no_such_key),
        (Operation::Copy { from: k(), to: bytes("l"), replaces: true }, Reply::Integer(0)),
        (Operation::delete_if(k(), Condition::IfEqual(token())), Reply::Integer(0)),
        (Operation::delete_if(k(), Condition::IfPresent), Reply::Integer(0)),
        (Operation::DeleteEqual { keys: vec![k()], value: token() }, Reply::Integer(0)),
        (set_if(Condition::IfEqual(token())), Reply::Nil),
        (set_if(Condition::IfPresent), Reply::Nil),
        (Operation::Extend { key: k(), value: token(), by_ms: 100 }, Reply::Integer(0)),
    ] {
        let mut store = Store::default();
        apply_one(&mut store, 1_000, lock("k", 100));
        assert_eq!(apply_one(&mut store, 1_100, operation.clone()), reply, "{operation:?}");
        assert_eq!((store.get(b"k"), store.get(b"l")), (None, None), "{operation:?}");
        fuzzing::check(&store);
    }
}

#[test]
fn a_deadline_goes_with_its_value_and_a_new_value_has_none() {
    let pairs = || vec![(bytes("to"), bytes("v"))];
    let number = |text: &str| Decimal::parse(text.as_bytes()).expect("a number");
    let (from, to) = (|| bytes("from"), || bytes("to"));
    for (operation, expected) in [
        (Operation::Rename { from: from(), to: to(), only_if_missing: false }, 100),
        (Operation::Copy { from: from(), to: to(), replaces: true }, 100),
        (Operation::set(to(), bytes("v")), NEVER),
        (Operation::set_with(to(), bytes("v"), None, true), NEVER),
        (Operation::m_set(pairs()), NEVER),
        (Operation::add(to(), 1), 700),
        (Operation::append(to(), bytes("1"), 100), 700),
        (Operation::SetRange { key: to(), offset: 0, value: bytes("2"), limit_bytes: 9 }, 700),
        (Operation::AddDecimal { key: to(), by: number("1.5") }, 700),
        (Operation::MSetNx { pairs: pairs() }, 700),
        (Operation::get_del(to()), MISSING),
    ] {
        let mut store = Store::default();
        apply_one(&mut store, 1_000, lock("from", 100));
        apply(
            &mut store,
            1_000,
            &[
                set("to", "1"),
                Operation::ChangeDeadline {
                    key: to(),
                    expiry: Expiry::AfterMs(700),
                    condition: DeadlineCondition::default(),
                },
            ],
        );
        apply_one(&mut store, 1_000, operation.clone());
        assert_eq!(apply_one(&mut store, 1_000, left_ms("to")), Reply::Integer(expected), "{operation:?}");
        fuzzing::check(&store);
    }
}

#[test]
fn who_listens_hears_what_becomes_of_deadlines_in_the_words_of_redis() {
    let mut store = Store::default();
    let mut listener = store.feed().listen();
    let change = |expiry| Operation::ChangeDeadline {
        key: bytes("k"),
        expiry,
        condition: DeadlineCondition::default(),
    };
    let get_and = |expiry| Operation::GetExpiring { key: bytes("k"), expiry };
    for (time, operation) in [
        (1_000, lock("k", 100)),
        (1_000, change(Expiry::AfterMs(200))),
        (1_000, change(Expiry::Never)),
        (1_000, change(Expiry::Never)),
        (1_000, get_and(Expiry::AfterMs(100))),
        (1_000, get_and(Expiry::Never)),
        (1_000, change(Expiry::AfterMs(0))),
        (1_000, lock("k", 100)),
        (1_100, Operation::set(bytes("k"), bytes("v"))),
        (1_100, change(Expiry::AfterMs(50))),
        (1_200, Operation::Expire { at_most: 10 }),
    ] {
        apply_one(&mut store, time, operation);
    }
    let heard = listener.take(100, usize::MAX).expect("they are few");
    let heard: Vec<_> = heard
        .iter()
        .map(|event| match event {
            Event::Changed { what, .. } => *what,
            other => panic!("a change, not {other:?}"),
        })
        .collect();
    let expected = "set expire expire persist expire persist del set expire expired set expire expired";
    assert_eq!(heard.join(" "), expected);
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
        let Reply::Integer(fence) = apply_one(&mut store, time, fence("lock")) else { panic!("it is there") };
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    }
}

#[test]
fn a_lock_is_renewed_only_by_its_holder_and_only_while_it_lasts() {
    let renew = |value: &str, if_any| Operation::ChangeDeadlineIfEqual {
        key: bytes("lock"),
        value: bytes(value),
        expiry: Expiry::AfterMs(500),
        condition: DeadlineCondition { if_any, ..DeadlineCondition::default() },
    };
    let extend = |value: &str, by_ms| Operation::Extend { key: bytes("lock"), value: bytes(value), by_ms };
    let left = |value: &str| Operation::LeftIfEqual { key: bytes("lock"), value: bytes(value) };
    let (mut store, number) = (Store::default(), Reply::Integer);
    apply_one(&mut store, 1_000, lock("lock", 100));
    let Reply::Integer(fence) = apply_one(&mut store, 1_000, fence("lock")) else { panic!("a number") };
    for (time, operation, reply) in [
        (1_050, renew("other", false), 0),
        (1_050, extend("other", 100), 0),
        (1_050, left("other"), 0),
        (1_050, left("token"), 50),
        (1_050, renew("token", true), 1),
        (1_060, left("token"), 490),
        (1_060, extend("token", 1_000), 1),
        (1_060, left("token"), 1_490),
        (2_550, renew("token", false), 0),
        (2_550, extend("token", 1_000), 0),
    ] {
        assert_eq!(apply_one(&mut store, time, operation.clone()), number(reply), "{operation:?} at {time}");
        let created = store.now().look_at(b"lock", |record| record.map(|record| record.created));
        assert!(created.is_none_or(|created| created.cast_signed() == fence), "it is the same grant");
    }
    apply_one(&mut store, 3_000, Operation::set(bytes("lock"), bytes("token")));
    for (operation, reply) in
        [(left("token"), 0), (extend("token", 9), 0), (renew("token", true), 0), (renew("token", false), 1)]
    {
        assert_eq!(apply_one(&mut store, 3_000, operation.clone()), number(reply), "{operation:?}");
    }
    assert_eq!(apply_one(&mut store, 3_000, extend("token", -500)), number(1));
    assert_eq!(store.get(b"lock"), None, "what would have expired already is removed");
    fuzzing::check(&store);
}

#[test]
fn several_locks_are_taken_and_renewed_together_or_not_at_all() {
    let set_all = |keys: &[&str], value: &str, condition| Operation::SetAll {
        keys: keys.iter().map(|key| bytes(key)).collect(),
        value: bytes(value),
        condition,
        expiry: Expiry::AfterMs(100),
    };
    let take = |keys: &[&str], value: &str| set_all(keys, value, Condition::IfMissing);
    let renew = |keys: &[&str], value: &str| set_all(keys, value, Condition::IfEqual(bytes(value)));
    let mut store = Store::default();
    for (time, operation, reply) in [
        (1_000, take(&["a", "b"], "mine"), 2),
        (1_050, take(&["b", "c"], "theirs"), 0),
        (1_050, renew(&["a", "b"], "theirs"), 0),
        (1_050, renew(&["a", "c"], "mine"), 0),
        (1_050, renew(&["a", "b"], "mine"), 2),
        (1_149, take(&["a"], "theirs"), 0),
        (1_150, renew(&["a", "b"], "mine"), 0),
        (1_150, take(&["b", "c"], "theirs"), 2),
    ] {
        let said = apply_one(&mut store, time, operation.clone());
        assert_eq!(said, Reply::Integer(reply), "{operation:?} at {time}");
    }
    assert_eq!((store.get(b"a"), store.get(b"c")), (None, Some(bytes("theirs"))));
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
    let ahead = Err(crate::kv::execute::NotAnswered::AheadOfLog);
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
