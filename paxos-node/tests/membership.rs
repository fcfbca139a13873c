//! The members of a cluster change while it serves.

#![cfg(feature = "memory")]

#[path = "support/embedded.rs"]
#[allow(dead_code, reason = "not every test needs all of it")]
mod embedded;

use bytes::Bytes;
use paxos_core::{Change, ChangeRefusal, Epoch, Member, Membership, NodeId, Role, Standing};
use paxos_node::{AdministrationError, Node, NodeError, NodeSettings};
use paxos_storage::memory::MemoryStorage;
use paxos_transport::memory::MemoryNetwork;

use embedded::{Lengths, MEMBERS, PATIENCE, disk, led, until};

const FOUR: NodeId = NodeId(4);

fn address(node: NodeId) -> String {
    format!("host-{node}")
}

fn founding() -> Membership {
    Membership::of(MEMBERS.map(|node| Member::voter(node, address(node))).to_vec()).expect("these fit")
}

/// A network with three founders, each on its disk.
struct Cluster {
    network: MemoryNetwork,
    disks: Vec<MemoryStorage>,
    nodes: Vec<Node<Lengths>>,
}

impl Cluster {
    fn found() -> Cluster {
        let network = MemoryNetwork::new();
        let disks: Vec<MemoryStorage> = MEMBERS.map(disk).to_vec();
        let mut cluster = Cluster { network, disks: Vec::new(), nodes: Vec::new() };
        for (node, disk) in MEMBERS.into_iter().zip(disks) {
            let addresses = MEMBERS.map(|node| (node, address(node))).into();
            let settings = NodeSettings::new(node, MEMBERS.to_vec()).with(|own| own.addresses = addresses);
            cluster.start(settings, disk);
        }
        cluster
    }

    fn start(&mut self, settings: NodeSettings, disk: MemoryStorage) {
        let transport = Box::new(self.network.bind(settings.node));
        let storage = Box::new(disk.clone());
        let node = Node::start(settings, transport, storage, Lengths::default()).expect("it starts");
        self.disks.push(disk);
        self.nodes.push(node);
    }

    fn join(&mut self, node: NodeId) {
        self.start(NodeSettings::joining(node, &founding()), disk(node));
    }

    async fn write(&self, at: usize) -> u64 {
        let applied = self.nodes[at].client().propose(Bytes::from_static(b"x")).await.expect("it is applied");
        applied.slot.0
    }

