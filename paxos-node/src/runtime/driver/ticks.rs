//! Feeds ticks to the replica, and does what is due from time to time.

use std::time::{Duration, Instant};

use paxos_core::Input;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Driver;
use crate::error::NodeError;
use crate::runtime::metrics;
use crate::state_machine::StateMachine;

/// After a pause longer than this many ticks every time-out has passed anyway.
const MAX_MISSED_TICKS: u128 = 10_000;

/// How time passes for the driver.
pub(super) struct Clock {
    /// Wakes the driver once a tick.
    pub(super) interval: Interval,
    started: Instant,
    tick: Duration,
    /// Ticks since the start, as of the last look at the clock.
    pub(super) ticks: u128,
}

impl Clock {
    pub(super) fn new(tick: Duration) -> Clock {
        let mut interval = interval(tick);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Clock { interval, started: Instant::now(), tick, ticks: 0 }
    }

    /// Looks at the clock; returns how many ticks have passed since the last look.
    fn advance(&mut self) -> u128 {
        let ticks = self.started.elapsed().as_nanos() / self.tick.as_nanos();
        let passed = ticks - self.ticks;
        self.ticks = ticks;
        passed
    }
}

impl<S: StateMachine> Driver<S> {
    /// Feeds the ticks that have passed by the clock, however many were missed.
    pub(super) fn tick(&mut self) -> Result<(), NodeError> {
        let passed = self.clock.advance().min(MAX_MISSED_TICKS);
        self.replica.read_clocks(self.settings.clock.read());
        // A node that belongs to no cluster yet neither hears messages nor runs for leader: its replica
        // stands still.
        let ticks = if self.peers.introductions.may_take_part() { passed } else { 0 };
        for _ in 0..ticks {
            self.step(Input::Tick)?;
        }
        if passed > 0 { self.on_ticked() } else { Ok(()) }
    }

    fn on_ticked(&mut self) -> Result<(), NodeError> {
        let (ticks, now) = (self.clock.ticks, Instant::now());
        self.peers.introductions.tick(ticks);
        self.peers.early.on_tick(ticks);
        self.look_whether_kept_out();
        self.look_whether_removed()?;
        self.forget_leaving();
        self.tell_outpaced();
        self.note_progress();
        self.tell_news();
        self.clients.on_tick(now);
        self.clients.due.on_tick();
        let refused: Vec<_> = self.peers.introductions.refused().collect();
        self.peers.mesh.look(self.peers.transport.as_ref(), &refused, now);
        self.look_at_clock(now);
        metrics::show(&self.status.borrow(), self.replica.log_bytes());
        self.peers.misunderstood.ask(self.peers.transport.as_ref(), ticks);
        self.disk.watch.look(self.disk.writer.busy_for());
        self.memory.note_peers(self.peers.introductions.memory_limits());
        self.memory.look(self.replica.log_bytes(), now);
        self.turn_times.show(now);
        self.take_snapshot_if_due();
        self.local_state.on_tick()
    }
}
