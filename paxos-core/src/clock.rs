//! The cluster's time, which the leader gives to the values that it proposes.
//!
//! It is nobody's wall clock: a clock that jumps must neither end a lease early nor let one last for ever.
//! The first leader of all begins with its wall clock. From then on the time goes on as the leader's
//! monotonic clock does, and approaches the leader's wall clock by one part in a thousand at most, so that a
//! deadline which was given as a date stays meaningful.
//!
//! Followers hear the time with each heartbeat, and carry it on by their own monotonic clocks: their estimate
//! lags behind the leader's time by the delay of the last heartbeat, and is ahead of it only by what the two
//! clocks drift apart until the next one. A new leader goes on from the estimate of whoever in its quorum has
//! heard the latest leader, itself included. Only where none of them has heard any leader since it started,
//! as after a stop of the whole cluster, its wall clock counts again.
//!
//! What was said once is never taken back: a leader's time is no lower than that of any value that is chosen
//! or that it has proposed. If its estimate is lower, the time stands still until the estimate has come
//! there.
//!
//! # What a lease can rely on
//!
//! Between two values the time grows by no more than a perfect clock shows, but for
//! - one part in a thousand, and what monotonic clocks go wrong;
//! - after a change of leaders, the delay of the last heartbeat that the new leader's quorum has heard;
//! - after all nodes of a quorum were restarted: whatever their wall clocks have jumped meanwhile.
//!
//! A monotonic clock that stands still while its machine is suspended lets leases last longer, never shorter.
//!
//! Deliberately absent: reading a clock. The driver tells what its clocks show, by [`Replica::read_clocks`];
//! if it never does, no value has a time.
//!
//! [`Replica::read_clocks`]: crate::Replica::read_clocks

use std::fmt;

use crate::id::Ballot;
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

/// A time of the cluster, in milliseconds since 1970 began (UTC). 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// No time: that of values which were proposed before there were times, and of no-ops and memberships.
    pub const NONE: Time = Time(0);

    /// The time of a state after it has applied `value`, if it was `self` before: it never goes back. Every
    /// state that depends on time has to keep this, and to have it in its snapshots.
    #[must_use]
    pub fn after(self, value: &Value) -> Time {
        if mutated(Mutant::TimeGoesBackInTheLog) { value.time() } else { self.max(value.time()) }
    }

    /// This many milliseconds later, at most the last time that there is.
    #[must_use]
    pub fn later_by_ms(self, milliseconds: u64) -> Time {
        Time(self.0.saturating_add(milliseconds))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What the clocks of a node show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Milliseconds since some moment before the node started, on a clock that is never set.
    pub monotonic_ms: u64,
    /// The time of day, which may be wrong and may jump.
    pub wall: Time,
}

/// The time of the leader of `ballot`, as far as somebody has heard it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LeaderTime {
    /// The ballot of the leader.
    pub ballot: Ballot,
    /// Its time.
    pub time: Time,
}

/// By so many parts in a million the leader's time may be faster or slower than its monotonic clock.
const SLEW_MILLIONTHS: u64 = 1_000;
/// Parts of a millisecond in which the leader saves up what it may approach its wall clock by.
const MILLIONTHS: u64 = 1_000_000;

/// What a replica knows of the cluster's time.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// What the driver's clocks have shown last.
    reading: Option<Reading>,
    estimate: Option<Estimate>,
    /// The time of the state behind the last slot that was applied.
    applied: Time,
    /// While this replica leads: its time is no lower.
    floor: Time,
}

/// What a new leader's time goes on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Beginning {
    /// The time of a leader before it.
    FromEstimate,
    /// Its own wall clock: nobody in its quorum has heard a leader.
    FromWallClock,
}

/// The time of a leader at one moment; it goes on with this node's monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    of: LeaderTime,
    at_ms: u64,
    /// This replica itself is that leader, or was it.
    is_own: bool,
    /// By how much the time may still approach the wall clock, in millionths of a millisecond.
    slew_saved: u64,
}

impl Clock {
    /// Takes in what the driver's clocks show now.
    pub(crate) fn read(&mut self, reading: Reading) {
        let before = self.now_ms();
        let reading = Reading { monotonic_ms: reading.monotonic_ms.max(before), ..reading };
        self.reading = Some(reading);
        if let Some(estimate) = self.estimate.as_mut().filter(|estimate| estimate.is_own) {
            estimate.go_on(reading);
        }
    }

    fn now_ms(&self) -> u64 {
        self.reading.map_or(0, |reading| reading.monotonic_ms)
    }

    /// The time of the latest leader that was heard, carried on until now.
    pub(crate) fn estimate(&self) -> Option<LeaderTime> {
        self.estimate.map(|estimate| estimate.carried_on(self.now_ms()))
    }

    /// What a promise tells of the time.
    pub(crate) fn told_to_candidates(&self) -> Option<LeaderTime> {
        self.estimate().filter(|_| !mutated(Mutant::PromiseWithoutTime))
    }

