//! Memory that is aligned as direct reads and writes need it.

/// The unit of everything on disk. A synced block is never written again.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// A buffer that starts at a multiple of [`BLOCK_BYTES`] in memory.
///
/// It holds a `Vec` that is one block longer than needed, and uses it from the first aligned byte on.
#[derive(Debug, Default)]
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    pub(crate) fn with_capacity(capacity: usize) -> AlignedBuffer {
        let memory = vec![0; capacity + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "a block holds an aligned address");
        AlignedBuffer { memory, start, length: 0 }
    }

    /// Sets the buffer to `length` zero bytes, and returns them to write to.
    pub(crate) fn resize_zeroed(&mut self, length: usize) -> &mut [u8] {
        let bytes = self.resize(length);
        bytes.fill(0);
        bytes
    }

    /// Makes the buffer this long, and returns its bytes, all of which are to be written to: they are what an
    /// earlier use has left.
    pub(crate) fn resize(&mut self, length: usize) -> &mut [u8] {
        if self.capacity() < length {
            *self = AlignedBuffer::with_capacity(length.next_power_of_two());
        }
        self.length = length;
        &mut self.memory[self.start..self.start + length]
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    fn capacity(&self) -> usize {
        self.memory.len().saturating_sub(self.start)
    }
}

/// The lowest multiple of [`BLOCK_BYTES`] that is at least `length`.
pub(crate) const fn round_up(length: usize) -> usize {
    length.next_multiple_of(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_begins_at_a_block() {
        let mut buffer = AlignedBuffer::default();
        for length in [1, BLOCK_BYTES, BLOCK_BYTES + 1, 1 << 20, 17] {
            buffer.resize_zeroed(length).fill(7);
            assert_eq!(buffer.as_slice().as_ptr().align_offset(BLOCK_BYTES), 0, "{length} bytes");
            assert_eq!(buffer.as_slice(), vec![7; length]);
        }
    }
}
