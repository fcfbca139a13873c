//! The suite finds what is wrong: each check fails on a backend with the flaw that it is there for.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use paxos_core::{Durable, Entry, NodeId, Recovered, Slot, SnapshotMeta, Write, WriteNumber};

use super::{Backend, Report, check, full, log, reopening, snapshots};
use crate::lock::lock;
use crate::memory::MemoryStorage;
use crate::{Error, ErrorKind, Identity, Registry, Storage};

/// What is wrong with a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    None,
    LongestValueIsLost,
    EmptyCommandIsLost,
    ShorterValueBehindALongerIsLost,
    LongerValueStays,
    NoOpDoesNotOverwrite,
    EarlierOfTwoInAWriteCounts,
    PieceTwiceIsTaken,
    OverlapIsTaken,
    GapIsTaken,
    FirstPieceMayBeAnywhere,
    NewBeginningHidesFinished,
    ChecksumIsNotChecked,
    SnapshotWithoutBytesIsRefused,
    OneIsUnfinishedAtATime,
    MismatchDropsAllUnfinished,
    LowerSnapshotIsAnError,
    CompactsBeyondTheSnapshot,
    RegistryIsNotSynced,
    SnapshotIsNotSynced,
    PromiseAloneIsNotSynced,
    FullDiskIsAFailure,
    FullDiskIsNotNoticed,
    FullDiskTakesAPart,
    FullDiskStaysFull,
    FullDiskKeepsUnfinishedSnapshot,
}

#[derive(Default)]
struct State {
    bytes_left: Option<usize>,
    was_full: bool,
    compacted: Slot,
    /// The length of the value in each slot.
    stored_bytes: BTreeMap<Slot, usize>,
    unfinished: BTreeMap<Slot, Vec<u8>>,
    /// What a crash takes with it.
    unsynced_registry: Option<Registry>,
    unsynced_snapshot: Option<SnapshotMeta>,
}

/// The memory backend with a flaw.
#[derive(Clone)]
struct Flawed {
    flaw: Flaw,
    memory: MemoryStorage,
    state: Arc<Mutex<State>>,
}

