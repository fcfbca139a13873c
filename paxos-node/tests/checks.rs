//! What `Node::start` refuses: parts of another node, and settings that can't work.
//! `src/runtime/checks.rs`.
#![cfg(all(feature = "memory", feature = "file", feature = "tcp"))]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use paxos_node::kv::Store;
use paxos_node::{ClientError, KeptOut, Node, NodeError, NodeSettings, RefusedFor, Status};
use paxos_storage::file::{self, FileSettings, FileStorage};
use paxos_storage::memory::MemoryStorage;
use paxos_storage::{Identity, Storage};
use paxos_transport::memory::MemoryNetwork;
use paxos_transport::{LaneLimits, NetworkConfig, TlsIdentity, Transport, certs};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const MEMBERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn settings(node: u64) -> NodeSettings {
    NodeSettings::new(NodeId(node), MEMBERS.to_vec())
}

fn memory(node: u64) -> Box<dyn Storage> {
    Box::new(MemoryStorage::new(Identity::new("ours", NodeId(node))))
}

fn bound(node: u64) -> Box<dyn Transport> {
    Box::new(MemoryNetwork::new().bind(NodeId(node)))
}

async fn tcp(node: u64, cluster: &str) -> Box<dyn Transport> {
    let made = certs::make_cluster(cluster, &MEMBERS, &[]).expect("certificates are made");
    let (id, certificate, key) = &made.nodes[usize::try_from(node - 1).expect("ids are small")];
    let authority = made.authority.as_bytes();
    let identity = TlsIdentity::from_pem(*id, cluster, authority, certificate.as_bytes(), key.as_bytes());
    let listen = "127.0.0.1:0".parse().expect("an address");
    let peers = BTreeMap::from(MEMBERS.map(|id| (id, String::from("127.0.0.1:1"))));
    let config = NetworkConfig::new(NodeId(node), listen, peers, identity.expect("they are whole"));
    Box::new(paxos_transport::tcp::bind(config).await.expect("a port is free"))
}

fn refused(settings: NodeSettings, transport: Box<dyn Transport>, storage: Box<dyn Storage>) -> NodeError {
    Node::start(settings, transport, storage, Store::default()).expect_err("it is refused")
}

#[tokio::test]
async fn a_storage_of_another_node_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("data");
    file::format(&path, &Identity::new("ours", NodeId(2))).expect("it is empty");
    let on_disk = FileStorage::open(&path, FileSettings::default()).expect("it is formatted");
    for storage in [memory(2), Box::new(on_disk)] {
        let error = refused(settings(1), bound(1), storage);
        let is_right = matches!(error, NodeError::StorageOfOtherNode { storage_node: NodeId(2), .. });
        assert!(is_right && error.to_string().contains("node 2"), "{error}");
    }
}

#[tokio::test]
async fn one_storage_is_no_storage_for_three_nodes() {
    let shared = MemoryStorage::new(Identity::new("ours", NodeId(1)));
    let network = MemoryNetwork::new();
    let mut started = 0;
    for node in 1..=3 {
        let transport = Box::new(network.bind(NodeId(node)));
        let result = Node::start(settings(node), transport, Box::new(shared.clone()), Store::default());
        started += usize::from(result.is_ok());
    }
    assert_eq!(started, 1, "only the node that it was made for starts");
}

