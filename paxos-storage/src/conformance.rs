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

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos_core::{
    Ballot, Change, Entry, Epoch, HardState, Member, Membership, NodeId, Quorums, Recovered, Slot,
    SnapshotMeta, Time, Value, Write, WriteNumber,
};

use crate::{
    ErrorKind, Founding, FoundingId, KnownPeer, Origin, Registry, RestoreId, Start, Storage, StorageId,
};

/// Makes the storages that the suite tests.
pub trait Backend {
    /// Makes a new, empty storage. The one before is not used any more.
    fn make(&mut self) -> Box<dyn Storage>;

    /// Reopens the storage that was made last. It was dropped without any last call, as in a crash.
    fn open_again(&mut self) -> Box<dyn Storage>;
}

/// Tests every promise of [`Storage`].
///
/// # Panics
///
/// If the backend breaks a promise; the message names it.
pub fn check(backend: &mut dyn Backend) {
    what_was_persisted_is_recovered(backend);
    a_membership_is_a_value_like_others(backend);
    a_node_and_its_peers_are_remembered(backend);
    the_latest_entry_of_a_slot_counts(backend);
    merged_writes_are_proved_together(backend);
    large_and_many_writes_survive(backend);
    snapshots_come_back_and_two_are_kept(backend);
    a_snapshot_that_does_not_match_is_refused(backend);
    compaction_keeps_what_is_beyond(backend);
    a_snapshot_from_a_peer_may_leave_a_gap(backend);
}

/// A storage, and a model of its contents.
struct Checked<'a> {
    backend: &'a mut dyn Backend,
    /// `None` only between a crash and reopening.
    storage: Option<Box<dyn Storage>>,
    next: u64,
    hard_state: HardState,
    entries: BTreeMap<Slot, Entry>,
    snapshot: Option<SnapshotMeta>,
    promise: &'static str,
}

