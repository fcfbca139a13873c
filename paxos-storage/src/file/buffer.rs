//! Memory that a disk can write from directly.

/// The unit of everything on disk: no synced block is ever written again but to free it.
pub(super) const BLOCK_BYTES: usize = 4096;

/// A growing run of bytes that begins at a multiple of [`BLOCK_BYTES`] in memory.
///
/// A `Vec` moves when it grows, so this one is made a block longer than asked for, and used from the first
/// aligned byte on.
#[derive(Debug, Default)]
pub(super) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    pub(super) fn with_capacity(capacity: usize) -> AlignedBuffer {
        let memory = vec![0; capacity + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "a block holds an aligned address");
        AlignedBuffer { memory, start, length: 0 }
    }

    /// Makes the buffer `length` zero bytes, and gives them to write to.
    pub(super) fn resize_zeroed(&mut self, length: usize) -> &mut [u8] {
        if self.capacity() < length {
            *self = AlignedBuffer::with_capacity(length.next_power_of_two());
        }
        self.length = length;
        let bytes = &mut self.memory[self.start..self.start + length];
        bytes.fill(0);
        bytes
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    fn capacity(&self) -> usize {
        self.memory.len().saturating_sub(self.start)
    }
}

/// The lowest multiple of [`BLOCK_BYTES`] that is at least `length`.
pub(super) const fn round_up(length: usize) -> usize {
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
