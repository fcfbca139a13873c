//! The clocks of simulated nodes, by which time gets into the log: monotonic ones that are a little too fast
//! or too slow, and wall clocks that jump.

use super::client::Client;
use super::disk::Disk;
use super::event::Event;
use super::machine::Machine;
use super::marks::Mark;
use super::scenario::TICK_UNITS;
use super::world::World;
use crate::random::Random;
use crate::session::SessionCommand;
use crate::{Input, Reading, Replica, Time};

/// How many units of time a millisecond has, on a clock that runs right.
pub(super) const MS_UNITS: u64 = TICK_UNITS / 10;
/// What is due is proposed again after this time, if it has not been applied.
const DUE_AGAIN_TICKS: u64 = 10;
/// No more commands that are due are proposed at once.
const MAX_DUE: usize = 32;
/// What a right wall clock shows when a run begins.
const START_MS: u64 = 1_700_000_000_000;
/// The furthest that a wall clock jumps.
const MAX_JUMP_MS: u64 = 40 * 24 * 60 * 60 * 1000;

/// The clocks of one node. They go on while it is down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// How many units a thousand of its own units take.
    thousandths: u64,
    wall_start_ms: u64,
}

impl Clocks {
    pub(super) fn right() -> Clocks {
        Clocks { thousandths: 1000, wall_start_ms: START_MS }
    }

    /// Clocks whose monotonic one is wrong by `error` thousandths at most.
    pub(super) fn drawn(error: u64, random: &mut Random) -> Clocks {
        Clocks { thousandths: 1000 - error + random.below(2 * error + 1), ..Clocks::right() }
    }

    /// Sets the wall clock: mostly to a wrong time.
    pub(super) fn jump(&mut self, random: &mut Random) {
        let most_ms = [1_000, 60 * 60 * 1000, MAX_JUMP_MS][random.index(3)];
        let distance_ms = 1 + random.below(most_ms);
        self.wall_start_ms = match random.below(5) {
            0 => START_MS,
            1 | 2 => START_MS - distance_ms,
            _ => START_MS + distance_ms,
        };
    }

    pub(super) fn reading(&self, now_units: u64) -> Reading {
        let monotonic_ms = now_units * 1000 / (self.thousandths * MS_UNITS);
        Reading { monotonic_ms, wall: Time(self.wall_start_ms + monotonic_ms) }
    }
}

impl<M: Machine, D: Disk> World<M, D> {
    /// Tells the replica what its clocks show, if that has changed: always before anything else.
    pub(super) fn read_clocks(&mut self, node: usize) {
        let now_units = self.schedule.now_units();
        self.observer.times.now_units = now_units;
        let state = &mut self.nodes[node];
        let reading = state.clocks.reading(now_units);
        if let Some(replica) = &mut state.replica
            && state.read_ms != Some(reading.monotonic_ms)
        {
            state.read_ms = Some(reading.monotonic_ms);
            replica.read_clocks(reading);
        }
    }

    /// A leader proposes what is due by its time, unless it has done so a moment ago. After the last call
    /// nothing begins any more, as all nodes must have applied the same at the end, but for clients that may
    /// wait for it.
    pub(super) fn propose_due(&mut self, node: usize) {
        let (now_units, state) = (self.schedule.now_units(), &self.nodes[node]);
        let is_over = !self.clients_may_begin && self.clients.iter().all(Client::is_idle);
        if is_over || now_units < state.proposed_due_units + DUE_AGAIN_TICKS * TICK_UNITS {
            return;
        }
        let Some(time) = state.replica.as_ref().map(Replica::leader_time) else { return };
        let due = state.application.machine.due(time).into_iter();
        let commands: Vec<_> =
            due.map(|command| SessionCommand::Repeatable { command }.encode()).take(MAX_DUE).collect();
        if !commands.is_empty() && time > Time::NONE {
            self.nodes[node].proposed_due_units = now_units;
            self.step(node, Input::Propose { commands });
        }
    }

    /// A wall clock jumps.
    pub(super) fn on_wall_jump(&mut self) {
        if self.is_calm {
            return;
        }
        let node = self.time_random.index(self.nodes.len());
        self.nodes[node].clocks.jump(&mut self.time_random);
        self.marks.hit(Mark::WallClockJumped);
        let (id, wall) =
            (self.nodes[node].id, self.nodes[node].clocks.reading(self.schedule.now_units()).wall);
        self.trace
            .trouble(self.schedule.now_units(), || format!("the wall clock of node {id} jumps to {wall}"));
        let interval = self.scenario.wall_jump_ticks * TICK_UNITS;
        self.schedule.after(1 + self.time_random.below(2 * interval), Event::WallJump);
    }
}
