//! The requests: what clients do, with which keys and values.

use std::time::Duration;

/// How many keys are set and read; all of them are set before anything is measured.
pub(super) const KEYS: u64 = 10_000;
pub(super) const KEY_BYTES: usize = 16;
pub(super) const VALUE_BYTES: usize = 256;
/// How long a lock lasts if nobody releases it: longer than any measurement.
pub(super) const LEASE: Duration = Duration::from_secs(120);
/// The requests of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// They set values. Each is on disk before it is answered.
    Set,
    /// They read values, linearizably.
    Get,
    /// They take a lock that ends by itself if they don't, and release it if it is still theirs. Both are on
    /// disk before they are answered.
    Lock,
}

/// A key by its number.
pub(super) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"key:000000000000";
    let mut left = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).expect("a digit");
        left /= 10;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_and_of_one_length() {
        assert_eq!(&key(0), b"key:000000000000");
        assert_eq!(&key(9_876), b"key:000000009876");
    }
}
