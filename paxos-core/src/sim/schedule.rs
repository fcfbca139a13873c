//! The schedule: one heap of events, ordered by time and then by when they were planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events to come. Each is handed out once, in an order that depends on the planned events alone.
#[derive(Debug)]
pub(super) struct Schedule<E> {
    /// Time, number, and place among `events`.
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    events: Vec<Option<E>>,
    free: Vec<u32>,
    planned: u64,
    now_units: u64,
}

impl<E> Schedule<E> {
    pub(super) fn new() -> Schedule<E> {
        Schedule { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), planned: 0, now_units: 0 }
    }

    pub(super) fn now_units(&self) -> u64 {
        self.now_units
    }

    pub(super) fn after(&mut self, delay_units: u64, event: E) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            u32::try_from(self.events.len() - 1).expect("far fewer events are planned at once")
        });
        self.events[place as usize] = Some(event);
        self.planned += 1;
        self.heap.push(Reverse((self.now_units + delay_units, self.planned, place)));
    }

    /// The next event; its time is now.
    pub(super) fn next(&mut self) -> Option<E> {
        let Reverse((time, _, place)) = self.heap.pop()?;
        self.now_units = time;
        self.free.push(place);
        self.events[place as usize].take()
    }
}
