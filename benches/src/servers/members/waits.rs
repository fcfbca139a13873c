//! How long clients waited, and the longest of it within a time.

use std::time::{Duration, Instant};

/// From when a client first asked for something until that was done, however often it had to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wait {
    pub(super) asked: Instant,
    pub(super) answered: Instant,
}

impl Wait {
    pub(super) fn time(&self) -> Duration {
        self.answered.saturating_duration_since(self.asked)
    }
}

/// A time that is looked at, with both ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

impl Window {
    /// Whether a client waited within this time. All of such a wait counts: one that began before, or ended
    /// after it, is no shorter for that.
    fn touches(&self, wait: &Wait) -> bool {
        wait.answered >= self.began && wait.asked <= self.ended
    }

    /// The longest of those waits, and how many there were. `None` if nobody waited.
    pub(super) fn longest(&self, waits: &[Wait]) -> Option<(Wait, usize)> {
        let within = || waits.iter().filter(|wait| self.touches(wait));
        Some((*within().max_by_key(|wait| wait.time())?, within().count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait from one millisecond to another.
    fn wait(start: Instant, [asked, answered]: [u64; 2]) -> Wait {
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        Wait { asked: at(asked), answered: at(answered) }
    }

    #[test]
    fn a_wait_counts_whole_in_each_window_that_it_touches() {
        let start = Instant::now();
        let waits = [[0, 4], [4, 30], [30, 31], [31, 50], [50, 52]].map(|ends| wait(start, ends));
        let longest = |began, ended| {
            let Wait { asked: began, answered: ended } = wait(start, [began, ended]);
            let longest = Window { began, ended }.longest(&waits);
            longest.map(|(longest, count)| (longest.time().as_millis(), count))
        };
        assert_eq!(longest(0, 60), Some((26, 5)));
        assert_eq!(longest(10, 20), Some((26, 1)), "it began before and ended behind");
        assert_eq!(longest(30, 40), Some((26, 3)), "its answer came just when the window began");
        assert_eq!(longest(32, 50), Some((19, 2)), "the last was asked for just when the window ended");
        assert_eq!(longest(53, 60), None);
    }
}
