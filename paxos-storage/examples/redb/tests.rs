//! The storage keeps its promises, and survives that its process is killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use bytes::Bytes;
use paxos_core::{Ballot, Entry, HardState, NodeId, Slot, Value, Write, WriteNumber};
use paxos_storage::{Identity, Storage, conformance};

use super::figures::Databases;
use super::storage::RedbStorage;

/// Where the process that is to be killed writes.
const DIRECTORY: &str = "PAXOS_EXAMPLE_DIRECTORY";
/// After how many writes it is killed.
const WRITES: u64 = 50;

#[test]
fn conforms() {
    let report = conformance::check(&mut Databases::new(std::env::temp_dir()));
    assert_eq!(report.skipped(), ["a full disk"]);
}

fn write(number: u64) -> Write {
    let ballot = Ballot { round: number, node: NodeId(1) };
    let value = Value::batch(&[Bytes::from(number.to_string())]);
    let hard_state = HardState { promised: ballot, chosen: Slot(number - 1) };
    Write::new(WriteNumber(number), hard_state, vec![(Slot(number), Entry::Accepted { ballot, value })])
}

#[test]
fn what_was_persisted_survives_that_the_process_is_killed() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let mut storage = RedbStorage::open(directory.as_ref()).expect("it was made");
        storage.recover().expect("it is new");
        for number in 1.. {
            let _ = storage.persist(write(number)).expect("the disk works");
            println!("persisted {number}");
        }
    }
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    drop(RedbStorage::make(directory.path(), &Identity::new("example", NodeId(1))).expect("it is made"));
    // This test again, in a process of its own, which writes until it is killed.
    let mut child = Command::new(std::env::current_exe().expect("it is running"))
        .args(["--exact", "tests::what_was_persisted_survives_that_the_process_is_killed", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started again");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let number = |line: String| line.split("persisted ").nth(1)?.parse::<u64>().ok();
    let mut persisted = lines.map_while(Result::ok).filter_map(number);
    let seen = persisted.find(|number| *number >= WRITES);
    child.kill().expect("it is running");
    child.wait().expect("it was killed");
    assert_eq!(seen, Some(WRITES), "it wrote so long");

    let mut storage = RedbStorage::open(directory.path()).expect("it is whole");
    let recovered = storage.recover().expect("it is whole");
    let last = recovered.entries.len() as u64;
    assert!(last >= WRITES, "{last} writes are left");
    assert_eq!(recovered.hard_state, write(last).hard_state());
    let entries: Vec<_> = (1..=last).flat_map(|number| write(number).entries().to_vec()).collect();
    assert!(recovered.entries == entries, "each entry is there");
}
