//! The command line of `paxos-node bench`.

use std::fs::OpenOptions;
use std::path::PathBuf;

use clap::Args;
use paxos_node::bench::{Bench, Protocol, Run, Work};
use paxos_node::in_process::{Network, StorageKind, Threads, TransportKind};
use paxos_transport::emulator::NetworkError;

use crate::cli::Failure;
use crate::cli::choice::one_of;
use crate::cli::options::Period;

const EXAMPLES: &str = "\
Examples:
  paxos-node bench                                       all backends, four sizes, three numbers of clients: about 5 minutes
  paxos-node bench --transport quic,tcp --storage file --clients 64 --value-bytes 256 --rounds 5
  paxos-node bench --protocol fast-path,full-rounds --transport memory --storage file --clients 1 --value-bytes 256
  paxos-node bench --network wan:3-regions --protocol fast-path,full-rounds --clients 1 --value-bytes 256 --work set,get
  paxos-node bench --work set,get --html report.html     a page with charts, to open in a browser
  paxos-node bench --cluster 127.0.0.1:7001 --pipeline 16 --json report.json

Clusters in this process use the library without its front for Redis clients; clients ask the leader, on its thread.
Compare figures of one run only, and take several rounds if other programs use the machine.";

/// A network that is emulated, or none.
#[derive(Clone)]
struct EmulatedNetwork(Option<Network>);

fn network(text: &str) -> Result<EmulatedNetwork, String> {
    let one = |text: &str| match text {
        "none" => Ok(None),
        settings => settings.parse().map(Some).map_err(|error: NetworkError| error.to_string()),
    };
    let is_list = text.contains(',') && text.split(',').all(|part| one(part).is_ok());
    if is_list && one(text).is_err() {
        return Err(String::from("give --network once for each network"));
    }
    one(text).map(EmulatedNetwork)
}

/// Compare transports and storages in this process, or measure a running cluster.
///
/// Measures every combination of the options. Each client sends its next request as soon as the last is
/// answered.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Measure this running cluster, given by the addresses on which its nodes serve Redis clients. Naming
    /// only the leader saves a hop; `paxos-node status` shows which node that is.
    #[arg(long, value_name = "HOST:PORT,..", value_delimiter = ',')]
    #[arg(conflicts_with_all = ["transport", "storage", "network", "protocol", "threads", "nodes", "data"])]
    cluster: Vec<String>,
    /// What carries messages between nodes [default: all].
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = one_of(TransportKind::ALL, TransportKind::name))]
    transport: Vec<TransportKind>,
    /// Where nodes keep their logs [default: all].
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = one_of(StorageKind::ALL, StorageKind::name))]
    storage: Vec<StorageKind>,
    /// The distance between nodes: a network that is emulated, by its profile (lan, wifi, metro, wan,
    /// wan:3-regions, lossy, satellite) or its settings (delay=10ms,loss=1%,rate=100mbit; of one way). Can be
    /// given several times; "none" is this machine's own network [default: none].
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    network: Vec<EmulatedNetwork>,
    /// Settings of the protocol.
    #[arg(long, value_name = "SETTING,..", value_delimiter = ',', default_value = "fast-path", value_parser = one_of(Protocol::ALL, Protocol::name))]
    protocol: Vec<Protocol>,
    /// The requests of the clients.
    #[arg(long, value_name = "WORK,..", value_delimiter = ',', default_value = "set", value_parser = one_of(Work::ALL, Work::name))]
    work: Vec<Work>,
    /// How long values are.
    #[arg(long, value_name = "BYTES,..", value_delimiter = ',', default_value = "16,256,4096,65536")]
    value_bytes: Vec<usize>,
    /// How many clients there are.
    #[arg(long, value_name = "COUNT,..", value_delimiter = ',', default_value = "1,64,256")]
    clients: Vec<usize>,
    /// How many requests a client of a running cluster sends before it waits for the answers.
    #[arg(long, value_name = "COUNT,..", value_delimiter = ',', default_value = "1", requires = "cluster")]
    pipeline: Vec<usize>,
    /// How many nodes a cluster in this process has.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
    /// Which threads the nodes run on.
    #[arg(long, value_name = "WHICH", default_value = "per-node", value_parser = one_of(Threads::ALL, Threads::name))]
    pub(super) threads: Threads,
    /// How long each case is measured.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    time: Period,
    /// How long the load runs before that.
    #[arg(long, value_name = "TIME", default_value = "500ms")]
    warm_up: Period,
    /// How many times everything is measured; the round with the median rate is reported.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) rounds: u16,
    /// The seed of the random keys.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Where clusters in this process keep their logs while they run [default: the system's temporary
    /// directory].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write a report for programs.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write a report as a page with charts, all in one file.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Write the charts into this directory, each as an SVG file.
    #[arg(long, value_name = "DIR")]
    pub(super) charts: Option<PathBuf>,
}

impl Arguments {
    /// A run over what is asked for, which can be measured and written.
    pub(super) fn prepare(&self) -> Result<Run, Failure> {
        self.check_files()?;
        let command: Vec<String> = std::env::args().skip(1).collect();
        let mut bench = match &self.cluster[..] {
            [] => Bench::new(),
            addresses => Bench::of_running(addresses.iter().cloned()),
        };
        if !self.transport.is_empty() {
            bench = bench.transports(self.transport.iter().copied());
        }
        if !self.storage.is_empty() {
            bench = bench.storages(self.storage.iter().copied());
        }
        if !self.network.is_empty() {
            bench = bench.networks(self.network.iter().map(|network| network.0.clone()));
        }
        if let Some(data) = &self.data {
            bench = bench.data(data.clone());
        }
        let bench = bench
            .protocols(self.protocol.iter().copied())
            .works(self.work.iter().copied())
            .value_bytes(self.value_bytes.iter().copied())
            .clients(self.clients.iter().copied())
            .pipelines(self.pipeline.iter().copied())
            .nodes(self.nodes)
            .threads(self.threads)
            .time(self.time.0)
            .warm_up(self.warm_up.0)
            .rounds(usize::from(self.rounds))
            .seed(self.seed)
            .command(format!("paxos-node {}", command.join(" ")));
        Ok(bench.prepare()?)
    }

    /// Checks that all reports can be written before minutes are spent on measuring.
    fn check_files(&self) -> Result<(), Failure> {
        if let Some(data) = self.data.as_ref().filter(|data| !data.is_dir()) {
            return Err(Failure::usage(format!("--data {}: there is no such directory", data.display())));
        }
        for (option, file) in [("json", &self.json), ("html", &self.html)] {
            let Some(file) = file else { continue };
            let opened = OpenOptions::new().append(true).create(true).open(file);
            opened.map_err(|error| Failure::usage(format!("--{option} {}: {error}", file.display())))?;
        }
        if let Some(charts) = &self.charts {
            let made = std::fs::create_dir_all(charts);
            made.map_err(|error| Failure::usage(format!("--charts {}: {error}", charts.display())))?;
        }
        Ok(())
    }
}
