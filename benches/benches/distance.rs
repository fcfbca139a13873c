//! What the leader's fast path saves where nodes are far apart: `cargo bench -p benches --bench distance`.
//!
//! Clusters on the real backends, 10 ms from each node to each other on an emulated network, so that distance
//! is nearly all of the cost: two hops and a sync for a command on the fast path, four hops and three syncs
//! for a full round. With `--check` it fails if a median is further from the two hops and the sync than
//! three parts of a hundred, if one lost packet of a hundred shows in the 99th percentile of QUIC, or if the
//! fast path saves anything but one round trip of two.

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use benches::goal::{Goal, judge};
use paxos_node::bench::{Bench, Error, Place, Protocol, Report, Row};
use paxos_node::in_process::{StorageKind, TransportKind};

const HOP_MILLISECONDS: f64 = 10.0;
const WITHOUT_LOSS: &str = "delay=10ms";
const WITH_LOSS: &str = "delay=10ms,loss=1%";
const VALUE_BYTES: usize = 256;
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(5);
/// Enough for some losses, and for the 99th percentile to lie well within the commands.
const TIME_WITH_LOSS: Duration = Duration::from_secs(20);

const MEDIAN: RangeInclusive<f64> = 0.97..=1.03;
const SLOWEST_WITH_LOSS: RangeInclusive<f64> = 0.97..=1.10;
const SAVED: RangeInclusive<f64> = 1.95..=2.05;

fn main() -> ExitCode {
    let is_check = std::env::args().any(|argument| argument == "--check");
    match measure() {
        Ok(goals) => {
            let is_met = judge(&goals).is_empty();
            if is_check && !is_met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("distance: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures with and without loss, prints the tables, and judges them.
fn measure() -> Result<Vec<Goal>, Error> {
    let protocols = [Protocol::FastPath, Protocol::FullRounds];
    let near = bench(WITHOUT_LOSS).protocols(protocols).time(TIME).run()?;
    println!("{}", near.table());
    let lossy = bench(WITH_LOSS).time(TIME_WITH_LOSS).run()?;
    println!("{}", lossy.table());
    let mut goals = Vec::new();
    for transport in [TransportKind::Tcp, TransportKind::Quic] {
        let median = |protocol| row(&near, transport, protocol).p50_milliseconds;
        let (fast, full) = (median(Protocol::FastPath), median(Protocol::FullRounds));
        goals.push(Goal {
            what: format!("{transport}: median of a commit, over two hops and a sync"),
            value: fast / counted(&near),
            bounds: MEDIAN,
            unit: "",
        });
        goals.push(Goal {
            what: format!("{transport}: median of a full round, over that of the fast path"),
            value: full / fast,
            bounds: SAVED,
            unit: "",
        });
    }
    goals.push(Goal {
        what: String::from("quic: 99th percentile with 1 % of packets lost, over two hops and a sync"),
        value: row(&lossy, TransportKind::Quic, Protocol::FastPath).p99_milliseconds / counted(&lossy),
        bounds: SLOWEST_WITH_LOSS,
        unit: "",
    });
    Ok(goals)
}

fn bench(network: &str) -> Bench {
    Bench::new()
        .transports([TransportKind::Tcp, TransportKind::Quic])
        .storages([StorageKind::File])
        .networks([Some(network.parse().expect("the settings are valid"))])
        .value_bytes([VALUE_BYTES])
        .clients([1])
        .rounds(ROUNDS)
        // On the disk of the sources: the system's temporary directory may be in memory.
        .data(env!("CARGO_TARGET_TMPDIR").into())
        .command("cargo bench -p benches --bench distance")
}

/// What a commit costs by the count of its hops and syncs, in milliseconds.
fn counted(report: &Report) -> f64 {
    let sync = report.machine.sync_microseconds.expect("logs are on a disk, whose sync was measured");
    2.0 * HOP_MILLISECONDS + sync / 1000.0
}

fn row(report: &Report, transport: TransportKind, protocol: Protocol) -> &Row {
    let is_it = |row: &&Row| match &row.place {
        Place::InProcess { transport: name, protocol: of, .. } => name == transport.name() && *of == protocol,
        _ => false,
    };
    report.rows.iter().find(is_it).expect("each transport is measured with each protocol")
}
