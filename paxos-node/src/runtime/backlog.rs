//! Counts what is on its way to the disk.

use std::collections::VecDeque;

use paxos_core::{Durable, Write, WriteNumber};

use crate::runtime::introductions::Reach;

/// How many bytes a write is assumed to take beside its values.
const WRITE_BYTES: usize = 256;

/// Writes that were handed to the writer and are not durable yet.
#[derive(Debug)]
pub(crate) struct Unsynced {
    limit_bytes: usize,
    bytes: usize,
    writes: VecDeque<(WriteNumber, usize, Reach)>,
    durable: Reach,
}

impl Unsynced {
    pub(crate) fn new(limit_bytes: usize) -> Unsynced {
        Unsynced { limit_bytes, bytes: 0, writes: VecDeque::new(), durable: Reach::default() }
    }

    pub(crate) fn add(&mut self, write: &Write) {
        let bytes = write.value_bytes() + WRITE_BYTES;
        self.bytes += bytes;
        self.writes.push_back((write.numbers().1, bytes, Reach::of_write(write)));
    }

    pub(crate) fn on_durable(&mut self, durable: &Durable) {
        let (_, last) = durable.numbers();
        while let Some(&(number, bytes, reach)) = self.writes.front()
            && number <= last
        {
            self.bytes -= bytes;
            self.durable = self.durable.and(reach);
            self.writes.pop_front();
        }
    }

    /// What the storage is known to hold of the writes since the start.
    pub(crate) fn durable(&self) -> Reach {
        self.durable
    }

    /// Whether anything is on its way to the disk.
    pub(crate) fn is_pending(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Whether so much waits for the disk that nothing more may be taken on.
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
        assert_eq!(unsynced.durable().slot, Slot(2), "the third is not durable");
        unsynced.on_durable(&write(3).into_durable());
        assert_eq!((unsynced.bytes, unsynced.writes.len()), (0, 0));
    }
}
