//! Full two-phase rounds against the leader's fast path, over every transport and storage.
//!
//! Three nodes in this process, on a thread of their own with a current-thread runtime; one client on the
//! leader, one 256-byte command at a time.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use benches::nothing::Nothing;
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use paxos_core::{PhaseOne, ProtocolSettings};
use paxos_node::in_process::{Cluster, Member, Setup, StorageKind, Threads, TransportKind};

const COMMAND_BYTES: usize = 256;

/// How long one client takes for so many commands, one after the other, on the leader's own thread.
fn time(leader: &Member<Nothing>, commands: u64) -> Duration {
    let client = leader.client.clone();
    let command = Bytes::from(vec![b'x'; COMMAND_BYTES]);
    let (finished, time) = mpsc::channel();
    leader.runtime.spawn(async move {
        let start = Instant::now();
        for _ in 0..commands {
            client.propose(command.clone()).await.expect("nothing fails here");
        }
        finished.send(start.elapsed())
    });
    time.recv().expect("the cluster runs")
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
    for &transport in TransportKind::COMPILED {
        for &storage in StorageKind::COMPILED {
            for (name, phase_one) in
                [("fast path", PhaseOne::OncePerLeader), ("full round", PhaseOne::EveryValue)]
            {
                let protocol = ProtocolSettings::default().with(|settings| settings.phase_one = phase_one);
                let setup = Setup::new(transport, storage).with(|setup| {
                    setup.threads = Threads::Shared;
                    setup.protocol = protocol;
                });
                let cluster = Cluster::start(&setup, || Nothing).expect("the cluster starts");
                // Elected before anything is timed: criterion takes the first command for as slow as all
                // others.
                let leader = cluster.leader().expect("without faults there is a leader");
                let name = format!("{name}, {}, {}", transport.name(), storage.name());
                group.bench_function(name, |bencher| {
                    bencher.iter_custom(|commands| time(leader, commands));
                });
                cluster.stop().expect("no node has failed");
            }
        }
    }
    group.finish();
}

criterion_group!(phases, compare);
criterion_main!(phases);
