//! Snapshots that take long to write or to restore: `src/runtime/snapshots.rs`.
#![cfg(feature = "memory")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::Slot;
use paxos_node::{Node, NodeSettings, Status};
use paxos_transport::memory::MemoryNetwork;
use tokio::time::{sleep, timeout};

use support::embedded::{Lengths, MEMBERS, PATIENCE, PROMPTLY, alone, disk, led, start_alone, until};

/// Three nodes of which the last one was away for long, and does not come to the end of a restore as long as
/// the gate is closed.
async fn start_restoring(machine: &Lengths) -> (Node<Lengths>, Node<Lengths>, Node<Lengths>) {
    let (network, disks) = (MemoryNetwork::new(), MEMBERS.map(disk));
    let start = |place: usize| {
        let id = MEMBERS[place];
        let mut settings = NodeSettings::new(id, MEMBERS.to_vec());
        settings.snapshot_after_bytes = 64 << 10;
        settings.protocol.retained_bytes = 0;
        let storage = Box::new(disks[place].clone());
        Node::start(settings, Box::new(network.bind(id)), storage, machine.clone()).expect("it starts")
    };
    let mut nodes = vec![start(0), start(1), start(2)];
    led(&nodes).await;
    nodes.remove(2).stop().await.expect("it stops");
    let is_led = |status: &Status| status.leader.is_some_and(|leader| leader != MEMBERS[2]);
    until(&nodes[0], "one of the others leads", is_led).await;
    for _ in 0..50 {
        nodes[0].client().propose(Bytes::from(vec![0; 4 << 10])).await.expect("two are a majority");
    }
    machine.restoring.close();
    let late = start(2);
    until(&late, "it hears of what it misses", |status| status.known_chosen >= Slot(50)).await;
    let reading = async {
        // At some point the restore holds the state, and readers wait, without blocking the thread.
        while timeout(Duration::from_millis(200), late.client().read_stale_with(|state| state.sum))
            .await
            .is_ok()
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, reading).await.expect("the restore begins");
    let second = nodes.remove(1);
    (nodes.remove(0), second, late)
}

#[tokio::test]
async fn a_node_that_restores_a_snapshot_goes_on_and_its_readers_wait_without_blocking() {
    let machine = Lengths::default();
    let (first, second, late) = start_restoring(&machine).await;
    let client = late.client();
    // Two can go on only if the one that restores accepts.
    second.stop().await.expect("it stops");
    let command = Bytes::from_static(b"one");
    first.client().propose(command).await.expect("the one that restores is part of the majority");
    machine.restoring.open();
    until(&late, "it catches up", |status| status.applied >= Slot(51)).await;
    assert_eq!(client.read_with(|state| state.sum).await, Ok(50 * (4 << 10) + 3));
}

#[tokio::test]
async fn a_node_stops_while_a_snapshot_is_written_or_restored() {
    let machine = Lengths::default();
    machine.writing.close();
    let node = start_alone(alone().with(|settings| settings.snapshot_after_bytes = 1), machine.clone()).await;
    node.client().propose(Bytes::from_static(b"one")).await.expect("it leads");
    sleep(Duration::from_millis(100)).await;
    let since = Instant::now();
    node.stop().await.expect("it stops, and waits for no snapshot");
    assert!(since.elapsed() < PROMPTLY);
    machine.writing.open();

    let (_first, _second, late) = start_restoring(&machine).await;
    let since = Instant::now();
    late.stop().await.expect("it stops, and waits for no restore");
    assert!(since.elapsed() < PROMPTLY);
    machine.restoring.open();
}
