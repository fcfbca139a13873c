//! A storage under test beside a model of what it must hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos_core::{
    Ballot, Change, Entry, Epoch, HardState, Member, Membership, NodeId, Quorums, Recovered, Slot,
    SnapshotMeta, Time, Value, Write, WriteNumber,
};

use super::Backend;
use crate::{Error, ErrorKind, Registry, Storage};

/// A storage, and a model of its contents.
pub(super) struct Checked<'a> {
    pub(super) backend: &'a mut dyn Backend,
    /// `None` only between a crash and reopening.
    storage: Option<Box<dyn Storage>>,
    next: u64,
    pub(super) hard_state: HardState,
    entries: BTreeMap<Slot, Entry>,
    pub(super) snapshot: Option<SnapshotMeta>,
    registry: Registry,
    pub(super) promise: &'static str,
}

impl<'a> Checked<'a> {
    pub(super) fn new(backend: &'a mut dyn Backend, promise: &'static str) -> Checked<'a> {
        let mut storage = backend.make();
        assert_eq!(
            recover(storage.as_mut(), promise),
            Recovered::default(),
            "{promise}: new storage is empty"
        );
        Checked {
            backend,
            storage: Some(storage),
            next: 1,
            hard_state: HardState::default(),
            entries: BTreeMap::new(),
            snapshot: None,
            registry: Registry::default(),
            promise,
        }
    }

    pub(super) fn storage(&mut self) -> &mut dyn Storage {
        self.storage.as_deref_mut().expect("the storage is open")
    }

    pub(super) fn write(&mut self, entries: Vec<(Slot, Entry)>) -> Write {
        self.hard_state.promised.round += 1;
        self.hard_state.promised.node = NodeId(1);
        self.entries.extend(entries.iter().cloned());
        let write = Write::new(WriteNumber(self.next), self.hard_state, entries);
        self.next += 1;
        write
    }

    pub(super) fn persist(&mut self, entries: Vec<(Slot, Entry)>) {
        let promise = self.promise;
        self.try_persist(entries).unwrap_or_else(|error| panic!("{promise}: persist: {error}"));
    }

    /// As [`persist`](Checked::persist); what is refused is expected to leave nothing behind.
    pub(super) fn try_persist(&mut self, entries: Vec<(Slot, Entry)>) -> Result<(), Error> {
        let before = (self.hard_state, self.entries.clone());
        let write = self.write(entries);
        let numbers = write.numbers();
        match self.storage().persist(write) {
            Ok(durable) => {
                assert_eq!(durable.numbers(), numbers, "{}: the proof is that of the write", self.promise);
                Ok(())
            }
            Err(error) => {
                (self.hard_state, self.entries) = before;
                Err(error)
            }
        }
    }

    pub(super) fn remember(&mut self, registry: Registry) {
        let promise = self.promise;
        self.storage().remember(&registry).unwrap_or_else(|error| panic!("{promise}: remember: {error}"));
        self.registry = registry;
    }

    /// Writes a piece of a snapshot.
    pub(super) fn piece(&mut self, slot: u64, offset: usize, piece: &[u8]) {
        let promise = self.promise;
        self.try_piece(slot, offset, piece)
            .unwrap_or_else(|error| panic!("{promise}: write_snapshot: {error}"));
    }

    pub(super) fn try_piece(&mut self, slot: u64, offset: usize, piece: &[u8]) -> Result<(), Error> {
        self.storage().write_snapshot(Slot(slot), offset as u64, piece)?;
        if let Some(work) = self.storage().deferred_work() {
            work()?;
        }
        Ok(())
    }

    /// Finishes a snapshot, and expects it to be the newest one unless it is older than that.
    pub(super) fn finish(&mut self, meta: SnapshotMeta) {
        let promise = self.promise;
        self.storage()
            .finish_snapshot(meta.clone())
            .unwrap_or_else(|error| panic!("{promise}: finish_snapshot: {error}"));
        if self.snapshot.as_ref().is_none_or(|newest| newest.slot < meta.slot) {
            self.snapshot = Some(meta);
        }
        assert_eq!(self.storage().newest_snapshot(), self.snapshot, "{promise}: newest snapshot");
    }

    pub(super) fn save_snapshot(&mut self, slot: u64, bytes: &[u8]) {
        let mut offset = 0;
        for piece in bytes.chunks(1000) {
            self.piece(slot, offset, piece);
            offset += piece.len();
        }
        self.finish(meta(slot, bytes));
    }

    /// Expects a call to be refused as a mismatch of a snapshot.
    pub(super) fn expect_mismatch(&self, refused: Result<(), Error>, what: &str) {
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::SnapshotMismatch), "{}: {what}", self.promise);
    }

    pub(super) fn compact(&mut self, through: u64) {
        self.storage()
            .compact(Slot(through))
            .unwrap_or_else(|error| panic!("{}: compact: {error}", self.promise));
    }

    pub(super) fn read_snapshot(&mut self, slot: u64, max_bytes: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let piece = self
                .storage()
                .read_snapshot(Slot(slot), bytes.len() as u64, max_bytes)
                .unwrap_or_else(|error| panic!("{}: read_snapshot: {error}", self.promise))?;
            assert!(piece.len() <= max_bytes, "{}: no piece is longer than asked for", self.promise);
            if piece.is_empty() {
                return Some(bytes);
            }
            bytes.extend_from_slice(&piece);
        }
    }

    /// Drops the storage as a crash would, reopens it, and compares its contents with the model.
    pub(super) fn crash_and_compare(&mut self) {
        self.storage = None;
        self.storage = Some(self.backend.open_again());
        let promise = self.promise;
        let recovered = recover(self.storage(), promise);
        assert_eq!(self.storage().registry(), self.registry, "{promise}: registry");
        self.next = 1;
        let after = self.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
        let expected: Vec<_> =
            self.entries.range(after.next()..).map(|(slot, entry)| (*slot, entry.clone())).collect();
        let entries: Vec<_> = recovered.entries.into_iter().filter(|(slot, _)| *slot > after).collect();
        assert_eq!(recovered.hard_state, self.hard_state, "{}: hard state", self.promise);
        assert_eq!(recovered.snapshot, self.snapshot, "{}: snapshot", self.promise);
        assert_eq!(entries.len(), expected.len(), "{}: count of entries", self.promise);
        assert!(entries == expected, "{}: entries", self.promise);
    }
}

