//! Time: that of the log never goes back, and does not run ahead of real time; and reads know it.

use std::collections::BTreeMap;

use super::{Nodes, Observer, index};
use crate::sim::clocks::MS_UNITS;
use crate::sim::rule::Rule;
use crate::{Ballot, Epoch, Slot, Time, Value};

/// By how much more than real time the time of the log may grow between any two slots: what a new leader's
/// quorum had not heard yet of the leader before it.
const MAX_LAG_MS: u64 = 5_000;
/// By so many thousandths a leader approaches its wall clock.
const SLEW_THOUSANDTHS: i128 = 1;

/// What is known of the time.
#[derive(Debug, Default)]
pub(in crate::sim) struct Times {
    /// The present moment, in real time.
    pub(in crate::sim) now_units: u64,
    /// By how many thousandths monotonic clocks may be wrong.
    pub(in crate::sim) clock_error: u64,
    /// The time of the state after each chosen slot.
    behind: Vec<Time>,
    /// The highest time of the values that were chosen under each ballot.
    by_ballot: BTreeMap<Ballot, Time>,
    /// Nodes that have heard of the time, or have led, since they started.
    aware: Nodes,
    /// For each ballot the nodes that have promised it without being aware.
    unaware_promises: BTreeMap<Ballot, Nodes>,
    /// The ballots under which a node has led, and whether its time may have begun with its wall clock. The
    /// leaders after it go on from that, even if it has proposed nothing.
    from_wall_clock: BTreeMap<Ballot, bool>,
    /// The chosen value that is the latest in real time compared with its own: how much, in thousandths of a
    /// unit. Values are compared that go back to the same wall clock: that of the last leader that may have
    /// begun with its own, up to the one that proposed them first. Such leaders know nothing of each other,
    /// and what one has proposed may come behind what a later one has.
    latest: BTreeMap<Option<Ballot>, i128>,
}

impl Observer {
    /// A node starts: it has heard nothing of the time.
    pub(super) fn forget_time(&mut self, node: usize) {
        self.times.aware &= !(1 << node);
    }

    /// A node acknowledges a heartbeat, which has told it the time.
    pub(super) fn hear_time(&mut self, node: usize) {
        self.times.aware |= 1 << node;
    }

    /// A node sends a promise.
    pub(super) fn on_promise_of_time(&mut self, node: usize, ballot: Ballot) {
        let unaware = u64::from(self.times.aware & (1 << node) == 0) << node;
        *self.times.unaware_promises.entry(ballot).or_default() |= unaware;
    }

    /// A node leads: whether it may have begun with its wall clock depends on who has promised its ballot.
    pub(super) fn on_leading(&mut self, node: usize, epoch: Epoch, ballot: Ballot) {
        if self.times.from_wall_clock.contains_key(&ballot) {
            return;
        }
        let unaware = self.times.unaware_promises.get(&ballot).copied().unwrap_or(0) | 1 << node;
        let quorum = self
            .epochs
            .get(epoch)
            .map(|in_force| in_force.votes(unaware) >= in_force.membership.quorums().prepare());
        let is_aware = self.times.aware & (1 << node) != 0;
        self.times.from_wall_clock.insert(ballot, !is_aware && quorum.unwrap_or(true));
        self.times.aware |= 1 << node;
    }

    /// A value is chosen in the slot behind all that were chosen before: under `ballot`, and proposed for the
    /// first time under `origin`, at `proposed_units`.
    pub(super) fn on_time_chosen(
        &mut self,
        slot: Slot,
        value: &Value,
        ballot: Ballot,
        origin: (Ballot, u64),
    ) {
        let (origin, proposed_units) = origin;
        let before = self.times.behind.last().copied().unwrap_or_default();
        // Not by `Time::after`, in which a mutant lives.
        self.times.behind.push(before.max(value.time()));
        if value.commands().count() == 0 {
            return;
        }
        // A leader of a lower ballot may not know what was chosen under a higher one.
        let known = self.times.by_ballot.range(..=ballot).map(|(_, time)| *time).max().unwrap_or_default();
        self.check(origin < ballot || value.time() >= known, Rule::TimeGoesOn, || {
            format!("slot {slot} has time {}, behind a slot with time {known}", value.time())
        });
        let highest = self.times.by_ballot.entry(ballot).or_default();
        *highest = value.time().max(*highest);
        self.check_speed(slot, value.time(), origin, proposed_units);
    }

    fn check_speed(&mut self, slot: Slot, time: Time, origin: Ballot, proposed_units: u64) {
        let thousandths = 1000 + 2 * i128::from(self.times.clock_error) + SLEW_THOUSANDTHS;
        let ahead =
            i128::from(time.0) * i128::from(MS_UNITS) * 1000 - i128::from(proposed_units) * thousandths;
        let begun = self
            .times
            .from_wall_clock
            .range(..=origin)
            .rev()
            .find(|(_, is_from_wall_clock)| **is_from_wall_clock);
        let begun = begun.map(|(ballot, _)| *ballot);
        let Some(&latest) = self.times.latest.get(&begun) else {
            self.times.latest.insert(begun, ahead);
            return;
        };
        let fits = |latest: i128| ahead <= latest + i128::from(MAX_LAG_MS * MS_UNITS) * 1000;
        // Its leader may have gone on from an earlier wall clock, if nobody in its quorum has heard the later
        // one.
        let is_slow = self.times.latest.range(..=begun).any(|(_, latest)| fits(*latest));
        self.check(is_slow, Rule::TimeIsNotFast, || {
            let early_ms = (ahead - latest) / 1000 / i128::from(MS_UNITS);
            format!(
                "slot {slot}, first proposed under {origin}, has time {time}: what expires does so {early_ms} ms early"
            )
        });
        if fits(latest) {
            self.times.latest.insert(begun, latest.min(ahead));
        }
    }

    /// The time of a state in which `slot` is the last that was applied.
    pub(in crate::sim) fn time_behind(&self, slot: Slot) -> Time {
        let number = slot.0.checked_sub(1);
        number.and_then(|_| self.times.behind.get(index(slot)).copied()).unwrap_or_default()
    }

    /// A read is let go with the leader's time; when it was asked for, slots up to `newest` had been applied.
    pub(in crate::sim) fn check_read_time(&mut self, node: usize, newest: Slot, time: Time) {
        let least = self.time_behind(newest);
        self.check(time >= least, Rule::ReadKnowsTime, || {
            format!(
                "node #{node} is to answer a read at time {time}, but slot {newest} was applied with {least}"
            )
        });
    }

    /// A node has applied a slot, and says what the time of its state is now.
    pub(in crate::sim) fn check_state_time(&mut self, node: usize, slot: Slot, time: Time) {
        let right = self.time_behind(slot);
        self.check(time == right, Rule::TimeGoesOn, || {
            format!("the state of node #{node} behind slot {slot} has time {time}, not {right}")
        });
    }
}
