//! In which order a node's driver works, how it waits, and how it ends: `src/runtime/driver`.
#![cfg(feature = "memory")]

mod support;

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{NodeId, Role, Slot};
use paxos_node::{Applying, Node, NodeError, NodeSettings, SnapshotWriter, StateMachine, Status, WriterMode};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::{MemoryNetwork, MemoryTransport};
use paxos_transport::{Lane, PeerStatus, Received, SendOutcome, Transport};
use tokio::time::{sleep, timeout};

use support::embedded::{Lengths, alone, disk, until};

const PATIENCE: Duration = Duration::from_secs(20);
/// As long as a node may poll.
const LONGEST_POLL: Duration = Duration::from_secs(1);

/// What a node was seen to do.
#[derive(Default)]
struct Seen {
    /// How often it polled for frames.
    looks: AtomicUsize,
    events: Mutex<Vec<Event>>,
}

/// Something that a node does for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    /// A frame on the lane of commands: of a follower, that it has accepted one.
    Sent,
    Applied(Slot),
}

impl Seen {
    fn note(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
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
            self.seen.note(Event::Sent);
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
    fn apply(&mut self, at: Applying, _: &Bytes) -> Bytes {
        self.0.note(Event::Applied(at.slot));
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
    let settings = NodeSettings::new(node, members).with(|settings| {
        settings.writer = WriterMode::Inline;
        settings.busy_poll = busy_poll;
    });
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
    let (node, seen) = start_alone(LONGEST_POLL).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        node.client().read().await.expect("it leads");
        let before = seen.looks();
        sleep(Duration::from_millis(100)).await;
        let looks = seen.looks() - before;
        // One that sleeps never looks as often; one on a busy machine may have to wait for the processor.
        if looks > 200 {
            break;
        }
        assert!(Instant::now() < deadline, "it looked {looks} times within ten ticks, so it slept");
    }
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

/// Has commands chosen, one after the other, so that each accept tells that the slot before is chosen. Gives
/// what a follower did, or `None` if it did not answer each slot once, as when a frame was late and sent
/// again.
async fn follow(commands: usize) -> Option<Vec<Event>> {
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
    let events = seen.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let sent = events.iter().filter(|event| **event == Event::Sent).count();
    (u64::try_from(sent) == Ok(answers)).then_some(events)
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
    let events = undisturbed.expect("some attempt is not disturbed");
    let (mut sent, mut answered_first) = (0, 0);
    for event in &events {
        match event {
            Event::Sent => sent += 1,
            // It has answered for this slot, and already for the next one.
            Event::Applied(slot) if sent > slot.0 => answered_first += 1,
            Event::Applied(_) => {}
        }
    }
    // Now and then a heartbeat tells of a slot before the next accept does.
    assert!(answered_first > COMMANDS / 2, "{answered_first} times of {COMMANDS}: {events:?}");
}

/// A transport that ends when `has_ended` is set.
struct Ending {
    transport: MemoryTransport,
    has_ended: Arc<Mutex<bool>>,
}

#[async_trait]
impl Transport for Ending {
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
        if *self.has_ended.lock().unwrap_or_else(PoisonError::into_inner) {
            return Poll::Ready(None);
        }
        self.transport.poll_receive(context)
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.transport.peers()
    }

    async fn close(&mut self) {
        self.transport.close().await;
    }
}

#[tokio::test]
async fn a_node_whose_transport_has_ended_says_so() {
    let has_ended = Arc::new(Mutex::new(false));
    let transport = MemoryNetwork::new().bind(NodeId(1));
    let transport = Box::new(Ending { transport, has_ended: Arc::clone(&has_ended) });
    let storage = Box::new(disk(NodeId(1)));
    let mut node = Node::start(alone(), transport, storage, Lengths::default()).expect("it starts");
    until(&node, "it leads", |status| status.role == Role::Leader).await;
    *has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    let error = timeout(PATIENCE, node.failed()).await.expect("it fails in time");
    assert!(matches!(error, NodeError::TransportClosed), "{error}");
}
