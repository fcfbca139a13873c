//! The keys that are set and read.

use bytes::Bytes;

/// How many keys are used; fewer if their values would take more than [`MAX_STORE_BYTES`].
const KEYS: u64 = 10_000;
const MAX_STORE_BYTES: u64 = 64 << 20;
/// How many bytes of values one request sets before reads are measured.
const FILL_BYTES: usize = 256 << 10;

/// The keys that are used, and the length of their values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    count: u64,
    value_bytes: usize,
}

impl Keys {
    pub(super) fn new(value_bytes: usize) -> Keys {
        Keys { count: KEYS.min(MAX_STORE_BYTES / value_bytes.max(1) as u64).max(1), value_bytes }
    }

    pub(super) fn draw(self, random: &mut fastrand::Rng) -> Bytes {
        Keys::key(random.u64(..self.count))
    }

    pub(super) fn value(self) -> Bytes {
        Bytes::from(vec![b'x'; self.value_bytes])
    }

    /// All keys, as many at a time as one request may fill.
    pub(super) fn chunks(self) -> impl Iterator<Item = Vec<Bytes>> {
        let step = (FILL_BYTES / self.value_bytes.max(64)).max(1);
        (0..self.count)
            .step_by(step)
            .map(move |first| (first..self.count.min(first + step as u64)).map(Keys::key).collect())
    }

    fn key(number: u64) -> Bytes {
        Bytes::from(format!("key:{number:012}"))
    }
}