impl<'a> Checked<'a> {
    fn new(backend: &'a mut dyn Backend, promise: &'static str) -> Checked<'a> {
        let mut storage = backend.make();
        assert_eq!(
            recover(storage.as_mut(), promise),
            Recovered::default(),
            "{promise}: new storage is empty"
        );
        let (hard_state, entries) = (HardState::default(), BTreeMap::new());
        Checked { backend, storage: Some(storage), next: 1, hard_state, entries, snapshot: None, promise }
    }

    fn storage(&mut self) -> &mut dyn Storage {
        self.storage.as_deref_mut().expect("the storage is open")
    }

    fn write(&mut self, entries: Vec<(Slot, Entry)>) -> Write {
        self.hard_state.promised.round += 1;
        self.hard_state.promised.node = NodeId(1);
        self.entries.extend(entries.iter().cloned());
        let write = Write::new(WriteNumber(self.next), self.hard_state, entries);
        self.next += 1;
        write
    }

    fn persist(&mut self, entries: Vec<(Slot, Entry)>) {
        let write = self.write(entries);
        let numbers = write.numbers();
        let durable = self.storage().persist(write);
        let durable = durable.unwrap_or_else(|error| panic!("{}: persist: {error}", self.promise));
        assert_eq!(durable.numbers(), numbers, "{}: the proof is that of the write", self.promise);
    }

    fn save_snapshot(&mut self, slot: u64, bytes: &[u8]) {
        let promise = self.promise;
        let meta = meta(slot, bytes);
        let mut offset = 0;
        for piece in bytes.chunks(1000) {
            self.storage()
                .write_snapshot(meta.slot, offset, piece)
                .unwrap_or_else(|error| panic!("{promise}: write_snapshot: {error}"));
            offset += piece.len() as u64;
        }
        self.storage()
            .finish_snapshot(meta.clone())
            .unwrap_or_else(|error| panic!("{promise}: finish_snapshot: {error}"));
        assert_eq!(self.storage().newest_snapshot(), Some(meta.clone()), "{promise}: newest snapshot");
        self.snapshot = Some(meta);
    }

    fn compact(&mut self, through: u64) {
        self.storage()
            .compact(Slot(through))
            .unwrap_or_else(|error| panic!("{}: compact: {error}", self.promise));
    }

    fn read_snapshot(&mut self, slot: u64, max_bytes: usize) -> Option<Vec<u8>> {
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
    fn crash_and_compare(&mut self) {
        self.storage = None;
        self.storage = Some(self.backend.open_again());
        let promise = self.promise;
        let recovered = recover(self.storage(), promise);
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

fn recover(storage: &mut dyn Storage, promise: &str) -> Recovered {
    storage.recover().unwrap_or_else(|error| panic!("{promise}: recover: {error}"))
}

fn accepted(slot: u64, round: u64, bytes: usize) -> (Slot, Entry) {
    let ballot = Ballot { round, node: NodeId(1) };
    let fill = u8::try_from((slot + round) % 251).unwrap_or(0);
    let value = Value::batch(&[Bytes::from(vec![fill; bytes])]).at(Time(1_000 * (slot % 3)));
    (Slot(slot), Entry::Accepted { ballot, value })
}

fn meta(slot: u64, bytes: &[u8]) -> SnapshotMeta {
    let (size_bytes, checksum) = (bytes.len() as u64, crc32c::crc32c(bytes));
    SnapshotMeta { slot: Slot(slot), size_bytes, checksum, membership: membership(slot) }
}

/// A membership of its own for each epoch: with addresses, a learner, a removed member and other quorums than
/// majorities.
fn membership(epoch: u64) -> Membership {
    let voter = |id| Member::voter(NodeId(id), format!("host-{id}.example:{}", 7000 + epoch));
    let founding = Membership::of((1..=5).map(voter).collect()).expect("these members fit");
    let ballot = Ballot { round: epoch, node: NodeId(2) };
    let add = Change::AddLearner { node: NodeId(6), address: String::from("[::1]:7000") };
    let changed = founding.changed(&add, ballot).expect("6 is new");
    let changed = changed.changed(&Change::Remove { node: NodeId(1) }, ballot).expect("1 is a member");
    let quorums = Quorums::flexible(4, 3, 2).expect("3 + 2 > 4");
    changed.with_quorums(quorums).expect("there are four voters").in_epoch(Epoch(epoch))
}

fn what_was_persisted_is_recovered(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "what was persisted is recovered");
    checked.persist(Vec::new());
    checked.crash_and_compare();
    checked.persist(vec![accepted(1, 1, 0), (Slot(2), Entry::Chosen { value: Value::no_op() })]);
    checked.hard_state.chosen = Slot(1);
    checked.persist(vec![accepted(5, 2, 100)]);
    checked.crash_and_compare();
    checked.crash_and_compare();
}

fn a_membership_is_a_value_like_others(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "a membership is a value like others");
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let value = |epoch| Value::membership(&membership(epoch));
    checked.persist(vec![
        (Slot(1), Entry::Chosen { value: value(1) }),
        (Slot(2), Entry::Accepted { ballot, value: value(2) }),
        accepted(3, 1, 10),
    ]);
    checked.crash_and_compare();
    checked.persist(vec![accepted(2, 2, 10), (Slot(3), Entry::Accepted { ballot, value: value(2) })]);
    checked.crash_and_compare();
}

fn a_node_and_its_peers_are_remembered(backend: &mut dyn Backend) {
    let mut storage = backend.make();
    assert_eq!(storage.registry(), Registry::default(), "a new storage remembers nothing");
    recover(storage.as_mut(), "a new storage is recovered");
    let nodes = |count: usize| (1..).map(NodeId).take(count);
    let start = |number: u64| Start { number, nonce: number.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
    let peer =
        |node: NodeId| KnownPeer { storage: StorageId(u128::from(node.0) << 100), start: start(node.0) };
    let founding = |epoch, id| Founding { id, membership: membership(epoch) };
    let rescue = Origin::Rescue { of: FoundingId(u128::MAX - 2) };
    for (peers, origin, founding) in [
        (2, Some(Origin::Backup(RestoreId(5))), None),
        (Registry::MAX_PEERS, Some(rescue), Some(founding(u64::MAX - 7000, Some(FoundingId(u128::MAX - 1))))),
        (1, None, Some(founding(3, None))),
        (0, None, Some(founding(1, Some(FoundingId(7))))),
    ] {
        let peers_known = nodes(peers).map(|node| (node, peer(node))).collect();
        let registry = Registry {
            start: start(peers as u64),
            is_superseded: peers == 1,
            founding,
            origin,
            peers: peers_known,
        };
        storage.remember(&registry).expect("a registry is remembered");
        assert_eq!(storage.registry(), registry, "a registry is known once it is remembered");
        drop(storage);
        storage = backend.open_again();
        assert_eq!(storage.registry(), registry, "a registry is remembered after a crash");
        recover(storage.as_mut(), "a storage that remembers a registry is recovered");
    }
}

fn the_latest_entry_of_a_slot_counts(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "the latest entry of a slot counts");
    checked.persist(vec![accepted(1, 1, 10), accepted(2, 1, 10)]);
    checked.persist(vec![accepted(1, 2, 20)]);
    checked.persist(vec![accepted(2, 3, 5), accepted(2, 4, 6)]);
    checked.crash_and_compare();
}

