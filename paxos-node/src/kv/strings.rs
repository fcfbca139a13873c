//! Operations on values that take more than a few lines: parts of values, decimal numbers, conditions.

use bytes::Bytes;

use super::decimal::Decimal;
use super::execute::{compared, count};
use super::operation::digest;
use super::records::Value;
use super::store::NewDeadline;
use super::view::View;
use super::work::{self, CHANGE, LOOKUP, REMOVAL, TooMuch, Work};
use super::{Condition, Reply, Store};

const NOT_A_FLOAT: &str = "ERR value is not a valid float";
/// A part may be written into a value up to here, whatever limit its command names: as far as the longest
/// entry of the log could have set it.
const MAX_RANGE_END_BYTES: u64 = 16 << 20;

impl View<'_> {
    pub(super) fn digest_of(&self, key: &[u8], work: &mut Work) -> Result<Reply, TooMuch> {
        self.look(key, |value| {
            let value = value.as_ref().map(Value::as_bytes);
            work.take_for_one_key(work::operation(1, LOOKUP) + work::copied(value.map_or(0, <[u8]>::len)))?;
            Ok(value.map_or(Reply::Nil, |value| Reply::Bulk(Bytes::from(format!("{:016x}", digest(value))))))
        })
    }

    pub(super) fn get_range(
        &self,
        key: &[u8],
        first: i64,
        last: i64,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        self.look(key, |value| {
            let length = value.as_ref().map_or(0, Value::len);
            let range = range_of(first, last, length);
            work.take_for_one_key(work::operation(1, LOOKUP) + work::answered(range.len()))?;
            Ok(Reply::Bulk(match value {
                Some(Value::Short(bytes)) => Bytes::copy_from_slice(&bytes[range]),
                Some(Value::Long(bytes)) => bytes.slice(range),
                None => Bytes::new(),
            }))
        })
    }
}

impl Store {
    pub(super) fn set_range(
        &mut self,
        key: &[u8],
        offset: u64,
        part: &[u8],
        limit_bytes: u64,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        let limit_bytes = limit_bytes.min(MAX_RANGE_END_BYTES);
        let stored_bytes = self.stored_bytes(key).unwrap_or(0);
        let old_bytes = self.now().value_bytes(key).unwrap_or(0);
        let end = offset.saturating_add(part.len() as u64);
        let is_too_long = end > limit_bytes;
        let new_bytes = old_bytes.max(usize::try_from(end).unwrap_or(usize::MAX));
        if part.is_empty() || is_too_long {
            work.take(work::operation(1, LOOKUP))?;
        } else {
            let copied = work::copied(new_bytes) + work::freed(stored_bytes);
            work.take_for_one_key(work::operation(1, CHANGE) + copied)?;
        }
        if part.is_empty() {
            return Ok(count(old_bytes));
        }
        if is_too_long {
            return Ok(Reply::error(&format!("ERR value exceeds the limit of {limit_bytes} bytes")));
        }
        let mut new = Vec::with_capacity(new_bytes);
        self.now().look(key, |value| new.extend_from_slice(value.as_ref().map_or(&[], Value::as_bytes)));
        new.resize(new_bytes, 0);
        let first = new_bytes.min(usize::try_from(offset).unwrap_or(usize::MAX));
        new[first..first + part.len()].copy_from_slice(part);
        self.put(key, &new, NewDeadline::Kept);
        Ok(count(new_bytes))
    }

    pub(super) fn add_decimal(&mut self, key: &[u8], by: Decimal, work: &mut Work) -> Result<Reply, TooMuch> {
        let old_bytes = self.stored_bytes(key).unwrap_or(0);
        work.take_for_one_key(work::operation(1, 2 * CHANGE) + work::freed(old_bytes))?;
        let parse = |value: Option<Value<'_>>| {
            value.map_or(Ok(Decimal::ZERO), |value| Decimal::parse(value.as_bytes()))
        };
        let old = self.now().look(key, parse);
        let Ok(old) = old else { return Ok(Reply::error(NOT_A_FLOAT)) };
        let Some(new) = old.checked_add(by) else { return Ok(Reply::error(Decimal::TOO_LARGE)) };
        let text = new.to_string();
        self.put(key, text.as_bytes(), NewDeadline::Kept);
        Ok(Reply::Bulk(Bytes::from(text)))
    }

    pub(super) fn m_set_nx(&mut self, pairs: &[(Bytes, Bytes)], work: &mut Work) -> Result<Reply, TooMuch> {
        work.take(work::operation(pairs.len(), LOOKUP + CHANGE))?;
        let are_missing = !pairs.iter().any(|(key, _)| self.now().has(key));
        if are_missing {
            // Some may have expired.
            self.take_to_free(pairs.iter().map(|(key, _)| key), work)?;
            for (key, value) in pairs {
                self.put(key, value, NewDeadline::Set(None));
            }
        }
        Ok(Reply::Integer(i64::from(are_missing)))
    }

    pub(super) fn delete_if(
        &mut self,
        key: &[u8],
        condition: &Condition,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        let old_bytes = self.stored_bytes(key).unwrap_or(0);
        let compared = compared(condition, old_bytes);
        work.take_for_one_key(work::operation(1, REMOVAL) + work::freed(old_bytes) + compared)?;
        let is_removed = self.now().meets(key, condition) && self.remove(key);
        Ok(Reply::Integer(i64::from(is_removed)))
    }

    pub(super) fn delete_equal(
        &mut self,
        keys: &[Bytes],
        value: &[u8],
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        work.take(work::operation(keys.len(), REMOVAL))?;
        for key in keys {
            let bytes = self.stored_bytes(key).unwrap_or(0);
            work.take(work::freed(bytes) + work::copied(bytes))?;
        }
        let is_equal = |store: &Store, key: &[u8]| {
            store.now().look(key, |old| old.is_some_and(|old| old.as_bytes() == value))
        };
        Ok(count(keys.iter().filter(|key| is_equal(self, key) && self.remove(key)).count()))
    }
}

