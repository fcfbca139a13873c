//! What an acceptor keeps in stable storage, and the token that proves it is there.
//!
//! *Paxos Made Simple*, section 2.5: "An acceptor records its intended response in stable storage before
//! actually sending the response." A [`Write`] is such a record; a [`Durable`] is the proof that it has been
//! made, and only a `Write` can be turned into one. Writes are numbered without gaps, and the replica asserts
//! that proofs come back in that order: a driver that loses a write stops the replica, but breaks no promise.

use crate::id::{Ballot, Slot};
use crate::membership::Membership;
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

/// What an acceptor remembers apart from the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// No proposal below this ballot will ever be accepted here.
    pub promised: Ballot,
    /// Every slot up to here is chosen, and the log (or a snapshot) holds the chosen value of each.
    ///
    /// A lower bound: it is written along with other things, never for its own sake.
    pub chosen: Slot,
}

/// What the log holds for one slot.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Entry {
    /// This acceptor accepted `value` under `ballot`, which may or may not be chosen.
    Accepted {
        /// The ballot of the accepted proposal, the highest so far in this slot.
        ballot: Ballot,
        /// Its value.
        value: Value,
    },
    /// `value` is known to be chosen, learned from a peer that knew.
    Chosen {
        /// The chosen value.
        value: Value,
    },
}

impl Entry {
    /// The value, accepted or chosen.
    #[must_use]
    pub fn value(&self) -> &Value {
        match self {
            Entry::Accepted { value, .. } | Entry::Chosen { value } => value,
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Entry::Accepted { ballot, value } => write!(formatter, "{value} accepted under {ballot}"),
            Entry::Chosen { value } => write!(formatter, "{value} chosen"),
        }
    }
}

/// The number of a [`Write`]. The first one after a start is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteNumber(pub u64);

/// Something to be put in stable storage as a whole or not at all.
///
/// Covers the contiguous range of write numbers `first..=last`; more than one after [`Write::merge`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a write that is not stored stalls the replica"]
pub struct Write {
    first: WriteNumber,
    last: WriteNumber,
    hard_state: HardState,
    entries: Vec<(Slot, Entry)>,
}

impl Write {
    /// A write of `hard_state` and `entries`, in any order of slots; where a slot comes twice the later
    /// counts.
    ///
    /// The replica makes the writes of the protocol; this is public so that storages can be tested.
    pub fn new(number: WriteNumber, hard_state: HardState, entries: Vec<(Slot, Entry)>) -> Write {
        Write { first: number, last: number, hard_state, entries }
    }

    /// The hard state to store: it replaces the one before.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The entries to store: each replaces what its slot held.
    #[must_use]
    pub fn entries(&self) -> &[(Slot, Entry)] {
        &self.entries
    }

    /// The write numbers that this write covers, first and last.
    #[must_use]
    pub fn numbers(&self) -> (WriteNumber, WriteNumber) {
        (self.first, self.last)
    }

    /// Bytes of all values in this write.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.entries.iter().map(|(_, entry)| entry.value().size_bytes()).sum()
    }

    /// Joins the write that comes directly after this one to it, so that one sync serves both.
    ///
    /// # Panics
    ///
    /// If `next` is not the direct successor: a write in between was lost or overtaken.
    pub fn merge(&mut self, next: Write) {
        assert_eq!(
            next.first.0,
            self.last.0 + 1,
            "writes are stored in the order they were made, without gaps"
        );
        self.last = next.last;
        if !mutated(Mutant::MergeKeepsOldPromise) {
            self.hard_state = next.hard_state;
        }
        self.entries.extend(next.entries);
    }

    /// The proof that this write is in stable storage.
    ///
    /// Call it after the sync has returned without an error, and only then: it lets the replica send every
    /// promise and acceptance in the write.
    #[must_use = "the replica waits for this proof"]
    pub fn into_durable(self) -> Durable {
        Durable { first: self.first, last: self.last }
    }
}

/// The proof that writes are in stable storage. Made from a [`Write`] alone.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the replica waits for this proof"]
pub struct Durable {
    first: WriteNumber,
    last: WriteNumber,
}

impl Durable {
    /// The write numbers that are durable, first and last.
    #[must_use]
    pub fn numbers(&self) -> (WriteNumber, WriteNumber) {
        (self.first, self.last)
    }
}

/// The description of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotMeta {
    /// The snapshot is the state after applying this slot and all before it.
    pub slot: Slot,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// CRC32C of all of its bytes.
    pub checksum: u32,
    /// The membership that is in force behind `slot`: see
    /// [`Replica::membership_at`](crate::Replica::membership_at).
    pub membership: Membership,
}

