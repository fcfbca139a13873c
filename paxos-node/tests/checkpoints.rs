//! Nodes that applied the same commands and have different states find out, at rest and under load:
//! `src/runtime/checkpoints.rs`.
#![cfg(feature = "memory")]

use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{NodeId, Slot};
use paxos_node::{Applying, Node, NodeSettings, SnapshotWriter, StateMachine, Status, WriterMode};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);
const MEMBERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// Adds up what is applied; one that is wrong adds one too much.
struct Sum {
    sum: u64,
    error: u64,
}

impl StateMachine for Sum {
    fn apply(&mut self, _: Applying, command: &Bytes) -> Bytes {
        self.sum += command.len() as u64 + self.error;
        Bytes::new()
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.sum
    }
}

fn start(wrong: &[u64]) -> Vec<Node<Sum>> {
    let network = MemoryNetwork::new();
    let node = |id: NodeId| {
        let storage = MemoryStorage::new(Identity::new("diverging", id));
        let settings =
            NodeSettings::new(id, MEMBERS.to_vec()).with(|settings| settings.writer = WriterMode::Inline);
        let state = Sum { sum: 0, error: if wrong.contains(&id.0) { id.0 } else { 0 } };
        Node::start(settings, Box::new(network.bind(id)), Box::new(storage), state).expect("it starts")
    };
    MEMBERS.map(node).into()
}

async fn wait(node: &Node<Sum>, what: &str, holds: impl FnMut(&Status) -> bool) {
    let waited = timeout(PATIENCE, async { node.status().wait_for(holds).await.map(drop) }).await;
    assert!(waited.is_ok_and(|waited| waited.is_ok()), "{what}: {:?}", node.status().borrow());
}

async fn assert_found(nodes: &[Node<Sum>]) {
    wait(&nodes[2], "node 3 finds that it differs from both", |status| status.diverged.len() == 2).await;
    for node in &nodes[..2] {
        wait(node, "the others find node 3", |status| status.diverged == [NodeId(3)] && !status.is_in_doubt)
            .await;
        wait(node, "who agrees with most stays ready", Status::is_ready).await;
    }
    let reason = nodes[2].status().borrow().why_not_ready().unwrap_or_default();
    assert_eq!(reason, "its state differs from that of nodes 1 and 2");
}

#[tokio::test]
async fn a_state_that_differs_is_found_at_rest() {
    let nodes = start(&[3]);
    nodes[0].client().propose(Bytes::from_static(b"x")).await.expect("there is a leader");
    assert_found(&nodes).await;
}

#[tokio::test]
async fn a_state_that_differs_is_found_under_load() {
    let nodes = start(&[3]);
    let client = nodes[0].client();
    let load = async {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            client.propose(Bytes::from_static(b"x")).await.expect("there is a leader");
        }
    };
    tokio::select! {
        () = load => panic!("it is not found"),
        () = assert_found(&nodes) => {}
    }
}

#[tokio::test]
async fn where_nobody_agrees_nobody_is_ready() {
    let nodes = start(&[2, 3]);
    nodes[0].client().propose(Bytes::from_static(b"x")).await.expect("there is a leader");
    for node in &nodes {
        wait(node, "all differ", |status| status.diverged.len() == 2 && status.is_in_doubt).await;
    }
}

#[tokio::test]
async fn states_that_are_equal_raise_no_alarm() {
    let nodes = start(&[]);
    let (client, since) = (nodes[1].client(), Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        client.propose(Bytes::from_static(b"x")).await.expect("there is a leader");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for node in &nodes {
        assert_eq!(node.status().borrow().diverged, []);
    }
}
