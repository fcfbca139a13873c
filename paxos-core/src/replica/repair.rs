//! Repair: what a replica may do whose stable storage has lost acceptances but still knows its promise.
//!
//! *Paxos Made Simple*, section 2.2, asks two things of an acceptor, and they need different memories:
//!
//! - To accept a proposal it must know its promise, nothing else (P1a). The promise is intact, so this goes on. A
//!   new acceptance also takes the place of whatever was lost in its slot.
//! - To promise, it must report the highest-numbered proposal that it has accepted. In a slot of which it has lost
//!   the acceptance it can't, and silence would be taken for "none": two values might then be chosen there. So it
//!   answers no prepare that asks about such a slot, and does not run for leader, which would take its own
//!   promise.
//!
//! Meanwhile it learns what is chosen, as any replica that lags does. Once all slots in question are chosen it
//! knows all that a promise might have to report, and takes part again in everything.
//!
//! A slot in question may have had no value chosen, and never get one if no command comes; then the leader, asked
//! for that slot, proposes a no-op there.

use super::{Output, Replica, State};
use crate::config::PhaseOne;
use crate::id::Slot;
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

impl Replica {
    /// While stable storage has lost acceptances that no chosen value has made up for yet: the last slot where that
    /// may be so. The replica answers no prepare for such slots, and does not run for leader.
    #[must_use]
    pub fn repairs_through(&self) -> Option<Slot> {
        (self.log.chosen() < self.incomplete_through).then_some(self.incomplete_through)
    }

    /// Whether this replica knows all that it has ever accepted in slots from `first` on.
    pub(super) fn remembers_from(&self, first: Slot) -> bool {
        self.repairs_through().is_none_or(|lost| first > lost) || mutated(Mutant::RepairingPromises)
    }

    /// Whether this replica may count its own promise, and so run for leader.
    pub(super) fn may_run_for_leader(&self) -> bool {
        self.repairs_through().is_none() || mutated(Mutant::RepairingRunsForLeader)
    }

    /// A member asks for a slot that this replica, if it leads, has proposed nothing in: one that is repaired.
    pub(super) fn fill_for_repair(&mut self, first: Slot, outputs: &mut Vec<Output>) {
        let is_every_value = self.config.options().phase_one == PhaseOne::EveryValue;
        let State::Leading(leading) = &mut self.state else { return };
        if !leading.is_idle_at(first) {
            return;
        }
        if is_every_value && leading.is_spent() {
            self.begin_prepare(); // It may propose when it is asked again.
            return;
        }
        let (ballot, slot) = leading.start_slot();
        self.propose(ballot, slot, Value::no_op(), outputs);
    }
}
