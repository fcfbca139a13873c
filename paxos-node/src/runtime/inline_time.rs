//! How long a slot may be applied on the driver's thread.

use std::time::Duration;

/// Once a slot has taken this long on the driver's thread, the rest of its commands are left to the
/// applier's.
const INLINE_TIME: Duration = Duration::from_millis(2);

/// How much of [`INLINE_TIME`] is used up by the commands of a slot.
///
/// To look at the clock takes as long as to apply a short command. So it looks before the second command, the
/// third, the fifth and so on, twice as many commands later each time, until an eighth of the time is used.
#[derive(Default)]
pub(crate) struct InlineTime {
    /// How many commands were begun.
    begun: u32,
    /// With how many more it looks at the clock again.
    unseen: u32,
}

impl InlineTime {
    /// Whether there is time for one more command. The first one has it in any case.
    pub(crate) fn is_left_for_another(&mut self, elapsed: impl FnOnce() -> Duration) -> bool {
        if self.unseen > 0 {
            self.unseen -= 1;
        } else if self.begun > 0 {
            let elapsed = elapsed();
            if elapsed >= INLINE_TIME {
                return false;
            }
            self.unseen = if elapsed < INLINE_TIME / 8 { self.begun - 1 } else { 0 };
        }
        self.begun += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many commands that take this long are begun, and how often the clock is looked at for that.
    fn begun(of: u32, takes: Duration) -> (u32, u32) {
        let (mut time, mut begun, mut looks) = (InlineTime::default(), 0, 0);
        let mut is_left = |begun: u32| {
            time.is_left_for_another(|| {
                looks += 1;
                takes * begun
            })
        };
        while begun < of && is_left(begun) {
            begun += 1;
        }
        (begun, looks)
    }

    #[test]
    fn the_clock_is_looked_at_seldom_while_commands_are_short_and_always_when_time_runs_out() {
        assert_eq!(begun(1_000, Duration::from_nanos(100)), (1_000, 10));
        assert_eq!(begun(100, Duration::from_micros(300)), (7, 7));
        assert_eq!(begun(100, 2 * INLINE_TIME), (1, 1));
        for microseconds in 1..2_500 {
            let takes = Duration::from_micros(microseconds);
            let (begun, _) = begun(10_000, takes);
            assert!(takes * (begun - 1) < INLINE_TIME, "{begun} commands of {takes:?} are too many");
        }
    }
}
