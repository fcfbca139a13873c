//! Measures round trips between two nodes of this process, for each backend:
//! `cargo run --release -p paxos-transport --features certs --example ping`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use bytes::Bytes;
use paxos_core::NodeId;
use paxos_transport::memory::MemoryNetwork;
use paxos_transport::{Lane, NetworkConfig, TlsIdentity, Transport, TransportExt, certs, quic, tcp};

const ROUNDS: usize = 5000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{:<8} {:>8} {:>12} {:>12}", "backend", "bytes", "median", "p99");
    for bytes in [128, 4096, 65536] {
        let network = MemoryNetwork::default();
        ping("memory", bytes, Box::new(network.bind(NodeId(1))), Box::new(network.bind(NodeId(2)))).await;
        let (one, two) = (config(NodeId(1), 9801)?, config(NodeId(2), 9801)?);
        ping("quic", bytes, Box::new(quic::bind(one).await?), Box::new(quic::bind(two).await?)).await;
        let (one, two) = (config(NodeId(1), 9803)?, config(NodeId(2), 9803)?);
        ping("tcp", bytes, Box::new(tcp::bind(one).await?), Box::new(tcp::bind(two).await?)).await;
        tokio::time::sleep(std::time::Duration::from_millis(700)).await; // until the sockets are free again
    }
    Ok(())
}

fn config(node: NodeId, port: u64) -> Result<NetworkConfig, Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("paxos-ping-{}", std::process::id()));
    if !directory.exists() {
        certs::write_cluster(&directory, "ping", &[NodeId(1), NodeId(2)], &[])?;
    }
    let address = |node: u64| format!("127.0.0.1:{}", port + node - 1);
    let peers = BTreeMap::from([(NodeId(1), address(1)), (NodeId(2), address(2))]);
    let identity = TlsIdentity::load(&directory, node, "ping")?;
    Ok(NetworkConfig::new(node, address(node.0).parse()?, peers, identity))
}

async fn ping(name: &str, bytes: usize, mut one: Box<dyn Transport>, mut two: Box<dyn Transport>) {
    while !(one.is_connected(NodeId(2)) && two.is_connected(NodeId(1))) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let frame = Bytes::from(vec![0; bytes]);
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        one.send(NodeId(2), Lane::Log, frame.clone());
        if let Some(received) = two.receive().await {
            two.send(NodeId(1), Lane::Log, received.frame);
        }
        one.receive().await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("{name:<8} {bytes:>8} {:>12.1?} {:>12.1?}", times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    one.close().await;
    two.close().await;
}
