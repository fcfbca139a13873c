//! Warnings of what strangers do, as often as they like: one line in some seconds.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// The shortest time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// The lines of one kind.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told_at: Option<Instant>,
    /// What has happened since.
    count: u64,
}

impl Warnings {
    /// Counts one more; returns how many there were since the last line if one is due.
    pub(super) fn count(&self, now: Instant) -> Option<u64> {
        let mut state = lock(&self.0);
        state.count += 1;
        if state.told_at.is_some_and(|told_at| now.saturating_duration_since(told_at) < INTERVAL) {
            return None;
        }
        state.told_at = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_in_an_interval_with_its_size() {
        let (warnings, start) = (Warnings::default(), Instant::now());
        let told: Vec<u64> =
            (0..2000).filter_map(|tick| warnings.count(start + Duration::from_millis(10) * tick)).collect();
        assert_eq!(told, [1, 1000]);
    }
}
