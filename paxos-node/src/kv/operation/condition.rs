//! When an operation on a key is to be carried out.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

/// What must hold of a key for an operation on it to be carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Condition {
    /// It is missing (`NX`).
    IfMissing,
    /// It is there (`XX`).
    IfPresent,
    /// It is there and has this value (`IFEQ`).
    IfEqual(Bytes),
    /// It is missing or has another value (`IFNE`).
    IfNotEqual(Bytes),
    /// It is there and its value has this digest (`IFDEQ`): see
    /// [`Operation::Digest`](super::Operation::Digest).
    IfDigest(u64),
    /// It is missing or its value has another digest (`IFDNE`).
    IfNotDigest(u64),
}

/// The digest of a value: what `DIGEST` tells, and `IFDEQ` and `IFDNE` compare.
pub(crate) fn digest(value: &[u8]) -> u64 {
    xxh3_64(value)
}

impl Condition {
    /// Whether it holds for a key with this value; `None` if the key is missing.
    pub(in crate::kv) fn holds(&self, value: Option<&[u8]>) -> bool {
        match self {
            Condition::IfMissing => value.is_none(),
            Condition::IfPresent => value.is_some(),
            Condition::IfEqual(wanted) => value == Some(&wanted[..]),
            Condition::IfNotEqual(unwanted) => value != Some(&unwanted[..]),
            Condition::IfDigest(wanted) => value.is_some_and(|value| digest(value) == *wanted),
            Condition::IfNotDigest(unwanted) => value.is_none_or(|value| digest(value) != *unwanted),
        }
    }

    /// Whether it looks at the value, and not only whether there is one.
    pub(in crate::kv) fn reads_value(&self) -> bool {
        !matches!(self, Condition::IfMissing | Condition::IfPresent)
    }

    /// How many bytes its operand takes in a command.
    pub(super) fn operand_bytes(&self) -> usize {
        match self {
            Condition::IfMissing | Condition::IfPresent => 0,
            Condition::IfEqual(value) | Condition::IfNotEqual(value) => 4 + value.len(),
            Condition::IfDigest(_) | Condition::IfNotDigest(_) => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_equals_nothing_and_differs_from_everything() {
        let value = Bytes::from_static(b"v");
        for (condition, missing, equal, other) in [
            (Condition::IfMissing, true, false, false),
            (Condition::IfPresent, false, true, true),
            (Condition::IfEqual(value.clone()), false, true, false),
            (Condition::IfNotEqual(value.clone()), true, false, true),
            (Condition::IfDigest(digest(&value)), false, true, false),
            (Condition::IfNotDigest(digest(&value)), true, false, true),
        ] {
            let holds = [None, Some(&b"v"[..]), Some(b"w")].map(|value| condition.holds(value));
            assert_eq!(holds, [missing, equal, other], "{condition:?}");
        }
    }
}