    /// A heartbeat of the leader of `ballot` has come, with its time.
    pub(crate) fn hear_leader(&mut self, of: LeaderTime) {
        // A later time of the same leader comes from a later heartbeat: it is the better one even if it is
        // below this estimate, which may have drifted.
        if of.time > Time::NONE && self.estimate.is_none_or(|known| of > known.of) {
            self.set(of);
        }
    }

    /// A promise has come from a node with this estimate.
    pub(crate) fn hear_estimate(&mut self, of: LeaderTime) {
        if of.time > Time::NONE && self.estimate().is_none_or(|known| of > known) {
            self.set(of);
        }
    }

    fn set(&mut self, of: LeaderTime) {
        let at_ms = self.now_ms();
        self.estimate = Some(Estimate { of, at_ms, is_own: false, slew_saved: 0 });
    }

    /// A value is applied: slots come in order.
    pub(crate) fn apply(&mut self, value: &Value) {
        self.applied = self.applied.after(value);
    }

    /// The state was restored from a snapshot that has this time.
    pub(crate) fn restore(&mut self, time: Time) {
        self.applied = self.applied.max(time);
        self.keep_above(time);
    }

    /// The time of the state behind the last slot that was applied.
    pub(crate) fn applied(&self) -> Time {
        self.applied
    }

    /// This replica leads under `ballot` from now on. Each value that precedes all that it will propose must
    /// be [kept above](Clock::keep_above) next.
    #[must_use]
    pub(crate) fn begin_to_lead(&mut self, ballot: Ballot) -> Beginning {
        self.floor = Time::NONE;
        let Some(reading) = self.reading else { return Beginning::FromEstimate };
        let known = self.estimate().filter(|_| !mutated(Mutant::NewLeaderTrustsItsWallClock));
        let time = known.map_or(reading.wall.max(Time(1)), |known| known.time);
        let slew_saved = self.estimate.filter(|estimate| estimate.is_own).map_or(0, |own| own.slew_saved);
        let of = LeaderTime { ballot, time };
        self.estimate = Some(Estimate { of, at_ms: reading.monotonic_ms, is_own: true, slew_saved });
        if known.is_some() { Beginning::FromEstimate } else { Beginning::FromWallClock }
    }

    /// A leader that has begun with its wall clock goes on from the highest time in the log, if that is
    /// higher. It does not wait until its clock has come there: nobody knows how wrong that is.
    pub(crate) fn skip_to_floor(&mut self) {
        if let Some(own) = &mut self.estimate {
            own.of.time = own.of.time.max(self.floor);
        }
    }

    /// A leader's time is no lower than that of a value which precedes all that it will propose.
    pub(crate) fn keep_above(&mut self, time: Time) {
        self.floor = self.floor.max(time);
    }

    /// The present time of the cluster: exact if this replica leads, else as far as it has heard.
    pub(crate) fn leader_time(&self) -> Time {
        self.estimate().map_or(Time::NONE, |own| own.time.max(self.floor))
    }

    /// The time for a value that this leader proposes now.
    pub(crate) fn stamp(&mut self) -> Time {
        let time = self.leader_time();
        self.keep_above(time);
        time
    }
}

impl Estimate {
    fn carried_on(&self, now_ms: u64) -> LeaderTime {
        let time = self.of.time.later_by_ms(now_ms.saturating_sub(self.at_ms));
        LeaderTime { time, ..self.of }
    }