impl Flawed {
    fn new(flaw: Flaw) -> Flawed {
        let memory = MemoryStorage::new(Identity::new("flawed", NodeId(1)));
        Flawed { flaw, memory, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes space, or says that there is none.
    fn take_space(&self, bytes: usize) -> Result<(), Error> {
        let mut state = self.state();
        let stays_full = self.flaw == Flaw::FullDiskStaysFull && state.was_full;
        match state.bytes_left {
            _ if self.flaw == Flaw::FullDiskIsNotNoticed => Ok(()),
            Some(left) if left < bytes || stays_full => {
                state.was_full = true;
                let is_failure = self.flaw == Flaw::FullDiskIsAFailure;
                let kind = if is_failure { ErrorKind::Failed } else { ErrorKind::Full };
                Err(Error::foreign(kind, "no space"))
            }
            None if stays_full => Err(Error::foreign(ErrorKind::Full, "no space, as before")),
            Some(left) => {
                state.bytes_left = Some(left - bytes);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What the flaw leaves of the entries of a write.
    fn spoiled(&self, entries: &[(Slot, Entry)]) -> Vec<(Slot, Entry)> {
        let mut state = self.state();
        let mut kept: Vec<(Slot, Entry)> = Vec::new();
        let mut longest = 0;
        for (slot, entry) in entries {
            let size_bytes = entry.value().size_bytes();
            let old_bytes = state.stored_bytes.get(slot).copied().unwrap_or(0);
            let is_lost = match self.flaw {
                Flaw::LongestValueIsLost => size_bytes == crate::MAX_VALUE_BYTES,
                Flaw::EmptyCommandIsLost => size_bytes == 4,
                Flaw::ShorterValueBehindALongerIsLost => size_bytes < longest,
                Flaw::LongerValueStays => size_bytes < old_bytes,
                Flaw::NoOpDoesNotOverwrite => size_bytes == 0 && state.stored_bytes.contains_key(slot),
                Flaw::EarlierOfTwoInAWriteCounts => kept.iter().any(|(earlier, _)| earlier == slot),
                _ => false,
            };
            longest = longest.max(size_bytes);
            if !is_lost {
                state.stored_bytes.insert(*slot, size_bytes);
                kept.push((*slot, entry.clone()));
            }
        }
        kept
    }
}

impl Storage for Flawed {
    fn identity(&self) -> &Identity {
        self.memory.identity()
    }

    fn registry(&self) -> Registry {
        self.state().unsynced_registry.clone().unwrap_or_else(|| self.memory.registry())
    }

    fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
        if self.flaw == Flaw::RegistryIsNotSynced {
            self.state().unsynced_registry = Some(registry.clone());
            return Ok(());
        }
        self.memory.remember(registry)
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        let compacted = self.state().compacted;
        let mut recovered = self.memory.recover()?;
        recovered.entries.retain(|(slot, _)| *slot > compacted);
        Ok(recovered)
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        if let Err(error) = self.take_space(write.value_bytes()) {
            if self.flaw == Flaw::FullDiskTakesAPart {
                let part = write.entries()[..1].to_vec();
                drop(self.memory.persist(Write::new(WriteNumber(1), write.hard_state(), part)));
            }
            return Err(error);
        }
        if self.flaw != Flaw::PromiseAloneIsNotSynced || !write.entries().is_empty() {
            let spoiled = self.spoiled(write.entries());
            drop(self.memory.persist(Write::new(WriteNumber(1), write.hard_state(), spoiled))?);
        }
        let registry = self.state().unsynced_registry.take();
        registry.map_or(Ok(()), |registry| self.memory.remember(&registry))?;
        let snapshot = self.state().unsynced_snapshot.take();
        snapshot.map_or(Ok(()), |meta| self.memory.finish_snapshot(meta))?;
        Ok(write.into_durable())
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        if let Err(error) = self.take_space(piece.len()) {
            if self.flaw != Flaw::FullDiskKeepsUnfinishedSnapshot {
                // Whoever begins it anew and stops at once leaves an empty one.
                self.memory.write_snapshot(slot, 0, b"")?;
                self.state().unfinished.remove(&slot);
            }
            return Err(error);
        }
        let mut state = self.state();
        if offset == 0 && self.flaw == Flaw::OneIsUnfinishedAtATime {
            state.unfinished.clear();
        }
        let bytes = state.unfinished.entry(slot).or_default();
        if offset == 0 {
            bytes.clear();
        }
        let (end, piece_end) = (bytes.len() as u64, offset + piece.len() as u64);
        let is_tolerated = match self.flaw {
            Flaw::PieceTwiceIsTaken => piece_end <= end,
            Flaw::OverlapIsTaken => offset < end && piece_end > end,
            Flaw::GapIsTaken => offset > end && end > 0,
            Flaw::FirstPieceMayBeAnywhere => end == 0,
            Flaw::OneIsUnfinishedAtATime if end == 0 && offset > 0 => {
                return Err(Error::SnapshotMismatch { slot, problem: "another one has been begun" });
            }
            _ => false,
        };
        if is_tolerated && offset != end {
            return Ok(());
        }
        if offset == end {
            bytes.extend_from_slice(piece);
        }
        drop(state);
        self.memory.write_snapshot(slot, offset, piece)
    }

    fn finish_snapshot(&mut self, mut meta: SnapshotMeta) -> Result<(), Error> {
        let bytes = self.state().unfinished.remove(&meta.slot);
        let newest = self.memory.newest_snapshot().map_or(Slot::ZERO, |meta| meta.slot);
        match self.flaw {
            Flaw::ChecksumIsNotChecked => {
                meta.checksum = bytes.map_or(meta.checksum, |bytes| crc32c::crc32c(&bytes));
            }
            Flaw::SnapshotWithoutBytesIsRefused if bytes.is_none_or(|bytes| bytes.is_empty()) => {
                return Err(Error::SnapshotMismatch { slot: meta.slot, problem: "there is nothing" });
            }
            Flaw::LowerSnapshotIsAnError if meta.slot < newest => {
                return Err(Error::foreign(ErrorKind::Failed, "it is older"));
            }
            Flaw::SnapshotIsNotSynced => {
                self.state().unsynced_snapshot = Some(meta);
                return Ok(());
            }
            Flaw::FullDiskKeepsUnfinishedSnapshot if self.state().was_full => return Ok(()),
            _ => {}
        }
        let finished = self.memory.finish_snapshot(meta);
        if finished.is_err() && self.flaw == Flaw::MismatchDropsAllUnfinished {
            let unfinished = std::mem::take(&mut self.state().unfinished);
            for slot in unfinished.into_keys() {
                self.memory.write_snapshot(slot, 0, b"")?;
            }
        }
        finished
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        if self.flaw == Flaw::NewBeginningHidesFinished && self.state().unfinished.contains_key(&slot) {
            return Ok(None);
        }
        self.memory.read_snapshot(slot, offset, max_bytes)
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        self.state().unsynced_snapshot.clone().or_else(|| self.memory.newest_snapshot())
    }

    fn compact(&mut self, through: Slot) -> Result<(), Error> {
        if self.flaw == Flaw::CompactsBeyondTheSnapshot {
            self.state().compacted = through;
        }
        self.memory.compact(through)
    }

    fn prove_last_write(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Backend for Flawed {
    fn make(&mut self) -> Box<dyn Storage> {
        *self = Flawed::new(self.flaw);
        Box::new(self.clone())
    }

    fn open_again(&mut self) -> Box<dyn Storage> {
        {
            let mut state = self.state();
            (state.unsynced_registry, state.unsynced_snapshot) = (None, None);
            state.unfinished.clear();
        }
        Box::new(self.clone())
    }

    fn set_full(&mut self, is_full: bool) -> bool {
        self.state().bytes_left = is_full.then_some(1 << 20);
        true
    }
}

/// What a check says of a backend with this flaw.
fn complaint(flaw: Flaw, check: fn(&mut dyn Backend)) -> Option<String> {
    let mut backend = Flawed::new(flaw);
    let payload = catch_unwind(AssertUnwindSafe(|| check(&mut backend))).err()?;
    let text = payload.downcast_ref::<String>().cloned();
    Some(text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

#[test]
fn each_flaw_is_found_by_the_check_that_is_there_for_it() {
    let full: fn(&mut dyn Backend) =
        |backend| assert!(full::a_full_disk_is_no_failure(backend), "it has a way");
    let whole: fn(&mut dyn Backend) = |backend| drop(check(backend));
    assert_eq!(complaint(Flaw::None, whole), None);
    let lengths =
        (log::values_of_all_lengths_survive as fn(&mut dyn Backend), "values of all lengths survive");
    let overwritten = (log::a_slot_is_overwritten_whatever_it_held as fn(&mut dyn Backend), "overwritten");
    let order =
        (snapshots::pieces_out_of_order_are_refused as fn(&mut dyn Backend), "out of order are refused");
    let mismatch =
        (snapshots::a_snapshot_that_does_not_match_is_refused as fn(&mut dyn Backend), "does not match");
    let finished = (snapshots::a_finished_snapshot_stays_as_it_is as fn(&mut dyn Backend), "stays as it is");
    let empty = (snapshots::a_snapshot_may_have_no_bytes as fn(&mut dyn Backend), "may have no bytes");
    let two = (snapshots::two_snapshots_may_be_unfinished_at_once as fn(&mut dyn Backend), "at once");
    let compaction = (
        snapshots::compaction_ends_at_the_newest_snapshot as fn(&mut dyn Backend),
        "compaction ends at the newest snapshot",
    );
    let crash =
        (reopening::a_crash_at_each_point_loses_nothing as fn(&mut dyn Backend), "a crash at each point");
    let full = (full, "a full disk is no failure");
    for (flaw, (check, told)) in [
        (Flaw::LongestValueIsLost, lengths),
        (Flaw::EmptyCommandIsLost, lengths),
        (Flaw::ShorterValueBehindALongerIsLost, lengths),
        (Flaw::LongerValueStays, overwritten),
        (Flaw::NoOpDoesNotOverwrite, overwritten),
        (Flaw::EarlierOfTwoInAWriteCounts, overwritten),
        (Flaw::PieceTwiceIsTaken, order),
        (Flaw::OverlapIsTaken, order),
        (Flaw::GapIsTaken, order),
        (Flaw::FirstPieceMayBeAnywhere, order),
        (Flaw::NewBeginningHidesFinished, finished),
        (Flaw::ChecksumIsNotChecked, mismatch),
        (Flaw::SnapshotWithoutBytesIsRefused, empty),
        (Flaw::OneIsUnfinishedAtATime, two),
        (Flaw::MismatchDropsAllUnfinished, two),
        (Flaw::LowerSnapshotIsAnError, two),
        (Flaw::CompactsBeyondTheSnapshot, compaction),
        (Flaw::RegistryIsNotSynced, crash),
        (Flaw::SnapshotIsNotSynced, crash),
        (Flaw::PromiseAloneIsNotSynced, crash),
        (Flaw::FullDiskIsAFailure, full),
        (Flaw::FullDiskIsNotNoticed, full),
        (Flaw::FullDiskTakesAPart, full),
        (Flaw::FullDiskStaysFull, full),
        (Flaw::FullDiskKeepsUnfinishedSnapshot, full),
    ] {
        let complaint = complaint(flaw, check).unwrap_or_else(|| panic!("{flaw:?} was not found"));
        assert!(complaint.contains(told), "{flaw:?} was found as: {complaint}");
        assert_eq!(super::tests::complaint(Flaw::None, check), None, "the check of {flaw:?}");
    }
}

/// A backend whose disk can't be made full.
struct NeverFull(Flawed);

impl Backend for NeverFull {
    fn make(&mut self) -> Box<dyn Storage> {
        self.0.make()
    }

    fn open_again(&mut self) -> Box<dyn Storage> {
        self.0.open_again()
    }
}

#[test]
fn what_could_not_be_tried_is_told() {
    let report = check(&mut NeverFull(Flawed::new(Flaw::None)));
    assert_eq!(
        (report.skipped(), report.to_string().as_str()),
        (&["a full disk"][..], "not tried: a full disk")
    );
    let report = check(&mut Flawed::new(Flaw::None));
    assert_eq!((&report, report.to_string().as_str()), (&Report::default(), "all was tried"));
}