fn merged_writes_are_proved_together(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "merged writes are proved together");
    let mut merged = checked.write(vec![accepted(1, 1, 10)]);
    merged.merge(checked.write(vec![accepted(2, 1, 10)]));
    merged.merge(checked.write(Vec::new()));
    let durable = checked.storage().persist(merged).expect("merged writes are persisted");
    assert_eq!(durable.numbers(), (WriteNumber(1), WriteNumber(3)), "merged writes are proved together");
    checked.crash_and_compare();
}

fn large_and_many_writes_survive(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "large and many writes survive");
    for slot in 1..=300 {
        checked.persist(vec![accepted(slot, 1, usize::try_from(slot * 37 % 9000).unwrap_or(0))]);
    }
    checked.crash_and_compare();
    checked.persist((301..=340).map(|slot| accepted(slot, 1, 100_000)).collect());
    checked.crash_and_compare();
}

fn snapshots_come_back_and_two_are_kept(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "snapshots come back and two are kept");
    let bytes: Vec<u8> = (0..5000u32).map(|number| u8::try_from(number % 256).unwrap_or(0)).collect();
    checked.persist((1..=9).map(|slot| accepted(slot, 1, 10)).collect());
    for slot in [3, 5, 7] {
        checked.save_snapshot(slot, &bytes[usize::try_from(slot).unwrap_or(0)..]);
    }
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(7, 999).as_deref(), Some(&bytes[7..]), "the newest snapshot comes back");
    assert_eq!(checked.read_snapshot(5, 1 << 20).as_deref(), Some(&bytes[5..]), "so does the one before");
    assert_eq!(checked.read_snapshot(3, 1000), None, "an older one is gone");
    let (newest, old) = (checked.snapshot.clone(), meta(6, b"old"));
    checked.storage().write_snapshot(old.slot, 0, b"old").expect("an old snapshot is written");
    checked.storage().finish_snapshot(old).expect("an old snapshot is no error");
    checked.snapshot = newest;
    checked.crash_and_compare();
}

fn a_snapshot_that_does_not_match_is_refused(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "a snapshot that does not match is refused");
    checked.persist(vec![accepted(1, 1, 10), accepted(2, 1, 10)]);
    let right = meta(2, b"right");
    for (bytes, offset) in [(&b"wrong"[..], 0), (b"righ", 0), (b"rightly", 0)] {
        checked.storage().write_snapshot(Slot(2), offset, bytes).expect("a piece is written");
        let refused = checked.storage().finish_snapshot(right.clone()).expect_err("it does not match");
        assert_eq!(refused.kind(), ErrorKind::SnapshotMismatch, "{}", checked.promise);
    }
    checked.crash_and_compare();
    checked.save_snapshot(2, b"right");
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(2, 2).as_deref(), Some(&b"right"[..]));
}

fn compaction_keeps_what_is_beyond(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "compaction keeps what is beyond");
    for slot in 1..=200 {
        checked.hard_state.chosen = Slot(slot - 1);
        checked.persist(vec![accepted(slot, 1, 12_000)]);
        if slot % 50 == 0 {
            checked.save_snapshot(slot - 10, b"state");
            checked.compact(slot - 10);
        }
    }
    checked.crash_and_compare();
    checked.compact(1000);
    checked.persist(vec![accepted(201, 1, 10)]);
    checked.crash_and_compare();
}

fn a_snapshot_from_a_peer_may_leave_a_gap(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "a snapshot from a peer may leave a gap");
    checked.persist((1..=5).map(|slot| accepted(slot, 1, 10)).collect());
    checked.save_snapshot(1000, b"far ahead");
    checked.compact(1000);
    checked.crash_and_compare();
    checked.hard_state.chosen = Slot(1000);
    checked.persist(vec![accepted(1001, 2, 10)]);
    checked.crash_and_compare();
}
