//! Carries out operations, each after its [work](super::work) was taken from what its command has left.

use bytes::Bytes;
#[cfg(any(test, feature = "server"))]
use paxos_core::Time;

use super::feed::Event;
use super::glob::Pattern;
use super::operation::{PlainSet, PlainSets};
use super::records::Value;
use super::records::{Hash, WARMED_AT_ONCE};
use super::store::NewDeadline;
use super::view::View;
use super::work::{self, CHANGE, FLUSH, LOOKUP, NEXT_KEY, REMOVAL, TooMuch, Work};
use super::{Condition, Expiry, Operation, Reply, Store};

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const OVERFLOW: &str = "ERR increment or decrement would overflow";
/// The longest text of an integer: that of `i64::MIN`.
const MAX_INTEGER_BYTES: usize = 20;

/// Why an operation that only reads was not answered.
#[cfg(any(test, feature = "server"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotAnswered {
    /// It would have taken more work than was left.
    TooMuch,
    /// It has met a key that has expired by the leader's time, and not by that of the log.
    AheadOfLog,
}

impl Store {
    /// Answers an operation that only reads, as a command of its own and as of the time of the last one;
    /// `None` if the operation writes.
    #[must_use]
    pub fn query(&self, operation: &Operation) -> Option<Reply> {
        let reply = self.now().answer(operation, &mut Work::of_command())?;
        Some(reply.unwrap_or(Reply::TooMuch))
    }

    /// Answers an operation that only reads as of the leader's time; `None` if the operation writes.
    #[cfg(any(test, feature = "server"))]
    pub(crate) fn answer(
        &self,
        operation: &Operation,
        time: Time,
        work: &mut Work,
    ) -> Option<Result<Reply, NotAnswered>> {
        let view = self.at(time);
        let reply = view.answer(operation, work)?;
        if view.is_ahead_of_log() {
            return Some(Err(NotAnswered::AheadOfLog));
        }
        Some(reply.map_err(|TooMuch| NotAnswered::TooMuch))
    }

    /// Whether some key has expired by the leader's time, and not by that of the log.
    #[cfg(any(test, feature = "server"))]
    pub(crate) fn is_behind_deadlines(&self, time: Time) -> bool {
        self.deadlines.has_between(self.time, time)
    }

    /// Carries out an operation as a command of its own.
    pub fn execute(&mut self, operation: &Operation) -> Reply {
        self.carry_out(operation, &mut Work::of_command()).unwrap_or(Reply::TooMuch)
    }

    /// Carries out the SETs of a command, until one of them is too much; returns how many were carried out.
    pub(super) fn set_in_order(&mut self, mut sets: PlainSets<'_>, work: &mut Work) -> usize {
        let mut carried_out = 0;
        loop {
            let mut group = [None; WARMED_AT_ONCE];
            let hasher = self.records.hasher();
            let entries = group.iter_mut().zip(&mut sets);
            let count = entries.map(|(entry, set)| *entry = Some((hasher.hash(set.key), set))).count();
            let group = group.iter().flatten().copied();
            // A lone key would wait for the same loads.
            if count > 1 {
                self.warm(&group.clone().map(|(hash, _)| hash));
            }
            for (hash, set) in group {
                if self.set(hash, set, work) == Err(TooMuch) {
                    return carried_out;
                }
                carried_out += 1;
            }
            if count < WARMED_AT_ONCE {
                return carried_out;
            }
        }
    }

    fn set(&mut self, hash: Hash, set: PlainSet<'_>, work: &mut Work) -> Result<(), TooMuch> {
        work.take_for_one_key(work::operation(1, CHANGE))?;
        self.put_if((hash, set.key), set.value, |old_bytes| work.take(work::freed(old_bytes)))
    }

