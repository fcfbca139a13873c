//! Every backend passes the conformance suite, on one thread and on several.
#![cfg(all(feature = "memory", feature = "quic", feature = "tcp"))]

mod common;

use async_trait::async_trait;
use common::{Cluster, Kind};
use paxos_core::NodeId;
use paxos_transport::Transport;
use paxos_transport::conformance::{self, Backend, NODES};
use paxos_transport::memory::MemoryNetwork;

struct Memory(MemoryNetwork);

#[async_trait]
impl Backend for Memory {
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        Box::new(self.0.bind(node))
    }
}

#[async_trait]
impl Backend for Cluster {
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        self.start_with(node, |config| config.max_frame_bytes = 5 << 20).await
    }

    fn address(&self, node: NodeId) -> String {
        self.config(node).peers[&node].clone()
    }

    async fn start_elsewhere(&mut self, node: NodeId) -> Box<dyn Transport> {
        self.forget_address(node);
        Backend::start(self, node).await
    }
}

#[tokio::test]
async fn memory_conforms() {
    conformance::check(&mut Memory(MemoryNetwork::new())).await;
}

#[tokio::test]
async fn quic_conforms_on_one_thread() {
    conformance::check(&mut Cluster::new(Kind::Quic, &NODES)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_conforms_on_several_threads() {
    conformance::check(&mut Cluster::new(Kind::Quic, &NODES)).await;
}

#[tokio::test]
async fn tcp_conforms_on_one_thread() {
    conformance::check(&mut Cluster::new(Kind::Tcp, &NODES)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_conforms_on_several_threads() {
    conformance::check(&mut Cluster::new(Kind::Tcp, &NODES)).await;
}