pub(super) fn recover(storage: &mut dyn Storage, promise: &str) -> Recovered {
    storage.recover().unwrap_or_else(|error| panic!("{promise}: recover: {error}"))
}

pub(super) fn accepted(slot: u64, round: u64, bytes: usize) -> (Slot, Entry) {
    let ballot = Ballot { round, node: NodeId(1) };
    let fill = u8::try_from((slot + round) % 251).unwrap_or(0);
    let value = Value::batch(&[Bytes::from(vec![fill; bytes])]).at(Time(1_000 * (slot % 3)));
    (Slot(slot), Entry::Accepted { ballot, value })
}

/// The state in a snapshot.
pub(super) fn bytes(length: u32) -> Vec<u8> {
    (0..length).map(|number| u8::try_from(number % 251).unwrap_or(0)).collect()
}

pub(super) fn meta(slot: u64, bytes: &[u8]) -> SnapshotMeta {
    let (size_bytes, checksum) = (bytes.len() as u64, crc32c::crc32c(bytes));
    SnapshotMeta { slot: Slot(slot), size_bytes, checksum, membership: membership(slot) }
}

/// A membership of its own for each epoch: with addresses, a learner, a removed member and other quorums than
/// majorities.
pub(super) fn membership(epoch: u64) -> Membership {
    let voter = |id| Member::voter(NodeId(id), format!("host-{id}.example:{}", 7000 + epoch));
    let founding = Membership::of((1..=5).map(voter).collect()).expect("these members fit");
    let ballot = Ballot { round: epoch, node: NodeId(2) };
    let add = Change::AddLearner { node: NodeId(6), address: String::from("[::1]:7000") };
    let changed = founding.changed(&add, ballot).expect("6 is new");
    let changed = changed.changed(&Change::Remove { node: NodeId(1) }, ballot).expect("1 is a member");
    let quorums = Quorums::flexible(4, 3, 2).expect("3 + 2 > 4");
    changed.with_quorums(quorums).expect("there are four voters").in_epoch(Epoch(epoch))
}
