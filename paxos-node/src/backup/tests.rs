//! Backups in memory: every damage is found, and what is restored is what was backed up.

use std::collections::BTreeMap;

use paxos_core::session::SessionLimits;
use paxos_core::{NodeId, Slot};
use paxos_storage::Storage;
use paxos_storage::file::{FileSettings, FileStorage};
use proptest::prelude::*;

use super::*;
use crate::kv::{Operation, Store};
use crate::runtime::replicated::Replicated;
use crate::state_machine::{Applying, StateMachine};

fn store(keys: usize) -> Store {
    let mut store = Store::default();
    for key in 0..keys {
        let set = Operation::set(format!("key{key}").into(), format!("value {key}").into());
        store.apply(Applying::new(Slot(key as u64 + 1), paxos_core::Time(7)), &Operation::command(&[set]));
    }
    store
}

fn backup_of(store: Store, slot: u64) -> Vec<u8> {
    let facts = store.describe();
    let replicated = Replicated::new(store, SessionLimits::default());
    let mut state = Vec::new();
    replicated.snapshot().expect("it does not panic")(&mut state).expect("memory takes everything");
    backup(&state, slot, facts)
}

fn backup(state: &[u8], slot: u64, facts: BTreeMap<String, String>) -> Vec<u8> {
    backup_at(state, (slot, 0), facts)
}

pub(crate) fn backup_at(
    state: &[u8],
    (slot, time_millis): (u64, u64),
    facts: BTreeMap<String, String>,
) -> Vec<u8> {
    let description = Description {
        program: String::from("1.2.3"),
        cluster: String::from("tested"),
        cluster_id: String::from("ab"),
        node: 1,
        slot,
        time_millis,
        taken_at_millis: 9,
        epoch: 2,
        members: vec![BackupMember { id: 1, role: String::from("voter"), address: String::from("a:1") }],
        removed: vec![4],
        facts,
    };
    let mut writer = BackupWriter::new(Vec::new(), &description).expect("memory takes everything");
    for piece in state.chunks(100) {
        writer.write(piece).expect("memory takes everything");
    }
    writer.finish().expect("memory takes everything").0
}

#[test]
fn what_was_written_is_read_and_verified() {
    let file = backup_of(store(5), 40);
    let verified = verify(&file[..]).expect("it is whole");
    assert_eq!((verified.keys, verified.revision, verified.description.slot), (5, 5, 40));
    assert_eq!(verified.description.facts["keys"], "5");
    assert_eq!(verified.sha256.to_string().len(), 64);
}

#[test]
fn every_cut_and_every_flipped_byte_is_refused_with_its_place() {
    let file = backup_of(store(8), 40);
    for length in 0..file.len() {
        let refused = verify(&file[..length]).expect_err("it is cut").to_string();
        let place = format!("at byte {length}");
        assert!(refused.contains(&place), "cut to {length}: {refused}");
    }
    for place in 0..file.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[place] ^= flip;
            let refused = verify(&damaged[..]).expect_err("it is damaged").to_string();
            assert!(refused.contains("at byte ") && !refused.contains('\n'), "byte {place}: {refused}");
        }
    }
    let longer = [&file[..], &[0]].concat();
    let refused = verify(&longer[..]).expect_err("something follows").to_string();
    assert!(refused.contains(&format!("at byte {}: something follows", file.len())), "{refused}");
}

#[test]
fn blocks_in_another_order_and_blocks_of_another_backup_are_refused() {
    let (one, two) = (backup_of(store(8), 40), backup_of(store(8), 41));
    assert_eq!(one.len(), two.len());
    let mixed = [&one[..one.len() - 49], &two[two.len() - 49..]].concat();
    let refused = verify(&mixed[..]).expect_err("its end is another's").to_string();
    assert!(refused.contains("belongs to another backup"), "{refused}");
}

#[test]
fn a_state_that_is_not_the_one_described_is_refused() {
    let file = backup(b"no state at all", 3, BTreeMap::new());
    assert!(matches!(verify(&file[..]), Err(BackupError::State { .. })));
    let store = store(2);
    let replicated = Replicated::new(store, SessionLimits::default());
    let mut state = Vec::new();
    replicated.snapshot().expect("it does not panic")(&mut state).expect("memory takes everything");
    let refused = verify(&backup(&state, 3, BTreeMap::new())[..]).expect_err("it has keys").to_string();
    assert!(refused.contains("not the one"), "{refused}");
}

#[test]
fn a_restored_storage_has_the_state_with_its_revisions_raised_and_belongs_to_no_cluster_yet() {
    let file = backup_of(store(5), 40);
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("node-2");
    let node = NewNode { id: NodeId(2), cluster: Some("other"), raise_revisions_by: 1000 };
    let restored = restore(&file[..], &node, &directory).expect("the directory is missing");
    assert_eq!((restored.cluster.as_str(), restored.revision), ("other", 1005));
    let again = restore(&file[..], &node, &directory).expect_err("it is not empty any more");
    assert!(matches!(again, BackupError::Storage(paxos_storage::Error::AlreadyFormatted { .. })), "{again}");
    let mut storage = FileStorage::open(&directory, FileSettings::default()).expect("it is a storage");
    let registry = storage.registry();
    assert_eq!(
        (registry.founding, registry.origin),
        (None, Some(paxos_storage::Origin::Backup(restored.id)))
    );
    let recovered = storage.recover().expect("it is whole");
    let snapshot = recovered.snapshot.expect("it has a snapshot");
    assert_eq!((snapshot.slot, recovered.entries.len()), (Slot(40), 0));
    let bytes = storage.read_snapshot(Slot(40), 0, 1 << 20).expect("it is whole").expect("it is there");
    let mut replicated = Replicated::new(Store::default(), SessionLimits::default());
    replicated.restore(Slot(40), &mut &bytes[..]).expect("it is a snapshot");
    assert_eq!((replicated.state.len(), replicated.state.revision()), (5, 1005));
    assert_eq!(replicated.state.get(b"key3"), Some("value 3".into()));
    let other = NewNode { raise_revisions_by: 1001, ..node.clone() };
    let other = restore(&file[..], &other, &parent.path().join("node-3")).expect("it is another directory");
    assert_ne!(other.id, restored.id, "nodes with other revisions refuse each other");
    let most = NewNode { raise_revisions_by: u64::MAX, ..node };
    let refused = restore(&file[..], &most, &parent.path().join("node-4")).expect_err("it is too much");
    assert!(matches!(refused, BackupError::TooManyRevisions { revision: 5, .. }), "{refused}");
    assert!(!parent.path().join("node-4").exists(), "nothing was written");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), is_begun: bool) {
        if is_begun {
            let file = backup_of(store(1), 1);
            bytes.splice(0..0, file[..file.len() / 2].iter().copied());
        }
        prop_assert!(verify(&bytes[..]).is_err());
    }
}
