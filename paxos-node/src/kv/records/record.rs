//! A key's value and history, and how they lie in a page.

use bytes::Bytes;
use paxos_core::Time;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The memory of a record beside the bytes of its key and value: its head in the page, its places in the
/// table and in the order of creation, and the room that pages and tables have left.
const RECORD_BYTES: u64 = 52;
/// The further memory of a record whose value lies apart.
const LONG_BYTES: u64 = 112;

/// The further memory of a record that expires: its deadline, and its place in the order of deadlines.
const EXPIRY_BYTES: u64 = 24;

/// Records with their keys are no longer than this in a page, a deadline left out; longer values, and with
/// them very long keys, lie apart. A page ends with less than that unused.
const MAX_SHORT_BYTES: usize = 512;
/// Keys up to this length lie in the page, whatever their values.
const MAX_SHORT_KEY_BYTES: usize = 255;

/// A record of the store, as it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::kv) struct Record<'a> {
    pub(in crate::kv) created: u64,
    pub(in crate::kv) modified: u64,
    /// When it expires, if it does.
    pub(in crate::kv) deadline: Option<Time>,
    pub(in crate::kv) key: &'a [u8],
    pub(in crate::kv) value: Value<'a>,
}

/// What a record has beside its key and value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::kv) struct History {
    /// The revision at which the key was created.
    pub(in crate::kv) created: u64,
    /// That of the last change.
    pub(in crate::kv) modified: u64,
    /// When it expires, if it does.
    pub(in crate::kv) deadline: Option<Time>,
}

/// The value of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::kv) enum Value<'a> {
    /// It lies in a page.
    Short(&'a [u8]),
    /// It lies apart, and can be shared.
    Long(&'a Bytes),
}

impl Record<'_> {
    /// The record's part of the store's digest.
    pub(in crate::kv) fn hash(&self) -> u64 {
        hash_of(self.history(), self.key, self.value.as_bytes())
    }

    pub(in crate::kv) fn memory_bytes(&self) -> u64 {
        memory_of(self.key.len(), self.value.len(), self.deadline.is_some())
    }

    pub(in crate::kv) fn history(&self) -> History {
        History { created: self.created, modified: self.modified, deadline: self.deadline }
    }

    /// Whether it has expired by this time.
    pub(in crate::kv) fn is_expired(&self, time: Time) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= time)
    }
}

/// The part of the store's digest of a record with these contents.
pub(in crate::kv) fn hash_of(history: History, key: &[u8], value: &[u8]) -> u64 {
    let History { created, modified, deadline } = history;
    let hash = xxh3_64_with_seed(key, created) ^ xxh3_64_with_seed(value, modified).rotate_left(32);
    deadline.map_or(hash, |deadline| hash ^ xxh3_64_with_seed(&deadline.0.to_le_bytes(), created))
}

/// How much memory a record takes whose key and value are this long.
pub(in crate::kv) fn memory_of(key_bytes: usize, value_bytes: usize, expires: bool) -> u64 {
    let apart = if is_short(key_bytes, value_bytes) { 0 } else { LONG_BYTES };
    let expiry = if expires { EXPIRY_BYTES } else { 0 };
    RECORD_BYTES + apart + expiry + (key_bytes + value_bytes) as u64
}

/// Whether a record with a key and a value of these lengths lies wholly in a page, whether it expires or not.
pub(super) fn is_short(key_bytes: usize, value_bytes: usize) -> bool {
    is_short_key(key_bytes) && HEAD_BYTES + key_bytes + value_bytes <= MAX_SHORT_BYTES
}

/// Whether a key of this length lies in the page.
pub(super) fn is_short_key(key_bytes: usize) -> bool {
    key_bytes <= MAX_SHORT_KEY_BYTES
}

