//! What the tests and the fuzz targets of the store share.

use bytes::Bytes;

#[cfg(test)]
use super::Operation;
pub(super) use super::fuzzing::contents;

#[cfg(test)]
pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[cfg(test)]
pub(super) fn set(key: &str, value: &str) -> Operation {
    Operation::Set { key: bytes(key), value: bytes(value), condition: None, returns_old: false }
}
