//! A key's value and history, and how they lie in a page.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The memory of a record beside the bytes of its key and value: its head in the page, its places in the
/// table and in the order of creation, and the room that pages and tables have left.
const RECORD_BYTES: u64 = 52;
/// The further memory of a record whose value lies apart.
const LONG_BYTES: u64 = 112;

/// Records with their keys are no longer than this in a page; longer values, and with them very long keys, lie
/// apart. A page ends with less than that unused.
const MAX_SHORT_BYTES: usize = 512;
/// Keys up to this length lie in the page, whatever their values.
const MAX_SHORT_KEY_BYTES: usize = 255;

/// A record of the store, as it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::kv) struct Record<'a> {
    pub(in crate::kv) created: u64,
    pub(in crate::kv) modified: u64,
    pub(in crate::kv) key: &'a [u8],
    pub(in crate::kv) value: Value<'a>,
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
        hash_of(self.created, self.modified, self.key, self.value.as_bytes())
    }

    pub(in crate::kv) fn memory_bytes(&self) -> u64 {
        memory_of(self.key.len(), self.value.len())
    }
}

/// The part of the store's digest of a record with these contents.
pub(in crate::kv) fn hash_of(created: u64, modified: u64, key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(key, created) ^ xxh3_64_with_seed(value, modified).rotate_left(32)
}

/// How much memory a record takes whose key and value are this long.
pub(in crate::kv) fn memory_of(key_bytes: usize, value_bytes: usize) -> u64 {
    let apart = if is_short(key_bytes, value_bytes) { 0 } else { LONG_BYTES };
    RECORD_BYTES + apart + (key_bytes + value_bytes) as u64
}

/// Whether a record with a key and a value of these lengths lies wholly in a page.
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

/// What a page tells of a record in front of its key and value, packed into 4 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// How long the record is in the page, in units.
    pub(super) units: u8,
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
pub(super) const MAX_LONG: u16 = 1 << 13;
const IS_LONG: u32 = 1 << 29;
const IS_KEY_APART: u32 = 1 << 30;
const IS_DEAD: u32 = 1 << 31;

impl Head {
    /// The head of a record whose key and short value take this many bytes in the page.
    pub(super) fn new(key_bytes: usize, value_bytes: usize) -> Head {
        let units = (HEAD_BYTES + key_bytes + value_bytes).div_ceil(UNIT_BYTES);
        Head {
            units: u8::try_from(units).expect("what lies in a page is short"),
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
            | flag(self.is_long, IS_LONG)
            | flag(self.is_key_apart, IS_KEY_APART)
            | flag(self.is_dead, IS_DEAD)
    }

    pub(super) fn size_bytes(self) -> usize {
        usize::from(self.units) * UNIT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back() {
        let long = Head { value: 8_191, is_long: true, is_key_apart: true, ..Head::new(0, 0) };
        for head in [Head::new(0, 0), Head::new(255, 237), long, Head { is_dead: true, ..Head::new(3, 7) }] {
            assert_eq!(Head::of(head.bits()), head);
        }
    }
}