    /// Asks whoever leads, again if leadership is handed over first.
    async fn change(&self, change: Change) -> Epoch {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            assert!(tokio::time::Instant::now() < deadline, "not in time: {change}");
            for node in &self.nodes {
                match node.client().change_membership(change.clone(), None, false).await {
                    Ok(epoch) => return epoch,
                    Err(
                        AdministrationError::Change(
                            ChangeRefusal::NotLeader { .. }
                            | ChangeRefusal::LeaderHandsOver { .. }
                            | ChangeRefusal::HandingOver { .. }
                            | ChangeRefusal::LearnerLags { .. }
                            | ChangeRefusal::NotHeard { .. }
                            | ChangeRefusal::NoLiveQuorum { .. },
                        )
                        | AdministrationError::Stopped,
                    ) => {}
                    Err(error) => panic!("{change}: {error}"),
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

fn add(node: NodeId) -> Change {
    Change::AddLearner { node, address: address(node) }
}

#[tokio::test]
async fn a_node_is_replaced_while_clients_write() {
    let mut cluster = Cluster::found();
    let leader = led(&cluster.nodes).await;
    cluster.write(leader).await;
    cluster.join(FOUR);
    assert_eq!(cluster.change(add(FOUR)).await, Epoch(1));
    until(&cluster.nodes[3], "it learns that it was added", |status| {
        status.standing == Some(Standing::Learner)
    })
    .await;
    cluster.write(leader).await;
    assert_eq!(cluster.change(Change::Promote { node: FOUR }).await, Epoch(2));
    let gone = (leader + 1) % 3;
    assert_eq!(cluster.change(Change::Remove { node: MEMBERS[gone] }).await, Epoch(3));
    let error = cluster.nodes[gone].failed().await;
    assert!(matches!(error, NodeError::Removed { epoch: Epoch(3), .. }), "{error}");
    let slot = cluster.write(3).await;
    let joined = until(&cluster.nodes[3], "it has all", |status| status.applied.0 >= slot).await;
    assert_eq!(joined.standing, Some(Standing::Voter));
    assert_eq!(joined.membership.expect("it has recovered").members().len(), 3);
    let sum = cluster.nodes[3].client().read_with(|lengths| lengths.sum).await.expect("it reads");
    assert_eq!(sum, 3, "everything that was ever written");
}

#[tokio::test]
async fn a_leader_that_is_to_be_removed_hands_over_and_ends() {
    let mut cluster = Cluster::found();
    let leader = led(&cluster.nodes).await;
    cluster.write(leader).await;
    let epoch = cluster.change(Change::Remove { node: MEMBERS[leader] }).await;
    let error = cluster.nodes[leader].failed().await;
    assert!(matches!(error, NodeError::Removed { epoch: told, .. } if told == epoch), "{error}");
    cluster.write((leader + 1) % 3).await;
}

#[tokio::test]
async fn leadership_is_handed_to_the_node_that_is_named() {
    let cluster = Cluster::found();
    let leader = led(&cluster.nodes).await;
    let to = MEMBERS[(leader + 2) % 3];
    let led_by = cluster.nodes[leader].client().hand_over(Some(to)).await.expect("it hands over");
    assert_eq!(led_by, to);
    until(&cluster.nodes[(leader + 2) % 3], "it leads", |status| status.role == Role::Leader).await;
    cluster.write(leader).await;
    let refused = cluster.nodes[leader].client().hand_over(None).await;
    assert!(matches!(refused, Err(AdministrationError::Handover(_))), "{refused:?}");
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_first() {
    let mut cluster = Cluster::found();
    let leader = led(&cluster.nodes).await;
    let ballot = cluster.nodes[leader].status().borrow().ballot;
    let stopped = cluster.nodes.remove(leader);
    let began = tokio::time::Instant::now();
    stopped.stop().await.expect("it stops");
    cluster.write(0).await;
    let election = std::time::Duration::from_millis(500);
    assert!(began.elapsed() < election, "nobody waited for an election: {:?}", began.elapsed());
    let status = cluster.nodes[0].status().borrow().clone();
    assert_eq!(status.ballot.round, ballot.round + 1, "one new ballot was enough");
}

#[tokio::test]
async fn the_membership_survives_a_restart_of_all_nodes() {
    let mut cluster = Cluster::found();
    led(&cluster.nodes).await;
    cluster.join(FOUR);
    cluster.change(add(FOUR)).await;
    let epoch = cluster.change(Change::Promote { node: FOUR }).await;
    for node in cluster.nodes.drain(..) {
        node.stop().await.expect("it stops");
    }
    let disks: Vec<MemoryStorage> = cluster.disks.drain(..).collect();
    for (node, disk) in MEMBERS.into_iter().chain([FOUR]).zip(disks) {
        let settings = match node {
            FOUR => NodeSettings::new(node, Vec::new()).with(|own| own.joins = true),
            // Who is named does not count any more, as long as it is a known set.
            _ => NodeSettings::new(node, MEMBERS.to_vec()),
        };
        cluster.start(settings, disk);
    }
    let leader = led(&cluster.nodes).await;
    let status = cluster.nodes[leader].status().borrow().clone();
    assert_eq!((status.epoch(), status.standing), (epoch, Some(Standing::Voter)));
    cluster.write(3).await;
    assert_eq!(cluster.change(Change::Remove { node: FOUR }).await, Epoch(epoch.0 + 1));
}

#[tokio::test]
async fn a_node_that_joins_must_know_its_cluster() {
    let settings = NodeSettings::new(FOUR, Vec::new()).with(|own| own.joins = true);
    let transport = Box::new(MemoryNetwork::new().bind(FOUR));
    let refused = Node::start(settings, transport, Box::new(disk(FOUR)), Lengths::default());
    let error = refused.err().expect("nothing tells which cluster it joins");
    assert!(error.to_string().contains("founding"), "{error}");
}

#[tokio::test]
async fn a_node_that_was_away_when_it_was_removed_hears_it_and_ends() {
    let mut cluster = Cluster::found();
    let leader = led(&cluster.nodes).await;
    let away = (leader + 1) % 3;
    cluster.write(leader).await;
    let disk = cluster.disks[away].clone();
    cluster.nodes.remove(away).stop().await.expect("it stops");
    cluster.change(Change::Remove { node: MEMBERS[away] }).await;
    cluster.start(NodeSettings::new(MEMBERS[away], MEMBERS.to_vec()), disk);
    let error = cluster.nodes[2].failed().await;
    assert!(matches!(error, NodeError::Removed { .. }), "{error}");
    cluster.write(0).await;
}
