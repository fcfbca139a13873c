//! Full two-phase rounds against the leader's fast path, over every transport and storage.
//!
//! Three nodes in this process, on a thread of their own with a current-thread runtime; one client on the
//! leader, one 256-byte command at a time.

use std::io;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use paxos_core::{NodeId, PhaseOne, Role, Slot};
use paxos_node::{Node, NodeSettings, SnapshotWriter, StateMachine, WriterMode};
use paxos_storage::file::{self, FileStorage};
use paxos_storage::memory::MemoryStorage;
use paxos_storage::{Identity, Storage};
use paxos_transport::memory::MemoryNetwork;
use paxos_transport::{NetworkConfig, TlsIdentity, Transport, certs, quic, tcp};
use tokio::sync::mpsc;

const COMMAND_BYTES: usize = 256;
const CLUSTER: &str = "benches";
const MEMBERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// A state machine that costs nothing.
struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, _: Slot, _: &Bytes) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }

    fn digest(&self) -> u64 {
        0
    }
}

#[derive(Clone, Copy)]
struct Setup {
    phase_one: PhaseOne,
    transport: &'static str,
    storage: &'static str,
}

/// A cluster that runs on a thread of its own and measures there: it must go on ticking between measurements.
struct Running {
    orders: mpsc::UnboundedSender<u64>,
    times: blocking::Receiver<Duration>,
}

impl Running {
    fn start(setup: Setup) -> Running {
        let (orders, received) = mpsc::unbounded_channel();
        let (finished, times) = blocking::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(serve(setup, received, finished));
        });
        Running { orders, times }
    }

    fn measure(&self, commands: u64) -> Duration {
        self.orders.send(commands).expect("the cluster runs");
        self.times.recv().expect("the cluster runs")
    }
}

async fn serve(setup: Setup, mut orders: mpsc::UnboundedReceiver<u64>, times: blocking::Sender<Duration>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    certs::write_cluster(directory.path(), CLUSTER, &MEMBERS, &[]).expect("certificates are made");
    let network = MemoryNetwork::default();
    let ports: Vec<u16> = free_ports();
    let mut nodes = Vec::new();
    for node in MEMBERS {
        let transport = bind(setup.transport, node, &network, directory.path(), &ports).await;
        let mut settings = NodeSettings::new(node, MEMBERS.to_vec());
        settings.protocol.phase_one = setup.phase_one;
        if setup.storage == "memory" {
            settings.writer = WriterMode::Inline;
        }
        let storage = open(setup.storage, node, directory.path());
        nodes.push(Node::start(settings, transport, storage, Nothing).expect("the node starts"));
    }
    let leader = loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if let Some(leader) = nodes.iter().find(|node| node.status().borrow().role == Role::Leader) {
            break leader.client();
        }
    };
    let command = Bytes::from(vec![b'x'; COMMAND_BYTES]);
    while let Some(commands) = orders.recv().await {
        let start = Instant::now();
        for _ in 0..commands {
            leader.propose(command.clone()).await.expect("nothing fails here");
        }
        if times.send(start.elapsed()).is_err() {
            break;
        }
    }
    for node in nodes {
        node.stop().await.expect("the node has not failed");
    }
}

async fn bind(
    kind: &str,
    node: NodeId,
    network: &MemoryNetwork,
    directory: &Path,
    ports: &[u16],
) -> Box<dyn Transport> {
    if kind == "memory" {
        return Box::new(network.bind(node));
    }
    let address =
        |node: NodeId| format!("127.0.0.1:{}", ports[usize::try_from(node.0 - 1).expect("a small id")]);
    let identity = TlsIdentity::load(directory, node, CLUSTER).expect("the certificates are there");
    let peers = MEMBERS.into_iter().map(|node| (node, address(node))).collect();
    let listen = address(node).parse().expect("the address is one");
    let config = NetworkConfig::new(node, listen, peers, identity);
    match kind {
        "quic" => Box::new(quic::bind(config).await.expect("the port is free")),
        _ => Box::new(tcp::bind(config).await.expect("the port is free")),
    }
}

fn open(kind: &str, node: NodeId, directory: &Path) -> Box<dyn Storage> {
    let identity = Identity::new(CLUSTER, node);
    if kind == "memory" {
        return Box::new(MemoryStorage::new(identity));
    }
    let directory = directory.join(format!("data-{node}"));
    file::format(&directory, &identity).expect("the directory is new");
    Box::new(FileStorage::open(&directory, file::Options::default()).expect("the directory is formatted"))
}

fn free_ports() -> Vec<u16> {
    let sockets: Vec<UdpSocket> =
        MEMBERS.iter().map(|_| UdpSocket::bind("127.0.0.1:0").expect("there are free ports")).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("a bound socket has an address").port()).collect()
}

fn print_counts() {
    println!("exact cost of one {COMMAND_BYTES}-byte command on three nodes, counted:\n");
    println!(
        "{:<12} {:>9} {:>7} {:>12} {:>7} {:>18}",
        "", "messages", "bytes", "round trips", "syncs", "syncs in sequence"
    );
    for (name, phase_one) in [("fast path", PhaseOne::OncePerLeader), ("full round", PhaseOne::EveryValue)] {
        let cost = benches::cost::count(phase_one, 3, COMMAND_BYTES);
        println!(
            "{name:<12} {:>9} {:>7} {:>12} {:>7} {:>18}",
            cost.messages, cost.bytes, cost.round_trips, cost.syncs, cost.syncs_in_sequence
        );
    }
    println!();
}

fn compare(criterion: &mut Criterion) {
    print_counts();
    let mut group = criterion.benchmark_group("one command on three nodes");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for transport in ["memory", "quic", "tcp"] {
        for storage in ["memory", "file"] {
            for (name, phase_one) in
                [("fast path", PhaseOne::OncePerLeader), ("full round", PhaseOne::EveryValue)]
            {
                let cluster = Running::start(Setup { phase_one, transport, storage });
                let name = format!("{name}, {transport}, {storage}");
                group.bench_function(name, |bencher| {
                    bencher.iter_custom(|commands| cluster.measure(commands));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(phases, compare);
criterion_main!(phases);
