//! Repair: what a replica may do if its stable storage has lost acceptances, but still holds its promise.
//!
//! *Paxos Made Simple*, section 2.2, asks two things of an acceptor, and they need different memories:
//!
//! - To accept a proposal it must know its promise, nothing else (P1a). The promise is intact, so the replica
//!   goes on accepting. A new acceptance also replaces the one that was lost in its slot.
//! - To promise, it must report the highest-numbered proposal that it has accepted. Where it has lost the
//!   acceptance it can't, and a report without the slot would mean "none": two values might then be chosen
//!   there. So it answers no prepare that asks about such a slot, and does not run for leader, as that would
//!   count its own promise.
//!
//! Meanwhile it learns what is chosen, like any replica that lags. Once a value is chosen in all slots that
//! were lost, it knows everything that a promise might have to report, and takes part in everything again.
//!
//! In a lost slot no value may be chosen, and none ever will be if no command comes. So the leader, when
//! asked for that slot, proposes a no-op there.

use super::{ProposerState, Replica};
use crate::config::PhaseOne;
use crate::id::Slot;
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

impl Replica {
    /// While stable storage has lost acceptances that no chosen value has made up for yet: the last slot
    /// where that may be so. The replica answers no prepare for such slots, and does not run for leader.
    #[must_use]
    pub fn repairs_through(&self) -> Option<Slot> {
        (self.log.chosen() < self.incomplete_through).then_some(self.incomplete_through)
    }

    /// Whether this replica knows all that it has ever accepted in slots from `first` on.
    pub(super) fn remembers_from(&self, first: Slot) -> bool {
        self.repairs_through().is_none_or(|lost| first > lost) || mutated(Mutant::RepairingPromises)
    }

    /// Whether this replica may run for leader: it votes, its priority allows it, and it may count its own
    /// promise.
    pub(super) fn may_run_for_leader(&self) -> bool {
        let may_lead = self.config.membership().may_lead(self.config.node());
        let is_whole = self.repairs_through().is_none() || mutated(Mutant::RepairingRunsForLeader);
        may_lead && is_whole
    }

    /// A member that repairs its log asks for a slot in which nothing is chosen. If this replica leads and
    /// has proposed nothing there, it proposes a no-op.
    pub(super) fn fill_for_repair(&mut self, first: Slot) {
        let is_every_value = self.config.settings().phase_one == PhaseOne::EveryValue;
        let ProposerState::Leading(leading) = &mut self.proposer else { return };
        if !leading.is_idle_at(first) {
            return;
        }
        if is_every_value && leading.is_spent() {
            self.begin_prepare(None); // It may propose when it is asked again.
            return;
        }
        let (ballot, slot) = leading.start_slot();
        self.propose(ballot, slot, Value::no_op());
    }
}
