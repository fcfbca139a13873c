//! Commands that the state machine wants to be proposed because time has come, as what expires is removed.
//!
//! Only the leader proposes them, by its own time. They may be lost, or proposed twice by two leaders: the
//! next one proposes them again, and to apply them twice does no harm.

use bytes::Bytes;
use paxos_core::session::{Outcome, SessionCommand};
use paxos_core::{Input, Time};

use super::Driver;
use crate::error::NodeError;
use crate::runtime::replicated::Executed;
use crate::state_machine::StateMachine;

/// If not all that was proposed is applied after so many ticks, it is taken for lost.
const LOST_AFTER_TICKS: u128 = 100;
/// No more commands than this are proposed at once, however many the state machine has.
const MAX_COMMANDS: usize = 64;

/// What was proposed because it was due.
#[derive(Debug, Default)]
pub(super) struct Due {
    in_flight: usize,
    sent_at_ticks: u128,
    /// Whether to ask the state machine again: a tick has passed, or all is applied that was proposed before.
    is_to_be_asked: bool,
}

impl Due {
    pub(super) fn on_tick(&mut self) {
        self.is_to_be_asked = true;
    }

    /// A request of some node was executed.
    pub(super) fn on_executed(&mut self, executed: &Executed) {
        let is_repeatable = executed.command.is_none() && matches!(executed.outcome, Outcome::Applied { .. });
        if is_repeatable && self.in_flight > 0 {
            self.in_flight -= 1;
            self.is_to_be_asked |= self.in_flight == 0;
        }
    }
}

impl<S: StateMachine> Driver<S> {
    /// Proposes what is due, if this node leads and nothing else of the kind is under way.
    pub(super) fn propose_due(&mut self) -> Result<(), NodeError> {
        let due = &mut self.clients.due;
        if !std::mem::take(&mut due.is_to_be_asked) {
            return Ok(());
        }
        let is_lost = due.sent_at_ticks + LOST_AFTER_TICKS < self.clock.ticks;
        if due.in_flight > 0 && !is_lost {
            return Ok(());
        }
        due.in_flight = 0;
        let time = self.replica.leader_time();
        if time == Time::NONE || self.is_behind() {
            return Ok(());
        }
        let commands = self.local_state.applier.due(time)?;
        if commands.is_empty() {
            return Ok(());
        }
        let repeatable = |command: Bytes| SessionCommand::Repeatable { command }.encode();
        let commands: Vec<Bytes> = commands.into_iter().take(MAX_COMMANDS).map(repeatable).collect();
        (self.clients.due.in_flight, self.clients.due.sent_at_ticks) = (commands.len(), self.clock.ticks);
        self.step(Input::Propose { commands })
    }
}
