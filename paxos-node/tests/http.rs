//! HTTP clients that ask for too much, and what a node that hangs answers: `src/fronts/http.rs`.
#![cfg(feature = "memory")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use paxos_node::fronts::http::{self, DRIVER_PATIENCE, HEADER_TIMEOUT, MAX_CONNECTIONS, MAX_HEADER_BYTES};
use paxos_node::kv::Store;
use paxos_node::{ApplyMode, Client, Node, NodeSettings, WriterMode};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use support::embedded::{Lengths, alone, disk};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node with its front. Both end with the test.
async fn start() -> (SocketAddr, Node<Store>, watch::Sender<bool>) {
    let id = NodeId(1);
    let settings = NodeSettings::new(id, vec![id]).with(|settings| settings.writer = WriterMode::Inline);
    let transport = Box::new(MemoryNetwork::new().bind(id));
    let storage = Box::new(MemoryStorage::new(Identity::new("http", id)));
    let node = Node::start(settings, transport, storage, Store::default()).expect("the node starts");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
    let address = listener.local_addr().expect("it is bound");
    let (stop, stopped) = watch::channel(false);
    let metrics = http::recorder(id).handle();
    tokio::spawn(http::serve(listener, node.client(), metrics, stopped));
    (address, node, stop)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("the front listens")
}

/// All that comes until the front closes the connection.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // One that is cut off has nothing more to say either.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection ends in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address).await;
    // Refused before all of it is sent, perhaps.
    let _ = stream.write_all(request.as_bytes()).await;
    answer(&mut stream).await
}

#[tokio::test]
async fn connections_are_bounded_and_free_again_when_they_end() {
    let (address, _node, _stop) = start().await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(connect(address).await);
    }
    let refused = answer(&mut connect(address).await).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.ends_with("too many connections\n"), "{refused}");
    drop(silent);
    let served = async {
        while !ask(address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.ends_with("alive\n") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, served).await.expect("there is room again");
}

#[tokio::test]
async fn a_connection_carries_one_request_with_a_head_of_bounded_size() {
    let (address, _node, _stop) = start().await;
    let twice = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2);
    let answered = ask(address, &twice).await;
    assert_eq!(answered.matches("HTTP/1.1 200 OK").count(), 1, "{answered}");
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(MAX_HEADER_BYTES));
    let mut stream = connect(address).await;
    stream.write_all(long.as_bytes()).await.expect("it fits between them");
    let mut start = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("in time").expect("there is an answer");
    assert_eq!(&start, b"HTTP/1.1 431");
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let (address, _node, _stop) = start().await;
    let mut slow = connect(address).await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.expect("it is sent");
    let started = tokio::time::Instant::now();
    let answer = answer(&mut slow).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(started.elapsed() > HEADER_TIMEOUT / 2, "it has had its time");
}

/// A node on a runtime of its own, so that its hanging holds up nothing else; it ends with the sender.
fn start_apart(machine: Lengths) -> (Client<Lengths>, oneshot::Sender<()>) {
    let (client_to, client) = std::sync::mpsc::channel();
    let (end, ended) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(async {
            let settings = alone().with(|settings| settings.applying = ApplyMode::Inline);
            let transport = Box::new(MemoryNetwork::new().bind(NodeId(1)));
            let storage = Box::new(disk(NodeId(1)));
            let node = Node::start(settings, transport, storage, machine).expect("it starts");
            client_to.send(node.client()).expect("the test waits for it");
            let _ = ended.await;
        });
    });
    (client.recv().expect("the node starts"), end)
}

#[tokio::test]
async fn a_node_that_does_nothing_for_long_is_not_healthy_until_it_goes_on() {
    let pause = DRIVER_PATIENCE + Duration::from_secs(5);
    let (client, _end) = start_apart(Lengths { pause, ..Lengths::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
    let address = listener.local_addr().expect("it is bound");
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(http::serve(listener, client.clone(), http::recorder(NodeId(1)).handle(), stopped));
    let until = async |words: &str| {
        let seen = async {
            loop {
                let answer = ask(address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
                if answer.contains(words) {
                    return answer;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, seen).await.expect("it says so in time")
    };
    until("alive").await;
    let mut status = client.status();
    status.wait_for(|status| status.leader.is_some()).await.expect("the node runs");
    let command = tokio::spawn(async move { client.propose(Bytes::from_static(b"one")).await });
    let hangs = until("hangs").await;
    assert!(hangs.starts_with("HTTP/1.1 503 "), "{hangs}");
    until("alive").await;
    command.await.expect("no panic").expect("it is applied");
}
