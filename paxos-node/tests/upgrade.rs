//! Programs of different versions in one cluster: what only the newer one knows stops the older one before it
//! is applied, and the format level is raised only once all programs know it.

#![cfg(feature = "memory")]

mod support;

use std::io::{self, Read};

use bytes::Bytes;
use paxos_core::{Change, ChangeError, ChangeRefusal, Epoch, FormatLevel, NodeId, Slot};
use paxos_node::{
    AdministrationError, Applying, ClientError, Node, NodeError, NodeSettings, SnapshotWriter, StateMachine,
    Status,
};
use paxos_storage::memory::MemoryStorage;
use paxos_transport::memory::MemoryNetwork;
use tokio::time::{sleep, timeout};

use support::embedded::{Lengths, MEMBERS, PATIENCE, disk, led, start, until};

/// A state machine that counts commands. Version `VERSION` of it knows commands and snapshots that begin with
/// that number, or a lower one.
#[derive(Default)]
struct Counter<const VERSION: u8>(u64);

type Older = Counter<1>;
type Newer = Counter<2>;

impl<const VERSION: u8> StateMachine for Counter<VERSION> {
    fn apply(&mut self, _: Applying, command: &Bytes) -> Bytes {
        self.0 += u64::from(command[0]);
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn knows(command: &Bytes) -> bool {
        command.first().is_some_and(|version| *version <= VERSION)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let bytes = [&[VERSION][..], &self.0.to_le_bytes()].concat();
        Box::new(move |target| target.write_all(&bytes))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = [0; 9];
        snapshot.read_exact(&mut bytes)?;
        if bytes[0] > VERSION {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it is of another version"));
        }
        self.0 = u64::from_le_bytes(bytes[1..].try_into().expect("eight bytes"));
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.0
    }
}

struct Cluster {
    network: MemoryNetwork,
    disks: [MemoryStorage; 3],
}

impl Cluster {
    fn new() -> Cluster {
        Cluster { network: MemoryNetwork::new(), disks: MEMBERS.map(disk) }
    }

