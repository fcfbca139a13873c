//! Compares this node's wall clock with the cluster's time, for status and metrics, and logs when they
//! differ: once, and again when they agree.
//!
//! The cluster's time comes with each heartbeat, and the leader's own wall clock has a part in it: see
//! [`guide::time`](crate::guide::time). So no node has to ask another one for its time. If one node's clock
//! is wrong, that node says so; if the leader's clock was wrong when the cluster was started, all others do.

use std::time::{Duration, Instant};

use paxos_core::Time;

use super::Driver;
use crate::state_machine::StateMachine;
use crate::status::CLOCK_TOLERANCE;

/// How often the clocks are compared.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A difference is logged if it lasts for this long: a node that was paused may hear heartbeats late.
const GRACE: Duration = Duration::from_secs(5);

/// What is known of the difference, and what was logged of it.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    /// By how many milliseconds the wall clock was ahead when that was looked at last.
    pub(super) ahead_ms: Option<i64>,
    looked_at: Option<Instant>,
    differs_since: Option<Instant>,
    is_told: bool,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
struct Times {
    wall: Time,
    cluster: Time,
    /// How late the cluster's time may be known here.
    round_trip: Duration,
    is_leader: bool,
}

impl ClockWatch {
    /// Compares the times; returns the line to log, if there is one.
    fn compare(&mut self, times: Times, now: Instant) -> Option<String> {
        let ahead_ms = i128::from(times.wall.0) - i128::from(times.cluster.0);
        let ahead_ms = i64::try_from(ahead_ms).unwrap_or(if ahead_ms > 0 { i64::MAX } else { i64::MIN });
        self.ahead_ms = Some(ahead_ms);
        let difference = Duration::from_millis(ahead_ms.unsigned_abs());
        if difference <= CLOCK_TOLERANCE + times.round_trip {
            self.differs_since = None;
            let agrees = difference <= CLOCK_TOLERANCE / 2 + times.round_trip;
            return (agrees && std::mem::take(&mut self.is_told))
                .then(|| String::from("this node's clock and the cluster's time agree again"));
        }
        let since = *self.differs_since.get_or_insert(now);
        if now.saturating_duration_since(since) < GRACE || std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
        let leads = if times.is_leader {
            "; as this node leads, that time comes nearer to its clock by 1 ms in a second"
        } else {
            ""
        };
        Some(format!(
            "this node's clock is {}.{:03} s {side} the cluster's time, by which keys expire: have the clocks of all nodes \
             set, by NTP for example{leads}",
            difference.as_secs(),
            difference.subsec_millis()
        ))
    }

    /// There is no leader whose time could be compared.
    fn forget(&mut self) {
        self.ahead_ms = None;
        self.differs_since = None;
    }
}

impl<S: StateMachine> Driver<S> {
    /// Compares this node's wall clock with the cluster's time, if that was not done just now.
    pub(super) fn look_at_clock(&mut self, now: Instant) {
        if self.clock_watch.looked_at.is_some_and(|looked_at| now < looked_at + LOOK_INTERVAL) {
            return;
        }
        self.clock_watch.looked_at = Some(now);
        let cluster = self.replica.heard_time();
        let Some(leader) = self.leader.filter(|_| cluster > Time::NONE) else {
            self.clock_watch.forget();
            return;
        };
        let peers = self.peers.mesh.peers();
        let status = peers.iter().find(|status| status.peer == leader);
        let times = Times {
            wall: self.settings.clock.read().wall,
            cluster,
            round_trip: status.and_then(|status| status.round_trip).unwrap_or_default(),
            is_leader: leader == self.settings.node,
        };
        let line = self.clock_watch.compare(times, now);
        if let Some(ahead_ms) = self.clock_watch.ahead_ms {
            show(ahead_ms);
        }
        if let Some(line) = line {
            tracing::warn!(node = self.settings.node.0, "{line}");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn show(ahead_ms: i64) {
    metrics::gauge!("paxos_clock_ahead_seconds").set(ahead_ms as f64 / 1000.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told, second by second, if the clock is ahead by these milliseconds.
    fn told(ahead_ms: &[i64], is_leader: bool) -> Vec<(usize, String)> {
        let (mut watch, start, cluster) = (ClockWatch::default(), Instant::now(), Time(1_000_000_000_000));
        let look = |(second, ahead_ms): (usize, &i64)| {
            let wall = Time(cluster.0.saturating_add_signed(*ahead_ms));
            let round_trip = Duration::from_millis(100);
            let now = start + Duration::from_secs(second as u64);
            let line = watch.compare(Times { wall, cluster, round_trip, is_leader }, now);
            line.map(|line| (second, line))
        };
        ahead_ms.iter().enumerate().filter_map(look).collect()
    }

    #[test]
    fn a_clock_that_differs_is_told_once_and_again_when_it_agrees() {
        let seconds = [&[20; 10][..], &[-2500; 60], &[-550; 30], &[-100; 10]].concat();
        let lines = told(&seconds, false);
        let [(15, differs), (100, agrees)] = &lines[..] else { panic!("{lines:?}") };
        assert!(differs.starts_with("this node's clock is 2.500 s behind the cluster's time"), "{differs}");
        assert_eq!(agrees, "this node's clock and the cluster's time agree again");
    }

    #[test]
    fn a_difference_that_is_small_or_short_or_explained_by_the_network_is_not_told() {
        assert_eq!(told(&[&[600; 60][..], &[5000; 5], &[-600; 60]].concat(), false), []);
    }

    #[test]
    fn a_leader_tells_that_the_time_follows_its_clock() {
        let lines = told(&[i64::MAX / 2; 10], true);
        let [(5, line)] = &lines[..] else { panic!("{lines:?}") };
        assert!(
            line.contains(" s ahead of the cluster's time") && line.contains("1 ms in a second"),
            "{line}"
        );
    }
}
