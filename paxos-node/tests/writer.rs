//! Storages that hang or panic: `src/runtime/writer`.
#![cfg(feature = "memory")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{NodeId, Role, Slot};
use paxos_node::{ClientError, Node, NodeError, WriterMode};
use paxos_transport::memory::MemoryNetwork;
use tokio::time::{sleep, timeout};

use support::embedded::{
    Gate, Gated, Lengths, PATIENCE, PROMPTLY, alone, assert_led_on, disk, led, start, until,
};

#[tokio::test]
async fn a_storage_that_panics_stops_its_node_with_what_it_said() {
    for writer in [WriterMode::Thread, WriterMode::Inline] {
        for is_broken_at_once in [true, false] {
            let gate = Gate::default();
            if is_broken_at_once {
                gate.break_down();
            }
            let storage = Box::new(Gated { backend: disk(NodeId(1)), gate: gate.clone() });
            let transport = Box::new(MemoryNetwork::new().bind(NodeId(1)));
            let settings = alone().with(|settings| settings.writer = writer);
            let mut node = Node::start(settings, transport, storage, Lengths::default()).expect("it starts");
            if !is_broken_at_once {
                until(&node, "it leads", |status| status.role == Role::Leader).await;
                gate.break_down();
                node.client().propose(Bytes::from_static(b"one")).await.expect_err("nothing can be written");
            }
            let error = timeout(PATIENCE, node.failed()).await.expect("it fails in time");
            let said = error.to_string();
            assert!(matches!(error, NodeError::Storage(_)), "{said}");
            assert_eq!(said, "the storage panicked: the gate is broken");
            assert_eq!(node.client().read_with(|state| state.sum).await, Err(ClientError::Stopped));
            node.stop().await.expect_err("it had failed");
        }
    }
}

#[tokio::test]
async fn a_disk_that_hangs_costs_its_node_nothing_but_what_needs_the_disk() {
    let (mut nodes, gates) = start(|_| {}, &Lengths::default());
    let leader = led(&nodes).await;
    let (hanging, other) = ((leader + 1) % 3, (leader + 2) % 3);
    gates[hanging].close();
    let client = nodes[other].client();
    for _ in 0..20 {
        client.propose(Bytes::from_static(b"one")).await.expect("two of three are enough");
    }
    // It hears of what is chosen, and applies it: that needs no disk.
    until(&nodes[hanging], "the node with the hanging disk goes on", |status| status.applied >= Slot(20))
        .await;
    assert_eq!(nodes[hanging].client().read_with(|state| state.sum).await, Ok(60));
    assert_led_on(&nodes, leader, Duration::from_secs(1)).await;
    let since = Instant::now();
    let stopped = nodes.remove(hanging).stop().await;
    assert!(matches!(stopped, Err(NodeError::StorageSilent)), "{stopped:?}");
    assert!(since.elapsed() < PROMPTLY, "it stopped after {:?}", since.elapsed());
    gates[hanging].open();
}

#[tokio::test]
async fn a_leader_whose_disk_hangs_goes_on_with_those_of_the_others() {
    let (nodes, gates) = start(|_| {}, &Lengths::default());
    let leader = led(&nodes).await;
    gates[leader].close();
    for _ in 0..20 {
        let applied = nodes[leader].client().propose(Bytes::from_static(b"one")).await;
        applied.expect("the others are a majority");
    }
    assert_led_on(&nodes, leader, Duration::from_secs(1)).await;
    gates[leader].open();
}

#[tokio::test]
async fn a_node_without_space_finishes_the_snapshot_that_makes_room() {
    let (mut nodes, gates) = start(|settings| settings.snapshot_after_bytes = 4096, &Lengths::default());
    let leader = led(&nodes).await;
    let (full, other) = ((leader + 1) % 3, (leader + 2) % 3);
    gates[full].fill_up();
    let client = nodes[leader].client();
    for _ in 0..100 {
        client.propose(Bytes::from(vec![b'x'; 100])).await.expect("two of three are enough");
    }
    let made_room = async {
        while gates[full].is_full() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, made_room).await.expect("its snapshot gets finished");
    nodes.remove(other).stop().await.expect("it stops");
    let proposed = timeout(PATIENCE, client.propose(Bytes::from_static(b"one"))).await;
    proposed.expect("it is answered").expect("the node with room again writes");
}
