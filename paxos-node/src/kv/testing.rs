//! What the tests of the store share.

use bytes::Bytes;

use super::Operation;

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn set(key: &str, value: &str) -> Operation {
    Operation::Set { key: bytes(key), value: bytes(value), condition: None, returns_old: false }
}