impl Value<'_> {
    pub(in crate::kv) fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Short(bytes) => bytes,
            Value::Long(bytes) => bytes,
        }
    }

    pub(in crate::kv) fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// The value, for who keeps it: a short one is copied, a long one shared.
    pub(in crate::kv) fn to_bytes(self) -> Bytes {
        match self {
            Value::Short(bytes) => Bytes::copy_from_slice(bytes),
            Value::Long(bytes) => bytes.clone(),
        }
    }
}

/// Records begin at multiples of this, and are as long.
pub(super) const UNIT_BYTES: usize = 4;
/// The revisions at which a record was created and modified, and a [`Head`].
pub(super) const HEAD_BYTES: usize = 20;
/// A deadline, behind the head of a record that expires.
pub(super) const DEADLINE_BYTES: usize = 8;

/// What a page tells of a record in front of its key and value, packed into 4 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a bit of its own")]
pub(super) struct Head {
    /// How long the record is in the page, in units.
    pub(super) units: u8,
    /// The record expires.
    pub(super) expires: bool,
    /// How much of the key lies in the page: all of it, or nothing.
    pub(super) key_bytes: u8,
    /// The length of a short value, or the place of what lies apart.
    pub(super) value: u16,
    /// The value lies apart.
    pub(super) is_long: bool,
    /// So does the key.
    pub(super) is_key_apart: bool,
    /// The record was removed.
    pub(super) is_dead: bool,
}

/// What lies apart has at most this many places in a shard.
pub(super) const MAX_LONG: u16 = 1 << 12;
const EXPIRES: u32 = 1 << 28;
const IS_LONG: u32 = 1 << 29;
const IS_KEY_APART: u32 = 1 << 30;
const IS_DEAD: u32 = 1 << 31;

impl Head {
    /// The head of a record whose key and short value take this many bytes in the page.
    pub(super) fn new(key_bytes: usize, value_bytes: usize, expires: bool) -> Head {
        let deadline_bytes = if expires { DEADLINE_BYTES } else { 0 };
        let units = (HEAD_BYTES + deadline_bytes + key_bytes + value_bytes).div_ceil(UNIT_BYTES);
        Head {
            units: u8::try_from(units).expect("what lies in a page is short"),
            expires,
            key_bytes: u8::try_from(key_bytes).expect("keys that lie in a page are short"),
            value: u16::try_from(value_bytes).expect("values that lie in a page are short"),
            is_long: false,
            is_key_apart: false,
            is_dead: false,
        }
    }

    pub(super) fn of(bits: u32) -> Head {
        let [units, key_bytes, low, high] = bits.to_le_bytes();
        Head {
            units,
            expires: bits & EXPIRES != 0,
            key_bytes,
            value: u16::from_le_bytes([low, high]) & (MAX_LONG - 1),
            is_long: bits & IS_LONG != 0,
            is_key_apart: bits & IS_KEY_APART != 0,
            is_dead: bits & IS_DEAD != 0,
        }
    }

    pub(super) fn bits(self) -> u32 {
        assert!(self.value < MAX_LONG, "lengths and places fit into their bits");
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        u32::from(self.units)
            | u32::from(self.key_bytes) << 8
            | u32::from(self.value) << 16
            | flag(self.expires, EXPIRES)
            | flag(self.is_long, IS_LONG)
            | flag(self.is_key_apart, IS_KEY_APART)
            | flag(self.is_dead, IS_DEAD)
    }

    pub(super) fn size_bytes(self) -> usize {
        usize::from(self.units) * UNIT_BYTES
    }

    /// Where the key begins, if it lies in the page.
    pub(super) fn key_at(self) -> usize {
        if self.expires { HEAD_BYTES + DEADLINE_BYTES } else { HEAD_BYTES }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back() {
        let long = Head { value: 4_095, is_long: true, is_key_apart: true, ..Head::new(0, 0, false) };
        let dead = Head { is_dead: true, ..Head::new(3, 7, false) };
        for head in [Head::new(0, 0, false), Head::new(255, 237, true), long, dead] {
            assert_eq!(Head::of(head.bits()), head);
        }
    }
}
