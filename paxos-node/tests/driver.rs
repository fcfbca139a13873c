//! What a node's driver does in which order, and how it waits, seen from its transport and its state machine.
#![cfg(feature = "memory")]

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{NodeId, Role, Slot};
use paxos_node::{Node, NodeSettings, SnapshotWriter, StateMachine, Status, WriterMode};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::{MemoryNetwork, MemoryTransport};
use paxos_transport::{Lane, PeerStatus, Received, SendOutcome, Transport};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// What was seen of a node.
#[derive(Default)]
struct Seen {
    /// How often it looked for frames.
    looks: AtomicUsize,
    deeds: Mutex<Vec<Deed>>,
}

/// What others may wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    /// A frame on the lane of commands: of a follower, that it has accepted one.
    Sent,
    Applied(Slot),
}

impl Seen {
    fn note(&self, deed: Deed) {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).push(deed);
    }

    fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }
}

/// Notes what its node does.
struct Watched {
    transport: MemoryTransport,
    seen: Arc<Seen>,
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
        if lane == Lane::Log {
            self.seen.note(Deed::Sent);
        }
        self.transport.send(to, lane, frame)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        self.seen.looks.fetch_add(1, Ordering::Relaxed);
        self.transport.poll_receive(context)
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.transport.peers()
    }

    async fn close(&mut self) {
        self.transport.close().await;
    }
}

/// Notes what is applied, and remembers nothing else.
struct Noting(Arc<Seen>);

impl StateMachine for Noting {
    fn apply(&mut self, slot: Slot, _: &Bytes) -> Bytes {
        self.0.note(Deed::Applied(slot));
        Bytes::new()
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }

    fn digest(&self) -> u64 {
        0
    }
}

fn start(
    network: &MemoryNetwork,
    node: NodeId,
    members: Vec<NodeId>,
    busy_poll: Duration,
) -> (Node<Noting>, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let transport = Watched { transport: network.bind(node), seen: Arc::clone(&seen) };
    let storage = Box::new(MemoryStorage::new(Identity::new("watched", node)));
    let settings = NodeSettings { writer: WriterMode::Inline, busy_poll, ..NodeSettings::new(node, members) };
    let machine = Noting(Arc::clone(&seen));
    let node = Node::start(settings, Box::new(transport), storage, machine).expect("it starts");
    (node, seen)
}

/// A cluster of one node, which has nothing to do by itself but to look at each of its ticks.
async fn start_alone(busy_poll: Duration) -> (Node<Noting>, Arc<Seen>) {
    let (node, seen) = start(&MemoryNetwork::new(), NodeId(1), vec![NodeId(1)], busy_poll);
    ready(&node).await;
    (node, seen)
}

async fn ready(node: &Node<Noting>) {
    let is_ready = async { node.status().wait_for(Status::is_ready).await.map(drop) };
    timeout(PATIENCE, is_ready).await.expect("it is ready in time").expect("it runs");
}

#[tokio::test]
async fn a_node_that_has_worked_looks_for_more_before_it_sleeps() {
    let (node, seen) = start_alone(PATIENCE).await;
    node.client().read().await.expect("it leads");
    let before = seen.looks();
    sleep(Duration::from_millis(100)).await;
    let looks = seen.looks() - before;
    assert!(looks > 200, "it looked {looks} times within ten ticks, so it slept");
}

#[tokio::test]
async fn a_node_without_work_sleeps() {
    for busy_poll in [Duration::ZERO, Duration::from_micros(100)] {
        let (node, seen) = start_alone(busy_poll).await;
        sleep(Duration::from_millis(50)).await;
        let (before, since) = (seen.looks(), Instant::now());
        sleep(Duration::from_millis(500)).await;
        let (looks, ticks) = (seen.looks() - before, since.elapsed().as_millis() / 10);
        // At each tick once to take in what there is, and once to find nothing and sleep.
        let expected = 2 * usize::try_from(ticks).expect("half a second is few");
        assert!(
            looks < 2 * expected,
            "it looked {looks} times within {ticks} ticks (busy_poll {busy_poll:?})"
        );
        node.stop().await.expect("it stops");
    }
}

/// Has commands chosen, one after the other, so that each accept tells that the slot before is chosen. Gives what a
/// follower did, or `None` if it did not answer each slot once, as when a frame was late and sent again.
async fn follow(commands: usize) -> Option<Vec<Deed>> {
    let (network, members) = (MemoryNetwork::new(), [1, 2, 3].map(NodeId));
    let started = members.map(|id| start(&network, id, members.to_vec(), Duration::ZERO));
    for (node, _) in &started {
        ready(node).await;
    }
    let leads = |node: &Node<Noting>| node.status().borrow().role == Role::Leader;
    let (leader, _) = started.iter().find(|(node, _)| leads(node)).expect("one leads");
    let (_, seen) = started.iter().find(|(node, _)| !leads(node)).expect("the others follow");
    for _ in 0..commands {
        leader.client().propose(Bytes::new()).await.expect("there is a leader");
    }
    let answers = leader.status().borrow().chosen.0;
    let deeds = seen.deeds.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let sent = deeds.iter().filter(|deed| **deed == Deed::Sent).count();
    (u64::try_from(sent) == Ok(answers)).then_some(deeds)
}

#[tokio::test]
async fn a_follower_answers_before_it_applies_what_the_same_accept_has_told() {
    const COMMANDS: usize = 100;
    const ATTEMPTS: usize = 20;
    let mut undisturbed = None;
    for _ in 0..ATTEMPTS {
        if undisturbed.is_none() {
            undisturbed = follow(COMMANDS).await;
        }
    }
    let deeds = undisturbed.expect("some attempt is not disturbed");
    let (mut sent, mut answered_first) = (0, 0);
    for deed in &deeds {
        match deed {
            Deed::Sent => sent += 1,
            // It has answered for this slot, and already for the next one.
            Deed::Applied(slot) if sent > slot.0 => answered_first += 1,
            Deed::Applied(_) => {}
        }
    }
    // Now and then a heartbeat tells of a slot before the next accept does.
    assert!(answered_first > COMMANDS / 2, "{answered_first} times of {COMMANDS}: {deeds:?}");
}
