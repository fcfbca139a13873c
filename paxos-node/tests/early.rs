//! Messages that overtake the membership which begins their epoch: `src/runtime/driver/early.rs`.

#![cfg(feature = "memory")]

#[path = "support/embedded.rs"]
#[allow(dead_code, reason = "not every test needs all of it")]
mod embedded;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{Change, Epoch, NodeId};
use paxos_node::{Node, NodeSettings};
use paxos_transport::memory::{MemoryNetwork, MemoryTransport};
use paxos_transport::{Lane, Peer, PeerStatus, Received, SendOutcome, SetPeersError, Transport};
use tokio::time::{sleep, timeout};

use embedded::{Lengths, MEMBERS, PATIENCE, disk, led};

/// What was not answered is sent again after so long: longer than the test waits.
const RESEND_TICKS: u32 = 6_000;
const PROMPTLY: Duration = Duration::from_secs(20);
/// No node may look for another leader while frames are held back.
const ELECTION_TICKS: u32 = 150;

/// Frames on their way to a node.
#[derive(Clone, Default)]
struct Road(Arc<Mutex<Traffic>>);

#[derive(Default)]
struct Traffic {
    is_closed: bool,
    waiting: Vec<Received>,
}

impl Road {
    fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many frames with proposals, or answers to them, wait.
    fn waiting(&self) -> usize {
        self.lock().waiting.iter().filter(|received| received.lane == Lane::Log).count()
    }
}

/// Keeps frames that arrive while its road is closed, and hands them out in reverse order afterwards.
struct Reversing {
    transport: MemoryTransport,
    road: Road,
}

#[async_trait]
impl Transport for Reversing {
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
        let mut traffic = self.road.lock();
        if !traffic.is_closed {
            return match traffic.waiting.pop() {
                Some(received) => Poll::Ready(Some(received)),
                None => self.transport.poll_receive(context),
            };
        }
        while let Poll::Ready(received) = self.transport.poll_receive(context) {
            let Some(received) = received else { return Poll::Ready(None) };
            traffic.waiting.push(received);
        }
        Poll::Pending
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.transport.peers()
    }

    fn set_peers(&mut self, peers: &[Peer]) -> Result<(), SetPeersError> {
        self.transport.set_peers(peers)
    }

    async fn close(&mut self) {
        self.transport.close().await;
    }
}

fn start() -> Vec<(Node<Lengths>, Road)> {
    let network = MemoryNetwork::new();
    let start = |id: NodeId| {
        let road = Road::default();
        let transport = Box::new(Reversing { transport: network.bind(id), road: road.clone() });
        let settings = NodeSettings::new(id, MEMBERS.to_vec()).with(|settings| {
            settings.protocol.resend_ticks = RESEND_TICKS;
            settings.protocol.election_timeout_ticks = ELECTION_TICKS;
        });
        let node = Node::start(settings, transport, Box::new(disk(id)), Lengths::default());
        (node.expect("it starts"), road)
    };
    MEMBERS.map(start).into_iter().collect()
}

#[tokio::test]
async fn a_proposal_that_overtakes_the_membership_before_it_is_not_lost() {
    let (nodes, roads): (Vec<_>, Vec<_>) = start().into_iter().unzip();
    let leader = led(&nodes).await;
    let (late, gone) = ((leader + 1) % 3, (leader + 2) % 3);
    let client = nodes[leader].client();
    client.propose(Bytes::from_static(b"x")).await.expect("it is applied");
    roads[late].lock().is_closed = true;
    let remove = Change::Remove { node: MEMBERS[gone] };
    let epoch = client.change_membership(remove, None, false).await.expect("two of three accept it");
    assert_eq!(epoch, Epoch(1));
    // From here on the leader needs the late node for each quorum.
    let before = roads[late].waiting();
    let proposing = tokio::spawn(async move { client.propose(Bytes::from_static(b"y")).await });
    let proposed = async {
        while roads[late].waiting() == before {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, proposed).await.expect("the leader proposes");
    roads[late].lock().is_closed = false;
    let applied = timeout(PROMPTLY, proposing).await.expect("it is not sent again before");
    applied.expect("the client does not panic").expect("it is applied");
}