/// The bytes from `first` to `last` of a value of this length; negative places count from its end.
fn range_of(first: i64, last: i64, length: usize) -> std::ops::Range<usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    // As in Redis 7.2: the first byte stands for a last one that lies before it, unless both are reversed.
    let are_reversed = first < 0 && last < 0 && first > last;
    let place = |place: i64| if place < 0 { place.saturating_add(length).max(0) } else { place };
    let (first, last) = (place(first), place(last).min(length - 1));
    if are_reversed || first > last {
        return 0..0;
    }
    let place = |place: i64| usize::try_from(place).expect("it lies within the value");
    place(first)..place(last) + 1
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::{bytes, set};
    use super::*;

    #[test]
    fn a_range_counts_from_either_end_and_is_cut_to_the_value() {
        let whole = "Hello";
        for (first, last, expected) in [
            (0, 3, "Hell"),
            (-3, -1, "llo"),
            (0, -1, "Hello"),
            (10, 20, ""),
            (3, 1, ""),
            (-1, -3, ""),
            (-100, 1, "He"),
            (0, -100, "H"),
            (i64::MIN, i64::MAX, "Hello"),
            (i64::MAX, i64::MIN, ""),
        ] {
            assert_eq!(&whole[range_of(first, last, whole.len())], expected, "{first} to {last}");
        }
        assert_eq!(range_of(0, -1, 0), 0..0);
    }

    #[test]
    fn a_part_is_written_into_a_value_that_grows_with_zeros() {
        let mut store = Store::default();
        let mut write = |offset, part: &str, limit_bytes| {
            let (key, value) = (bytes("k"), bytes(part));
            store.execute(&Operation::SetRange { key, offset, value, limit_bytes })
        };
        assert_eq!(write(3, "", 10), Reply::Integer(0), "nothing makes no key");
        assert_eq!(write(2, "ab", 10), Reply::Integer(4));
        assert_eq!(write(0, "xyz", 10), Reply::Integer(4));
        for offset in [9, u64::MAX] {
            assert_eq!(write(offset, "ab", 10), Reply::error("ERR value exceeds the limit of 10 bytes"));
        }
        let refused = Reply::error(&format!("ERR value exceeds the limit of {MAX_RANGE_END_BYTES} bytes"));
        for offset in [MAX_RANGE_END_BYTES - 1, u64::MAX - 2] {
            assert_eq!(write(offset, "ab", u64::MAX), refused, "the command names no limit");
        }
        assert_eq!(store.get(b"k"), Some(bytes("xyzb")));
        let revision = store.revision();
        let nothing = Operation::SetRange { key: bytes("k"), offset: 0, value: bytes(""), limit_bytes: 10 };
        assert_eq!(store.execute(&nothing), Reply::Integer(4));
        assert_eq!(store.revision(), revision, "nothing has changed");
    }

    #[test]
    fn a_key_is_removed_only_by_the_one_who_knows_its_value() {
        let mut store = Store::default();
        store.execute(&set("lock", "mine"));
        let mut delete = |value: &str| {
            store.execute(&Operation::delete_if(bytes("lock"), Condition::IfEqual(bytes(value))))
        };
        assert_eq!(delete("theirs"), Reply::Integer(0));
        assert_eq!(delete("mine"), Reply::Integer(1));
        assert_eq!(delete("mine"), Reply::Integer(0));
    }

    #[test]
    fn decimals_are_added_exactly_and_what_is_no_number_stays() {
        let mut store = Store::default();
        let number = |text: &str| Decimal::parse(text.as_bytes()).expect("it is a number");
        let add = |text: &str| Operation::AddDecimal { key: bytes("n"), by: number(text) };
        assert_eq!(store.execute(&add("0.1")), Reply::Bulk(bytes("0.1")));
        assert_eq!(store.execute(&add("0.2")), Reply::Bulk(bytes("0.3")));
        store.execute(&set("n", "999999999999999999999"));
        assert_eq!(store.execute(&add("1")), Reply::error(Decimal::TOO_LARGE));
        store.execute(&set("n", "text"));
        assert_eq!(store.execute(&add("1")), Reply::error(NOT_A_FLOAT));
        assert_eq!(store.get(b"n"), Some(bytes("text")));
    }
}