    fn start<const VERSION: u8>(&self, place: usize) -> Node<Counter<VERSION>> {
        let mut settings = NodeSettings::new(MEMBERS[place], MEMBERS.to_vec());
        settings.snapshot_after_bytes = 64 << 10;
        settings.protocol.retained_bytes = 0;
        let (transport, storage) = (self.network.bind(MEMBERS[place]), self.disks[place].clone());
        Node::start(settings, Box::new(transport), Box::new(storage), Counter::default()).expect("it starts")
    }
}

const OLD_COMMAND: Bytes = Bytes::from_static(&[1]);
const NEW_COMMAND: Bytes = Bytes::from_static(&[2]);

/// The slot and the content for which a node stops.
async fn stops<S: StateMachine>(node: &mut Node<S>) -> (Slot, String) {
    match timeout(PATIENCE, node.failed()).await.expect("it stops in time") {
        NodeError::NeedsNewerProgram { slot, content } => (slot, content),
        error => panic!("another error: {error}"),
    }
}

#[tokio::test]
async fn an_older_node_stops_before_a_command_that_it_does_not_know_and_goes_on_as_a_newer_one() {
    let cluster = Cluster::new();
    let newer: Vec<Node<Newer>> = vec![cluster.start(0), cluster.start(1)];
    let mut older: Node<Older> = cluster.start(2);
    for node in &newer {
        until(node, "it is ready", Status::is_ready).await; // Any of the three may lead.
    }
    until(&older, "it is ready", Status::is_ready).await;
    assert_eq!(older.client().propose(NEW_COMMAND).await.err(), Some(ClientError::UnknownCommand));
    older.client().propose(OLD_COMMAND).await.expect("all know it");
    let applied = newer[0].client().propose(NEW_COMMAND).await.expect("two nodes know it");
    let after = newer[1].client().propose(OLD_COMMAND).await.expect("they go on");
    let client = older.client();
    let (slot, content) = stops(&mut older).await;
    assert_eq!((slot, &*content), (applied.slot, "a command of an unknown kind"));
    assert!(client.try_read_stale().is_none(), "nobody sees the state of a slot that is half applied");
    // The same program stops there again.
    let mut again: Node<Older> = cluster.start(2);
    assert_eq!(stops(&mut again).await.0, applied.slot);
    let upgraded: Node<Newer> = cluster.start(2);
    until(&upgraded, "it has all", |status| status.applied >= after.slot).await;
    assert_eq!(upgraded.client().read_with(|state| state.0).await, Ok(4));
    assert!(upgraded.status().borrow().diverged.is_empty());
}

#[tokio::test]
async fn an_older_node_stops_at_a_snapshot_that_it_does_not_know() {
    let cluster = Cluster::new();
    let newer: Vec<Node<Newer>> = vec![cluster.start(0), cluster.start(1)];
    let older: Node<Older> = cluster.start(2);
    for node in &newer {
        until(node, "it is ready", Status::is_ready).await; // Any of the three may lead.
    }
    until(&older, "it is ready", Status::is_ready).await;
    older.stop().await.expect("it stops");
    until(&newer[0], "one of the others leads", |status| status.leader.is_some_and(|one| one != MEMBERS[2]))
        .await;
    // They cut off their logs, so that the third can only get a snapshot.
    let long = Bytes::from(vec![1; 4 << 10]);
    for _ in 0..50 {
        newer[0].client().propose(long.clone()).await.expect("two are a majority");
    }
    let mut again: Node<Older> = cluster.start(2);
    let (_, content) = stops(&mut again).await;
    assert!(content.contains("a snapshot of a newer version (it is of another version)"), "{content}");
    let upgraded: Node<Newer> = cluster.start(2);
    until(&upgraded, "it has all", |status| status.applied >= Slot(50)).await;
    assert_eq!(upgraded.client().read_with(|state| state.0).await, Ok(50));
}

/// Asks whoever leads.
async fn finalize(nodes: &[Node<Lengths>], level: FormatLevel) -> Result<Epoch, AdministrationError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "no leader in time");
        for node in nodes {
            match node.client().change_membership(Change::Finalize { level }, None, false).await {
                Err(AdministrationError::Change(ChangeRefusal::NotLeader { .. })) => {}
                done => return done,
            }
        }
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_level_is_finalized_once_all_members_are_heard_and_know_it() {
    let (mut nodes, _gates) = start(|_| {}, &Lengths::default());
    let leader = led(&nodes).await;
    let all = |status: &Status| status.known_levels.len() == 3;
    let status = until(&nodes[leader], "it knows the programs of all", all).await;
    assert_eq!(status.format_level(), FormatLevel::FIRST);
    assert!(MEMBERS.iter().all(|node| status.newest_level_of(*node) == Some(FormatLevel::NEWEST)));
    let unknown = FormatLevel(FormatLevel::NEWEST.0 + 1);
    let error = finalize(&nodes, unknown).await.expect_err("no program knows it");
    assert!(matches!(error, AdministrationError::ProgramTooOld { level, .. } if level == unknown), "{error}");
    assert_eq!(finalize(&nodes, FormatLevel::NEWEST).await, Ok(Epoch(1)));
    for node in &nodes {
        until(node, "it is of the new level", |status| status.format_level() == FormatLevel::NEWEST).await;
        until(node, "it is ready", Status::is_ready).await;
        node.client().propose(Bytes::from_static(b"x")).await.expect("all go on");
    }
    let again = finalize(&nodes, FormatLevel::NEWEST).await;
    let finalized = ChangeError::LevelFinalized { level: FormatLevel::NEWEST };
    assert_eq!(again, Err(AdministrationError::Change(ChangeRefusal::Impossible(finalized))));
    nodes.truncate(0);
}

#[tokio::test]
async fn a_level_is_not_finalized_while_a_member_is_silent_and_its_name_is_told() {
    let (mut nodes, _gates) = start(|_| {}, &Lengths::default());
    let leader = led(&nodes).await;
    let place = (leader + 1) % 3;
    let silent: NodeId = MEMBERS[place];
    nodes.remove(place).stop().await.expect("it stops");
    for node in &nodes {
        until(node, "it hears of the end", |status| status.known_levels.len() == 2).await;
    }
    let error = finalize(&nodes, FormatLevel::NEWEST).await.expect_err("its program is not known");
    assert_eq!(error, AdministrationError::ProgramUnknown { node: silent, level: FormatLevel::NEWEST });
    assert!(error.to_string().contains(&format!("node {silent} is not heard")), "{error}");
}
