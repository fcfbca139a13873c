//! Reads a message out of its frame without copying.

use bytes::{Buf, Bytes};

/// What is left to be read of a frame. Bytes that are taken out of it are slices of the frame, and keep it
/// alive.
pub(super) struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from `start` on.
    pub(super) fn new(frame: &'a Bytes, start: usize) -> Reader<'a> {
        Reader { frame, rest: &frame[start..] }
    }
}

impl Buf for Reader<'_> {
    #[inline]
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        self.rest
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }

    #[inline]
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let start = self.frame.len() - self.rest.len();
        self.advance(length);
        self.frame.slice(start..start + length)
    }
}
