//! The transports and storages of the examples beside ours: `cargo bench -p benches --bench examples`.
//!
//! A user's own backends get there in the same way. `-- FILE.html` writes the page with the charts, too.

#![allow(dead_code, reason = "the examples can do more than what is measured here")]
#![allow(clippy::duplicate_mod, reason = "each example has the module that they share")]

#[path = "../../paxos-transport/examples/noq.rs"]
mod noq_example;
#[path = "../../paxos-storage/examples/redb/storage.rs"]
mod redb_example;
#[path = "../../paxos-transport/examples/udp.rs"]
mod udp_example;
#[cfg(unix)]
#[path = "../../paxos-transport/examples/unix.rs"]
mod unix_example;

use std::error::Error;
use std::time::Duration;

use paxos_node::bench::Bench;
use paxos_node::in_process::{BoxError, Carriage, Site, StorageFactory, TransportFactory};
use paxos_transport::Peer;
use paxos_transport::backend::HubConfig;

const VALUE_BYTES: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let report = Bench::new()
        .with_transport(unix())
        .with_transport(udp())
        .with_transport(noq())
        .with_storage(redb())
        .value_bytes([VALUE_BYTES])
        .clients([1, 64])
        .rounds(3)
        .warm_up(Duration::from_millis(300))
        .time(Duration::from_secs(1))
        // On the disk of the sources: the system's temporary directory may be in memory.
        .data(env!("CARGO_TARGET_TMPDIR").into())
        .command("cargo bench -p benches --bench examples")
        .run()?;
    println!("{}", report.table());
    if let Some(page) = std::env::args().skip(1).find(|argument| !argument.starts_with('-')) {
        std::fs::write(page, report.page())?;
    }
    Ok(())
}

#[cfg(unix)]
fn unix() -> TransportFactory {
    TransportFactory::new("unix", |site| async move {
        let socket = |node| site.directory().join(format!("{node}.sock"));
        let others = site.nodes().iter().filter(|node| **node != site.node());
        let peers: Vec<_> =
            others.map(|node| Peer::new(*node, socket(*node).display().to_string())).collect();
        Ok(unix_example::unix::bind(HubConfig::new(site.node()), &socket(site.node()), &peers)?)
    })
}

#[cfg(not(unix))]
fn unix() -> TransportFactory {
    paxos_node::in_process::TransportKind::Memory.into()
}

fn udp() -> TransportFactory {
    use udp_example::support::Bind;
    TransportFactory::new("udp", |site| async move {
        let (listen, peers) = addresses(&site)?;
        Ok(udp_example::Udp.bind(HubConfig::new(site.node()), &listen, &peers).await?)
    })
    .carried_in(Carriage::Datagrams)
}

fn noq() -> TransportFactory {
    use noq_example::support::Bind;
    TransportFactory::new("noq", |site| async move {
        let (listen, peers) = addresses(&site)?;
        let noq = site.shared(|| Ok(noq_example::Noq::new(site.nodes(), noq_example::Congestion::Cubic)))?;
        Ok(noq.bind(HubConfig::new(site.node()), &listen, &peers).await?)
    })
    .carried_in(Carriage::Datagrams)
}

fn redb() -> StorageFactory {
    StorageFactory::new("redb", |site| {
        std::fs::create_dir(site.own_path())?;
        Ok(redb_example::RedbStorage::make(&site.own_path(), &site.identity())?)
    })
    .synced_by("fdatasync")
}

/// Where a node listens, and where it reaches the others.
fn addresses(site: &Site) -> Result<(String, Vec<Peer>), BoxError> {
    let peers = site.peers()?.into_iter().map(|(node, address)| Peer::new(node, address.to_string()));
    Ok((site.listen_address()?.to_string(), peers.collect()))
}
