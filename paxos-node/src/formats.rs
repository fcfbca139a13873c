//! Witnesses: small files of each format as a program of each format level has written it, which every later
//! program reads, and today's still writes.
//!
//! They are in `tests/formats`, a directory for each level. Others are where their code is: directories of
//! nodes in `paxos-storage/tests/golden`, messages of the protocol in `paxos-core/src/wire/tests.rs`,
//! commands of the store in [`kv::operation`](crate::kv). `PAXOS_WRITE_GOLDEN=1 cargo test --package
//! paxos-node --lib formats` writes those that are missing; one that is there never changes.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use paxos_core::session::{SessionCommand, SessionId, SessionLimits};
use paxos_core::{Slot, Time, Value};

use crate::backup::tests::backup_at;
use crate::backup::verify;
use crate::kv::{Operation, Store};
use crate::runtime::introductions;
use crate::runtime::replicated::{Replicated, SessionQuery};
use crate::state_machine::StateMachine;

/// Where the file of this name is, as programs of this level write it.
pub(crate) fn path(level: u16, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/formats/level-{level}")).join(name)
}

/// The witness of this name; what is written today becomes one if there is none and that is asked for.
pub(crate) fn witness(level: u16, name: &str, today: &[u8]) -> Vec<u8> {
    let path = path(level, name);
    if !path.exists() && std::env::var_os("PAXOS_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("it can be made");
        fs::write(&path, today).expect("the file can be written");
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; see {}", path.display(), file!()))
}

const SESSION: SessionId = SessionId { slot: Slot(1), index: 0 };

/// A state with sessions, and with keys that are changed, expire and are gone.
fn replicated() -> Replicated<Store> {
    let mut replicated = Replicated::new(Store::default(), SessionLimits::default());
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let operations = [
        Operation::set(text("a"), text("1")),
        Operation::set(text("gone"), text("2")),
        Operation::add(text("a"), 41),
        Operation::delete(vec![text("gone")]),
        Operation::append(text("long"), Bytes::from(vec![b'x'; 300]), 1000),
    ];
    let apply = |(sequence, operation): (u64, &Operation)| {
        let command = Operation::command(std::slice::from_ref(operation));
        SessionCommand::Apply { session: SESSION, sequence, unanswered_from: 2, command }
    };
    let commands = (1..).zip(&operations).map(apply);
    let repeatable = SessionCommand::Repeatable { command: Operation::command(&[Operation::DbSize]) };
    let commands = [SessionCommand::Open { nonce: 7 }].into_iter().chain(commands).chain([repeatable]);
    for (slot, command) in (1..).zip(commands) {
        let value = Value::batch(&[command.encode()]).at(Time(1_700_000_000_000 + slot));
        replicated.apply(Slot(slot), &value, 0, |_, _| true, |_| {}).expect("it is known");
    }
    replicated
}

fn snapshot(replicated: &Replicated<Store>) -> Vec<u8> {
    let mut bytes = Vec::new();
    replicated.snapshot().expect("it does not panic")(&mut bytes).expect("memory takes everything");
    bytes
}

#[test]
fn the_snapshot_of_a_node_is_written_as_always_and_read_back() {
    let mut today = replicated();
    let witness = witness(1, "node-snapshot", &snapshot(&today));
    // Records may be in any order.
    assert_eq!(witness.len(), snapshot(&today).len());
    let mut restored = Replicated::new(Store::default(), SessionLimits::default());
    restored.restore(Slot(7), &mut &witness[..]).expect("it is whole");
    assert_eq!((restored.time, restored.applied), (today.time, today.applied));
    assert_eq!(restored.state.digest(), today.state.digest());
    let answers = |replicated: &Replicated<Store>| {
        let query = SessionQuery { session: SESSION, sequences: (1..9).collect() };
        replicated.answer(query).found.expect("the session is there")
    };
    assert_eq!(answers(&restored), answers(&today));
    assert_eq!(answers(&today).len(), 4, "the first answer was acknowledged");
    // Both go on alike.
    let command = SessionCommand::Repeatable { command: Operation::command(&[Operation::FlushAll]) };
    for replicated in [&mut restored, &mut today] {
        let value = Value::batch(&[command.encode()]).at(Time(1_800_000_000_000));
        replicated.apply(Slot(8), &value, 0, |_, _| true, |_| {}).expect("it is known");
    }
    assert_eq!(snapshot(&restored), snapshot(&today), "nothing is left that could be in another order");
}

#[test]
fn the_snapshot_of_the_store_is_written_as_always_and_read_back() {
    let store = replicated().state;
    let mut today = Vec::new();
    store.snapshot()(&mut today).expect("memory takes everything");
    let witness = witness(1, "kv-snapshot", &today);
    assert_eq!(witness.len(), today.len());
    let mut restored = Store::default();
    restored.restore(&mut &witness[..]).expect("it is whole");
    assert_eq!(restored.digest(), store.digest());
}

#[test]
fn a_backup_is_written_as_always_and_read_back() {
    let replicated = replicated();
    let place = (replicated.applied.0, replicated.time.0);
    let today = backup_at(&snapshot(&replicated), place, replicated.state.describe());
    let witness = witness(1, "backup", &today);
    assert_eq!(witness.len(), today.len());
    let (witness, today) = (verify(&witness[..]), verify(&today[..]));
    let (witness, today) = (witness.expect("it is whole"), today.expect("it is whole"));
    assert_eq!(witness.description, today.description);
    assert_eq!((witness.keys, witness.revision), (today.keys, today.revision));
}

#[test]
fn frames_between_nodes_are_written_as_always_and_read_back() {
    for (level, name, frame) in introductions::frames_of_every_kind() {
        let witness = witness(level, &format!("frame-{name}"), &frame);
        assert_eq!(witness, frame, "{name}: a changed frame is another frame");
        assert!(introductions::is_frame(Bytes::from(witness)), "{name}");
    }
}
