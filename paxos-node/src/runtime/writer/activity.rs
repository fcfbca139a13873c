//! What the writer thread is doing, for whoever waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the thread and its handle share.
#[derive(Debug)]
pub(super) struct Activity {
    /// Set on shutdown: a job waiting for space gives up.
    is_stopping: AtomicBool,
    started: Instant,
    /// When the present call of the storage began, in microseconds after `started`; 0 between calls.
    busy_since: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Activity {
        Activity {
            is_stopping: AtomicBool::new(false),
            started: Instant::now(),
            busy_since: AtomicU64::new(0),
        }
    }

    /// For a storage without a thread, whose jobs never wait for space.
    pub(super) fn stopping() -> Activity {
        Activity { is_stopping: AtomicBool::new(true), ..Activity::new() }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Runs one call of the storage, which may take forever.
    pub(super) fn watch<T>(&self, call: impl FnOnce() -> T) -> T {
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.busy_since.store(now.max(1), Ordering::Relaxed);
        let result = call();
        self.busy_since.store(0, Ordering::Relaxed);
        result
    }

    /// How long the present call of the storage has taken so far, if there is one.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(self.started.elapsed().saturating_sub(Duration::from_micros(since))),
        }
    }
}
