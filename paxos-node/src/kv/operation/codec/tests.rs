use super::super::{CountForm, WindowRequest};
use super::super::{DeadlineCondition, DeadlineForm, Expiry};
use super::*;
use proptest::prelude::*;

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::IfMissing),
        Just(Condition::IfPresent),
        key().prop_map(Condition::IfEqual),
        key().prop_map(Condition::IfNotEqual),
        any::<u64>().prop_map(Condition::IfDigest),
        any::<u64>().prop_map(Condition::IfNotDigest),
    ]
}

fn pairs() -> impl Strategy<Value = Vec<(Bytes, Bytes)>> {
    prop::collection::vec((key(), key()), 0..4)
}

fn property() -> impl Strategy<Value = Property> {
    let all = [
        Property::Encoding,
        Property::Frequency,
        Property::IdleTime,
        Property::References,
        Property::MemoryBytes,
    ];
    prop::sample::select(all.to_vec())
}

fn seen() -> impl Strategy<Value = Seen> {
    prop_oneof![any::<u64>().prop_map(Seen::Changed), any::<u64>().prop_map(Seen::Missing)]
}

/// Operations that the first version did not have.
fn later() -> impl Strategy<Value = Operation> {
    let decimal = || any::<i64>().prop_filter_map("in range", |units| Decimal::of_units(units.into()));
    prop_oneof![
        (key(), condition()).prop_map(|(key, condition)| Operation::DeleteIf { key, condition }),
        (prop::collection::vec(key(), 0..4), key())
            .prop_map(|(keys, value)| Operation::DeleteEqual { keys, value }),
        key().prop_map(|key| Operation::Digest { key }),
        pairs().prop_map(|pairs| Operation::MSetNx { pairs }),
        (key(), any::<u64>(), key(), any::<u64>()).prop_map(|(key, offset, value, limit_bytes)| {
            Operation::SetRange { key, offset, value, limit_bytes }
        }),
        (key(), any::<i64>(), any::<i64>()).prop_map(|(key, first, last)| Operation::GetRange {
            key,
            first,
            last
        }),
        (key(), decimal()).prop_map(|(key, by)| Operation::AddDecimal { key, by }),
        (key(), key(), any::<bool>()).prop_map(|(from, to, only_if_missing)| Operation::Rename {
            from,
            to,
            only_if_missing
        }),
        (key(), key(), any::<bool>()).prop_map(|(from, to, replaces)| Operation::Copy { from, to, replaces }),
        (key(), key()).prop_map(|(channel, message)| Operation::Publish { channel, message }),
        any::<u64>().prop_map(|seed| Operation::RandomKey { seed }),
        key().prop_map(|pattern| Operation::Keys { pattern }),
        prop::collection::vec((key(), seen()), 0..4).prop_map(|watched| Operation::Unchanged { watched }),
        (key(), property()).prop_map(|(key, property)| Operation::Object { key, property }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let keys = || prop::collection::vec(key(), 0..4);
    prop_oneof![
        key().prop_map(|key| Operation::Get { key }),
        (key(), key(), prop::option::of(condition()), any::<bool>()).prop_map(
            |(key, value, condition, returns_old)| { Operation::Set { key, value, condition, returns_old } }
        ),
        (key(), key()).prop_map(|(key, value)| Operation::SetNx { key, value }),
        key().prop_map(|key| Operation::GetDel { key }),
        keys().prop_map(|keys| Operation::Delete { keys }),
        keys().prop_map(|keys| Operation::Exists { keys }),
        (key(), any::<i64>()).prop_map(|(key, by)| Operation::Add { key, by }),
        (key(), key(), any::<u64>()).prop_map(|(key, value, limit_bytes)| Operation::Append {
            key,
            value,
            limit_bytes
        }),
        key().prop_map(|key| Operation::StrLen { key }),
        keys().prop_map(|keys| Operation::MGet { keys }),
        prop::collection::vec((key(), key()), 0..4).prop_map(|pairs| Operation::MSet { pairs }),
        Just(Operation::DbSize),
        (any::<u64>(), prop::option::of(key()), any::<u64>())
            .prop_map(|(cursor, pattern, count)| Operation::Scan { cursor, pattern, count }),
        Just(Operation::FlushAll),
        key().prop_map(|key| Operation::Type { key }),
        expiring(),
    ]
}

fn deadline_condition([if_none, if_any, if_later, if_earlier]: [bool; 4]) -> DeadlineCondition {
    DeadlineCondition { if_none, if_any, if_later, if_earlier }
}

fn limiting() -> impl Strategy<Value = Operation> {
    let form = prop_oneof![Just(CountForm::Sum), Just(CountForm::SumAndLeft), Just(CountForm::AnewAndLeft)];
    let request = (any::<i64>(), any::<i64>()).prop_map(|(limit, amount)| WindowRequest { limit, amount });
    prop_oneof![
        (key(), any::<i64>(), any::<i64>(), form).prop_map(|(key, by, window_ms, form)| Operation::Count {
            key,
            by,
            window_ms,
            form
        }),
        key().prop_map(|key| Operation::Counted { key }),
        (key(), key(), any::<i64>(), prop::option::of(request)).prop_map(
            |(previous, current, window_ms, request)| {
                Operation::SlideWindow { previous, current, window_ms, request }
            }
        ),
    ]
}

fn expiring() -> impl Strategy<Value = Operation> {
    let expiry = || {
        prop_oneof![
            Just(Expiry::Never),
            Just(Expiry::Kept),
            any::<i64>().prop_map(Expiry::AfterMs),
            any::<i64>().prop_map(Expiry::AtMs),
        ]
    };
    let form = prop_oneof![
        Just(DeadlineForm::LeftMs),
        Just(DeadlineForm::LeftSeconds),
        Just(DeadlineForm::AtMs),
        Just(DeadlineForm::AtSeconds),
    ];
    prop_oneof![
        (key(), key(), prop::option::of(condition()), any::<bool>(), expiry()).prop_map(
            |(key, value, condition, returns_old, expiry)| {
                Operation::SetExpiring { key, value, condition, returns_old, expiry }
            }
        ),
        (key(), expiry()).prop_map(|(key, expiry)| Operation::GetExpiring { key, expiry }),
        (key(), expiry(), any::<[bool; 4]>()).prop_map(|(key, expiry, flags)| {
            Operation::ChangeDeadline { key, expiry, condition: deadline_condition(flags) }
        }),
        (key(), form).prop_map(|(key, form)| Operation::Deadline { key, form }),
        key().prop_map(|key| Operation::Created { key }),
        (key(), key(), expiry(), any::<[bool; 4]>()).prop_map(|(key, value, expiry, flags)| {
            Operation::ChangeDeadlineIfEqual { key, value, expiry, condition: deadline_condition(flags) }
        }),
        (key(), key(), any::<i64>()).prop_map(|(key, value, by_ms)| Operation::Extend { key, value, by_ms }),
        (key(), key()).prop_map(|(key, value)| Operation::LeftIfEqual { key, value }),
        (prop::collection::vec(key(), 0..4), key(), condition(), expiry()).prop_map(
            |(keys, value, condition, expiry)| Operation::SetAll { keys, value, condition, expiry }
        ),
        any::<u32>().prop_map(|at_most| Operation::Expire { at_most }),
        limiting(),
    ]
}

proptest! {
    #[test]
    fn operations_come_back(operations in prop::collection::vec(prop_oneof![operation(), later()], 0..5)) {
        let command = Operation::command(&operations);
        let size: usize = operations.iter().map(Operation::size_bytes).sum();
        prop_assert!(command.len() <= 1 + size);
        prop_assert_eq!(decode(&command), Ok(operations));
    }

    #[test]
    fn plain_sets_are_told_from_all_else(operations in prop::collection::vec(set_or_other(), 0..4)) {
        let command = Operation::command(&operations);
        prop_assert_eq!(found_plain_sets(&command), decoded_plain_sets(&command));
        for length in 0..command.len() {
            let cut = command.slice(..length);
            prop_assert_eq!(found_plain_sets(&cut), decoded_plain_sets(&cut), "cut to {}", length);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes: Vec<u8>) {
        let _ = decode(&Bytes::from(bytes.clone()));
        bytes.insert(0, VERSION);
        let _ = decode(&Bytes::from(bytes));
    }

    #[test]
    fn what_looks_like_a_plain_set_is_one(lengths: (u8, u8), tail in prop::collection::vec(0..3u8, 0..4)) {
        let mut bytes = vec![VERSION, 2];
        for length in [lengths.0, lengths.1] {
            bytes.extend_from_slice(&u32::from(length).to_le_bytes());
            bytes.resize(bytes.len() + usize::from(length), 7);
        }
        bytes.extend_from_slice(&tail);
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(found_plain_sets(&bytes), decoded_plain_sets(&bytes));
    }
}

/// Often a SET, and often a plain one.
fn set_or_other() -> impl Strategy<Value = Operation> {
    let plain = (key(), key()).prop_map(|(key, value)| Operation::set(key, value));
    prop_oneof![6 => plain, 1 => operation(), 1 => later()]
}

type Pairs = Vec<(Bytes, Bytes)>;

fn found_plain_sets(command: &Bytes) -> Option<Pairs> {
    let copy = |PlainSet { key, value }| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    Some(plain_sets(command)?.map(copy).collect())
}

/// The same, as the decoder finds them.
fn decoded_plain_sets(command: &Bytes) -> Option<Pairs> {
    let plain = |operation| match operation {
        Operation::Set { key, value, condition: None, returns_old: false } => Some((key, value)),
        _ => None,
    };
    decode(command).ok()?.into_iter().map(plain).collect()
}

/// One command with the operation of each tag as programs of the first format level have written it, three of
/// some: `tests/formats/level-1/kv-commands.txt`.
#[cfg(all(feature = "server", feature = "file"))]
#[test]
fn commands_are_written_as_always_and_no_tag_is_new_without_a_level_of_its_own() {
    use std::collections::BTreeSet;

    let witness = crate::formats::witness(1, "kv-commands.txt", sampled().as_bytes());
    let witness = String::from_utf8(witness).expect("it is text");
    let mut tags = BTreeSet::new();
    for line in witness.lines() {
        let (tag, digits) = line.split_once(' ').expect("a tag, and the bytes of a command");
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
        let command: Bytes = (0..digits.len()).step_by(2).map(byte).collect();
        let operations = decode(&command).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(format!("{:x}", Operation::command(&operations)), digits, "tag {tag}");
        tags.insert(tag.parse::<u8>().expect("a number"));
    }
    let is_known =
        |tag: &u8| decode(&Bytes::copy_from_slice(&[VERSION, *tag])) != Err(UnreadableCommand::Unknown);
    let known: Vec<u8> = (0..=u8::MAX).filter(is_known).collect();
    assert_eq!(known, tags.into_iter().collect::<Vec<_>>(), "see `guide::upgrade` on how a new tag comes");
}

/// Commands of one operation each, drawn until there are some of each tag.
#[cfg(all(feature = "server", feature = "file"))]
fn sampled() -> String {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use std::collections::BTreeMap;

    let mut runner = TestRunner::deterministic();
    let mut samples: BTreeMap<u8, Vec<Bytes>> = BTreeMap::new();
    for _ in 0..5_000 {
        let drawn = prop_oneof![operation(), later()].new_tree(&mut runner).expect("it can be drawn");
        let command = Operation::command(&[drawn.current()]);
        let samples = samples.entry(command[1]).or_default();
        if samples.len() < 3 {
            samples.push(command);
        }
    }
    let line = |tag: u8, command: &Bytes| format!("{tag} {command:x}\n");
    samples.iter().flat_map(|(tag, commands)| commands.iter().map(|command| line(*tag, command))).collect()
}

#[test]
fn what_a_newer_version_may_write_is_told_from_what_is_malformed() {
    let refused = |bytes: &'static [u8]| decode(&Bytes::from_static(bytes)).expect_err("it is no command");
    assert_eq!(refused(&[VERSION + 1, 1]), UnreadableCommand::Unknown, "a version");
    assert_eq!(refused(&[VERSION, 200]), UnreadableCommand::Unknown, "a tag");
    let property = [VERSION, 50, 1, 0, 0, 0, b'k', 99];
    assert_eq!(decode(&Bytes::copy_from_slice(&property)), Err(UnreadableCommand::Unknown), "a property");
    assert_eq!(refused(&[]), UnreadableCommand::Malformed);
    assert_eq!(refused(&[0, 1]), UnreadableCommand::Malformed);
    assert_eq!(refused(&[VERSION, 1, 9, 0, 0, 0]), UnreadableCommand::Malformed, "a key that is cut short");
}