    /// Carries out an operation, or refuses it before anything is changed.
    pub(super) fn carry_out(&mut self, operation: &Operation, work: &mut Work) -> Result<Reply, TooMuch> {
        if let Some(reply) = self.now().answer(operation, work) {
            return reply;
        }
        match operation {
            Operation::Set { key, value, condition: None, returns_old: false } => {
                let hash = self.records.hasher().hash(key);
                self.set(hash, PlainSet { key, value }, work).map(|()| Reply::Ok)
            }
            Operation::Set { key, value, condition, returns_old } => {
                let units = work::operation(1, CHANGE) + self.set_work(key, condition.as_ref(), *returns_old);
                work.take_for_one_key(units)?;
                Ok(self.set_expiring((key, value), condition.as_ref(), *returns_old, Expiry::Never))
            }
            Operation::SetNx { key, value } => self.set_nx(key, value, work),
            Operation::GetDel { key } => {
                let bytes = self.stored_bytes(key).unwrap_or(0);
                work.take_for_one_key(
                    work::operation(1, REMOVAL) + work::answered(bytes) + work::freed(bytes),
                )?;
                let old = value_or_nil(self.get(key));
                self.remove(key);
                Ok(old)
            }
            Operation::Delete { keys } => {
                work.take(work::operation(keys.len(), REMOVAL))?;
                self.take_to_free(keys.iter(), work)?;
                Ok(count(keys.iter().filter(|key| self.remove(key)).count()))
            }
            Operation::Add { key, by } => {
                let old_bytes = self.stored_bytes(key).unwrap_or(0);
                work.take_for_one_key(work::operation(1, CHANGE) + work::freed(old_bytes))?;
                Ok(self.add(key, *by))
            }
            Operation::Append { key, value, limit_bytes } => {
                let old_bytes = self.stored_bytes(key).unwrap_or(0);
                let copied = work::copied(old_bytes) + work::freed(old_bytes);
                work.take_for_one_key(work::operation(1, CHANGE) + copied)?;
                Ok(self.append_up_to(key, value, *limit_bytes))
            }
            Operation::MSet { pairs } => {
                work.take(work::operation(pairs.len(), CHANGE))?;
                self.take_to_free(pairs.iter().map(|(key, _)| key), work)?;
                for (key, value) in pairs {
                    self.put(key, value, NewDeadline::Set(None));
                }
                Ok(Reply::Ok)
            }
            Operation::DeleteIf { key, condition } => self.delete_if(key, condition, work),
            Operation::DeleteEqual { keys, value } => self.delete_equal(keys, value, work),
            Operation::MSetNx { pairs } => self.m_set_nx(pairs, work),
            Operation::SetRange { key, offset, value, limit_bytes } => {
                self.set_range(key, *offset, value, *limit_bytes, work)
            }
            Operation::AddDecimal { key, by } => self.add_decimal(key, *by, work),
            Operation::Rename { from, to, only_if_missing } => self.rename(from, to, *only_if_missing, work),
            Operation::Copy { from, to, replaces } => self.copy(from, to, *replaces, work),
            Operation::Publish { channel, message } => {
                work.take_for_one_key(work::operation(1, LOOKUP))?;
                self.note(|| {
                    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
                    Event::Message { channel: copy(channel), message: copy(message) }
                });
                Ok(Reply::Integer(0))
            }
            Operation::FlushAll => {
                // The number of keys does not count: another thread frees them if they are many.
                work.take_for_one_key(work::operation(1, FLUSH))?;
                self.clear();
                Ok(Reply::Ok)
            }
            Operation::Count { .. } | Operation::SlideWindow { .. } => {
                self.carry_out_limiting(operation, work)
            }
            Operation::SetExpiring { .. }
            | Operation::GetExpiring { .. }
            | Operation::ChangeDeadline { .. }
            | Operation::ChangeDeadlineIfEqual { .. }
            | Operation::Extend { .. }
            | Operation::SetAll { .. }
            | Operation::Expire { .. } => self.carry_out_expiring(operation, work),
            Operation::Get { .. }
            | Operation::Exists { .. }
            | Operation::StrLen { .. }
            | Operation::Type { .. }
            | Operation::MGet { .. }
            | Operation::Deadline { .. }
            | Operation::LeftIfEqual { .. }
            | Operation::Created { .. }
            | Operation::Counted { .. }
            | Operation::DbSize
            | Operation::Digest { .. }
            | Operation::GetRange { .. }
            | Operation::RandomKey { .. }
            | Operation::Keys { .. }
            | Operation::Object { .. }
            | Operation::Unchanged { .. }
            | Operation::Scan { .. } => unreachable!("{operation:?} has been answered above"),
        }
    }

