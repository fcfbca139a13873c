//! Backends of a user's own beside those of the workspace: `src/in_process`, `src/bench`.
#![cfg(all(feature = "bench", feature = "memory"))]

use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use paxos_node::bench::{Bench, Error, Work};
use paxos_node::in_process::{
    self, Carriage, Cluster, Setup, StorageFactory, StorageKind, TransportFactory, TransportKind,
};
use paxos_node::kv::Store;
use paxos_storage::memory::MemoryStorage;
use paxos_transport::memory::{MemoryNetwork, MemoryTransport};
use paxos_transport::{Lane, Peer, PeerStatus, Received, SendOutcome, SetPeersError, Transport};

/// A transport that nobody here knows: it loses every tenth frame.
struct Leaky {
    inner: MemoryTransport,
    sent: std::sync::atomic::AtomicU64,
}

#[async_trait]
impl Transport for Leaky {
    fn local_node(&self) -> NodeId {
        self.inner.local_node()
    }

    fn max_frame_bytes(&self) -> usize {
        self.inner.max_frame_bytes()
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        let number = self.sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if number % 10 == 9 { SendOutcome::Queued } else { self.inner.send(to, lane, frame) }
    }

    fn set_peers(&mut self, peers: &[Peer]) -> Result<(), SetPeersError> {
        self.inner.set_peers(peers)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        self.inner.poll_receive(context)
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.inner.peers()
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }
}

fn leaky() -> TransportFactory {
    TransportFactory::new("leaky", |site| async move {
        let network = site.shared(|| Ok(MemoryNetwork::default()))?;
        Ok(Leaky { inner: network.bind(site.node()), sent: std::sync::atomic::AtomicU64::new(0) })
    })
}

fn brief() -> Bench {
    let (warm_up, time) = (Duration::from_millis(50), Duration::from_millis(200));
    Bench::new().value_bytes([16]).clients([1, 4]).warm_up(warm_up).time(time)
}

#[test]
fn own_backends_stand_beside_ours_in_the_table_the_charts_the_page_and_json() {
    let report = brief()
        .transports([TransportKind::Memory])
        .with_transport(leaky())
        .storages([StorageKind::Memory])
        .storage("shelf", |site| Ok(MemoryStorage::new(site.identity())))
        .works([Work::Set, Work::Get])
        .run()
        .expect("every combination can be measured");
    let table = report.table();
    for place in ["memory + memory", "memory + shelf", "leaky + memory", "leaky + shelf"] {
        assert_eq!(table.lines().filter(|line| line.starts_with(place)).count(), 4, "{place} in:\n{table}");
        assert!(report.page().contains(place), "{place} in the page");
        assert!(report.charts().iter().all(|chart| chart.svg.contains(place)), "{place} in all charts");
    }
    assert!(report.rows.iter().all(|row| row.requests > 0 && row.errors == 0), "{table}");
    assert!(report.rows.iter().any(|row| row.messages_per_request.is_some()), "{table}");
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("it is JSON");
    assert_eq!(json["rows"][4]["place"]["in-process"]["storage"], "shelf");
    assert_eq!(json["rows"][4]["sync_mode"], serde_json::Value::Null, "it has not said how it syncs");
}

#[test]
fn a_transport_that_does_not_pass_the_emulated_network_is_told_from_one_that_does() {
    let network = || "delay=2ms".parse().expect("the settings are valid");
    let measure = |carriage| {
        brief()
            .transports([leaky().carried_in(carriage)])
            .storages([StorageKind::Memory])
            .networks([Some(network())])
            .run()
    };
    let report = measure(Carriage::Frames).expect("its frames are delayed");
    assert!(report.rows.iter().all(|row| row.leader == Some(1)), "the first node leads, wherever it is");
    assert!(report.rows[0].p50_milliseconds > 4.0, "{}", report.table());
    let failed = measure(Carriage::Streams);
    assert!(matches!(failed, Err(Error::NotEmulated { .. })), "it has no streams");
}

#[test]
fn a_factory_that_fails_is_named_with_its_error() {
    let broken = TransportFactory::new("broken", |_| async {
        Err::<MemoryTransport, _>(std::io::Error::other("no pigeons today").into())
    });
    let failed = Cluster::start(&Setup::new(broken, StorageKind::Memory), Store::default);
    let error = failed.expect_err("there is no transport").to_string();
    assert_eq!(error, "can't set up broken for node 1: no pigeons today");
    let full = StorageFactory::new("full", |_| Err::<MemoryStorage, _>("no shelf is free".into()));
    let failed = Cluster::start(&Setup::new(TransportKind::Memory, full), Store::default);
    assert!(matches!(failed, Err(in_process::Error::Factory { name, .. }) if name == "full"));
}

#[test]
fn all_nodes_of_a_cluster_share_what_the_first_has_made_and_no_other_cluster_does() {
    struct Counter(std::sync::Mutex<u64>);
    let factory = TransportFactory::new("counting", |site| async move {
        let counter = site.shared(|| Ok(Counter(std::sync::Mutex::new(0))))?;
        *counter.0.lock().expect("nothing panics under it") += 1;
        let bound = *counter.0.lock().expect("nothing panics under it");
        assert_eq!(bound, site.node().0, "one for each node before it, in this cluster");
        // Asking for one thing while another is made does not block.
        let network = site.shared(|| Ok(site.shared(|| Ok(MemoryNetwork::default()))?.as_ref().clone()))?;
        Ok(network.bind(site.node()))
    });
    for _ in 0..2 {
        let setup = Setup::new(factory.clone(), StorageKind::Memory);
        Cluster::start(&setup, Store::default).and_then(Cluster::stop).expect("it starts and stops");
    }
}

#[test]
fn what_can_not_be_measured_is_refused_before_anything_is_started() {
    let out_of_range = |bench: Bench| match bench.prepare() {
        Err(Error::OutOfRange { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(out_of_range(Bench::new().clients([1, 0])), "clients");
    assert_eq!(out_of_range(Bench::new().value_bytes([2 << 20])), "value-bytes");
    assert_eq!(out_of_range(Bench::new().nodes(10)), "nodes");
    assert_eq!(out_of_range(Bench::new().rounds(0)), "rounds");
    assert!(matches!(Bench::new().clients([]).prepare(), Err(Error::Nothing { what: "clients" })));
    let none: [TransportKind; 0] = [];
    assert!(matches!(Bench::new().transports(none).prepare(), Err(Error::Nothing { what: "transport" })));
    assert!(matches!(Bench::new().pipelines([16]).prepare(), Err(Error::PipelineInProcess)));
    let twice = Bench::new().storage("file", |site| Ok(MemoryStorage::new(site.identity())));
    assert!(matches!(twice.prepare(), Err(Error::SameName { what: "storage", name }) if name == "file"));
    assert!(matches!(Bench::new().time(Duration::ZERO).prepare(), Err(Error::NoTime)));
    let running = Bench::of_running([String::from("127.0.0.1:1")]).works([Work::GetThroughLog]);
    assert!(matches!(running.prepare(), Err(Error::ThroughLogOfRunning)));
}
