//! How much a storage holds: tells an older copy of it from a restart.

use paxos_core::{Ballot, Recovered, Slot, Write};

/// What a storage is known to hold. A storage never holds less later, unless it is an older copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reach {
    /// The highest ballot that was promised.
    pub(crate) promised: Ballot,
    /// The highest slot for which a value was stored.
    pub(crate) slot: Slot,
}

impl Reach {
    /// The reach of a storage when its node starts. What it has lost to damage counts, as it is known to be
    /// missing.
    pub(crate) fn of_recovered(recovered: &Recovered) -> Reach {
        let entry = recovered.entries.last().map(|(slot, _)| *slot);
        let snapshot = recovered.snapshot.as_ref().map(|snapshot| snapshot.slot);
        let slot = entry.max(snapshot).unwrap_or_default().max(recovered.incomplete_through);
        Reach { promised: recovered.hard_state.promised, slot }
    }

    /// The reach of a storage that holds this write, as far as the write shows.
    pub(crate) fn of_write(write: &Write) -> Reach {
        let slot = write.entries().iter().map(|(slot, _)| *slot).max().unwrap_or_default();
        Reach { promised: write.hard_state().promised, slot }
    }

    /// The reach of a storage that holds what both do.
    #[must_use]
    pub(crate) fn and(self, other: Reach) -> Reach {
        Reach { promised: self.promised.max(other.promised), slot: self.slot.max(other.slot) }
    }

    /// Whether it lacks something that the other one has.
    pub(crate) fn is_short_of(self, other: Reach) -> bool {
        self.promised < other.promised || self.slot < other.slot
    }
}