    /// Takes the work of freeing the values of these keys.
    pub(super) fn take_to_free<'a>(
        &self,
        mut keys: impl Iterator<Item = &'a Bytes>,
        work: &mut Work,
    ) -> Result<(), TooMuch> {
        keys.try_for_each(|key| work.take(work::freed(self.stored_bytes(key).unwrap_or(0))))
    }

    fn set_nx(&mut self, key: &[u8], value: &[u8], work: &mut Work) -> Result<Reply, TooMuch> {
        let is_new = !self.now().has(key);
        // Then an old value has expired.
        let freed = if is_new { work::freed(self.stored_bytes(key).unwrap_or(0)) } else { 0 };
        work.take_for_one_key(work::operation(1, CHANGE) + freed)?;
        if is_new {
            self.put(key, value, NewDeadline::Set(None));
        }
        Ok(Reply::Integer(i64::from(is_new)))
    }

    /// The work of setting a key beside that of every change.
    pub(super) fn set_work(&self, key: &[u8], condition: Option<&Condition>, returns_old: bool) -> u64 {
        let old_bytes = self.stored_bytes(key).unwrap_or(0);
        let answered = if returns_old { work::answered(old_bytes) } else { 0 };
        let compared = condition.map_or(0, |condition| compared(condition, old_bytes));
        work::freed(old_bytes) + answered + compared
    }

    pub(super) fn add(&mut self, key: &Bytes, by: i64) -> Reply {
        let old =
            self.now().look(key, |value| value.map_or(Some(0), |value| parse_integer(value.as_bytes())));
        let Some(old) = old else {
            return Reply::error(NOT_AN_INTEGER);
        };
        let Some(new) = old.checked_add(by) else { return Reply::error(OVERFLOW) };
        self.put(key, new.to_string().as_bytes(), NewDeadline::Kept);
        Reply::Integer(new)
    }

    fn append_up_to(&mut self, key: &Bytes, value: &Bytes, limit_bytes: u64) -> Reply {
        if self.now().value_bytes(key).unwrap_or(0) as u64 + value.len() as u64 > limit_bytes {
            return Reply::error(&format!("ERR value exceeds the limit of {limit_bytes} bytes"));
        }
        count(self.append(key, value))
    }
}

