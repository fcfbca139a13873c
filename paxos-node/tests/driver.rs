//! How a node waits: awake for a while after it has worked, and asleep from then on.
#![cfg(feature = "memory")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use paxos_node::kv::Store;
use paxos_node::{Node, NodeSettings, Status, WriterMode};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::{MemoryNetwork, MemoryTransport};
use paxos_transport::{Lane, PeerStatus, Received, SendOutcome, Transport};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
const NODE: NodeId = NodeId(1);

/// Counts how often its node looks for frames.
struct Watched {
    transport: MemoryTransport,
    looks: Arc<AtomicUsize>,
}

#[async_trait]
impl Transport for Watched {
    fn local_node(&self) -> NodeId {
        self.transport.local_node()
    }

    fn max_frame_bytes(&self) -> usize {
        self.transport.max_frame_bytes()
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        self.transport.send(to, lane, frame)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.transport.poll_receive(context)
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.transport.peers()
    }

    async fn close(&mut self) {
        self.transport.close().await;
    }
}

/// A cluster of one node, which has nothing to do by itself but to look at each of its ticks.
async fn start(busy_poll: Duration) -> (Node<Store>, Arc<AtomicUsize>) {
    let looks = Arc::new(AtomicUsize::new(0));
    let transport = Watched { transport: MemoryNetwork::new().bind(NODE), looks: Arc::clone(&looks) };
    let storage = Box::new(MemoryStorage::new(Identity::new("busy", NODE)));
    let settings =
        NodeSettings { writer: WriterMode::Inline, busy_poll, ..NodeSettings::new(NODE, vec![NODE]) };
    let node = Node::start(settings, Box::new(transport), storage, Store::default()).expect("it starts");
    let leads = async { node.status().wait_for(Status::is_ready).await.map(drop) };
    timeout(PATIENCE, leads).await.expect("it leads in time").expect("it runs");
    (node, looks)
}

/// How often the node looks within the 100 ms, which are ten ticks, after it has served a read.
async fn looks_after_a_read(busy_poll: Duration) -> usize {
    let (node, looks) = start(busy_poll).await;
    sleep(Duration::from_millis(50)).await;
    node.client().read().await.expect("it leads");
    let before = looks.load(Ordering::Relaxed);
    sleep(Duration::from_millis(100)).await;
    looks.load(Ordering::Relaxed) - before
}

#[tokio::test]
async fn a_node_that_has_worked_looks_for_more_before_it_sleeps() {
    let looks = looks_after_a_read(PATIENCE).await;
    assert!(looks > 200, "it looked {looks} times within ten ticks, so it slept");
}

#[tokio::test]
async fn a_node_without_work_sleeps() {
    for busy_poll in [Duration::ZERO, Duration::from_micros(100)] {
        let (node, looks) = start(busy_poll).await;
        sleep(Duration::from_millis(50)).await;
        let before = looks.load(Ordering::Relaxed);
        sleep(Duration::from_millis(500)).await;
        let looks = looks.load(Ordering::Relaxed) - before;
        assert!(looks <= 100, "it looked {looks} times within fifty ticks (busy_poll {busy_poll:?})");
        node.stop().await.expect("it stops");
    }
}
