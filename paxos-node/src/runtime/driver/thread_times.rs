//! What the system tells of the driver's thread, to find out how long a turn really took.
//!
//! Tests share their machine with other processes and their virtual machine with other guests, so the wall
//! time of a turn proves nothing. Linux counts the time that a thread ran and the time that it was queued for
//! a processor. Time that the hypervisor gave to another guest is in neither, and nor is time in which the
//! thread waited for a lock, a disk or a sleep. Only a wait is a voluntary context switch, so the number of
//! those switches tells the two apart. If there was one, what the hypervisor took from all processors
//! together is subtracted, as it may have held up the thread or who it waited for.

use std::fs;
use std::time::Duration;

/// The unit of times in `/proc/stat`: Linux shows them in hundredths of a second whatever its own clock is.
const TICK: Duration = Duration::from_millis(10);
/// Where the first line of `/proc/stat` has the stolen time, the name of the line included.
const STOLEN_AT: usize = 8;

/// The counters of a thread at some moment.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct ThreadTimes {
    /// How long it has run. Linux adds to it at its clock tick, so it may be some milliseconds behind.
    ran: Duration,
    /// How long it was ready to run while other threads had the processor.
    queued: Duration,
    /// How often it has stopped to wait for something.
    waits: u64,
    /// How much the hypervisor has taken from all processors together, in steps of 10 ms.
    stolen: Duration,
}

impl ThreadTimes {
    /// The counters of the calling thread; all zero where the system has none, so that all time counts as
    /// run.
    pub(super) fn now() -> ThreadTimes {
        let read = |file: &str| fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
        ThreadTimes::parse(&read("thread-self/schedstat"), &read("thread-self/status"), &read("stat"))
    }

    /// Reads the text of the files `schedstat` and `status` of a thread, and of `/proc/stat`.
    fn parse(schedstat: &str, status: &str, stat: &str) -> ThreadTimes {
        let mut nanoseconds = schedstat.split_whitespace().map(|field| field.parse().unwrap_or_default());
        let mut next = || Duration::from_nanos(nanoseconds.next().unwrap_or_default());
        let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let mut all_processors = stat.lines().next().unwrap_or_default().split_whitespace();
        let stolen_ticks: Option<u64> = all_processors.nth(STOLEN_AT).and_then(|ticks| ticks.parse().ok());
        ThreadTimes {
            ran: next(),
            queued: next(),
            waits: waits.and_then(|count| count.trim().parse().ok()).unwrap_or_default(),
            stolen: TICK * u32::try_from(stolen_ticks.unwrap_or_default()).unwrap_or(u32::MAX),
        }
    }

    /// How long the thread has run since `earlier`.
    pub(super) fn ran_since(self, earlier: ThreadTimes) -> Duration {
        self.ran.saturating_sub(earlier.ran)
    }

    /// How much of the `wall` time since `earlier` the thread has run or waited for something, if it has
    /// waited: not the time for which it was queued, nor what the hypervisor took. Where the system has no
    /// counters, all time counts.
    pub(super) fn waited_since(self, earlier: ThreadTimes, wall: Duration) -> Option<Duration> {
        let is_counted = self.ran > Duration::ZERO;
        let queued = self.queued.saturating_sub(earlier.queued);
        let stolen = self.stolen.saturating_sub(earlier.stolen);
        (self.waits > earlier.waits || !is_counted)
            .then(|| wall.saturating_sub(queued).saturating_sub(stolen))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn times(ran: u64, queued: u64, waits: u64, stolen: u64) -> ThreadTimes {
        ThreadTimes {
            ran: milliseconds(ran),
            queued: milliseconds(queued),
            waits,
            stolen: milliseconds(stolen),
        }
    }

    #[test]
    fn time_that_was_run_or_waited_counts_and_time_of_others_does_not() {
        let earlier = times(1_000, 500, 7, 200);
        for (now, wall, ran, waited) in [
            (times(1_040, 500, 7, 200), 40, 40, None), // It ran all the time.
            (times(1_010, 530, 7, 200), 40, 10, None), // Others had the processor.
            (times(1_005, 500, 7, 340), 145, 5, None), // The hypervisor had taken it away.
            (times(1_005, 540, 7, 300), 145, 5, None), // Both.
            (times(1_000, 500, 8, 200), 100, 0, Some(100)), // It waited.
            (times(1_010, 530, 9, 200), 140, 10, Some(110)), // It ran, was queued, and waited.
            (times(1_010, 530, 9, 260), 140, 10, Some(50)), // The hypervisor held it up, too.
            (times(1_010, 530, 9, 400), 140, 10, Some(0)), // It took more than one processor away.
        ] {
            assert_eq!(now.ran_since(earlier), milliseconds(ran), "{now:?}");
            assert_eq!(now.waited_since(earlier, milliseconds(wall)), waited.map(milliseconds), "{now:?}");
        }
    }

    #[test]
    fn all_time_counts_where_the_system_tells_nothing() {
        let unknown = ThreadTimes::parse("", "", "");
        assert_eq!(unknown.waited_since(unknown, milliseconds(60)), Some(milliseconds(60)));
    }

    #[test]
    fn the_files_of_the_system_are_understood() {
        let status = "Name:\tnode\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t345\n";
        let stat = "cpu  10 20 30 40 50 60 70 8 90 0\ncpu0 1 2 3 4 5 6 7 5 9 0\n";
        let read = ThreadTimes::parse("3000000 2000000 57\n", status, stat);
        let ThreadTimes { ran, queued, waits, stolen } = read;
        assert_eq!((ran, queued, waits), (milliseconds(3), milliseconds(2), 12));
        assert_eq!(stolen, milliseconds(80));
    }

    #[test]
    fn a_sleep_counts_on_this_system() {
        let (earlier, since) = (ThreadTimes::now(), Instant::now());
        std::thread::sleep(milliseconds(30));
        let waited = ThreadTimes::now().waited_since(earlier, since.elapsed());
        assert!(waited.is_some_and(|waited| waited >= milliseconds(20)), "{waited:?}");
    }
}
