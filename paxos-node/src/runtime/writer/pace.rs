//! How long writes take: shown in a histogram, and logged when most of them are slow, once, and again when
//! that is over.

use std::time::{Duration, Instant};

use metrics::{Histogram, gauge, histogram};

/// A write that takes longer is slow: an election time-out has room for a few of them.
const SLOW: Duration = Duration::from_millis(100);
/// Writes are judged together for this long,
const WINDOW: Duration = Duration::from_secs(10);
/// if there were this many.
const MIN_WRITES: u32 = 5;

/// The pace of the disk.
pub(super) struct DiskPace {
    seconds: Histogram,
    since: Instant,
    writes: u32,
    slow: u32,
    total: Duration,
    longest: Duration,
    is_told: bool,
}

impl DiskPace {
    pub(super) fn new(now: Instant) -> DiskPace {
        let seconds = histogram!("paxos_disk_write_seconds");
        DiskPace {
            seconds,
            since: now,
            writes: 0,
            slow: 0,
            total: Duration::ZERO,
            longest: Duration::ZERO,
            is_told: false,
        }
    }

    /// Counts a write; returns the line to log, if there is one.
    pub(super) fn on_write(&mut self, began: Instant, ended: Instant) -> Option<String> {
        let took = ended.saturating_duration_since(began);
        self.seconds.record(took);
        self.writes += 1;
        self.slow += u32::from(took > SLOW);
        self.total += took;
        self.longest = self.longest.max(took);
        if ended.saturating_duration_since(self.since) < WINDOW || self.writes < MIN_WRITES {
            return None;
        }
        self.since = ended;
        // Not shown before there is a value.
        let (total, longest) = (std::mem::take(&mut self.total), std::mem::take(&mut self.longest));
        gauge!("paxos_disk_write_mean_seconds").set((total / self.writes).as_secs_f64());
        gauge!("paxos_disk_write_longest_seconds").set(longest.as_secs_f64());
        let (writes, slow) = (std::mem::take(&mut self.writes), std::mem::take(&mut self.slow));
        if slow * 2 > writes && !std::mem::replace(&mut self.is_told, true) {
            return Some(format!(
                "the disk is slow: {slow} of the last {writes} writes took more than {} ms, and each command waits for one",
                SLOW.as_millis()
            ));
        }
        // In between nothing is told, so that a disk at the limit does not fill the log.
        let is_over = slow * 10 < writes && std::mem::take(&mut self.is_told);
        is_over.then(|| String::from("the disk is no longer slow"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_is_told_once_and_again_when_it_is_quick() {
        let start = Instant::now();
        let (mut pace, mut now) = (DiskPace::new(start), start);
        let mut write = |took_ms| {
            let began = now;
            now += Duration::from_millis(took_ms);
            let line = pace.on_write(began, now);
            now += Duration::from_millis(500 - took_ms);
            line
        };
        let mut told = Vec::new();
        for took_ms in [vec![10; 40], vec![200; 60], [10, 10, 10, 200].repeat(20), vec![10; 60]].concat() {
            told.extend(write(took_ms));
        }
        let [slow, quick] = &told[..] else { panic!("{told:?}") };
        assert!(slow.starts_with("the disk is slow: "), "{slow}");
        assert_eq!(quick, "the disk is no longer slow");
    }
}
