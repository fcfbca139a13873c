//! Measures how long the driver's turns take, and how late it gets its turn: nothing may hold up the task
//! that sends heartbeats.
//!
//! A turn is late by the time that all other tasks of its thread took, so the delay of ticks bounds the work
//! of the whole thread. Long turns and delays are logged and counted in metrics.

use std::fmt;
use std::time::{Duration, Instant};

use metrics::{Gauge, Histogram, gauge, histogram};

use super::thread_times::ThreadTimes;

/// A longer turn is logged.
const LONG_TURN: Duration = Duration::from_millis(100);
/// A longer delay is logged: other nodes are about to look for a new leader then.
const LONG_DELAY: Duration = Duration::from_millis(250);
/// Each of these is logged at most this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// The longest turn and delay are shown for one to two such intervals.
const SHOW_INTERVAL: Duration = Duration::from_secs(30);

/// What a turn did.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnWork {
    pub(super) job_results: usize,
    pub(super) apply_results: usize,
    pub(super) received: usize,
    pub(super) requests: usize,
}

impl fmt::Display for TurnWork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TurnWork { job_results, apply_results, received, requests } = self;
        write!(
            formatter,
            "{received} messages, {requests} requests, {job_results} results of the disk and {apply_results} of the state machine"
        )
    }
}

/// The times of turns.
pub(super) struct TurnTimes {
    seconds: Histogram,
    longest: Longest,
    longest_delay: Longest,
    began: Instant,
    work: TurnWork,
    warned_at: Option<Instant>,
    delay_warned_at: Option<Instant>,
    /// Set in tests: see [`NodeSettings::turn_limit`](crate::NodeSettings::turn_limit).
    limit: Option<Duration>,
    /// The thread when the turn began, and when the one before it ended; not kept without a limit.
    thread_at_begin: ThreadTimes,
    thread_at_end: ThreadTimes,
}

impl TurnTimes {
    pub(super) fn new(limit: Option<Duration>) -> TurnTimes {
        let thread = limit.map_or_else(ThreadTimes::default, |_| ThreadTimes::now());
        TurnTimes {
            seconds: histogram!("paxos_turn_seconds"),
            longest: Longest::new(gauge!("paxos_longest_turn_seconds")),
            longest_delay: Longest::new(gauge!("paxos_longest_delay_seconds")),
            began: Instant::now(),
            work: TurnWork { job_results: 0, apply_results: 0, received: 0, requests: 0 },
            warned_at: None,
            delay_warned_at: None,
            limit,
            thread_at_begin: thread,
            thread_at_end: thread,
        }
    }

    /// A turn with this work begins.
    pub(super) fn begin(&mut self, work: TurnWork) {
        self.began = Instant::now();
        self.work = work;
        if self.limit.is_some() {
            self.thread_at_begin = ThreadTimes::now();
        }
    }

    /// The turn ends; returns when.
    pub(super) fn end(&mut self) -> Instant {
        let now = Instant::now();
        let took = now - self.began;
        self.seconds.record(took);
        self.longest.add(took);
        if took > LONG_TURN && is_due(&mut self.warned_at, now) {
            let took = took.as_millis();
            tracing::warn!(
                "one turn of the node took {took} ms, in which it did nothing else: {}",
                self.work
            );
        }
        if self.limit.is_some() {
            self.thread_at_end = ThreadTimes::now();
            let ran = self.thread_at_end.ran_since(self.thread_at_begin);
            let waited = self.thread_at_end.waited_since(self.thread_at_begin, took);
            self.check("a turn", waited.unwrap_or(ran).max(ran));
        }
        now
    }

    /// The driver has noticed a tick this long after it was due.
    pub(super) fn on_delay(&mut self, delay: Duration) {
        let now = Instant::now();
        self.longest_delay.add(delay);
        if delay > LONG_DELAY && is_due(&mut self.delay_warned_at, now) {
            let delay = delay.as_millis();
            tracing::warn!(
                "a turn of the node began {delay} ms late: its thread did something else, had no processor, or was stopped"
            );
        }
        if self.limit.is_some() {
            let ran = self.thread_at_begin.ran_since(self.thread_at_end);
            self.check("the way to a turn", delay.min(ran));
        }
    }

    /// Shows the longest turn and delay.
    pub(super) fn show(&mut self, now: Instant) {
        self.longest.show(now);
        self.longest_delay.show(now);
    }

    /// Logs an error if something took longer than a test allows.
    fn check(&self, what: &str, took: Duration) {
        if let Some(limit) = self.limit
            && took > limit
        {
            let (took, limit) = (took.as_millis(), limit.as_millis());
            tracing::error!(
                "turn limit exceeded: {what} took {took} ms, more than {limit} ms: {}",
                self.work
            );
        }
    }
}

fn is_due(warned_at: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = warned_at.is_none_or(|warned_at| now - warned_at > WARNING_INTERVAL);
    if is_due {
        *warned_at = Some(now);
    }
    is_due
}

/// The longest duration of the last interval or two.
struct Longest {
    gauge: Gauge,
    now: Duration,
    before: Duration,
    since: Instant,
}

impl Longest {
    fn new(gauge: Gauge) -> Longest {
        Longest { gauge, now: Duration::ZERO, before: Duration::ZERO, since: Instant::now() }
    }

    fn add(&mut self, duration: Duration) {
        self.now = self.now.max(duration);
    }

    fn show(&mut self, now: Instant) {
        self.gauge.set(self.now.max(self.before).as_secs_f64());
        if now - self.since > SHOW_INTERVAL {
            self.since = now;
            self.before = std::mem::take(&mut self.now);
        }
    }
}