    /// Goes on to a reading of this leader's clocks, and approaches its wall clock a little.
    fn go_on(&mut self, reading: Reading) {
        let passed_ms = reading.monotonic_ms.saturating_sub(self.at_ms);
        let time = self.carried_on(reading.monotonic_ms).time;
        self.at_ms = reading.monotonic_ms;
        self.slew_saved = self.slew_saved.saturating_add(passed_ms.saturating_mul(SLEW_MILLIONTHS));
        let most_ms =
            if mutated(Mutant::TimeFollowsWallClock) { u64::MAX } else { self.slew_saved / MILLIONTHS };
        let step_ms = reading.wall.0.abs_diff(time.0).min(most_ms);
        self.of.time = if reading.wall > time {
            time.later_by_ms(step_ms)
        } else {
            Time(time.0 - step_ms.min(passed_ms)) // Slower, and never back.
        };
        self.slew_saved %= MILLIONTHS; // What is not needed now is not saved up for a jump.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    const WALL: u64 = 1_000_000_000_000;

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(1) }
    }

    fn reading(monotonic_ms: u64, wall: u64) -> Reading {
        Reading { monotonic_ms, wall: Time(wall) }
    }

    fn of(round: u64, time: u64) -> LeaderTime {
        LeaderTime { ballot: ballot(round), time: Time(time) }
    }

    /// A clock that has led since its monotonic clock showed 0.
    fn leading() -> Clock {
        let mut clock = Clock::default();
        clock.read(reading(0, WALL));
        let _ = clock.begin_to_lead(ballot(1));
        clock
    }

    #[test]
    fn the_first_leader_begins_with_its_wall_clock_and_goes_on_with_the_monotonic_one() {
        let mut clock = leading();
        assert_eq!(clock.stamp(), Time(WALL));
        clock.read(reading(700, WALL + 700));
        assert_eq!((clock.leader_time(), clock.stamp()), (Time(WALL + 700), Time(WALL + 700)));
    }

    #[test]
    fn a_leader_approaches_a_wall_clock_that_has_jumped_by_a_thousandth() {
        for (jumped, expected) in [(WALL + 9_000_000, WALL + 100_100), (WALL - 9_000_000, WALL + 99_900)] {
            let mut clock = leading();
            let mut before = clock.stamp();
            for step in 1..=1000 {
                clock.read(reading(step * 100, jumped + step * 100));
                assert!(clock.stamp() >= before, "it never goes back");
                before = clock.stamp();
            }
            assert_eq!(before, Time(expected));
        }
        let mut clock = leading();
        clock.read(reading(50, WALL + 70)); // A small difference is not saved up for, either.
        assert_eq!(clock.stamp(), Time(WALL + 50));
    }

    #[test]
    fn a_pause_counts_as_long_as_the_monotonic_clock_says() {
        let mut clock = leading();
        clock.read(reading(3_600_000, WALL));
        assert_eq!(clock.stamp(), Time(WALL + 3_600_000 - 3_600));
        clock.read(reading(10, WALL));
        assert_eq!(clock.stamp(), Time(WALL + 3_600_000 - 3_600), "and never goes back");
    }

    #[test]
    fn a_follower_carries_on_what_it_has_heard_from_the_latest_leader() {
        let mut clock = Clock::default();
        clock.read(reading(10, WALL));
        assert_eq!(clock.estimate(), None, "its own wall clock is no estimate");
        clock.hear_leader(of(2, 5_000));
        clock.read(reading(110, WALL));
        assert_eq!(clock.estimate(), Some(of(2, 5_100)));
        clock.hear_leader(of(2, 5_000));
        assert_eq!(clock.estimate(), Some(of(2, 5_100)), "an old heartbeat tells nothing");
        clock.hear_leader(of(2, 5_090));
        assert_eq!(clock.estimate(), Some(of(2, 5_090)), "this clock was fast");
        clock.hear_leader(of(1, 9_000));
        assert_eq!(clock.estimate(), Some(of(2, 5_090)), "the leader before counts no more");
        clock.hear_leader(of(3, 5_080));
        assert_eq!(clock.estimate(), Some(of(3, 5_080)), "and the next one does");
    }

    #[test]
    fn a_new_leader_goes_on_from_the_best_estimate_of_its_quorum() {
        let mut clock = Clock::default();
        clock.read(reading(0, WALL));
        clock.hear_leader(of(2, 5_000));
        for promise in [of(1, 9_000), of(2, 4_999), of(2, 5_003)] {
            clock.hear_estimate(promise);
        }
        clock.read(reading(100, WALL));
        let _ = clock.begin_to_lead(ballot(3));
        assert_eq!(clock.stamp(), Time(5_103));
        assert_eq!(clock.told_to_candidates(), Some(of(3, 5_103)));
    }

    #[test]
    fn the_time_stands_still_until_an_estimate_has_come_to_what_was_said() {
        let value = |time| Value::batch(&[bytes::Bytes::from_static(b"x")]).at(Time(time));
        let mut clock = Clock::default();
        clock.read(reading(0, WALL));
        clock.hear_leader(of(2, 5_000));
        clock.apply(&value(5_010));
        clock.apply(&value(5_005));
        assert_eq!(clock.begin_to_lead(ballot(3)), Beginning::FromEstimate);
        clock.keep_above(clock.applied());
        assert_eq!(clock.stamp(), Time(5_010));
        clock.keep_above(Time(5_020)); // A value that it proposes again.
        clock.read(reading(15, WALL));
        assert_eq!(clock.stamp(), Time(5_020));
        clock.read(reading(30, WALL));
        assert_eq!(clock.stamp(), Time(5_030));
    }

    #[test]
    fn where_nobody_has_heard_a_leader_the_wall_clock_counts_from_the_last_time_in_the_log_on() {
        for (wall, expected) in [(WALL, WALL), (1_000, 5_000)] {
            let mut clock = Clock::default();
            clock.read(reading(0, wall));
            clock.restore(Time(5_000));
            assert_eq!(clock.begin_to_lead(ballot(1)), Beginning::FromWallClock);
            clock.keep_above(clock.applied());
            clock.skip_to_floor();
            assert_eq!(clock.stamp(), Time(expected));
            clock.read(reading(999, wall + 999));
            assert_eq!(clock.stamp(), Time(expected + 999), "it does not stand still");
        }
    }

    #[test]
    fn without_readings_there_are_no_times_and_no_number_overflows() {
        let mut clock = Clock::default();
        let _ = clock.begin_to_lead(ballot(1));
        assert_eq!((clock.stamp(), clock.estimate()), (Time::NONE, None));
        clock.read(reading(u64::MAX, u64::MAX));
        clock.hear_leader(of(2, u64::MAX));
        let _ = clock.begin_to_lead(ballot(3));
        clock.read(reading(u64::MAX, 0));
        assert_eq!(clock.stamp(), Time(u64::MAX));
    }
}
