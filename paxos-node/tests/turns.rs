//! What a node logs, at the default level, when something makes it slow: `src/runtime/driver/turns.rs`,
//! `silence.rs`.
#![cfg(feature = "memory")]

mod support;

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{NodeId, Role};
use paxos_node::{ApplyMode, Node, NodeSettings};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;
use tokio::time::sleep;

use support::embedded::{Gate, Gated, Lengths, PATIENCE, until};

/// The log of all tests of this file.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that hold these words.
fn told(words: &str) -> Vec<String> {
    let log = String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    log.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

async fn wait_for(words: &str) {
    let since = Instant::now();
    while told(words).is_empty() {
        assert!(since.elapsed() < PATIENCE, "nobody said: {words}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn start(change: impl FnOnce(&mut NodeSettings), machine: Lengths) -> (Node<Lengths>, Gate) {
    static START: Once = Once::new();
    START.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(|| LogWriter)
            .init();
    });
    let (id, gate) = (NodeId(1), Gate::default());
    let mut settings = NodeSettings::new(id, vec![id]);
    change(&mut settings);
    let backend = MemoryStorage::new(Identity::new("told", id));
    let storage = Box::new(Gated { backend, gate: gate.clone() });
    let transport = Box::new(MemoryNetwork::new().bind(id));
    let node = Node::start(settings, transport, storage, machine).expect("it starts");
    until(&node, "it leads", |status| status.role == Role::Leader).await;
    (node, gate)
}

#[tokio::test]
async fn a_disk_that_neither_fails_nor_returns_is_told_once_and_its_return_too() {
    let (node, gate) = start(|_| {}, Lengths::default()).await;
    gate.close();
    let client = node.client();
    let command = tokio::spawn(async move { client.propose(Bytes::from_static(b"one")).await });
    wait_for("the disk has not answered for 5 s").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(told("the disk has not answered").len(), 1);
    gate.open();
    wait_for("the disk answers again").await;
    let _ = command.await.expect("no panic"); // Its time may have passed.
    node.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_slow_state_machine_is_told_with_its_slot() {
    let machine = Lengths { pause: Duration::from_secs(4), ..Lengths::default() };
    let (node, _) = start(|_| {}, machine).await;
    let slot = node.client().propose(Bytes::from_static(b"one")).await.expect("it leads").slot;
    wait_for("the state machine was slow").await;
    let after = told("the state machine was slow").concat();
    assert!(after.contains(&format!("slot={slot}")) && after.contains("seconds=4"), "{after}");
    let during = told("has not returned from one slot for long").concat();
    assert!(during.contains(&format!("slot={slot}")), "it is told before it is done: {during}");
    assert_eq!(told("the state machine has returned").len(), 1);
}

#[tokio::test]
async fn a_long_turn_is_told_with_what_it_did() {
    let machine = Lengths { pause: Duration::from_millis(200), ..Lengths::default() };
    let limit = Some(Duration::from_millis(50));
    let change = |settings: &mut NodeSettings| {
        settings.applying = ApplyMode::Inline; // As no state machine should that is so slow.
        settings.turn_limit = limit;
    };
    let (node, _) = start(change, machine).await;
    node.client().propose(Bytes::from_static(b"one")).await.expect("it leads");
    wait_for("one turn of the node took").await;
    wait_for("turn limit exceeded: a turn took").await;
}

#[tokio::test]
async fn a_task_that_keeps_the_node_from_its_turn_is_told() {
    let (_node, _) =
        start(|settings| settings.turn_limit = Some(Duration::from_millis(50)), Lengths::default()).await;
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(600) {
        std::hint::black_box(since); // On the node's thread.
    }
    wait_for("a turn of the node began").await;
    wait_for("turn limit exceeded: the way to a turn took").await;
}
