//! What independent streams buy where packets get lost: `cargo bench -p benches --bench loss [--
//! PERCENT...]`.
//!
//! For each loss rate the program runs itself in a network namespace of its own, whose loopback loses packets
//! at random: needs Linux, root, and `unshare`, `ip` and `nft`. Nothing outside of the namespace changes, and
//! it goes with the process.

mod load;
mod namespace;

use std::process::ExitCode;
use std::time::Duration;

use benches::loss::{LossRate, MTU_BYTES, Packets};
use benches::nothing::Nothing;
use benches::statistics::{median, percentile};
use paxos_core::ProtocolSettings;
use paxos_node::in_process::{Cluster, Setup, StorageKind, TransportFactory, TransportKind};

use self::load::{Measured, measure};

const PERCENTS: [&str; 4] = ["0", "0.1", "1", "3"];
const ROUNDS: usize = 3;
/// How long each round measures, and how long the load lasts before.
const TIME: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
const CASES: [Case; 3] = [
    Case { writers: 1, slots: Slots::OneEach },
    Case { writers: 64, slots: Slots::OneEach },
    Case { writers: 64, slots: Slots::Batches },
];

/// What is compared, the yardstick last.
const CONTENDERS: [Contender; 3] = [
    Contender { name: "quic, 4 streams", transport: TransportKind::Quic, log_streams: None },
    Contender { name: "quic, 1 stream", transport: TransportKind::Quic, log_streams: Some(1) },
    Contender { name: "tcp", transport: TransportKind::Tcp, log_streams: None },
];

#[derive(Clone, Copy)]
struct Contender {
    name: &'static str,
    transport: TransportKind,
    log_streams: Option<usize>,
}

#[derive(Clone, Copy)]
struct Case {
    writers: usize,
    slots: Slots,
}

#[derive(Clone, Copy)]
enum Slots {
    /// A slot, and so an accept, for each command.
    OneEach,
    /// As a node does it by default.
    Batches,
}

/// One contender in one round.
struct Sample {
    measured: Measured,
    packets: Packets,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let result = match &arguments[..] {
        [inside, percent] if inside == namespace::INSIDE => compare(percent),
        [] => namespace::run_for_each(&PERCENTS),
        percents => namespace::run_for_each(&percents.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs in the namespace.
fn compare(percent: &str) -> Result<(), String> {
    let rate: LossRate = percent.parse().map_err(|error| format!("{error}"))?;
    namespace::lose(rate)?;
    print_head(rate)?;
    for case in CASES {
        let mut samples: Vec<Vec<Sample>> = CONTENDERS.iter().map(|_| Vec::new()).collect();
        for round in 1..=ROUNDS {
            for (contender, samples) in CONTENDERS.iter().zip(&mut samples) {
                eprintln!(
                    "{rate} %: {} writers, {}, round {round} of {ROUNDS}",
                    case.writers, contender.name
                );
                samples.push(sample(*contender, case)?);
            }
        }
        for (contender, own) in CONTENDERS.iter().zip(&samples) {
            println!("{}", row(case, *contender, own, &samples));
        }
    }
    Ok(())
}

fn sample(contender: Contender, case: Case) -> Result<Sample, String> {
    let protocol = match case.slots {
        // A batch is full at its first command.
        Slots::OneEach => ProtocolSettings::default().with(|settings| settings.batch_bytes = 1),
        Slots::Batches => ProtocolSettings::default(),
    };
    let transport = match contender.log_streams {
        Some(count) => TransportFactory::quic(contender.name, move |config| config.log_streams = count),
        None => TransportFactory::from(contender.transport),
    };
    let setup = Setup::new(transport, StorageKind::Memory).with(|setup| setup.protocol = protocol);
    let cluster = Cluster::start(&setup, || Nothing).map_err(|error| error.to_string())?;
    let leader = cluster.leader().map_err(|error| error.to_string())?;
    let before = namespace::packets()?;
    let measured = measure(leader, case.writers);
    let packets = namespace::packets()?.since(before);
    cluster.stop().map_err(|error| error.to_string())?;
    Ok(Sample { measured, packets })
}

fn print_head(rate: LossRate) -> Result<(), String> {
    let segments = load::quic_segments()?;
    println!(
        "\n{rate} % of packets lost; three nodes in one process, 256-byte commands, medians of {ROUNDS} rounds; QUIC hands \
         the kernel up to {segments} packets at once,\nand both have them cut apart before the loss\n\n\
         {:<8}{:<9}{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}{:>7}{:>8}{:>6} {:<6}{:<16}sync",
        "writers",
        "slots",
        "transport",
        "commits/s",
        "p50 ms",
        "p99 ms",
        "99.9 ms",
        "p99:tcp",
        "99.9:tcp",
        "CPU s",
        "errors",
        "lost %",
        "MTU",
        "GSO",
        "runtime"
    );
    Ok(())
}

/// Medians over the rounds. What is compared with TCP is so within each round.
fn row(case: Case, contender: Contender, own: &[Sample], all: &[Vec<Sample>]) -> String {
    let tcp = all.last().expect("TCP is the last of the contenders");
    let over = |figure: &dyn Fn(&Sample) -> f64| median(own.iter().map(figure).collect());
    let at = |sample: &Sample, per_mille| percentile(&sample.measured.waits, per_mille).as_secs_f64() * 1e3;
    let to_tcp = |per_mille| {
        median(own.iter().zip(tcp).map(|(own, tcp)| at(own, per_mille) / at(tcp, per_mille)).collect())
    };
    format!(
        "{:<8}{:<9}{:<16}{:>9.0}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>8.2}{:>7}{:>8.2}{:>6} {:<6}{:<16}{}",
        case.writers,
        match case.slots {
            Slots::OneEach => "one each",
            Slots::Batches => "batches",
        },
        contender.name,
        over(&|sample| sample.measured.rate()),
        over(&|sample| at(sample, 500)),
        over(&|sample| at(sample, 990)),
        over(&|sample| at(sample, 999)),
        to_tcp(990),
        to_tcp(999),
        over(&|sample| sample.measured.processor_time.as_secs_f64()),
        own.iter().map(|sample| sample.measured.errors).sum::<u64>(),
        over(&|sample| sample.packets.percent_lost()),
        MTU_BYTES,
        "split",
        "current-thread",
        "none, memory",
    )
}
