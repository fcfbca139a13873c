//! A test suite for the contract of [`Storage`], to run on any backend.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use paxos_core::NodeId;
//! use paxos_storage::conformance::{self, Backend};
//! use paxos_storage::{Identity, Storage, memory::MemoryStorage};
//!
//! /// Makes storages, and reopens them after a crash.
//! struct Memory(MemoryStorage);
//!
//! impl Backend for Memory {
//!     fn make(&mut self) -> Box<dyn Storage> {
//!         self.0 = MemoryStorage::new(Identity::new("conformance", NodeId(1)));
//!         Box::new(self.0.clone())
//!     }
//!
//!     fn open_again(&mut self) -> Box<dyn Storage> {
//!         Box::new(self.0.clone())
//!     }
//! }
//!
//! conformance::check(&mut Memory(MemoryStorage::new(Identity::new("conformance", NodeId(1)))));
//! # }
//! ```

mod checked;
mod full;
mod log;
mod reopening;
mod snapshots;
#[cfg(all(test, feature = "memory"))]
mod tests;

use std::fmt;

use crate::Storage;

/// Makes the storages that the suite tests.
pub trait Backend {
    /// Makes a new, empty storage. The one before is not used any more.
    fn make(&mut self) -> Box<dyn Storage>;

    /// Reopens the storage that was made last. It was dropped without any last call, as in a crash.
    fn open_again(&mut self) -> Box<dyn Storage>;

    /// Takes all but a little space from the storage that was made last, or gives it back; returns whether it
    /// could. What needs it is left out for a backend that can't, as all do by default.
    fn set_full(&mut self, is_full: bool) -> bool {
        let _ = is_full;
        false
    }
}

/// What the suite has tried.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    skipped: Vec<&'static str>,
}

impl Report {
    /// What was left out, as the backend offers no way to try it.
    #[must_use]
    pub fn skipped(&self) -> &[&'static str] {
        &self.skipped
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.skipped[..] {
            [] => formatter.write_str("all was tried"),
            skipped => write!(formatter, "not tried: {}", skipped.join(", ")),
        }
    }
}

/// Tests every promise of [`Storage`], and tells what it could not try.
///
/// # Panics
///
/// If the backend breaks a promise; the message names it.
pub fn check(backend: &mut dyn Backend) -> Report {
    log::what_was_persisted_is_recovered(backend);
    log::a_membership_is_a_value_like_others(backend);
    log::a_node_and_its_peers_are_remembered(backend);
    log::the_latest_entry_of_a_slot_counts(backend);
    log::a_slot_is_overwritten_whatever_it_held(backend);
    log::merged_writes_are_proved_together(backend);
    log::large_and_many_writes_survive(backend);
    log::values_of_all_lengths_survive(backend);
    snapshots::snapshots_come_back_and_two_are_kept(backend);
    snapshots::a_finished_snapshot_stays_as_it_is(backend);
    snapshots::a_snapshot_may_have_no_bytes(backend);
    snapshots::a_snapshot_that_does_not_match_is_refused(backend);
    snapshots::pieces_out_of_order_are_refused(backend);
    snapshots::two_snapshots_may_be_unfinished_at_once(backend);
    snapshots::compaction_keeps_what_is_beyond(backend);
    snapshots::compaction_ends_at_the_newest_snapshot(backend);
    snapshots::a_snapshot_from_a_peer_may_leave_a_gap(backend);
    reopening::a_crash_at_each_point_loses_nothing(backend);
    let mut report = Report::default();
    if !full::a_full_disk_is_no_failure(backend) {
        report.skipped.push("a full disk");
    }
    report
}