impl View<'_> {
    /// Answers an operation that only reads; `None` if the operation writes.
    fn answer(&self, operation: &Operation, work: &mut Work) -> Option<Result<Reply, TooMuch>> {
        Some(match operation {
            Operation::Get { key } => self.value_of(key, work),
            Operation::Exists { keys } => work
                .take(work::operation(keys.len(), LOOKUP))
                .map(|()| count(keys.iter().filter(|key| self.has(key)).count())),
            Operation::StrLen { key } => work
                .take_for_one_key(work::operation(1, LOOKUP))
                .map(|()| count(self.value_bytes(key).unwrap_or(0))),
            Operation::Type { key } => work.take(work::operation(1, LOOKUP)).map(|()| self.type_of(key)),
            Operation::MGet { keys } => self.values_of(keys, work),
            Operation::DbSize => work.take(work::operation(0, 0)).map(|()| count(self.store.len())),
            Operation::Scan { cursor, pattern, count } => {
                self.scan(*cursor, pattern.as_deref(), *count, work)
            }
            Operation::Digest { key } => self.digest_of(key, work),
            Operation::GetRange { key, first, last } => self.get_range(key, *first, *last, work),
            Operation::RandomKey { seed } => self.random_key(*seed, work),
            Operation::Keys { pattern } => self.keys(pattern, work),
            Operation::Object { key, property } => self.object(key, *property, work),
            Operation::Unchanged { watched } => self.are_unchanged(watched, work),
            Operation::Deadline { key, form } => {
                work.take(work::operation(1, LOOKUP)).map(|()| self.tell_deadline(key, *form))
            }
            Operation::Counted { key } => self.counted(key, work),
            Operation::Created { key } => work.take(work::operation(1, LOOKUP)).map(|()| self.created(key)),
            Operation::LeftIfEqual { key, value } => {
                let compared = work::copied(self.value_bytes(key).unwrap_or(0));
                work.take_for_one_key(work::operation(1, LOOKUP) + compared)
                    .map(|()| self.left_if_equal(key, value))
            }
            Operation::Set { .. }
            | Operation::SetNx { .. }
            | Operation::GetDel { .. }
            | Operation::Delete { .. }
            | Operation::Add { .. }
            | Operation::Append { .. }
            | Operation::MSet { .. }
            | Operation::DeleteIf { .. }
            | Operation::DeleteEqual { .. }
            | Operation::MSetNx { .. }
            | Operation::SetRange { .. }
            | Operation::AddDecimal { .. }
            | Operation::Rename { .. }
            | Operation::Copy { .. }
            | Operation::Publish { .. }
            | Operation::SetExpiring { .. }
            | Operation::GetExpiring { .. }
            | Operation::ChangeDeadline { .. }
            | Operation::ChangeDeadlineIfEqual { .. }
            | Operation::Extend { .. }
            | Operation::SetAll { .. }
            | Operation::Count { .. }
            | Operation::SlideWindow { .. }
            | Operation::Expire { .. }
            | Operation::FlushAll => return None,
        })
    }

    fn value_of(&self, key: &[u8], work: &mut Work) -> Result<Reply, TooMuch> {
        self.look(key, |value| {
            let answered = work::answered(value.map_or(0, |value| value.len()));
            work.take_for_one_key(work::operation(1, LOOKUP) + answered)?;
            Ok(value_or_nil(value.map(Value::to_bytes)))
        })
    }

    fn type_of(&self, key: &[u8]) -> Reply {
        let name = if self.has(key) { "string" } else { "none" };
        Reply::Word(Bytes::from_static(name.as_bytes()))
    }

    fn values_of(&self, keys: &[Bytes], work: &mut Work) -> Result<Reply, TooMuch> {
        work.take(work::operation(keys.len(), LOOKUP))?;
        let value = |key: &Bytes| {
            self.look(key, |value| {
                work.take(work::answered(value.map_or(0, |value| value.len())))?;
                Ok(value_or_nil(value.map(Value::to_bytes)))
            })
        };
        Ok(Reply::Array(keys.iter().map(value).collect::<Result<_, _>>()?))
    }

    /// Whether a condition holds for a key.
    pub(super) fn meets(&self, key: &[u8], condition: &Condition) -> bool {
        self.look(key, |value| condition.holds(value.as_ref().map(Value::as_bytes)))
    }

    /// Up to `count` keys, from the one created at revision `cursor` back to the oldest; 0 begins with the
    /// newest. A scan does not see keys that are created while it goes on, so it ends however many there are.
    ///
    /// A page ends early rather than take more than half of the work that is left, so that the operations
    /// behind it in the same command have some, too. It looks at one key at least, or the scan would never
    /// end.
    fn scan(
        &self,
        cursor: u64,
        pattern: Option<&[u8]>,
        count: u64,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        work.take(work::operation(1, LOOKUP) + pattern.map_or(0, Pattern::parse_work))?;
        let pattern = pattern.map(Pattern::new);
        let reserve = work.left() / 2;
        let newest = if cursor == 0 { u64::MAX } else { cursor };
        let mut keys = Vec::new();
        let mut next = 0;
        for (looked_at, (created, hash)) in (0..).zip(self.store.by_creation.newest_first(0..=newest)) {
            let is_end = self.store.records.look_created(hash, created, |record| {
                let record = record.expect("every key has a record");
                let key = record.key;
                let matching = pattern.as_ref().map_or(0, |pattern| pattern.work(key.len()));
                let units = (NEXT_KEY + work::answered(key.len())).saturating_add(matching);
                if looked_at > 0 && (looked_at >= count || work.left() < reserve.saturating_add(units)) {
                    return Ok(true);
                }
                work.take(units)?;
                if pattern.as_ref().is_none_or(|pattern| pattern.matches(key)) && self.shows(&record) {
                    keys.push(Reply::Bulk(Bytes::copy_from_slice(key)));
                }
                Ok(false)
            })?;
            if is_end {
                next = created;
                break;
            }
        }
        Ok(Reply::Array(vec![Reply::Bulk(Bytes::from(next.to_string())), Reply::Array(keys)]))
    }
}