#[tokio::test]
async fn a_transport_of_another_node_is_refused() {
    for transport in [bound(2), tcp(2, "ours").await] {
        let error = refused(settings(1), transport, memory(1));
        assert!(
            matches!(error, NodeError::TransportOfOtherNode { transport_node: NodeId(2), .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn parts_of_another_cluster_are_refused() {
    let error = refused(settings(1), tcp(1, "theirs").await, memory(1));
    let is_right = matches!(error, NodeError::OtherCluster { part: "transport", .. });
    assert!(is_right && error.to_string().contains("theirs"), "{error}");
    let wanted = settings(1).with(|settings| settings.cluster = Some(String::from("wanted")));
    let error = refused(wanted, bound(1), memory(1));
    assert!(matches!(error, NodeError::OtherCluster { part: "storage", .. }), "{error}");
}

#[tokio::test]
async fn frames_in_which_a_legal_message_does_not_fit_are_refused() {
    let settings = settings(1);
    let needed = settings.max_message_bytes();
    for (frame_bytes, fits) in [(needed, true), (needed - 1, false)] {
        let network = MemoryNetwork::with_limits(frame_bytes, LaneLimits::default());
        let transport = Box::new(network.bind(NodeId(1)));
        match Node::start(settings.clone(), transport, memory(1), Store::default()) {
            Ok(node) => {
                assert!(fits);
                node.stop().await.expect("it stops");
            }
            Err(NodeError::FramesTooSmall { max_frame_bytes, needed_bytes }) => {
                assert_eq!((fits, max_frame_bytes, needed_bytes), (false, frame_bytes, needed));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn settings_that_could_never_work_are_refused() {
    type Change = fn(&mut NodeSettings);
    let wrong: [(&str, Change); 13] = [
        ("tick", |settings| settings.tick = Duration::ZERO),
        ("tick", |settings| settings.tick = Duration::MAX),
        ("request_timeout", |settings| settings.request_timeout = Duration::ZERO),
        ("request_timeout", |settings| settings.request_timeout = Duration::MAX),
        ("retry_interval", |settings| settings.retry_interval = Duration::ZERO),
        ("retry_interval", |settings| settings.retry_interval = Duration::MAX),
        ("busy_poll", |settings| settings.busy_poll = Duration::MAX),
        ("heartbeat_ticks", |settings| settings.protocol.heartbeat_ticks = u32::MAX),
        ("waiting_requests", |settings| settings.waiting_requests = 0),
        ("sessions.sessions", |settings| settings.sessions.sessions = 3),
        ("command_bytes", |settings| settings.protocol.command_bytes = usize::MAX),
        ("batch_bytes", |settings| settings.protocol.batch_bytes = paxos_storage::MAX_VALUE_BYTES),
        ("not among the members", |settings| settings.members.retain(|member| *member != settings.node)),
    ];
    for (word, change) in wrong {
        let mut settings = settings(1);
        change(&mut settings);
        let error = refused(settings, bound(1), memory(1));
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

#[tokio::test]
async fn settings_at_their_limits_work() {
    let settings = NodeSettings::new(NodeId(1), vec![NodeId(1)]).with(|settings| {
        settings.request_timeout = NodeSettings::MAX_TIME;
        settings.retry_interval = NodeSettings::MAX_TIME;
        settings.busy_poll = Duration::from_secs(1);
        settings.protocol.window_bytes = usize::MAX;
    });
    let node = Node::start(settings, bound(1), memory(1), Store::default()).expect("it starts");
    let read = node.client();
    let length = timeout(PATIENCE, read.read_with(Store::len)).await.expect("it answers in time");
    assert_eq!(length, Ok(0));
    node.stop().await.expect("it stops");
}

/// A cluster of three, in which the storage and the settings of node 3 may be special.
fn start_three(storage: Box<dyn Storage>, change: impl Fn(&mut NodeSettings)) -> Vec<Node<Store>> {
    let network = MemoryNetwork::new();
    let mut third = settings(3);
    change(&mut third);
    let parts = [(settings(1), memory(1)), (settings(2), memory(2)), (third, storage)];
    let start = |(settings, storage): (NodeSettings, Box<dyn Storage>)| {
        let transport = Box::new(network.bind(settings.node));
        Node::start(settings, transport, storage, Store::default()).expect("it starts")
    };
    parts.map(start).into()
}

async fn wait(node: &Node<Store>, holds: impl FnMut(&Status) -> bool) {
    let waited = timeout(PATIENCE, async { node.status().wait_for(holds).await.map(drop) }).await;
    assert!(waited.is_ok_and(|waited| waited.is_ok()), "{:?}", node.status().borrow());
}

#[tokio::test]
async fn a_command_over_the_limit_is_refused_at_once_wherever_it_enters() {
    let nodes = start_three(memory(3), |_| {});
    for node in &nodes {
        wait(node, Status::is_ready).await;
    }
    let command = Bytes::from(vec![0; settings(1).protocol.command_bytes]);
    for node in &nodes {
        let refused = timeout(Duration::from_secs(2), node.client().propose(command.clone())).await;
        let refused = refused.expect("it is refused at once").expect_err("it is too large");
        assert!(matches!(refused, ClientError::TooLarge { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_node_with_other_limits_is_kept_out_and_the_cluster_is_not_founded_with_it() {
    let nodes = start_three(memory(3), |settings| {
        settings.protocol.command_bytes *= 2;
        settings.request_timeout = PATIENCE;
    });
    for (node, refused) in nodes.iter().zip([&[NodeId(3)][..], &[NodeId(3)], &[NodeId(1), NodeId(2)]]) {
        wait(node, |status| status.refused == refused && !status.is_founded).await;
    }
    // The answer to clients follows at the next tick.
    wait(&nodes[0], |status| status.waiting_for == [NodeId(3)]).await;
    tokio::time::sleep(10 * settings(1).tick).await;
    let command = Bytes::from(vec![0; 6 << 20]);
    let read = timeout(Duration::from_secs(5), nodes[0].client().read_with(|_| ())).await;
    let kept_out = KeptOut::WaitsFor { node: NodeId(3), others: 0 };
    assert_eq!(read.expect("it is refused at once"), Err(ClientError::KeptOut(kept_out)));
    let refused = timeout(Duration::from_secs(5), nodes[2].client().propose(command)).await;
    let refused = refused.expect("it is refused at once").expect_err("it can be applied nowhere");
    let because = RefusedFor::Settings;
    assert_eq!(refused, ClientError::KeptOut(KeptOut::Refused { node: NodeId(1), others: 1, because }));
}

#[tokio::test]
async fn a_used_disk_from_elsewhere_stops_no_healthy_node() {
    // It has been a node of another cluster of the same name.
    let used = MemoryStorage::new(Identity::new("ours", NodeId(3)));
    let elsewhere = start_three(Box::new(used.clone()), |_| {});
    wait(&elsewhere[2], Status::is_ready).await;
    for node in elsewhere {
        node.stop().await.expect("it stops");
    }
    let mut nodes = start_three(Box::new(used), |_| {});
    for node in &nodes[..2] {
        wait(node, |status| status.refused == [NodeId(3)]).await;
    }
    wait(&nodes[2], |status| status.refused == [NodeId(1), NodeId(2)]).await;
    for node in &mut nodes {
        let stopped = timeout(Duration::from_secs(1), node.failed()).await;
        assert!(stopped.is_err(), "{stopped:?}");
        assert!(node.status().borrow().leader.is_none(), "and none takes part with it");
    }
}
