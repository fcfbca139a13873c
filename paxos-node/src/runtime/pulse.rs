//! Tells others whether the driver goes on.
//!
//! The driver beats once in each turn, which ticks make it take at least. A watch on another thread, or in
//! another task of the driver's, sees for how long it has been silent. It costs the driver a store of a
//! number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What stands for no beat yet.
const NEVER: u64 = u64::MAX;

/// When the driver has beaten last; clones show the same.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Beat>);

#[derive(Debug)]
struct Beat {
    started: Instant,
    /// In milliseconds after `started`; [`NEVER`] before the first beat.
    last_at: AtomicU64,
}

impl Pulse {
    /// A pulse that has not begun.
    pub(crate) fn new() -> Pulse {
        Pulse(Arc::new(Beat { started: Instant::now(), last_at: AtomicU64::new(NEVER) }))
    }

    pub(crate) fn beat(&self, now: Instant) {
        self.0.last_at.store(self.after_start(now), Ordering::Relaxed);
    }

    /// How long ago it has beaten last. Who has not begun is not silent.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        // What has never been is later than anything, so the difference is none.
        let last_at = self.0.last_at.load(Ordering::Relaxed);
        Duration::from_millis(self.after_start(now).saturating_sub(last_at))
    }

    fn after_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.0.started).as_millis()).unwrap_or(NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_grows_until_the_next_beat() {
        let pulse = Pulse::new();
        let at = |seconds| pulse.0.started + Duration::from_secs(seconds);
        assert_eq!(pulse.silence(at(3)), Duration::ZERO, "it has not begun");
        pulse.clone().beat(at(4));
        assert_eq!(pulse.silence(at(4)), Duration::ZERO);
        assert_eq!(pulse.silence(at(9)), Duration::from_secs(5));
    }
}