/// The work of checking a condition on a value of this length.
pub(super) fn compared(condition: &Condition, value_bytes: usize) -> u64 {
    if condition.reads_value() { work::copied(value_bytes) } else { 0 }
}

pub(super) fn value_or_nil(value: Option<Bytes>) -> Reply {
    value.map_or(Reply::Nil, Reply::Bulk)
}

pub(super) fn count(count: usize) -> Reply {
    Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// An integer in the only form in which it is written: no sign but a minus, no leading zeros, no spaces.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    if text.len() > MAX_INTEGER_BYTES {
        return None;
    }
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bytes, set};
    use super::*;

    fn scan(store: &Store, cursor: u64, count: u64) -> (u64, Vec<String>) {
        let Some(Reply::Array(parts)) = store.query(&Operation::Scan { cursor, pattern: None, count }) else {
            panic!("a scan answers with an array");
        };
        let [Reply::Bulk(next), Reply::Array(keys)] = &parts[..] else { panic!("of two parts") };
        let text = |reply: &Reply| match reply {
            Reply::Bulk(key) => String::from_utf8_lossy(key).into_owned(),
            other => panic!("a key, not {other:?}"),
        };
        (String::from_utf8_lossy(next).parse().expect("a number"), keys.iter().map(text).collect())
    }

    #[test]
    fn a_scan_returns_every_key_that_stays_whatever_else_changes() {
        let mut store = Store::default();
        for number in 0..100 {
            store.execute(&set(&format!("stays {number}"), "x"));
            store.execute(&set(&format!("goes {number}"), "x"));
        }
        let (mut cursor, mut seen) = (0, std::collections::BTreeSet::new());
        for round in 0.. {
            let (next, keys) = scan(&store, cursor, 7);
            seen.extend(keys);
            store.execute(&Operation::Delete { keys: vec![bytes(&format!("goes {round}"))] });
            store.execute(&set(&format!("stays {round}"), "changed"));
            if next == 0 {
                break;
            }
            cursor = next;
        }
        assert!((0..100).all(|number| seen.contains(&format!("stays {number}"))));
    }

    #[test]
    fn a_scan_ends_though_keys_come_faster_than_it_goes() {
        let mut store = Store::default();
        (0..50).for_each(|number| drop(store.execute(&set(&format!("old {number}"), "x"))));
        let (mut cursor, mut pages) = (0, 0);
        loop {
            let (next, keys) = scan(&store, cursor, 5);
            assert!(keys.iter().all(|key| key.starts_with("old")), "only what was there: {keys:?}");
            (0..10).for_each(|number| drop(store.execute(&set(&format!("new {pages} {number}"), "x"))));
            pages += 1;
            if next == 0 {
                break;
            }
            cursor = next;
        }
        assert_eq!(pages, 10);
    }

    #[test]
    fn only_exact_integers_count() {
        let accepted = ["0", "-1", "9223372036854775807", "-9223372036854775808"];
        let refused = ["", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808", "x"];
        assert!(accepted.iter().all(|text| parse_integer(&bytes(text)).is_some()));
        assert!(refused.iter().all(|text| parse_integer(&bytes(text)).is_none()));
    }
}
