//! What the emulator knows about its own error.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::link::Fate;
use crate::lock::lock;

/// Longer errors count as this long.
const LONGEST_ERROR: Duration = Duration::from_secs(60);
const SIGNIFICANT_DIGITS: u8 = 2;

/// How exactly packets were delayed, and what became of them, since the emulator was started.
///
/// The error of a packet is the delay that it had minus the delay that its link asked for, with the drawn
/// jitter and the waiting time at the bottleneck. It is measured from when the emulator read the packet to
/// when it wrote it. What the system takes to hand it over before and after that comes on top: as much as
/// without an emulator, but twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Accuracy {
    /// How many packets, pieces of streams and frames were delivered.
    pub delivered: u64,
    /// The median of their errors.
    pub median: Duration,
    /// The error that 99 of 100 do not exceed.
    pub p99: Duration,
    /// The largest error.
    pub max: Duration,
    /// How many packets and frames the links have lost. A segment of a stream counts each time that it is
    /// lost.
    pub lost: u64,
    /// How many arrived twice.
    pub doubled: u64,
    /// How many were longer than the MTU.
    pub too_large: u64,
    /// How many were dropped because a queue was full: that of a bottleneck, or one of the emulator.
    pub queue_full: u64,
}

impl fmt::Display for Accuracy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} delivered, late by {:.0?} (median), {:.0?} (p99), {:.0?} (max); \
             {} lost, {} doubled, {} too large, {} dropped by a queue",
            self.delivered,
            self.median,
            self.p99,
            self.max,
            self.lost,
            self.doubled,
            self.too_large,
            self.queue_full
        )
    }
}

/// Collects what [`Accuracy`] reports.
#[derive(Debug)]
pub(super) struct Record {
    /// Errors in nanoseconds.
    errors: Mutex<Histogram<u64>>,
    lost: AtomicU64,
    doubled: AtomicU64,
    too_large: AtomicU64,
    queue_full: AtomicU64,
}

impl Record {
    pub(super) fn new() -> Record {
        let errors = Histogram::new_with_bounds(1, nanos(LONGEST_ERROR), SIGNIFICANT_DIGITS)
            .expect("the bounds are constants in order");
        Record {
            errors: Mutex::new(errors),
            lost: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            queue_full: AtomicU64::new(0),
        }
    }

    pub(super) fn on_delivered(&self, late: Duration) {
        lock(&self.errors).saturating_record(nanos(late));
    }

    pub(super) fn on_fate(&self, fate: Fate) {
        match fate {
            Fate::Delivered { copy_at: None, .. } => {}
            Fate::Delivered { copy_at: Some(_), .. } => add(&self.doubled, 1),
            Fate::Lost => add(&self.lost, 1),
            Fate::QueueFull => add(&self.queue_full, 1),
            Fate::TooLarge => add(&self.too_large, 1),
        }
    }

    pub(super) fn on_lost(&self, count: u32) {
        add(&self.lost, count.into());
    }

    pub(super) fn accuracy(&self) -> Accuracy {
        let errors = lock(&self.errors);
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Accuracy {
            delivered: errors.len(),
            median: Duration::from_nanos(errors.value_at_quantile(0.5)),
            p99: Duration::from_nanos(errors.value_at_quantile(0.99)),
            max: Duration::from_nanos(errors.max()),
            lost: value(&self.lost),
            doubled: value(&self.doubled),
            too_large: value(&self.too_large),
            queue_full: value(&self.queue_full),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
