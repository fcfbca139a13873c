//! A program that ends without stopping its node: nothing panics. `src/node.rs`.
#![cfg(feature = "memory")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use paxos_core::{NodeId, Role};
use paxos_node::{Node, NodeSettings};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;

use support::embedded::{Lengths, until};

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_runtime_that_ends_before_its_node_leaves_no_panic_behind() {
    let standard = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        standard(panic);
    }));
    for _ in 0..3 {
        for is_dropped_before in [false, true] {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.expect("there are threads");
            let node = runtime.block_on(async {
                let id = NodeId(1);
                let storage = Box::new(MemoryStorage::new(Identity::new("leaving", id)));
                let transport = Box::new(MemoryNetwork::new().bind(id));
                let settings = NodeSettings::new(id, vec![id]);
                let node = Node::start(settings, transport, storage, Lengths::default()).expect("it starts");
                until(&node, "it leads", |status| status.role == Role::Leader).await;
                node.client().propose(Bytes::from_static(b"one")).await.expect("it leads");
                node
            });
            if is_dropped_before {
                drop(node);
                drop(runtime);
            } else {
                drop(runtime);
                drop(node);
            }
        }
    }
    std::thread::sleep(Duration::from_millis(200)); // What is left of them ends meanwhile.
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "something of a node has panicked");
}