/// All that stable storage held when the node started.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// The last durable hard state.
    pub hard_state: HardState,
    /// The newest whole snapshot.
    pub snapshot: Option<SnapshotMeta>,
    /// The durable entries after the snapshot, in ascending order of slots, each slot at most once.
    pub entries: Vec<(Slot, Entry)>,
    /// Zero, unless storage has lost something: then the last slot in which an acceptance may be lost. The
    /// replica learns what was chosen up to there before it promises anything about these slots.
    ///
    /// Such a storage still guarantees the rest: the promise is the newest one, `hard_state.chosen` is below
    /// the first slot that has no entry, and each entry holds the proposal that was accepted last in its
    /// slot.
    pub incomplete_through: Slot,
}

impl Recovered {
    /// What a storage holds that has lost nothing: its last hard state, its newest snapshot, and the entries
    /// after that in ascending order of slots.
    #[must_use]
    pub fn new(
        hard_state: HardState,
        snapshot: Option<SnapshotMeta>,
        entries: Vec<(Slot, Entry)>,
    ) -> Recovered {
        Recovered { hard_state, snapshot, entries, incomplete_through: Slot::ZERO }
    }

    /// The same of a storage that may have lost acceptances in slots up to `through`: see
    /// [`incomplete_through`](Recovered::incomplete_through).
    #[must_use]
    pub fn with_losses(self, through: Slot) -> Recovered {
        Recovered { incomplete_through: through, ..self }
    }
}

/// A [`Recovered`] that no correct storage and replica could have left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RecoverError {
    /// A slot at or below the chosen watermark is in neither the log nor the snapshot.
    MissingChosen {
        /// The slot without a value.
        slot: Slot,
    },
    /// The entries are not in ascending order of slots.
    OutOfOrder {
        /// The slot that came too late.
        slot: Slot,
    },
    /// An entry was accepted under a ballot above the promise.
    AcceptedAbovePromise {
        /// Its slot.
        slot: Slot,
    },
    /// Storage has lost acceptances, and a cluster of one has no peer to learn the chosen values from.
    NobodyToRepairFrom {
        /// The last slot that may be lost.
        through: Slot,
    },
}

impl std::fmt::Display for RecoverError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecoverError::MissingChosen { slot } => {
                write!(formatter, "slot {slot} is chosen, but neither log nor snapshot holds it")
            }
            RecoverError::OutOfOrder { slot } => {
                write!(formatter, "slot {slot} stands behind a higher slot in the recovered log")
            }
            RecoverError::AcceptedAbovePromise { slot } => {
                write!(formatter, "slot {slot} was accepted under a ballot above the promise")
            }
            RecoverError::NobodyToRepairFrom { through } => {
                write!(
                    formatter,
                    "slots through {through} may be lost, and there is no peer that could know them"
                )
            }
        }
    }
}

impl std::error::Error for RecoverError {}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::NodeId;

    fn write(number: u64, chosen: u64) -> Write {
        let hard_state =
            HardState { promised: Ballot::ZERO.successor_for(NodeId(number)), chosen: Slot(chosen) };
        let value = Value::batch(&[Bytes::from_static(b"command")]);
        Write::new(WriteNumber(number), hard_state, vec![(Slot(number), Entry::Chosen { value })])
    }

    #[test]
    fn merged_writes_cover_both_and_hold_the_newer_hard_state() {
        let mut merged = write(3, 1);
        merged.merge(write(4, 2));
        assert_eq!(merged.numbers(), (WriteNumber(3), WriteNumber(4)));
        assert_eq!(merged.hard_state(), write(4, 2).hard_state());
        assert_eq!(merged.entries().iter().map(|(slot, _)| slot.0).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(merged.value_bytes(), 2 * write(3, 1).value_bytes());
        assert!(write(3, 1).value_bytes() > b"command".len());
        assert_eq!(merged.into_durable().numbers(), (WriteNumber(3), WriteNumber(4)));
    }

    #[test]
    #[should_panic(expected = "without gaps")]
    fn a_write_that_does_not_follow_is_not_merged() {
        write(3, 1).merge(write(5, 1));
    }

    #[test]
    fn every_error_names_what_it_is_about() {
        for (error, named) in [
            (RecoverError::MissingChosen { slot: Slot(7) }, "slot 7 is chosen"),
            (RecoverError::OutOfOrder { slot: Slot(8) }, "slot 8 stands behind"),
            (RecoverError::AcceptedAbovePromise { slot: Slot(9) }, "slot 9 was accepted"),
            (RecoverError::NobodyToRepairFrom { through: Slot(10) }, "slots through 10"),
        ] {
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
