//! How much is on its way to the disk.

use std::collections::VecDeque;

use paxos_core::{Durable, Write, WriteNumber};

/// What a write is taken to cost beside its values.
const WRITE_BYTES: usize = 256;

/// Writes that were handed to the writer and are not durable yet.
#[derive(Debug)]
pub(crate) struct Unsynced {
    limit_bytes: usize,
    bytes: usize,
    writes: VecDeque<(WriteNumber, usize)>,
}

impl Unsynced {
    pub(crate) fn new(limit_bytes: usize) -> Unsynced {
        Unsynced { limit_bytes, bytes: 0, writes: VecDeque::new() }
    }

    pub(crate) fn add(&mut self, write: &Write) {
        let bytes = write.value_bytes() + WRITE_BYTES;
        self.bytes += bytes;
        self.writes.push_back((write.numbers().1, bytes));
    }

    pub(crate) fn on_durable(&mut self, durable: &Durable) {
        let (_, last) = durable.numbers();
        while let Some(&(number, bytes)) = self.writes.front()
            && number <= last
        {
            self.bytes -= bytes;
            self.writes.pop_front();
        }
    }

    /// Whether the disk has fallen so far behind that nothing more may be taken on.
    pub(crate) fn is_too_much(&self) -> bool {
        self.bytes > self.limit_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use paxos_core::{Entry, HardState, Slot, Value};

    #[test]
    fn what_is_durable_no_longer_counts() {
        let write = |number: u64| {
            let value = Value::batch(&[Bytes::from(vec![0; 1000])]);
            Write::new(
                WriteNumber(number),
                HardState::default(),
                vec![(Slot(number), Entry::Chosen { value })],
            )
        };
        let mut unsynced = Unsynced::new(2600);
        unsynced.add(&write(1));
        unsynced.add(&write(2));
        assert!(!unsynced.is_too_much());
        unsynced.add(&write(3));
        assert!(unsynced.is_too_much());
        let mut merged = write(1);
        merged.merge(write(2));
        unsynced.on_durable(&merged.into_durable());
        assert!(!unsynced.is_too_much());
        unsynced.on_durable(&write(3).into_durable());
        assert_eq!((unsynced.bytes, unsynced.writes.len()), (0, 0));
    }
}
