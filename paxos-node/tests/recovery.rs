//! What a node does and answers while it reads its storage: `src/runtime/recovery.rs`.
#![cfg(feature = "memory")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{NodeId, Role, Slot};
use paxos_node::fronts::{http, resp};
use paxos_node::kv::Store;
use paxos_node::{ClientError, Node, NodeError, Recovering};
use paxos_transport::memory::MemoryNetwork;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use support::embedded::{Gate, Gated, Lengths, PATIENCE, PROMPTLY, alone, disk, until};

#[tokio::test]
async fn a_node_that_recovers_can_be_asked_and_stopped() {
    let gate = Gate::default();
    gate.close();
    let storage = Box::new(Gated { backend: disk(NodeId(1)), gate: gate.clone() });
    let transport = Box::new(MemoryNetwork::new().bind(NodeId(1)));
    let settings = alone().with(|settings| settings.request_timeout = Duration::from_millis(300));
    let node = Node::start(settings, transport, storage, Lengths::default()).expect("it starts");
    assert_eq!(node.status().borrow().recovering, Some(Recovering::Log { percent: None }));
    let client = node.client();
    let early = timeout(PATIENCE, client.propose(Bytes::new())).await.expect("it is answered");
    assert_eq!(early, Err(ClientError::NotApplied), "it has waited for as long as a command may");
    assert_eq!(client.read_with(|state| state.sum).await, Err(ClientError::NotApplied));
    let since = Instant::now();
    node.stop().await.expect("it stops");
    assert!(since.elapsed() < PROMPTLY);
    gate.open();
}

#[tokio::test]
async fn the_fronts_of_a_node_that_recovers_say_so() {
    let gate = Gate::default();
    gate.close();
    let storage = Box::new(Gated { backend: disk(NodeId(1)), gate: gate.clone() });
    let transport = Box::new(MemoryNetwork::new().bind(NodeId(1)));
    let node = Node::start(alone(), transport, storage, Store::default()).expect("it starts");
    let listen = || async { TcpListener::bind("127.0.0.1:0").await.expect("there are free ports") };
    let (clients, web) = (listen().await, listen().await);
    let (redis, http) = (clients.local_addr().expect("bound"), web.local_addr().expect("bound"));
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(resp::serve(clients, node.client(), resp::RespSettings::default(), stopped.clone()));
    let metrics = http::recorder(NodeId(1)).handle();
    tokio::spawn(http::serve(web, node.client(), metrics, stopped));
    for (command, answer) in [
        ("PING\r\nQUIT\r\n", "-LOADING"),
        ("SET k v\r\nQUIT\r\n", "-LOADING"),
        ("GET k\r\nQUIT\r\n", "-LOADING"),
        ("INFO\r\nQUIT\r\n", "$"),
    ] {
        let said = ask(redis, command).await;
        assert!(said.starts_with(answer), "{command}: {said}");
    }
    for (path, code, words) in [
        ("/healthz", " 200 ", "alive"),
        ("/readyz", " 503 ", "replaying the log"),
        ("/status", " 200 ", "\"recovering\":\"replaying the log\""),
        ("/metrics", " 200 ", ""),
    ] {
        let said =
            ask(http, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await;
        assert!(said.contains(code) && said.contains(words), "{path}: {said}");
    }
    gate.open();
    until(&node, "it leads", |status| status.role == Role::Leader).await;
    assert_eq!(ask(redis, "PING\r\nQUIT\r\n").await, "+PONG\r\n+OK\r\n");
}

#[tokio::test]
async fn a_pipeline_that_was_told_of_recovery_is_refused_whole() {
    const COMMANDS: usize = 3000;
    let gate = Gate::default();
    gate.close();
    let storage = Box::new(Gated { backend: disk(NodeId(1)), gate: gate.clone() });
    let transport = Box::new(MemoryNetwork::new().bind(NodeId(1)));
    let node = Node::start(alone(), transport, storage, Store::default()).expect("it starts");
    let clients = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
    let redis = clients.local_addr().expect("bound");
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(resp::serve(clients, node.client(), resp::RespSettings::default(), stopped));
    let mut stream = BufReader::new(TcpStream::connect(redis).await.expect("it listens"));
    stream.write_all("INCR k\r\n".repeat(COMMANDS).as_bytes()).await.expect("it reads");
    for command in 0..COMMANDS {
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_line(&mut answer))
            .await
            .expect("it answers in time")
            .expect("it answers");
        assert!(answer.starts_with("-LOADING"), "command {command}: {answer}");
        gate.open();
    }
    until(&node, "it leads", |status| status.role == Role::Leader).await;
    stream.write_all(b"INCR k\r\nQUIT\r\n").await.expect("it reads");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("it answers");
    assert_eq!(answer, ":1\r\n+OK\r\n", "none was applied, and the connection serves again");
}

/// All that a server answers until it closes the connection.
async fn ask(address: SocketAddr, request: &str) -> String {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    timeout(PATIENCE, asking).await.expect("it answers in time").expect("it answers")
}

#[tokio::test]
async fn a_command_that_comes_during_recovery_is_applied_after_it() {
    let gate = Gate::default();
    gate.close();
    let storage = Box::new(Gated { backend: disk(NodeId(1)), gate: gate.clone() });
    let transport = Box::new(MemoryNetwork::new().bind(NodeId(1)));
    let mut node = Node::start(alone(), transport, storage, Lengths::default()).expect("it starts");
    let client = node.client();
    let command = tokio::spawn(async move { client.propose(Bytes::from_static(b"one")).await });
    sleep(Duration::from_millis(100)).await;
    gate.open();
    node.recovered().await.expect("there is nothing wrong with its storage");
    command.await.expect("no panic").expect("it is applied");
}

#[tokio::test]
async fn what_is_wrong_with_the_storage_is_told_to_whoever_waits_for_recovery() {
    /// It claims to have 200 bytes of sessions.
    const CUT_SHORT: &[u8] = &[200, 0, 0, 0, 0, 0, 0, 0, 1];
    let storage = disk(NodeId(1));
    let mut first = storage.clone();
    paxos_storage::Storage::recover(&mut first).expect("it is new");
    let membership = paxos_core::Membership::new(&[NodeId(1)]).expect("one member");
    let picture = |bytes: &[u8]| paxos_core::SnapshotMeta {
        membership: membership.clone(),
        slot: Slot(1),
        size_bytes: bytes.len() as u64,
        checksum: crc32c::crc32c(bytes),
    };
    paxos_storage::Storage::write_snapshot(&mut first, Slot(1), 0, CUT_SHORT).expect("memory takes it");
    paxos_storage::Storage::finish_snapshot(&mut first, picture(CUT_SHORT)).expect("memory takes it");
    let transport = Box::new(MemoryNetwork::new().bind(NodeId(1)));
    let mut node = Node::start(alone(), transport, Box::new(storage), Lengths::default()).expect("it starts");
    let error = node.recovered().await.expect_err("the snapshot is none");
    assert!(matches!(error, NodeError::Restore { slot: Slot(1), .. }), "{error}");
    assert!(matches!(node.stop().await, Err(NodeError::AlreadyFailed { .. })));
}
